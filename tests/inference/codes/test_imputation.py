"""Imputed cells have the exact distribution of what is missing, given what is there."""

from __future__ import annotations

import math

import pytest
import torch

import inference
import zoo
from inference.codes.imputation import Imputation, impute
from tests.helpers.codes import Classes, HoleyFactors
from tests.helpers.pairs import NAMES


def holed(pair, rows, rate=0.35, seed=2):
    torch.manual_seed(seed)
    x = pair.simulate(rows)[0].x
    holes = torch.rand(x.shape) < rate
    holes[0] = True
    holes[1] = False
    return torch.where(holes, torch.nan, x), x


def test_imputations_have_the_exact_conditional_distribution():
    """The guide is moved and widened: only the importance weights can bring the imputations back."""
    pair = HoleyFactors().double()
    x, truth = holed(pair, 400)
    draws, proposals = 200, 1000
    found = impute(pair, x, draws=draws, proposals=proposals)
    exact = [pair.conditional(row) for row in x if row.isnan().any()]
    mean = torch.cat([loc for loc, _ in exact])
    sd = torch.cat([covariance.diagonal().sqrt() for _, covariance in exact])
    values = found.values[0]
    # Each draw has its own noise; the codes behind them vary with what the weights leave of the proposals.
    error = sd * (1 / draws + 1 / found.ess[found.rows]).sqrt()
    z = (values.mean(0) - mean) / error
    assert abs(z.mean()) < 5 / math.sqrt(len(exact))  # cells of one row go together
    assert z.abs().max() < 5
    ratio = values.var(0) / sd.square()
    assert abs(ratio.mean() - 1) < 4 * math.sqrt(2 / draws / len(exact)) + 4 / proposals
    low, high = found.interval(0.9)
    hidden = truth[found.rows, found.columns]
    inside = ((low <= hidden) & (hidden <= high)).double()
    by_row = torch.zeros(len(x), dtype=torch.float64).index_add_(0, found.rows, inside - 0.9)
    # Cells of one row share a code: count rows, and what a quantile of 200 draws costs.
    assert abs(inside.mean() - 0.9) < 4 * by_row.norm() / len(hidden) + 1 / draws
    assert found.ess[1].isnan()
    assert (found.ess[2:].nan_to_num(300) > 100).all()


def test_imputations_keep_what_cells_of_a_row_share():
    pair = HoleyFactors().double()
    x = torch.full((1, 5), torch.nan, dtype=torch.float64)
    found = impute(pair, x, draws=4000, proposals=4000)
    _, covariance = pair.conditional(x[0])
    sample = torch.cov(found.values[0].T)
    spread = (covariance.square() + covariance.diagonal()[:, None] * covariance.diagonal()).sqrt()
    assert ((sample - covariance).abs() < 5 * spread * math.sqrt(2 / 4000)).all()


def test_imputations_of_classes():
    pair = Classes().double()
    x, _ = holed(pair, 60)
    draws = 4000
    found = impute(pair, x, draws=draws)
    weight = pair.posterior(x)[found.rows]  # (M, 2)
    locs = pair.locs.T[found.columns]
    mean = (weight * locs).sum(-1)
    sd = (pair.scale[found.columns].square() + (weight * locs.square()).sum(-1) - mean.square()).sqrt()
    assert ((found.values[0].mean(0) - mean).abs() < 5 * sd / math.sqrt(draws)).all()


def test_tables_points_and_intervals():
    observed = torch.tensor([[1.0, torch.nan], [torch.nan, 2.0]])
    rows, columns = torch.tensor([0, 1]), torch.tensor([1, 0])
    values = torch.tensor([[[1.0, 10.0], [1.0, 20.0], [4.0, 60.0]]])
    found = Imputation(observed, rows, columns, values, torch.ones(2), ("real", "categorical"))
    assert found.table(2).tolist() == [[1, 4], [60, 2]]
    assert found.mean().tolist() == [[1, 2], [30, 2]]
    assert found.point().tolist() == [[1, 1], [30, 2]]
    low, high = found.interval(0.5)
    assert low.tolist() == [1.0, 15.0]
    assert high.tolist() == [2.5, 40.0]
    with pytest.raises(ValueError, match="expected 0 to 2, got 3"):
        found.table(3)
    with pytest.raises(ValueError, match="between 0 and 1"):
        found.interval(90)


def test_a_full_table_has_nothing_to_impute():
    found = impute(HoleyFactors().double(), torch.zeros(3, 5), draws=7)
    assert found.values.shape == (1, 7, 0)
    assert torch.equal(found.mean(), torch.zeros(3, 5).double())


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_fills_cells_or_says_which_do(name):
    """Able are those whose local latents can be drawn given the rest, and whose table may have holes."""
    pair = zoo.create(name)
    data = pair.simulate(3)[0]
    able = {"naive_bayes", "naive_bayes_vae"}
    if name in able:
        assert inference.impute(pair, data, draws=2).values.shape == (1, 2, 0)
        return
    with pytest.raises(ValueError, match=f"{name} .*so it fills no missing cells") as error:
        inference.impute(pair, data)
    assert all(other in str(error.value) for other in able)
    assert ("inference.query" in str(error.value)) == (name == "bayesian_network")
