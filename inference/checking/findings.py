"""A finding: one number of the evidence beside its threshold, where that comes from, and what to do about it."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["ok", "look", "wrong", "could not be judged"]
Verdict = Literal["trust", "caution", "do not trust"]
_MARKS = {"ok": "✓", "look": "!", "wrong": "✗", "could not be judged": "?"}


@dataclass(frozen=True)
class Finding:
    """One finding.

    Args:
        name: what was looked at.
        state: `ok`; `look`: not as it should be, but no proof of a fault; `wrong`; `could not be judged`.
        told: the number beside its threshold, in words.
        value: the number itself; NaN where there is none.
        source: where the threshold comes from.
        advice: what to do, where it is not `ok`.
        bears: whether the posterior cannot be trusted unless this could be judged.
        counts: whether the verdict heeds it; else it tells of a score, and not of the posterior.
    """

    name: str
    state: State
    told: str
    value: float = math.nan
    source: str = ""
    advice: str = ""
    bears: bool = False
    counts: bool = True

    def __str__(self) -> str:
        advice = f". {self.advice}" if self.advice and self.state != "ok" else ""
        return f"{_MARKS[self.state]} {self.name}: {self.told}{advice}"


@dataclass(frozen=True, repr=False)
class Check:
    """All findings about a posterior, and what they come to. Printed, it is the verdict and a line a finding.

    Args:
        name: of the pair or program.
        findings: in the order in which they were made.

    Example::

        found = inference.check(pair, data, posterior)
        found.verdict, found.reasons, found["R-hat"].value
    """

    name: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """`do not trust` where any finding is wrong; `caution` where one wants a look, or evidence is missing."""
        states = {finding.state for finding in self.findings if finding.counts}
        if "wrong" in states:
            return "do not trust"
        missing = any(f.bears and f.state == "could not be judged" for f in self.findings)
        proof = any(f.bears and f.state == "ok" for f in self.findings)
        return "caution" if "look" in states or missing or not proof else "trust"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not `trust`, the worst first; of `trust` nothing."""
        order = ("wrong", "look", "could not be judged")
        heeded = [] if self.verdict == "trust" else [f for f in self.findings if f.counts]
        chosen = [f for state in order for f in heeded if f.state == state]
        return tuple(str(finding)[2:] for finding in chosen)

    def __getitem__(self, name: str) -> Finding:
        """A finding by its name."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(f"no finding '{name}'; there are: {', '.join(f.name for f in self.findings)}")

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def frame(self) -> Any:
        """A pandas frame, a line a finding."""
        import pandas as pd

        kept = ("name", "state", "value", "told", "advice", "source")
        return pd.DataFrame([{key: getattr(finding, key) for key in kept} for finding in self.findings])

    def __repr__(self) -> str:
        return "\n".join([f"{self.name}: {self.verdict}", *(f"  {finding}" for finding in self.findings)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{_MARKS[f.state]} {f.state}</td><td>{html.escape(f.name)}</td><td>{html.escape(f.told)}</td>"
            f"<td>{html.escape(f.advice if f.state != 'ok' else '')}</td><td>{html.escape(f.source)}</td></tr>"
            for f in self.findings
        )
        head = "<tr><th>state</th><th>finding</th><th>number</th><th>what to do</th><th>source</th></tr>"
        return f"<p><b>{html.escape(self.name)}: {self.verdict}</b></p><table>{head}{rows}</table>"


def graded(value: float, good: float, bad: float) -> State:
    """`ok` up to `good`, `wrong` above `bad` (or the other way round, where `bad` is the smaller), else `look`."""
    if math.isnan(value):
        return "could not be judged"
    if bad < good:
        value, good, bad = -value, -good, -bad
    return "ok" if value <= good else ("wrong" if value > bad else "look")


def looked_at(some: int, total: int) -> str:
    """How many of how many, where not all were looked at."""
    return f"{some:,}" if some >= total else f"{some:,} (of {total:,})"
