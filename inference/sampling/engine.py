"""The one way that chains run, whatever log density they walk on: starts, warm-up, draws, and how the chains agree."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inference.compiling.compiled import Mode
from inference.compiling.fallback import somebodys_level
from inference.posterior.latents import Posterior
from inference.running.deadline import Deadline
from inference.sampling import starts
from inference.sampling.chains import Chains, SamplingError, clock
from inference.sampling.corners import corner
from inference.sampling.course import Course
from inference.sampling.density import Density
from inference.sampling.drawing import hmc
from inference.sampling.hamiltonian import Metric
from inference.sampling.mixing import disagreement, limit, worst
from inference.sampling.nuts import nuts
from inference.sampling.options import Run
from inference.sampling.store import evenly
from inference.sampling.worth import Worth
from inference.sampling.writer import Draws
from zoo.settings import settings

LOOKED_AT = 50  # draws of each chain, at least, that tell why chains disagree


@dataclass(frozen=True, repr=False)
class Sampled(Posterior):
    """Draws by MCMC, and how they came about. Printed, it says in a line what it holds and how the chains agree.

    Args:
        rhat: the largest R-hat of each site.
        notes: what was found wanting, each a sentence; also given as warnings.
        warmup: transitions of warm-up, which are not kept.
        moved: chains that started again where others stood, having come to a density lower by 10 nats a latent and 50.
        step_size, trajectory: leapfrog step and time, in units of the posterior's own scale.
        target_accept: acceptance that the step was tuned to.
        compile: "graph", "inductor" or "off".
        seconds: wall time of `compile` (tracing included), `warmup` and `draws`; cpu: the same of this process's CPU.
    """

    rhat: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warmup: int = 0
    moved: int = 0
    step_size: float = math.nan
    trajectory: float = math.nan
    target_accept: float = math.nan
    compile: str = "off"
    seconds: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        told = [f"after {self.warmup:,} of warm-up in {sum(self.seconds.values()):.1f} s"]
        if self.rhat:
            site = max(self.rhat, key=self.rhat.__getitem__)
            told.append(f"R-hat at most {self.rhat[site]:.3f} ('{site}')")
        if (diverged := self.stats.get("diverging")) is not None:
            told.append(f"{int(diverged.sum()):,} divergent")
        return f"{super().__repr__()[:-1]}; {', '.join(told)})" + "".join(f"\n  {note}" for note in self.notes)


def run(
    wanted: Run,
    potential: Density,
    find: Callable[[str], tuple[Tensor, Metric | None]],
    names: Sequence[str],
    deadline: Deadline,
    mode: Mode,
    course: Course | None = None,
) -> Sampled:
    """Draw from a density.

    Args:
        wanted: what was asked for.
        potential: the density.
        find: free latents of each chain, (C, P), and the metric that goes with them, of a start by name.
        names: the starts to try, one after the other.
        deadline: when to stop at the latest.
        mode: how the leapfrog step runs.
        course: keeps checkpoints, and may hold one to go on from.
    """
    failed, names = (list[str](), list(names)) if course is None or course.found is None else course.names

    def tried(chosen: str) -> Sampled:
        resumed = course is not None and course.found is not None
        if course is not None:
            course.tries([*failed, *names[: names.index(chosen)]], names[names.index(chosen) :])
        points, metric = (torch.empty(0), None) if resumed else find(chosen)
        walkers = Chains(potential, wanted.chains, wanted.seed, mode, wanted.compile == "auto", deadline)
        if wanted.compile == "auto" and mode == "graph" and potential.device.type == "cpu":
            walkers.worth = Worth(potential, wanted.chains)
        before = None
        if resumed and course is not None:
            points, before = course.again(walkers, potential), course.kept()
        stats = {name: dtype or points.dtype for name, dtype in _TOLD[wanted.method].items()}
        kept = Draws(potential, points, wanted.draws, stats, wanted.folder, before)
        try:
            if wanted.method == "nuts":
                tuned = _nuts(walkers, kept, points, metric, wanted)
            else:
                tuned = hmc(walkers, kept, points, metric, wanted, course)
            return _result(walkers, kept, *tuned)
        except BaseException as error:
            kept.leave()
            if course is not None and isinstance(error, SamplingError):
                course.over()
            raise

    found = starts.first(tried, names, failed)
    for note in found.notes:
        warnings.warn(note, stacklevel=somebodys_level())
    return found


_TOLD: dict[str, dict[str, torch.dtype | None]] = {  # of each draw; None is the type of the draws
    "hmc": {
        "acceptance_rate": None, "energy": None, "lp": None, "diverging": torch.bool, "n_steps": torch.long,
        "step_size": None, "log_p": None,
    },
    "nuts": {"step_size": None, "lp": None, "diverging": torch.bool, "log_p": None},
}  # fmt: skip


def _nuts(chains: Chains, kept: Draws, points: Tensor, metric: Metric | None, wanted: Run) -> tuple[int, float, float]:
    """Pyro's sampler, which finds a metric of its own."""
    began, warmup = clock(), min(wanted.max_warmup, 1000)
    found, stats = nuts(chains, points, wanted.draws, warmup, wanted.thin, wanted.progress)
    chains.spent("draws", began)
    for i in range(wanted.draws):
        kept.take(found[:, i], {name: value[:, i] for name, value in stats.items()})
    kept.flush()
    return warmup, float(stats["step_size"].mean()), math.nan


def _result(chains: Chains, kept: Draws, warmup: int, size: float, length: float) -> Sampled:
    """Look at how the chains agree."""
    kept.finish()
    potential, notes = chains.potential, chains.notes
    rhats: dict[str, float] = {}
    if kept.done >= 4:
        for block in potential.blocks:
            rhats |= worst({block.name: kept.values.columns(block.name)})
    found, stats = kept.values.read(), kept.stats.read()
    if rhats and max(rhats.values()) > limit(kept.done):
        most = max(LOOKED_AT, settings.memory // (chains.number * potential.size))
        looked = evenly(kept.done, most).to(stats["log_p"].device)
        wanted = found.keys() - potential.local or found.keys()
        some = {name: value[:, looked] for name, value in found.items() if name in wanted}
        notes.append(disagreement(some, potential.dims, stats["log_p"][:, looked], rhats))
    if bool(stats["diverging"].any()):
        number, of = int(stats["diverging"].sum()), chains.number * kept.done
        notes.append(
            f"{number} of {of} transitions diverged, their steps tuned to an acceptance of {chains.target:g}: the "
            f"posterior has corners that these steps cannot follow, and draws near them are too few. "
            f"{corner(found, stats['diverging'])}Another parametrisation (non-centred, say), a tighter prior or "
            "smaller steps (target_accept of inference.sample, nearer to 1) may help"
        )
    return Sampled(
        found, potential.local, stats, "mcmc", chains.number, kept.done,
        rhat=rhats, notes=tuple(notes), warmup=warmup, moved=chains.moved, step_size=size, trajectory=length,
        target_accept=chains.target, compile=chains.mode, seconds=chains.seconds, cpu=chains.cpu,
    )  # fmt: skip
