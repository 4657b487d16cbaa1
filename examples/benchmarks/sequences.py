"""Held-out log-likelihood of sequences: `variational_autoregressive` beside the deterministic `recurrent`.

    python examples/benchmarks/sequences.py [--quick] [--only sunspots] [--seeds 3] [--anneal 0] [--out FILE]

Two deterministic models stand beside the variational one: one with the same hidden size, and one with at least as many
parameters as the whole pair, its guide included. Theirs is the exact log-likelihood; the variational pair's is the ELBO
(mean of 20 draws; a lower bound), and the importance-weighted bound of 200 draws (tighter). All are fitted alike: Adam,
the same number of steps, the parameters that are best on validation windows; the weight of the KL terms rises over six
tenths of the steps (`--anneal 0`: not at all; then the states may never be used). Nats a step, higher is better; ± two
standard errors over held-out windows, and of a difference those of the differences.

chorales   of J. S. Bach: windows of 16 quarter notes, which of 54 pitches sound; 60 % of the pieces to fit, 10 % to
           validate, the rest held out. Read from the package music21, where it is installed.
sunspots   yearly numbers, square roots standardised by the fitted years: windows of 11 years, one from each year from
           1700 to 1843 to fit, four after those to validate, and the rest, end to end, held out.

Finished fits are kept in the JSON file, and not computed again. One thread.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import platform
import time
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch

import inference
import zoo
from inference.running.densities import run
from zoo import datasets
from zoo.base import Batch

LOW, HIGH, WINDOW = 33, 87, 16  # pitches as MIDI numbers them; quarter notes
SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
HIDDEN, LATENT = 32, 8
BASE = "recurrent"


def part_of(element):
    """(begin, end, pitch) of the notes of a part of a MusicXML score, in quarter notes."""
    now, divisions, begin, found = 0.0, 1.0, 0.0, []
    for node in element.iter():
        if node.tag == "divisions":
            divisions = float(node.text)
        elif node.tag in ("backup", "forward"):
            now += (1 if node.tag == "forward" else -1) * float(node.findtext("duration")) / divisions
        elif node.tag == "note" and node.find("grace") is None:
            begin = begin if node.find("chord") is not None else now
            now = begin + float(node.findtext("duration")) / divisions
            pitch = node.find("pitch")
            if pitch is not None:
                step = SEMITONES[pitch.findtext("step")] + int(float(pitch.findtext("alter") or 0))
                found.append((begin, now, 12 * (int(pitch.findtext("octave")) + 1) + step))
    return found


def roll_of(parts):
    """Which pitches sound on each beat, (T, 54)."""
    roll = np.zeros((math.ceil(max(end for part in parts for _, end, _ in part)), HIGH - LOW), np.float32)
    for begin, end, pitch in (note for part in parts for note in part):
        roll[math.ceil(begin) : math.ceil(end), pitch - LOW] = 1
    return roll


def chorales():
    """Windows (N, 16, 54) of the pieces to fit, to validate and held out, or None without music21."""
    found = importlib.util.find_spec("music21")
    if found is None or found.origin is None:
        return None
    pieces = []
    for path in sorted((Path(found.origin).parent / "corpus" / "bach").glob("bwv*.mxl")):
        with zipfile.ZipFile(path) as packed:
            name = next(name for name in packed.namelist() if name.endswith("xml") and "META" not in name)
            parts = [part_of(part) for part in ElementTree.fromstring(packed.read(name)).iter("part")]
        if len(parts) == 4 and all(parts):
            pieces.append(roll_of(parts))
    order = np.random.default_rng(0).permutation(len(pieces))
    ends = [round(share * len(pieces)) for share in (0.6, 0.7)]
    return tuple(
        torch.from_numpy(
            np.stack([pieces[i][s : s + WINDOW] for i in side for s in range(0, len(pieces[i]) - WINDOW + 1, WINDOW)])
        )
        for side in np.split(order, ends)
    )


def sunspots():
    """Windows (N, 11, 1) of years to fit, to validate and held out."""
    x = datasets.load("sunspots").x[0].float().sqrt()
    x = ((x - x[:154].mean()) / x[:154].std()).unsqueeze(-1)
    return tuple(
        x[begin:end].unfold(0, 11, step).mT.contiguous()
        for begin, end, step in ((0, 154, 1), (154, 198, 11), (198, None, 11))
    )


DATA = {"chorales": chorales, "sunspots": sunspots}
EMISSION = {"chorales": "bernoulli", "sunspots": "gaussian"}
STEPS = {"chorales": 1000, "sunspots": 600}
ANNEAL = 0.6  # of the steps


def batch_of(x):
    return Batch.of(x, lengths=torch.full((len(x),), x.shape[1]))


def size(pair):
    return sum(parameter.numel() for parameter in pair.parameters())


def models(name, features):
    """Label -> name and config of each pair."""
    common = {"emission": EMISSION[name], "features": features, "hidden": HIDDEN}
    latent = {guide: common | {"latent": LATENT, "guide": guide} for guide in ("filter", "smooth")}
    larger = HIDDEN
    while size(zoo.create(BASE, **common | {"hidden": larger})) < size(
        zoo.create("variational_autoregressive", **latent["smooth"])
    ):
        larger += 4
    return {
        f"{BASE}, H = {HIDDEN}": (BASE, common),
        f"{BASE}, H = {larger}": (BASE, common | {"hidden": larger}),
        **{f"variational, {guide}": ("variational_autoregressive", config) for guide, config in latent.items()},
    }


@torch.no_grad()
def scores(pair, test):
    """Held-out nats a step of each window: {what: (N,)}."""
    torch.manual_seed(0)
    batch, T = batch_of(test), test.shape[1]
    if "z" not in pair.dims:
        return {"exact": run(pair, batch).likelihood / T}
    pieces = [run(pair, batch, 20).log_weight for _ in range(10)]
    weights = torch.cat(pieces)
    return {"ELBO": pieces[0].mean(0) / T, "200 draws": (weights.logsumexp(0) - math.log(len(weights))) / T}


def fitted(kind, config, data, steps, anneal, seed):
    """One fit: held-out scores of every window, parameters and seconds."""
    train, validation, test = data
    torch.manual_seed(seed)
    pair, began = zoo.create(kind, **config), time.perf_counter()
    options = {"batch_size": 64, "lr": 1e-2, "patience": steps, "validation": batch_of(validation), "device": "cpu"}
    options |= {"compile": "off"} if kind == BASE else {"compile": "auto", "anneal": anneal}
    inference.fit(pair, batch_of(train), steps=steps, seed=seed, progress=False, **options)
    seconds = time.perf_counter() - began
    found = {what: value.tolist() for what, value in scores(pair, test).items()}
    return {"scores": found, "parameters": size(pair), "seconds": seconds}


def mean_and_error(values):
    """Mean over windows, and two standard errors."""
    return float(values.mean()), 2 * float(values.std(ddof=1)) / math.sqrt(len(values))


def table(runs):
    """The result as Markdown; `runs` holds the fits of every seed under the label of each model."""
    exact = [np.mean([run["scores"]["exact"] for run in fits], 0) for label, fits in runs.items() if BASE in label]
    best = max(exact, key=np.mean)
    head = "| model | parameters | seconds | held out | nats a step | less the better `recurrent` |"
    lines = [head, f"|{' --- |' * 6}"]
    for label, fits in runs.items():
        for what in fits[0]["scores"]:
            seeds = np.array([run["scores"][what] for run in fits])  # (seeds, windows)
            mean, error = mean_and_error(seeds.mean(0))
            more, width = mean_and_error(seeds.mean(0) - best)
            each = "" if len(seeds) == 1 else f" ({', '.join(f'{value:.3f}' for value in seeds.mean(1))})"
            beside = "" if more == 0 else f"{more:+.3f} ± {width:.3f}"
            seconds = np.mean([run["seconds"] for run in fits])
            lines.append(
                f"| {label} | {fits[0]['parameters']:,} | {seconds:.0f} | {what} | {mean:.3f} ± {error:.3f}{each} | "
                f"{beside} |"
            )
    return "\n".join(lines)


def main(arguments=None, data=DATA):
    """Fit what is not kept yet and print a table for each of the data sets; returns all fits."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="ten steps, sunspots only")
    parser.add_argument("--only", help="names of data sets, with commas")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--anneal", type=int, help="steps over which the weight of the KL terms rises to 1")
    parser.add_argument("--out", type=Path, default=Path("sequences.json"))
    options = parser.parse_args(arguments)
    wanted = options.only.split(",") if options.only else ["sunspots"] if options.quick else list(DATA)
    for name in wanted:
        if name not in data:
            parser.error(f"no '{name}'; there are: {', '.join(data)}")
    torch.set_num_threads(1)
    done = json.loads(options.out.read_text()) if options.out.exists() else {}
    print(f"Python {platform.python_version()}, torch {torch.__version__}, one thread")
    for name in wanted:
        windows = data[name]()
        if windows is None:
            print(f"{name}: music21 is not installed")
            continue
        steps, runs = 10 if options.quick else STEPS[name], {}
        anneal = round(ANNEAL * steps) if options.anneal is None else options.anneal
        for label, (kind, config) in models(name, windows[0].shape[-1]).items():
            for seed in range(options.seeds):
                key = f"{name} {label} seed={seed} steps={steps} anneal={anneal if kind != BASE else 0}"
                if key not in done:
                    done[key] = fitted(kind, config, windows, steps, anneal, seed)
                    fresh = options.out.with_suffix(".part")
                    fresh.write_text(json.dumps(done))
                    fresh.replace(options.out)
                runs.setdefault(label, []).append(done[key])
                means = {what: round(float(np.mean(v)), 3) for what, v in done[key]["scores"].items()}
                print(key, means, flush=True)
        fit, _, held = windows
        told = f"{len(fit)} windows of {fit.shape[1]} steps and {fit.shape[2]} features to fit, {len(held)} held out"
        print(f"\n{name}: {told}; {steps} steps, anneal {anneal}\n\n{table(runs)}\n")
    return done


if __name__ == "__main__":
    main()
