"""What a pair, a distribution, a constraint or an argument may offer beyond the contract: each as a Protocol.

Nothing inherits from these. Whoever asks tests with `isinstance`, which looks for the names alone; whoever offers has
the methods. An attribute has to be a plain one or a property: buffers and parameters are not found. The list, a line
each: `python -m zoo.abilities`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from torch.distributions.constraints import Constraint

    from zoo.batch import Batch


# --- of pairs ---------------------------------------------------------------------------------------------------------
class Belief(Protocol):
    """What a network answers at S values of its latents."""

    @property
    def probs(self) -> Tensor | None:
        """Of discrete variables together, (S, *states); None if they are real."""

    @property
    def mean(self) -> Tensor | None:
        """Of Q real variables, (S, Q)."""

    @property
    def variance(self) -> Tensor | None:
        """Of Q real variables, (S, Q)."""

    @property
    def log_evidence(self) -> Tensor:
        """Log probability (density) of the evidence, (S,)."""


class Explained(Protocol):
    """The most probable states of a network's nodes given each of N rows of evidence."""

    @property
    def values(self) -> Mapping[str, Sequence[Any]]:
        """Of every node that is not set, N values each, what was seen among them."""

    @property
    def probs(self) -> Tensor:
        """Of the states of discrete nodes given the evidence, (S, N)."""

    @property
    def log_evidence(self) -> Tensor:
        """Log probability (density) of the evidence, (S, N)."""


@runtime_checkable
class Network(Protocol):
    """A network of the variables of its schema that can be asked and drawn: `inference.query`, `zoo query`, pictures.

    `edges` are (parent, child) names.
    """

    edges: Any

    def answer(
        self, values: Mapping[str, Tensor], variables: Sequence[str], evidence: Mapping[str, Any], do: Mapping[str, Any]
    ) -> Belief:
        """The exact answer at S values of the global latents, each (S, *event)."""

    def answers(
        self,
        values: Mapping[str, Tensor],
        variables: Sequence[str],
        rows: Mapping[str, Sequence[Any]],
        do: Mapping[str, Any],
    ) -> Belief:
        """The same given each of N rows of evidence, missing cells None, at S values: (S, N, ...)."""

    def explain(
        self, values: Mapping[str, Tensor], rows: Mapping[str, Sequence[Any]], do: Mapping[str, Any]
    ) -> Explained:
        """The most probable explanation of each of N rows of evidence, under the mean of S values."""

    def probabilities(self, values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Each cell of each table of a discrete node by its name, `P(a = yes | b = no)`, at S values, (S or 1,)."""


class Trees(Protocol):
    """S draws of T trees of I = 2^H - 1 nodes, level by level from the root, and L = 2^H leaves from left to right.

    A row goes right at node i where its weighted covariates, in ranks, are above the cut.
    """

    @property
    def weight(self) -> Tensor:
        """Weight of each covariate at each node, (S, T, I, D); they sum to one."""

    @property
    def cut(self) -> Tensor:
        """The threshold of each node, in ranks from 0 to 1, (S, T, I)."""

    @property
    def value(self) -> Tensor:
        """The same in units of each covariate, (S, T, I, D)."""

    @property
    def share(self) -> Tensor:
        """Share of the rows that end in each leaf, (S, T, L)."""

    @property
    def leaf(self) -> Tensor:
        """What a leaf says, (S, T, L, K)."""


@runtime_checkable
class TreeLike(Protocol):
    """A pair that can lay its trees open, for their picture: `inference.gallery.trees.picture`."""

    def anatomy(self, values: Mapping[str, Tensor], batch: Batch) -> Trees:
        """The trees of S draws of the global latents, each site (S, *event), over the rows of a batch."""


@runtime_checkable
class Text(Protocol):
    """A pair that may read and write text: `inference.fit(pair, "some text")`, `zoo sample --prefix`.

    `alphabet` holds the characters that its codes stand for, or is None; `steps` is the length of a window of text.
    """

    alphabet: str | None
    steps: int


InTheirUnits = dict[str, tuple["Tensor", dict[str, Sequence[str]]]]  # name -> values (S, *), labels by dimension


@runtime_checkable
class InUnits(Protocol):
    """A pair whose global latents can be said in the data's own units: `inference.coefficients`, `to_arviz`.

    Of a regression `coefficients` are among them, with a last dimension `term`.
    """

    def in_units(self, values: Mapping[str, Tensor], columns: Sequence[str]) -> InTheirUnits:
        """The latents of S draws, each site (S, *event), under the names of the columns of x, in double precision.

        A name that is a site's own takes its place where draws are shown.
        """


@runtime_checkable
class Powers(Protocol):
    """A regression that adds terms of its own, such as powers, to the columns of a design: `zoo fit --target`."""

    def more_terms(self, columns: Sequence[str]) -> Sequence[str]:
        """Their names, of these covariates: `age^2`."""


@runtime_checkable
class Cautious(Protocol):
    """A pair that knows of data for which its answers need a caution: printed with the `Fit`."""

    def caution(self, batch: Batch) -> str:
        """What to know before its intervals are believed, of the rows of a fit; empty where there is nothing."""


@runtime_checkable
class ClassTables(Protocol):
    """A pair whose columns are independent given a class: `inference.compress` mixes tables of each.

    It is asked at S draws of the global latents, each (S, ...), for D columns of x.
    """

    def class_tables(
        self, values: Mapping[str, Tensor], cuts: Sequence[Tensor | None]
    ) -> tuple[Tensor, list[Tensor]] | None:
        """Probabilities of the classes, (S, K), and of what a column holds given each, (S, K, C); None if not so.

        Of numbers, between each of the C + 1 cuts and the next; of categories, whose cuts are None, of each code.
        """


@runtime_checkable
class StateTables(Protocol):
    """A pair whose steps are independent given a hidden state that moves: `inference.compress` filters with tables.

    It is asked at S draws of the global latents, each (S, ...), for the D features of a step.
    """

    def state_tables(
        self, values: Mapping[str, Tensor], cuts: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]] | None:
        """Probabilities of the first state (S, K), of the next (S, K, K), and of what lies between cuts (S, K, C)."""


@runtime_checkable
class Conditionals(Protocol):
    """A pair whose columns come in turn, given others before and a class: `inference.compress` codes them so.

    It is asked at S draws of the global latents, each (S, ...).
    """

    def conditionals(self, values: Mapping[str, Tensor]) -> tuple[Tensor, Sequence[Any]]:
        """Probabilities of the classes, (S, K), and each column of x given others, parents before children.

        Each as `zoo.parts.conditionals.Conditional` has it.
        """


@runtime_checkable
class FromFile(Protocol):
    """A class of pairs that files of a format of their own stand for: `zoo query clinic.bif`, `zoo fit clinic.bif`.

    `formats` are the endings of their names.
    """

    formats: Sequence[str]

    def read(self, path: str | Path, *, learned: bool = False) -> dict[str, Any]:
        """The arguments that a file stands for; `learned`: without what a fit learns. A class method."""


# --- of the distribution of an observed site --------------------------------------------------------------------------
@runtime_checkable
class Forecast(Protocol):
    """A sequence that goes on: `inference.forecast`.

    It may take keywords besides, which the caller passes by name: `inputs`, (B, H, E), known ahead; a temperature.
    """

    def forecast(self, x: Tensor, horizon: int) -> Any:
        """The distribution of the H steps after the last valid one of x, (*, B, T) or (*, B, T, D)."""


@runtime_checkable
class Stepwise(Protocol):
    """A sequence of which each step has a density given those before it: `inference.perplexity`."""

    def step_log_probs(self, value: Tensor) -> Tensor:
        """log p(x_t | x_1..x_{t-1}) of sequences (*, B, T) or (*, B, T, D), zero past their ends, (*, B, T)."""


@runtime_checkable
class OneStepAhead(Protocol):
    """Numbers that come one after the other, each with moments given those before it: `inference.one_step_ahead`."""

    def conditional_moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each number of x, (*, B, T) or (*, B, T, D), given those before it, of its shape."""


@runtime_checkable
class HiddenStates(Protocol):
    """A sequence with K hidden states, summed out: `inference.smooth`, `viterbi`, `sample_paths`."""

    @property
    def states(self) -> int:
        """Their number K."""

    def smooth(self, x: Tensor) -> Tensor:
        """Probabilities of the states at each step given the whole sequence, (*, B, T, K)."""

    def viterbi(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The most probable paths, (*, B, T), -1 past the end, and their log joint densities, (*, B)."""

    def sample_states(self, x: Tensor) -> Tensor:
        """Paths drawn from the posterior over states, (*, B, T)."""


@runtime_checkable
class Point(Protocol):
    """One observation that stands for a distribution whose mean makes no sense: reconstructions, imputations."""

    @property
    def point(self) -> Tensor:
        """It, (*batch, *event)."""


@runtime_checkable
class Summary(Protocol):
    """What of a distribution may be averaged over classes, codes and draws, where its mean may not: imputations."""

    def summary(self) -> Tensor:
        """Means of numbers, probabilities of categories, (*batch, S)."""


@runtime_checkable
class Settle(Protocol):
    """The observation that an average of summaries stands for: imputations, reconstructions."""

    def settle(self, summary: Tensor) -> Tensor:
        """Averages (*, S) to observations (*, *event)."""


# --- of constraints ---------------------------------------------------------------------------------------------------
@runtime_checkable
class InWords(Protocol):
    """A support that says what it takes, for the message that refuses a cell: `inference.data`."""

    def in_words(self, column: int) -> str:
        """What it takes in a column, the last dimension of the event."""


@runtime_checkable
class TakesMissing(Protocol):
    """A support that takes NaN besides what its `base` takes, for the same message."""

    base: Constraint


# --- of the types of arguments ----------------------------------------------------------------------------------------
@runtime_checkable
class FromJSON(Protocol):
    """The type of an argument that can be made from what JSON holds, lists and names: `zoo.create`, `zoo.load`."""

    def of(self, value: Any) -> Any:
        """The argument; a ValueError says what is wrong. A class method."""


ABILITIES: dict[str, tuple[type, ...]] = {
    "A pair": (Network, FromFile, TreeLike, Text, InUnits, Powers, Cautious, Conditionals, ClassTables, StateTables),
    "The distribution of an observed site": (Forecast, Stepwise, OneStepAhead, HiddenStates, Point, Summary, Settle),
    "The support of a site": (InWords, TakesMissing),
    "The type of an argument": (FromJSON,),
}


def names(ability: type) -> tuple[str, ...]:
    """What to define, to offer an ability."""
    own = {*vars(ability), *vars(ability).get("__annotations__", {})}
    return tuple(sorted(name for name in own if not name.startswith("_")))


def listed() -> str:
    """Every ability with what to define for it and a line that says what it is, for the contributor's guide."""
    lines = []
    for owner, abilities in ABILITIES.items():
        lines.append(f"{owner} may offer")
        for ability in abilities:
            first = (ability.__doc__ or "").splitlines()[0]
            lines.append(f"  {ability.__name__} ({', '.join(names(ability))}): {first}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(listed() + "\n")
