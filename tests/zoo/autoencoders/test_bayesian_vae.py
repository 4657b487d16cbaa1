"""bayesian_vae against formulas written out by hand, and the exact posterior of its weights where there is one."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import pyro
import pytest
import scipy.special
import scipy.stats
import torch
from pyro import poutine
from sklearn.datasets import load_digits

import inference
import zoo
from inference.data.check import as_batch
from inference.fitting.objective import choose
from inference.fitting.step import Stepper
from inference.running.densities import run
from zoo.base import Batch

LIKELIHOODS = {"bernoulli": 1, "gaussian": 1, "binomial": 7}
DOUBLE = torch.float64


def create(likelihood="bernoulli", **config):
    trials = {"trials": LIKELIHOODS[likelihood]} if likelihood == "binomial" else {}
    return zoo.create("bayesian_vae", likelihood=likelihood, **trials, **config).double()


def elbo(pair, batch, seed=3):
    torch.manual_seed(seed)
    return -choose(pair, batch).loss(pair, batch).item()


# --- formulas ---------------------------------------------------------------------------------------------------------


def gaussian_kl(loc, sd, prior_sd):
    """KL(N(loc, sd^2) || N(0, prior_sd^2)), summed."""
    return (np.log(prior_sd / sd) + (sd**2 + loc**2) / (2 * prior_sd**2) - 0.5).sum()


def silu(x):
    return x * scipy.special.expit(x)


def log_likelihood(likelihood, x, h, scale):
    """log p(x | z, W, b), (B,), by SciPy, from the decoder's output h, (B, D)."""
    if likelihood == "gaussian":
        return scipy.stats.norm.logpdf(x, h, scale).sum(-1)
    return scipy.stats.binom.logpmf(x, LIKELIHOODS[likelihood], scipy.special.expit(h)).sum(-1)


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)], ids=str)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_elbo_equals_the_formulas(likelihood, hidden):
    """Same weights, same noise, a minibatch of 6 of 18 rows: every term by NumPy and SciPy."""
    rows, total, features, latent, s = 6, 18, 7, 3, 1.7
    pair = create(likelihood, features=features, latent=latent, hidden=hidden, weight_scale=s)
    with torch.no_grad():
        for array in pair.weights.values():
            array.spread.uniform_(-3, 0.5)
        if likelihood == "gaussian":
            pair.scale = torch.linspace(0.5, 2, features, dtype=DOUBLE)
    batch = as_batch(pair, pair.simulate(rows)[0].x).but(total=total)
    obtained = elbo(pair, batch)

    state = {name: value.numpy() for name, value in pair.state_dict().items()}
    widths = [latent, *hidden[::-1], features]
    shapes = {}
    for j, (inputs, outputs) in enumerate(pairwise(widths)):
        shapes |= {f"weight_{j}": (inputs, outputs), f"bias_{j}": (outputs,)}
    torch.manual_seed(3)
    weights, divergence = {}, 0.0
    for name, shape in shapes.items():  # in the order of the layers, then the code
        prior_sd = state[f"weights.{name}.prior_scale"]  # made in single precision
        np.testing.assert_allclose(prior_sd, s / math.sqrt(shape[0]) if name.startswith("weight") else s, rtol=1e-7)
        loc, sd = state[f"weights.{name}.loc"], prior_sd * np.logaddexp(0, state[f"weights.{name}.spread"])
        weights[name] = loc + sd * torch.normal(torch.zeros(shape, dtype=DOUBLE), 1.0).numpy()
        divergence += gaussian_kl(loc, sd, prior_sd)
    x = batch.x.numpy()
    h = x / LIKELIHOODS[likelihood]
    for layer in range(len(hidden) + 1):
        h = (silu(h) if layer else h) @ state[f"encoder.{2 * layer}.weight"].T + state[f"encoder.{2 * layer}.bias"]
    loc, sd = h[:, :latent], np.logaddexp(0, h[:, latent:])
    z = loc + sd * torch.normal(torch.zeros(rows, latent, dtype=DOUBLE), 1.0).numpy()
    h = z
    for j in range(len(hidden) + 1):
        h = (silu(h) if j else h) @ weights[f"weight_{j}"] + weights[f"bias_{j}"]
    scale = pair.scale.detach().numpy() if likelihood == "gaussian" else None
    local = log_likelihood(likelihood, x, h, scale).sum() - gaussian_kl(loc, sd, 1.0)
    assert obtained == pytest.approx(total / rows * local - divergence, rel=1e-9)


def test_the_mean_over_minibatches_is_the_full_elbo():
    """With codes that do not vary, nothing random is left but the weights, and they share their noise: the same to
    rounding. A plate without the total is off, and so is a weight's KL scaled with the rows."""
    pair = create(features=5)
    with torch.no_grad():
        pair.encoder[-1].weight[2:] = 0
        pair.encoder[-1].bias[2:] = -60
    batch, _ = pair.simulate(12)
    full = elbo(pair, batch)
    parts = [torch.arange(0, 4), torch.arange(4, 8), torch.arange(8, 12)]
    assert np.mean([elbo(pair, batch.select(rows)) for rows in parts]) == pytest.approx(full, rel=1e-11)
    wrong = np.mean([elbo(pair, batch.select(rows).but(total=4)) for rows in parts])
    assert abs(wrong - full) > 0.1 * abs(full)
    divergence = weights_kl(pair, batch)
    assert abs(divergence) > 0.1 * abs(full)


def test_closed_forms_are_used():
    pair = create()
    assert choose(pair, pair.simulate(3)[0]).estimator == "mean_field"
    assert choose(pair, pair.simulate(3)[0]).has_globals


# --- draws of the weights at once -------------------------------------------------------------------------------------


def test_weights_of_several_draws_equal_a_loop():
    """S weights arrive as (S, 1, I, O) and codes as (S, B, L) or (B, L): each draw as if it were alone."""
    pair = create("binomial", features=6, latent=3, hidden=(4, 5))
    batch, _ = pair.simulate(3)
    with pyro.plate("particles", 5, dim=-2):
        drawn = poutine.trace(pair.guide).get_trace(batch)
    values = {name: drawn.nodes[name]["value"] for name in (*pair.weights, "z")}
    assert values["weight_1"].shape == (5, 1, 5, 4)
    assert values["z"].shape == (5, 3, 3)
    for shared in (False, True):
        code = values["z"][0] if shared else values["z"]
        with pyro.plate("particles", 5, dim=-2):
            together = poutine.condition(pair.model, values | {"z": code})
            together = poutine.trace(together).get_trace(batch)
        together.compute_log_prob()
        for s in range(5):
            own = {name: value[s, 0] for name, value in values.items()} | {"z": values["z"][0 if shared else s]}
            alone = poutine.trace(poutine.condition(pair.model, own)).get_trace(batch)
            alone.compute_log_prob()
            expected = alone.nodes["x"]["log_prob"]
            torch.testing.assert_close(together.nodes["x"]["log_prob"][s], expected, rtol=1e-12, atol=1e-12)


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"features": 3, "latent": 4}, "latent=4 is more than features=3"),
        ({"trials": 16}, "takes no trials, got trials=16"),
        ({"weight_scale": 0.0}, "'weight_scale': expected a finite number above 0"),
        ({"likelihood": "poisson"}, "expected one of"),
    ],
)
def test_bad_config(config, message):
    with pytest.raises(ValueError, match=message):
        zoo.create("bayesian_vae", **config)


def test_guide_needs_observations():
    with pytest.raises(ValueError, match="needs the observations"):
        zoo.create("bayesian_vae").guide(Batch(3, 3))


@pytest.mark.parametrize("hidden", [(), (5, 4)], ids=str)
def test_sites_dims_and_priors(hidden):
    """Weights in the order of the layers, the encoder's widths mirrored; a prior variance of s^2 over the fan-in."""
    pair = create(features=6, latent=2, hidden=hidden, weight_scale=3.0)
    sites = pair.sites()
    names = ["latent", *(f"hidden_{j}" for j in range(len(hidden))), "feature"]
    sizes = dict(zip(names, (2, *hidden[::-1], 6), strict=True))
    assert list(sites)[-2:] == ["z", "x"]
    assert len(sites) == 2 * (len(hidden) + 1) + 2
    for j, (before, after) in enumerate(pairwise(names)):
        assert list(sites)[2 * j : 2 * j + 2] == [f"weight_{j}", f"bias_{j}"]
        assert pair.dims[f"weight_{j}"] == (before, after)
        assert pair.dims[f"bias_{j}"] == (after,)
        assert sites[f"weight_{j}"].event_shape == (sizes[before], sizes[after])
        for site, fan_in in ((f"weight_{j}", sizes[before]), (f"bias_{j}", 1)):
            base = sites[site].fn.base_dist
            torch.testing.assert_close(base.stddev, torch.full_like(base.mean, 3 / math.sqrt(fan_in)))
            assert not base.mean.any()


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_last_bias_starts_at_the_means(likelihood):
    pair = create(likelihood, features=4)
    trials = LIKELIHOODS[likelihood]
    x = torch.tensor([[0, 1, 0, 1], [0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1]], dtype=DOUBLE) * trials
    pair.initial(Batch.of(x))
    # no further than three prior deviations
    expected = torch.tensor([-3.0, math.log(3), math.log(3), 3.0], dtype=DOUBLE)
    if likelihood == "gaussian":  # whose features are centred
        expected = torch.zeros(4, dtype=DOUBLE)
    torch.testing.assert_close(pair.weights["bias_1"].loc.detach(), expected)


# --- the posterior of the weights ------------------------------------------------------------------------------------


def climb(pair, batch, steps=600, particles=16):
    """Fit the posterior of the weights alone: the encoder, the noise and the units stay as they are."""
    for name, parameter in pair.named_parameters():
        parameter.requires_grad_(name.startswith("weights."))
    options = {"steps": steps, "lr": 0.03, "particles": particles, "average": 0.5}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", inference.KeptConstants)  # parameters were set by hand
        inference.fit(pair, batch, **options, device="cpu", progress=False)


@torch.no_grad()
def weights_kl(pair, batch):
    """KL(q(W) q(b) || p(W) p(b)), in nats."""
    return -float(run(pair, batch, analytic=True).global_log_p)


def linear(rows, noise, s=1.3):
    """One code, no hidden layer, Gaussian features: a Bayesian regression of each feature on z ~ q(z | x).

    Returns the pair, the data and the best factorised Gaussian, by its means and deviations. The best one of any
    covariance is N(m, A^-1) for (W_d, b_d), with A = I / s^2 + 1 / noise^2 sum_n E[(z_n, 1) (z_n, 1)']; the best
    factorised one has its means, and variances 1 / A_ii (Bishop 2006, eq. 10.12 to 10.15).
    """
    torch.manual_seed(0)
    pair = create("gaussian", features=3, latent=1, hidden=(), weight_scale=s)
    code = torch.randn(rows, 1, dtype=DOUBLE)
    x = code @ torch.tensor([[1.0, -0.5, 0.2]], dtype=DOUBLE) + torch.tensor([0.3, 0.0, -1.0], dtype=DOUBLE)
    x = x + 0.3 * torch.randn_like(x)
    with torch.no_grad():
        pair.scale = torch.full((3,), noise, dtype=DOUBLE)
    loc, spread = pair.encoder(x).detach().chunk(2, -1)
    second = (loc.square() + torch.nn.functional.softplus(spread).square()).sum()
    moments = torch.stack([second, loc.sum(), loc.sum(), loc.new_tensor(rows)]).reshape(2, 2)
    precision = torch.eye(2, dtype=DOUBLE) / s**2 + moments / noise**2
    moment = torch.stack([(loc * x).sum(0), x.sum(0)]) / noise**2
    return pair, Batch.of(x), torch.linalg.solve(precision, moment), precision.diagonal().rsqrt()


def posterior_of(pair):
    found = [pair.weights[name].posterior().base_dist for name in ("weight_0", "bias_0")]
    loc = torch.cat([found[0].mean, found[1].mean[None]]).detach()
    sd = torch.cat([found[0].stddev, found[1].stddev[None]]).detach()
    return loc, sd  # each (2, D)


@pytest.mark.parametrize(("rows", "noise"), [(1, 1.0), pytest.param(100, 0.5, marks=pytest.mark.slow)])
def test_linear_weights_reach_the_best_factorised_gaussian(rows, noise):
    """Means within 0.05 posterior deviations, deviations within 3 %: 300 steps of 64 draws are averaged, which leaves
    an error of about 0.01. A wrong factor of two in likelihood or prior moves a deviation by 40 %."""
    pair, batch, loc, sd = linear(rows, noise)
    climb(pair, batch, particles=64)
    found_loc, found_sd = posterior_of(pair)
    assert ((found_loc - loc).abs() / sd[:, None]).max() < 0.05
    torch.testing.assert_close(found_sd, sd[:, None].expand_as(found_sd), rtol=0.03, atol=0)


@pytest.mark.parametrize("rows", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_the_elbo_is_flat_at_the_best_factorised_gaussian(rows):
    """Mean gradients at the closed form are zero within four standard errors, and are not at a deviation of 1.2 x."""
    pair, batch, loc, sd = linear(rows, 0.5)
    stepper = Stepper(pair, choose(pair, batch), "graph", fallback=False)
    weights = [i for i, name in enumerate(stepper.parameters) if name.startswith("weights.")]

    def largest_z(factor):
        with torch.no_grad():
            for i, array in enumerate(pair.weights.values()):
                array.loc.copy_(loc[i].expand_as(array.loc))
                array.spread.copy_((factor * sd[i] / array.prior_scale).expm1().log())
        found = []
        torch.manual_seed(0)
        for _ in range(400):
            gradients = stepper(batch, torch.ones((), dtype=DOUBLE))[1]
            found.append(torch.cat([gradients[i].flatten() for i in weights]))
        stack = torch.stack(found)
        return float((stack.mean(0) / (stack.std(0) / 20)).abs().max())

    assert largest_z(1.0) < 4
    assert largest_z(1.2) > 4


def test_deviations_shrink_as_the_root_of_the_number_of_rows():
    """Of the closed form that the tests above hold the fit to: from no data, the prior, to N^-1/2."""
    few, many = linear(400, 0.5)[3], linear(6400, 0.5)[3]
    torch.testing.assert_close(few / many, torch.full((2,), 4.0, dtype=DOUBLE), rtol=0.1, atol=0)
    torch.testing.assert_close(linear(1, 1e3)[3], torch.full((2,), 1.3, dtype=DOUBLE), rtol=1e-5, atol=0)


def test_without_data_the_posterior_is_the_prior():
    """At its best the ELBO is no lower than with q = p, so KL(q || p) <= E_q[log p(x | W)] - E_p[log p(x | W)].

    For one row with a noise of 30 that is at most E_p |x - f(z)|^2 / (2 30^2), under a hundredth of a nat for all
    weights together, which start at some 300 nats. With a noise of 0.1 the same row is learned.
    """
    divergence = {}
    for noise in (30.0, 0.1):
        torch.manual_seed(0)
        pair = create("gaussian", features=4, latent=2, hidden=(16,))
        with torch.no_grad():
            pair.scale = torch.full((4,), noise, dtype=DOUBLE)
        batch = Batch.of(torch.tensor([[1.0, -1.0, 0.5, 2.0]], dtype=DOUBLE))
        before = weights_kl(pair, batch)
        climb(pair, batch)
        divergence[noise] = weights_kl(pair, batch)
        if noise == 30.0:
            prior = inference.prior(pair, batch, draws=2000)
            weights = prior.flat(prior.globals)
            terms = run(pair, batch, 2000, weights)
            best = -4 * math.log(noise * math.sqrt(2 * math.pi))  # log p(x) where f(z) = x
            bound = best - float(terms.likelihood.mean())
            error = float(terms.likelihood.std()) / math.sqrt(2000)
            assert before > 200
            assert divergence[noise] < bound + 4 * error
            assert bound < 0.02
            for name, array in pair.weights.items():
                found = array.posterior().base_dist
                assert (found.mean.abs() < 0.03 * array.prior_scale).all(), name
                torch.testing.assert_close(found.stddev, array.prior_scale, rtol=0.03, atol=0)
    assert divergence[0.1] > 5


# --- learning ---------------------------------------------------------------------------------------------------------


def digits():
    """1797 images, 8 x 8, pixels from 0 to 16."""
    return torch.as_tensor(load_digits().data, dtype=torch.float32)


def trained(name, x, seed, steps=3000):
    torch.manual_seed(seed)
    pair = zoo.create(name, features=64, latent=8, hidden=(64,), likelihood="binomial")
    inference.fit(pair, x, steps=steps, batch_size=100, lr=1e-2, seed=seed, device="cpu", progress=False)
    return pair


@torch.no_grad()
def bound(pair, x, particles=50):
    """Mean ELBO of an observation given the weights, and the KL of the weights, in nats."""
    torch.manual_seed(0)
    terms = run(pair, as_batch(pair, x), particles, analytic=True)
    return float(terms.log_weight.mean()), -float(torch.as_tensor(terms.global_log_p).mean())


@pytest.mark.slow
def test_digits_are_learned_as_well_as_by_gaussian_vae_but_for_the_price_of_the_weights():
    x = digits()[torch.randperm(1797)]
    train, test = x[:1500], x[1500:]
    plain, bayesian = trained("gaussian_vae", train, 0), trained("bayesian_vae", train, 0)
    (wanted, _), (found, divergence) = bound(plain, test), bound(bayesian, test)
    assert divergence / len(train) < 10
    assert found > wanted - divergence / len(train)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_disagreement_of_the_weights_finds_overexposed_digits_that_likelihood_takes_for_digits(seed):
    """Every pixel twice as bright, up to white: simpler images than digits, so that many are as likely as digits."""
    from inference.posterior.novelty import novelty

    x = digits()
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(seed))
    train, usual = x[order[:1400]], x[order[1400:]]
    strange = (2 * usual).clamp(max=16)
    plain, bayesian = (trained(name, train, seed, steps=1500) for name in ("gaussian_vae", "bayesian_vae"))
    marginal = inference.draw(plain, usual[:1], 1)
    unlikely = [-inference.log_likelihood(plain, marginal, rows, particles=50)[0, 0] for rows in (usual, strange)]
    disagreement = [novelty(bayesian, rows, draws=30, particles=30) for rows in (usual, strange)]
    error = math.sqrt(sum(area_variance(*scores) for scores in (unlikely, disagreement)))
    assert area(*disagreement) > area(*unlikely) + 2 * error


def area(usual, strange):
    """Under the ROC curve: how often a strange row scores above a usual one."""
    return float((strange[:, None] > usual).double().mean())


def area_variance(usual, strange):
    """Sampling variance of the area over rows (DeLong et al. 1988)."""
    above = (strange[:, None] > usual).double()
    return float(above.mean(1).var() / len(strange) + above.mean(0).var() / len(usual))
