"""`inference.check` of any Pyro program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from inference.checking.door import of_draws, safely
from inference.checking.findings import Check, Finding
from inference.checking.observed import of_coverage, of_left_out
from inference.checking.parts import CELLS, DRAWS, PREDICTED, ROWS
from inference.checking.predictive import FEWEST, of_predictions, of_prior
from inference.checking.sensitivity import of_scaling
from inference.posterior.latents import Posterior
from inference.posterior.loo import leaving_out
from inference.programs import draws as drawing
from inference.programs.outline import Outline, Seen
from inference.programs.potential import ProgramPotential
from inference.programs.rows import outline_of_all
from inference.programs.scores import pointwise
from inference.programs.visiting import Visit
from inference.roads.grounds import Inferred
from inference.running.quiet import quietly
from inference.running.words import check_bool
from zoo.programs import Program

__all__ = ["check"]


def check(program: Program, posterior: Posterior, *args: Any, run: bool = True, seed: int = 0, **kwargs: Any) -> Check:
    """Can this posterior of a program be believed? Findings, each a number beside its threshold, and one verdict.

    Args:
        program: see `zoo.program`.
        posterior: from `sample`, `infer`, `draw` or `resample`.
        args, kwargs: what its model takes, those of the posterior.
        run: whether chains are run, from draws of a guide.
        seed: seeds what is drawn here; the caller's random state is left as it was.

    Returns:
        see `inference.check`.

    Raises:
        ValueError: the posterior is not this program's.

    Example::

        found = inference.check(program, inference.sample(program, x, y=y), x, y=y)
        found.verdict, found.reasons
    """
    check_bool("run", run)
    with quietly(seed):
        seen = outline_of_all(program, args, kwargs)
        checked = drawing.check(seen, posterior, None)
        found = of_draws(
            posterior if isinstance(posterior, Inferred) else checked,
            lambda: ProgramPotential(seen),
            run if seen.latents else None,
            seed,
        )
    if not any(finding.state == "wrong" and "k̂" in finding.name for finding in found):
        found += safely(_left_out, seen, checked, args, kwargs, seed)
    found += safely(_coverage, seen, checked, args, kwargs, seed)
    found += safely(_prior, seen, checked, args, kwargs, seed)
    return Check(program.name, tuple(found))


def _left_out(
    seen: Outline, posterior: Posterior, args: tuple[Any, ...], kwargs: Mapping[str, Any], seed: int
) -> Iterator[Finding]:
    """What is left out is also predicted."""
    few = posterior.thin(max(2, DRAWS // posterior.chains)) if posterior.method != "svi" else posterior
    with quietly(seed):
        name, log_p, log_ratios = pointwise(seen, few)
        before = drawing.at_draws(seen, Visit(seen).log_prior, few)
    rows = np.unique(np.linspace(0, log_p.shape[1] - 1, min(ROWS, log_p.shape[1])).round().astype(int)).tolist()
    scores, weights = leaving_out(log_p, log_ratios, rows)
    yield from of_left_out(scores, log_p.shape[1])
    lead = (few.chains, few.size)
    outside = [latent.name for latent in seen.latents if not seen.sites[latent.name].plates]
    top = [before[n].reshape(*lead, -1).sum(-1) for n in (outside or before) if n in before]
    if top:
        latents = {latent.name: few.draws[latent.name] for latent in seen.latents if latent.name in few.draws}
        likelihood = torch.from_numpy(log_p.sum(1)).reshape(lead)
        yield from of_scaling(latents, torch.stack(top).sum(0), likelihood, log_ratios)
    if name not in seen.observed or len(rows) < FEWEST:
        return
    predicted = drawing.predict(seen.call.program, few, *args, seed=seed, **kwargs)[name].flatten(0, 1)
    site = seen.observed[name]
    yield from of_predictions(
        name, _cells(site, site.value, 0)[rows], _cells(site, predicted, 1)[:, rows], weights, seed
    )


def _prior(
    seen: Outline, posterior: Posterior, args: tuple[Any, ...], kwargs: Mapping[str, Any], seed: int
) -> Iterator[Finding]:
    if seen.improper or not seen.latents:
        return
    numbers = sum(site.shape.numel() for site in seen.sites.values())
    count = min(2 * DRAWS, CELLS // max(1, numbers))
    if count < 2 * DRAWS:
        return
    drawn = drawing.prior(seen.call.program, *args, draws=count, seed=seed, **kwargs)
    for name, site in seen.observed.items():
        if name in drawn.draws and isinstance(site.value, torch.Tensor):
            yield from of_prior(name, _cells(site, site.value, 0), _cells(site, drawn.draws[name][0], 1))


def _cells(site: Seen, value: torch.Tensor, lead: int) -> torch.Tensor:
    """Cells that count, along plates, as rows: (*lead, N, *event)."""
    event = site.shape[len(site.shape) - site.event :]
    flat = value.expand(*value.shape[:lead], *site.shape).reshape(*value.shape[:lead], -1, *event)
    if site.cells is None:
        return flat
    return flat[(slice(None),) * lead + (site.cells.reshape(-1),)]


def _coverage(
    seen: Outline, posterior: Posterior, args: tuple[Any, ...], kwargs: Mapping[str, Any], seed: int
) -> Iterator[Finding]:
    real = {}
    for name, site in seen.observed.items():
        if isinstance(site.value, torch.Tensor) and site.value.is_floating_point() and site.shape.numel() > 1:
            hidden = site.cells is not None
            cells = site.cells.reshape(*site.cells.shape, *[1] * site.event) if hidden else None  # type: ignore[union-attr]
            real[name] = site.value if cells is None else site.value.masked_fill(~cells, torch.nan)
    if not real:
        return
    few = posterior.thin(max(1, PREDICTED // posterior.chains))
    found = drawing.predict(seen.call.program, few, *args, seed=seed, **kwargs)
    drawn = {name: found[name].flatten(0, 1) for name in real if name in found}
    yield from of_coverage({name: real[name] for name in drawn}, drawn)
