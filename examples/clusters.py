"""Clusters of a table: how many rows in each, what sets them apart, and a map of them.

A Gaussian mixture finds three groups among 150 flowers without being told their species. The number is the share of
flowers that stand in the group of their species.

    python examples/clusters.py [FOLDER FOR THE PICTURES]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import torch

import inference
from zoo import datasets


def main(out: Path = Path("out")) -> float:
    out.mkdir(parents=True, exist_ok=True)
    iris = datasets.load("iris")
    flowers = pd.DataFrame(iris.x.numpy(), columns=datasets.describe("iris").columns)
    species = pd.Series(["setosa", "versicolor", "virginica"], name="species")[iris.y.numpy()].to_list()

    pair = inference.pair_for("gmm", flowers, components=3, dtype=torch.float64)
    inference.fit(pair, flowers, method="em", progress=False)
    print(inference.profile(pair, flowers))
    cluster = inference.encode(pair, flowers).mean["component"].argmax(1)
    print(pd.crosstab(pd.Series(species, name="species"), pd.Series(cluster.numpy(), name="cluster")))
    inference.plot(pair, flowers).savefig(out / "flowers_by_cluster.png", dpi=150)
    inference.plot(pair, flowers, color=species).savefig(out / "flowers_by_species.png", dpi=150)

    share = pd.crosstab(cluster.numpy(), species).max(axis=1).sum() / len(flowers)
    print(f"{share:.0%} of the flowers are in the group of their species")
    print(f"Can it be believed? {inference.check(pair, flowers)}")
    assert share > 0.95, f"scikit-learn's best of ten starts has 0.967, this is {share:.3f}"
    return float(share)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:2]))
