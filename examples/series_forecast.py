"""Forty years of sunspots ahead: a Bayesian autoregression against the naive forecasts.

The square root of the yearly number of sunspots follows a linear autoregression on the nine years before (Yule 1927
began with two, for this very series). Fit it on 1700 to 1968, forecast 1969 to 2008, and compare with what happened:
the forecast knows the cycle of some eleven years, and how sure it is. The naive forecasts are that nothing changes, and
that every year is an average one.

    python examples/series_forecast.py [FOLDER FOR THE PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import inference
import zoo
from zoo import Batch, datasets

HORIZON = 40


def main(out: Path = Path("out")) -> float:
    number = datasets.load("sunspots").x  # one series of 309 years
    past, future = number[:, :-HORIZON], number[0, -HORIZON:]
    data = Batch.of(x=past.sqrt())
    pair = zoo.create("autoregressive", order=9).double()
    print(inference.fit(pair, data, steps=100, progress=False))
    posterior = inference.draw(pair, data, draws=2000)
    print("\nWhat each of the nine years before says, mean and deviation:")
    for lag, weight in enumerate(posterior["coefficients"][0].unbind(-1), start=1):
        print(f"  {lag} back: {weight.mean():5.2f} ± {weight.std():.2f}")

    # one path under each draw: what is not known about the latents widens the intervals
    paths = inference.forecast(pair, posterior, data, HORIZON)[0, :, 0].clamp(min=0).square()  # (draw, step)
    low, middle, high = paths.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64), 0)
    error = _error(middle, future)
    covered = ((low < future) & (future < high)).double().mean()
    print(f"\nRoot mean squared error over {HORIZON} years: {error:.0f} sunspots.")
    print(f"No change from the last year: {_error(past[0, -1], future):.0f}; always the average: ", end="")
    print(f"{_error(past.mean(), future):.0f}. The 90 % intervals hold {covered:.0%} of the years.")

    out.mkdir(parents=True, exist_ok=True)
    picture(number[0], low, middle, high).savefig(out / "series_forecast.png", dpi=150)
    ratio = error / _error(past[0, -1], future)
    print(f"Can it be believed? {inference.check(pair, data, posterior)}")
    assert ratio < 0.7, f"expected an error well below that of the last year's value, got {ratio:.2f} of it"
    return ratio


def _error(forecast: Tensor, future: Tensor) -> float:
    return float((forecast - future).square().mean().sqrt())


def picture(number: Tensor, low: Tensor, middle: Tensor, high: Tensor) -> Figure:
    """The last century of the series, the forecast made in 1968 with its intervals, and what happened."""
    years = 1700 + torch.arange(len(number))
    ahead = years[-HORIZON:]
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(ahead, low, high, color="#0072B2", alpha=0.2, linewidth=0, label="forecast of 1968, 90 %")
    axes.plot(ahead, middle, color="#0072B2", label="its median")
    known = slice(len(number) - HORIZON - 100, len(number) - HORIZON)
    axes.plot(years[known], number[known], color="#666666", linewidth=1, label="sunspots")
    axes.plot(ahead, number[-HORIZON:], "o", color="#D55E00", markersize=4, label="what happened")
    axes.axvline(1968.5, color="#999999", linewidth=0.8, linestyle=":")
    axes.set(xlabel="year", ylabel="sunspots a year", ylim=(0, 260), xlim=(years[known][0], 2009))
    axes.legend(frameon=False, loc="upper left", ncols=2)
    return figure


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
