"""gaussian_vae beside a plain PyTorch twin, and its variants beside each other, on held-out digits."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import inference
import zoo
from inference.fitting.schedule import learning_rate
from inference.posterior.likelihood import local_log_weights
from tests.helpers.vae import bound, create

TRIALS = 16  # a digit's pixel counts from 0 to 16


class Twin(nn.Module):
    """The same VAE as anyone would write it in plain PyTorch: binomial pixels, diagonal guide."""

    def __init__(self, latent, width):
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, width), nn.SiLU(), nn.Linear(width, 64))

    def terms(self, x, particles=1):
        """log p(x | z), log p(z) - log q(z | x), and the KL divergence: (S, B), (S, B), (B,)."""
        loc, raw = self.encoder(x / TRIALS).chunk(2, -1)
        scale = functional.softplus(raw)
        noise = torch.randn(particles, *loc.shape)
        z = loc + scale * noise
        logits = self.decoder(z)
        choose_x = math.lgamma(TRIALS + 1) - torch.lgamma(x + 1) - torch.lgamma(TRIALS - x + 1)
        log_p = (x * functional.logsigmoid(logits) + (TRIALS - x) * functional.logsigmoid(-logits) + choose_x).sum(-1)
        ratio = (0.5 * (noise**2 - z**2) + scale.log()).sum(-1)
        return log_p, ratio, 0.5 * (scale**2 + loc**2 - 1 - 2 * scale.log()).sum(-1)

    def fit(self, x, steps, lr, size):
        optimiser = torch.optim.Adam(self.parameters(), lr=lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate("cosine", step, steps))
        order = torch.empty(0, dtype=torch.long)
        for _ in range(steps):
            if len(order) < size:
                order = torch.randperm(len(x))
            rows, order = order[:size], order[size:]
            log_p, _, divergence = self.terms(x[rows])
            loss = (divergence - log_p).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()

    @torch.no_grad()
    def scores(self, x, particles):
        """Test ELBO, and log-likelihood by importance sampling (Burda et al. 2016, eq. 8), per observation."""
        log_p, ratio, divergence = self.terms(x, particles)
        weights = torch.logsumexp(log_p + ratio, 0) - math.log(particles)
        return (log_p.mean(0) - divergence).mean().item(), weights.mean().item()


def split_digits():
    x = torch.tensor(load_digits().data, dtype=torch.float32)
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
    return x[:1497], x[1497:]


def side_by_side(seeds, steps, particles, same_start, latent=8, width=64, lr=5e-3, size=100):
    """(ELBO, log-likelihood) on test digits of ours and of the twin, each (seeds, 2)."""
    train, test = split_digits()
    config = {"features": 64, "latent": latent, "hidden": (width,), "likelihood": "binomial", "trials": TRIALS}
    options = {"steps": steps, "lr": lr, "batch_size": size, "average": 0, "clip": None, "device": "cpu"}
    ours, theirs = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        pair, twin = zoo.create("gaussian_vae", **config), Twin(latent, width)
        if same_start:
            twin.load_state_dict(pair.state_dict(), strict=False)
        twin.fit(train, steps, lr, size)
        theirs.append(twin.scores(test, particles))
        inference.fit(pair, train, seed=seed, progress=False, **options)
        posterior = inference.draw(pair, test, draws=1, seed=seed)
        likelihood = inference.log_likelihood(pair, posterior, test, particles=particles // 10, seed=seed)
        ours.append((bound(pair, test, particles, seed).mean().item(), likelihood.mean().item()))
    return np.array(ours), np.array(theirs)


def difference(ours, theirs, precision=0.01):
    """Ours minus the twin's, and its standard error over seeds, in nats per test observation: both (2,)."""
    assert (ours[:, 1] > ours[:, 0]).all()  # many samples bound the likelihood more tightly than one
    error = np.sqrt((ours.var(0, ddof=1) + theirs.var(0, ddof=1)) / len(ours))
    assert (error < precision * np.abs(theirs.mean(0))).all()
    return ours.mean(0) - theirs.mean(0), error


@pytest.mark.slow
def test_level_with_a_plain_twin_from_the_same_start():
    ahead, error = difference(*side_by_side(seeds=(0, 1, 2), steps=300, particles=100, same_start=True))
    assert (np.abs(ahead) < 4 * error).all(), f"{ahead} ± {error}"


@pytest.mark.slow
def test_level_with_or_ahead_of_a_plain_twin():
    """The twin starts as PyTorch starts its layers, and both train to the end."""
    ahead, error = difference(*side_by_side(seeds=range(3), steps=3000, particles=1000, same_start=False))
    assert (ahead > -4 * error).all(), f"{ahead} ± {error}"


@functools.cache
def digit_scores(**config):
    """Test ELBO and log-likelihood (Burda et al. 2016, eq. 8) on digits, (3 seeds, 2)."""
    train, test = split_digits()
    scores = []
    for seed in range(3):
        torch.manual_seed(seed)
        pair = create("binomial", features=64, latent=4, **config)
        inference.fit(pair, train, steps=2000, batch_size=100, seed=seed, device="cpu", progress=False)
        weights = local_log_weights(pair, test, 1000)
        scores.append((weights.mean().item(), torch.logsumexp(weights, 0).mean().item() - math.log(1000)))
    return np.array(scores)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("better", "plain"),
    [
        ({"guide": "full"}, {}),
        ({"guide": "flow"}, {}),
        ({"prior": "vamp"}, {}),
        ({"prior": "vamp", "guide": "flow"}, {}),
        ({"net": "residual", "hidden": (16, 32)}, {"net": "conv", "hidden": (16, 32)}),
    ],
    ids=["full", "flow", "vamp", "vamp-flow", "residual"],
)
def test_no_worse_on_digits(better, plain):
    ahead, error = difference(digit_scores(**better), digit_scores(**plain), precision=0.03)
    assert (ahead > -4 * error).all(), f"{ahead} ± {error}"
