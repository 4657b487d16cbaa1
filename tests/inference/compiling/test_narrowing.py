"""Operations in front of `expand`: the same results from fewer elements, and what has to stay where it is."""

import subprocess
import sys

import pyro.distributions as dist
import pytest
import torch

from inference.compiling.recording import record
from tests.inference.compiling.test_tidying import made_up, sample

aten = torch.ops.aten
X = torch.linspace(-1, 2, 7, dtype=torch.float64)


def sizes(graph, *names):
    """How many elements the operations of these names make."""
    return [n.meta["size"] for n in graph.graph.nodes if str(n.target).split(".")[1:2] and n.target.__name__ in names]


def test_a_scale_of_many_rows_is_worked_on_once():
    def density(log_scale):
        scale = log_scale.exp()
        return dist.Normal(torch.zeros(7).double(), scale).log_prob(X).sum()

    point = torch.tensor(0.3, dtype=torch.float64)
    graph, _ = record(density, [point])
    assert sizes(graph, "log.default", "pow.Tensor_Scalar").count(1) == 2  # of the scale; x - loc is squared whole
    assert sizes(graph, "log.default") == [1]
    scale = point.exp()
    true = torch.distributions.Normal(0.0, scale).log_prob(X).sum()
    assert torch.allclose(graph(point)[0], true, rtol=1e-15)


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: (a.expand(3, 4) * b.expand(3, 4)).exp() + 1,  # (3, 1) and (4,): together as large
        lambda a, b: a.expand(3, 4).log1p() / (2 + a.expand(3, 4)) - b,
        lambda a, b: (a.sum().expand(3, 4) * a).sum(0) * b.expand(2, 4).neg(),
        lambda a, b: a.unsqueeze(0).expand(2, 3, 4).square().sum((0, 2)).sigmoid(),
        lambda a, b: a.expand(3, 4).exp().mT @ a.expand(3, 4),
        lambda a, b: torch.add(a.expand(3, 4), a.expand(3, 4), alpha=3),
    ],
)
def test_results_are_those_of_the_plain_run(function):
    a, b = torch.rand(3, 1, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    graph, _ = record(function, [a, b])
    assert torch.allclose(graph(a, b)[0], function(a, b), rtol=1e-15, atol=0)
    assert graph(a, b)[0].shape == function(a, b).shape


def test_a_number_without_dims_does_not_change_the_type():
    """Of a float64 scalar expanded and float32 rows torch makes float64, of the scalar itself float32."""

    def function(a, b):
        return a.expand(3) * b.expand(3)

    a, b = torch.rand((), dtype=torch.float64), torch.rand(1, dtype=torch.float32)
    graph, _ = record(function, [a, b])
    assert graph(a, b)[0].dtype == torch.float64


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a.expand(3, 4).exp().view(-1) * 2,
        lambda a, b: (a.expand(3, 4).exp() * b.expand(3, 4).t().contiguous().t()).contiguous().view(12),
        lambda a, b: (a.expand(3, 4).exp().t() + 1).t().view(-1).as_strided((4,), (3,)),
        lambda a, b: (a.expand(3, 4).exp() + torch.zeros(4, 3).double().t()).t().contiguous().view(-1).mul_(2.0),
    ],
)
def test_what_lies_in_memory_otherwise_may_be_viewed(function):
    a, b = torch.rand(3, 1, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    graph, _ = record(function, [a, b])
    assert torch.allclose(graph(a, b)[0], function(a, b), rtol=1e-15, atol=0)


def test_what_is_written_into_stays():
    def function(a):
        whole = a.expand(4).exp()
        whole[1] = 0.0
        return whole + 1, a.expand(4).exp()

    a = torch.rand(1, dtype=torch.float64)
    graph, _ = record(function, [a])
    for found, true in zip(graph(a), function(a), strict=True):
        assert torch.equal(found, true)


@pytest.mark.parametrize("seed", range(40))
def test_made_up_functions_are_what_they_were(seed):
    function = made_up(seed)
    graph, _ = record(function, [sample(0).double(), sample(1).double()])
    ours, theirs = [[sample(2).double(), sample(3).double()] for _ in range(2)]
    for found, wanted in zip([*graph(*ours), ours[1]], [*function(*theirs), theirs[1]], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_results_do_not_share_their_memory():
    """A result that is an expanded tensor is the function's own, as without recording."""
    graph, _ = record(lambda a: a.expand(4).exp(), [torch.rand(1, dtype=torch.float64)])
    found = graph(torch.zeros(1, dtype=torch.float64))[0]
    found[0] = 5
    assert found.tolist() == [5, 1, 1, 1]


@pytest.mark.slow
def test_a_fit_loads_no_computer_algebra():
    """`torch.broadcast_shapes` imports sympy: a fifth of the time of a tree's whole fit, for shapes of two tensors."""
    program = (
        "import sys, torch, inference, zoo\n"
        "pair = zoo.create('decision_tree', features=2)\n"
        "inference.fit(pair, zoo.Batch.of(x=torch.rand(40, 2), y=torch.rand(40)), steps=60, progress=False)\n"
        "sys.exit('sympy' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
