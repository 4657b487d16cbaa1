"""Draws of a program's latents from the prior, what they predict, and the log-likelihood of what was seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from inference.posterior.latents import Posterior
from inference.programs.mapped import Mapped, TraceError, one_by_one
from inference.programs.outline import Outline, outline
from inference.programs.visiting import Visit
from inference.running.pieces import pieces
from inference.running.quiet import quietly
from inference.running.words import check_count, listed, told
from zoo.programs import Program
from zoo.state.memory import check_room

__all__ = ["log_likelihood", "predict", "prior"]


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
        seen = outline(program, args, kwargs, sampled=False)
        if seen.improper:
            names = listed(seen.improper)
            raise ValueError(f"{program.name}: site {names} has an improper prior, from which nothing can be drawn")
        found = _mapped(seen, Visit(seen).predictive, {}, draws)
    return Posterior({name: value[None] for name, value in found.items()}, frozenset(), {}, "prior", 1, draws)


def predict(
    program: Program, posterior: Posterior, *args: Any, draws: int | None = None, seed: int = 0, **kwargs: Any
) -> dict[str, Tensor]:
    """New values of all sites that the posterior does not hold, given each of its draws; deterministic sites too.

    Observed sites are drawn anew, and so are latents that were summed out and sites that these arguments leave
    unobserved (`y=None`).

    Args:
        program: see `zoo.program`.
        posterior: from `sample`.
        args, kwargs: what its model takes: those of the posterior, or others.
        draws: use only so many draws of each chain, evenly spaced; default all.
        seed: seeds them.

    Returns:
        site -> (chain, draw, ...).

    Raises:
        ValueError: draws of a latent that these arguments give another shape, or that the program does not have.
    """
    with quietly(seed):
        seen = outline(program, args, kwargs, sampled=False)
        posterior = check(seen, posterior, draws)
        return at_draws(seen, Visit(seen).predictive, posterior)


def log_likelihood(program: Program, posterior: Posterior, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
    """log p of each observed site along its plates at each draw of the latents: site -> (chain, draw, ...), in nats.

    Sites that share a latent which is summed out have one value together, under the name `a+b`, along the plates of
    that latent.

    Raises:
        ValueError: the posterior is not this program's.
    """
    with quietly(0):
        seen = outline(program, args, kwargs, sampled=False)
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
            raise ValueError(
                f"posterior, site '{site}': expected draws of shape {shape} with these arguments, got "
                f"{tuple(value.shape[2:])}"
            )
    found: Posterior = posterior
    return found


def _latents(seen: Outline, posterior: Posterior) -> dict[str, Tensor]:
    """Draws of latents, (S, ...); deterministic sites follow from them."""
    names = {latent.name for latent in seen.latents} | seen.enumerated.keys()
    return {name: value.to(seen.device) for name, value in posterior.flat().items() if name in names}


def _mapped(
    seen: Outline, function: Callable[[Any], dict[str, Tensor]], values: Mapping[str, Tensor], draws: int
) -> dict[str, Tensor]:
    """A function of the values of latents, at each of S draws of them: site -> (S, ...)."""
    index = torch.arange(draws, device=seen.device)

    def of_one(point: tuple[Tensor, dict[str, Tensor]]) -> dict[str, Tensor]:
        return function(point[1])

    points = index, dict(values)
    one = points[0][0], {name: value[0] for name, value in values.items()}
    with torch.no_grad():
        try:
            run: Callable[[Any], Any] = Mapped(of_one, one, seen.call.program.name)
        except TraceError:  # what looks at its values runs plain
            run = lambda piece: one_by_one(of_one, piece)  # noqa: E731
        sizes = [site.shape.numel() for site in seen.sites.values()]
        check_room("draws", draws, draws * sum(sizes) * seen.dtype.itemsize)
        parts = [
            run((index[some], {name: value[some] for name, value in values.items()}))
            for some in pieces(draws, 4 * sum(sizes))
        ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
