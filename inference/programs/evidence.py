"""`inference.log_evidence` of any Pyro program."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from inference.posterior.latents import Posterior
from inference.programs import draws as drawing
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from inference.roads.evidence import Evidence, Method, check_options, of_density
from inference.running.deadline import Deadline
from inference.running.quiet import quietly
from inference.running.words import listed
from zoo.programs import Program

__all__ = ["log_evidence"]


def log_evidence(
    program: Program,
    *args: Any,
    posterior: Posterior | None = None,
    method: Method = "auto",
    precision: float = 0.05,
    max_seconds: float | None = None,
    seed: int = 0,
    **kwargs: Any,
) -> Evidence:
    """log p(observed) of a program with its arguments; see `inference.log_evidence`.

    A `pyro.factor` is part of what is observed. Nothing is known of a program in closed form.

    Args:
        program: see `zoo.program`.
        args, kwargs: what its model takes.
        posterior: draws of all its continuous latents, if there are some.
        method, precision, max_seconds, seed: see there.

    Raises:
        ValueError: an improper prior, by site; a posterior that is not this program's.
    """
    deadline = Deadline(max_seconds)
    check_options(method, precision, max_seconds)
    with quietly(seed):
        seen = outline(program, args, kwargs)
        if seen.improper:
            raise ValueError(
                f"{program.name}: site {listed(seen.improper)} has an improper prior, with which there is no evidence"
            )
        if posterior is not None:
            posterior = drawing.check(seen, posterior, None)
        smc = method == "smc" or (method == "auto" and posterior is None)
        density = ProgramPotential(seen, recentred=smc)
        found = of_density(density, posterior, method, precision, deadline, "off" if density.plain else "graph", 256)
    observed = {name: np.asarray(site.value.detach().cpu().numpy()) for name, site in seen.observed.items()}
    return replace(found, observed=observed)
