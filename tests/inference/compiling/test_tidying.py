"""Graphs without what is done in vain: fewer operations, and the same results, whoever writes into what."""

from __future__ import annotations

import random

import pytest
import torch
from torch.func import vmap

from inference.compiling import recording
from inference.compiling.recording import record

aten = torch.ops.aten


def sample(seed, *shape):
    return torch.randn(*(shape or (3, 4)), generator=torch.Generator().manual_seed(seed))


def targets(graph):
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


IN_VAIN = {
    "zeros added": lambda x: (x + 0).add(torch.zeros(3, 4)) - torch.zeros_like(x) + x.new_zeros(3, 4) + 0.0,
    "zeros first": lambda x: torch.zeros(3, 4) + (x.new_zeros(()) + x),
    "ones multiplied by": lambda x: torch.ones(3, 4) * (x * 1) * torch.ones_like(x) / 1.0 / x.new_ones(3, 4),
    "a first power": lambda x: x**1,
    "copies": lambda x: x.clone().contiguous().clone(memory_format=torch.contiguous_format).to(x.dtype),
    "minus minus": lambda x: x.neg().neg(),
    "to and fro": lambda x: x.unsqueeze(0).unsqueeze(-1).squeeze(0).squeeze(-1).T.T.view(12).view(3, 4),
    "sums over one": lambda x: x.unsqueeze(1).sum(1).unsqueeze(-1).mean(-1, keepdim=True).squeeze(-1),
    "nothing but shapes": lambda x: x + (torch.zeros_like(x).sum() + torch.full_like(x, 2.0).mean() - 2),
    "expanded to its own shape": lambda x: x.expand(3, 4).reshape(3, 4).contiguous(),
}


@pytest.mark.parametrize("name", IN_VAIN)
def test_what_changes_nothing_is_left_out(name):
    graph, _ = record(lambda x: IN_VAIN[name](x).exp(), [sample(0)])
    assert targets(graph) == [aten.exp.default]
    assert torch.equal(graph(sample(1))[0], IN_VAIN[name](sample(1)).exp())


KEPT = {
    "another type": (lambda x: x.to(torch.float64) * 1.0, 1),
    "another shape": (lambda x: x[:1] + torch.zeros(3, 4), 2),
    "bits read as another type": (lambda x: x.view(torch.int32) + 1, 2),
    "twice as many": (lambda x: x.add(torch.zeros_like(x).exp(), alpha=2), 1),
    "rounded down": (lambda x: x.div(1, rounding_mode="floor"), 1),
    "a true two": (lambda x: x * torch.full((3, 4), 2.0), 1),
    "a sum of several": (lambda x: x.sum(0), 1),
    "turned": (lambda x: x.T.clone(memory_format=torch.contiguous_format).view(12) * 2, 4),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_changes_something_stays(name):
    function, number = KEPT[name]
    graph, _ = record(function, [sample(0)])
    assert len(targets(graph)) == number
    found, wanted = graph(sample(1))[0], function(sample(1))
    assert found.dtype == wanted.dtype
    assert torch.equal(found, wanted)


WRITTEN = {
    "a copy of what is written into later": lambda x: [x * 1, x.add_(1), x * 2][0],
    "a copy that is written into": lambda x: x.clone().add_(1) + x,
    "a copy of what was written into": lambda x: [x.mul_(3), x.clone() + 1][1],
    "a view of such a copy": lambda x: [(x + 0).view(12), x.add_(1)][0] * 2,
    "a view of a view": lambda x: [x.clone().T, x.T.add_(1)][0] + 1,
    "zeros that are written into": lambda x: torch.zeros_like(x).add_(x) + torch.zeros_like(x),
    "a sum over one of what is written into": lambda x: [x.unsqueeze(0).sum(0), x.zero_()][0] + 1,
    "memory counted from its beginning": lambda x: (x[1:] * 1).as_strided((2, 2), (1, 4), 0) + (x[1:] * 1).sum(),
    "the same memory by two ways": lambda x: x.view(12)[4:8].add_(1).sum() + x[1].sum() + x.sum(),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_into_is_seen_by_those_who_should(name):
    graph, _ = record(WRITTEN[name], [sample(0)])
    one, other = sample(1), sample(1)
    assert torch.equal(graph(one)[0], WRITTEN[name](other))
    assert torch.equal(one, other)


def test_results_are_nobody_elses():
    """A loss that was a parameter's own memory would change with the next step."""
    graph, _ = record(lambda x: [x.clone(), x + 0, x.view(12) * 1], [sample(0)])
    given = sample(1)
    found = graph(given)
    given.zero_()
    assert torch.equal(found[0], sample(1))
    assert torch.equal(found[1], sample(1))
    assert torch.equal(found[2], sample(1).view(12))
    assert len({value.data_ptr() for value in found}) == 3


ONE = [
    torch.exp, torch.neg, torch.tanh, torch.clone, torch.zeros_like, torch.ones_like, torch.square,
    lambda x: x + 0, lambda x: x * 1, lambda x: x / 1, lambda x: x**1, lambda x: x - 0.0, lambda x: x.detach(),
    lambda x: x.T.contiguous().T, lambda x: x.flatten().view(x.shape), lambda x: x.unsqueeze(1).sum(1),
    lambda x: x.sum(-1, keepdim=True).expand(x.shape), lambda x: x[:, 1:2] + torch.zeros_like(x),
    lambda x: x.unsqueeze(0).squeeze(0), lambda x: torch.stack([x, x])[1], lambda x: x.clamp(-1.0, 1.0),
    lambda x: x.expand(2, *x.shape)[0], lambda x: x.as_strided((3, 4), (4, 1)) if x.is_contiguous() else x,
]  # fmt: skip
TWO = [torch.add, torch.sub, torch.mul, torch.maximum, lambda x, y: torch.where(x > 0, x, y)]
WRITES = [lambda x, y: x.add_(y), lambda x, y: x[0].mul_(0.5), lambda x, y: x.T.sub_(y.T), lambda x, y: x.copy_(y)]


def made_up(seed):
    """A function of some of torch's operations, in an order that the seed chooses: an even one takes slopes, an odd one
    writes into what it has."""

    def function(x, y):
        choose, slopes = random.Random(seed), seed % 2 == 0
        with torch.set_grad_enabled(slopes):
            leaf = x.detach().requires_grad_(slopes)
            there = [leaf * 1.0, y.clone(), y]
            for _ in range(14):
                one, other = choose.choice(there), choose.choice(there)
                kind = choose.random()
                if kind < 0.5:
                    there.append(choose.choice(ONE)(one))
                elif kind < 0.75:
                    there.append(choose.choice(TWO)(one, other))
                elif not slopes and 0 not in one.stride():
                    choose.choice(WRITES)(one, other.clone())
            total = sum((value * value).sum() for value in there)
            slope = torch.autograd.grad(total, leaf)[0] if slopes else leaf.exp()
        y.add_(slope)
        return [total.detach(), slope, *(value.detach().clone() for value in there)]

    return function


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_made_up_functions_are_what_they_were(first, monkeypatch):
    monkeypatch.setattr(recording, "narrow", lambda *_: None)  # torch rounds sums over expanded elements otherwise
    for seed in range(first, first + 10):
        function = made_up(seed)
        graph, _ = record(function, [sample(0), sample(1)])
        ours, theirs = [[sample(2), sample(3)] for _ in range(2)]
        for found, wanted in zip(graph(*ours), function(*theirs), strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(ours[1], theirs[1])


def test_a_copy_in_another_order_is_no_view_of_what_it_copies():
    def function(x):
        whole = x * 2
        return (whole.view(4, 3) + 1, whole.t().reshape(4, 3).contiguous() - 1, whole.view(4, 3).t().contiguous() * 3)

    graph, _ = record(function, [sample(0)])
    for found, wanted in zip(graph(sample(1)), function(sample(1)), strict=True):
        assert torch.equal(found, wanted)

    def square(x):
        whole = x * 2
        return whole.t().contiguous() - whole  # its view of the same shape is another matrix

    graph, _ = record(square, [sample(0, 3, 3)])
    assert torch.equal(graph(sample(1, 3, 3))[0], square(sample(1, 3, 3)))


def test_a_graph_may_be_mapped_and_recorded_again():
    graph, _ = record(
        lambda x: (x.unsqueeze(0).sum(0) * torch.ones_like(x)).exp().sum(-1).unsqueeze(0).sum(), [sample(0)]
    )
    many = sample(2, 5, 3, 4)
    again, _ = record(vmap(lambda one: graph(one)[0]), [many])
    torch.testing.assert_close(again(many)[0], many.exp().sum((1, 2)))
