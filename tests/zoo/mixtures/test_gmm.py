"""gmm against SciPy, scikit-learn, a reference posterior, and data that make likelihoods infinite."""

from __future__ import annotations

import json
import math
import runpy

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
from tests.helpers.mixtures import COVARIANCES, covariances, observed, pair_and_values
from tests.helpers.places import EXAMPLES, REFERENCE
from zoo import Batch
from zoo.mixtures.gmm import GMM, stick_breaking


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
    assert inference.khat(pair, x).globals < 2 / 3
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


def test_defaults_find_clusters_a_ten_thousandth_wide_where_scikit_learn_does():
    """The prior made for data of unit scale put a component at -0.456, far from all rows."""
    r = np.random.default_rng(0)
    x = 1e-4 * np.concatenate([r.normal(size=(40, 2)), r.normal(size=(40, 2)) + 6])
    theirs = GaussianMixture(2, n_init=5, random_state=0, reg_covar=1e-6).fit(x / 1e-4)
    pair = GMM(2, 2).double()
    inference.fit(pair, x, method="em")
    found = inference.draw(pair, x, 300, seed=0)["locs"][0].mean(0)
    found, wanted = found[found[:, 0].argsort()].numpy(), theirs.means_[theirs.means_[:, 0].argsort()]
    np.testing.assert_allclose(found / 1e-4, wanted, rtol=0, atol=0.1)


def test_constants_that_are_given_are_in_the_units_of_the_data_and_stay():
    x = torch.randn(30, 2).double() * 1e-3 + 5
    given, mixed = GMM(2, 2, loc_scale=2.0, scale=0.25).double(), GMM(2, 2, scale=0.25).double()
    for pair in (given, mixed):
        pair.measure(Batch.of(x))
        assert pair.scale.tolist() == 0.25
    assert given.loc_scale.tolist() == 2.0
    assert not given.loc.any()
    torch.testing.assert_close(mixed.loc, torch.as_tensor(np.median(x.numpy(), 0)))
    iqr = scipy.stats.iqr(x.numpy(), 0, scale="normal")
    torch.testing.assert_close(mixed.loc_scale, torch.as_tensor(10 * iqr), rtol=1e-6, atol=0)
