"""Answers to one question of many rows of evidence, each row's as a line of a frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Answers:
    """P(variables | evidence of row n), n = 1..N, at each draw of the tables.

    Args:
        variables: what was asked for.
        states: of each discrete variable; empty for real ones.
        draws: probabilities of the states, (draw, N, *states); or means of real variables, (draw, N, Q).
        sd: standard deviations of real variables, (draw, N, Q).
        log_evidence: log probability (density) of each row's evidence, (draw, N).
        index: what the rows are called; None: they are numbered from 0.
        mass: of the intervals.
    """

    variables: tuple[str, ...]
    states: tuple[tuple[Any, ...], ...]
    draws: Tensor
    sd: Tensor | None
    log_evidence: Tensor
    index: Any = None
    mass: float = 0.9

    def __len__(self) -> int:
        """The number of rows N."""
        return self.draws.shape[1]

    @property
    def mean(self) -> Tensor:
        """Probabilities of the states, (N, *states), or means of real variables, (N, Q), averaged over the draws."""
        return self.draws.mean(0)

    @property
    def interval(self) -> tuple[Tensor, Tensor]:
        """Low and high ends, of the shape of `mean`: what the uncertainty of the tables leaves open."""
        ends = self.draws.new_tensor([(1 - self.mass) / 2, (1 + self.mass) / 2])
        low, high = (torch.quantile(self.draws, end, 0) for end in ends)
        return low, high

    def frame(self) -> pd.DataFrame:
        """A line a row: `P(lung = yes)` of each state, or `dose` and `dose sd`; with intervals where there are draws.

        Columns of an interval end in its quantile, such as `P(lung = yes) 5%`.
        """
        import pandas as pd

        columns: dict[str, Any] = {}
        low, high = self.interval
        ends = [f"{100 * end:g}%" for end in ((1 - self.mass) / 2, (1 + self.mass) / 2)]
        for name, at in self._entries():
            columns[name] = self.mean[at].cpu().numpy()
            if len(self.draws) > 1:
                columns |= {
                    f"{name} {end}": part[at].cpu().numpy() for end, part in zip(ends, (low, high), strict=True)
                }
            if self.sd is not None:
                spread = self.sd[(slice(None), *at)].square().mean(0) + self.draws[(slice(None), *at)].var(
                    0, correction=0
                )
                columns[f"{name} sd"] = spread.sqrt().cpu().numpy()
        return pd.DataFrame(columns, index=self.index)

    def _entries(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """What is told of each row, and where it stands in `mean`."""
        if not self.states:
            for q, name in enumerate(self.variables):
                yield name, (slice(None), q)
            return
        places = torch.cartesian_prod(*(torch.arange(len(states)) for states in self.states))
        for index in places.reshape(-1, len(self.states)).tolist():
            said = (f"{n} = {s[i]}" for n, s, i in zip(self.variables, self.states, index, strict=True))
            yield f"P({', '.join(said)})", (slice(None), *index)

    def __str__(self) -> str:
        """The frame, in seven digits at most."""
        return str(self.frame().to_string(max_rows=20, float_format=lambda value: f"{value:.4g}"))
