"""`zoo demo`: two models, two real data sets, everything said in words a newcomer understands."""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import zoo
from inference.command import latents, run_folder
from inference.drawing import plane, plots
from inference.fitting.fit import Fit, fit
from inference.posterior.draws import Posterior, draw, predict, prior
from inference.posterior.export import to_arviz
from inference.posterior.khat import khat
from inference.posterior.loo import resample
from inference.posterior.psis import threshold
from inference.reporting.door import report
from inference.reporting.words import HEADS
from zoo.base import Batch, ModelGuide

PAGE = "report.html"


def show(options: argparse.Namespace) -> None:
    """`zoo demo`."""
    run(Path(options.out))


def run(out: Path) -> dict[str, float]:
    """Fit both models, print what came out, leave pictures in `out`; returns the scores.

    Raises:
        ValueError: `out` cannot be a folder.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {out}: cannot be written ({error.strerror})") from error
    began, used = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = {**eruptions(out), **digits(out)}
    _say(
        f"""
Done in {time.perf_counter() - began:.0f} s ({time.process_time() - used:.0f} s of computing). Next:

  look at the pictures    {out}/*.png
  fit a model yourself    zoo fit gmm --data iris --set components=3 --out run
  get a page about it     zoo report run
  see what else there is  zoo list

Whether the eruptions' numbers can be believed, with pictures, on one page for your browser:

  {out / PAGE}"""
    )
    return scores


def _say(text: str = "") -> None:
    print(text, flush=True)


def split(data: Batch, share: float = 0.2) -> tuple[Batch, Batch]:
    """A shuffled part to fit, and one to hold out."""
    order = torch.randperm(data.size, generator=torch.Generator().manual_seed(0))
    count = round(share * data.size)
    held_out, kept = data.select(order[:count]), data.select(order[count:])
    return kept.but(total=kept.size), held_out.but(total=held_out.size)


def _told(result: Fit) -> None:
    how = "as one traced graph" if result.compile == "graph" else "by plain Pyro"
    _say(f"  {result.steps} steps {how} in {result.seconds:.1f} s; stopped: {result.reason}")


def _save(out: Path, name: str, figure: Any, about: str) -> None:
    figure.savefig(out / f"{name}.png")
    _say(f"  {out / name}.png: {about}")


# The geyser ----------------------------------------------------------------------------------------------------------
def eruptions(out: Path) -> dict[str, float]:
    """A Bayesian Gaussian mixture of the eruptions of Old Faithful."""
    _say(
        """1. OLD FAITHFUL: a Bayesian mixture of two Gaussians

272 eruptions of a geyser: how long each lasted, and the wait for the next. There seem to be two kinds of eruption.
The model learns how common each kind is, where it lies and how far it spreads, and how sure it can be of each number.
"""
    )
    names = zoo.datasets.describe("faithful").columns
    train, held_out = split(zoo.datasets.load("faithful"))
    torch.manual_seed(0)
    pair = zoo.create("gmm", features=2, components=2, guide="multivariate").double()
    result = fit(pair, train, steps=1500, callbacks=[run_folder.follow("gmm")])
    _told(result)
    posterior = draw(pair, train, 1000)
    exported = to_arviz(pair, posterior, train, predictive=False, coords=run_folder.labels(pair, train, names))
    _say("\nWhat the data say about each number (ArviZ: mean, standard deviation, and the most probable interval):\n")
    for line in latents.table(exported, ["weights", "locs", "scales"], 20):
        _say(f"  {line}")
    score = float(run_folder.log_density(pair, posterior, held_out).mean())
    alone = _one_gaussian(train, held_out)
    believed = khat(pair, train)
    _say(
        f"""
  {score:.3f} nats: score of {held_out.size} eruptions it has not seen, the mean log density (higher is better);
  {alone:.3f} nats: the score of a single Gaussian.

Can the numbers above be believed? The fit replaces the exact posterior by a simpler one; k̂ tells how far apart the two
are: below 0.5 is good, up to {threshold(believed.draws):.2f} usable; above that the intervals are too narrow or off.
  {believed}
"""
    )
    few = posterior.thin(100)
    density = plane.mixture_density(
        train.x,
        lambda points: run_folder.log_density(pair, few, points),
        names=("length of the eruption (minutes)", "wait for the next one (minutes)"),
    )
    _save(out, "mixture_density", density, "the density it learned, over the data")
    weighed = resample(draw(pair, train, 2000), 1000)  # by p / q, which corrects what the guide simplifies
    page = report(pair, train.but(columns=tuple(names)), weighed, command="zoo demo")
    _say(f"  {page.save(out / PAGE)}: a page about all this; its verdict: {HEADS[page.verdict].lower()}")
    return {"gmm_log_score": score, "gmm_khat": believed.globals if believed.globals is not None else float("nan")}


def _one_gaussian(train: Batch, held_out: Batch) -> float:
    """Held-out mean log density of the Gaussian with the mean and covariance of the training data."""
    x, new = _x(train), _x(held_out)
    normal = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T))
    return float(normal.log_prob(new).mean())


def _x(data: Batch) -> Tensor:
    if data.x is None:
        raise ValueError("the demo's data have an x")
    return data.x.double()


# The digits ----------------------------------------------------------------------------------------------------------
LATENT, TRIALS = 6, 16


def digits(out: Path, epochs: int = 120) -> dict[str, float]:
    """A variational autoencoder of handwritten digits."""
    _say(
        f"""
2. HANDWRITTEN DIGITS: a variational autoencoder

1,797 images of 8 x 8 pixels, each holding 0 to {TRIALS} points of ink. One network squeezes an image into {LATENT}
numbers, its code; another draws an image from a code. Nobody tells them which digit is which.
"""
    )
    data = zoo.datasets.load("digits")
    train, held_out = split(data)
    torch.manual_seed(0)
    pair = zoo.create(
        "gaussian_vae",
        features=64,
        latent=LATENT,
        hidden=(256, 128),
        likelihood="beta_binomial",
        trials=TRIALS,
        guide="full",
    )
    result = fit(pair, train, epochs=epochs, batch_size=128, lr=5e-3, callbacks=[run_folder.follow("vae")])
    _told(result)
    score = float(run_folder.log_density(pair, draw(pair, held_out, 1), held_out).mean())
    alone = _pixel_by_pixel(train, held_out)
    believed = khat(pair, held_out)
    share = float(believed.reliable.mean()) if believed.reliable is not None else float("nan")
    _say(
        f"""
  {score:.2f} nats: score of {held_out.size} digits it has not seen, the mean log probability (higher is better);
  {alone:.2f} nats: the score of knowing only how often each pixel has each amount of ink.

Can the codes be believed? For {share:.0%} of the new images the encoder's guess is so near the exact posterior of the
code that importance weights can correct it (k̂ below {threshold(believed.particles):.2f}). For the others read the code
as a good place on the map rather than as a probability; their true score is likely a little higher than the one above.
"""
    )
    first = torch.stack([(held_out.y == digit).nonzero()[0, 0] for digit in range(10)])  # type: ignore[union-attr]
    shown = held_out.select(first).but(total=len(first))
    rebuilt = predict(pair, draw(pair, shown, 200), shown)["x"].float().mean((0, 1))
    pictures = plots.reconstructions(_x(shown), rebuilt, len(first))
    _save(out, "reconstructions", pictures, "the first new image of each digit, above what its code brings back")
    made = plots.samples(_expected_ink(pair, 48), columns=12)
    _save(out, "samples", made, "digits that nobody wrote, from codes drawn at random")
    codes = draw(pair, data, 20)["z"].mean((0, 1))
    names = [str(digit) for digit in range(10)]
    _save(out, "latent_map", plane.latent_map(codes, data.y, names=names), "the codes of all images, coloured by digit")
    _save(out, "loss", result.plot(), "how the fit went")
    return {"vae_log_score": score, "vae_khat_share": share}


def _expected_ink(pair: ModelGuide, count: int, repeats: int = 200) -> Tensor:
    """Images drawn from the prior, each the mean over its pixels' noise, (count, 64)."""
    codes = prior(pair, count, draws=1, seed=1)
    same = {name: value.expand(-1, repeats, *value.shape[2:]) for name, value in codes.draws.items()}
    repeated: Posterior = replace(codes, draws=same, size=repeats)
    return predict(pair, repeated, count)["x"].float().mean((0, 1))


def _pixel_by_pixel(train: Batch, held_out: Batch) -> float:
    """Held-out mean log probability when each pixel alone follows its histogram in the training data (add-one rule)."""
    x, new = _x(train).long(), _x(held_out).long()
    counts = torch.nn.functional.one_hot(x, TRIALS + 1).sum(0) + 1.0  # (64, 17)
    log_probs = (counts / counts.sum(-1, keepdim=True)).log()
    return float(log_probs.gather(1, new.T).sum(0).mean())
