"""Passengers of the next two years, with dates: a model chosen by the past alone, and how good it would have been.

AirPassengers (Box & Jenkins 1976): 144 months, January 1949 to December 1960. Backtests that end 24 months before the
end of the series, from three years of origins, compare five autoregressions of its logarithms; the one of least CRPS is
then held against the last 24 months, from 13 origins, 12 months ahead, beside the seasonal-naive forecast. No choice
looks at those months.

The airline model of Box and Jenkins has (1 - a B)(1 - b B^12) of the noise on the right of its equation. Divided out,
that is a long autoregression whose weights fade with the months and years they look back. "Two months, two years" is
its beginning, with a prior that knows it fades (Litterman 1986).

    python examples/dated_forecast.py [FOLDER FOR THE PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd

import inference
import zoo
from inference.gallery.future import future
from zoo.base import ModelGuide

SPECS: dict[str, dict[str, Any]] = {
    "13 lags": {"order": 13, "seasonal": 12, "seasonal_order": 0},
    "13 lags of differences": {"order": 13, "seasonal": 12, "seasonal_order": 0, "difference": 1},
    "lags 1, 12 of yearly differences": {"order": 1, "seasonal": 12, "seasonal_difference": 1},
    "lags 1, 12 of both": {"order": 1, "seasonal": 12, "difference": 1, "seasonal_difference": 1},
    "two months, two years": {
        "order": 2,
        "seasonal": 12,
        "seasonal_order": 2,
        "products": True,
        "prior": "minnesota",
        "seasonal_difference": 1,
    },
}
FAST = {"steps": 1, "compile": "off"}  # the guide starts at the posterior, which is known in closed form


def pair(name: str) -> ModelGuide:
    return zoo.create("autoregressive", transform="log", steps=48, **SPECS[name]).double()


def main(out: Path = Path("out")) -> float:
    frame = pd.read_csv(Path(zoo.datasets.__file__).parent / "airpassengers.csv")  # columns month and passengers
    past = {name: inference.backtest(pair(name), frame[:-24], 12, folds=13, stride=3, **FAST) for name in SPECS}
    crps = {name: found.table.loc["autoregressive", "crps"] for name, found in past.items()}
    chosen = min(crps, key=lambda name: crps[name])
    print("CRPS before the last 24 months:", ", ".join(f"{name} {value:.1f}" for name, value in crps.items()))

    found = inference.backtest(pair(chosen), frame, 12, folds=13, **FAST)
    print(f"\n{chosen}, on the last 24 months:\n{found}\n\n{found.by_step.loc[[1, 6, 12]].round(2).to_string()}")

    model = pair(chosen)
    inference.fit(model, frame, progress=False, **FAST)
    table = inference.forecast_table(model, frame, 24, mass=(0.5, 0.9))
    print(f"\nThe first months of 1961, in thousands:\n{table.head(3).to_string(index=False, float_format='%.0f')}")
    out.mkdir(parents=True, exist_ok=True)
    future(model, frame, table).savefig(out / "dated_forecast.png")
    ratio = float(found.table.loc["autoregressive", "crps"] / found.table.loc["seasonal naive", "crps"])
    print(f"Can it be believed? {inference.check(model, frame)}")
    assert ratio < 0.5, f"expected less than half the CRPS of the seasonal-naive forecast, got {ratio:.2f} of it"
    return ratio


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
