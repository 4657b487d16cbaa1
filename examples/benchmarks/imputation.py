"""Imputation of real mixed tables, cells removed completely at random, against scikit-learn's imputers.

    python examples/benchmarks/imputation.py [--quick] [--masks 10] [--only penguins] [--out imputation.json]

Tables: `diabetes` (scikit-learn), `penguins` (PyPI's palmerpenguins, or penguins.csv in ZOO_DATA) and `credit-g`
(Debian's weka, or credit-g.arff in ZOO_DATA); what is not there is reported as missing. Each mask removes 20 % or 50 %
of the cells; a row left without a cell is left out. The error of a column is the root mean squared error over its
standard deviation (numbers), or the share of wrong categories over that of always guessing the commonest; a table's is
the mean over its columns, so that filling in means and modes scores about 1. The model's settings are the same for
every table: L = D / 2, 2,000 steps, everything else the default (chosen on another mask of `diabetes`).

Finished pieces are kept in the JSON file, and not computed again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import time
import warnings
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.datasets import load_diabetes
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - makes the next import possible
from sklearn.impute import IterativeImputer, KNNImputer

import inference
import zoo
from zoo.datasets import Schema, table

RATES = (0.2, 0.5)
METHODS = ("mean/mode", "5 neighbours", "iterative", "naive_bayes_vae")


def diabetes():
    return load_diabetes(as_frame=True, scaled=False).frame


def penguins():
    found = importlib.util.find_spec("palmerpenguins")
    places = [Path(os.environ.get("ZOO_DATA", ".")) / "penguins.csv"]
    places += [Path(found.origin).parent / "data" / "penguins.csv"] if found and found.origin else []
    return table(next((path for path in places if path.is_file()), places[0]))


def credit():
    places = [Path(os.environ.get("ZOO_DATA", ".")), Path("/usr/share/doc/weka/examples")]
    return table(next((p / "credit-g.arff" for p in places if (p / "credit-g.arff").is_file()), places[0]))


TABLES = {"diabetes": diabetes, "penguins": penguins, "credit-g": credit}


class Design:
    """The matrix that scikit-learn's imputers see: standardised numbers and levels, one column a category."""

    def __init__(self, schema, x):
        self.schema, self.blocks, parts, width = schema, [], [], 0
        for j, column in enumerate(schema.used):
            cells = x[:, j]
            if column.kind in ("binary", "categorical"):
                part = np.full((len(x), len(column.categories)), np.nan)
                seen = ~np.isnan(cells)
                part[seen] = np.eye(len(column.categories))[cells[seen].astype(int)]
                self.blocks.append((j, slice(width, width + part.shape[1]), None))
            else:
                centre, unit = np.nanmean(cells), np.nanstd(cells) or 1.0
                part = ((cells - centre) / unit)[:, None]
                self.blocks.append((j, slice(width, width + 1), (centre, unit)))
            parts.append(part)
            width += part.shape[1]
        self.matrix = np.concatenate(parts, 1)

    def back(self, matrix, x):
        """The table with its missing cells filled from an imputed matrix."""
        filled = x.copy()
        for j, where, units in self.blocks:
            missing = np.isnan(x[:, j])
            if units is None:
                filled[missing, j] = matrix[missing, where].argmax(1)
                continue
            values = matrix[missing, where.start] * units[1] + units[0]
            if self.schema.used[j].kind == "ordinal":
                values = values.round().clip(0, len(self.schema.used[j].categories) - 1)
            filled[missing, j] = values
        return filled


def mean_or_mode(schema, x):
    filled = x.copy()
    for j, column in enumerate(schema.used):
        cells = x[~np.isnan(x[:, j]), j]
        filled[np.isnan(x[:, j]), j] = np.bincount(cells.astype(int)).argmax() if column.categories else cells.mean()
    return filled


def scikit_learn(imputer, schema, x):
    design = Design(schema, x)
    return design.back(imputer.fit_transform(design.matrix), x)


def ours(schema, x, seed, steps):
    """The completed table, and the share of removed numbers that lie in their 90 % intervals, as a function."""
    torch.manual_seed(seed)
    pair = zoo.create("naive_bayes_vae", columns=schema, latent=max(1, len(schema.used) // 2))
    data = torch.from_numpy(x)
    inference.fit(pair, data, steps=steps, lr=3e-3, seed=seed, progress=False)
    found = inference.impute(pair, data, draws=200, seed=seed)
    rows, places = found.rows.numpy(), found.columns.numpy()
    filled = x.copy()
    filled[rows, places] = found.point().numpy()[rows, places]
    low, high = (bound.numpy() for bound in found.interval(0.9))

    def coverage(truth):
        known = np.array([not schema.used[j].categories for j in places]) & ~np.isnan(truth[rows, places])
        inside = (truth[rows, places] >= low - 1e-4) & (truth[rows, places] <= high + 1e-4)
        return float(inside[known].mean())

    return filled, coverage


def error(schema, truth, filled, removed):
    """Mean over columns of the normalised error of the cells removed."""
    errors = []
    for j, column in enumerate(schema.used):
        cells, whole = removed[:, j], truth[~np.isnan(truth[:, j]), j]
        if not cells.any():
            continue
        if column.categories:
            guess = 1 - np.bincount(whole.astype(int)).max() / len(whole)
            errors.append(np.mean(truth[cells, j] != filled[cells, j]) / guess)
        else:
            errors.append(np.sqrt(np.mean((truth[cells, j] - filled[cells, j]) ** 2)) / whole.std())
    return float(np.mean(errors))


def piece(name, rate, seed, steps):
    """Errors of every method on one mask of one table."""
    frame = TABLES[name]()
    schema = Schema.infer(frame)
    truth = schema.encode(frame)
    rng = np.random.default_rng([seed, round(100 * rate)])
    removed = (rng.random(truth.shape) < rate) & ~np.isnan(truth)
    x = np.where(removed, np.nan, truth)
    kept = ~np.isnan(x).all(1)
    x, truth, removed = x[kept], truth[kept], removed[kept]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        filled = {
            "mean/mode": mean_or_mode(schema, x),
            "5 neighbours": scikit_learn(KNNImputer(keep_empty_features=True), schema, x),
            "iterative": scikit_learn(IterativeImputer(random_state=seed, keep_empty_features=True), schema, x),
        }
    began = time.perf_counter()
    filled["naive_bayes_vae"], coverage = ours(schema, x, seed, steps)
    found = {method: error(schema, truth, filled[method], removed) for method in METHODS}
    return {**found, "coverage": coverage(truth), "seconds": time.perf_counter() - began}


def summary(done, settings):
    """The result as a Markdown table."""
    heads = ["table", "missing", *METHODS, "90 % intervals cover", "seconds a fit"]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for name in TABLES:
        for rate in RATES:
            runs = [run for key, run in done.items() if key.startswith(f"{name} {rate} ") and key.endswith(settings)]
            if not runs:
                lines.append(f"| {name} | {rate:.0%} | missing here |" + " |" * (len(heads) - 3))
                continue
            cells = []
            for method in METHODS:
                errors = np.array([run[method] for run in runs])
                half = 1.96 * errors.std(ddof=1) / np.sqrt(len(errors)) if len(errors) > 1 else np.nan
                cells.append(f"{errors.mean():.3f} ± {half:.3f}")
            best = min(range(len(METHODS)), key=lambda i: np.mean([run[METHODS[i]] for run in runs]))
            cells[best] = f"**{cells[best]}**"
            covered, seconds = (np.mean([run[what] for run in runs]) for what in ("coverage", "seconds"))
            lines.append(f"| {name} | {rate:.0%} | {' | '.join(cells)} | {covered:.1%} | {seconds:.0f} |")
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="one mask, 200 steps, the smallest table")
    parser.add_argument("--masks", type=int, default=10)
    parser.add_argument("--only", help="names of tables, with commas")
    parser.add_argument("--out", type=Path, default=Path("imputation.json"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    steps, masks = (200, 1) if options.quick else (2000, options.masks)
    wanted = options.only.split(",") if options.only else ["diabetes"] if options.quick else list(TABLES)
    settings = f"steps={steps}"
    done = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in wanted:
        for rate in RATES:
            for seed in range(masks):
                key = f"{name} {rate} {seed} {settings}"
                if key in done:
                    continue
                try:
                    done[key] = piece(name, rate, seed, steps)
                except ValueError as trouble:
                    print(f"{name}: missing ({trouble})")
                    break
                fresh = options.out.with_suffix(".part")
                fresh.write_text(json.dumps(done, indent=1))
                fresh.replace(options.out)
                print(key, {what: round(value, 3) for what, value in done[key].items()}, flush=True)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    print(f"\nNormalised error, mean over masks ± 95 % interval; {settings}; 1 thread; {versions}\n")
    print(summary(done, settings))
    return done


if __name__ == "__main__":
    main()
