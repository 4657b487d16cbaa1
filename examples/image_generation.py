"""New handwritten digits from a variational autoencoder, and what its code means.

A VAE with a VampPrior learns 8x8 digits; pictures show digits that nobody wrote, walks between the codes of two real
ones, and what each dimension of the code does. The number is the log density of digits it has not seen.

    python examples/image_generation.py [FOLDER FOR THE PICTURES]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import inference
import zoo
from inference.gallery import observations, paths
from zoo import datasets


def main(out: Path = Path("out")) -> float:
    digits = datasets.load("digits")
    learnt, unseen = digits.x[:1500], digits.x[1500:]
    torch.manual_seed(0)
    pair = zoo.create(
        "gaussian_vae", features=64, latent=8, likelihood="beta_binomial", trials=16, prior="vamp", components=20
    )
    print(inference.fit(pair, learnt, steps=800, progress=False))
    for line in inference.collapsed(pair, unseen):
        print(line)
    print("nats that each dimension of the code carries:", inference.code_kl(pair, unseen)["z"].numpy().round(1))

    out.mkdir(parents=True, exist_ok=True)
    observations.samples(pair, 60).savefig(out / "digits_sampled.png", dpi=150)
    paths.interpolations(pair, unseen).savefig(out / "digits_between.png", dpi=150)
    paths.traversals(pair, unseen).savefig(out / "digits_traversed.png", dpi=150)

    density = float(inference.log_marginal(pair, unseen, particles=200).mean())
    print(f"log density of an unseen digit: {density:.1f} nats")
    print(f"Can it be believed? {inference.check(pair, learnt)}")
    assert density > -100, f"a histogram of each pixel gives -107.5 nats, this is {density:.1f}"
    return density


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:2]))
