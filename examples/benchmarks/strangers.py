"""Which strangers does a VAE find: by the disagreement of its decoder's weights, or by low likelihood?

    python examples/benchmarks/strangers.py [--quick] [--out FILE.json] [--only CASES] [--seeds S]

Two models of one shape, steps and data: `bayesian_vae`, scored by `inference.novelty` (variance of log p(x | weights)
over 50 draws of the weights, and the effective sample size of Daxberger & Hernández-Lobato 2019), and `gaussian_vae`,
scored by minus its log marginal, 200 importance samples. The figure is the AUROC on rows that neither model was fitted
to: how often a stranger scores higher than a usual row. 50 % is chance, below it strangers look more usual than the
data. Fashion-MNIST has 28x28 pixels, and digits (8x8, of scikit-learn) are resized to that by bilinear interpolation.

Each finished case goes into the JSON file at once; the next start skips what is there. One thread.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import pyro
import torch
from torch.nn import functional

import inference
import zoo
from zoo import datasets


@dataclass(frozen=True)
class Case:
    """Rows to learn, usual rows held out, strangers; and what the models are told."""

    data: object  # seed -> (learnt, usual, strange)
    steps: int
    config: dict = field(default_factory=dict)


def split(x, seed, held_out):
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    return x[order[held_out:]], x[order[:held_out]]


def digits():
    found = datasets.load("digits")
    return found.x.float(), torch.as_tensor(found.y)


def shifted(change):
    """Digits, and other digits changed."""

    def data(seed):
        learnt, rest = split(digits()[0], seed, 397)
        return learnt, rest[:200], change(rest[200:])

    return data


def half_of_the_classes(seed):
    x, y = digits()
    learnt, usual = split(x[y < 5], seed, 200)
    return learnt, usual, split(x[y >= 5], seed, 200)[1]


def fashion(scale):
    def data(seed):
        x = datasets.load("fashion_mnist").x.float().flatten(1)
        learnt, usual = split(x, seed, 1000)
        small = split(digits()[0], seed, 1000)[1].unflatten(1, (1, 8, 8)) * 255 / 16
        strange = functional.interpolate(small, size=(28, 28), mode="bilinear").flatten(1)
        return scale(learnt), scale(usual), scale(strange)

    return data


def bits(x):
    return (x > 127).float()


def upside_down(x):
    return x.unflatten(1, (8, 8)).flip(1).flatten(1)


EIGHT = {"features": 64, "latent": 8, "likelihood": "binomial", "trials": 16, "hidden": (64,)}
WIDE = {"features": 784, "latent": 20, "hidden": (200,)}
CASES = {
    "fashion against digits, bits": Case(fashion(bits), 4000, WIDE | {"likelihood": "bernoulli"}),
    "fashion against digits, grey": Case(fashion(lambda x: x / 255), 4000, WIDE | {"likelihood": "gaussian"}),
    "digits, overexposed": Case(shifted(lambda x: (2 * x).clamp(max=16)), 1500, EIGHT),
    "digits, upside down": Case(shifted(upside_down), 1500, EIGHT),
    "digits, faint": Case(shifted(lambda x: (x / 2).floor()), 1500, EIGHT),
    "digits 0-4 against 5-9": Case(half_of_the_classes, 1500, EIGHT),
}


def auroc(usual, strange):
    above = strange[:, None] - usual
    return float((above > 0).double().mean() + (above == 0).double().mean() / 2)


def run(case, seed, quick):
    learnt, usual, strange = case.data(seed)
    if quick:
        learnt, usual, strange = learnt[:500], usual[:50], strange[:50]
    steps, draws = (200, 10) if quick else (case.steps, 50)
    pairs = {}
    for name in ("bayesian_vae", "gaussian_vae"):
        torch.manual_seed(seed)
        pairs[name] = zoo.create(name, **case.config)
        inference.fit(pairs[name], learnt, steps=steps, batch_size=100, lr=1e-2, seed=seed, progress=False)
    rows = torch.cat([usual, strange])
    posterior = inference.draw(pairs["bayesian_vae"], usual[:1], draws, stats=False, seed=seed)
    options = {"posterior": posterior, "particles": draws, "seed": seed}
    scores = {
        "disagreement": inference.novelty(pairs["bayesian_vae"], rows, **options),
        "effective sample size": inference.novelty(pairs["bayesian_vae"], rows, score="ess", **options),
        "low likelihood": -inference.log_marginal(pairs["gaussian_vae"], rows, particles=200, seed=seed),
    }
    return {name: auroc(score[: len(usual)], score[len(usual) :]) for name, score in scores.items()}


SCORES = ("disagreement", "effective sample size", "low likelihood")


def table(done):
    """AUROC, mean over seeds and each seed's, as Markdown."""
    lines = [f"| strangers | {' | '.join(SCORES)} |", f"|{' --- |' * (len(SCORES) + 1)}"]
    for name in CASES:
        runs = [result for key, result in done.items() if key.startswith(f"{name} / ")]
        if runs:
            cells = [[result[score] for result in runs] for score in SCORES]
            best = max(range(len(SCORES)), key=lambda i: statistics.mean(cells[i]))
            shown = [f"{statistics.mean(c):.3f} ({', '.join(f'{v:.3f}' for v in c)})" for c in cells]
            shown[best] = f"**{shown[best]}**"
            lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main(arguments=None):
    """Run the cases that are missing and print the table; returns the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="200 steps on 500 rows: to see that it runs")
    parser.add_argument("--only", help=f"semicolon-separated, of: {'; '.join(CASES)}")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--out", type=Path, help="where results are kept (strangers.json, or strangers_quick.json)")
    options = parser.parse_args(arguments)
    wanted = [name.strip() for name in options.only.split(";")] if options.only else list(CASES)
    if unknown := set(wanted) - set(CASES):
        parser.error(f"--only: unknown {'; '.join(sorted(unknown))}; known: {'; '.join(CASES)}")
    path = options.out or Path("strangers_quick.json" if options.quick else "strangers.json")
    done = json.loads(path.read_text()) if path.exists() else {}
    torch.set_num_threads(1)
    for name in wanted:
        for seed in range(options.seeds or (1 if options.quick else 3)):
            key = f"{name} / seed {seed}{' / quick' if options.quick else ''}"
            if key in done:
                continue
            began = time.process_time()
            done[key] = run(CASES[name], seed, options.quick)
            fresh = path.with_suffix(".part")
            fresh.write_text(json.dumps(done, indent=1))
            fresh.replace(path)
            shown = ", ".join(f"{score} {value:.3f}" for score, value in done[key].items())
            print(f"{key}: {shown}; CPU s {time.process_time() - began:.0f}", flush=True)
    print(f"\ntorch {torch.__version__}, pyro {pyro.__version__}, Python {platform.python_version()}, 1 thread\n")
    print(table(done))
    return done


if __name__ == "__main__":
    main()
