"""The most probable explanation of what was seen: the states of everything else that go best with it.

    >>> inference.explain(clinic, {"dysp": "yes", "xray": "yes"})  # doctest: +SKIP

It is one joint state of all nodes, not the likeliest state of each: those may not go together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from inference.posterior.latents import Posterior
from inference.questions.evidence import Rows, accepted, check_network, in_words
from inference.questions.queries import Frame, tables_of
from inference.running.words import check_mass, told
from zoo.base import ModelGuide
from zoo.threads.turns import in_turn

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Explanation:
    """The most probable state of every node, given the evidence.

    Args:
        values: of the nodes that were not given: states of discrete ones; means, given those states, of real ones.
        given: the evidence and interventions, in words.
        draws: probability of these states given the evidence, at each draw of the tables, (draw,).
        log_evidence: log probability (density) of the evidence, (draw,).
        mass: of the interval.
    """

    values: dict[str, Any]
    given: str
    draws: Tensor
    log_evidence: Tensor
    mass: float = 0.9

    @property
    def probability(self) -> float:
        """Of these states together given the evidence, averaged over the draws."""
        return float(self.draws.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """What the uncertainty of the tables leaves open of it."""
        ends = self.draws.new_tensor([(1 - self.mass) / 2, (1 + self.mass) / 2])
        low, high = torch.quantile(self.draws, ends).tolist()
        return low, high

    def __getitem__(self, node: str) -> Any:
        """The value of a node."""
        return self.values[node]

    def __str__(self) -> str:
        """A line a node, and the probability of all together."""
        bar = f" | {self.given}" if self.given else ""
        low, high = self.interval
        sure = "" if len(self.draws) == 1 else f"  [{low:.4f}, {high:.4f}, {self.mass:.0%} interval]"
        shown = {node: f"{value:.4g}" if isinstance(value, float) else value for node, value in self.values.items()}
        lines = [f"  {node} = {value}" for node, value in shown.items()]
        return "\n".join([f"most probable explanation{bar}", *lines, f"probability {self.probability:.4f}{sure}"])


@overload
def explain(
    pair: ModelGuide,
    evidence: Mapping[str, Any] | None = ...,
    posterior: Posterior | None = ...,
    *,
    given: Mapping[str, Any] | None = ...,
    do: Mapping[str, Any] | None = ...,
    mass: float = ...,
    seed: int = ...,
) -> Explanation: ...
@overload
def explain(
    pair: ModelGuide,
    evidence: Frame | None = ...,
    posterior: Posterior | None = ...,
    *,
    given: Frame | None = ...,
    do: Mapping[str, Any] | None = ...,
    mass: float = ...,
    seed: int = ...,
) -> pd.DataFrame: ...
@in_turn
def explain(
    pair: ModelGuide,
    evidence: Any = None,
    posterior: Posterior | None = None,
    *,
    given: Any = None,
    do: Mapping[str, Any] | None = None,
    mass: float = 0.9,
    seed: int = 0,
) -> Explanation | pd.DataFrame:
    """The most probable explanation: the states of all other nodes that are most probable together (Pearl 1988).

    Exact, by max-product elimination, under the mean of the tables; real nodes that are not known are integrated out,
    and told as their means given those states.

    Args:
        pair: a network.
        evidence: observed values by name, in the user's words and units; or many rows of them (see `query`).
        posterior: of its tables; None takes draws from the guide, or nothing where every table is known.
        given: `evidence` under its other name.
        do: values of nodes that are set from outside.
        mass: of the interval of the probability.
        seed: of the draws from the guide.

    Returns:
        an `Explanation`; of many rows a frame: a column a node, with what was seen, and `probability`.

    Raises:
        ValueError: see `query`.
    """
    network = check_network(pair)
    check_mass(mass)
    if do is not None and not isinstance(do, Mapping):
        raise ValueError(f"do: expected a dict of values by the name of a node, got {told(do)}")
    seen, fixed = accepted(pair, evidence, given), dict(do or {})
    rows = seen.columns if isinstance(seen, Rows) else {name: [value] for name, value in seen.items()}
    with torch.no_grad():
        found = network.explain(tables_of(pair, posterior, seed), rows, fixed)
    if isinstance(seen, Rows):
        import pandas as pd

        frame = pd.DataFrame(found.values, index=seen.index)
        return frame.assign(probability=found.probs.mean(0).cpu().numpy())
    values = {name: cells[0] for name, cells in found.values.items() if name not in seen}
    return Explanation(values, in_words(seen, fixed), found.probs[:, 0], found.log_evidence[:, 0], mass)
