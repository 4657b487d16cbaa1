"""Forecasts as a table: a line a step, with its date and the name of its series, median, mean and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from inference.data.check import check
from inference.posterior.draws import Posterior, draw
from inference.questions.sequences import forecast
from inference.running.checked import Checked
from inference.running.words import check_count
from zoo.base import Batch, ModelGuide
from zoo.dates.calendar import Calendar
from zoo.threads.turns import in_turn

if TYPE_CHECKING:
    import pandas as pd


@in_turn
def forecast_table(
    pair: ModelGuide,
    data: Any,
    horizon: int,
    posterior: Posterior | None = None,
    *,
    draws: int = 1000,
    mass: float | Sequence[float] = 0.9,
    inputs: Any = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The steps after the end of each series, with their dates: median, mean, and central intervals.

    Quantiles are of one draw of the future under each draw of the posterior: they carry the uncertainty of both.

    Args:
        pair: a fitted pair whose series go on (`inference.forecast`).
        data: the series; dates and names are read off a frame (`inference.data.series`).
        horizon: the number of steps ahead H.
        posterior: draws of the latents; by default `draws` of the guide.
        draws: how many, without a posterior.
        mass: probability of the interval, 0 to 1, or of several.
        inputs: exogenous inputs of the steps ahead, (N, H, E), for a pair that has such.
        seed: seeds whatever is drawn.

    Returns:
        a frame of N x H lines (x D of several features): `series`, `date` (where the data have dates), `step` from 1 to
        H, `feature` (of several), `median`, `mean`, `low` and `high`; of several intervals `low_50`, `high_50`, ...; in
        the units of the data.

    Raises:
        ValueError: a mass that is no probability; and what `inference.forecast` refuses.

    Example:
        >>> import inference, pandas, zoo
        >>> lake = zoo.datasets.load("lakehuron").x[0].numpy()
        >>> level = pandas.Series(lake, pandas.date_range("1875", periods=98, freq="YS"), name="level")
        >>> pair = zoo.create("autoregressive", order=2).double()
        >>> fit = inference.fit(pair, level, steps=1, progress=False, compile="off")
        >>> inference.forecast_table(pair, level, horizon=2)[["series", "date", "step"]]  # and median, mean, low, high
          series       date  step
        0  level 1973-01-01     1
        1  level 1974-01-01     2
    """
    import pandas as pd

    check_count("horizon", horizon)
    masses = masses_of(mass)
    checked = check(pair, data)
    posterior = draw(pair, checked, draws, stats=False, seed=seed) if posterior is None else posterior
    paths = ahead(pair, posterior, checked, horizon, inputs, seed)  # (S, N, H, D)
    lines = labels(checked.batch, horizon, paths.shape[-1])
    flat = paths.reshape(len(paths), -1)
    lines["median"], lines["mean"] = np.median(flat, 0), flat.mean(0)
    for each in masses:
        mark = f"_{100 * each:g}" if len(masses) > 1 else ""
        lines[f"low{mark}"], lines[f"high{mark}"] = np.quantile(flat, [(1 - each) / 2, (1 + each) / 2], axis=0)
    return pd.DataFrame(lines)


def masses_of(mass: float | Sequence[float]) -> list[float]:
    """Probabilities of intervals, checked.

    Raises:
        ValueError: none, or one that is not between 0 and 1.
    """
    found = [mass] if isinstance(mass, Real) else list(mass)  # type: ignore[arg-type]
    for each in found or [float("nan")]:
        if not isinstance(each, Real) or isinstance(each, bool) or not 0 < float(each) < 1:
            raise ValueError(f"mass: expected probabilities between 0 and 1, got {mass!r}")
    return [float(each) for each in found]


def ahead(
    pair: ModelGuide, posterior: Posterior, checked: Checked, horizon: int, inputs: Any = None, seed: int = 0
) -> NDArray[np.float64]:
    """Draws of the steps ahead, (S, N, H, D)."""
    found = forecast(pair, posterior, checked, horizon, inputs=inputs, seed=seed).flatten(0, 1).double().cpu().numpy()
    return found.reshape(*found.shape[:3], -1)


def labels(batch: Batch, horizon: int, features: int) -> dict[str, Any]:
    """What each line is of, series by series, step by step, feature by feature: columns by name."""
    import pandas as pd

    N, calendar = batch.size, batch.when if isinstance(batch.when, Calendar) else None
    names: Sequence[Any] = range(1, N + 1) if calendar is None else calendar.names
    found: dict[str, Any] = {"series": np.repeat(np.array(names, dtype=object), horizon * features)}
    if calendar is None:
        found["series"] = np.repeat(np.array(names), horizon * features)
    elif calendar.starts is not None and batch.lengths is not None:
        each = [calendar.ahead(n, int(batch.lengths[n]), horizon) for n in range(N)]
        found["date"] = pd.Index(each[0].append(each[1:]) if N > 1 else each[0]).repeat(features)
    found["step"] = np.tile(np.repeat(np.arange(1, horizon + 1), features), N)
    if features > 1:
        known = batch.columns if len(batch.columns or ()) == features else None
        found["feature"] = np.tile(np.array(known or range(1, features + 1)), N * horizon)
    return found
