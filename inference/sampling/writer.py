"""Draws as they come from the chains: brought back to the supports of their latents, a piece at a time, and kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from inference.sampling.density import Density
from inference.sampling.store import PROGRESS, Files, Memory, check_room, count_whole
from zoo.settings import settings

SECONDS = 3.0  # after which draws are written, that a kill may cost


class Draws:
    """Latents (C, draws, ...) and stats (C, draws), of which a piece is in memory until it is full.

    Args:
        potential: knows how to constrain free latents.
        points: of each chain, (C, P), of finite density.
        draws: how many each chain will make.
        stats: what will be told of each draw, and its type.
        folder: to write into, `draws/SITE.npy` and `stats/STAT.npy`, every few seconds; None keeps everything in
            memory.

    Raises:
        ValueError: the disk has no room for so many.
    """

    def __init__(
        self, potential: Density, points: Tensor, draws: int, stats: Mapping[str, torch.dtype], folder: Path | None
    ) -> None:
        self.potential, self.folder, self.done = potential, folder, 0
        self.kept_at = time.perf_counter()
        self.chains = len(points)
        self.room = max(1, settings.memory // points.numel())
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
        try:
            self.values = Files(folder / "draws", draws, value)
            self.stats = Files(folder / "stats", draws, stat)
        except OSError as error:
            self.remove()
            raise ValueError(f"store: cannot write into '{folder}': {error.strerror or error}") from error

    @property
    def count(self) -> int:
        """Draws of each chain so far."""
        return self.done + len(self.points)

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
        """Keep the piece in memory, and begin another.

        Raises:
            OSError: it cannot be written.
        """
        if not self.points:
            return
        points = torch.stack(self.points, 1)
        lead = points.shape[:2]
        values, jacobian = self.potential.constrain(points.flatten(0, 1))
        stats = {name: torch.stack([told[name] for told in self.told], 1) for name in self.told[0]}
        stats["log_p"] = stats["lp"] - jacobian.unflatten(0, lead)
        self.values.put(self.done, {name: value.unflatten(0, lead) for name, value in values.items()})
        self.stats.put(self.done, stats)
        self.done += len(self.points)
        self._count()
        self.forget()

    def sites(self) -> list[Tensor]:
        """Draws so far of each latent, (C, n, P), of at most about `settings.rhat_numbers` numbers.

        Raises:
            OSError: they cannot be written.
        """
        self.flush()
        return [self.values.columns(block.name)[:, : self.done] for block in self.potential.blocks]

    def restart(self) -> None:
        """Drop all draws: others take their place."""
        self.forget()
        self.done = 0
        self._count()

    def _count(self) -> None:
        if self.folder is not None:
            count_whole(self.folder, self.chains, self.done, self.potential.local)
        self.kept_at = time.perf_counter()

    def forget(self) -> None:
        """Drop the piece in memory."""
        self.points, self.told = [], []

    def finish(self) -> None:
        """Cut what is kept to what is there."""
        for store in (self.values, self.stats):
            if self.done < store.draws:
                store.cut(self.done)

    def remove(self) -> None:
        """Take away files without draws."""
        for store in (self.values, self.stats):
            store.remove()
        if self.folder is not None:
            (self.folder / PROGRESS).unlink(missing_ok=True)
