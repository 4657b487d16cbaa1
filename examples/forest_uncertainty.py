"""A forest that knows what it does not know: intervals that cover, and covariates that matter.

How far will diabetes have progressed in a year? A Bayesian forest learns it from two thirds of 442 patients and gives
each of the others an interval that should hold the truth nine times in ten. An interval is wide for two reasons, which
the posterior tells apart: patients differ, and the forest is unsure of their mean. It also says which of the ten
measurements it relies on, and how sure it is of that.

    python examples/forest_uncertainty.py [FOLDER FOR THE PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import inference
import zoo
from inference.questions import importance
from zoo import Batch, datasets


def main(out: Path = Path("out")) -> float:
    table = datasets.load("diabetes")
    names = datasets.describe("diabetes").columns
    order = np.random.default_rng(0).permutation(table.size)
    train, test = (table.select(torch.from_numpy(rows)) for rows in (order[:295], order[295:]))
    train, test = (Batch.of(x=part.x, y=part.y) for part in (train, test))

    torch.manual_seed(0)
    pair = zoo.create("random_forest", features=10, inducing=100)
    print(inference.fit(pair, train, steps=300, average=0.2, progress=False))
    posterior = inference.draw(pair, train, draws=500)
    drawn = inference.predict(pair, posterior, test.but(y=None))["y"][0].double()  # (500, 147)
    low, high = torch.quantile(drawn, torch.tensor([0.05, 0.95]).double(), dim=0)
    inside = (low <= test.y) & (test.y <= high)
    covered = float(inside.double().mean())
    error = float((drawn.mean(0) - test.y).square().mean().sqrt())
    noise = posterior["noise"][0].double() * pair.units.unit
    print(f"error {error:.1f} (the deviation of y is {float(test.y.std()):.1f})")
    print(f"{covered:.1%} of new patients lie in their 90 % intervals")
    print(f"patients differ by {float(noise.mean()):.1f}; of their means the forest is unsure by", end=" ")
    print(f"{float((drawn.var(0).mean() - noise.square().mean()).clamp(min=0).sqrt()):.1f}, at the root mean square\n")

    found = importance.importance(pair, posterior, train, names=names)
    print("what it relies on, with 90 % intervals")
    print(found)

    out.mkdir(parents=True, exist_ok=True)
    picture(test.y, drawn.mean(0), low, high, inside).savefig(out / "forest_uncertainty.png", dpi=150)
    found.plot().savefig(out / "forest_importance.png", dpi=150)
    print(f"Can it be believed? {inference.check(pair, train, posterior, run=False)}")
    assert 0.82 < covered < 0.98, f"90 % intervals of 147 patients hold {covered:.1%}: beyond 3 standard errors"
    return covered


def picture(y: torch.Tensor, mean: torch.Tensor, low: torch.Tensor, high: torch.Tensor, inside: torch.Tensor) -> Figure:
    """New patients in the order of what is predicted, with their intervals; the ones missed stand out."""
    order = mean.argsort()
    y, mean, low, high, inside = (part[order] for part in (y, mean, low, high, inside))
    place = torch.arange(len(y))
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(place, low, high, color="#0072B2", alpha=0.15, linewidth=0, label="90 % interval")
    axes.plot(place, mean, color="#0072B2", label="mean")
    axes.scatter(place[inside], y[inside], s=12, color="#666666", label=f"{int(inside.sum())} inside")
    axes.scatter(place[~inside], y[~inside], s=24, color="#D55E00", marker="D", label=f"{int((~inside).sum())} outside")
    axes.set(xlabel="new patients, by predicted progression", ylabel="progression after a year")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=2)
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:2]))
