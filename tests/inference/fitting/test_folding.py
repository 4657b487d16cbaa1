"""What stays the same between steps is worked out once, and no loss differs by a bit; what changes is noticed."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import inference
import zoo
from inference.compiling import compiled
from inference.compiling.recording import drawn_apart
from inference.data.check import check
from inference.fitting import folding
from inference.fitting.objective import choose
from inference.fitting.step import Stepper
from zoo import ModelGuide

GRAPH = {"progress": False, "compile": "graph", "initialise": False, "average": 0}


class Scaled(ModelGuide):
    """x_n ~ Normal(loc, scale), loc ~ Normal(0, 3): a buffer holds the scale."""

    def __init__(self):
        super().__init__("normal")
        self.register_buffer("scale", torch.ones(()))

    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(0 * self.scale, 3.0))
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc, self.scale.square().log1p()), obs=batch.x)


class Counting(Scaled):
    """The same, and a module that counts its runs in a buffer, as batch normalisation does."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def model(self, batch):
        if batch.x is not None:
            self.norm(batch.x[:, None])
        return super().model(batch)


def both(make, data, monkeypatch, **options):
    """The pair and the losses of a fit, folded and not."""
    found = []
    for most in (folding._MOST, 0):
        monkeypatch.setattr(folding, "_MOST", most)
        torch.manual_seed(0)
        pair = make()
        found += [pair, inference.fit(pair, data, **{"steps": 12, **GRAPH, **options}).losses]
    return found


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("gaussian_vae", {"features": 4, "latent": 2, "hidden": [8]}),
        ("decision_tree", {"features": 3}),
        ("gmm", {"features": 2}),
    ],
)
def test_no_loss_and_no_parameter_differs_by_a_bit(name, config, monkeypatch):
    torch.manual_seed(0)
    data = zoo.create(name, **config).simulate(30)[0]
    pair, losses, plain, others = both(lambda: zoo.create(name, **config), data, monkeypatch)
    assert (losses == others).all()
    for one, other in zip(pair.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_depends_on_data_and_constants_alone_is_no_operation_of_a_step(monkeypatch):
    graphs = []
    monkeypatch.setattr(compiled, "drawn_apart", lambda graph: graphs.append(graph) or drawn_apart(graph))
    pair = Scaled()
    given = check(pair, torch.linspace(0, 1, 5))
    for fixed in (None, given.batch):
        Stepper(pair, choose(pair, given.batch), "graph", False, fixed)(given.batch, torch.ones(()))
    sizes = [[str(node.target) for node in graph.graph.nodes if node.op == "call_function"] for graph in graphs]
    assert sum("log1p" in name for name in sizes[0]) == 1
    assert not any("log1p" in name for name in sizes[1])
    assert len(sizes[1]) < len(sizes[0])


def test_a_constant_that_a_callback_changes_is_noticed(monkeypatch):
    def change(step, _, pair):
        if step in (3, 6):
            pair.scale.mul_(2)

    data = torch.linspace(0, 1, 5)
    _, losses, _, others = both(Scaled, data, monkeypatch, callbacks=[change])
    assert (losses == others).all()
    assert losses[4] != losses[3]
    # one that changes at every step is no constant
    _, losses, _, others = both(Scaled, data, monkeypatch, callbacks=[lambda step, _, pair: pair.scale.mul_(1.1)])
    assert (losses == others).all()


def test_what_a_step_writes_into_is_not_folded(monkeypatch):
    pair, losses, plain, others = both(Counting, torch.linspace(0, 1, 5), monkeypatch)
    assert (losses == others).all()
    assert pair.norm.num_batches_tracked == plain.norm.num_batches_tracked >= 12
    assert torch.equal(pair.norm.running_mean, plain.norm.running_mean)
