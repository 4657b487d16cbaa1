"""Draws of a program's latents from the prior, what they predict, and the log-likelihood of what was seen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from inference.posterior.latents import Posterior
from inference.programs.outline import Outline, base
from inference.programs.rows import outline_of_all
from inference.programs.runs import First
from inference.programs.visiting import Visit
from inference.running.mapped import Mapped, TraceError, one_by_one
from inference.running.pieces import pieces
from inference.running.quiet import quietly
from inference.running.words import check_count, listed, told
from zoo.programs import Program
from zoo.state.memory import check_room

__all__ = ["log_likelihood", "predict", "prior"]


class UndrawableError(ValueError):
    """Observed sites cannot be drawn anew; `sites` has their names."""

    def __init__(self, name: str, kinds: Mapping[str, str]) -> None:
        self.sites = frozenset(kinds)
        told_of = ", ".join(f"'{site}' ({kind})" for site, kind in kinds.items())
        hint = "; a hidden Markov model needs its `duration`" if any("HMM" in kind for kind in kinds.values()) else ""
        super().__init__(f"{name}: site {told_of} cannot be drawn from, so there is nothing to predict{hint}")


def prior(program: Program, *args: Any, draws: int = 1000, seed: int = 0, **kwargs: Any) -> Posterior:
    """Draws of everything that a program draws, observed or not, from the prior: site -> (1, draw, ...).

    Args:
        program: see `zoo.program`.
        args, kwargs: what its model takes.
        draws: how many.
        seed: seeds them; the caller's random state is left as it was.

    Raises:
        ValueError: a latent has an improper prior, by its name.
    """
    check_count("draws", draws)
    with quietly(seed):
        seen = outline_of_all(program, args, kwargs)
        check_proper(seen)
        found = before(seen, draws)
    return Posterior({name: value[None] for name, value in found.items()}, frozenset(), {}, "prior", 1, draws)


def check_proper(seen: Outline) -> None:
    """Refuse improper priors.

    Raises:
        ValueError: by site.
    """
    if seen.improper:
        name = seen.call.program.name
        raise ValueError(f"{name}: site {listed(seen.improper)} has an improper prior, from which nothing can be drawn")


def check_started(seen: Outline) -> None:
    """Refuse improper priors without a start: nothing says where their mass might be.

    Raises:
        ValueError: by site.
    """
    known = seen.call.program.start
    improper = [site for site in seen.improper if site not in known]
    if improper:
        where = ", ".join(f"'{site}': …" for site in improper)
        raise ValueError(
            f"{seen.call.program.name}: site {listed(improper)} has an improper prior, which says nothing of where to "
            f"start: give a value to start around, zoo.program(model, start={{{where}}})"
        )


def predict(
    program: Program, posterior: Posterior, *args: Any, draws: int | None = None, seed: int = 0, **kwargs: Any
) -> dict[str, Tensor]:
    """New values of all sites that the posterior does not hold, given each of its draws; deterministic sites too.

    Observed sites are drawn anew, and so are latents that were summed out and sites that these arguments leave
    unobserved (`y=None`). Plates that take a part of their rows take all of them.

    Args:
        program: see `zoo.program`.
        posterior: from `sample`.
        args, kwargs: what its model takes: those of the posterior, or others.
        draws: use only so many draws of each chain, evenly spaced; default all.
        seed: seeds them.

    Returns:
        site -> (chain, draw, ...).

    Raises:
        ValueError: draws of a latent that these arguments give another shape, a part of a plate's rows say, or that
            the program does not have.
    """
    with quietly(seed):
        seen = outline_of_all(program, args, kwargs)
        posterior = check(seen, posterior, draws)
        return made(seen, posterior)


def before(seen: Outline, draws: int, kept: Collection[str] = ()) -> dict[str, Tensor]:
    """Prior draws of all sites but observed ones that are `kept`: site -> (S, ...).

    Raises:
        UndrawableError: an observed site is of a distribution that only scores.
    """
    with _told_of(seen):
        return _mapped(seen, lambda values: Visit(seen).predictive(values, kept), {}, draws)


def made(seen: Outline, posterior: Posterior, kept: Collection[str] = ()) -> dict[str, Tensor]:
    """New values of the sites that a posterior does not hold, but for those `kept`: site -> (chain, draw, ...).

    Raises:
        UndrawableError: an observed site is of a distribution that only scores.
    """
    with _told_of(seen):
        return at_draws(seen, lambda values: Visit(seen).predictive(values, kept), posterior)


@contextmanager
def _told_of(seen: Outline) -> Iterator[None]:
    """Says which observed sites cannot be drawn, where a run fails because of them."""
    try:
        yield
    except (NotImplementedError, AssertionError) as error:
        trying = _Trying()
        with trying, First(seen.call.program.start, drawn=False):
            seen.call()
        if not trying.failed:
            raise
        raise UndrawableError(seen.call.program.name, trying.failed) from error


class _Trying(Messenger):
    """Draws each observed site, and notes which cannot be drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: dict[str, str] = {}

    def _pyro_sample(self, message: Any) -> None:
        if message["is_observed"]:
            try:
                message["fn"]()
            except (NotImplementedError, AssertionError):
                self.failed[message["name"]] = type(base(message["fn"])).__name__


def log_likelihood(program: Program, posterior: Posterior, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
    """log p of each observed site along its plates at each draw of the latents: site -> (chain, draw, ...), in nats.

    Sites that share a latent which is summed out have one value together, under the name `a+b`, along the plates of
    that latent. Plates that take a part of their rows take all of them.

    Raises:
        ValueError: the posterior is not this program's, or holds latents of a part of a plate's rows.
    """
    with quietly(0):
        seen = outline_of_all(program, args, kwargs)
        posterior = check(seen, posterior, None)
        return at_draws(seen, Visit(seen).pointwise, posterior)


def at_draws(seen: Outline, function: Callable[[Any], dict[str, Tensor]], posterior: Posterior) -> dict[str, Tensor]:
    """A function of the values of latents, at each draw of them: site -> (chain, draw, ...)."""
    lead = (posterior.chains, posterior.size)
    found = _mapped(seen, function, _latents(seen, posterior), posterior.chains * posterior.size)
    return {name: value.unflatten(0, lead) for name, value in found.items()}


def check(seen: Outline, posterior: Any, draws: int | None) -> Posterior:
    """Refuse what is no posterior of this program.

    Raises:
        ValueError: by site.
    """
    name = seen.call.program.name
    if not isinstance(posterior, Posterior):
        raise ValueError(f"posterior: expected a Posterior, as from sample; got {told(posterior)}")
    if posterior.chains * posterior.size < 1:
        raise ValueError("posterior: expected at least one draw")
    if draws is not None:
        posterior = posterior.thin(draws)
    for site, value in posterior.draws.items():
        if site not in seen.sites:
            raise ValueError(
                f"the posterior holds site '{site}', which {name} does not have; it has {listed(seen.sites)}"
            )
        shape = tuple(seen.sites[site].shape)
        if site in {latent.name for latent in seen.latents} and tuple(value.shape[2:]) != shape:
            _refuse_part(seen, site, value.shape[2:])
            raise ValueError(
                f"posterior, site '{site}': expected draws of shape {shape} with these arguments, got "
                f"{tuple(value.shape[2:])}"
            )
    found: Posterior = posterior
    return found


def _refuse_part(seen: Outline, site: str, shape: torch.Size) -> None:
    """Say so where draws hold a part of the rows that a plate has.

    Raises:
        ValueError: with the plate.
    """
    for plate in seen.sites[site].plates if seen.call.all_rows else ():
        place = len(shape) - seen.sites[site].event + plate.dim
        if 0 <= place < len(shape) and shape[place] < plate.size:
            raise ValueError(
                f"posterior, site '{site}': its draws hold {shape[place]} of the {plate.size} rows of plate "
                f"'{plate.name}', and which ones nobody knows: inference.draw takes all rows, of a guide that can be "
                "run with them; or leave `subsample_size` out"
            )


def _latents(seen: Outline, posterior: Posterior) -> dict[str, Tensor]:
    """Draws of latents, (S, ...); deterministic sites follow from them."""
    names = {latent.name for latent in seen.latents} | seen.enumerated.keys()
    return {name: value.to(seen.device) for name, value in posterior.flat().items() if name in names}


def _mapped(
    seen: Outline, function: Callable[[Any], dict[str, Tensor]], values: Mapping[str, Tensor], draws: int
) -> dict[str, Tensor]:
    """A function of the values of latents, at each of S draws of them: site -> (S, ...)."""
    sizes = [site.shape.numel() for site in seen.sites.values()]
    check_room("draws", draws, draws * sum(sizes) * seen.dtype.itemsize)
    parts = list(_parts(seen, function, values, draws))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def averaged(seen: Outline, function: Callable[[Any], dict[str, Tensor]], posterior: Posterior) -> dict[str, Tensor]:
    """The mean over draws of a function of the values of latents: site -> (...)."""
    total = posterior.chains * posterior.size
    found: dict[str, Tensor] = {}
    for part in _parts(seen, function, _latents(seen, posterior), total):
        for name, value in part.items():
            found[name] = found.get(name, 0) + value.sum(0) / total
    return found


def _parts(
    seen: Outline, function: Callable[[Any], dict[str, Tensor]], values: Mapping[str, Tensor], draws: int
) -> Iterator[dict[str, Tensor]]:
    """The same, in pieces of bounded memory."""
    index = torch.arange(draws, device=seen.device)

    def of_one(point: tuple[Tensor, dict[str, Tensor]]) -> dict[str, Tensor]:
        return function(point[1])

    points = index, dict(values)
    one, other = ((points[0][at], {name: value[at] for name, value in values.items()}) for at in (0, -1))
    with torch.no_grad():
        try:
            run: Callable[[Any], Any] = Mapped(of_one, one, seen.call.program.name, other=other)
        except TraceError:  # what looks at its values runs plain
            run = lambda piece: one_by_one(of_one, piece)  # noqa: E731
        for some in pieces(draws, 4 * sum(site.shape.numel() for site in seen.sites.values())):
            yield run((index[some], {name: value[some] for name, value in values.items()}))
