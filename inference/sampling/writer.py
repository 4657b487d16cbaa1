"""Draws as they come from the chains: brought back to the supports of their latents, a piece at a time, and kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inference.posterior.kept import PROGRESS
from inference.sampling.density import Density
from inference.sampling.store import Files, Memory, check_room, count_whole
from zoo.settings import settings

SECONDS = 3.0  # after which draws are written, that a kill may cost
PIECE = 16  # draws of each chain that come back to the supports together: bits are not to depend on the clock


class Draws:
    """Latents (C, draws, ...) and stats (C, draws), of which a piece is in memory until it is full.

    Args:
        potential: knows how to constrain free latents.
        points: of each chain, (C, P), of finite density.
        draws: how many each chain will make.
        stats: what will be told of each draw, and its type.
        folder: to write into, `draws/SITE.npy` and `stats/STAT.npy`, every few seconds; None keeps everything in
            memory.
        before: what `state` gave, of a run that goes on.

    Raises:
        ValueError: the disk has no room for so many, or what is there does not fit.
    """

    def __init__(
        self, potential: Density, points: Tensor, draws: int, stats: Mapping[str, torch.dtype], folder: Path | None,
        before: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.potential, self.folder = potential, folder
        self.done = 0  # that are kept
        self.begin = 0  # of the piece in memory; those of it that are kept already will be written once more
        self.kept_at = time.perf_counter()
        self.chains = len(points)
        self.room = max(1, settings.memory // points.numel())
        self.piece = min(PIECE, self.room)
        self.points: list[Tensor] = []
        self.told: list[dict[str, Tensor]] = []
        self.values: Files | Memory = Memory(len(points), draws)
        self.stats: Files | Memory = Memory(len(points), draws)
        if folder is None:
            return
        lead = (len(points), 1)
        values, _ = potential.constrain(points[:1])
        value = {name: found.unsqueeze(1).expand(*lead, *found.shape[1:]) for name, found in values.items()}
        stat = {name: torch.zeros(lead, dtype=dtype) for name, dtype in stats.items()}
        check_room(folder, draws * sum(v.numel() * v.element_size() for v in (*value.values(), *stat.values())))
        whole = 0 if before is None else int(before["done"])
        if not whole:
            (folder / PROGRESS).unlink(missing_ok=True)  # of a run that was killed, and makes its draws again
        if whole > draws:
            raise ValueError(f"draws: {whole} of each chain are made already, and {draws} were asked for")
        try:
            self.values = Files(folder / "draws", draws, value, whole)
            self.stats = Files(folder / "stats", draws, stat, whole)
        except OSError as error:
            if not whole:
                self.remove()
            raise ValueError(f"store: cannot write into '{folder}': {error.strerror or error}") from error
        if before is not None:
            self._again(before)

    def state(self) -> dict[str, Any]:
        """To go on from: how many are whole, and the piece in memory."""
        told = {name: torch.stack([told[name] for told in self.told]) for name in self.told[0]} if self.told else {}
        points = torch.stack(self.points) if self.points else None
        return {"done": self.done, "begin": self.begin, "points": points, "told": told}

    def _again(self, before: Mapping[str, Any]) -> None:
        self.done, self.begin = int(before["done"]), int(before["begin"])
        if before["points"] is not None:
            self.points = list(before["points"].to(self.potential.device).unbind(0))
            told = {name: value.to(self.potential.device).unbind(0) for name, value in before["told"].items()}
            self.told = [{name: value[i] for name, value in told.items()} for i in range(len(self.points))]
        self._count()

    @property
    def count(self) -> int:
        """Draws of each chain so far."""
        return self.begin + len(self.points)

    def take(self, points: Tensor, stats: dict[str, Tensor]) -> None:
        """One draw of each chain: free latents (C, P) and what is told of it, each (C,).

        Raises:
            OSError: it cannot be written.
        """
        self.points.append(points)
        self.told.append(stats)
        late = self.folder is not None and time.perf_counter() - self.kept_at > SECONDS
        if late or len(self.points) >= self.room:
            self.flush()

    def flush(self) -> None:
        """Keep what is in memory. Of draws in files the last piece stays there too, until it is full.

        Raises:
            OSError: they cannot be written.
        """
        if self.count == self.done:
            return
        piece = len(self.points) if self.folder is None else self.piece
        while len(self.points) >= piece:
            self._put(piece)
            self.begin += piece
            self.points, self.told = self.points[piece:], self.told[piece:]
            if not self.points:
                break
        if self.points:
            self._put(len(self.points))
        self.done = self.count
        self._count()

    def _put(self, number: int) -> None:
        """Bring the first so many draws in memory back to the supports of their latents, and keep them."""
        points = torch.stack(self.points[:number], 1)
        lead = points.shape[:2]
        values, jacobian = self.potential.constrain(points.flatten(0, 1))
        stats = {name: torch.stack([told[name] for told in self.told[:number]], 1) for name in self.told[0]}
        stats["log_p"] = stats["lp"] - jacobian.unflatten(0, lead)
        self.values.put(self.begin, {name: value.unflatten(0, lead) for name, value in values.items()})
        self.stats.put(self.begin, stats)

    def sites(self) -> list[Tensor]:
        """Draws so far of each latent, (C, n, P), of at most about `settings.rhat_numbers` numbers.

        Raises:
            OSError: they cannot be written.
        """
        self.flush()
        return [self.values.columns(block.name)[:, : self.done] for block in self.potential.blocks]

    def restart(self) -> None:
        """Drop all draws: others take their place."""
        self.done = self.begin = 0
        self.forget()
        self._count()

    def _count(self) -> None:
        if self.folder is not None:
            count_whole(self.folder, self.chains, self.done, self.potential.local)
        self.kept_at = time.perf_counter()

    def forget(self) -> None:
        """Drop what is in memory and was not kept."""
        kept = self.done - self.begin
        self.points, self.told = self.points[:kept], self.told[:kept]

    def finish(self) -> None:
        """Cut what is kept to what is there."""
        for store in (self.values, self.stats):
            if self.done < store.draws:
                store.cut(self.done)

    def leave(self) -> None:
        """Let go of the files of a run that failed: those with draws stay."""
        if not self.done:
            self.remove()
        for store in (self.values, self.stats):
            store.close()

    def remove(self) -> None:
        """Take away files without draws."""
        for store in (self.values, self.stats):
            store.remove()
        if self.folder is not None:
            (self.folder / PROGRESS).unlink(missing_ok=True)
