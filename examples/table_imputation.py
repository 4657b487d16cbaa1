"""Filling the holes of a mixed table, and saying how sure each value is.

Thirteen measurements of 178 wines and the grape they came from, with a fifth of the cells removed. A VAE whose encoder
takes any pattern of holes learns from the rest and draws each hole 200 times: numbers get intervals, categories
probabilities. Here the truth is known, so that both can be held against it.

    python examples/table_imputation.py [FOLDER FOR THE PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

import inference
import zoo
from inference.command import tables
from inference.gallery import imputations
from zoo import datasets
from zoo.datasets import Schema


def main(out: Path = Path("out")) -> float:
    wine = datasets.load("wine")
    names = datasets.describe("wine").columns
    table = {name: wine.x[:, i].tolist() for i, name in enumerate(names)}
    table["grape"] = [("Barolo", "Grignolino", "Barbera")[k] for k in wine.y.tolist()]
    schema = Schema.infer(table)
    truth = schema.encode(table)
    holes = np.random.default_rng(0).random(truth.shape) < 0.2
    table = {name: [None if hole else cell for cell, hole in zip(cells, holes[:, i], strict=True)]
             for i, (name, cells) in enumerate(table.items())}  # fmt: skip
    print(schema, "\n")

    torch.manual_seed(0)
    pair = zoo.create("naive_bayes_vae", columns=schema, latent=3)
    print(inference.fit(pair, table, steps=600, progress=False))
    found = inference.impute(pair, table, draws=200)
    print(tables.in_words(found, schema))
    print("\nthe first wine:", found.frame().iloc[0].to_dict())

    out.mkdir(parents=True, exist_ok=True)
    imputations.imputations(found, schema).savefig(out / "table_imputation.png", dpi=150)

    error = ((found.point().numpy() - truth) / truth.std(0))[:, :13][holes[:, :13]]
    error = float(np.sqrt(np.mean(error**2)))
    print(f"error of a filled number: {error:.2f} standard deviations of its column (its mean would leave 1.00)")
    print(f"Can it be believed? {inference.check(pair, table)}")
    assert error < 0.85, f"filling in means leaves 1.00, this {error:.2f}"
    return error


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:2]))
