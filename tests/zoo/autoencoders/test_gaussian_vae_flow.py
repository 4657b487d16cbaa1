"""The flow guide of gaussian_vae: density, cost, and a bent posterior with two modes."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import torch
from torch import nn

import inference
from inference.data.check import as_batch
from inference.running.densities import run
from tests.helpers.vae import create, network, softplus


@pytest.mark.parametrize("latent", [1, 3])
def test_density_of_the_flow(latent):
    """The density that a draw comes with, against the determinant of the map from noise to codes, and the slow way."""
    pair = create("bernoulli", features=9, latent=latent, hidden=(6,), guide="flow").double()
    x = pair.simulate(4)[0].x
    with torch.no_grad():
        start = pair.encode(x).dist.transform.inv(torch.ones(4, latent, dtype=torch.float64))
        for parameter in pair.flow.transform.hyper[-1].parameters():
            parameter.mul_(30)  # far from the identity
    q = pair.encode(x)
    torch.manual_seed(0)
    z = q()
    torch.manual_seed(0)
    noise = torch.normal(torch.zeros(4, latent, dtype=torch.float64), 1.0)
    state = {name: value.numpy() for name, value in pair.state_dict().items()}
    h = network(state, "encoder", x.numpy())
    loc, scale = h[:, :latent], softplus(h[:, latent : 2 * latent])
    assert (np.abs(start.numpy() - loc - scale) < 0.2 * scale).all()  # it starts near the Gaussian
    assert (np.abs(z.detach().numpy() - loc - scale * noise.numpy()) > 0.2 * scale).any()
    for n in range(4):
        one = pair.encode(x[n])
        jacobian = torch.autograd.functional.jacobian(one.dist.transform.inv, noise[n])
        expected = scipy.stats.norm.logpdf(noise[n]).sum() - torch.linalg.slogdet(jacobian)[1].item()
        assert q.log_prob(z)[n].item() == pytest.approx(expected, rel=1e-9)
        assert one.log_prob(z[n]).item() == pytest.approx(expected, rel=1e-6)  # by inversion


def test_a_draw_and_its_density_take_one_pass():
    pair = create("bernoulli", features=9, latent=5, guide="flow")
    batch = as_batch(pair, pair.simulate(4)[0].x)
    passes = []
    pair.flow.transform.hyper.register_forward_hook(lambda *_: passes.append(1))
    for particles in (None, 3):
        passes.clear()
        run(pair, batch, particles)
        assert len(passes) == 1


def test_without_zuko_the_flow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    with pytest.raises(ValueError, match=r"pip install 'pyro-zoo\[flows\]'"):
        create("bernoulli", guide="flow")


def test_zuko_leaves_validation_on():
    """Its import turns it off for every distribution of torch."""
    create("bernoulli", guide="flow")
    with pytest.raises(ValueError, match="within the support"):
        torch.distributions.Bernoulli(torch.tensor(0.5)).log_prob(torch.tensor(2.0))


class Squares(nn.Module):
    """x = (z_1^2, z_2 - z_1^2): two bent ridges to each x."""

    def forward(self, z):
        square = z[..., 0] ** 2
        return torch.stack([square, z[..., 1] - square], -1).unsqueeze(-1)


@pytest.mark.filterwarnings("ignore:gaussian_vae keeps the constants it was made with")  # as its decoder is given
@pytest.mark.slow
def test_a_flow_follows_a_bent_posterior_with_two_modes():
    """A decoder that is given and fixed: log p(x) by quadrature is above every bound, and the flow's is nearest."""
    grid = torch.linspace(-6, 6, 241, dtype=torch.float64)
    z = torch.cartesian_prod(grid, grid)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1) + 2 * math.log(12 / 240)
    gaps = {}
    for guide in ("diagonal", "flow"):
        torch.manual_seed(0)
        pair = create("gaussian", features=2, latent=2, hidden=(32,), guide=guide).double()
        pair.decoder = Squares()
        with torch.no_grad():
            pair.scale = torch.full((2,), 0.5, dtype=torch.float64)
        pair.scale_unconstrained.requires_grad_(False)
        x = pair.simulate(2000)[0].x
        inference.fit(pair, x[:1900], steps=500, lr=1e-2, batch_size=200, progress=False)
        log_p = torch.distributions.Normal(Squares()(z)[..., 0], 0.5).log_prob(x[1900:, None]).sum(-1)  # (N, grid)
        with torch.no_grad():
            gaps[guide] = (prior + log_p).logsumexp(-1) - run(pair, as_batch(pair, x[1900:]), 500).log_weight.mean(0)
    error = {guide: gap.std().item() / math.sqrt(len(gap)) for guide, gap in gaps.items()}
    flow, diagonal = gaps["flow"].mean().item(), gaps["diagonal"].mean().item()
    assert -4 * error["flow"] < flow < 0.6 * diagonal, f"{flow:.3f} ± {error['flow']:.3f} and {diagonal:.3f}"
