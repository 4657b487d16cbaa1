"""Probabilities of latents that were summed out, beside sums over all their values."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import inference
import zoo
from inference.posterior.latents import Posterior
from tests.helpers.programs import conjugate

pytestmark = pytest.mark.usefixtures("double", "no_fallback")
Y = torch.tensor([-1.2, 0.3, 2.4, 1.9]).double()
MOVES = torch.tensor([[0.8, 0.2], [0.3, 0.7]], dtype=torch.float64)


def posterior_of(draws):
    """Draws of `loc` by hand, (1, S, 2)."""
    return Posterior({"loc": draws[None]}, frozenset(), {}, "mcmc", 1, len(draws))


LOCS = torch.tensor([[-1.0, 2.0], [-0.5, 1.5], [0.0, 3.0]]).double()


def mixture(y, cells=None, factor=1.0):
    loc = pyro.sample("loc", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    with pyro.plate("row", len(y)), poutine.mask(mask=True if cells is None else cells), poutine.scale(scale=factor):
        z = pyro.sample("z", dist.Categorical(torch.tensor([0.3, 0.7])))
        pyro.sample("y", dist.Normal(loc[z], 1.0), obs=y)


def responsibilities(y):
    """By hand, averaged over the draws."""
    logits = dist.Normal(LOCS[:, None], 1.0).log_prob(y[None, :, None]) + torch.tensor([0.3, 0.7]).log()
    return logits.softmax(-1).mean(0)


@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_a_mixture_has_its_responsibilities(factor):
    found = inference.assignments(zoo.program(mixture), posterior_of(LOCS), Y, factor=factor)
    assert list(found) == ["z"]
    assert torch.allclose(found["z"], responsibilities(Y), rtol=1e-12)


def test_cells_that_a_mask_hides_have_none():
    cells = torch.tensor([True, False, True, True])
    found = inference.assignments(zoo.program(mixture), posterior_of(LOCS), Y, cells)["z"]
    assert torch.isnan(found[1]).all()
    assert torch.allclose(found[cells], responsibilities(Y)[cells], rtol=1e-12)


def chain(y):
    loc = pyro.sample("loc", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    z = torch.tensor(0)
    for t in pyro.markov(range(len(y))):
        z = pyro.sample(f"z_{t}", dist.Categorical(MOVES[z]))
        pyro.sample(f"y_{t}", dist.Normal(loc[z], 1.0), obs=y[t])


def smoothed(y):
    """By the sum over all paths."""
    found = torch.zeros(len(y), 2)
    for loc in LOCS:
        masses = torch.zeros(len(y), 2)
        for path in itertools.product((0, 1), repeat=len(y)):
            before, log_p = 0, 0.0
            for t, state in enumerate(path):
                log_p += math.log(MOVES[before, state]) - 0.5 * float(y[t] - loc[state]) ** 2
                before = state
            for t, state in enumerate(path):
                masses[t, state] += math.exp(log_p)
        found += masses / masses.sum(1, keepdim=True) / len(LOCS)
    return found


def test_a_chain_of_states_is_smoothed():
    found = inference.assignments(zoo.program(chain), posterior_of(LOCS), Y)
    assert torch.allclose(torch.stack([found[f"z_{t}"] for t in range(len(Y))]), smoothed(Y), rtol=1e-12)


def crossed(y):
    """A state of each row above one of each cell."""
    loc = pyro.sample("loc", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    with pyro.plate("row", y.shape[0], dim=-2):
        top = pyro.sample("top", dist.Bernoulli(0.4)).long()
        with pyro.plate("column", y.shape[1], dim=-1):
            z = pyro.sample("z", dist.Categorical(MOVES[top]))
            pyro.sample("y", dist.Normal(loc[z], 1.0), obs=y)


def test_states_above_others_take_all_of_theirs_into_account():
    y = torch.stack([Y, 1 - Y, 2 * Y])
    found = inference.assignments(zoo.program(crossed), posterior_of(LOCS), y)
    assert found["top"].shape == (3, 1, 2)
    wanted = torch.zeros(3, 2)
    for loc in LOCS:
        each = (dist.Normal(loc, 1.0).log_prob(y[..., None])[..., None, :] + MOVES.log()).logsumexp(
            -1
        )  # row, column, top
        wanted += (each.sum(1) + torch.tensor([0.6, 0.4]).log()).softmax(-1) / len(LOCS)
    assert torch.allclose(found["top"].reshape(3, 2), wanted, rtol=1e-12)
    assert found["z"].shape == (3, 4, 2)
    assert torch.allclose(found["z"].sum(-1), torch.ones(3, 4))


def test_draws_are_averaged_in_pieces(monkeypatch):
    whole = inference.assignments(zoo.program(mixture), posterior_of(LOCS), Y)["z"]
    monkeypatch.setattr(zoo.settings, "memory", 1)
    assert torch.allclose(inference.assignments(zoo.program(mixture), posterior_of(LOCS), Y)["z"], whole, rtol=1e-12)


def test_a_program_without_any_is_refused():
    found = inference.sample(zoo.program(conjugate), Y, draws=30, chains=4, progress=False)
    with pytest.raises(ValueError, match="conjugate: it has no discrete latent that is summed out"):
        inference.assignments(zoo.program(conjugate), found, Y)
    with pytest.raises(ValueError, match="site"):
        inference.assignments(zoo.program(mixture), found, Y)
