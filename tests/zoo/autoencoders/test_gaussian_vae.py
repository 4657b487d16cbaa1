"""gaussian_vae against formulas written out by hand, factor analysis, and a plain PyTorch twin trained side by side."""

from __future__ import annotations

import contextlib
import functools
import math
import sys

import numpy as np
import pyro
import pytest
import scipy.linalg
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
from inference.data.check import as_batch
from inference.fitting.objective import choose
from inference.fitting.schedule import learning_rate
from inference.posterior.likelihood import local_log_weights
from inference.running.densities import run
from zoo.base import Batch
from zoo.parts import nets
from zoo.parts.nets import halvings, scale_tril

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


def gaussians(pair, rows):
    """(m, T) of the guide's Gaussian at each row of encoder inputs, by NumPy."""
    state = {name: value.numpy() for name, value in pair.state_dict().items()}
    latent = pair.latent
    for h in network(state, "encoder", rows):
        tril = np.diag(softplus(h[latent : 2 * latent]))
        if pair.family == "full":
            tril = np.zeros((latent, latent))
            tril[np.tril_indices(latent)] = h[latent:]
            tril[np.diag_indices(latent)] = softplus(np.diag(tril))
        yield h[:latent], tril


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
    total = 0.0
    for n, (loc, tril) in enumerate(gaussians(pair, x / (trials or 1))):
        covariance = tril @ tril.T
        divergence = 0.5 * (np.trace(covariance) + loc @ loc - latent - np.linalg.slogdet(covariance)[1])
        z = loc + tril @ noise[n]
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


# --- the vamp prior ---------------------------------------------------------------------------------------------------


def vamp(likelihood, **config):
    """A pair whose pseudo-inputs have codes well apart."""
    pair = create(likelihood, prior="vamp", components=5, **config).double()
    with torch.no_grad():
        for parameter in pair.encoder.parameters():
            parameter.mul_(3)
    return pair


def components(pair):
    """(m, T) of q(z | u_k), the base of it for a flow: (K, L), (K, L, L)."""
    loc, tril = zip(*gaussians(pair, pair.pseudo_inputs.detach().numpy()), strict=True)
    return np.array(loc), np.array(tril)


def log_mixture(x, loc, tril):
    """log 1/K sum_k N(x | loc_k, T_k T_k'), (N,), by SciPy."""
    terms = [
        scipy.stats.norm.logpdf(scipy.linalg.solve_triangular(t, (x - m).T, lower=True)).sum(0)
        - np.log(np.diag(t)).sum()
        for m, t in zip(loc, tril, strict=True)
    ]
    return scipy.special.logsumexp(terms, axis=0) - math.log(len(terms))


@pytest.mark.parametrize("guide", ["diagonal", "full", "flow"])
@pytest.mark.parametrize("likelihood", ["gaussian", "binomial"])
def test_kl_to_the_vamp_prior(likelihood, guide):
    """log q(z | x) - log p(z) at the guide's own draw, p being the mixture that SciPy makes of the weights alone."""
    pair = vamp(likelihood, features=9, latent=3, hidden=(6,), guide=guide)
    batch = as_batch(pair, pair.simulate(6)[0].x)
    torch.manual_seed(1)
    obtained = run(pair, batch).local_kl["z"].detach().numpy()
    torch.manual_seed(1)
    recorded = poutine.trace(pair.guide).get_trace(batch)
    recorded.compute_log_prob()
    site = recorded.nodes["z"]
    log_p = log_mixture(site["value"].detach().numpy(), *components(pair))
    np.testing.assert_allclose(obtained, site["log_prob"].detach().numpy() - log_p, rtol=1e-9)


def test_the_vamp_prior_integrates_to_one_and_draws_are_its_own():
    pair = vamp("binomial", features=9, latent=2, hidden=(6,), guide="full")
    grid = torch.linspace(-30, 30, 1201, dtype=torch.float64)
    with torch.no_grad():
        total = pair.prior().log_prob(torch.cartesian_prod(grid, grid)).logsumexp(0) + 2 * math.log(60 / 1200)
    assert float(total) == pytest.approx(0, abs=1e-6)
    z = pair.simulate(4000)[1]["z"].numpy()
    loc, tril = components(pair)
    spread = loc.T @ loc / 5 + np.einsum("kij,klj->il", tril, tril) / 5  # E z z'
    products = np.einsum("ni,nj->nij", z, z)
    for draws, expected in ((z, loc.mean(0)), (products, spread)):
        assert (np.abs(draws.mean(0) - expected) < 4 * draws.std(0) / math.sqrt(len(z))).all()


def test_pseudo_inputs_start_at_rows_and_stay_in_range():
    x = (torch.arange(40.0).reshape(10, 4) % 17).double()
    pair = create("binomial", features=4, prior="vamp", components=6).double()
    inference.fit(pair, x, steps=1, lr=1e-9, progress=False)
    distance = torch.cdist(pair.pseudo_inputs * 16, x.clamp(0.16, 15.84))
    assert (distance.amin(1) < 1e-6).all()
    assert len(set(distance.argmin(1).tolist())) == 6  # rows differ
    inference.fit(pair, x, steps=20, lr=1.0, progress=False)
    assert ((pair.pseudo_inputs > 0) & (pair.pseudo_inputs < 1)).all()
    real = create("gaussian", features=4, prior="vamp", components=12).double()  # more than rows
    real.initial(as_batch(real, x))
    assert sorted(real.pseudo_inputs[:10, 0].tolist()) == sorted(x[:, 0].tolist())


def test_a_vamp_prior_reaches_past_any_gaussian_one():
    """With linear networks p(x) is a mixture of Gaussians in closed form. On clusters its bound, never above that
    density, exceeds the maximum likelihood of factor analysis, which is the most that a standard prior can reach."""
    centres = 3 * torch.eye(3, 4, dtype=torch.float64)
    x = centres.repeat(60, 1) + 0.5 * torch.randn(180, 4, dtype=torch.float64)
    best = FactorAnalysis(2, tol=1e-6, max_iter=5000).fit(x).score(x)
    pair = create("gaussian", features=4, latent=2, hidden=(), prior="vamp", components=12).double()
    # Without warming up, components that overlap at the start may stay together.
    inference.fit(pair, x, steps=400, lr=0.03, anneal=200, progress=False)
    loc, tril = components(pair)
    state = {name: value.numpy() for name, value in pair.state_dict().items()}
    weight, noise = state["decoder.0.weight"], np.diag(pair.scale.detach().numpy() ** 2)
    spread = np.linalg.cholesky([weight @ t @ t.T @ weight.T + noise for t in tril])
    exact = log_mixture(x.numpy(), loc @ weight.T + state["decoder.0.bias"], spread)
    torch.manual_seed(0)
    with torch.no_grad():
        weights = run(pair, as_batch(pair, x), 2000).log_weight  # (S, N)
    elbo, error = weights.mean().item(), weights.mean(1).std().item() / math.sqrt(2000)
    assert best + 0.5 < elbo < exact.mean() + 4 * error
    ratio = (weights - torch.as_tensor(exact)).exp()  # p(x, z) / (q(z | x) p(x)), of mean one
    error = ratio.std(0) / math.sqrt(2000)
    assert ((ratio.mean(0) - 1).abs() < 5 * error).all()


# --- the flow ---------------------------------------------------------------------------------------------------------


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


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", ["conv", "residual"])
@pytest.mark.parametrize("side", [8, 28, 7])
@pytest.mark.parametrize("outputs", [1, 3])
def test_convolutions_by_hand(side, outputs, net):
    """A convolution as the sum it is, pixel by pixel, and images that come back whole from any side."""
    encoder = nets.encoder(net, side**2, (2, 3), 4).double()
    decoder = nets.decoder(net, 4, (2, 3), side**2, outputs).double()
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


def test_residual_blocks_add_to_the_plain_convolutions():
    """Silenced they leave `conv`; from the start they change the result, if not by much."""
    for make, shape in ((nets.encoder, (64, (3, 4), 5)), (nets.decoder, (5, (3, 4), 64, 2))):
        plain, residual = make("conv", *shape).double(), make("residual", *shape).double()
        residual.load_state_dict(plain.state_dict(), strict=False)
        x = torch.randn(7, shape[0], dtype=torch.float64)
        change = (residual(x) - plain(x)).std() / plain(x).std()
        assert 1e-3 < change < 0.5
        with torch.no_grad():
            for block in residual.blocks:
                block.change[-1].weight.zero_()
        assert torch.equal(residual(x), plain(x))


@pytest.mark.parametrize("net", ["conv", "residual"])
def test_a_code_moves_every_pixel(net):
    """No pixel is out of the decoder's reach, at odd sides neither."""
    decoder = nets.decoder(net, 2, (4, 4), 49, 1).double()
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
        ({"net": "residual", "hidden": ()}, "at least one hidden width"),
        ({"trials": 16}, "takes no trials"),
        ({"components": 9}, "prior='standard' takes no components, got components=9"),
        ({"latent": 5, "features": 4}, "latent=5 dimensions is larger than the data, features=4"),
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


@pytest.mark.parametrize("net", ["mlp", "conv", "residual"])
@pytest.mark.parametrize("guide", ["diagonal", "full", "flow"])
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


def difference(ours, theirs, precision=0.01):
    """Ours minus the twin's, and its standard error over seeds, in nats per test observation: both (2,)."""
    assert (ours[:, 1] > ours[:, 0]).all()  # many samples bound the likelihood more tightly than one
    error = np.sqrt((ours.var(0, ddof=1) + theirs.var(0, ddof=1)) / len(ours))
    assert (error < precision * np.abs(theirs.mean(0))).all()
    return ours.mean(0) - theirs.mean(0), error


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


CONV, RESIDUAL = ({"net": net, "hidden": (16, 32)} for net in ("conv", "residual"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("better", "plain"),
    [
        ({"guide": "full"}, {}),
        ({"guide": "flow"}, {}),
        ({"prior": "vamp"}, {}),
        ({"prior": "vamp", "guide": "flow"}, {}),
        (RESIDUAL, CONV),
    ],
    ids=["full", "flow", "vamp", "vamp-flow", "residual"],
)
def test_no_worse_on_digits(better, plain):
    ahead, error = difference(digit_scores(**better), digit_scores(**plain), precision=0.03)
    assert (ahead > -4 * error).all(), f"{ahead} ± {error}"
