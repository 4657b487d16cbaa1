"""`inference.infer` of any Pyro program."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from inference.programs.sample import sampled
from inference.roads.climbing import climb
from inference.roads.covering import covering
from inference.roads.grounds import Inferred
from inference.roads.infer import check_options
from inference.roads.judging import asked, judged
from inference.roads.paths import Gaussian
from inference.roads.roads import by_gaussian, by_tempered, wanted
from inference.running.deadline import Deadline
from inference.running.quiet import quietly
from inference.sampling import starts
from zoo.programs import Program

AT_ONCE = 256  # particles that move together


def infer(
    program: Program,
    *args: Any,
    budget: float | None = None,
    draws: int = 1000,
    seed: int = 0,
    progress: bool = True,
    **kwargs: Any,
) -> Inferred:
    """Draws of the posterior of a program by the cheapest road whose evidence holds: Gaussian, Hamiltonian, tempered.

    Args:
        program: see `zoo.program`.
        args, kwargs: what its model takes.
        budget, draws, seed, progress: see `inference.infer`.

    Returns:
        Draws by site, (chain, draw, *plates, *event), deterministic sites too, with the road and its evidence.

    Raises:
        ValueError: see `inference.sample` of a program.
        SamplingError: no road led to a single draw.
    """
    check_options(budget, draws, progress)
    deadline = Deadline(budget)
    with quietly(seed):
        seen = outline(program, args, kwargs)

    @functools.cache
    def recorded() -> ProgramPotential:
        return ProgramPotential(seen, recentred=True)

    def density() -> ProgramPotential:
        """The one of all roads, recorded once."""
        found = recorded()
        found.uncentre()
        return found

    modes: list[Gaussian] = []  # that the Gaussian road came to
    begun: list[Tensor] = []  # where it began

    def gaussian(rest: float | None) -> Inferred | None:
        with quietly(seed):
            potential = density()
            begun.append(starts.centre(potential, {}))
            made = by_gaussian(potential, begun[0], draws, seed, rest=rest)
        if made is None:
            begun.clear()
            return None
        modes.extend(made[1].modes)
        return made[0]

    def tempered(rest: float | None) -> Inferred | None:
        with quietly(seed):
            potential = density()
            found = by_tempered(potential, draws, rest, "off" if potential.plain else "graph", AT_ONCE)
            return None if found is None else covering(found, density(), modes)

    def hamiltonian(rest: float | None) -> Inferred:
        with quietly(seed):
            # A Gaussian road that came to nothing began somewhere too: what it told is not lost for want of a start.
            known = [*(mode.loc for mode in modes if bool(mode.loc.isfinite().all())), *begun]
            around = known[0] if seen.improper and known else None
            found = sampled(seen, asked(draws, seed, progress, rest), Deadline(rest), density(), around)
            return covering(judged(found, density), density(), modes)

    from_prior = [] if seen.improper else [("tempered", tempered)]  # which has to be one to begin at
    roads = [("Gaussian", gaussian), *from_prior, ("Hamiltonian", hamiltonian), *from_prior]
    return climb(program.name, roads, deadline, wanted, seen.improper)
