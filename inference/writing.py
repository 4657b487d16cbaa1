"""What the `zoo` command writes with a model of text."""

from __future__ import annotations

import argparse
from pathlib import Path

from inference.posterior import Posterior, draw
from inference.sequences import forecast
from zoo.base import ModelGuide
from zoo.datasets import text
from zoo.state.files import write

MOST_TEXT = 10_000  # characters of one continuation


def write_text(options: argparse.Namespace, pair: ModelGuide, letters: str) -> None:
    """Continuations of a prefix, one after the other, as a text file."""
    prefix = options.prefix or ("\n" if "\n" in letters else letters[0])
    if not 1 <= options.length <= MOST_TEXT:
        raise ValueError(f"--length: expected 1 to {MOST_TEXT}, got {options.length}")
    told = text.windows(prefix, letters, len(prefix))
    posterior = draw(pair, told, options.number, stats=False, seed=options.seed)
    posterior = posterior if posterior.draws else Posterior({}, size=options.number)
    heat = {"temperature": options.temperature, "top_p": options.top_p}
    found = forecast(pair, posterior, told, options.length, seed=options.seed, **heat)[0, :, 0]  # (S, H)
    said = [(options.prefix or "") + text.decode(codes, letters) for codes in found]
    write(Path(options.out), "\n\n".join(said).encode() + b"\n")
    print(f"{options.number} texts of {options.length} characters in {options.out}; the first:\n\n{said[0]}")
