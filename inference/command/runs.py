"""`zoo runs`: what stands in a folder, a line a run: model, data, what came of it, when, and whether it can go on."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from inference.command import exchange
from inference.command.terminal import escaped
from inference.running.checkpoints import Standing, standing
from zoo.settings import settings
from zoo.state import CONFIG, WEIGHTS

_DEEP = 2  # folders below the one that was named
_LONGEST = 60  # letters of what came of a run


@dataclass(frozen=True)
class Line:
    """A run, as it is listed."""

    run: str
    model: str
    data: str
    verdict: str
    when: str
    resumable: str


def list_runs(options: argparse.Namespace) -> None:
    """`zoo runs`: the runs in a folder, those that were made last at the end."""
    folder = Path(options.folder)
    if not folder.is_dir():
        raise ValueError(f"'{folder}' is no folder")
    found = sorted(_runs(folder), key=lambda line: line.when)
    if not found:
        print(f"no run in {escaped(str(folder))}, nor in the folders in it")
        return
    rows = [("run", "model", "data", "verdict", "when", "resumable"), *(astuple(line) for line in found)]
    shown = [[escaped(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in shown) for i in range(len(rows[0]))]
    for row in shown:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _runs(folder: Path, depth: int = 0) -> Iterator[Line]:
    """Of the folder, and of those in it."""
    line = _line(folder)
    if line is not None:
        yield line
    elif depth < _DEEP:
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and not inner.is_symlink() and not inner.name.startswith("."):
                yield from _runs(inner, depth + 1)


def _line(folder: Path) -> Line | None:
    """The run in a folder; None where none is."""
    stands = standing(folder / exchange.CHECKPOINTS)
    if exchange.holds_a_run(folder):
        config = _config(folder)
        card: Any = config.get("card")
        card = card if isinstance(card, dict) else {}
        data = card.get("data")
        when = (folder / WEIGHTS).lstat().st_mtime if (folder / WEIGHTS).exists() else None
        name = str(data.get("name", "")) if isinstance(data, dict) else ""
        return _told(folder, str(config.get("model", "?")), name, _verdict(card), when, stands)
    if stands is not None:
        run = stands.told.get("run")
        model = str(run.get("model", "?")) if isinstance(run, dict) else "?"
        when = stands.told.get("time")
        when = when if isinstance(when, float) else None
        return _told(folder, model, "", "running" if stands.busy else "broken off", when, stands)
    return None


def _told(folder: Path, model: str, data: str, verdict: str, when: float | None, stands: Standing | None) -> Line:
    short = verdict if len(verdict) <= _LONGEST else f"{verdict[: _LONGEST - 1]}…"
    made = "" if when is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
    return Line(str(folder), model, data, short, made, _resumable(stands))


def _resumable(stands: Standing | None) -> str:
    """From where the run can go on."""
    if stands is None:
        return "no"
    if stands.busy:
        return "running now"
    step, length = stands.told.get("step"), stands.told.get("length")
    most = length[0] if isinstance(length, list) and length and isinstance(length[0], int) else None
    if not isinstance(step, int):
        return "no"
    return f"from step {step:,}" + (f" of {most:,}" if most is not None else "")


def _verdict(card: dict[str, Any]) -> str:
    """What came of a run, in the words of its card."""
    fit = card.get("fit")
    if not isinstance(fit, dict):
        return "not fitted"
    if "trusted" in fit:
        return f"{'trust it' if fit['trusted'] else 'do not trust it'}: {fit.get('road', '')} road"
    return str(fit.get("stopped", ""))


def _config(folder: Path) -> dict[str, Any]:
    """What config.json says, or nothing where it cannot be read."""
    path = folder / CONFIG
    try:
        if path.stat().st_size > settings.config_bytes:
            return {}
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
