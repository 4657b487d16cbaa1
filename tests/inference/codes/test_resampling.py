"""Resampled codes come as often as their weights say, down to the last one; SciPy says what the weights are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import multivariate_normal, norm

from inference.codes.imputation import _resample, impute
from inference.codes.reading import Codes
from inference.data.check import check
from tests.helpers.codes import HoleyFactors


def log_weights(pair, x, z):
    """log p(x_observed, z) / q(z | x) of codes of one row, (K,), by SciPy."""
    seen = ~np.isnan(x)
    weight, scale = pair.weight.numpy(), pair.scale.numpy()
    precision = np.eye(2) + (weight[seen] / scale[seen, None] ** 2).T @ weight[seen]
    covariance = np.linalg.inv(precision)
    loc = covariance @ (weight[seen].T @ (x[seen] / scale[seen] ** 2))
    guide = multivariate_normal(loc + pair.shift * np.sqrt(np.diag(covariance)), pair.widen**2 * covariance)
    likelihood = norm(z @ weight[seen].T, scale[seen]).logpdf(x[seen]).sum(-1)
    return multivariate_normal(np.zeros(2), np.eye(2)).logpdf(z) + likelihood - guide.logpdf(z)


@pytest.mark.parametrize("proposals", [10, 300])
def test_each_code_is_taken_as_often_as_its_weight_says(proposals, monkeypatch):
    """Systematic resampling takes a code of weight w of S either floor(S w) or ceil(S w) times, also the last one."""
    pair, count = HoleyFactors().double(), 5000
    torch.manual_seed(3)
    x = pair.simulate(4)[0].x
    x[0, 1:] = torch.nan
    x[1, 0] = torch.nan
    x[2] = torch.nan
    given, proposed = check(pair, x), []
    propose = Codes.propose

    def noted(*args):
        values, log_q = propose(*args)
        proposed.append(values["z"])
        return values, log_q

    monkeypatch.setattr(Codes, "propose", noted)
    values, effective = _resample(Codes.of(given), given.batch, count, proposals, {})
    z = torch.cat(proposed).numpy()  # (K, B, 2)
    for row in range(4):
        weights = softmax(log_weights(pair, x[row].numpy(), z[:, row]))
        taken = (values["z"][:, row, None].numpy() == z[None, :, row]).all(-1).sum(0)
        assert taken.sum() == count
        assert (np.abs(taken - count * weights) < 1 + 1e-6).all()
        assert float(effective[row]) == pytest.approx(1 / np.sum(weights**2), rel=1e-9)


def test_the_effective_sample_size_is_that_of_two_normals():
    """K / ESS -> E_q[(p / q)^2], in closed form for p = N(0, I), q = N(m, s^2 I) in two dimensions."""
    pair, proposals = HoleyFactors().double(), 40_000
    found = impute(pair, torch.full((1, 5), torch.nan).double(), draws=4, proposals=proposals)
    s2, m = pair.widen**2, pair.shift
    # In one dimension: s^2 / sqrt(2 s^2 - 1) exp(m^2 / (2 s^2 - 1)).
    second = (s2 / (2 * s2 - 1) ** 0.5 * np.exp(m**2 / (2 * s2 - 1))) ** 2
    z = np.random.default_rng(0).normal(m, pair.widen, (200_000, 2))
    w = np.exp(multivariate_normal([0, 0], np.eye(2)).logpdf(z) - multivariate_normal([m, m], s2 * np.eye(2)).logpdf(z))
    assert np.mean(w**2) == pytest.approx(second, rel=4 * np.std(w**2) / second / 200_000**0.5)
    error = np.std(w**2 / second - 2 * w) / proposals**0.5  # of sum w^2 / (sum w)^2, to first order
    assert float(found.ess[0]) / proposals == pytest.approx(1 / second, rel=4 * error)
