"""`inference.sample` of any Pyro program."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from inference.programs.draws import check_started
from inference.programs.export import check_names
from inference.programs.outline import Outline, outline
from inference.programs.potential import ProgramPotential
from inference.running.deadline import Deadline
from inference.running.quiet import quietly
from inference.sampling import starts
from inference.sampling.adaptation import ACCEPTANCE
from inference.sampling.course import opened
from inference.sampling.engine import Sampled, run
from inference.sampling.number import CHAINS, number
from inference.sampling.options import Compile, Method, Run, Start
from inference.sampling.store import check_folder
from zoo.programs import Program
from zoo.state.packing import digest


def sample(
    program: Program,
    *args: Any,
    draws: int = 500,
    chains: int | None = None,
    method: Method = "hmc",
    start: Start = "auto",
    ess: int | None = None,
    target_accept: float = ACCEPTANCE,
    max_warmup: int = 2000,
    max_seconds: float | None = None,
    thin: int = 1,
    seed: int = 0,
    compile: Compile = "auto",  # noqa: A002 - the name users know from torch
    store: Any = None,
    progress: bool = True,
    resume: bool = False,
    **kwargs: Any,
) -> Sampled:
    """Draw from the posterior of all continuous latents of a program; discrete ones are summed out.

    Args:
        program: see `zoo.program`.
        args, kwargs: what its model takes; an argument called like an option here goes in by position, or is bound
            before, with `functools.partial`.
        draws, chains, method, ess, target_accept, max_warmup, max_seconds, thin, seed, compile, store, progress,
        resume: see `inference.sample`.
        start: `jitter` around the program's `start` or the prior median, `prior`; `auto` tries one after the other.

    Returns:
        Draws by site, (chain, draw, *plates, *event); deterministic sites too.

    Raises:
        ValueError: a program without latents, with a discrete one that cannot be enumerated, of which a run differs
            from the next, or with an improper prior and no start for it; observed values that are NaN, unless a mask
            hides them, or outside of their support; options out of range.
        SamplingError: no start of finite density, or chains that never move.
        TraceError, CompileError: `compile` asks for what cannot be.
    """
    deadline = Deadline(max_seconds)
    wanted = Run(
        draws, CHAINS if chains is None else chains, method, start, max_warmup, max_seconds, thin, seed, compile,
        store, progress, ess, (target_accept,), sized=chains is None, resume=resume,
    )  # fmt: skip
    if start == "guide":
        raise ValueError("start='guide' is of pairs: a program is started by start=… of zoo.program")
    with quietly(seed):
        return sampled(outline(program, args, kwargs), wanted, deadline)


def sampled(
    seen: Outline, wanted: Run, deadline: Deadline, potential: ProgramPotential | None = None,
    around: Tensor | None = None,
) -> Sampled:  # fmt: skip
    """`sample` of a program that was looked at. Runs under `quietly`, which seeds it.

    Args:
        seen: the program with its arguments.
        wanted: what is asked for.
        deadline: when to stop at the latest.
        potential: its density, where that is recorded already.
        around: free latents to start around, (P,), where an improper prior does not say where.
    """
    if wanted.folder is not None:
        check_folder(wanted.folder, wanted.resume)
    if around is None:
        check_started(seen)
    check_names(seen)
    mode = wanted.mode
    if potential is None:
        potential = ProgramPotential(
            seen, recorded=mode != "off", required=wanted.compile in ("graph", "inductor"),
            recentred=wanted.method == "hmc",
        )  # fmt: skip
    density = potential
    if wanted.sized:
        wanted = replace(wanted, chains=number(potential, None))
    wanted.check_room(potential)
    names = ("jitter", "prior") if wanted.start == "auto" else (wanted.start,)

    def find(chosen: str) -> Any:
        density.uncentre()
        centre = starts.centre(density, {}) if around is None else around.to(density.dtype)
        cloud = centre[None] if chosen == "jitter" else None
        return starts.place(density, chosen, cloud, wanted.chains), None

    called = seen.call
    of = {"model": called.program.name, "type": str(potential.dtype)[6:], "device": potential.device.type}
    of["data"] = digest([called.args, called.kwargs])
    with opened(wanted, of) as course:
        return run(wanted, density, find, names, deadline, "off" if density.plain else mode, course)
