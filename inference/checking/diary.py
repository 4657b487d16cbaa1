"""What simulations gave, kept line by line on the disk, so that a run that ends early goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from inference.running.words import told

NAME = "calibration.jsonl"


class Diary:
    """Ranks of simulations by their number, and what failed.

    Args:
        folder: where the file `calibration.jsonl` is, or is made; None keeps nothing.
        wanted: the arguments, which have to be those of the file.

    Raises:
        ValueError: a file of other arguments, or a path that is none.
    """

    def __init__(self, folder: str | Path | None, wanted: dict[str, Any]) -> None:
        self.kept: dict[int, dict[str, Any]] = {}
        self.failed: dict[int, str] = {}
        self.path: Path | None = None
        if folder is None:
            return
        if not isinstance(folder, (str, Path)):
            raise ValueError(f"folder: expected a path, got {told(folder)}")
        self.path = Path(folder) / NAME
        if self.path.exists() and self.path.stat().st_size:
            self._read(self.path, wanted)
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"folder: {folder} cannot be made: {error.strerror}") from error
        self._write({"arguments": wanted})

    def __contains__(self, index: int) -> bool:
        return index in self.kept or index in self.failed

    def keep(self, index: int, ranks: dict[str, int], level: float, road: str) -> None:
        """Note the ranks of one simulation, the mean of its data and the road taken."""
        self.kept[index] = {"ranks": ranks, "level": level, "road": road}
        self._write({"simulation": index, **self.kept[index]})

    def fail(self, index: int, why: str) -> None:
        """Note that one gave no draws."""
        self.failed[index] = why
        self._write({"simulation": index, "failed": why})

    def _write(self, line: dict[str, Any]) -> None:
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def _read(self, path: Path, wanted: dict[str, Any]) -> None:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # a line that was cut short was never made
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            found = lines[0]["arguments"] if lines else wanted
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"folder: {path} is not a file of inference.calibrate") from error
        other = [name for name in wanted if found.get(name) != wanted[name]]
        if other:
            name = other[0]
            raise ValueError(f"folder: {path} holds simulations of {name}={found.get(name)}, not {wanted[name]}")
        if len(whole) < len(text):
            path.write_text(whole, encoding="utf-8")
        if not lines:
            self._write({"arguments": wanted})
        for line in lines[1:]:
            if "failed" in line:
                self.failed[line["simulation"]] = line["failed"]
            else:
                self.kept[line["simulation"]] = {key: line[key] for key in ("ranks", "level", "road")}
