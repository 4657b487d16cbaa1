"""Where draws are kept as they come: in memory, or each array in a NumPy file that is mapped into memory when read.

Arrays are (C, draws, ...). Files are written by seeking, not through the map: a full disk is then an error that can be
told of, and what has been written need not stay in memory. Their room is set aside at the start, so that a file has its
full size before it has its draws: until all are there it is called `NAME.npy.part`, and `progress.json` says how many
are whole. `reopen` reads as many.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from inference.posterior.kept import PART, PROGRESS
from inference.posterior.latents import Posterior
from inference.running.pieces import pieces
from zoo.settings import settings
from zoo.state.files import write


def evenly(size: int, most: int) -> Tensor:
    """At most so many of the numbers 0, 1, ..., size - 1, evenly spaced."""
    return torch.linspace(0, size - 1, max(1, min(most, size)), dtype=torch.float64).round().long()


class Memory:
    """Arrays in memory."""

    def __init__(self, chains: int, draws: int) -> None:
        self.chains, self.draws = chains, draws
        self.arrays: dict[str, Tensor] = {}

    def put(self, begin: int, values: Mapping[str, Tensor]) -> None:
        """Keep (C, b, ...) as draws begin, begin + 1, ..."""
        for name, value in values.items():
            if name not in self.arrays:
                self.arrays[name] = value.new_empty(self.chains, self.draws, *value.shape[2:])
            self.arrays[name][:, begin : begin + value.shape[1]] = value

    def cut(self, draws: int) -> None:
        """Keep only the first so many draws."""
        self.arrays, self.draws = {name: value[:, :draws] for name, value in self.arrays.items()}, draws

    def close(self) -> None:
        """There is nothing to let go of."""

    def remove(self) -> None:
        """Nothing came of the run."""
        self.arrays = {}

    def read(self) -> dict[str, Tensor]:
        """Everything, (C, draws, ...)."""
        return self.arrays

    def columns(self, name: str) -> Tensor:
        """At most about `settings.rhat_numbers` numbers of each draw, evenly spaced: (C, draws, P)."""
        flat = self.arrays[name].flatten(2) if self.arrays[name].ndim > 2 else self.arrays[name].unsqueeze(-1)
        return flat[..., :: max(1, flat.shape[-1] // settings.rhat_numbers)]


class Files:
    """Arrays in files of one folder, `NAME.npy`.

    Args:
        folder: made here.
        draws: of each chain.
        example: one draw of each, (C, 1, ...).
        whole: draws of each chain that are there already, of a run that goes on.

    Raises:
        OSError: the disk is full.
        ValueError: files that are there already have other shapes, or are not there.
    """

    def __init__(self, folder: Path, draws: int, example: Mapping[str, Tensor], whole: int = 0) -> None:
        self.folder, self.draws = folder, draws
        self.files: dict[str, tuple[IO[bytes], int]] = {}  # open, and where the numbers begin
        self.shapes = {name: (len(value), draws, *value.shape[2:]) for name, value in example.items()}
        self.types = {name: value.cpu().numpy().dtype for name, value in example.items()}
        folder.mkdir(parents=True, exist_ok=True)
        for name, shape in self.shapes.items():
            path = self.part(name)
            if not whole:
                self.path(name).unlink(missing_ok=True)
                self._make(name, path)
                continue
            before = self._before(name, whole)
            if before.shape == shape and path.exists():
                self.files[name] = path.open("r+b"), before.offset
                continue
            fresh = path.with_name(f"{path.name}.new")
            self._make(name, fresh)
            for chain in range(shape[0]):
                for piece in pieces(whole, self.width(name)):
                    self.seek(name, chain, piece.start).write(np.ascontiguousarray(before[chain, piece]).data)
            self.files[name][0].flush()
            fresh.replace(path)
            self.path(name).unlink(missing_ok=True)

    def _make(self, name: str, path: Path) -> None:
        """An empty file of the full size."""
        made = np.lib.format.open_memmap(path, "w+", self.types[name], self.shapes[name])
        self.files[name] = path.open("r+b"), made.offset
        _reserve(self.files[name][0], made.offset + made.nbytes)

    def _before(self, name: str, whole: int) -> Any:
        """What an earlier run wrote of an array."""
        path = self.part(name) if self.part(name).exists() else self.path(name)
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"store: '{path}' cannot be read: {error}") from error
        chains, _, *event = self.shapes[name]
        fits = found.ndim > 1 and (found.shape[0], *found.shape[2:]) == (chains, *event) and found.shape[1] >= whole
        if not fits or found.dtype != self.types[name]:
            raise ValueError(f"store: '{path}': expected ({chains}, {whole}, ...) numbers, got {found.shape}")
        return found

    def path(self, name: str) -> Path:
        """Where an array is in the end."""
        return self.folder / f"{quote(name, safe='')}.npy"

    def part(self, name: str) -> Path:
        """Where an array is until then."""
        return self.folder / f"{quote(name, safe='')}.npy{PART}"

    def put(self, begin: int, values: Mapping[str, Tensor]) -> None:
        """Keep (C, b, ...) as draws begin, begin + 1, ..."""
        for name, value in values.items():
            for chain, rows in enumerate(value.cpu().contiguous().numpy()):
                self.seek(name, chain, begin).write(rows)
        for file, _ in self.files.values():
            file.flush()

    def seek(self, name: str, chain: int, draw: int) -> IO[bytes]:
        """The file, at a draw of a chain."""
        file, offset = self.files[name]
        file.seek(offset + (chain * self.shapes[name][1] + draw) * self.width(name) * self.types[name].itemsize)
        return file

    def width(self, name: str) -> int:
        """Numbers of a draw."""
        return int(np.prod(self.shapes[name][2:], dtype=int))

    def block(self, name: str, chain: int, draws: slice) -> np.ndarray[Any, Any]:
        """These draws of a chain, (b, E)."""
        count = (draws.stop - draws.start) * self.width(name)
        found = np.fromfile(self.seek(name, chain, draws.start), self.types[name], count)
        return found.reshape(-1, self.width(name))

    def cut(self, draws: int) -> None:
        """Keep only the first so many draws."""
        for name, (file, offset) in self.files.items():
            chains, _, *event = self.shapes[name]
            end = offset
            for chain in range(chains):
                for piece in pieces(draws, self.width(name)):
                    rows = self.block(name, chain, piece)
                    file.seek(end)
                    file.write(rows.data)
                    end += rows.nbytes
            file.truncate(end)
            self.shapes[name] = (chains, draws, *event)
            header = {"descr": self.types[name].str, "fortran_order": False, "shape": self.shapes[name]}
            file.seek(10)  # behind the magic bytes, the version and the length of the header, which stays
            file.write(repr(header).ljust(offset - 11).encode() + b"\n")
            file.flush()
        self.draws = draws

    def read(self) -> dict[str, Tensor]:
        """Everything, (C, draws, ...), mapped into memory; what is written into these tensors does not get to disk."""
        self.close()
        for name in self.files:
            if self.part(name).exists():
                self.part(name).replace(self.path(name))
        return {name: torch.from_numpy(np.load(self.path(name), mmap_mode="c")) for name in self.files}

    def columns(self, name: str) -> Tensor:
        """At most about `settings.rhat_numbers` numbers of each draw, evenly spaced: (C, draws, P)."""
        chains, draws = self.shapes[name][:2]
        chosen = evenly(self.width(name), min(settings.rhat_numbers, 4 * settings.memory // (chains * draws))).numpy()
        found = np.empty((chains, draws, len(chosen)), self.types[name])
        for chain in range(chains):
            for piece in pieces(draws, self.width(name)):
                found[chain, piece] = self.block(name, chain, piece)[:, chosen]
        return torch.from_numpy(found)

    def close(self) -> None:
        """Let go of the files."""
        for file, _ in self.files.values():
            file.close()

    def remove(self) -> None:
        """Take the files away: nothing came of the run."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def count_whole(folder: Path, chains: int, draws: int, local: frozenset[str]) -> None:
    """Write down that so many draws of each chain are whole."""
    told = {"chains": chains, "draws": draws, "local": sorted(local)}
    write(folder / PROGRESS, json.dumps(told).encode())


def reopen(folder: str | Path) -> Posterior:
    """The draws that `sample(store=folder)` wrote, mapped into memory; of a killed run those that were whole.

    Args:
        folder: what `store` named.

    Returns:
        a `Posterior`, as `Posterior.open` gives it; what is written into its tensors does not get to disk.

    Raises:
        ValueError: no draws are there, or none is whole yet.
    """
    return Posterior.open(folder)


def check_folder(folder: Path, resume: bool = False) -> None:
    """See to it that draws can be written there.

    Args:
        folder: where.
        resume: draws may be there: the run goes on with them.

    Raises:
        ValueError: the folder cannot be made or written into, or holds draws already.
    """
    for name in ("draws", "stats"):
        if (folder / name).exists() and not resume:
            raise ValueError(
                f"store: '{folder}' holds draws already ({folder / name}), which inference.reopen('{folder}') reads; "
                "resume=True goes on with them, or name another folder"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ValueError(f"store: cannot write into '{folder}': {error.strerror or error}") from error


def check_room(folder: Path, needed: int) -> None:
    """See to it that the disk has room for so many bytes.

    Raises:
        ValueError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"store: the draws take {needed / 1e9:.3g} GB, and '{folder}' has {free / 1e9:.3g} GB left; ask for fewer "
            "draws or chains, or another folder"
        )


def _reserve(file: IO[bytes], size: int) -> None:
    """Have the disk set the room aside now, where it can, so that it does not run out in mid-course."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
