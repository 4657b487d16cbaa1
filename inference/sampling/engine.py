"""The one way that chains run, whatever log density they walk on: starts, warm-up, draws, and how the chains agree."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor
from tqdm.auto import tqdm

from inference.compiling.compiled import Mode
from inference.compiling.fallback import choose_mode, somebodys_level
from inference.posterior.latents import Posterior
from inference.running.deadline import Deadline
from inference.running.words import check_bool, check_count, check_number, told
from inference.sampling import starts
from inference.sampling.chains import Chains, clock
from inference.sampling.density import Density
from inference.sampling.effective import Enough
from inference.sampling.hamiltonian import Metric, plan
from inference.sampling.mixing import disagreement, limit, worst
from inference.sampling.nuts import nuts
from inference.sampling.store import evenly
from inference.sampling.warmup import CHECKED, STEPS, warm
from inference.sampling.writer import Draws
from zoo.settings import settings
from zoo.state.memory import check_room

Start = Literal["auto", "prior", "jitter", "guide"]
Compile = Literal["auto", "inductor", "graph", "off"]
Method = Literal["hmc", "nuts"]
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
        compile: "graph", "inductor" or "off".
        seconds: wall time of `compile` (tracing included), `warmup` and `draws`; cpu: the same of this process's CPU.
    """

    rhat: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warmup: int = 0
    moved: int = 0
    step_size: float = math.nan
    trajectory: float = math.nan
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


@dataclass(frozen=True)
class Run:
    """What `sample` is asked for, checked; see there.

    Raises:
        ValueError: an option out of range, or a folder that cannot be written into or holds draws already.
    """

    draws: int
    chains: int
    method: Method
    start: Start
    max_warmup: int
    max_seconds: float | None
    thin: int
    seed: int
    compile: Compile
    store: str | Path | None
    progress: bool
    ess: int | None = None

    def __post_init__(self) -> None:
        check_bool("progress", self.progress)
        for name in ("draws", "chains", "max_warmup", "thin"):
            check_count(name, getattr(self, name), 1)
        if self.ess is not None:
            check_count("ess", self.ess, 1)
            if self.method == "nuts":
                raise ValueError(
                    "ess: nuts makes the draws it is asked for; method='hmc' can stop when they are enough"
                )
        if self.max_seconds is not None:
            check_number("max_seconds", self.max_seconds)
            if self.method == "nuts":
                raise ValueError("max_seconds: nuts cannot be stopped between its draws; method='hmc' can")
        if not isinstance(self.store, (str, os.PathLike, type(None))):
            raise ValueError(f"store: expected the path of a folder, got {told(self.store)}")
        for name, options in (("method", Method), ("start", Start), ("compile", Compile)):
            if getattr(self, name) not in get_args(options):
                got = getattr(self, name)
                raise ValueError(f"{name}: expected one of {', '.join(get_args(options))}, got {got!r}")

    @property
    def folder(self) -> Path | None:
        """Where draws are written."""
        return None if self.store is None else Path(self.store)

    def check_room(self, potential: Density) -> None:
        """Refuse chains, or draws of them, that memory does not hold."""
        each = potential.size * potential.dtype.itemsize
        check_room("chains", self.chains, self.chains * each)
        draws = self.draws if self.store is None else 1
        check_room("draws", draws, self.chains * draws * each)

    @property
    def mode(self) -> Mode:
        """How the leapfrog step is to run."""
        return choose_mode(self.compile, None if self.max_seconds else 3 * (self.draws * self.thin + 2 * CHECKED))[0]


def run(
    wanted: Run,
    potential: Density,
    find: Callable[[str], tuple[Tensor, Metric | None]],
    names: Sequence[str],
    deadline: Deadline,
    mode: Mode,
) -> Sampled:
    """Draw from a density.

    Args:
        wanted: what was asked for.
        potential: the density.
        find: free latents of each chain, (C, P), and the metric that goes with them, of a start by name.
        names: the starts to try, one after the other.
        deadline: when to stop at the latest.
        mode: how the leapfrog step runs.
    """
    go = _nuts if wanted.method == "nuts" else _hmc

    def tried(chosen: str) -> Sampled:
        points, metric = find(chosen)
        walkers = Chains(potential, wanted.chains, wanted.seed, mode, wanted.compile == "auto", deadline)
        stats = {name: dtype or points.dtype for name, dtype in _TOLD[wanted.method].items()}
        kept = Draws(potential, points, wanted.draws, stats, wanted.folder)
        try:
            tuned = go(walkers, kept, points, metric, wanted)
            return _result(walkers, kept, *tuned)
        except BaseException:
            if not kept.done:
                kept.remove()
            raise

    found = starts.first(tried, names)
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


def _hmc(chains: Chains, kept: Draws, points: Tensor, metric: Metric | None, wanted: Run) -> tuple[int, float, float]:
    """Warm up until the chains agree, then draw: transitions of warm-up, step size, trajectory length."""
    draws, enough = wanted.draws, None if wanted.ess is None else Enough(wanted.ess, chains.potential.size)
    bar = tqdm(total=None, disable=None if wanted.progress else True, unit="draw", desc="warm-up")
    began = clock()
    try:
        size, length, warmup = warm(chains, points, metric, wanted.max_warmup, bar)
        chains.spent("warmup", began)
        chains.seconds["warmup"] -= chains.seconds["compile"]
        chains.cpu["warmup"] -= chains.cpu["compile"]
        bar.reset(total=draws)
        bar.set_description("sampling")
        began = clock()
        try:
            for count in range(1, draws + 1):
                drawn = _drawn(chains, size, length, wanted.thin)
                kept.take(*drawn)
                bar.update()
                if enough is not None and enough(drawn[0]):
                    break
                if count < draws and chains.deadline.over():
                    chains.notes.append(f"{chains.deadline.words}: {count} of {draws} draws of each chain are kept")
                    break
            else:
                chains.notes += filter(None, [enough.missed()] if enough is not None else [])
        except KeyboardInterrupt:
            if not kept.count:
                raise
            chains.notes.append(f"interrupted: {kept.count} of {draws} draws of each chain are kept")
        except OSError as error:
            if not kept.done:
                raise
            kept.forget()
            chains.notes.append(f"store: {error}: {kept.done} of {draws} draws of each chain are kept")
        kept.flush()
        chains.spent("draws", began)
    finally:
        bar.close()
    return warmup, size, length


def _drawn(chains: Chains, size: float, length: float, thin: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Free latents after `thin` transitions, (C, P), and what there is to tell of them, each (C,)."""
    diverging = torch.zeros(chains.number, dtype=torch.bool, device=chains.device)
    for _ in range(thin):
        used, steps = plan(length, size, chains.index, STEPS)
        chains.index += 1
        move = chains.move(chains.sizes(used), steps)
        diverging = diverging | move.diverging
    density = chains.state.log_density
    return chains.points(), {
        "acceptance_rate": move.acceptance,
        "energy": move.energy,
        "lp": density,
        "diverging": diverging,
        "n_steps": torch.full_like(density, steps, dtype=torch.long),
        "step_size": torch.full_like(density, used),
    }


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
            f"{number} of {of} transitions diverged: the posterior has corners that these steps cannot follow, and "
            "draws near them are too few. Another parametrisation (non-centred, say) or a tighter prior may help"
        )
    return Sampled(
        found, potential.local, stats, "mcmc", chains.number, kept.done,
        rhat=rhats, notes=tuple(notes), warmup=warmup, moved=chains.moved, step_size=size, trajectory=length,
        compile=chains.mode, seconds=chains.seconds, cpu=chains.cpu,
    )  # fmt: skip
