"""The codes of single observations: what a pair's trace says of its local latents, and densities at given values.

A local latent is either drawn by the guide (continuous codes z_n ~ q(z | x_n)) or enumerated by the model (classes).
Everything here works on S values at once, a leading (S,), and leaves it to the caller to keep S times rows bounded:
`Codes.width` says what one draw of one observation holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import pyro
import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.poutine.enum_messenger import EnumMessenger
from torch import Tensor
from torch.distributions import biject_to, constraints

from inference.posterior.check import check_posterior
from inference.posterior.latents import Posterior
from inference.running.checked import Checked
from inference.running.densities import left_out, run
from inference.running.expectation import base_of
from inference.running.pieces import share
from inference.running.quiet import quietly
from inference.running.vectorised import vectorised
from inference.running.width import repeated
from zoo.base import Batch, ModelGuide, Site, is_local, sample_sites
from zoo.settings import settings

Values = Mapping[str, Tensor]
Dealt = TypeVar("Dealt")


@dataclass(frozen=True)
class Codes:
    """What the trace says about the local latents of a pair.

    Args:
        given: the pair and its data.
        drawn: local latents that the guide draws, as the model's trace knows them.
        enumerated: the local latent that is summed out, if there is one.
        supports: theirs, by name.
        observed: observed sites.
        globals: names of the global latents that the guide draws.
        points: those of `drawn` whose guide is a point mass.
        auxiliary: whether the guide draws local variables that the model lacks.
    """

    given: Checked
    drawn: dict[str, Site]
    enumerated: str | None
    supports: dict[str, constraints.Constraint]
    observed: dict[str, Site]
    globals: tuple[str, ...]
    points: frozenset[str]
    auxiliary: bool

    @classmethod
    def of(cls, given: Checked) -> Codes:
        """Read the guide's trace beside the model's. Random states are left alone.

        Raises:
            ValueError: no local latent, more than one enumerated, or one that nobody infers.
        """
        pair, sites = given.pair, given.sites
        name = pair.name
        local = {n: sites[n] for n in given.locals}
        if not local:
            raise ValueError(
                f"{name} has no local latents, so there are no codes (hidden states that a distribution sums out "
                "are read by `inference.smooth`)"
            )
        with quietly(0, pair):
            guide = sample_sites(poutine.trace(pair.guide).get_trace(repeated(given.batch, 2)))
        drawn = {n: site for n, site in local.items() if n in guide}
        enumerated = [n for n, site in local.items() if site.enumerated and n not in guide]
        for n in local.keys() - drawn.keys() - set(enumerated):
            raise ValueError(f"{name}: {left_out(n, discrete=local[n].discrete, local=True)}")
        if len(enumerated) > 1:
            raise ValueError(f"{name}: expected at most one enumerated latent, found {', '.join(enumerated)}")
        return cls(
            given,
            drawn,
            enumerated[0] if enumerated else None,
            {n: _support(site.fn, guide[n]["fn"]) for n, site in drawn.items()},
            given.observed,
            tuple(n for n, site in guide.items() if n in sites and not is_local(site)),
            frozenset(n for n in drawn if isinstance(base_of(guide[n]["fn"]), Delta)),
            any(is_local(site) and n not in local for n, site in guide.items()),
        )

    @property
    def pair(self) -> ModelGuide:
        """The pair."""
        return self.given.pair

    @property
    def width(self) -> int:
        """Numbers in the largest tensor that one draw of one observation makes."""
        return self.given.width

    @property
    def names(self) -> list[str]:
        """All local latents, the drawn ones first."""
        return [*self.drawn, *([self.enumerated] if self.enumerated else [])]

    @property
    def size(self) -> int:
        """Numbers in the drawn codes of one observation."""
        return sum(site.event_shape.numel() for site in self.drawn.values())

    def check_continuous(self, what: str, density: bool = True) -> None:
        """Refuse, by name, a pair whose guide draws no code (with a density).

        Raises:
            ValueError: for `what`, an English noun phrase.
        """
        name = self.pair.name
        if not self.drawn:
            raise ValueError(f"{what}: the guide of {name} draws no code; '{self.enumerated}' is summed out exactly")
        if density and self.points:
            point = next(iter(self.points))
            raise ValueError(f"{what}: the guide of {name} is a point mass at '{point}', without a density")

    def global_draws(self, batch: Batch, posterior: Posterior | None, draws: int | None = None) -> list[Values]:
        """Values of the global latents, each (1, *event): from the posterior, or `draws` from the guide.

        By default so many as `settings.global_draws`. A pair without global latents has one value of nothing.

        Raises:
            ValueError: the posterior is not this pair's.
        """
        if posterior is not None:
            posterior = check_posterior(self.given, posterior)
        if not self.globals:
            return [{}]
        if posterior is None:
            few = batch.select(slice(0, 1))
            # One at a time: the weights of a network may be large.
            number = draws or settings.global_draws
            traces = [vectorised(self.pair.guide, few, 1, {}, frozenset()) for _ in range(number)]
            return [{name: trace.nodes[name]["value"].squeeze(1) for name in self.globals} for trace in traces]
        flat = posterior.flat(frozenset(self.globals))
        total = posterior.chains * posterior.size
        return [{name: value[s : s + 1] for name, value in flat.items()} for s in range(total)]

    def rows(self, batch: Batch, cost: int = 1) -> Iterator[tuple[slice, Batch]]:
        """Consecutive rows that leave room for several draws at once, each row costing `cost` widths."""
        for rows, part in self.given.but(batch).rows(self.width * cost):
            yield rows, part.but(total=part.size)  # no minibatch scale: these are scores of single rows

    def draws(self, total: int, part: Batch, among: Sequence[Dealt], cost: int = 1) -> Iterator[tuple[slice, Dealt]]:
        """`total` draws for these rows, dealt out among values of the globals, say, in slices that fit the budget."""
        for s, where in share(total, len(among)):
            for some in self.given.draws(where.stop - where.start, part, self.width * cost):
                yield slice(where.start + some.start, where.start + some.stop), among[s]

    def propose(self, part: Batch, count: int, fixed: Values) -> tuple[dict[str, Tensor], Tensor]:
        """`count` codes of each row from the guide, site -> (S, B, *event), and log q of them, (S, B)."""
        trace = vectorised(self.pair.guide, part, count, fixed, frozenset())
        trace.compute_log_prob()
        local = [node for node in sample_sites(trace).values() if is_local(node)]
        log_q = torch.stack([node["log_prob"].expand(count, part.size) for node in local]).sum(0)
        values = {
            name: trace.nodes[name]["value"].expand(count, part.size, *site.event_shape)
            for name, site in self.drawn.items()
        }
        return values, log_q

    def log_guide(self, part: Batch, values: Values, fixed: Values) -> Tensor:
        """log q(z | x_n) at values (S, B, *event), (S, B)."""
        count = len(next(iter(values.values())))
        trace = vectorised(self.pair.guide, part, count, {**fixed, **values}, frozenset(values))
        trace.compute_log_prob()
        local = [trace.nodes[name]["log_prob"].expand(count, part.size) for name in self.drawn]
        return torch.stack(local).sum(0)

    def log_joint(self, part: Batch, values: Values, fixed: Values) -> Tensor:
        """log p(x_n, z | globals) at values (S, B, *event), classes summed out, (S, B)."""
        count = next((len(value) for value in (values or fixed).values()), 1)

        def guide(batch: Batch) -> None:
            with batch.plate():
                for name, value in values.items():
                    pyro.sample(name, Delta(value, event_dim=value.ndim - 2))

        at_values = cast("ModelGuide", _Pair(self.pair.model, guide))
        weight = run(at_values, part, count, fixed).log_weight
        return weight.expand(count, part.size)

    def model_given(
        self, part: Batch, count: int, values: Values, fixed: Values, enumerate_: bool = False
    ) -> dict[str, Any]:
        """The model's sites, traced at given codes (S, B, *event) and globals; classes leftmost where enumerated."""
        with EnumMessenger(first_available_dim=-3) if enumerate_ else nullcontext():
            trace = vectorised(self.pair.model, part, count, {**fixed, **values}, frozenset(values))
        trace.compute_log_prob()
        return sample_sites(trace)

    def log_classes(self, part: Batch, count: int, sites: Mapping[str, Any]) -> Tensor:
        """log p(class k | x_n, codes, globals) from an enumerated trace of the model, (K, S, B)."""
        local = [node["unscaled_log_prob"] for node in sites.values() if is_local(node)]
        factor: Tensor = sum(local[1:], local[0])
        return factor.expand(factor.shape[0], count, part.size).log_softmax(0)


class Proposal(Protocol):
    """Where codes of importance samples come from. `rows` says where in the whole data the batch stands."""

    def propose(self, codes: Codes, part: Batch, rows: slice, count: int, fixed: Values) -> tuple[Values, Tensor]:
        """Codes, site -> (S, B, *event), and the log density of them, (S, B)."""

    def log_prob(self, codes: Codes, part: Batch, rows: slice, values: Values, fixed: Values) -> Tensor:
        """Log density of given codes, (S, B)."""


class Encoder:
    """The guide as a proposal."""

    def propose(self, codes: Codes, part: Batch, rows: slice, count: int, fixed: Values) -> tuple[Values, Tensor]:
        """See `Proposal`."""
        return codes.propose(part, count, fixed)

    def log_prob(self, codes: Codes, part: Batch, rows: slice, values: Values, fixed: Values) -> Tensor:
        """See `Proposal`."""
        return codes.log_guide(part, values, fixed)


@dataclass(frozen=True)
class _Pair:
    """As much of a pair as `objective.run` looks at."""

    model: Any
    guide: Any


def _support(model: Any, guide: Any) -> constraints.Constraint:
    """The support of a latent as the model has it; as the guide has it where no bijection is known (mixtures)."""
    try:
        biject_to(model.support)
    except NotImplementedError:
        parts = getattr(base_of(model), "component_distribution", guide)  # a flow has no support of its own
        return cast("constraints.Constraint", parts.support)
    return cast("constraints.Constraint", model.support)
