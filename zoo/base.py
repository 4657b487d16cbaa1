"""The face of the contract: what a model is written with, `from zoo.base import Batch, ModelGuide, register`."""

from __future__ import annotations

from pathlib import Path

import zoo.registry as _known
from zoo.batch import FIELDS, Batch, Site, is_local, sample_sites
from zoo.modes import evaluating
from zoo.pair import Pair, rebuild
from zoo.registry import register
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
