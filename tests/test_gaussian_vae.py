"""gaussian_vae against formulas written out by hand, factor analysis, and a plain PyTorch twin trained side by side."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pyro
import pytest
import scipy.special
import scipy.stats
import torch
from pyro import poutine
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import FactorAnalysis
from torch import nn
from torch.nn import functional

import inference
import zoo
from inference.data import as_batch
from inference.objective import choose, run
from inference.schedule import learning_rate
from zoo import nets
from zoo.base import Batch
from zoo.nets import halvings, scale_tril

LIKELIHOODS = {"bernoulli": None, "gaussian": None, "binomial": 16, "beta_binomial": 255, "categorical": 7}
TRIALS = 16  # a digit's pixel counts from 0 to 16


def create(likelihood, **config):
    trials = LIKELIHOODS[likelihood]
    return zoo.create("gaussian_vae", likelihood=likelihood, **({"trials": trials} if trials else {}), **config)


def elbo(pair, batch):
    return -choose(pair, batch).loss(pair, batch).item()


# --- formulas ---------------------------------------------------------------------------------------------------------


def softplus(x):
    return np.logaddexp(0, x)


def network(state, prefix, x):
    """The MLP of `prefix` by NumPy, from its weights."""
    layers = sorted({name.split(".")[1] for name in state if name.startswith(prefix)}, key=int)
    for layer in layers:
        x = x @ state[f"{prefix}.{layer}.weight"].T + state[f"{prefix}.{layer}.bias"]
        x = x if layer == layers[-1] else x * scipy.special.expit(x)
    return x


def log_likelihood(likelihood, x, h, trials, scale):
    """log p(x | z), (B,), by SciPy, from decoder outputs h, (B, D, outputs)."""
    if likelihood == "categorical":
        logits = scipy.special.log_softmax(h, axis=-1)
        return np.take_along_axis(logits, x[..., None].astype(int), -1)[..., 0].sum(-1)
    if likelihood == "beta_binomial":
        a, b = softplus(h[..., 0]), softplus(h[..., 1])
        return scipy.stats.betabinom.logpmf(x, trials, a, b).sum(-1)
    if likelihood == "gaussian":
        return scipy.stats.norm.logpdf(x, h[..., 0], scale).sum(-1)
    return scipy.stats.binom.logpmf(x, trials or 1, scipy.special.expit(h[..., 0])).sum(-1)


@pytest.mark.parametrize("guide", ["diagonal", "full"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_elbo_equals_the_formulas(likelihood, guide):
    """Same weights, same noise, every term written out again: log-likelihood by SciPy, KL by determinants."""
    rows, features, latent = 6, 9, 3
    trials = LIKELIHOODS[likelihood]
    pair = create(likelihood, features=features, latent=latent, hidden=(5, 4), guide=guide).double()
    if likelihood == "gaussian":
        with torch.no_grad():
            pair.scale = torch.linspace(0.5, 2, features, dtype=torch.float64)
    batch = as_batch(pair, pair.simulate(rows)[0].x)
    torch.manual_seed(3)
    obtained = elbo(pair, batch)
    torch.manual_seed(3)
    noise = torch.normal(torch.zeros(rows, latent, dtype=torch.float64), 1.0).numpy()

    state = {name: value.numpy() for name, value in pair.state_dict().items()}
    x = batch.x.numpy()
    h = network(state, "encoder", x / (trials or 1))
    loc, spread = h[:, :latent], h[:, latent:]
    total = 0.0
    for n in range(rows):
        tril = np.diag(softplus(spread[n, :latent]))
        if guide == "full":
            tril = np.zeros((latent, latent))
            tril[np.tril_indices(latent)] = spread[n]
            tril[np.diag_indices(latent)] = softplus(np.diag(tril))
        covariance = tril @ tril.T
        divergence = 0.5 * (np.trace(covariance) + loc[n] @ loc[n] - latent - np.linalg.slogdet(covariance)[1])
        z = loc[n] + tril @ noise[n]
        h_n = network(state, "decoder", z).reshape(features, -1)
        scale = pair.scale.detach().numpy() if likelihood == "gaussian" else None
        total += log_likelihood(likelihood, x[n], h_n, trials, scale) - divergence
    assert obtained == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("likelihood", ["binomial", "beta_binomial", "categorical"])
def test_counts_sum_to_one(likelihood):
    """The probabilities of all counts 0..trials of a pixel sum to one, and the support is exactly those."""
    pair = create(likelihood, features=4).double()
    pixel = pair.decode(torch.randn(2, dtype=torch.float64))
    counts = torch.arange(pair.trials + 1, dtype=torch.float64)
    total = pixel.expand((len(counts), 4)).log_prob(counts[:, None].expand(-1, 4)).logsumexp(0)
    torch.testing.assert_close(total, torch.zeros(4, dtype=torch.float64), atol=1e-9, rtol=0)
    allowed = pixel.support.check(torch.tensor([-1.0, 0.0, 0.5, pair.trials, pair.trials + 1])[:, None].expand(-1, 4))
    assert allowed.all(1).tolist() == [False, True, False, True, False]


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [8, 28, 7])
@pytest.mark.parametrize("outputs", [1, 3])
def test_convolutions_by_hand(side, outputs):
    """A convolution as the sum it is, pixel by pixel, and images that come back whole from any side."""
    encoder = nets.encoder("conv", side**2, (2, 3), 4).double()
    decoder = nets.decoder("conv", 4, (2, 3), side**2, outputs).double()
    x = torch.randn(5, 2, side**2, dtype=torch.float64)
    code = encoder(x)
    image = decoder(code)
    assert code.shape == (5, 2, 4)
    assert image.shape == (5, 2, side**2, outputs)
    # leading dimensions are rows
    torch.testing.assert_close(code[3, 1], encoder(x[3, 1]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(image[3, 1], decoder(code[3, 1]), rtol=1e-12, atol=1e-12)
    layer, seen = encoder.layers[0], []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    encoder(x[0, 0])
    picture = x[0, 0].reshape(side, side)
    patch = functional.pad(picture, (1, 1, 1, 1))[2:5, 4:7]  # where output row 1, column 2 looks
    expected = (layer.weight[1, 0] * patch).sum() + layer.bias[1]
    torch.testing.assert_close(seen[0][0, 1, 1, 2], expected)


def test_decoded_pixels_lie_row_by_row():
    """Light one place of the smallest map: the pixels that change are a patch at that place of the image."""
    decoder = nets.decoder("conv", 2, (3,), 64, 2).double()
    with torch.no_grad():
        decoder.layers[-1].bias.copy_(torch.tensor([100.0, 200.0]))
        decoder.stem.weight.zero_()
        dark = decoder(torch.zeros(2, dtype=torch.float64))
        decoder.stem.bias.reshape(3, 4, 4)[:, 1, 2] = 1.0
        changed = (decoder(torch.zeros(2, dtype=torch.float64)) != dark)[:, 0].reshape(8, 8)
    torch.testing.assert_close(dark.mean(0).round(decimals=-2), torch.tensor([100.0, 200.0], dtype=torch.float64))
    rows, columns = changed.nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 4, 3, 6)


def test_a_code_moves_every_pixel():
    """No pixel is out of the decoder's reach, at odd sides neither."""
    decoder = nets.decoder("conv", 2, (4, 4), 49, 1).double()
    jacobian = torch.autograd.functional.jacobian(decoder, torch.randn(2, dtype=torch.float64))  # (49, 1, 2)
    assert (jacobian.abs().amax((1, 2)) > 0).all()


def test_neighbouring_pixels_are_neighbours():
    """`conv` reads row by row: moving an image by the stride moves the feature maps by one."""
    encoder = nets.ConvEncoder(64, (3,), 2).double()
    picture = torch.zeros(1, 8, 8, dtype=torch.float64)
    picture[0, 2:5, 2:5] = torch.randn(3, 3, dtype=torch.float64)
    moved = picture.roll((2, 2), (1, 2))
    seen = []
    encoder.layers[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    encoder(picture.reshape(1, 64))
    encoder(moved.reshape(1, 64))
    torch.testing.assert_close(seen[1][..., 1:, 1:], seen[0][..., :-1, :-1])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"net": "conv", "features": 10}, "features=10 is not a square"),
        ({"net": "conv", "features": 16, "hidden": (4, 4, 4)}, "at most 2"),
        ({"net": "conv", "hidden": ()}, "at least one hidden width"),
        ({"trials": 16}, "takes no trials"),
        ({"likelihood": "poisson"}, "expected one of"),
        ({"hidden": (64, 0)}, r"hidden'\[1\]: expected at least 1"),
    ],
)
def test_bad_config(config, message):
    with pytest.raises(ValueError, match=message):
        zoo.create("gaussian_vae", **config)


@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_the_decoder_mirrors_the_encoder(net):
    pair = zoo.create("gaussian_vae", features=64, latent=2, hidden=(5, 4), net=net)
    widths = {
        part: [len(bias) for name, bias in pair.state_dict().items() if name.startswith(part) and name.endswith("bias")]
        for part in ("encoder", "decoder")
    }
    smallest = 1 if net == "mlp" else 2 * 2  # pixels of the smallest map
    assert widths["encoder"] == [5, 4, 4]
    assert widths["decoder"] == [4 * smallest, 5, 64 if net == "mlp" else 1]


def test_sides():
    assert halvings(784, (1, 1, 1)) == [28, 14, 7, 4]
    assert halvings(81, (1, 1)) == [9, 5, 3]


def test_guide_needs_observations():
    with pytest.raises(ValueError, match="needs the observations"):
        zoo.create("gaussian_vae").guide(Batch(3, 3))


def test_scales_stay_positive():
    """Far below zero softplus underflows: the scale stops at the rounding unit instead."""
    tril = scale_tril(torch.full((2, 3), -200.0), 2)
    assert (tril.diagonal(dim1=-2, dim2=-1) > 0).all()
    assert (tril.triu(1) == 0).all()


# --- particles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", ["mlp", "conv"])
@pytest.mark.parametrize("guide", ["diagonal", "full"])
def test_particles_equal_a_loop(net, guide):
    """Codes of S particles at once, and the guide's draws for them: each as if it were alone."""
    pair = create("beta_binomial", features=16, net=net, guide=guide, hidden=(4,)).double()
    batch, _ = pair.simulate(3)

    def log_prob(z):
        with pyro.plate("particles", 5, dim=-2) if z.ndim == 3 else contextlib.nullcontext():
            recorded = poutine.trace(poutine.condition(pair.model, {"z": z})).get_trace(batch)
        recorded.compute_log_prob()
        return recorded.nodes["x"]["log_prob"]

    with pyro.plate("particles", 5, dim=-2):
        z = pair.guide(batch)
    assert z.shape == (5, 3, 2)
    assert (z[0] != z[1]).all()
    together = log_prob(z)
    assert together.shape == (5, 3)
    torch.testing.assert_close(together, torch.stack([log_prob(alone) for alone in z]), rtol=1e-12, atol=1e-12)


# --- learning ---------------------------------------------------------------------------------------------------------


def bound(pair, x, particles=200, seed=0):
    """ELBO of each observation, (N,), with closed-form KL."""
    torch.manual_seed(seed)
    with torch.no_grad():
        return run(pair, as_batch(pair, x), particles, analytic=True).log_weight.mean(0)


@pytest.mark.parametrize("guide", ["diagonal", "full"])
def test_linear_networks_are_factor_analysis(guide):
    """With no hidden layer and `gaussian` features the best ELBO is the maximum likelihood of factor analysis.

    A diagonal guide reaches it too: it turns the code so that the posterior covariance is diagonal.
    """
    x = load_wine().data
    x = (x - x.mean(0)) / x.std(0)
    best = FactorAnalysis(3, svd_method="lapack", tol=1e-9, max_iter=5000).fit(x).score(x)
    pair = create("gaussian", features=13, latent=3, hidden=(), guide=guide).double()
    inference.fit(pair, x, steps=400, lr=0.05, progress=False)
    torch.manual_seed(0)
    with torch.no_grad():
        draws = run(pair, as_batch(pair, x), 500, analytic=True).log_weight.mean(1)
    error = draws.std().item() / math.sqrt(len(draws))
    assert draws.mean().item() < best + 4 * error
    assert draws.mean().item() > best - 0.005 * abs(best) - 4 * error


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


def difference(ours, theirs):
    """Ours minus the twin's, and its standard error over seeds, in nats per test observation: both (2,)."""
    assert (ours[:, 1] > ours[:, 0]).all()  # many samples bound the likelihood more tightly than one
    error = np.sqrt((ours.var(0, ddof=1) + theirs.var(0, ddof=1)) / len(ours))
    assert (error < 0.01 * np.abs(theirs.mean(0))).all()
    return ours.mean(0) - theirs.mean(0), error


def test_level_with_a_plain_twin_from_the_same_start():
    ahead, error = difference(*side_by_side(seeds=(0, 1, 2), steps=300, particles=100, same_start=True))
    assert (np.abs(ahead) < 4 * error).all(), f"{ahead} ± {error}"


@pytest.mark.slow
def test_level_with_or_ahead_of_a_plain_twin():
    """The twin starts as PyTorch starts its layers, and both train to the end."""
    ahead, error = difference(*side_by_side(seeds=range(3), steps=3000, particles=1000, same_start=False))
    assert (ahead > -4 * error).all(), f"{ahead} ± {error}"


@pytest.mark.slow
def test_full_guide_is_no_worse_than_diagonal():
    train, test = split_digits()
    scores = {}
    for guide in ("diagonal", "full"):
        scores[guide] = []
        for seed in range(3):
            torch.manual_seed(seed)
            pair = create("binomial", features=64, latent=3, guide=guide)
            inference.fit(pair, train, steps=3000, lr=5e-3, batch_size=100, seed=seed, device="cpu", progress=False)
            scores[guide].append(bound(pair, test).mean().item())
    full, diagonal = (np.array(scores[guide]) for guide in ("full", "diagonal"))
    error = math.sqrt((full.var(ddof=1) + diagonal.var(ddof=1)) / 3)
    assert full.mean() > diagonal.mean() - 4 * error
