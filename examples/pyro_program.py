"""Who will bat well? A program as Pyro's examples have it, and two lines that make it fast.

Eighteen players of 1970, each known by 45 times at bat (Efron & Morris 1975, "Data analysis using Stein's estimator and
its generalizations"). The program, averages that the players share in part, is one of Pyro's own baseball example. Two
lines hand it over: it is recorded once and run as 64 chains, and ArviZ gets the draws, named by player. Then the rest
of the season is looked up: what a player's own hits say is off by twice as much as what all of them say together.

    python examples/pyro_program.py [FOLDER FOR THE PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from matplotlib.figure import Figure
from pyro import poutine
from pyro.infer.reparam import LocScaleReparam

import inference
import zoo

PLAYERS = {  # hits in the first 45 times at bat, average over the rest of the season
    "Clemente": (18, 0.346), "F. Robinson": (17, 0.298), "F. Howard": (16, 0.276), "Johnstone": (15, 0.222),
    "Berry": (14, 0.273), "Spencer": (14, 0.270), "Kessinger": (13, 0.263), "Alvarado": (12, 0.210),
    "Santo": (11, 0.269), "Swoboda": (11, 0.230), "Unser": (10, 0.264), "Williams": (10, 0.256),
    "Scott": (10, 0.303), "Petrocelli": (10, 0.264), "E. Rodriguez": (10, 0.226), "Campaneris": (9, 0.285),
    "Munson": (8, 0.316), "Alvis": (7, 0.200),
}  # fmt: skip


@poutine.reparam(config={"alpha": LocScaleReparam(centered=0.0)})
def partially_pooled(at_bats, hits=None):  # type: ignore[no-untyped-def]  # as people write it for Pyro
    loc = pyro.sample("loc", dist.Normal(-1, 1))
    scale = pyro.sample("scale", dist.HalfCauchy(1))
    with pyro.plate("player", len(at_bats)):
        alpha = pyro.sample("alpha", dist.Normal(loc, scale))
        pyro.deterministic("average", alpha.sigmoid())
        return pyro.sample("hits", dist.Binomial(at_bats, logits=alpha), obs=hits)


def main(out: Path = Path("out")) -> float:
    hits = torch.tensor([hits for hits, _ in PLAYERS.values()]).double()
    at_bats, season = torch.full_like(hits, 45), np.array([average for _, average in PLAYERS.values()])

    program = zoo.program(partially_pooled, coords={"player": list(PLAYERS)})
    posterior = inference.sample(program, at_bats, hits, progress=False)

    idata = inference.to_arviz(program, posterior, at_bats, hits)
    print(f"{posterior.chains} chains of {posterior.size} draws\n")
    print(az.summary(idata, var_names=["loc", "scale", "average"], kind="stats", round_to=3).to_string())

    together = idata["posterior"]["average"].mean(("chain", "draw")).to_numpy()
    alone = (hits / at_bats).numpy()
    errors = [float(((guess - season) ** 2).sum()) for guess in (alone, together)]
    print(f"\nSquared errors over the rest of the season: {errors[0]:.3f} of each player's own average,")
    print(f"{errors[1]:.3f} of what the program makes of them all.")

    out.mkdir(parents=True, exist_ok=True)
    picture(idata["posterior"]["average"], alone, season).savefig(out / "pyro_program.png", dpi=150)
    print(f"Can it be believed? {inference.check(program, posterior, at_bats, hits)}")
    assert errors[1] < errors[0] / 2, f"expected less than half of {errors[0]:.3f}, got {errors[1]:.3f}"
    return errors[1]


def picture(average: Any, alone: np.ndarray[Any, Any], season: np.ndarray[Any, Any]) -> Figure:
    """Each player: the average so far, what the program makes of it with 90 % intervals, and how the season went on."""
    names = list(PLAYERS)[::-1]
    low, middle, high = (average.quantile(q, ("chain", "draw")).to_numpy()[::-1] for q in (0.05, 0.5, 0.95))
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(names))
    axes.hlines(rows, low, high, color="#0072B2", alpha=0.4, linewidth=5, label="90 % of the posterior")
    axes.plot(middle, rows, "|", color="#0072B2", markersize=11, markeredgewidth=2, label="its median")
    axes.plot(alone[::-1], rows, "o", markerfacecolor="none", color="#666666", label="first 45 times at bat")
    axes.plot(season[::-1], rows, "D", color="#D55E00", markersize=5, label="rest of the season")
    axes.set(yticks=rows, yticklabels=names, xlabel="batting average", title="Eighteen batters of 1970, pooled")
    axes.legend(frameon=False, loc="lower right")
    return figure


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
