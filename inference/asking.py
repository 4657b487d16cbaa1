"""What the `zoo` command answers about a fitted model: what comes next in a sequence, and what a network believes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from inference import commands, queries
from inference.posterior import draw
from inference.sequences import forecast as ahead
from zoo.base import ModelGuide


def forecast(options: argparse.Namespace) -> None:
    """The steps after the end of each sequence: mean, and an interval."""
    pair = commands.start(options)
    if not 0 < options.mass < 1:
        raise ValueError(f"--mass: expected a number between 0 and 1, got {options.mass}")
    data = commands.sequences(pair, options.data)
    posterior = draw(pair, data, options.draws, stats=False, seed=options.seed)
    found = ahead(pair, posterior, data, options.horizon, seed=options.seed).flatten(0, 1).double()  # (S, N, H, ...)
    found = found.flatten(3) if found.ndim > 3 else found[..., None]
    ends = found.new_tensor([(1 - options.mass) / 2, (1 + options.mass) / 2])
    low, high = torch.quantile(found, ends, 0)
    mean = found.mean(0)
    N, H, D = mean.shape
    rows = torch.cartesian_prod(torch.arange(N), torch.arange(1, H + 1), torch.arange(D)).tolist()
    several = D > 1
    columns: dict[str, Any] = {"sequence": [n + 1 for n, _, _ in rows], "step": [h for _, h, _ in rows]}
    if several:
        columns["feature"] = [d + 1 for _, _, d in rows]
    columns |= {name: value.flatten().tolist() for name, value in (("mean", mean), ("low", low), ("high", high))}
    commands.save(Path(options.out), columns)
    print(f"{H} steps ahead of {N} sequence(s), with {options.mass:.0%} intervals, in {options.out}")


def query(options: argparse.Namespace) -> None:
    """P(variables | evidence), or after an intervention."""
    import zoo

    pair = zoo.load(options.folder)
    if pair.schema is None or not callable(getattr(pair, "answer", None)):
        raise ValueError(f"'{options.folder}' holds {pair.registry_name}, which is no network that can be asked")
    given, do = (_typed(pair, words, name) for words, name in ((options.given, "--given"), (options.do, "--do")))
    print(queries.query(pair, None, options.variables, given, do=do, mass=options.mass, seed=options.seed))
    if options.picture:
        from inference.graph_plot import network

        commands.draw_picture(options, network(pair, None, given, do=do, mass=options.mass, seed=options.seed))


def _typed(pair: ModelGuide, words: dict[str, str], option: str) -> dict[str, Any]:
    """Values by name in the user's units: numbers of real variables, words of others."""
    known = {column.name: column for column in (pair.schema.used if pair.schema else ())}
    found: dict[str, Any] = {}
    for name, word in words.items():
        column = known.get(name)
        if column is not None and not column.categories:
            try:
                found[name] = float(word)
            except ValueError:
                raise ValueError(f"{option} {name}={word}: expected a number") from None
        else:
            found[name] = word
    return found
