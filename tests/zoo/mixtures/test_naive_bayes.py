"""naive_bayes against conjugate posteriors in closed form, quadrature, scikit-learn, and simulated classes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.special import gammaln, logsumexp

import inference
import zoo
from inference.running.densities import run
from tests.helpers.classes import (
    COLUMNS,
    ILL,
    MIXED,
    QUICK,
    batch_of,
    frame,
    made,
    simulated,
    started,
)
from zoo.settings import settings

CONJUGATE = ["real", "positive", "binary", ("x4", "categorical", "abc"), "real", ("x6", "ordinal", (1, 2, 3))]


def table(rows=60, classes=3, missing=0.15, seed=0):
    """Rows of `CONJUGATE` columns in odd units, with holes, and their classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=rows)
    numbers = rng.normal(y[:, None] * [1.0, 0.5, -2.0], [1.0, 0.3, 2.0])
    binary = rng.random(rows) < [0.2, 0.5, 0.9][:classes] * np.eye(classes)[y] @ np.ones(classes)
    codes = (rng.integers(3, size=(rows, 2)) + y[:, None] * (rng.random((rows, 2)) < 0.5)) % 3
    x = np.stack(
        [numbers[:, 0], np.exp(numbers[:, 1]), binary, codes[:, 0], 1e3 + 50 * numbers[:, 2], codes[:, 1]], axis=1
    )
    x[rng.random(x.shape) < missing] = np.nan
    x[np.isnan(x).all(1), 0] = 0.0
    return x, y.astype(float)


def numbers_of(x):
    """Real cells and the logs of positive ones, in the order of the sites `loc` and `variance`."""
    return np.stack([x[:, 0], x[:, 4], np.log(x[:, 1])], axis=1)


def cells_of(values, chosen):
    return values[chosen & ~np.isnan(values)]


def normal_inverse_gamma(pair, values):
    """(kappa, loc, shape, rate) and the log evidence of one column of one class (Murphy 2007, section 6)."""
    column, cells = values
    centre, unit = float(pair.columns.centre[column]), float(pair.columns.unit[column])
    kappa, a, b = float(pair.kappa), float(pair.a), float(pair.b) * unit**2
    n, mean = len(cells), cells.mean() if len(cells) else 0.0
    rate = b + 0.5 * ((cells - mean) ** 2).sum() + 0.5 * kappa * n * (mean - centre) ** 2 / (kappa + n)
    loc, shape = (kappa * centre + n * mean) / (kappa + n), a + n / 2
    evidence = gammaln(shape) - gammaln(a) + a * np.log(b) - shape * np.log(rate)
    return (kappa + n, loc, shape, rate), evidence + 0.5 * np.log(kappa / (kappa + n)) - n / 2 * np.log(2 * np.pi)


def dirichlet_evidence(alpha, counts):
    alpha = np.full(len(counts), alpha)
    return gammaln(alpha.sum()) - gammaln((alpha + counts).sum()) + (gammaln(alpha + counts) - gammaln(alpha)).sum()


def log_evidence(pair, x, y):
    """log p(x, y) in closed form."""
    K, real = pair.classes, numbers_of(x)
    total = dirichlet_evidence(float(pair.alpha_0), np.bincount(y.astype(int), minlength=K))
    total -= np.log(cells_of(x[:, 1], y >= 0)).sum()  # of the log-normal: d log x / dx
    for k in range(K):
        for j, column in enumerate((0, 4, 1)):
            total += normal_inverse_gamma(pair, (column, cells_of(real[:, j], y == k)))[1]
        for column, size in ((2, 2), (3, 3), (5, 3)):
            counts = np.bincount(cells_of(x[:, column], y == k).astype(int), minlength=size)
            total += dirichlet_evidence(float(pair.alpha), counts)
    return total


def log_weights(pair, x, y, draws=200):
    """log p(x, y, globals) - log q(globals) of draws from the guide."""
    stats = inference.draw(pair, batch_of(x, y), draws).stats
    return (stats["log_p"] - stats["log_q"])[0].numpy()


# --- the conjugate posterior ----------------------------------------------------------------------------------------


def test_with_known_classes_the_guide_starts_as_the_exact_posterior():
    """log p(data, draw) - log q(draw) is log p(data) at every draw: only the exact posterior does that."""
    x, y = table()
    pair = started(made(CONJUGATE, 3, loc_count=0.3, variance_rate=0.2, category_concentration=0.7), x, y)
    np.testing.assert_allclose(log_weights(pair, x, y), log_evidence(pair, x, y), rtol=1e-9)


def test_a_fit_reaches_the_exact_posterior_and_stays_there():
    """From the posterior of the first half of the rows: 17 nats below the evidence, then 0, then still 0."""
    x, y = table(120)
    pair = started(made(CONJUGATE, 3), x[:60], y[:60])
    wanted = log_evidence(pair, x, y)  # under the centres and units of the half
    assert log_weights(pair, x, y).mean() < wanted - 10
    with pytest.warns(inference.KeptConstants, match="columns.centre, columns.unit"):
        inference.fit(pair, batch_of(x, y), initialise=False, lr=0.03, steps=400, **QUICK)
    np.testing.assert_allclose(log_weights(pair, x, y), wanted, atol=0.05)
    assert log_weights(pair, x, y).mean() == pytest.approx(wanted, abs=0.005)
    # Adam's steps are as long as ever where the gradient is rounding: it strays in proportion to them.
    inference.fit(pair, batch_of(x, y), initialise=True, lr=3e-3, steps=300, **QUICK)
    np.testing.assert_allclose(log_weights(pair, x, y), log_evidence(pair, x, y), atol=1e-3)


def test_the_evidence_check_sees_a_posterior_that_is_off():
    x, y = table()
    pair = started(made(CONJUGATE, 3), x, y)
    with torch.no_grad():
        pair.factors["loc"].log_precision += 0.01
    assert log_weights(pair, x, y).std() > 1e-3


def test_draws_have_the_moments_of_the_conjugate_posterior():
    """Beta, Dirichlet, inverse gamma and Student-t means and deviations, by 4 standard errors of 4,000 draws."""
    x, y = table()
    pair = started(made(CONJUGATE, 3), x, y)
    draws = inference.draw(pair, batch_of(x, y), 4000).draws
    for k in range(3):
        exact = {}
        for j, column in enumerate((0, 4, 1)):
            values = cells_of(numbers_of(x)[:, j], y == k)
            (kappa, loc, shape, rate), _ = normal_inverse_gamma(pair, (column, values))
            exact["loc", k, j] = scipy.stats.t(2 * shape, loc, np.sqrt(rate / shape / kappa))
            exact["variance", k, j] = scipy.stats.invgamma(shape, scale=rate)
        for name, place, column, size in (("probs_2", 0, 2, 2), ("probs_3", 0, 3, 3), ("probs_3", 1, 5, 3)):
            counts = 1 + np.bincount(cells_of(x[:, column], y == k).astype(int), minlength=size)
            for c in range(size):
                exact[name, k, place, c] = scipy.stats.beta(counts[c], counts.sum() - counts[c])
        for (name, *index), wanted in exact.items():
            found = draws[name][0][(slice(None), *index)]
            error = wanted.std() / np.sqrt(4000)
            assert float(found.mean()) == pytest.approx(wanted.mean(), abs=4 * error), (name, index)
            relative = np.sqrt((float(wanted.stats("k")) + 2) / 4 / 4000)  # of a sample standard deviation
            assert float(found.std()) == pytest.approx(wanted.std(), rel=4 * relative), (name, index)


def test_counts_agree_with_quadrature():
    """One class, one column: log evidence, means and deviations of log mean and log r on a grid."""
    x = np.random.default_rng(0).negative_binomial(3, 0.2, size=(40, 1)).astype(float)
    pair = made(["count"], 1)
    fit = inference.fit(pair, batch_of(x), steps=400, **QUICK)
    loc, unit = (float(part) for part in pair.columns.log_mean())
    u, v = np.linspace(1.5, 3.5, 161), np.linspace(-2, 5, 281)
    r, mean = np.exp(v)[:, None], np.exp(u)[:, None, None]
    log_joint = scipy.stats.nbinom.logpmf(x[:, 0], r, r / (r + mean)).sum(-1)  # (161, 281)
    log_joint += scipy.stats.norm.logpdf(u, loc, 2 * unit)[:, None] + scipy.stats.norm.logpdf(v, 2, 2)
    evidence = logsumexp(log_joint) + np.log((u[1] - u[0]) * (v[1] - v[0]))
    weight = np.exp(log_joint - logsumexp(log_joint))
    posterior = inference.draw(pair, batch_of(x), 4000)
    log_weight = (posterior.stats["log_p"] - posterior.stats["log_q"])[0]
    estimate = torch.logsumexp(log_weight, 0) - np.log(4000)
    spread = (log_weight - log_weight.max()).exp()
    assert abs(float(estimate) - evidence) < 4 * float(spread.std() / spread.mean()) / np.sqrt(4000) + 1e-3
    assert 0 < evidence + fit.losses[-100:].mean() * len(x) < 0.1
    for name, axis, grid in (("mean", 1, u), ("concentration", 0, v)):
        marginal = weight.sum(axis)
        wanted = (marginal * grid).sum()
        sd = np.sqrt((marginal * (grid - wanted) ** 2).sum())
        found = posterior.draws[name].log()
        assert float(found.mean()) == pytest.approx(wanted, abs=0.15 * sd)
        assert float(found.std()) == pytest.approx(sd, rel=0.15)


# --- known labels ---------------------------------------------------------------------------------------------------


def test_class_probabilities_are_those_of_bayes_rule():
    x, y = table()
    pair = started(made(CONJUGATE, 3), x, y)
    posterior = inference.draw(pair, batch_of(x, y), 5)
    values = {name: value[0].numpy() for name, value in posterior.draws.items()}
    joint = np.repeat(np.log(values["weights"])[:, :, None], len(x), axis=2)  # (S, K, N)
    for j, cells in enumerate(numbers_of(x).T):
        loc, scale = values["loc"][:, :, j, None], np.sqrt(values["variance"][:, :, j, None])
        joint += np.nan_to_num(scipy.stats.norm.logpdf(cells, loc, scale))
    for name, place, column in (("probs_2", 0, 2), ("probs_3", 0, 3), ("probs_3", 1, 5)):
        codes = np.nan_to_num(x[:, column]).astype(int)
        joint += np.where(np.isnan(x[:, column]), 0, np.log(values[name][:, :, place])[:, :, codes])
    wanted = np.exp(joint - logsumexp(joint, axis=1, keepdims=True)).mean(0).T
    hidden = np.full(len(x), np.nan)
    for data in (x, batch_of(x), batch_of(x, hidden)):  # a label that is absent, and one that is NaN
        np.testing.assert_allclose(inference.assignments(pair, posterior, data)["label"], wanted, rtol=1e-8, atol=1e-12)
    known = inference.assignments(pair, posterior, batch_of(x, y))["label"]
    np.testing.assert_array_equal(known, np.eye(3)[y.astype(int)])


# --- hidden labels --------------------------------------------------------------------------------------------------


def test_more_rows_than_fit_into_memory_are_thinned_with_their_weight():
    x, y, _ = simulated(2000, 4)
    partly = np.where(np.arange(2000) % 20 == 0, y, np.nan)
    whole = started(made(MIXED, 3), x, partly).factors["weights"]().precision.item()
    with settings.using(em_numbers=1000):
        thin = started(made(MIXED, 3), x, partly)
    assert thin.factors["weights"]().precision.item() == pytest.approx(whole, rel=1e-9)
    posterior = inference.draw(thin, batch_of(x, partly), 50)
    assert (inference.assignments(thin, posterior, x)["label"].argmax(-1).numpy() == y).mean() > 0.95


# --- tables, units, bad input ---------------------------------------------------------------------------------------


def test_the_units_of_the_table_do_not_matter():
    x, y = table(missing=0.0)
    factor = np.array([1e6, 1e-5, 1, 1, 1e3, 1])
    shift = np.array([0, 0, 0, 0, 1e5, 0])
    found = []
    for data in (x, x * factor + shift):
        pair = started(made(CONJUGATE, 3), data, y)
        posterior = inference.draw(pair, batch_of(data, y), 20, seed=1)
        found.append((inference.assignments(pair, posterior, data)["label"], posterior["loc"]))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found[0][1][..., 0] * 1e6, found[1][1][..., 0], rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"age": [None] * 6}, "column 'age': all 6 cells are missing"),
        ({"ill": ["sick"] * 6}, "target 'ill' holds only 'sick', in every row"),
        ({"visits": [0, 3, -1, 1, 7, 2]}, "column 'visits', row 2: expected a whole number of at least 0, got -1"),
        ({"smokes": ["no", "yse", "yes", None, "yes", "no"]}, "'smokes', row 1: 'yse' is none.*did you mean 'yes'"),
        ({"ill": ["well", "sick", "ok", "well", None, "well"]}, "'ill', row 2: 'ok' is none of its categories"),
        ({"age": [31.0, None, 2.0, 28.0, 61.2, 39.9], "visits": [0, None, 1, 1, 7, 2],
          "smokes": ["no", None, "yes", None, "yes", "no"]}, "row 1: every cell is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused_by_name_before_step_one(change, words):
    pair = zoo.create("naive_bayes", columns=COLUMNS, target=ILL)
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        inference.fit(pair, frame().assign(**change), steps=2, **QUICK)
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    assert pair.card == {}


def test_absent_kinds_have_no_site_and_single_categories_no_weight():
    for columns, sites in (
        (["count"], {"weights", "mean", "concentration"}),
        (["positive"], {"weights", "variance", "loc"}),
        (["binary", ("c", "categorical", ("only",))], {"weights", "probs_1", "probs_2"}),
    ):
        pair = made(columns)
        torch.manual_seed(0)
        batch, truth = pair.simulate(20)
        assert truth.keys() == sites | {"label"}
        assert torch.equal(batch.y, truth["label"].double())
        scores = run(pair, batch.but(y=torch.full_like(batch.y, torch.nan)), 2).likelihood
        assert torch.isfinite(scores).all()
        if "probs_1" in sites:
            torch.testing.assert_close(truth["probs_1"], torch.ones(2, 1, 1).double())


def test_a_new_row_weighs_draws_by_how_well_they_predict_it():
    """p(z | x, D) = sum_t p(x, z | t) / sum_t p(x | t) over draws t of p(t | D)."""
    x, y = table(rows=12)
    pair = started(made(CONJUGATE, 3), x, y)
    posterior = inference.draw(pair, batch_of(x, y), 7)
    row = x[:5]
    joint = torch.stack(
        [
            inference.log_likelihood(pair, posterior, batch_of(row, np.full(5, float(k)))).flatten(0, 1).exp().mean(0)
            for k in range(3)
        ],
        dim=-1,
    )
    exact = joint / joint.sum(-1, keepdim=True)
    found = inference.assignments(pair, posterior, row, new=True)["label"]
    torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-12)
    assert (inference.assignments(pair, posterior, row)["label"] - exact).abs().max() > 1e-3


def test_categories_are_reconstructed_by_vote():
    """Classes 0 and 2 in equal parts stand for one of them, not for category 1 between them."""
    pair = made([("colour", "categorical", "abc"), "real"], target=3)
    x = np.repeat([[0.0, -1.0], [2.0, 1.0]], [30, 20], axis=0)
    started(pair, x, np.repeat([0.0, 2.0], [30, 20]))
    again = inference.reconstruct(pair, np.array([[np.nan, np.nan], [2.0, 1.0], [0.0, -1.0]]))
    assert again[:, 0].tolist() == [0.0, 2.0, 0.0]
    weights = inference.draw(pair, x, 2000)["weights"].mean((0, 1))
    means = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    assert float(again[0, 1]) == pytest.approx(float(weights @ means), abs=0.1)
