"""How bent is the curve? Leave-one-out cross-validation chooses the degree of a polynomial.

The longer an eruption of the Old Faithful geyser, the longer the wait for the next one; but not along a straight line.
Polynomials of degree 1 to 5 are fitted, and ArviZ tells which predicts unseen eruptions best. Every fit stands on all
the data: Pareto-smoothed importance sampling (Vehtari, Gelman & Gabry 2017) works out how each eruption would have
been predicted without it.

    python examples/polynomial_loo.py [FOLDER FOR THE PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import arviz as az
import pandas as pd
import torch
from matplotlib.figure import Figure

import inference
import zoo
from zoo import Batch, datasets


def main(out: Path = Path("out")) -> int:
    eruptions = datasets.load("faithful").x
    data = Batch(len(eruptions), len(eruptions), x=eruptions[:, :1], y=eruptions[:, 1])

    fitted, exported = {}, {}
    for degree in range(1, 6):
        pair = zoo.create("polynomial_regression", degree=degree)
        fit = inference.fit(pair, data, steps=300, lr=0.05, particles=8, progress=False)
        posterior = inference.draw(pair, data, draws=2000)
        fitted[degree] = pair, posterior
        exported[str(degree)] = inference.to_arviz(pair, posterior, data, predictive=False)
        print(f"degree {degree}: fitted in {fit.seconds:.1f} s")

    table = az.compare(exported).rename(columns={"elpd_loo": "elpd"})  # ArviZ 0.x, 1.x
    table["elpd_diff"] = table["elpd_diff"].abs()  # behind the best: above zero in 0.x, below in 1.x
    print("\nThe best prediction comes first. elpd: log score of unseen eruptions, higher is better;")
    print("elpd_diff: how far behind the best, which counts for little when it is below two times dse.\n")
    print(table[["rank", "elpd", "elpd_diff", "se", "dse"]].round(1).to_string())
    best = int(table.index[0])
    line = table.loc["1"]
    print(f"\nDegree {best} predicts best; a straight line loses {line['elpd_diff']:.0f} (± {line['dse']:.0f}) nats.")

    out.mkdir(parents=True, exist_ok=True)
    picture(data, fitted, best, table).savefig(out / "polynomial_loo.png", dpi=150)
    print(f"Can it be believed? {inference.check(fitted[best][0], data, fitted[best][1])}")
    assert best == 4, f"exact leave-one-out chooses degree 4, this chose {best}"
    return best


def picture(
    data: Batch, fitted: dict[int, tuple[zoo.ModelGuide, inference.Posterior]], best: int, table: pd.DataFrame
) -> Figure:
    """The eruptions with the straight line and the best curve, and what each degree loses."""
    grid = torch.linspace(1.5, 5.2, 200)[:, None]
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    left.scatter(data.x[:, 0], data.y, s=10, color="#666666", alpha=0.5, label="272 eruptions")
    for degree, colour in ((1, "#E69F00"), (best, "#0072B2")):
        waits = inference.predict(*fitted[degree], Batch(200, 200, x=grid))["y"].flatten(0, 1)
        low, high = torch.quantile(waits, torch.tensor([0.05, 0.95]), dim=0)
        left.plot(grid[:, 0], waits.mean(0), color=colour, label=f"degree {degree}, with 90 % of new waits")
        left.fill_between(grid[:, 0], low, high, color=colour, alpha=0.15, linewidth=0)
    left.set(xlabel="eruption (minutes)", ylabel="wait for the next one (minutes)")
    left.legend(frameon=False)
    ordered = table.sort_index()
    right.errorbar(
        ordered.index.astype(int), -ordered["elpd_diff"], ordered["dse"], fmt="o", color="#0072B2", capsize=3
    )
    right.axhline(0, color="#666666", linewidth=0.8)
    right.set(xlabel="degree", ylabel="log score against the best (nats)", title="higher predicts better")
    return figure


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
