"""Effective draws as ArviZ counts them, and sampling that stops when there are enough."""

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.sampling.effective import FIRST, Enough, effective
from tests.helpers.programs import SCHOOLS, SIGMA, schools

pytestmark = pytest.mark.usefixtures("double")


def slow_chains(rho, shape=(16, 200, 3)):
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    draws = [noise[:, 0]]
    for t in range(1, shape[1]):
        draws.append(rho * draws[-1] + (1 - rho**2) ** 0.5 * noise[:, t])
    return torch.stack(draws, 1)


def test_the_least_of_bulk_and_tail_is_arvizs():
    draws = torch.cat([slow_chains(0.9), torch.zeros(16, 200, 1)], -1)  # and one that never moves
    bulk, tail = effective(draws)
    values = draws.numpy()
    assert bulk == pytest.approx(min(float(az.ess(values[..., i], method="bulk")) for i in range(3)), rel=1e-9)
    assert tail == pytest.approx(min(float(az.ess(values[..., i], method="tail")) for i in range(3)), rel=1e-9)
    assert effective(torch.zeros(4, 20, 2)) == (float("inf"), float("inf"))


@pytest.mark.parametrize("kind", ["slow", "alternating", "alike", "apart"])
@pytest.mark.parametrize("shape", [(1, 8, 2), (2, 9, 2), (16, 51, 3), (4, 300, 3)])
def test_of_whatever_chains_it_is_arvizs(shape, kind):
    draws = {
        "slow": lambda: slow_chains(0.95, shape),
        "alternating": lambda: slow_chains(-0.7, shape),
        "alike": lambda: slow_chains(0.5, shape).round(),  # many ties
        "apart": lambda: slow_chains(0.5, shape) + 5 * torch.arange(float(shape[0]))[:, None, None],
    }[kind]()
    values = draws.numpy()
    for method, found in zip(("bulk", "tail"), effective(draws), strict=True):
        each = [float(az.ess(values[..., i], method=method)) for i in range(shape[2])]
        assert found == pytest.approx(min(each), rel=1e-9)


def _least(found):
    flat = [found[name].reshape(found.chains, found.size, -1).numpy() for name in ("mu", "tau", "z")]
    values = np.concatenate(flat, -1)
    return [min(float(az.ess(values[..., i], method=m)) for i in range(values.shape[-1])) for m in ("bulk", "tail")]


@pytest.mark.parametrize("what", ["program", "pair"])
def test_draws_stop_when_they_are_enough(what):
    if what == "program":
        pair, data = zoo.program(schools), (SCHOOLS, SIGMA)
    else:
        pair = zoo.create("gmm", features=1, components=1).double()
        data = (torch.randn(40, 1, generator=torch.Generator().manual_seed(0)),)
    found = inference.sample(pair, *data, ess=400, draws=2000, progress=False)
    assert FIRST <= found.size < 400
    assert not found.notes or "divergent" in found.notes[0] or "diverged" in found.notes[0]
    if what == "program":
        assert min(_least(found)) > 400
        assert max(found.rhat.values()) < 1.01
    again = inference.sample(pair, *data, ess=400, draws=2000, progress=False)
    assert again.size == found.size


def test_what_is_not_reached_is_said():
    with pytest.warns(
        UserWarning, match=r"ess=100000 is not reached: \d+ effective draws .* after 60 draws of each chain"
    ):
        found = inference.sample(zoo.program(schools), SCHOOLS, SIGMA, ess=100_000, draws=60, progress=False)
    assert found.size == 60


def test_slow_chains_go_on():
    """A funnel's neck: five times as many draws as of a Gaussian."""

    def funnel():
        log_scale = pyro.sample("log_scale", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(0.0, (log_scale / 2).exp()).expand([2]).to_event(1))

    found = inference.sample(zoo.program(funnel), ess=2000, draws=1000, progress=False)
    values = found["log_scale"].numpy()
    assert float(az.ess(values, method="bulk")) > 2000


@pytest.mark.parametrize("ess", [0, -3, 2.5, "many"])
def test_a_wish_that_is_no_number_is_refused(ess):
    with pytest.raises(ValueError, match="ess: expected a whole number of at least 1"):
        inference.sample(zoo.program(schools), SCHOOLS, SIGMA, ess=ess, progress=False)


def test_nuts_takes_none():
    with pytest.raises(ValueError, match="ess: nuts makes the draws it is asked for"):
        inference.sample(zoo.program(schools), SCHOOLS, SIGMA, ess=10, method="nuts", progress=False)


@pytest.mark.parametrize(("wanted", "enough"), [(1000, True), (100_000, False)])
def test_draws_that_agree_may_be_too_few_all_the_same(wanted, enough):
    """250 draws of 16 chains, independent: R-hat is below 1.01, and 4,000 draws are worth about as many."""
    look, found = Enough(wanted, 2), False
    for draw in torch.randn(250, 16, 2, generator=torch.Generator().manual_seed(5)):
        found = found or look(draw)
    assert look.rhat < 1.01
    assert found == enough
