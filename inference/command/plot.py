"""`zoo plot`: a picture of a fitted model and its data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from inference.command import files
from inference.command.fit import load
from inference.command.loading import data_of
from inference.command.rescore import place_of
from inference.command.rows import column
from inference.command.words import plain
from inference.data.check import check, example
from inference.gallery.door import kinds, plot
from zoo import datasets


def draw(options: argparse.Namespace) -> None:
    """A picture of the kind that suits, or that is asked for."""
    options.picture = options.out
    files.check_free([files.picture_path(options.out, "--out")], replace=options.replace)
    pair = files.load(options.folder)
    known = pair.card.get("data") or {}
    source = options.data or known.get("name")
    data, place = None, ""
    if source is not None:
        place = options.data or place_of(Path(options.folder), str(source), known.get("path"))
        there = place in datasets.names() or Path(place).is_file()
        if options.data is None and not there:
            print(f"note: the data of the fit, '{place}', are not there; --data FILE names others", flush=True)
        else:
            header = options.header if options.header is not None else known.get("header")
            data, columns = data_of(pair, place, known.get("target"), header)
            if data.x is not None and data.columns is None and data.x.shape[1:] == (len(columns),):
                data = data.but(columns=tuple(columns))
    color: Any = options.color
    more: dict[str, Any] = plain(options.set)
    if color not in (None, "cluster"):
        if data is None:
            raise ValueError(f"--color {color}: it colours rows of data, and none were named: --data FILE")
        if color != "y":
            color, more = column(place, color, options.header), {**more, "name": color}
        elif data.y is None:  # which the model does not read
            color, more = load(place, None, options.header)[0].y, {**more, "name": "y"}
            if color is None:
                raise ValueError(f"--color y: '{place}' has no y")
    kind = options.what or ("map" if color is not None else None)
    figure = plot(pair, data, kind=kind, color=color, seed=options.seed, **more)
    files.draw_picture(options, figure)
    others = kinds(example(pair) if data is None else check(pair, data), bare=data is None)
    print(f"other kinds: {', '.join(name for name in others if name != kind)}")
