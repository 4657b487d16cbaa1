"""gmm against SciPy, scikit-learn, a reference posterior, and data that make likelihoods infinite."""

from __future__ import annotations

import functools
import json
import math
import runpy
import warnings

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.stats
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture

import inference
import zoo
from inference.running.densities import run
from tests.helpers.places import EXAMPLES, REFERENCE
from zoo import Batch, datasets
from zoo.mixtures.gmm import FLOOR, GMM, stick_breaking
from zoo.parts.em import gaussian

COVARIANCES = ["full", "tied", "diag", "spherical"]


def pair_and_values(covariance, weights="dirichlet", features=3, components=4, seed=0):
    """A pair in float64 and one draw of its global latents from the prior."""
    torch.manual_seed(seed)
    pair = GMM(features, components, covariance, weights, concentration=1.7, loc_scale=2.0, scale=0.6).double()
    return pair, {name: fn.sample() for name, fn in pair.prior().items()}


def observed(pair, values, batch):
    """log p(x_n | globals), components summed out: (N,) at one value of the globals, (S, N) at S values."""
    if values["weights"].ndim == 1:
        return observed(pair, {name: value[None] for name, value in values.items()}, batch)[0]
    with torch.no_grad():
        return run(pair, batch, len(values["weights"]), values).likelihood


def covariances(pair, values):
    """The K covariance matrices that the docstring defines, by NumPy."""
    K, D = pair.components, pair.features
    scales = values["scales"].numpy()
    scales = np.broadcast_to(scales[:, None] if pair.covariance == "spherical" else scales, (K, D))
    factors = np.broadcast_to(np.eye(D), (K, D, D))
    if pair.correlated:
        factors = np.broadcast_to(values["correlations"].numpy() + FLOOR * np.eye(D), (K, D, D))
    return np.stack([np.diag(s) @ c @ c.T @ np.diag(s) for s, c in zip(scales, factors, strict=True)])


def log_lkj(factor, eta):
    """log LKJ density of a Cholesky factor (Lewandowski et al. 2009): each row's free part w lies in a unit ball.

    The density of w is proportional to (1 - |w|^2)^(b - 1), whose integral is pi^(k/2) Gamma(b) / Gamma(b + k/2).
    """
    D, total = len(factor), 0.0
    for k in range(1, D):
        b = eta + (D - 1 - k) / 2
        total += 2 * (b - 1) * math.log(factor[k, k])
        total += math.lgamma(b + k / 2) - math.lgamma(b) - k / 2 * math.log(math.pi)
    return total


@functools.cache
def scikit(name, components, covariance):
    """scikit-learn's best of ten starts on the rows to fit."""
    x = held_out(name)[0].numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture = GaussianMixture(components, covariance_type=covariance, n_init=10, random_state=0, max_iter=500)
        return mixture.fit(x)


def held_out(name):
    """70 % of the rows to fit and 30 % to score, in raw units."""
    x = datasets.load(name).x.double()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    cut = round(0.7 * len(x))
    return x[order[:cut]], x[order[cut:]]


DATA = [("faithful", 2), ("iris", 3), ("wine", 3)]


@pytest.mark.parametrize("weights", ["dirichlet", "stick_breaking"])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_log_joint_is_that_of_scipy(covariance, weights):
    pair, values = pair_and_values(covariance, weights)
    x = torch.randn(20, 3, dtype=torch.float64) * 3
    likelihood = observed(pair, values, Batch(20, 20, x))
    w, locs, sigma = values["weights"].numpy(), values["locs"].numpy(), covariances(pair, values)
    parts = [np.log(w[k]) + scipy.stats.multivariate_normal(locs[k], sigma[k]).logpdf(x.numpy()) for k in range(4)]
    np.testing.assert_allclose(likelihood, logsumexp(parts, axis=0), rtol=1e-9)

    if weights == "dirichlet":
        log_weights = scipy.stats.dirichlet(np.full(4, 1.7)).logpdf(w)
    else:
        left = 1 - np.concatenate([[0], np.cumsum(w[:-2])])
        log_weights = (scipy.stats.beta(1, 1.7).logpdf(w[:-1] / left) - np.log(left)).sum()
    prior = log_weights + scipy.stats.cauchy(0, 2).logpdf(locs).sum()
    prior += scipy.stats.invgamma(1, scale=0.6).logpdf(values["scales"]).sum()
    if pair.correlated:
        prior += sum(log_lkj(factor, 1.0) for factor in values["correlations"].reshape(-1, 3, 3).numpy())
    ours = sum(fn.log_prob(values[name]).item() for name, fn in pair.prior().items())
    assert ours == pytest.approx(prior, rel=1e-6)  # constants of the prior are float32


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_density_is_that_of_scikit_learn(covariance):
    pair, values = pair_and_values(covariance)
    mixture = GaussianMixture(4, covariance_type=covariance)
    mixture.weights_, mixture.means_ = values["weights"].numpy(), values["locs"].numpy()
    sigma = covariances(pair, values)
    precision = np.linalg.inv(np.linalg.cholesky(sigma)).swapaxes(-1, -2)
    diagonal = np.diagonal(precision, axis1=-2, axis2=-1)
    shapes = {"full": precision, "tied": precision[0], "diag": diagonal, "spherical": diagonal[:, 0]}
    mixture.precisions_cholesky_ = shapes[covariance]
    x = torch.randn(50, 3, dtype=torch.float64) * 3
    np.testing.assert_allclose(observed(pair, values, Batch(50, 50, x)), mixture.score_samples(x.numpy()), rtol=1e-9)


@pytest.mark.parametrize("weights", ["dirichlet", "stick_breaking"])
@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize(("features", "components"), [(3, 4), (1, 2)])
def test_draws_run_at_once_as_one_by_one(covariance, weights, features, components):
    pair, _ = pair_and_values(covariance, weights, features, components)
    draws = {name: fn.sample((5,)) for name, fn in pair.prior().items()}
    batch = Batch(7, 7, torch.randn(7, features, dtype=torch.float64))
    together = observed(pair, draws, batch)
    assert together.shape == (5, 7)
    for s in range(5):
        alone = observed(pair, {name: value[s] for name, value in draws.items()}, batch)
        torch.testing.assert_close(together[s], alone, rtol=1e-12, atol=1e-12)


def test_stick_breaking_weights_are_a_truncated_dirichlet_process():
    alpha, K, n = 2.0, 5, 40_000
    torch.manual_seed(0)
    weights = stick_breaking(torch.tensor(alpha, dtype=torch.float64), K).sample((n,))
    ratio = alpha / (1 + alpha)
    expected = [ratio**k / (1 + alpha) for k in range(K - 1)] + [ratio ** (K - 1)]
    error = (weights.mean(0) - torch.tensor(expected)).abs() / (weights.std(0) / math.sqrt(n))
    assert error.max() < 4
    density = stick_breaking(torch.tensor(alpha, dtype=torch.float64), K)
    uniform = dist.Dirichlet(torch.ones(K, dtype=torch.float64))
    drawn = uniform.sample((n,))
    ratios = (density.log_prob(drawn) - uniform.log_prob(drawn)).exp()  # a density integrates to one
    assert abs(ratios.mean() - 1) < 4 * ratios.std() / math.sqrt(n)


def test_seeds_take_one_row_of_each_distant_cluster():
    torch.manual_seed(0)
    K, starts = 8, 100
    centres = 1e4 * torch.arange(K, dtype=torch.float64)[:, None]
    x = (centres + torch.randn(K, 20, dtype=torch.float64)).flatten()[:, None]
    clusters = (gaussian.seed(x, K, starts)[..., 0] / 1e4).round().sort(-1).values  # (R, K)
    assert (clusters == torch.arange(K)).all()


def test_scale_step_is_the_mode():
    count, squares, rate = torch.tensor([12.0, 30.0, 0.0]), torch.tensor([5.0, 0.0, 0.0]), torch.tensor(0.7)
    prior = dist.InverseGamma(torch.ones(()), rate)

    def log_density(s):  # of log s
        return -count * s.log() - squares / (2 * s**2) + prior.log_prob(s) + s.log()

    mode = gaussian.scale_mode(count, squares, rate)
    for step in (0.99, 1.01):
        assert (log_density(mode * step) < log_density(mode)).all()


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize(("data", "components"), DATA)
def test_initial_values_reach_the_best_of_ten_starts(data, components, covariance):
    train, _ = held_out(data)
    pair = GMM(train.shape[1], components, covariance).double()
    torch.manual_seed(0)
    values = pair.initial(Batch(len(train), len(train), train))
    for site, fn in pair.prior().items():
        assert fn.support.check(values[site]).all(), f"{site} outside its support"
        assert values[site].shape == fn.event_shape
    ours = observed(pair, values, Batch(len(train), len(train), train)).mean().item()
    best = scikit(data, components, covariance).score(train.numpy())
    assert ours > best - 0.01, f"{ours:.4f} against {best:.4f}"


@pytest.mark.parametrize(("data", "components"), DATA)
def test_held_out_score_is_that_of_the_best_of_ten_starts(data, components):
    train, test = held_out(data)
    pair = zoo.create("gmm", features=train.shape[1], components=components).double()
    inference.fit(pair, train, steps=300, lr=0.03, progress=False)
    posterior = inference.draw(pair, train, draws=500)
    log_likelihood = inference.log_likelihood(pair, posterior, test).flatten(0, 1)  # (S, N)
    ours = (log_likelihood.logsumexp(0) - math.log(500)).mean().item()
    best = scikit(data, components, "full").score(test.numpy())
    assert ours > best - 0.01, f"{ours:.4f} against {best:.4f}"


def step_by_step(pair, x, responsibility, iterations):
    """EM as one would write it: the pair's own density of every row, and moments about the means."""
    ks = torch.arange(pair.components)[:, None, None]

    def m_step(responsibility):
        count, locs, scatter = gaussian.moments(x, responsibility)
        return pair.m_step(count, locs, scatter if pair.correlated else scatter.diagonal(dim1=-2, dim2=-1))

    def log_density(values):
        return pair.emission(values, ks).log_prob(x).movedim(0, -1) + values["weights"].log()

    with torch.no_grad():
        return gaussian.run(responsibility, m_step, log_density, iterations)


@pytest.mark.parametrize("weights", ["dirichlet", "stick_breaking"])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_em_in_two_products_is_em_step_by_step(covariance, weights):
    pair, _ = pair_and_values(covariance, weights)
    x = 100 + torch.randn(500, 3, dtype=torch.float64) * torch.tensor([1.0, 1e-2, 1e3])
    x[:200] += torch.tensor([3.0, 0.1, 0.0])
    responsibility = torch.rand(1, 500, 4, dtype=torch.float64)
    responsibility /= responsibility.sum(-1, keepdim=True)
    ours, trace = pair.maximise(Batch(500, 500, x), start=responsibility, iterations=20, tolerance=0)
    assert len(trace) == 20
    exact = step_by_step(pair, x, responsibility, 19)
    order = exact["weights"][0, 0].argsort(descending=True)
    for name, value in ours.items():
        shared = covariance == "tied" and name in ("scales", "correlations")
        expected = exact[name][0, 0] if shared else exact[name][0, 0, order]
        torch.testing.assert_close(value, expected, rtol=1e-7, atol=1e-9 * expected.abs().max().item(), msg=name)


@pytest.mark.parametrize("covariance", ["diag", "spherical"])
def test_em_ends_where_the_log_joint_is_flat(covariance):
    torch.manual_seed(0)
    x = torch.cat([torch.randn(60, 2), torch.randn(40, 2) * 0.5 + 4]).double()
    # of log scales and logits; the Cauchy prior of the locs, which EM leaves out, is made flat
    pair = GMM(2, 2, covariance, concentration=3.0, loc_scale=1e9, scale=0.5).double()
    batch = Batch(100, 100, x)
    values, _ = pair.maximise(batch, iterations=500, tolerance=0)
    free = [values["weights"].log(), values["locs"], values["scales"].log()]
    free = [value.requires_grad_() for value in free]
    values = {"weights": free[0].softmax(-1), "locs": free[1], "scales": free[2].exp()}
    prior = sum(fn.log_prob(values[name]) for name, fn in pair.prior().items())
    prior = prior + values["weights"].log().sum() + values["scales"].log().sum()  # Jacobians
    joint = prior + run(pair, batch, 1, {name: value[None] for name, value in values.items()}).likelihood.sum()
    for gradient in torch.autograd.grad(joint, free):
        assert gradient.abs().max() < 1e-4  # constants of the prior are float32; a row's is of the order of 1


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_trace_is_the_log_joint_of_the_values_and_rises(covariance):
    pair, _ = pair_and_values(covariance)
    x = torch.cat([torch.randn(150, 3), torch.randn(50, 3) + 3]).double()
    batch = Batch(200, 200, x)
    torch.manual_seed(1)
    values, trace = pair.maximise(batch)
    prior = sum(fn.log_prob(values[name]) for name, fn in pair.prior().items())
    assert trace[-1] == pytest.approx((prior + observed(pair, values, batch).sum()).item() / 200, rel=1e-9)
    # each M-step finds the mode in unconstrained coordinates, and that of correlations nearly
    assert np.diff(trace).min() > (-1e-3 if pair.correlated else -1e-5)
    torch.manual_seed(1)
    again, same = pair.maximise(batch)
    assert same == trace
    assert all((again[name] == value).all() for name, value in values.items())


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_two_clusters_are_found_in_any_units(covariance):
    torch.manual_seed(0)
    z = torch.randn(300, 3, dtype=torch.float64)
    z[:100] += 8
    units, offsets = torch.tensor([1e-3, 1.0, 1e6]).double(), torch.tensor([1e6, -1e6, 0.0]).double()
    # one scale for all features knows one unit alone
    units = units[:1].expand(3) if covariance == "spherical" else units
    pair = GMM(3, 2, covariance, scale=1e-6).double()
    values, _ = pair.maximise(Batch(300, 300, offsets + units * z))
    assert values["weights"][1] == pytest.approx(1 / 3, abs=0.01)
    found = (values["locs"] - offsets) / units
    torch.testing.assert_close(found[1], z[:100].mean(0), rtol=0, atol=1e-4)
    torch.testing.assert_close(found[0], z[100:].mean(0), rtol=0, atol=1e-4)


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("rows", [1, 3])
def test_fewer_rows_than_components(covariance, rows):
    pair = GMM(3, 5, covariance)
    values, trace = pair.maximise(Batch(rows, rows, torch.randn(rows, 3)))
    assert np.isfinite(trace).all()
    for site, fn in pair.prior().items():
        assert fn.support.check(values[site]).all(), f"{site} outside its support"


def test_bad_starts_and_rows_are_refused():
    pair = GMM(3, 2)
    x = torch.randn(10, 3)
    for batch, options, message in [
        (Batch(10, 10), {}, r"needs x, \(N, 3\), got None"),
        (Batch(10, 10, x[:, :2]), {}, r"needs x, \(N, 3\), got \(10, 2\)"),
        (Batch(10, 10, x.clone().index_fill_(0, torch.tensor([4]), math.inf)), {}, "row 4 of x is not finite"),
        (Batch(10, 10, x), {"starts": 0}, "must be positive, got 0"),
        (Batch(10, 10, x), {"start": x}, r"start must be \(R, 2, 3\) or \(R, 10, 2\), got \(10, 3\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            pair.maximise(batch, **options)


class LowDimGaussMix(GMM):
    """The likelihood of `gmm` in one dimension under the priors of posteriordb's `low_dim_gauss_mix`."""

    def __init__(self, guide="multivariate"):
        super().__init__(features=1, components=2, covariance="diag", concentration=5.0, guide=guide)

    def prior(self):
        two = 2 * torch.ones_like(self.scale)
        return {
            "weights": dist.Dirichlet(self.alpha.expand(2)),
            "locs": dist.Normal(0 * two, two).expand((2, 1)).to_event(2),
            "scales": dist.HalfNormal(two).expand((2, 1)).to_event(2),
        }


def test_reference_posterior_of_a_mixture():
    folder = REFERENCE / "posteriordb" / "low_dim_gauss_mix-low_dim_gauss_mix"
    if not folder.exists():
        pytest.skip(f"no reference posteriors at {REFERENCE} (set ZOO_REFERENCE)")
    x = torch.tensor(json.loads((folder / "data.json").read_text())["y"], dtype=torch.float64)[:, None]
    reference = json.loads((folder / "reference_summary.json").read_text())
    pair = LowDimGaussMix().double()
    inference.fit(pair, x, steps=600, lr=0.03, batch_size=1000, particles=4, progress=False)
    posterior = inference.draw(pair, x, draws=4000)
    # the reference orders the components by loc, so does the narrow guide: it holds one of the two labellings
    order = posterior["locs"].mean((0, 1))[:, 0].argsort()
    locs, scales = (posterior[name][0, :, order, 0] for name in ("locs", "scales"))
    draws = {
        "mu[1]": locs[:, 0],
        "mu[2]": locs[:, 1],
        "sigma[1]": scales[:, 0],
        "sigma[2]": scales[:, 1],
        "theta": posterior["weights"][0, :, order[0]],
    }
    for name, draw in draws.items():
        exact = reference["parameters"][name]
        assert abs(draw.mean() - exact["mean"]) < 0.25 * exact["sd"], name
        assert 0.8 < draw.std() / exact["sd"] < 1.2, name
    log_weight = (posterior.stats["log_p"] - posterior.stats["log_q"]).flatten()
    assert inference.khat(pair, x).globals < 0.7
    elbo, error = log_weight.mean(), log_weight.std() / math.sqrt(len(log_weight))
    evidence = reference["log_evidence"]
    assert elbo - 4 * error < evidence["value"] + 4 * evidence["standard_error"]
    assert elbo > evidence["value"] - 0.2


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("kind", ["repeated point", "repeated column", "constant column", "one row"])
def test_no_data_make_the_likelihood_infinite(covariance, kind):
    torch.manual_seed(0)
    x = torch.randn(40, 3, dtype=torch.float64)
    x = {
        "repeated point": torch.cat([x, x[:1].expand(40, 3)]),
        "repeated column": x[:, [0, 1, 1]],
        "constant column": x * torch.tensor([1.0, 1.0, 0.0]),
        "one row": x[:1],
    }[kind]
    batch = Batch(len(x), len(x), x)
    pair = GMM(3, 3, covariance).double()
    values = pair.initial(batch)
    assert all(torch.isfinite(value).all() for value in values.values())
    assert values["scales"].min() > 1e-4

    def log_joint(values):
        prior = sum(fn.log_prob(values[name]).squeeze() for name, fn in pair.prior().items())
        return (prior + observed(pair, values, batch).sum()).item()

    best = log_joint(values)
    collapsed = dict(values, locs=values["locs"].clone())
    collapsed["locs"][0] = x[-1]
    ladder = []
    for power in range(2, 9):  # narrower and narrower on the repeated point
        scales = values["scales"].clone()
        scales[0 if covariance != "tied" else slice(None)] = 10.0**-power
        ladder.append(log_joint(dict(collapsed, scales=scales)))
    assert np.isfinite(ladder).all()
    assert ladder[-1] < ladder[-2] < ladder[-3] < best, "the density must fall as a scale goes to zero"


def test_arviz_example_recovers_the_share_of_long_eruptions(tmp_path):
    example = runpy.run_path(str(EXAMPLES / "gmm_arviz.py"))
    assert abs(example["main"](tmp_path) - 0.64) < 0.05
    assert (tmp_path / "gmm_arviz.png").stat().st_size > 10_000


def test_plain_pyro_sums_the_components_out():
    pair, values = pair_and_values("full")
    x = torch.randn(6, 3, dtype=torch.float64)
    batch = Batch(6, 12, x)  # a minibatch of twelve

    def model():
        return poutine.condition(pair.model, data=values)(batch)

    loss = TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False).loss(model, lambda: None)
    prior = sum(fn.log_prob(values[name]) for name, fn in pair.prior().items())
    assert -loss == pytest.approx((prior + 2 * observed(pair, values, batch).sum()).item(), rel=1e-9)
