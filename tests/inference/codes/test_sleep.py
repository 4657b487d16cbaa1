"""Guides fitted to simulations, against posteriors in closed form."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import constraints

import zoo
from inference.codes.sleep import fit_by_simulation
from inference.posterior.draws import Posterior
from zoo.base import Batch, ModelGuide

QUIET = {"progress": False}


def exact(pair):
    """The encoder and the covariance of the posterior of a gaussian_autoencoder."""
    loading = pair.loading.detach()
    covariance = (torch.eye(loading.shape[1]).to(loading) + loading.mT @ loading).inverse()
    return covariance @ loading.mT, covariance


class OrMissing(constraints.Constraint):
    def check(self, value):
        return ~value.isinf()


class Holey(dist.Normal):
    """A NaN adds no factor."""

    support = OrMissing()

    def log_prob(self, value):
        return torch.where(value.isnan(), 0.0, super().log_prob(value.nan_to_num()))


class Switched(ModelGuide):
    """x ~ N(w z, 1) with w known to be one of two by a covariate y; the guide is linear in x for each of the two.

    A global latent moves x: x ~ N(w z + t, 1), t ~ N(0, 0.1).
    """

    dims = {"x": ("feature",)}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.register_buffer("weights", torch.tensor([0.5, 3.0]))
        self.slope = nn.Parameter(torch.zeros(2))
        self.log_sd = nn.Parameter(torch.zeros(2))
        self.shared = nn.Parameter(torch.ones(1))  # of model and guide both

    def inputs(self, n):
        return Batch(n, n, y=(torch.arange(n) % 2).to(self.weights))

    def model(self, batch):
        t = pyro.sample("t", dist.Normal(self.weights[0] * 0, 0.1))
        with batch.plate():
            z = pyro.sample("z", dist.Normal(0 * self.weights[0], self.weights[0] * 0 + 1))
            loc = self.shared * (self.weights[batch.y.long()] * z + t)[..., None]
            return pyro.sample("x", Holey(loc, 1.0).to_event(1), obs=batch.x)

    def guide(self, batch):
        pyro.sample("t", dist.Normal(self.weights[0] * 0 + 2, 0.001))
        known = (~batch.x[..., 0].isnan()).to(self.slope)
        which = batch.y.long()
        with batch.plate():
            loc = self.slope[which] * (batch.x[..., 0].nan_to_num() - 2 * known) * self.shared
            pyro.sample("z", dist.Normal(loc, (self.log_sd[which] * known).exp()))


def test_the_exact_posterior_is_recovered():
    torch.manual_seed(0)
    pair = zoo.create("gaussian_autoencoder", features=4, latent=2).double()
    with torch.no_grad():
        pair.loading.mul_(2)
        pair.encoder.normal_()
        pair.scale_tril = torch.eye(2).double()
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    state = torch.get_rng_state()
    losses = fit_by_simulation(pair, steps=700, lr=0.05, **QUIET)
    assert torch.equal(state, torch.get_rng_state())
    encoder, covariance = exact(pair)
    found = (pair.scale_tril @ pair.scale_tril.mT).detach()
    # KL(posterior || guide), averaged over x ~ p(x), in closed form: what the loss has left to lose.
    off = (pair.encoder - encoder).detach()
    spread = (pair.loading @ pair.loading.mT).detach() + torch.eye(4).double()
    inverse = found.inverse()
    missed = 0.5 * ((inverse @ covariance).trace() - 2 - (inverse @ covariance).logdet())
    missed = float(missed + 0.5 * (inverse @ off @ spread @ off.mT).trace())
    assert 0 <= missed < 0.002
    entropy = 0.5 * torch.logdet(2 * math.pi * math.e * covariance)
    error = losses[-100:].std() / 10
    assert abs(losses[-100:].mean() - float(entropy)) < 4 * error + 0.01
    moved = {name for name, value in pair.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"encoder", "scale_tril_unconstrained"}
    assert all(parameter.grad is None for parameter in pair.parameters())


@pytest.mark.parametrize("posterior", [None, Posterior({"t": torch.full((1, 5), 2.0)}, size=5)], ids=["guide", "given"])
def test_covariates_and_global_latents(posterior):
    """Rows come with covariates, and with the global latent where the guide puts it: at 2, not at the prior's 0."""
    pair = Switched()
    fit_by_simulation(pair, steps=300, lr=0.05, posterior=posterior, **QUIET)
    assert pair.shared.item() == 1.0
    slope = pair.weights / (1 + pair.weights**2)
    torch.testing.assert_close(pair.slope.detach(), slope, rtol=0, atol=0.03)
    torch.testing.assert_close(pair.log_sd.detach().exp(), (1 + pair.weights**2).rsqrt(), rtol=0.05, atol=0)


def test_holes_and_covariates_of_the_data():
    """All rows have y = 1 and every second x is missing: only the one slope learns, and from half of the rows."""
    pair = Switched()
    data = Batch(20, 20, x=torch.full((20, 1), 9.0), y=torch.ones(20))
    data.x[::2] = torch.nan
    losses = fit_by_simulation(pair, data=data, steps=300, lr=0.05, **QUIET)
    assert pair.slope[0] == 0
    assert pair.slope[1].item() == pytest.approx(0.3, abs=0.03)
    # Without x the code keeps its prior.
    entropy = 0.5 * math.log(2 * math.pi * math.e) + 0.5 * 0.5 * math.log(0.1)
    assert losses[-100:].mean() == pytest.approx(entropy, abs=4 * losses[-100:].std() / 10)


def test_a_vae_learns_and_repeats():
    ends = []
    for _ in range(2):
        torch.manual_seed(0)
        pair = zoo.create("gaussian_vae", features=16, latent=2, hidden=(16,))
        with torch.no_grad():
            pair.decoder[0].weight.mul_(3)
            pair.decoder[2].weight.mul_(5)
        losses = fit_by_simulation(pair, steps=250, lr=1e-2, **QUIET)
        assert losses[-50:].mean() < losses[:20].mean() - 0.2
        assert pair.training
        ends.append(torch.cat([p.detach().flatten() for p in pair.parameters()]))
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("gmm", "the guide of gmm draws no code"),
        ("polynomial_regression", "polynomial_regression has no local latents"),
    ],
)
def test_guides_without_a_code_are_refused(pair, message):
    with pytest.raises(ValueError, match=message):
        fit_by_simulation(zoo.create(pair), **QUIET)


class Shared(Switched):
    """A guide with nothing of its own."""

    def guide(self, batch):
        pyro.sample("t", dist.Normal(self.weights[0] * 0, 0.001))
        with batch.plate():
            pyro.sample("z", dist.Normal(self.shared * batch.x[..., 0], 1.0))


@pytest.mark.parametrize(
    ("pair", "options", "message"),
    [
        (Shared, {}, "Shared: every parameter of the guide is the model's too"),
        (Switched, {"steps": 0}, "steps: expected a whole number"),
        (Switched, {"batch_size": 2.5}, "batch_size: expected a whole number"),
        (Switched, {"lr": 0}, "lr: expected a finite number above 0"),
    ],
)
def test_bad_input(pair, options, message):
    with pytest.raises(ValueError, match=message):
        fit_by_simulation(pair(), **{**QUIET, **options})
