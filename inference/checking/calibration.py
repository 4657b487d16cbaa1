"""What simulation-based calibration comes to: ranks of true latents among draws, and whether they are uniform.

Latents from the prior, data from them, draws of the posterior of these data: the truth is one more draw, and as likely
at any rank (Talts, Betancourt, Simpson, Vehtari & Gelman 2018, "Validating Bayesian inference algorithms with
simulation-based calibration"). That is tested by the whole course of the ranks' ECDF (Säilynoja, Bürkner & Vehtari
2022), of each quantity, the p-values times their number. A posterior that leaves out the data has uniform ranks of its
latents too, and so has one that leaves out a part of them. So the log likelihood is ranked besides, and ranks must not
go with how high the data lie (Modrák, Moon, Kim, Bürkner, Huurre, Faltejsková, Gelman & Vehtari 2023, "Simulation-based
calibration checking for Bayesian computation: the choice of test quantities shapes sensitivity"): by Spearman's
correlation, which sees more of it than the ranks of a latent times a sign of the data would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from inference.checking.findings import Finding, Verdict
from inference.checking.uniformity import band, of_ranks
from inference.posterior.psis import Numbers

LEVEL = 0.01
_WITH = " by the data"
_TALTS, _YAO = "Talts et al. 2018; Säilynoja et al. 2022", "Yao et al. 2018"


@dataclass(frozen=True, repr=False)
class Calibration:
    """Ranks of what is known among draws, and what they say. Printed, it is a verdict and a line a finding.

    Args:
        name: of the pair.
        road: how the draws were made.
        ranks: quantity -> rank of the truth among the draws of each simulation, (n,), from 0 to `draws`.
        draws: of each simulation, L.
        levels: the mean of the data of each simulation, (n,).
        failed: what simulations without draws said, the same once.
        roads: how often each road was taken, of `infer`.
        cpu: seconds of the processor, of the simulations made in this call.

    Example::

        found = inference.calibrate(pair, 200)
        found.verdict, found.p["log likelihood"], found.band()
    """

    name: str
    road: str
    ranks: Mapping[str, np.ndarray[Any, Any]]
    draws: int
    levels: np.ndarray[Any, Any]
    failed: tuple[str, ...] = ()
    roads: Mapping[str, int] = field(default_factory=dict)
    cpu: float = 0.0

    @property
    def size(self) -> int:
        """Number of simulations that gave draws, n."""
        return len(next(iter(self.ranks.values()), ()))

    @cached_property
    def p(self) -> dict[str, float]:
        """The p-value of each quantity, by itself, and of each with the data (`m by the data`)."""
        found = {name: of_ranks(ranks, self.draws) for name, ranks in self.ranks.items()}
        return found | {f"{name}{_WITH}": self._apart(ranks) for name, ranks in self.ranks.items()}

    def _apart(self, ranks: np.ndarray[Any, Any]) -> float:
        """Of ranks having nothing to do with the level of the data."""
        if len(ranks) < 8 or np.ptp(ranks) == 0 or np.ptp(self.levels) == 0:
            return 1.0
        from scipy.stats import spearmanr  # of a second to import

        return float(spearmanr(ranks, self.levels).pvalue)

    @property
    def p_value(self) -> float:
        """Of all quantities together: the least p-value, times their number."""
        return min(1.0, min(self.p.values(), default=1.0) * len(self.p))

    @cached_property
    def bias(self) -> dict[str, float]:
        """The p-value of each quantity against being as often in the lower half as in the upper one (VSBC).

        All that is asked of a guide that may be too narrow, but has to stand in the right place (Yao, Vehtari, Simpson
        & Gelman 2018, "Yes, but did it work?").
        """
        return {name: self._symmetric(ranks) for name, ranks in self.ranks.items()}

    def _symmetric(self, ranks: np.ndarray[Any, Any]) -> float:
        from scipy.stats import binomtest

        lower, upper = int((2 * ranks < self.draws).sum()), int((2 * ranks > self.draws).sum())
        return float(binomtest(lower, lower + upper).pvalue) if lower + upper else 1.0

    def band(self, level: float = 0.95) -> tuple[Numbers, Numbers, Numbers]:
        """Points, (K,), and the lowest and highest share of ranks below each that uniform ranks have: see the ECDFs."""
        return band(self.size, self.draws, level)

    @property
    def verdict(self) -> Verdict:
        """`trust`, or `do not trust`; `caution` where simulations failed."""
        if self.p_value <= LEVEL:
            return "do not trust"
        return "caution" if self.failed else "trust"

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """All of them, the least calibrated quantity first."""
        count = max(1, len(self.p))
        worst = sorted(self.p, key=self.p.__getitem__)
        found = [
            Finding(
                f"ranks of {name}", "ok" if self.p[name] * count > LEVEL else "wrong",
                f"p = {min(1.0, self.p[name] * count):.2g} of {count}, above {LEVEL} wanted: {self.shape(name)}",
                self.p[name] * count, _TALTS,
                "The guide or sampler misses the posterior; or the density of the model is not that of its simulations",
                bears=True,
            )
            for name in worst
        ]  # fmt: skip
        if self.road == "fit" and worst:
            name = min(self.bias, key=self.bias.__getitem__)
            p = min(1.0, self.bias[name] * len(self.bias))  # as many as are asked of their place
            told = f"p = {p:.2g} of ranks of {name} being as often low as high, above {LEVEL} wanted"
            advice = "The guide stands beside the posterior"
            found.append(Finding("place of the guide", "ok" if p > LEVEL else "wrong", told, p, _YAO, advice))
        if self.failed:
            told = f"{len(self.failed)} simulations gave no draws: {self.failed[0]}"
            found.append(Finding("failed simulations", "look", told, float(len(self.failed)), _TALTS))
        return tuple(found)

    def __getitem__(self, name: str) -> Finding:
        """A finding by its name."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(f"no finding '{name}'; there are: {', '.join(one.name for one in self.findings)}")

    def shape(self, name: str) -> str:
        """What the ranks of a quantity look like, in words."""
        if name.endswith(_WITH):
            away = (
                float(np.corrcoef(self.ranks[name.removesuffix(_WITH)], self.levels)[0, 1]) if self.p[name] < 1 else 0.0
            )
            return f"correlation of ranks and level of the data {away:.2f}: 0 where all of the data were taken in"
        share = (self.ranks[name] + 0.5) / (self.draws + 1)
        error = (12 * len(share)) ** -0.5
        middle, spread = float(share.mean() - 0.5) / error, float(((share - 0.5) ** 2).mean() * 12 - 1)
        if abs(middle) > 4:
            return f"draws lie too {'low' if middle > 0 else 'high'}"
        if abs(spread) > 4 * (0.8 / len(share)) ** 0.5:
            return f"draws are {'too narrow' if spread > 0 else 'too wide'}"
        return "no pattern stands out"

    def __repr__(self) -> str:
        head = f"{self.name}: {self.verdict}; {self.size} simulations by {self.road}, {self.draws} draws each"
        shown = [finding for i, finding in enumerate(self.findings) if i < 6 or finding.state != "ok"]
        left = len(self.findings) - len(shown)
        return "\n".join([head, *(f"  {one}" for one in shown), *([f"  and {left} more that are ok"] if left else [])])
