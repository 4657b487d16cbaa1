"""What is handed on from a guide, a sampler or the prior: draws of the latents of a pair, by site."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from inference.posterior import kept
from inference.running.words import check_count, told

SHOWN = 12  # sites that are named where a posterior is printed


@dataclass(frozen=True, repr=False)
class Posterior:
    """Draws of the latents of a pair. Printed, it says in a line what it holds.

    Args:
        draws: site name -> (chain, draw, *event) for global and (chain, draw, N, *event) for local latents.
        local: names of the local latents.
        stats: per-draw numbers, (chain, draw): `log_p` the log joint density of data and globals (locals summed or
            integrated out), `log_q` that of the guide.
        method: "svi" (draws of a guide), "psis" (those, resampled by their weights), "mcmc" or "prior".
        chains, size: number of chains, and of draws in each.
    """

    draws: dict[str, Tensor]
    local: frozenset[str] = frozenset()
    stats: dict[str, Tensor] = field(default_factory=dict)
    method: str = "svi"
    chains: int = 1
    size: int = 0

    def __post_init__(self) -> None:
        check_count("chains", self.chains, least=0)
        check_count("size", self.size, least=0)
        for what, values in (("draws", self.draws), ("stats", self.stats)):
            if not isinstance(values, Mapping):
                raise ValueError(f"{what}: expected a dict of tensors by name, got {told(values)}")
        for name, value in (*self.draws.items(), *self.stats.items()):
            if not isinstance(value, Tensor):
                raise ValueError(f"draws of '{name}': expected a tensor, got {type(value).__name__}")
            if value.shape[:2] != (self.chains, self.size):
                raise ValueError(
                    f"draws of '{name}': expected (chain, draw, ...) = ({self.chains}, {self.size}, ...), "
                    f"got {tuple(value.shape)}"
                )

    def __getitem__(self, name: str) -> Tensor:
        """Draws of one latent, (chain, draw, ...)."""
        if name not in self.draws:
            raise KeyError(f"no draws of '{name}'; there are: {', '.join(self.draws) or 'none'}")
        return self.draws[name]

    def __repr__(self) -> str:
        sites = [name + (str([*value.shape[2:]]) if value.ndim > 2 else "") for name, value in self.draws.items()]
        shown = [*sites[:SHOWN], f"and {len(sites) - SHOWN} more"] if len(sites) > SHOWN else sites
        several = f"{self.chains} chains of " if self.chains != 1 else ""
        return f"{type(self).__name__}({several}{self.size:,} draws, {self.method}: {', '.join(shown) or 'no latents'})"

    def flat(self, names: frozenset[str] | None = None) -> dict[str, Tensor]:
        """Draws with chain and draw joined, (S, ...), of the sites named or of all."""
        return {name: value.flatten(0, 1) for name, value in self.draws.items() if names is None or name in names}

    @property
    def globals(self) -> frozenset[str]:
        """Names of the global latents."""
        return frozenset(self.draws) - self.local

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the draws, their numbers and where they come from into a folder, without any pickle; `load` reads them.

        A kill at any moment leaves what was there before, or the new one. Of a run by chains or roads it is the draws
        that are kept, not what it said of itself.

        Raises:
            ValueError: the folder cannot be made or written into.

        Example::

            inference.draw(pair, data).save("draws")
            inference.predict(pair, inference.Posterior.load("draws"), rows)
        """
        names = ("draws", "local", "stats", "method", "chains", "size")
        kept.save(Path(folder), {name: getattr(self, name) for name in names})
        return Path(folder)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Posterior:
        """The draws that `save` wrote into a folder; or those of a posterior.nc, of `zoo fit` or `inference.to_arviz`.

        Such a file holds some latents in the data's units alone, which are left out here: a function that wants them
        says so. Of single observations it holds those that were exported.

        Raises:
            DamagedFile: nothing is there, or it is not what was written. It is a ValueError.
        """
        return Posterior(**kept.load(Path(path)))

    @staticmethod
    def open(folder: str | os.PathLike[str]) -> Posterior:
        """The draws that `inference.sample(store=folder)` has written so far, mapped into memory: those that are whole.

        Raises:
            ValueError: no draws are there, or none is whole yet.
        """
        return Posterior(**kept.stored(Path(folder)))

    def thin(self, draws: int) -> Posterior:
        """At most `draws` evenly spaced draws of each chain.

        Raises:
            ValueError: fewer than one asked for.
        """
        check_count("draws", draws)
        keep = torch.linspace(0, self.size - 1, min(draws, self.size)).round().long()
        some, stats = ({n: v[:, keep.to(v.device)] for n, v in values.items()} for values in (self.draws, self.stats))
        return replace(self, draws=some, stats=stats, size=len(keep))
