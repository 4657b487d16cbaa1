"""How good forecasts would have been: from origins that roll through the past, each with what was known then.

At each of F origins the pair is made anew and fitted to the steps before it, H steps are forecast, and scored by what
came. The seasonal-naive forecast is scored beside it, at the same steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from inference.data.check import check
from inference.fitting.fit import fit
from inference.forecasting.naive import seasonal_naive
from inference.forecasting.scores import Array, crps, crps_normal, pinball
from inference.forecasting.table import ahead, labels, masses_of
from inference.posterior.draws import draw
from inference.running.checked import Checked
from inference.running.words import check_bool, check_count
from zoo.abilities import Text
from zoo.base import Batch, ModelGuide
from zoo.dates.calendar import Calendar
from zoo.rows import nth
from zoo.threads.randomness import apart
from zoo.threads.turns import in_turn

if TYPE_CHECKING:
    import pandas as pd

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the quantiles whose pinball losses are averaged
NAIVE = "seasonal naive"
_SCORES = ("coverage", "width", "crps", "pinball", "mae")


@dataclass(frozen=True, repr=False)
class Backtest:
    """Scores of past forecasts of a pair, beside those of the seasonal-naive forecast.

    Args:
        lines: a frame of a line for each forecaster, origin, series and step ahead: `model`, `fold`, `series`, `date`,
            `step`, `actual`, `median`, `low`, `high`, and the scores `coverage` (1 where the interval holds what came),
            `width` (of the interval), `crps`, `pinball` (mean over LEVELS) and `mae` (of the median).
        mass: probability of the intervals.
        season: of the seasonal-naive forecast.
    """

    lines: pd.DataFrame
    mass: float
    season: int

    @property
    def table(self) -> pd.DataFrame:
        """Means of the scores by model; coverage is to be near `mass`, the others low."""
        return self._means(["model"])

    @property
    def by_step(self) -> pd.DataFrame:
        """The same by steps ahead."""
        return self._means(["step", "model"])

    def _means(self, by: list[str]) -> pd.DataFrame:
        kept = self.lines[self.lines["actual"].notna()]
        means = kept.groupby(by, sort=by != ["model"])[list(_SCORES)].mean()
        return means.assign(forecasts=kept.groupby(by).size())

    def __repr__(self) -> str:
        folds, horizon = self.lines["fold"].nunique(), int(self.lines["step"].max())
        told = f"{folds} origins, up to {horizon} step{'s' if horizon > 1 else ''} ahead, {self.mass:.0%} intervals"
        return f"Backtest({told}, season {self.season})\n{self.table.round(4).to_string()}"


@in_turn
def backtest(
    pair: ModelGuide,
    data: Any,
    horizon: int,
    folds: int = 10,
    *,
    stride: int = 1,
    refit: bool = True,
    season: int | None = None,
    mass: float = 0.9,
    draws: int = 1000,
    seed: int = 0,
    **options: Any,
) -> Backtest:
    """Scores of forecasts from past origins, beside the seasonal-naive forecast: coverage, CRPS, pinball, MAE.

    The last origin is H steps before the end of each series, and each other one `stride` steps before the next. The
    pair itself is left as it is: others of its name and arguments are fitted, to steps before their origin alone.

    Args:
        pair: of series of numbers that go on, fitted or not.
        data: the series; dates and names are read off a frame.
        horizon: the number of steps ahead H.
        folds: the number of origins F.
        stride: steps between origins.
        refit: fit at each origin; else once, before the first, and forecast from later origins under that posterior.
        season: steps in a season, of the naive forecast; by default the pair's own (`seasonal`), else what the dates
            say (12 of months, 7 of days, ...), else 1.
        mass: probability of the intervals.
        draws: of each forecast.
        seed: seeds fits and draws.
        options: of `inference.fit`, such as `steps`.

    Raises:
        ValueError: series too short for so many folds; steps that are no numbers; what `fit` and `forecast` refuse.

    Example:
        >>> import inference, zoo
        >>> pair = zoo.create("autoregressive", order=2).double()
        >>> lake = zoo.datasets.load("lakehuron")
        >>> found = inference.backtest(pair, lake, horizon=2, folds=3, steps=1, compile="off")
        >>> list(found.table.index)
        ['autoregressive', 'seasonal naive']
    """
    import pandas as pd

    for name, value in (("horizon", horizon), ("folds", folds), ("stride", stride)):
        check_count(name, value)
    check_count("draws", draws, least=2)
    check_bool("refit", refit)
    if season is not None:
        check_count("season", season)
    (mass,) = masses_of([mass])
    given = check(pair, data)
    values = _series(pair, given)
    calendar = given.batch.when if isinstance(given.batch.when, Calendar) else None
    season = season or pair.config.get("seasonal") or (calendar.season if calendar else None) or 1
    levels = np.array([(1 - mass) / 2, (1 + mass) / 2, *LEVELS])
    lines: list[pd.DataFrame] = []
    fresh: ModelGuide | None = None
    for fold, past, inputs, come in _folds(given, values, horizon, folds, stride):
        try:
            if fresh is None or refit:
                fresh = _anew(pair, seed)
                fit(fresh, past, **{"progress": False, "seed": seed, **options})
            known = check(fresh, past)
            own = seed + fold  # the same draws at each origin would err alike, and their mean as much as one
            paths = ahead(fresh, draw(fresh, known, draws, stats=False, seed=own), known, horizon, inputs, own)
            naive = _naive(_series(fresh, known), known.batch.lengths, horizon, season)
        except ValueError as error:
            raise ValueError(f"fold {fold + 1} of {folds}: {error}") from error
        told = labels(past, horizon, values.shape[2])
        actual = come.reshape(-1)
        flat = paths.reshape(len(paths), -1)
        lines.append(_lines(pair.name, fold, told, actual, np.quantile(flat, levels, 0), crps(flat, actual)))
        loc, scale = naive
        unit = torch.special.ndtri(torch.from_numpy(levels)).numpy()
        quantiles = loc + scale * unit[:, None]
        lines.append(_lines(NAIVE, fold, told, actual, quantiles, crps_normal(loc, scale, actual)))
    return Backtest(pd.concat(lines, ignore_index=True), mass, season)


def _series(pair: ModelGuide, given: Checked) -> Array:
    """The series that the pair models, (N, T, D), NaN past the end of each."""
    if given.batch.lengths is None or (isinstance(pair, Text) and pair.alphabet is not None):
        raise ValueError(f"{pair.name}: expected a pair of series of numbers")
    value: Tensor = getattr(given.batch, next(name for name in ("y", "x") if name in given.observed))
    found = value.double().cpu().numpy().reshape(len(value), value.shape[1], -1).copy()
    found[np.arange(value.shape[1]) >= given.batch.lengths.cpu().numpy()[:, None]] = np.nan
    return found


def _folds(
    given: Checked, values: Array, horizon: int, folds: int, stride: int
) -> Iterator[tuple[int, Batch, Tensor | None, Array]]:
    """Each origin: its number, the steps before it, inputs of those ahead if any, and what came, (N, H, D)."""
    batch, lengths = given.batch, given.batch.lengths
    if lengths is None:
        raise ValueError("expected series")
    back = horizon + (folds - 1) * stride
    if int(lengths.min()) <= back:
        row = int(lengths.argmin())
        raise ValueError(
            f"row {nth(row)}: {int(lengths[row])} steps, where {folds} folds with {horizon} steps ahead take {back}; "
            "ask for fewer folds, or a shorter horizon"
        )
    explained = "y" in given.observed and batch.x is not None
    for fold in range(folds):
        left = lengths - horizon - (folds - 1 - fold) * stride
        longest = int(left.max())
        over = torch.arange(longest, device=left.device) >= left[:, None]
        fields = {}
        for name, value in batch.fields().items():
            if name != "lengths":
                cut = value[:, :longest]
                hidden = over.reshape(*over.shape, *[1] * (cut.ndim - 2))
                fields[name] = cut.masked_fill(hidden, torch.nan) if name in given.observed else cut
        steps = left[:, None] + torch.arange(horizon, device=left.device)
        rows = torch.arange(batch.size, device=left.device)[:, None]
        inputs = batch.x[rows, steps] if explained and batch.x is not None else None
        come = values[rows.cpu().numpy(), steps.cpu().numpy()]
        yield fold, batch.but(lengths=left, **fields), inputs, come


def _anew(pair: ModelGuide, seed: int) -> ModelGuide:
    """A pair of the same class and arguments that was not fitted."""
    with apart(seed):
        made: Any = type(pair)(**pair.config)
    fresh: ModelGuide = made.to(device=pair.device, dtype=pair.dtype)
    return fresh


def _naive(past: Array, lengths: Tensor | None, horizon: int, season: int) -> tuple[Array, Array]:
    """Mean and deviation of each series and feature, in the order of the lines, (N H D,) each."""
    N, T, D = past.shape
    ends = [T] * N if lengths is None else lengths.tolist()
    both = np.array([[seasonal_naive(past[n, : ends[n], d], horizon, season) for d in range(D)] for n in range(N)])
    loc, scale = both.transpose(2, 0, 3, 1).reshape(2, -1)  # (N, D, 2, H) to (2, N H D)
    return loc, scale


def _lines(model: str, fold: int, told: dict[str, Any], actual: Array, quantiles: Array, score: Array) -> pd.DataFrame:
    """The lines of one forecaster at one origin."""
    import pandas as pd

    low, high, losses = (
        quantiles[0],
        quantiles[1],
        [pinball(q, p, actual) for q, p in zip(quantiles[2:], LEVELS, strict=True)],
    )
    median = quantiles[2 + LEVELS.index(0.5)]
    found = {"model": model, "fold": fold + 1, **told, "actual": actual, "median": median, "low": low, "high": high}
    found |= {"coverage": np.where(np.isnan(actual), np.nan, (low <= actual) & (actual <= high)), "width": high - low}
    return pd.DataFrame(found | {"crps": score, "pinball": np.mean(losses, 0), "mae": np.abs(actual - median)})
