"""`zoo score RUN DATA`: how likely data are to a model that has not seen them, row by row."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from inference.command import files
from inference.command.fit import text_of
from inference.command.loading import data_of
from inference.data.check import check
from inference.posterior.draws import draw
from inference.posterior.likelihood import log_score
from inference.questions.texts import perplexity
from zoo.abilities import Text
from zoo.base import ModelGuide
from zoo.datasets.opening import kind_of


def score_rows(options: argparse.Namespace) -> None:
    """Say the mean score of the rows of a file or data set, with its standard error; of a text, its perplexity."""
    if options.data is not None:
        raise ValueError("--data: names the data of the fit; leave it out where DATA that it has not seen are scored")
    if options.out is not None:
        out = Path(options.out)
        if out.suffix.lower() != ".csv":
            raise ValueError(f"--out {out}: expected a name that ends in .csv")
        files.check_free([out], replace=options.replace)
    pair = files.load(options.folder)
    if kind_of(options.new) == ".txt" and isinstance(pair, Text) and pair.alphabet is not None:
        _score_text(options, pair)
        return
    known = pair.card.get("data") or {}
    header = known.get("header") if options.header is None else options.header
    given = check(pair, data_of(pair, options.new, known.get("target"), header)[0])
    draws = draw(pair, given, options.draws, stats=False, seed=options.seed)
    found = log_score(pair, draws, given, seed=options.seed).double().cpu()
    print(_said(found, options.new))
    lengths = given.batch.lengths
    if pair.image is not None and given.observed["x"].discrete:  # a probability, of which bits can be told
        pixels = given.observed["x"].event_shape.numel()
        print(f"{-float(found.mean()) / pixels / math.log(2):.4f} bits for each of {pixels} pixels")
    columns: dict[str, list[float]] = {"row": list(range(1, given.size + 1)), "log_density": found.tolist()}
    if lengths is not None:
        steps = float(lengths.sum())
        print(f"{found.sum() / steps:.4f} nats a step, of {steps:.0f} steps")
        columns["steps"] = lengths.tolist()
    _written(options, columns)


def _said(found: Tensor, source: str) -> str:
    """The mean and its standard error, in words."""
    error = f" ± {float(found.std()) / math.sqrt(len(found)):.4f}, its standard error" if len(found) > 1 else ""
    rows = f"{len(found)} rows" if len(found) > 1 else "1 row"
    return f"log density of {rows} of {source}: {float(found.mean()):.4f} nats a row{error} (higher is better)"


def _score_text(options: argparse.Namespace, pair: ModelGuide) -> None:
    """Bits per character and perplexity of a text, as it is read from its beginning to its end."""
    found = perplexity(pair, text_of(options.new), seed=options.seed)
    bits = torch.cat(found.steps) / math.log(2)
    error = float(bits.std()) / math.sqrt(len(bits)) if len(bits) > 1 else math.nan
    print(f"{options.new}: {found} (standard error of the bits {error:.2g})")
    frame = found.frame().reset_index()
    _written(options, {str(name): frame[name].tolist() for name in frame.columns})


def _written(options: argparse.Namespace, columns: dict[str, list[float]]) -> None:
    if options.out is not None:
        files.save(Path(options.out), dict(columns))
        print(f"a line for each in {options.out}")
