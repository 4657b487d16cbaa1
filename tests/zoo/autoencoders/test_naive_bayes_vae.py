"""naive_bayes_vae against SciPy's formulas, the exact posterior of its linear-Gaussian case, and real holes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.special import expit

import inference
import zoo
from inference.codes.encoding import encode
from inference.codes.imputation import impute
from inference.fitting.objective import choose
from inference.running.densities import run
from zoo.datasets import Schema

KINDS = Schema.of(
    ["real", ("price", "positive"), ("visits", "count"), "binary", ("colour", "categorical", "abc"),
     ("grade", "ordinal", (1, 2, 3, 4))]
)  # fmt: skip


def made(seed=0, rows=12, **config):
    torch.manual_seed(seed)
    pair = zoo.create("naive_bayes_vae", **({"columns": KINDS, "latent": 2} | config)).double()
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return pair, pair.simulate(rows)[0].x


def punched(x, rate, seed=0):
    holes = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < rate
    return torch.where(holes, torch.nan, x)


def linear_gaussian(features=5, seed=0, exact=True):
    """One latent, linear decoder w z + b, noise s; the experts hold N(z | (x - b) / w, s^2 / w^2) when exact."""
    torch.manual_seed(seed)
    pair = zoo.create("naive_bayes_vae", columns=["real"] * features, latent=1, hidden=(), expert=None).double()
    w = torch.randn(features, dtype=torch.float64) + 1.5
    b, s = torch.randn(features, dtype=torch.float64), torch.rand(features, dtype=torch.float64) + 0.3
    with torch.no_grad():
        pair.decoder[0].weight.copy_(w[:, None])
        pair.decoder[0].bias.copy_(b)
        pair.scale = s
        if exact:
            pair.experts.slope.copy_(1 / w[:, None])
            precision = w.square() / s.square()
            pair.experts.bias.copy_(torch.stack([-b / w, torch.log(torch.expm1(precision))], -1))
    return pair, w, b, s


def evidence(x, w, b, s):
    """log p of the observed cells of each row, from their joint normal distribution."""
    found = []
    for row in x:
        seen = ~row.isnan()
        if not seen.any():
            found.append(0.0)
            continue
        covariance = w[seen, None] * w[seen] + s[seen].square().diag()
        mean = b[seen]
        found.append(scipy.stats.multivariate_normal(mean.numpy(), covariance.numpy()).logpdf(row[seen].numpy()))
    return torch.tensor(np.array(found))


def test_log_density_equals_scipy_cell_by_cell():
    pair, x = made()
    z = torch.randn(len(x), 2, dtype=torch.float64)
    with torch.no_grad():
        h = pair.decoder(z).numpy()
        decoded = pair.decode(z)
        found, means = decoded.cell_log_prob(x).numpy(), decoded.count_mean[:, 0].numpy()
        gaps, scale, r = pair.gaps[0].numpy(), pair.scale.numpy(), pair.concentration.numpy()
    logits = h[:, 3:].reshape(len(x), 3, 4)
    cuts = np.concatenate([[-np.inf], gaps[0] + np.concatenate([[0], np.exp(gaps[1:]).cumsum()]), [np.inf]])
    for n, row in enumerate(x.numpy()):
        grade, mean = int(row[5]), means[n]
        wanted = [
            scipy.stats.norm.logpdf(row[0], h[n, 0], scale[0]),
            scipy.stats.lognorm.logpdf(row[1], scale[1], scale=math.exp(h[n, 1])),
            scipy.stats.nbinom.logpmf(row[2], r[0], r[0] / (r[0] + mean)),
            math.log(expit((2 * row[3] - 1) * (logits[n, 0, 1] - logits[n, 0, 0]))),
            logits[n, 1, int(row[4])] - np.logaddexp.reduce(logits[n, 1, :3]),
            math.log(expit(cuts[grade + 1] - logits[n, 2, 0]) - expit(cuts[grade] - logits[n, 2, 0])),
        ]
        np.testing.assert_allclose(found[n], wanted, rtol=1e-9)


@pytest.mark.parametrize("tempered", [False, True])
def test_guide_is_the_product_of_prior_and_experts_of_the_cells_that_are_there(tempered):
    pair, x = made(tempered=tempered)
    x = punched(x, 0.5)
    x[0] = torch.nan
    alone = torch.where(torch.eye(6, dtype=torch.bool)[:, None], x, torch.nan)  # (D, B, D): a cell by itself
    with torch.no_grad():
        precision, weighted = (part.transpose(0, 1) for part in pair.experts(alone))  # (B, D, L)
        q = pair.encode(x)
    for n, row in enumerate(x):
        seen = (~row.isnan()).nonzero().flatten().tolist()
        power = 1 / max(1, len(seen)) if tempered else 1.0
        total = 1 + power * sum((precision[n, d] for d in seen), torch.zeros(2, dtype=torch.float64))
        loc = power * sum((weighted[n, d] for d in seen), torch.zeros(2, dtype=torch.float64)) / total
        torch.testing.assert_close(q.mean[n], loc)
        torch.testing.assert_close(q.stddev[n], total.rsqrt())
    assert torch.equal(q.mean[0], torch.zeros(2, dtype=torch.float64))
    assert torch.equal(q.stddev[0], torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("columns", [KINDS, ["real"] * 9, ["binary"]])
def test_at_the_start_all_cells_together_weigh_as_much_as_the_prior(columns):
    """N(0, 1) and experts whose precisions sum to one: a complete row leaves a variance of 1 / 2."""
    torch.manual_seed(0)
    pair = zoo.create("naive_bayes_vae", columns=columns, latent=1, expert=None).double()
    with torch.no_grad():
        q = pair.encode(pair.simulate(5)[0].x)
    torch.testing.assert_close(q.stddev, torch.full((5, 1), 0.5**0.5, dtype=torch.float64), rtol=1e-6, atol=0)


def test_experts_can_hold_the_exact_posterior_for_every_pattern_of_holes():
    pair, w, b, s = linear_gaussian()
    x = punched(pair.simulate(40)[0].x, 0.4)
    wanted = evidence(x, w, b, s)
    batch = zoo.Batch.of(x)
    for seed in range(3):  # log p(x, z) - log q(z | x) is log p(x) whatever z is
        torch.manual_seed(seed)
        torch.testing.assert_close(run(pair, batch).log_weight.detach(), wanted, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        pair.experts.slope.mul_(1.1)  # the check can fail
    assert (run(pair, batch).log_weight - wanted).abs().max() > 1e-3


@pytest.mark.slow
def test_the_exact_posterior_is_reached_by_fitting():
    truth, *_ = linear_gaussian(seed=3)
    torch.manual_seed(1)
    x = punched(truth.simulate(300)[0].x, 0.3)
    x = x[(~x.isnan()).any(1)]
    pair, *_ = linear_gaussian(seed=4, exact=False)
    with pytest.warns(inference.KeptConstants, match="keeps the constants it was made with"):  # parameters set by hand
        inference.fit(pair, x, steps=2000, lr=2e-2, progress=False)
    unit, centre = pair.columns.unit, pair.columns.centre
    with torch.no_grad():
        w, b = unit * pair.decoder[0].weight[:, 0], centre + unit * pair.decoder[0].bias
        exact = evidence(x, w, b, unit * pair.scale)
        torch.manual_seed(0)
        bound = run(pair, zoo.Batch.of(x), 200).log_weight.mean(0)
    error = float((exact - bound).mean())
    assert -1e-3 < error < 0.005 * abs(float(exact.mean())), "nats per row between the bound and the evidence"


def test_no_number_is_nan_for_any_pattern_of_holes_a_row_without_cells_included():
    pair, x = made(rows=64)
    every = torch.tensor([[n >> d & 1 for d in range(6)] for n in range(64)], dtype=torch.bool)  # all 2^6 patterns
    x = torch.where(every, torch.nan, x)
    batch = zoo.Batch.of(x)
    loss = choose(pair, batch).loss(pair, batch)
    gradients = torch.autograd.grad(loss, list(pair.parameters()))
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    found = impute(pair, x, draws=5)
    assert torch.isfinite(found.values).all()
    assert torch.equal(found.table(0).isnan(), torch.zeros_like(every))
    assert pair.simulate(2)[0].x.isfinite().all()
    kept = ~x.isnan()
    assert torch.equal(found.table(1)[kept], x[kept])


def test_imputations_are_draws_of_the_exact_conditional_distribution():
    pair, w, b, s = linear_gaussian(features=4)
    row = pair.simulate(1)[0].x
    row[0, 3] = torch.nan
    found = impute(pair, row, draws=4000, proposals=500).values[0, :, 0]
    precision = 1 + (w[:3].square() / s[:3].square()).sum()
    z = (w[:3] * (row[0, :3] - b[:3]) / s[:3].square()).sum() / precision
    mean, sd = float(w[3] * z + b[3]), float((w[3].square() / precision + s[3].square()).sqrt())
    assert float(found.mean()) == pytest.approx(mean, abs=4 * sd / math.sqrt(4000))
    assert float(found.std()) == pytest.approx(sd, rel=4 / math.sqrt(2 * 4000))


def test_units_of_the_table_do_not_matter():
    _, x = made(rows=100)
    scaled = x.clone()
    scaled[:, 0] = 1e5 + 1e4 * x[:, 0]
    scaled[:, 1] *= 1e-3
    losses = []
    for data in (x, scaled):
        torch.manual_seed(0)
        pair = zoo.create("naive_bayes_vae", columns=KINDS).double()
        losses.append(inference.fit(pair, data, steps=30, progress=False, compile="off").losses)
    shift = math.log(1e4) + math.log(1e-3)  # of the log density, from the change of units
    np.testing.assert_allclose(losses[1], losses[0] + shift, rtol=1e-6)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x: x.index_fill(1, torch.tensor(1), torch.nan), "column 'price': all 12 cells are missing"),
        (lambda x: x.index_fill(0, torch.tensor(4), torch.nan), "row 4: every cell is missing"),
        (
            lambda x: x.index_put((torch.tensor(2), torch.tensor(1)), torch.tensor(0.0).double()),
            "row 2, column 'price'",
        ),
        (lambda x: x.index_put((torch.tensor(3), torch.tensor(2)), torch.tensor(-1.0).double()), "row 3, column 'vis"),
        (lambda x: x.index_put((torch.tensor(5), torch.tensor(4)), torch.tensor(3.0).double()), "row 5, column 'colo"),
    ],
    ids=["column-missing", "row-missing", "positive-zero", "count-below-zero", "category"],
)
def test_cells_that_cannot_be_are_refused_by_column_before_step_one(spoil, words):
    pair, x = made()
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        inference.fit(pair, spoil(x), steps=2, progress=False)
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())


def test_more_latents_than_columns_are_refused():
    with pytest.raises(ValueError, match="latent=7 is larger than the number of columns, 6"):
        zoo.create("naive_bayes_vae", columns=KINDS, latent=7)


def test_a_table_in_the_users_own_words_goes_in_and_survives_saving(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"age": [31, 44, None, 28, 51], "city": ["Rome", None, "Oslo", "Rome", "Oslo"]})
    schema = Schema.infer(frame, age="count")
    pair = zoo.create("naive_bayes_vae", columns=schema, latent=1)
    inference.fit(pair, frame, steps=5, progress=False)
    again = zoo.load(pair.save(tmp_path / "run"))
    assert again.schema == schema
    found = encode(again, frame)
    torch.testing.assert_close(found.mean["z"], encode(pair, frame).mean["z"])
    with pytest.raises(ValueError, match="'Bergen' is none of its categories; they are Oslo, Rome"):
        encode(pair, frame.assign(city="Bergen"))
    with pytest.raises(ValueError, match=r"the schema has 'age', .*the table has 'years'"):
        encode(pair, frame.rename(columns={"age": "years"}))


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_intervals_of_imputed_cells_cover_what_was_there(rate):
    """90 % intervals of held-out cells of real tables, three masks; and the error is below that of the mean."""
    covered, errors = [], []
    for name in ("wine", "diabetes"):
        x = zoo.datasets.load(name).x
        for seed in range(3):
            holed = punched(x, rate, seed)
            torch.manual_seed(seed)
            pair = zoo.create("naive_bayes_vae", columns=Schema.infer(dict(enumerate(x.T.tolist()))), latent=3)
            inference.fit(pair, holed, steps=1000, progress=False, seed=seed)
            found = impute(pair, holed, draws=200, seed=seed)
            numbers = torch.tensor([not column.categories for column in pair.schema])[found.columns]
            low, high = found.interval(0.9)
            truth = x[found.rows, found.columns]
            covered.append(((truth >= low) & (truth <= high))[numbers].double().mean())
            sd = x.std(0)
            error = ((found.point() - x) / sd)[found.rows, found.columns][numbers].square().mean().sqrt()
            errors.append(float(error))
    assert 0.85 < float(np.mean(covered)) < 0.95
    assert np.mean(errors) < 0.95
