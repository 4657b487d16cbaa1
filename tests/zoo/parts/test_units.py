"""Centres and units of data, against NumPy and SciPy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from zoo.parts.units import Units, measured, moments, spread, usual


def table(rows=41):
    x = np.random.default_rng(0).normal(size=(rows, 3)) * [1e-6, 1.0, 1e6] + [1.0, -3.0, 1e12]
    x[::5, 1] = np.nan
    return x


@pytest.mark.parametrize("rows", [1, 2, 41])
def test_moments_and_quartiles_leave_missing_cells_out(rows):
    x = table(41)[1 : rows + 1]
    centre, unit = moments(torch.as_tensor(x))
    np.testing.assert_allclose(centre, np.nanmean(x, 0), rtol=1e-12)
    np.testing.assert_allclose(unit, np.nanstd(x, 0) if rows > 1 else np.ones(3), rtol=1e-9)
    centre, unit = spread(torch.as_tensor(x))
    np.testing.assert_allclose(centre, np.nanmedian(x, 0), rtol=1e-12)
    wanted = scipy.stats.iqr(x, 0, scale="normal", nan_policy="omit") if rows > 1 else np.ones(3)
    np.testing.assert_allclose(unit, wanted, rtol=1e-6)


def test_one_unit_for_all_columns_is_the_root_mean_square_about_their_means():
    x = np.random.default_rng(0).normal(size=(50, 3)) * [1.0, 2.0, 3.0] + 7
    _, unit = moments(torch.as_tensor(x), shared=True)
    assert unit.item() == pytest.approx(np.sqrt(x.var(0).mean()))


def test_a_wrong_cell_does_not_move_the_spread_and_a_mostly_constant_column_has_its_deviation():
    x = torch.as_tensor(np.random.default_rng(0).normal(size=(101, 2)))
    x[:, 1] = 0
    x[:10, 1] = 2.0
    centre, unit = spread(x)
    x[0, 0] = 1e9
    moved_centre, moved = spread(x)
    torch.testing.assert_close(moved[0], unit[0], rtol=0.1, atol=0)
    assert abs(float(moved_centre[0] - centre[0])) < 0.1
    assert moved[1].item() == pytest.approx(np.std(x[:, 1].numpy()))


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 1e12])
def test_a_constant_column_has_the_unit_1(value):
    x = torch.full((7, 1), value, dtype=torch.float64)
    for centre, unit in (moments(x), spread(x)):
        assert (centre.item(), unit.item()) == (pytest.approx(value), 1.0)


def test_there_and_back_and_constants_that_were_given_stay():
    units, x = Units(3).double(), torch.as_tensor(table()).nan_to_num()
    units.place(x)
    t = units(x)
    torch.testing.assert_close(t.mean(0), torch.zeros(3).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(t.std(0, correction=0), torch.ones(3).double())
    torch.testing.assert_close(units.inverse(t), x)
    module = nn.Module()
    usual(module, (2,), wide=(None, 10.0), narrow=(0.5, 0.1))
    assert (module.wide.tolist(), module.narrow.item()) == ([10.0, 10.0], 0.5)
    measured(module, wide=torch.tensor([1.0, 2.0]), narrow=torch.tensor([3.0, 4.0]))
    assert (module.wide.tolist(), module.narrow.item()) == ([1.0, 2.0], 0.5)


def test_a_state_from_before_units_were_kept_has_those_of_the_data():
    module = nn.Sequential(Units(3), nn.Linear(3, 2))
    old = {name: value for name, value in copy.deepcopy(module).state_dict().items() if not name.startswith("0.")}
    module[0].place(torch.as_tensor(table()))
    module.load_state_dict(old)
    module[0].place(torch.as_tensor(table()))
    assert (module[0].centre.tolist(), module[0].unit.tolist()) == ([0.0] * 3, [1.0] * 3), "and they stay"
