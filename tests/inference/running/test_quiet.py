"""What runs quietly leaves random states, gradients and the mode of the pair as they were."""

import pytest
import torch

import zoo
from inference.running.quiet import check_seed, quietly


@pytest.mark.parametrize("training", [True, False])
def test_the_pair_is_evaluated_and_put_back(training):
    pair = zoo.create("gaussian_vae", features=3).train(training)
    torch.manual_seed(7)
    wanted = torch.randn(3)
    torch.manual_seed(7)
    with quietly(5, pair):
        assert not any(module.training for module in pair.modules())
        assert not torch.is_grad_enabled()
        drawn = torch.randn(3)
    assert all(module.training == training for module in pair.modules())
    assert torch.is_grad_enabled()
    assert torch.equal(torch.randn(3), wanted)
    with quietly(5):
        assert torch.equal(torch.randn(3), drawn)


@pytest.mark.parametrize("seed", [-(2**63) - 1, -(2**63), -1, 0, 2**64 - 1, 2**64])
def test_seeds_are_those_that_torch_takes(seed):
    generator = torch.Generator()
    try:
        generator.manual_seed(seed)
    except (RuntimeError, ValueError, OverflowError):
        with pytest.raises(ValueError, match="64 bits"):
            check_seed(seed)
        return
    check_seed(seed)
    with quietly(seed):
        drawn = torch.rand(())
    assert float(drawn) == float(torch.rand((), generator=generator))
