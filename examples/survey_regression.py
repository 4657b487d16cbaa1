"""Who watches the news? A regression on a survey, from the table to coefficients, effects and predictions in its units.

The American National Election Study of 1996: 944 voters, and on how many days of the week each watched news on
television. The formula is read as R reads it, with education as a category; the table comes out in days per year of
age, per step of income, and per level of education. Least squares has the same coefficients.

    python examples/survey_regression.py [FOLDER FOR THE PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
from matplotlib.figure import Figure

import inference

FORMULA = "TVnews ~ age + income + PID + C(educ)"


def main(out: Path = Path("out")) -> float:
    survey = sm.datasets.anes96.load_pandas().data
    pair = inference.pair_for("polynomial_regression", survey, formula=FORMULA, coefficient_scale=100.0)
    inference.fit(pair, survey, progress=False)
    posterior = inference.draw(pair, survey, 20_000, stats=False)

    table = inference.coefficients(pair, posterior)
    print(table.round(3).to_string(), "\n")
    effects = inference.effects(pair, posterior, survey)
    print(effects.round(3).to_string(), "\n")
    print(f"R² {inference.r_squared(pair, posterior, survey)['estimate']:.2f}: age tells something, and no more\n")
    young_and_old = survey.head(2).assign(age=[25, 75])
    print(inference.predictions(pair, posterior, young_and_old, draws=2000).round(1).to_string())

    out.mkdir(parents=True, exist_ok=True)
    picture(effects).savefig(out / "survey_regression.png", dpi=150)
    slope, expected = float(table.loc["age", "estimate"]), float(smf.ols(FORMULA, survey).fit().params["age"])
    print(f"Can it be believed? {inference.check(pair, survey)}")
    assert abs(slope / expected - 1) < 5e-3, f"least squares has {expected:.4f} days a year, this has {slope:.4f}"
    return slope


def picture(effects: pd.DataFrame) -> Figure:
    """What a unit or a level changes, with its interval."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    lines = effects.iloc[::-1].reset_index()
    axes.axvline(0, color="#8A8A8A", linewidth=1)
    axes.hlines(range(len(lines)), lines["2.5%"], lines["97.5%"], color="#0072B2", linewidth=1.5)
    axes.plot(lines["estimate"], range(len(lines)), "o", color="#0072B2", markerfacecolor="white")
    axes.set_yticks(range(len(lines)), [f"{v}: {c}" for v, c in zip(lines["variable"], lines["contrast"], strict=True)])
    axes.set_xlabel("change in days of news a week, with 95 % intervals")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
