"""Expectation maximisation of gmm: its steps, its end, its starts, and the best of ten of scikit-learn's."""

from __future__ import annotations

import functools
import math
import warnings

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import inference
import zoo
from inference.running.densities import run
from tests.helpers.mixtures import COVARIANCES, observed, pair_and_values
from zoo import Batch, datasets
from zoo.mixtures.gmm import GMM
from zoo.parts.em import gaussian


@functools.cache
def scikit(name, components, covariance):
    """scikit-learn's best of ten starts on the rows to fit."""
    x = held_out(name)[0].numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture = GaussianMixture(components, covariance_type=covariance, n_init=10, random_state=0, max_iter=500)
        return mixture.fit(x)


def held_out(name):
    """70 % of the rows to fit and 30 % to score, in raw units."""
    x = datasets.load(name).x.double()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    cut = round(0.7 * len(x))
    return x[order[:cut]], x[order[cut:]]


DATA = [("faithful", 2), ("iris", 3), ("wine", 3)]


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


@pytest.mark.parametrize(("components", "features", "taken"), [(50, 300, 1000), (20, 92, 3000), (20, 42, 4000)])
def test_a_start_looks_at_as_many_rows_as_take_some_seconds(components, features, taken, monkeypatch):
    """1.2e10 products for R K (D + 8)^2 of a row, 1000 rows at least."""
    asked = []
    monkeypatch.setattr(GMM, "maximise", lambda self, batch, *_: (asked.append(batch), [{}])[1])
    x = torch.arange(4000.0)[:, None].expand(4000, features)
    GMM(features, components, "diag").initial(Batch.of(x=x))
    assert asked[0].size == taken
    assert len(asked[0].x[:, 0].unique()) == taken
