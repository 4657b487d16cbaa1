"""Gates of soft trees: where `place` puts them, by the closed form of a softmax."""

from __future__ import annotations

import pytest
import torch

from zoo.parts.trees.soft_trees import Gates


@pytest.mark.parametrize(("features", "weight", "sharpness"), [(2, 0.8, 20.0), (5, 0.8, 20.0), (7, 0.6, 3.0)])
def test_a_split_that_is_placed_has_its_weight_cut_and_sharpness(features, weight, sharpness):
    """The chosen covariate has the weight, the others share the rest: at the medians, those that `step` stands for."""
    gates = Gates(features, depth=2, trees=None, sharpness=8.0, sparsity=0.7).double()
    chosen, cut = torch.tensor([1, 0, 1]), torch.tensor([0.2, 0.5, 0.7]).double()
    gates.place(chosen, cut, weight=weight, sharpness=sharpness)
    buffers = dict(gates.named_buffers())
    values = {
        name: buffers[f"{name}_loc"] + buffers[f"{name}_scale"] * step.detach() for name, step in gates.step.items()
    }
    values["sharpness"] = values["sharpness"].exp()
    wanted = torch.full((3, features), (1 - weight) / (features - 1), dtype=torch.float64)
    wanted[torch.arange(3), chosen] = weight
    torch.testing.assert_close(gates.directions(values), wanted, rtol=1e-6, atol=0)  # constants are float32 at first
    torch.testing.assert_close(values["sharpness"], torch.full((3,), sharpness).double(), rtol=1e-6, atol=0)
    # A row whose covariates all stand at a cut goes either way with probability one half there.
    for node, rank in enumerate(cut.tolist()):
        right = gates.right(torch.full((1, features), rank).double(), values)[0, 0]
        assert float(right[node]) == pytest.approx(0.5, abs=1e-6)
