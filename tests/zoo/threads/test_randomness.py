"""Other threads draw the same numbers from the same seed, and nobody else's."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pyro.distributions as dist
import pytest
import torch

from zoo.threads.randomness import Own, apart, draw, draws

ONE = torch.ones(7)
DRAWS = {
    "normal": lambda: torch.randn(40),
    "uniform": lambda: torch.rand(5, dtype=torch.float64),
    "whole": lambda: torch.randint(0, 9, (6,)),
    "whole from": lambda: torch.randint(3, 9, (6,)),
    "order": lambda: torch.randperm(9),
    "like": lambda: torch.cat([torch.randn_like(ONE), torch.rand_like(ONE), torch.randint_like(ONE, 2, 9)]),
    "in place": lambda: ONE.clone().normal_().exponential_().cauchy_().geometric_(0.5).log_normal_().random_(9),
    "dropout": lambda: torch.nn.functional.dropout(ONE, 0.5),
    "layer": lambda: torch.nn.init.kaiming_normal_(torch.empty(3, 4)),
    "Gamma": lambda: dist.Gamma(ONE, ONE).rsample(),
    "Beta": lambda: dist.Beta(ONE, ONE).rsample(),
    "Dirichlet": lambda: dist.Dirichlet(ONE).rsample(),
    "Categorical": lambda: dist.Categorical(ONE).sample((5,)),
    "Bernoulli": lambda: dist.Bernoulli(ONE / 2).sample(),
    "Poisson": lambda: dist.Poisson(ONE).sample(),
    "Binomial": lambda: dist.Binomial(5, ONE / 2).sample(),
    "StudentT": lambda: dist.StudentT(3 * ONE).rsample(),
    "VonMises": lambda: dist.VonMises(ONE, ONE).sample(),
    "mixed": lambda: torch.cat([torch.randn(3), dist.Gamma(ONE, ONE).sample(), torch.rand(3), torch.randn(20)]),
}


def seeded(work, seed):
    with apart(seed):
        return work()


@pytest.mark.parametrize("name", DRAWS)
def test_a_thread_draws_what_torch_draws_from_that_seed(name):
    torch.manual_seed(11)
    expected = DRAWS[name]()
    state = torch.get_rng_state()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(seeded, DRAWS[name], 11).result()
    assert torch.equal(found, expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_at_once_draw_as_each_alone():
    expected = [seeded(DRAWS["mixed"], seed) for seed in range(6)]
    gate = threading.Barrier(6)

    def work(seed):
        gate.wait()
        return seeded(DRAWS["mixed"], seed)

    with ThreadPoolExecutor(6) as pool:
        assert all(map(torch.equal, pool.map(work, range(6)), expected))


def test_an_inner_state_leaves_the_outer_where_it_was():
    def work():
        with apart(1):
            first = torch.randn(3)
            with apart():
                inner = torch.randn(3)  # what the outer draws next
            with apart(9):
                torch.randn(100)
            return torch.cat([first, inner]), torch.cat([first, torch.randn(3)])

    torch.manual_seed(1)
    expected = torch.cat([torch.randn(3), torch.randn(3)])
    with ThreadPoolExecutor(1) as pool:
        for found in (work(), pool.submit(work).result()):
            assert torch.equal(found[0], expected)
            assert torch.equal(found[1], expected)


def test_a_generator_that_was_given_is_used():
    expected = torch.randn(3, generator=torch.Generator().manual_seed(4))
    with Own(1):
        assert torch.equal(torch.randn(3, generator=torch.Generator().manual_seed(4)), expected)


def test_operations_of_a_graph_draw_from_the_thread():
    normal = torch.ops.aten.randn.default
    assert draws(normal)
    assert not draws(torch.ops.aten.add.Tensor)
    torch.manual_seed(2)
    expected = torch.randn(4)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(seeded, lambda: draw(normal, [4]), 2).result()
    assert torch.equal(found, expected)
    torch.manual_seed(2)
    assert torch.equal(draw(normal, [4]), expected)
