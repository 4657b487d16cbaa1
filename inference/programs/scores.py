"""What a program expects of data that it has not seen: `log_score`, `loo`, and its part in `compare`.

An observation is a cell of an observed site along its plates, so that leaving it out means something only for a site
that stands in a plate: a joint observation, a whole series say, is one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from inference.posterior.comparing import Entry
from inference.posterior.latents import Posterior
from inference.posterior.loo import LeaveOneOut, leave_one_out, weights_of
from inference.posterior.psis import Numbers, check_enough
from inference.programs import draws as drawing
from inference.programs.outline import Outline
from inference.programs.rows import outline_of_all
from inference.programs.visiting import Visit
from inference.running.quiet import quietly
from inference.running.words import listed
from zoo.config import nearest
from zoo.programs import Program

__all__ = ["log_score", "loo"]


def log_score(program: Program, posterior: Posterior, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
    """Log posterior predictive density of each observation, in nats: its likelihood averaged over the draws.

    Of other data than those of the posterior it is the score that a held-out test reports.

    Args:
        program: see `zoo.program`.
        posterior: draws of its latents.
        args, kwargs: what its model takes, with the data to score.

    Returns:
        observed site -> its score along its plates.

    Raises:
        ValueError: the posterior is not this program's.
    """
    found = drawing.log_likelihood(program, posterior, *args, **kwargs)
    count = posterior.chains * posterior.size
    return {name: value.flatten(0, 1).double().logsumexp(0) - math.log(count) for name, value in found.items()}


def loo(
    program: Program, posterior: Posterior, *args: Any, site: str | None = None, seed: int = 0, **kwargs: Any
) -> LeaveOneOut:
    """Leave-one-out scores of a program's observations by Pareto-smoothed importance sampling; see `inference.loo`.

    Args:
        program: see `zoo.program`.
        posterior: 25 draws or more, from `sample`, or from `draw` with `stats`: those are weighed by p / q.
        args, kwargs: what its model takes, those of the posterior.
        site: which observed site is scored, of a program that has several.
        seed: of runs that draw.

    Raises:
        ValueError: several observed sites and no `site`, or none of that name; a site that is one observation; too few
            draws, or draws of a guide without `stats`.
    """
    return entry(program, posterior, *args, site=site, seed=seed, **kwargs).scores


def entry(
    program: Program, posterior: Posterior, *args: Any, site: str | None = None, seed: int = 0, **kwargs: Any
) -> Entry:
    """The same, with the values that are scored."""
    with quietly(seed):
        seen = outline_of_all(program, args, kwargs)
        name, value, log_ratios = pointwise(seen, posterior, site)
    data = {part: seen.sites[part].value.detach().cpu().numpy() for part in name.split("+")}
    return Entry(leave_one_out(value, log_ratios), {n: np.asarray(v) for n, v in data.items()})


def pointwise(
    seen: Outline, posterior: Posterior, site: str | None = None
) -> tuple[str, np.ndarray[Any, Any], Numbers | None]:
    """Which observed site is scored, log p of each of its cells that count at each draw, (S, N), and log p / q, (S,).

    Raises:
        ValueError: see `loo`.
    """
    posterior = drawing.check(seen, posterior, None)
    check_enough("posterior: draws", posterior.chains * posterior.size, "the Pareto k of a leave-one-out score")
    _check_weighed(seen, posterior)
    log_ratios = weights_of(posterior)
    found = drawing.at_draws(seen, Visit(seen).pointwise, posterior)
    name = _chosen(seen, found, site)
    value = found[name].flatten(0, 1)
    cells = seen.sites[name].cells if name in seen.sites else None
    if cells is not None and value.shape[1:] == cells.shape:
        value = value[:, cells]
    value = value.reshape(len(value), -1)
    if value.shape[1] < 2:
        raise ValueError(
            f"{seen.call.program.name}: site '{name}' is one observation: nothing is left to predict it from"
        )
    return name, value.double().cpu().numpy(), log_ratios


def _check_weighed(seen: Outline, posterior: Posterior) -> None:
    """Refuse draws of a guide that have no weights, for what they lack them.

    Raises:
        ValueError: with the plate whose rows are a part.
    """
    if posterior.method == "svi" and "log_p" not in posterior.stats and seen.partial:
        plate = seen.partial[0]
        raise ValueError(
            f"{seen.call.program.name}: plate '{plate.name}' has {plate.size} of {plate.full} rows with these "
            "arguments, and without the others the draws of a guide have no weights p / q to leave one out with: pass "
            "all rows, to `draw` too"
        )


def _chosen(seen: Outline, found: dict[str, Tensor], site: str | None) -> str:
    name = seen.call.program.name
    if not found:
        raise ValueError(f"{name}: it observes nothing with these arguments")
    if site is None and len(found) > 1:
        raise ValueError(f"{name}: it has several observed sites, {listed(found)}: say which with site=")
    if site is not None and site not in found:
        raise ValueError(f"site: {name} has no observed site '{site}'{nearest(site, found)}; there is {listed(found)}")
    return site or next(iter(found))
