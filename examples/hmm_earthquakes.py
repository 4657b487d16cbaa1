"""Calm and violent decades: a hidden Markov model of the world's major earthquakes, 1900 to 2006.

The yearly number of earthquakes of magnitude 7 and above is Poisson, with a rate that depends on a hidden state. Fit
the model, decode the states, look ten years ahead, and compare with the published maximum likelihood (Zucchini,
MacDonald & Langrock 2016, "Hidden Markov models for time series").

    python examples/hmm_earthquakes.py [FOLDER FOR THE PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import inference
import zoo
from zoo import datasets

MAXIMUM = -342.3183  # published log-likelihood of two states at its maximum, stationary start


def main(out: Path = Path("out")) -> float:
    data = datasets.load("earthquakes")  # one sequence of 107 yearly counts
    pair = zoo.create("hmm", states=2, emission="poisson", start="stationary", guide="multivariate")
    print(inference.fit(pair, data, steps=500, lr=0.03, progress=False))
    posterior = inference.draw(pair, data, draws=1000)

    means = {name: draws.mean((0, 1)) for name, draws in posterior.draws.items()}
    print()
    for k, (rate, stay) in enumerate(zip(means["rates"], means["transition"].diagonal(), strict=True)):
        print(f"State {k}: {rate:.0f} earthquakes a year; the next year is in the same state with {stay:.0%}.")
    states = inference.smooth(pair, posterior, data)[0]  # (step, state), averaged over the draws
    ahead = inference.forecast(pair, posterior, data, horizon=10)[0, :, 0]  # (draw, step)
    print(f"The ten years that follow: {ahead.mean():.0f} a year.")

    out.mkdir(parents=True, exist_ok=True)
    picture(data.x[0], states, means["rates"], ahead).savefig(out / "hmm_earthquakes.png", dpi=150)
    score = pair.chain(means, 107, data.lengths).log_prob(data.x).item()
    print(f"Log-likelihood at the posterior mean: {score:.2f}; nowhere is it above {MAXIMUM}.")
    print(f"Can it be believed? {inference.check(pair, data, posterior)}")
    assert MAXIMUM - 1.5 < score < MAXIMUM, f"expected just below {MAXIMUM}, got {score:.2f}"
    return score


def picture(counts: Tensor, states: Tensor, rates: Tensor, ahead: Tensor) -> Figure:
    """Counts with the rate of the likelier state and the forecast; below, the probability of the violent state."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    years = 1900 + torch.arange(len(counts))
    future = 1900 + len(counts) + torch.arange(ahead.shape[1])
    low, middle, high = ahead.quantile(torch.tensor([0.05, 0.5, 0.95]), 0)
    top.plot(years, counts, "o-", color="#999999", markersize=3, linewidth=0.8, label="earthquakes")
    top.step(years, rates[states.argmax(-1)], where="mid", color="#D55E00", label="rate of the likelier state")
    top.fill_between(future, low, high, color="#0072B2", alpha=0.3, label="forecast, 90 %")
    top.plot(future, middle, color="#0072B2")
    top.set(ylabel="magnitude 7 and above")
    top.legend(frameon=False)
    bottom.fill_between(years, states[:, 1], color="#D55E00", alpha=0.6)
    bottom.set(xlabel="year", ylabel="P(violent)", ylim=(0, 1))
    return figure


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
