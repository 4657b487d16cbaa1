"""A batch that has been checked against a pair, with what the pair's trace says, and the sweeps over it.

`inference.data.check` makes these, once for each call of a public function; everything further down takes them and
checks nothing again. What is read off the trace is structure (names, shapes, supports), which training does not change.

One iterator serves all work over rows and draws: `Checked.sweep`. Rows are cut so that several draws of a piece
fit the memory budget, and draws so that each piece does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from inference.running.pieces import chunks, pieces, rows_at_once
from inference.running.width import width
from zoo.base import Batch, ModelGuide, Site


@dataclass(frozen=True)
class Checked:
    """Data that fit a pair.

    Args:
        pair: the pair.
        batch: the observations, on its device and in its floating-point type.
        example: two simulated observations, for a look at the guide's trace.
        sites: of the model's trace, by name; `observed` even where the batch lacks the field.
    """

    pair: ModelGuide
    batch: Batch
    example: Batch
    sites: Mapping[str, Site]

    @property
    def size(self) -> int:
        """Number of observations, N."""
        return self.batch.size

    @property
    def complete(self) -> bool:
        """Whether the batch has every field that the pair observes."""
        return all(getattr(self.batch, name, self) is not None for name in self.observed)

    @property
    def observed(self) -> dict[str, Site]:
        """The sites that hold data."""
        return {name: site for name, site in self.sites.items() if site.observed}

    @property
    def globals(self) -> list[str]:
        """Names of the global latents."""
        return [name for name, site in self.sites.items() if not (site.local or site.observed)]

    @property
    def locals(self) -> list[str]:
        """Names of the local latents."""
        return [name for name, site in self.sites.items() if site.local and not site.observed]

    @property
    def continuous_locals(self) -> bool:
        """Whether any observation has a latent of its own that has to be integrated out by sampling."""
        return any(not self.sites[name].enumerated for name in self.locals)

    @cached_property
    def width(self) -> int:
        """Numbers that one draw of one row holds: see `inference.running.width`."""
        return width(self.pair, self.batch)

    def select(self, rows: Tensor | slice) -> Checked:
        """These rows, scaled to the same total; they need no check of their own."""
        return self.but(self.batch.select(rows))

    def but(self, batch: Batch) -> Checked:
        """Another batch of rows of the same shape, which the caller knows to be valid."""
        changed = replace(self, batch=batch)
        if "width" in self.__dict__:
            changed.__dict__["width"] = self.__dict__["width"]
        return changed

    def rows(self, held: int | None = None, draws: int | None = None) -> Iterator[tuple[slice, Batch]]:
        """Consecutive rows that leave room for several draws, each holding `held` numbers, by default `width`."""
        return chunks(self.batch, rows_at_once(self.batch, held or self.width, draws))

    def draws(self, total: int, part: Batch, held: int | None = None) -> Iterator[slice]:
        """Slices of `total` draws that fit the budget for these rows."""
        return pieces(total, part.size * (held or self.width))

    def sweep(self, total: int, held: int | None = None) -> Iterator[tuple[slice, Batch, slice]]:
        """Rows x draws in pieces of bounded size: (which rows, their batch, which of `total` draws)."""
        for rows, part in self.rows(held, total):
            for some in self.draws(total, part, held):
                yield rows, part, some


def at(
    values: Mapping[str, Tensor], some: slice, rows: slice | None = None, local: frozenset[str] = frozenset()
) -> dict[str, Tensor]:
    """These draws of flat values, (S, …), by site; of local latents the given rows."""
    return {n: v[some][:, rows] if rows is not None and n in local else v[some] for n, v in values.items()}
