"""Two kinds of eruption: the posterior of a Gaussian mixture, read with ArviZ.

Old Faithful erupts either for two minutes or for four and a half, and the wait that follows goes with it. The posterior
of a mixture of two Gaussians is inferred from both numbers in minutes, as they stand, and says why it may be believed;
ArviZ then summarises it, scores it on eruptions left out one at a time, and the picture shows how sure it is of its
ellipses.

    python examples/gmm_arviz.py [FOLDER FOR THE PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import torch
from matplotlib.figure import Figure

import inference
import zoo
from zoo import Batch, datasets


def main(out: Path = Path("out")) -> float:
    data = datasets.load("faithful")
    pair = zoo.create("gmm", features=2, components=2).double()
    posterior = inference.infer(pair, data, progress=False)
    print(posterior)
    exported = inference.to_arviz(pair, posterior, data)
    print(az.summary(exported, var_names=["weights", "locs", "scales"], kind="stats").to_string())
    print(f"\nleave-one-out log score of the eruptions:\n{az.loo(exported)}")

    out.mkdir(parents=True, exist_ok=True)
    picture(data, exported).savefig(out / "gmm_arviz.png", dpi=150)

    long = float(exported.posterior["weights"].max("component").mean())
    print(f"Can it be believed? {inference.check(pair, data, posterior)}")
    assert abs(long - 0.644) < 0.02, f"the maximum-likelihood share of long eruptions is 0.644, this is {long:.3f}"
    return long


def picture(data: Batch, exported: Any) -> Figure:
    """The eruptions with one ellipse of two standard deviations for each of 40 draws, and the two mean waits."""
    draws = exported.posterior.isel(chain=0, draw=slice(0, None, 25))
    locs, scales, factors = (draws[name].values for name in ("locs", "scales", "correlations"))
    angle = np.linspace(0, 2 * np.pi, 100)
    circle = 2 * np.stack([np.cos(angle), np.sin(angle)])  # (2, 100)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    left.scatter(data.x[:, 0], data.x[:, 1], s=10, color="#666666", alpha=0.5)
    for k, colour in enumerate(("#0072B2", "#E69F00")):
        rings = locs[:, k, :, None] + scales[:, k, :, None] * (factors[:, k] @ circle)  # (draws, 2, 100)
        left.plot(rings[:, 0].T, rings[:, 1].T, color=colour, alpha=0.15)
    left.set(xlabel="eruption (minutes)", ylabel="wait for the next one (minutes)")
    left.set_title("two standard deviations, 40 draws of the posterior")
    for k, colour in enumerate(("#0072B2", "#E69F00")):
        waits = exported.posterior["locs"].isel(chain=0, component=k, feature=1)
        right.hist(waits.values, bins=30, density=True, color=colour, alpha=0.6)
    right.set(xlabel="mean wait (minutes)", yticks=[], title="posterior of the mean wait")
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:2]))
