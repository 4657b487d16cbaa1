"""Expectation maximisation: `Rows` against the moments and densities that it stands for, and the race of starts."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris

from zoo.parts.em import gaussian, kmeans

R, K = 4, 3
SIZES = [(1, 50), (2, 300), (4, 5000), (5, 2100)]  # features and rows: one block and several, D even and odd


def normals(D, correlated):
    """Log weights, means and factors of R mixtures of K normals."""
    weights = torch.rand(R, K, dtype=torch.float64).log_softmax(-1)
    factors = torch.rand(R, K, D, dtype=torch.float64) + 0.5
    if correlated:
        factors = torch.diag_embed(factors) + 0.3 * torch.randn(R, K, D, D, dtype=torch.float64).tril(-1)
    return weights, torch.randn(R, K, D, dtype=torch.float64) + 5, factors


def log_joint(x, weights, locs, factors):
    """log p(z = k, x_n), (R, N, K), by PyTorch's own density."""
    tril = factors if factors.ndim == 4 else torch.diag_embed(factors)
    density = torch.distributions.MultivariateNormal(locs, scale_tril=tril)
    return density.log_prob(x[:, None, None]).transpose(0, 1) + weights.unsqueeze(1)


def assert_moments(found, x, responsibility, rtol=1e-9):
    count, locs, scatter = gaussian.moments(x, responsibility)
    if found[2].ndim == 3:
        scatter = scatter.diagonal(dim1=-2, dim2=-1)
    for ours, exact in zip(found, (count, locs, scatter), strict=True):
        torch.testing.assert_close(ours, exact, rtol=rtol, atol=rtol * exact.abs().amax().item())


@pytest.mark.parametrize("correlated", [True, False])
@pytest.mark.parametrize(("D", "N"), SIZES)
def test_two_products_are_the_moments_and_the_density(D, N, correlated):
    torch.manual_seed(0)
    x = 5 + 3 * torch.randn(N, D, dtype=torch.float64)
    rows = gaussian.Rows(x, correlated)
    responsibility = torch.rand(R, N, K, dtype=torch.float64)
    assert_moments(rows.assigned(responsibility, hard=False), x, responsibility)

    parameters = normals(D, correlated)
    joint = log_joint(x, *parameters)
    likelihood, moments = rows.step(*parameters)
    torch.testing.assert_close(likelihood, joint.logsumexp(-1).sum(-1), rtol=1e-12, atol=0)
    assert_moments(moments, x, joint.softmax(-1))


def test_hard_moments_are_those_of_the_nearest_mean():
    torch.manual_seed(0)
    x = torch.randn(3000, 2, dtype=torch.float64) * torch.tensor([1.0, 1e4])
    means = x[:12].view(R, K, 2)
    unit = x.std(0, correction=0)
    hard = torch.nn.functional.one_hot(torch.cdist(means / unit, x / unit).argmin(1), K).double()
    assert_moments(gaussian.Rows(x, True).assigned(means, hard=True), x, hard)


@pytest.mark.parametrize("correlated", [True, False])
def test_narrow_components_far_apart_do_not_drown_in_rounding(correlated, monkeypatch):
    torch.manual_seed(0)
    apart = 1e9
    x = torch.randn(400, 2, dtype=torch.float64)
    x[200:] += apart
    locs = torch.tensor([[[0.0, 0.0], [apart, apart], [apart / 2, 0.0]]], dtype=torch.float64)
    factors = torch.tensor([1.0, 1.0, 1e9], dtype=torch.float64).view(1, 3, 1).expand(1, 3, 2)
    factors = torch.diag_embed(factors) if correlated else factors
    parameters = torch.full((1, 3), -math.log(3), dtype=torch.float64), locs, factors

    def error():
        joint = log_joint(x, *parameters)
        likelihood, moments = gaussian.Rows(x, correlated).step(*parameters)
        exact = gaussian.moments(x, joint.softmax(-1))[2].diagonal(dim1=-2, dim2=-1)
        ours = moments[2].diagonal(dim1=-2, dim2=-1) if correlated else moments[2]
        return (ours / exact - 1)[0, :2].abs().max(), (likelihood - joint.logsumexp(-1).sum(-1)).abs() / len(x)

    # means of the size of `apart` are known to 1e-16 of it
    assert max(error()) < 1e-5
    monkeypatch.setattr(gaussian, "FAR", 1e50)  # without the differences there is nothing left
    assert min(error()) > 0.1


def test_a_constant_feature_of_a_component_correlates_with_none():
    x = torch.randn(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[:30, 0], x[30:, 0], x[:, 2] = 0.1, 0.7, 1e6 / 3
    responsibility = torch.zeros(1, 60, 2, dtype=torch.float64)
    responsibility[0, :30, 0] = responsibility[0, 30:, 1] = 1
    _, locs, scatter = gaussian.Rows(x, True).assigned(responsibility, hard=False)
    torch.testing.assert_close(locs[0, :, [0, 2]], x[[0, 59]][:, [0, 2]])
    assert ((scatter[0] - torch.diag_embed(scatter[0].diagonal(dim1=-2, dim2=-1))) == 0).all()
    assert (scatter[0, :, 0, 0] < 1e-12).all()
    assert (scatter[0, :, 2, 2] == 0).all()


@pytest.mark.parametrize("starts", [1, 2, 3, 4, 20])
@pytest.mark.parametrize("N", [2, 40])
def test_starting_means_are_finite_and_as_many_as_asked(starts, N):
    x = torch.randn(N, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    means = gaussian.means(x, K, starts)
    assert means.shape == (starts, K, 2)
    assert means.isfinite().all()


def race(scores, iterations=100, tolerance=1e-3):
    """Climb starts whose scores are known in advance; returns what it found, and how far each start went."""
    scores = torch.tensor(scores, dtype=torch.float64)  # (iterations, R)
    steps = torch.zeros(scores.shape[1], dtype=torch.long)

    def m_step(count, locs, scatter):
        return {"start": locs, "step": count}

    def e_step(values):
        steps[values["start"]] += 1
        return scores[values["step"], values["start"]], (values["step"] + 1, values["start"], values["start"])

    starts = torch.arange(scores.shape[1])
    values, trace = gaussian.climb((0 * starts, starts, starts), m_step, e_step, iterations, tolerance)
    return {name: int(value) for name, value in values.items()}, trace, steps.tolist()


def test_the_race_ends_by_tolerance_and_leaves_out_those_behind():
    n = 60
    behind = [-0.1 - 5e-3 * 0.9**i for i in range(n)]  # twenty steps like the sixth gain 0.006
    ahead = [-(0.5**i) for i in range(n)]  # gains less than 1e-3 from step 11 on
    late = [-9 + 0.5 * i if i < 40 else 11 - 0.5 ** (i - 38) for i in range(n)]  # behind for long, but steep
    scores = [list(each) for each in zip(behind, ahead, late, strict=True)]
    found, trace, steps = race(scores, tolerance=1e-3)
    assert steps == [2, 11, 49]
    assert found == {"start": 2, "step": 48}
    assert trace == pytest.approx(late[:49])
    _, trace, steps = race(scores, tolerance=0, iterations=50)
    assert steps == [6, 20, 50]  # the second when the third has overtaken it
    assert len(trace) == 50


def test_the_best_start_is_followed_to_its_end():
    found, trace, _ = race([[-3.0, -4.0], [-1.0, -2.0], [-1.1, -1.5], [-1.1, -1.5]])
    assert found == {"start": 0, "step": 3}  # not where it stood highest: EM has not converged there
    assert trace == [-3, -1, -1.1, -1.1]


def test_a_start_that_is_lost_does_not_take_the_others_along():
    found, _, steps = race([[math.nan, -1.0], [math.nan, -0.5], [math.nan, -0.5]])
    assert found == {"start": 1, "step": 2}
    assert steps == [2, 3]


def test_kmeans_goes_the_way_of_scikit_learn_from_the_same_seeds():
    x = torch.from_numpy(load_iris().data)
    torch.manual_seed(0)
    seeds = kmeans.seed(x, 3, 8)
    torch.manual_seed(0)
    found = kmeans.kmeans(x, 3, 8, iterations=4).argmax(-1)
    for own, first in zip(found, seeds, strict=True):
        options = {"n_init": 1, "max_iter": 4, "tol": 0, "algorithm": "lloyd"}
        with warnings.catch_warnings():  # that four iterations may not be enough
            warnings.simplefilter("ignore")
            wanted = KMeans(3, init=first.numpy(), **options).fit(x.numpy()).predict(x.numpy())
        np.testing.assert_array_equal(own, wanted)
