"""Images from a file to an answer: how well a model codes them, and which of them do not belong.

A VAE learns 8x8 digits, whose shape and likelihood are read off the data. New digits cost it so many bits a pixel;
digits turned on their side are stranger to it than nearly all of the usual ones. The number is the mean share of usual
digits that are less strange than a turned one: 0.5 if the model told nothing.

    python examples/image_anomalies.py [FOLDER FOR THE PICTURES]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

import inference
from zoo import datasets


def main(out: Path = Path("out")) -> float:
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "digits.npz", x=datasets.load("digits").x.reshape(-1, 8, 8))  # an archive as people have them

    images = datasets.load(out / "digits.npz").x
    learnt, usual, turned = images[:1400], images[1400:1600], images[1600:].rot90(dims=(1, 2))
    pair = inference.pair_for("gaussian_vae", learnt, latent=8)
    print(inference.fit(pair, learnt, steps=300, progress=False))
    print(inference.bits_per_dimension(pair, usual, tight=True, draws=50))
    found = inference.anomaly(pair, turned, reference=usual)
    print(found.nlargest(5, "score"))
    inference.plot(pair, usual, kind="reconstructions").savefig(out / "digits_coded.png", dpi=150)
    both = torch.cat([usual, turned])
    inference.plot(pair, both, color=inference.anomaly(pair, both)["score"]).savefig(out / "digits_turned.png", dpi=150)

    share = float(found["share"].mean())
    print(f"a turned digit is stranger than {share:.0%} of the usual ones")
    print(f"Can it be believed? {inference.check(pair, learnt)}")
    assert share > 0.95, f"half of them would say nothing, this is {share:.2f}"
    return share


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:2]))
