"""Strangers among the digits: what the uncertainty of a decoder's weights tells, and what likelihood tells.

A VAE whose decoder weights are random learns 8x8 digits. Shown overexposed ones, the draws of its weights disagree
about them, since each extrapolates in its own way; their likelihood under a plain VAE hardly drops, since bright
strokes are easy to predict. Neither score is always the better one: examples/benchmarks/README.md has cases of both.

    python examples/out_of_distribution.py [FOLDER FOR THE PICTURE]
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


def main(out: Path = Path("out")) -> float:
    digits = datasets.load("digits").x
    learnt, usual = digits[:1400], digits[1400:1600]
    strange = (2 * digits[1600:1797]).clamp(max=16)
    settings = {"features": 64, "latent": 8, "likelihood": "binomial", "trials": 16}
    torch.manual_seed(0)
    bayesian, plain = zoo.create("bayesian_vae", **settings), zoo.create("gaussian_vae", **settings)
    for pair in (bayesian, plain):
        print(inference.fit(pair, learnt, steps=1200, lr=1e-2, progress=False))

    rows = torch.cat([usual, strange])
    disagreement = inference.novelty(bayesian, rows, draws=30, particles=30)
    unlikely = -inference.log_marginal(plain, rows, particles=200)
    found = {}
    for name, score in (("disagreement of the weights", disagreement), ("low likelihood", unlikely)):
        found[name] = auroc(score[len(usual) :], score[: len(usual)])
        print(f"{name}: a stranger scores higher than a usual digit in {found[name]:.1%} of pairs")

    out.mkdir(parents=True, exist_ok=True)
    picture(disagreement, len(usual)).savefig(out / "out_of_distribution.png", dpi=150)
    best = found["disagreement of the weights"]
    print(f"Can it be believed? {inference.check(plain, learnt)}")
    assert best > 0.8, f"chance is 50 %, this is {best:.1%}"
    return best


def auroc(strange: Tensor, usual: Tensor) -> float:
    """The share of pairs in which the stranger scores higher (Mann & Whitney 1947)."""
    return float((strange[:, None] > usual).double().mean())


def picture(score: Tensor, usual: int) -> Figure:
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    logs = score.clamp(min=1e-6).log10()
    for part, name, colour in ((logs[:usual], "digits", "#0072B2"), (logs[usual:], "overexposed digits", "#E69F00")):
        axes.hist(
            part.numpy(), bins=30, range=(float(logs.min()), float(logs.max())), color=colour, alpha=0.6, label=name
        )
    axes.set(xlabel="disagreement of the weights (log10 of nats squared)", ylabel="images")
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:2]))
