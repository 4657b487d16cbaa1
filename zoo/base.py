"""The face of the contract: what a model is written with, `from zoo.base import Batch, ModelGuide, register`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import zoo.registry as _known
from zoo.batch import FIELDS, Batch, Site, is_local, sample_sites
from zoo.modes import evaluating
from zoo.pair import Pair, rebuild
from zoo.registry import register
from zoo.suiting import Suit, usual
from zoo.threads.turns import in_turn

__all__ = [
    "FIELDS", "Batch", "ModelGuide", "Site", "evaluating", "is_local", "register", "registered", "registry",
    "sample_sites",
]  # fmt: skip

_rebuild = rebuild  # pickles from before it moved name it here


class ModelGuide(Pair):
    """A generative model with its variational guide. Subclass, write `model`, and `register`.

    Sites are named after the batch field they observe (`x`, `y`); a field that is None is generated. Parameters and
    prior constants (as buffers) are made in `__init__`; global latents are sampled outside `batch.plate()`, local
    ones inside. Any value drawn may carry extra leading batch dimensions (particles, posterior draws), so index events
    from the right: a global of event shape E arrives as (*, E) outside and as (S, 1, E) when S draws run at once.
    """

    adapts: ClassVar[tuple[str, ...]] = ()  # arguments that `suits` reads off data, besides the usual ones

    @classmethod
    def suits(cls, data: Batch, given: Mapping[str, Any]) -> Suit:
        """Arguments that suit data, of those that `given` leaves out; for `inference.pair_for`.

        By default the width of a matrix, a code no larger, and the kinds of its columns; see `zoo.suiting`. A pair that
        reads more names it in `adapts`, and adds it: `return super().suits(data, given) | Suit({"order": …})`.

        Args:
            data: numbers as they came, not checked yet.
            given: arguments that the user gives; None and "auto" stand for what is left out.
        """
        return usual(cls, data, given)

    @in_turn
    def save(self, folder: str | Path) -> Path:
        """Write config.json, model.safetensors and README.md into `folder`, atomically. See `zoo.load`."""
        from zoo.state import save

        return save(self, Path(folder))


def registered(name: str) -> type[ModelGuide]:
    """The registered class called `name`; the nearest known name is in the error."""
    return _known.registered(name)


def registry() -> dict[str, type[ModelGuide]]:
    """Every registered class, by name."""
    return _known.registry()
