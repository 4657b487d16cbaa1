"""Questions to a network of variables: P(variables | evidence), and what an intervention would do.

    >>> pair = zoo.create("bayesian_network", columns=..., edges=...)  # doctest: +SKIP
    >>> inference.query(pair, None, "lung", {"xray": "yes", "smoke": "yes"})  # doctest: +SKIP

Works for any pair that has a schema and is a `zoo.abilities.Network`: exact answers at S values of its
global latents. Where these are uncertain, so is the answer: it is given for every draw of the posterior, with its mean
and an interval. Under each draw t the answer is P(variables | evidence, t); draws keep their equal weights.

Evidence may be a frame: its rows are asked side by side, and a missing cell is not known in its row.

    >>> inference.query(pair, None, "lung", patients[["xray", "smoke"]]).frame()  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from inference.data.check import example
from inference.posterior.check import check_posterior
from inference.posterior.draws import draw as draw_posterior
from inference.posterior.latents import Posterior
from inference.questions.evidence import Rows, accepted, check_network, in_words
from inference.questions.rows import Answers
from inference.running.checked import Checked
from inference.running.words import check_mass, told
from zoo.base import Batch, ModelGuide, Site
from zoo.settings import settings
from zoo.threads.turns import in_turn


@dataclass(frozen=True)
class Answer:
    """P(variables | evidence), at each draw of the tables.

    Args:
        variables: what was asked for.
        states: of each discrete variable; empty for real ones.
        given: the evidence and interventions, in words.
        draws: probabilities of the states, (draw, *states); or means of real variables, (draw, Q).
        sd: standard deviations of real variables, (draw, Q).
        log_evidence: log probability (density) of the evidence, (draw,).
        mass: of the intervals.
    """

    variables: tuple[str, ...]
    states: tuple[tuple[Any, ...], ...]
    given: str
    draws: Tensor
    sd: Tensor | None
    log_evidence: Tensor
    mass: float = 0.9

    @property
    def mean(self) -> Tensor:
        """Probabilities of the states, (*states), or means of real variables, (Q,), averaged over the draws."""
        return self.draws.mean(0)

    @property
    def interval(self) -> tuple[Tensor, Tensor]:
        """Low and high ends, of the shape of `mean`: what the uncertainty of the tables leaves open."""
        ends = self.draws.new_tensor([(1 - self.mass) / 2, (1 + self.mass) / 2])
        low, high = torch.quantile(self.draws.flatten(1), ends, 0).unflatten(1, self.draws.shape[1:])
        return low, high

    def __getitem__(self, states: Any) -> float:
        """The mean probability of a state, or of one state for each variable: `answer["yes"]`, `answer["yes", "no"]`.

        Of real variables: the mean of the variable of that name.

        Raises:
            KeyError: there is no such state or variable.
        """
        wanted = states if isinstance(states, tuple) else (states,)
        if not self.states:
            if len(wanted) != 1 or wanted[0] not in self.variables:
                raise KeyError(f"no variable {states!r}; asked for: {', '.join(self.variables)}")
            return float(self.mean[self.variables.index(wanted[0])])
        if len(wanted) != len(self.states):
            raise KeyError(f"expected a state of each of {', '.join(self.variables)}, got {states!r}")
        index = []
        for name, state, known in zip(self.variables, wanted, self.states, strict=True):
            words = list(map(str, known))
            if str(state) not in words:
                raise KeyError(f"'{name}' has no state {state!r}; states: {', '.join(words)}")
            index.append(words.index(str(state)))
        return float(self.mean[tuple(index)])

    def __str__(self) -> str:
        """A line a state."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        bar = f" | {self.given}" if self.given else ""
        sure = len(self.draws) == 1
        low, high = self.interval
        words = f", {self.mass:.0%} interval"
        if self.sd is not None:
            for q, name in enumerate(self.variables):
                spread = (self.sd[:, q].square().mean() + self.draws[:, q].var(correction=0)).sqrt()
                between = "" if sure else f"  [mean in {low[q]:.4g}, {high[q]:.4g}{words}]"
                yield f"{name}{bar}: {self.mean[q]:.4g}, sd {spread:.4g}{between}"
            return
        yield f"P({', '.join(self.variables)}{bar})"
        for index in torch.cartesian_prod(*(torch.arange(len(s)) for s in self.states)).reshape(-1, len(self.states)):
            at = tuple(index.tolist())
            state = ", ".join(str(states[i]) for states, i in zip(self.states, at, strict=True))
            yield f"  {state}: {self.mean[at]:.4f}" + ("" if sure else f"  [{low[at]:.4f}, {high[at]:.4f}{words}]")


class Frame(Protocol):
    """Many rows of evidence: a frame of pandas or polars."""

    columns: Any

    def __getitem__(self, key: Any, /) -> Any:
        """A column."""


@overload
def query(
    pair: ModelGuide,
    posterior: Posterior | None,
    variables: str | Sequence[str],
    evidence: Mapping[str, Any] | None = ...,
    *,
    given: Mapping[str, Any] | None = ...,
    do: Mapping[str, Any] | None = ...,
    mass: float = ...,
    seed: int = ...,
) -> Answer: ...
@overload
def query(
    pair: ModelGuide,
    posterior: Posterior | None,
    variables: str | Sequence[str],
    evidence: Frame | None = ...,
    *,
    given: Frame | None = ...,
    do: Mapping[str, Any] | None = ...,
    mass: float = ...,
    seed: int = ...,
) -> Answers: ...
@in_turn
def query(
    pair: ModelGuide,
    posterior: Posterior | None,
    variables: str | Sequence[str],
    evidence: Any = None,
    *,
    given: Any = None,
    do: Mapping[str, Any] | None = None,
    mass: float = 0.9,
    seed: int = 0,
) -> Answer | Answers:
    """P(variables | evidence), exact under each draw of the tables; with `do`, after an intervention.

    Args:
        pair: a network.
        posterior: of its tables; None takes draws from the guide, or nothing where every table is known.
        variables: one name or several: all discrete (their joint distribution), or all real (means and deviations).
        evidence: observed values by name, in the user's words and units. Or many rows of them, asked side by side: a
            frame of pandas or polars whose columns are nodes, a mapping of nodes to lists, or a list of mappings;
            a missing cell is not known in its row.
        given: `evidence` under its other name.
        do: values of nodes that are set from outside: what would make them so is taken away (Pearl 2009).
        mass: of the intervals.
        seed: of the draws from the guide.

    Returns:
        an `Answer`; of many rows `Answers`, whose `frame()` has a line for each.

    Raises:
        ValueError: the pair is no network, a node or state does not exist, a node is asked for and given, the evidence
            has probability zero, or the question is too large; what is wrong is named, and of a frame its row.
    """
    seen, do = _checked(pair, evidence, given, do, mass)
    names = (variables,) if isinstance(variables, str) else variables
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"variables: expected the name of a node or several, got {told(variables)}")
    return _answer(pair, tables_of(pair, posterior, seed), tuple(names), seen, do, mass)


def _checked(
    pair: ModelGuide, evidence: Any, given: Any, do: Any, mass: Any
) -> tuple[dict[str, Any] | Rows, dict[str, Any]]:
    """The evidence and the interventions of a question, as they are accepted."""
    check_network(pair)
    if do is not None and not isinstance(do, Mapping):
        raise ValueError(f"do: expected a dict of values by the name of a node, got {told(do)}")
    check_mass(mass)
    return accepted(pair, evidence, given), dict(do or {})


def _answer(
    pair: ModelGuide,
    values: Mapping[str, Tensor],
    names: tuple[str, ...],
    seen: dict[str, Any] | Rows,
    do: dict[str, Any],
    mass: float,
) -> Answer | Answers:
    """The answer to a question that has been checked."""
    network: Any = pair  # with a schema, and asked as a `Network`
    with torch.no_grad():
        if isinstance(seen, Rows):
            belief = network.answers(values, names, seen.columns, do)
        else:
            belief = network.answer(values, names, seen, do)
    columns = {column.name: column for column in network.schema.used}
    states = tuple(columns[name].categories for name in names) if belief.probs is not None else ()
    draws = belief.mean if belief.probs is None else belief.probs
    sd = belief.variance.sqrt() if belief.probs is None else None
    if isinstance(seen, Rows):
        return Answers(names, states, draws, sd, belief.log_evidence, seen.index, mass)
    return Answer(names, states, in_words(seen, do), draws, sd, belief.log_evidence, mass)


@overload
def marginals(
    pair: ModelGuide,
    posterior: Posterior | None = ...,
    evidence: Mapping[str, Any] | None = ...,
    *,
    given: Mapping[str, Any] | None = ...,
    do: Mapping[str, Any] | None = ...,
    mass: float = ...,
    seed: int = ...,
) -> dict[str, Answer]: ...
@overload
def marginals(
    pair: ModelGuide,
    posterior: Posterior | None = ...,
    evidence: Frame | None = ...,
    *,
    given: Frame | None = ...,
    do: Mapping[str, Any] | None = ...,
    mass: float = ...,
    seed: int = ...,
) -> dict[str, Answers]: ...
@in_turn
def marginals(
    pair: ModelGuide,
    posterior: Posterior | None = None,
    evidence: Any = None,
    *,
    given: Any = None,
    do: Mapping[str, Any] | None = None,
    mass: float = 0.9,
    seed: int = 0,
) -> dict[str, Any]:
    """P(node | evidence) of every node that is not given; arguments and errors are those of `query`."""
    seen, do = _checked(pair, evidence, given, do, mass)
    known = {*(seen.columns if isinstance(seen, Rows) else seen), *do}
    values = tables_of(pair, posterior, seed)
    names = pair.schema.names if pair.schema is not None else ()
    return {name: _answer(pair, values, (name,), seen, do, mass) for name in names if name not in known}


def mean_values(posterior: Posterior) -> dict[str, Tensor]:
    """The posterior mean of each global latent: tables whose rows still sum to one, say for `pair.to_bif`."""
    return {name: value.mean(0) for name, value in posterior.flat(posterior.globals).items()}


def tables_of(pair: ModelGuide, posterior: Posterior | None, seed: int) -> dict[str, Tensor]:
    """The tables at each draw: without a posterior drawn from the guide; nothing where every table is known."""
    if posterior is None and next(pair.parameters(), None) is None:
        return {}
    if posterior is None:
        posterior = draw_posterior(pair, example(pair), settings.query_draws, seed=seed)
    else:
        posterior = check_posterior(_latents(pair), posterior)
    return posterior.flat(posterior.globals)


_known: WeakKeyDictionary[ModelGuide, tuple[Batch, Mapping[str, Site]]] = WeakKeyDictionary()


def _latents(pair: ModelGuide) -> Checked:
    """What latents the pair has: traced once, for a loop asks thousands of questions and training changes no shape."""
    if pair not in _known:
        given = example(pair)
        _known[pair] = given.batch, given.sites
    batch, sites = _known[pair]
    return Checked(pair, batch, batch, sites)
