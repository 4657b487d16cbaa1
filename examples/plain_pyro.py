"""A pair is plain Pyro: `pair.model` and `pair.guide` go into `pyro.infer.SVI` as they are.

A variational autoencoder learns handwritten digits with Pyro's own inference, optimiser and loss; nothing of ours
stands in between. Take this when you have a training loop already.

    python examples/plain_pyro.py [FOLDER FOR THE PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyro
import torch
from matplotlib.figure import Figure
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.optim import Adam

import inference
import zoo
from zoo import Batch, datasets


def main(out: Path = Path("out")) -> float:
    pyro.set_rng_seed(0)
    digits = datasets.load("digits").x.float()  # 1,797 images of 8 x 8 pixels; each pixel counts 0 to 16 inked cells
    pair = zoo.create("gaussian_vae", features=64, latent=8, hidden=[128], likelihood="binomial", trials=16)

    svi = SVI(pair.model, pair.guide, Adam({"lr": 3e-3}), Trace_ELBO())
    total, size, passes = len(digits), 128, 25
    for done in range(1, passes + 1):
        loss = 0.0
        for rows in torch.randperm(total).split(size):
            whole = svi.step(Batch(len(rows), total, x=digits[rows]))  # the plate scales up to all images
            loss += whole / total * len(rows) / total
        if done % 5 == 0:
            print(f"{done:2d} passes over the digits: {loss:.1f} nats per image")

    loss = svi.evaluate_loss(Batch(total, total, x=digits)) / total
    ink = digits.mean(0) / 16
    alone = -torch.distributions.Binomial(16, ink).log_prob(digits).sum(-1).mean().item()
    print(f"\nAn image costs {loss:.0f} nats; {alone:.0f} if every pixel were drawn by itself.")

    codes = Predictive(pair.model, num_samples=1)(Batch(16, 16))["z"][0]  # from the prior
    with torch.no_grad():
        invented = pair.decode(codes).mean
    out.mkdir(parents=True, exist_ok=True)
    picture(digits[:16], invented).savefig(out / "plain_pyro.png", dpi=150)
    print(f"Can it be believed? {inference.check(pair, digits)}")
    assert loss < 125, f"expected fewer than 125 nats per image, got {loss:.1f}"
    return loss


def picture(real: torch.Tensor, invented: torch.Tensor) -> Figure:
    """Real digits above, digits that the model invented below."""
    figure = Figure(figsize=(8, 1.3), layout="constrained")
    rows = figure.subplots(2, 16)
    for axes, image in zip(rows.flat, torch.cat([real, invented]).numpy(), strict=True):
        axes.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        axes.set_axis_off()
    figure.suptitle("real digits, and below them digits that the model invented", fontsize=9)
    return figure


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
