"""sample: gradient MCMC over every continuous latent of any pair, discrete ones summed out, many chains as one batch.

Globals t and continuous locals z are drawn together from p(t, z | x); parameters of the pair (the networks of a
decoder, say) are held fixed. One configuration serves all: `inference.sampling.hamiltonian` has the algorithm,
`inference.sampling.warmup` and `inference.sampling.adaptation` how it is tuned.
"""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from tqdm.auto import tqdm

from inference.compiling.fallback import choose_mode, somebodys_level
from inference.data.check import check
from inference.data.learnable import check_learnable
from inference.posterior.draws import Posterior
from inference.running.constants import take
from inference.running.deadline import Deadline
from inference.running.effort import check_effort
from inference.running.naming import proper
from inference.running.quiet import quietly
from inference.running.words import check_bool, check_count, check_number, told
from inference.sampling import starts
from inference.sampling.chains import Chains, SamplingError, clock
from inference.sampling.hamiltonian import Metric, plan
from inference.sampling.mixing import disagreement, limit, worst
from inference.sampling.nuts import nuts
from inference.sampling.potential import Potential
from inference.sampling.store import check_folder, evenly
from inference.sampling.warmup import CHECKED, STEPS, warm
from inference.sampling.writer import Draws
from zoo.base import ModelGuide
from zoo.settings import settings
from zoo.state.memory import check_room
from zoo.threads.turns import in_turn

__all__ = ["Sampled", "SamplingError", "sample"]
Start = Literal["auto", "prior", "jitter", "guide"]
Compile = Literal["auto", "inductor", "graph", "off"]
Method = Literal["hmc", "nuts"]
LOOKED_AT = 50  # draws of each chain, at least, that tell why chains disagree


@dataclass(frozen=True)
class Sampled(Posterior):
    """Draws by MCMC, and how they came about.

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


@in_turn
def sample(
    pair: ModelGuide,
    data: Any,
    draws: int = 500,
    chains: int = 64,
    *,
    method: Method = "hmc",
    start: Start = "auto",
    max_warmup: int = 2000,
    max_seconds: float | None = None,
    thin: int = 1,
    seed: int = 0,
    compile: Compile = "auto",  # noqa: A002 - the name users know from torch
    store: str | Path | None = None,
    progress: bool = True,
) -> Sampled:
    """Draw from the posterior of all continuous latents, global and local; discrete ones are summed out.

    A pair that has not been fitted takes its constants from the data (`pair.measure`), in place, as `fit` does, and
    counts as fitted then; one with global latents that keeps others says so in a `KeptConstants` warning. Parameters
    are held fixed: fit a pair with networks first. Chains run as one batch: 64 cost little more than one where the data
    are small, and tune the sampler faster. An interrupt while drawing keeps what is there; one before that is passed
    on, and leaves the pair as it was.

    Args:
        pair: the pair; its floating-point type is that of the draws (`pair.double()` for stiff posteriors).
        data: see `inference.data`.
        draws: of each chain.
        chains: how many, C.
        method: `hmc`, or `nuts` (Pyro's, chain after chain: a slow reference).
        start: `jitter` around `pair.initial(data)`, or the prior median; `prior`; `guide`, draws from the fitted guide,
            which also give the first metric; `auto` is `guide` for a fitted pair, else `jitter`. Where chains
            cannot move from there, which `notes` says, `jitter`, a Gaussian at the mode, and `prior` follow in turn.
        max_warmup: most transitions of warm-up, which ends when R-hat of all latents is below 1.01, or when chains are
            seen to stay apart for good: labels that switch, or modes too far from each other.
        max_seconds: stop at the first transition that ends later than this after the call, warm-up after half of the
            time at the latest: the draws that are there are kept, one of each chain at the least. Of `hmc` only.
        thin: transitions for each draw that is kept.
        seed: seeds everything drawn here; the caller's random state is left as it was.
        compile: `graph` traces each leapfrog step into one graph, `inductor` also compiles it; `off` is plain Pyro;
            `auto` is `graph`, `inductor` for runs long enough to repay it, and a slower one with a warning where that
            cannot be.
        store: a folder to write draws into every few seconds, `draws/SITE.npy` and `stats/STAT.npy`; the posterior then
            holds them mapped into memory, on the CPU, so that memory stays bounded however many there are. Of a run
            that is killed, `inference.reopen(store)` gives the draws that were whole.
        progress: show a bar.

    Returns:
        A `Posterior` with `stats` in ArviZ's names, and what stands in `Sampled`.

    Raises:
        ValueError: data that do not fit the pair, options out of range, no latents, a discrete latent not enumerated;
            a folder that cannot be written into, has no room for the draws, or holds some already.
        SamplingError: no start of finite density, or chains that never move.
        TraceError, CompileError: `compile` asks for what cannot be.
    """
    deadline = Deadline(max_seconds)
    _check_options(locals())
    folder = None if store is None else Path(store)
    with proper():
        given = check(pair, data)
        batch = given.batch
        check_learnable(given)
    if folder is not None:
        check_folder(folder)
    with pair.learning("sampled"), _or_as_it_was(pair), quietly(seed, pair):
        trained = pair.trained
        if not trained:
            take(pair, batch)
        values = {} if trained else pair.initial(batch)
        potential = Potential(given)
        _check_room(potential, chains, draws if folder is None else 1)
        check_effort(given, "thin", thin, chains * draws)
        if trained and potential.has_globals:  # codes of other rows are no refit
            take(pair, batch)
        mode, _ = choose_mode(compile, None if max_seconds else 3 * (draws * thin + 2 * CHECKED))
        run = _nuts if method == "nuts" else _hmc

        def tried(chosen: str) -> Sampled:
            points, metric = starts.find(potential, chosen, values, chains)
            walkers = Chains(potential, chains, seed, mode, compile == "auto", deadline)
            told = {name: dtype or points.dtype for name, dtype in _TOLD[method].items()}
            kept = Draws(potential, points, draws, told, folder)
            try:
                tuned = run(walkers, kept, points, metric, draws, max_warmup, thin, progress)
                return _result(walkers, kept, *tuned)
            except BaseException:
                if not kept.done:
                    kept.remove()
                raise

        found = starts.first(tried, starts.order(potential, trained) if start == "auto" else (start,))
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


def _check_options(given: dict[str, Any]) -> None:
    check_bool("progress", given["progress"])
    for name, least in (("draws", 1), ("chains", 1), ("max_warmup", 1), ("thin", 1)):
        check_count(name, given[name], least)
    if given["max_seconds"] is not None:
        check_number("max_seconds", given["max_seconds"])
        if given["method"] == "nuts":
            raise ValueError("max_seconds: nuts cannot be stopped between its draws; method='hmc' can")
    if not isinstance(given["store"], (str, os.PathLike, type(None))):
        raise ValueError(f"store: expected the path of a folder, got {told(given['store'])}")
    for name, options in (("method", Method), ("start", Start), ("compile", Compile)):
        if given[name] not in get_args(options):
            raise ValueError(f"{name}: expected one of {', '.join(get_args(options))}, got {given[name]!r}")


def _check_room(potential: Potential, chains: int, draws: int) -> None:
    """Refuse chains, or draws of them, that memory does not hold."""
    each = potential.size * potential.pair.dtype.itemsize
    check_room("chains", chains, chains * each)
    check_room("draws", draws, chains * draws * each)


@contextmanager
def _or_as_it_was(pair: ModelGuide) -> Iterator[None]:
    """Constants that a run took from the data are put back if nothing comes of it."""
    before = copy.deepcopy(pair.state_dict())
    try:
        yield
    except BaseException:
        pair.load_state_dict(before)
        raise


def _hmc(
    chains: Chains, kept: Draws, points: Tensor, metric: Metric | None, draws: int, most: int, thin: int, progress: bool
) -> tuple[int, float, float]:
    """Warm up until the chains agree, then draw: transitions of warm-up, step size, trajectory length."""
    bar = tqdm(total=None, disable=None if progress else True, unit="draw", desc="warm-up")
    began = clock()
    try:
        size, length, warmup = warm(chains, points, metric, most, bar)
        chains.spent("warmup", began)
        chains.seconds["warmup"] -= chains.seconds["compile"]
        chains.cpu["warmup"] -= chains.cpu["compile"]
        bar.reset(total=draws)
        bar.set_description("sampling")
        began = clock()
        try:
            for count in range(1, draws + 1):
                kept.take(*_drawn(chains, size, length, thin))
                bar.update()
                if count < draws and chains.deadline.over():
                    chains.notes.append(f"{chains.deadline.words}: {count} of {draws} draws of each chain are kept")
                    break
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


def _nuts(
    chains: Chains, kept: Draws, points: Tensor, metric: Metric | None, draws: int, most: int, thin: int, progress: bool
) -> tuple[int, float, float]:
    """Pyro's sampler, which finds a metric of its own."""
    began, warmup = clock(), min(most, 1000)
    found, stats = nuts(chains, points, draws, warmup, thin, progress)
    chains.spent("draws", began)
    for i in range(draws):
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
        notes.append(disagreement(some, potential.pair.dims, stats["log_p"][:, looked], rhats))
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
