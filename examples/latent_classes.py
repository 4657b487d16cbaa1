"""Latent classes: three kinds of wine, found without being told.

Thirteen measurements of 178 wines from three grapes. Naive Bayes with hidden classes (latent class analysis) finds
three groups in them; held against the grapes, nearly every wine is in the right one. Then ten labels are shown to it.

    python examples/latent_classes.py [FOLDER FOR THE PICTURE]
"""

from __future__ import annotations

import sys
from itertools import permutations
from pathlib import Path

import torch

import inference
import zoo
from inference.drawing import plane
from zoo import Batch, datasets


def main(out: Path = Path("out")) -> float:
    wine = datasets.load("wine")
    names = datasets.describe("wine").columns
    columns = [(name, "real") for name in names]
    pair = zoo.create("naive_bayes", columns=columns, target=3)
    print(inference.fit(pair, wine.x, steps=300, progress=False))  # no y: the classes are hidden

    probabilities = inference.encode(pair, wine.x).mean["label"]  # (N, 3)
    found = probabilities.argmax(1)
    # Which class is called what is arbitrary: take the naming that agrees best.
    order = max(permutations(range(3)), key=lambda names: int((torch.tensor(names)[found] == wine.y).sum()))
    agree = float((torch.tensor(order)[found] == wine.y).double().mean())
    unsure = int((probabilities.max(1).values < 0.9).sum())
    print(f"hidden classes agree with the grapes on {agree:.1%} of the wines; {unsure} of {wine.size} are unsure")

    few = torch.full((wine.size,), torch.nan)
    few[::18] = wine.y[::18].float()
    told = zoo.create("naive_bayes", columns=columns, target=3)
    inference.fit(told, Batch.of(wine.x, few), steps=300, progress=False)
    named = inference.encode(told, wine.x).mean["label"].argmax(1)
    right = float((named == wine.y).double().mean())
    print(f"with {int((~few.isnan()).sum())} labels the classes have names, right for {right:.1%} of the wines")

    out.mkdir(parents=True, exist_ok=True)
    plane.latent_map(wine.x[:, [6, 9]], torch.tensor(order)[found]).savefig(out / "latent_classes.png", dpi=150)
    print(f"Can it be believed? {inference.check(pair, wine.x)}")
    assert agree > 0.9, f"scikit-learn's naive Bayes with all labels agrees on 98.9 %, this on {agree:.1%}"
    return agree


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:2]))
