"""Why a posterior may be believed: numbers beside their thresholds, and what was tried on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from inference.posterior.latents import Posterior


@dataclass(frozen=True)
class Ground:
    """One number of the evidence.

    Args:
        name: what it is.
        value: how large.
        limit: its threshold.
        least: whether the threshold is the least it may be; else the most.
    """

    name: str
    value: float
    limit: float
    least: bool = False

    @property
    def holds(self) -> bool:
        """Whether it is on the right side of its threshold; a number that is none is not."""
        return self.value >= self.limit if self.least else self.value <= self.limit

    def __str__(self) -> str:
        sign = ("≥" if self.holds else "<") if self.least else ("≤" if self.holds else ">")
        return f"{self.name} {_short(self.value)} {sign} {_short(self.limit)}"


@dataclass(frozen=True)
class Tried:
    """A road that was taken.

    Args:
        road: its name.
        grounds: the evidence it gave.
        seconds, cpu: that it took, on the wall and of this process.
        failed: why it gave none, where it did not.
    """

    road: str
    grounds: tuple[Ground, ...] = ()
    seconds: float = 0.0
    cpu: float = 0.0
    failed: str = ""

    @property
    def holds(self) -> bool:
        """Whether all of its evidence does."""
        return not self.failed and bool(self.grounds) and all(ground.holds for ground in self.grounds)

    def __str__(self) -> str:
        short = [str(ground) for ground in self.grounds if not ground.holds]
        return f"{self.road} ({self.failed or ', '.join(short) or 'holds'}; {_short(self.seconds)} s)"


@dataclass(frozen=True, repr=False)
class Inferred(Posterior):
    """Draws of the posterior, which road they came by, and why they may be believed.

    Printed, it is one line that says so.

    Args:
        road: `exact`, `Gaussian`, `variational`, `amortised`, `Hamiltonian`, `tempered` or `points`.
        trusted: whether all of its evidence holds.
        grounds: the evidence, each number beside its threshold.
        tried: every road that was taken, in order, with what it cost.
        advice: what to change, where it is not to be trusted.
        labels: which of several orders of labels, that the density does not tell apart, the draws are in, in words.
        log_evidence, error: log p(data) in nats, where the road tells it, and its standard error.
        found: what the road itself found, such as an `inference.Sampled`.
    """

    road: str = ""
    trusted: bool = False
    grounds: tuple[Ground, ...] = ()
    tried: tuple[Tried, ...] = ()
    advice: str = ""
    labels: str = ""
    log_evidence: float = math.nan
    error: float = math.nan
    found: Any = field(default=None, compare=False)

    @property
    def seconds(self) -> float:
        """Of all roads together, on the wall."""
        return sum(tried.seconds for tried in self.tried)

    @property
    def cpu(self) -> float:
        """Of all roads together, of this process."""
        return sum(tried.cpu for tried in self.tried)

    def __repr__(self) -> str:
        told = ", ".join(map(str, self.grounds if self.trusted else [g for g in self.grounds if not g.holds]))
        before = [str(tried) for tried in self.tried if tried.road != self.road or tried.failed]
        evidence = "" if math.isnan(self.log_evidence) else f"; log evidence {self.log_evidence:.2f} ± {self.error:.2g}"
        line = (
            f"{'trust it' if self.trusted else 'do not trust'}: {self.road} road, {_short(self.seconds)} s, "
            f"{told or 'no evidence'}{evidence if self.trusted else ''}"
        )
        line += f"; {self.labels}" if self.labels else ""
        line += f"; before it {', '.join(before)}" if before else ""
        return line + (f". {self.advice}" if self.advice and not self.trusted else "")

    __str__ = __repr__


def _short(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
