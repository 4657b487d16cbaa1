"""sample: gradient MCMC over every continuous latent of any pair, discrete ones summed out, many chains as one batch.

Globals t and continuous locals z are drawn together from p(t, z | x); parameters of the pair (the networks of a
decoder, say) are held fixed. One configuration serves all: `inference.sampling.hamiltonian` has the algorithm,
`inference.sampling.warmup` and `inference.sampling.adaptation` how it is tuned.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from inference.data.check import check
from inference.data.learnable import check_learnable
from inference.running.checked import Checked
from inference.running.constants import take
from inference.running.deadline import Deadline
from inference.running.effort import check_effort
from inference.running.naming import proper
from inference.running.programmed import or_program
from inference.running.quiet import quietly
from inference.sampling import starts
from inference.sampling.adaptation import ACCEPTANCE
from inference.sampling.chains import SamplingError
from inference.sampling.course import opened
from inference.sampling.engine import Sampled, run
from inference.sampling.hamiltonian import Metric
from inference.sampling.number import CHAINS, number
from inference.sampling.options import Compile, Method, Run, Start
from inference.sampling.potential import Potential
from inference.sampling.store import check_folder
from zoo.base import ModelGuide
from zoo.history import or_as_it_was
from zoo.state.packing import digest
from zoo.threads.turns import in_turn

__all__ = ["Sampled", "SamplingError", "sample"]


@in_turn
@or_program("sample")
def sample(
    pair: ModelGuide,
    data: Any,
    draws: int = 500,
    chains: int | None = None,
    *,
    method: Method = "hmc",
    start: Start = "auto",
    ess: int | None = None,
    target_accept: float = ACCEPTANCE,
    max_warmup: int = 2000,
    max_seconds: float | None = None,
    thin: int = 1,
    seed: int = 0,
    compile: Compile = "auto",  # noqa: A002 - the name users know from torch
    store: str | Path | None = None,
    progress: bool = True,
    resume: bool = False,
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
        draws: of each chain; at the most, where `ess` is given.
        chains: how many, C: by default 64, or 16 on a CPU where a density is so large (a Gaussian process of a hundred
            rows) that each of them costs; `inference.sampling.number` has the rule.
        method: `hmc`, or `nuts` (Pyro's, chain after chain: a slow reference).
        start: `jitter` around `pair.initial(data)`, or the prior median; `prior`; `guide`, draws from the fitted guide,
            which also give the first metric; `auto` is `guide` for a fitted pair, else `jitter`. Where chains
            cannot move from there, which `notes` says, `jitter`, a Gaussian at the mode, and `prior` follow in turn.
        ess: stop as soon as every latent has so many effective draws, in the bulk and in the tails (of up to 200
            numbers, evenly spaced), and an R-hat below 1.01: 400 do for means and intervals. Of `hmc` only.
        target_accept: acceptance probability that the step size is tuned to, harmonic mean over chains; higher, 0.95
            or 0.99, where transitions diverge: smaller steps follow sharper corners, and cost more. Of `hmc` only.
        max_warmup: most transitions of warm-up, which ends when R-hat of all latents is below 1.01, or when chains are
            seen to stay apart for good: labels that switch, or modes too far from each other.
        max_seconds: stop at the first transition that ends later than this after the call, warm-up after half of the
            time at the latest: the draws that are there are kept, one of each chain at the least. Of `hmc` only.
        thin: transitions for each draw that is kept.
        seed: seeds everything drawn here; the caller's random state is left as it was.
        compile: `graph` traces each leapfrog step into one graph, `inductor` also compiles it; `off` is plain Pyro;
            `auto` is `graph`, `inductor` from where the steps that are still to come repay it, told by their number and
            what one of them costs (`inference.sampling.worth`), and a slower one with a warning where that cannot be.
        store: a folder to write draws into every few seconds, `draws/SITE.npy` and `stats/STAT.npy`; the posterior then
            holds them mapped into memory, on the CPU, so that memory stays bounded however many there are. Of a run
            that is killed, `inference.reopen(store)` gives the draws that were whole.
        progress: show a bar.
        resume: go on with the run in `store` where it was broken off, by whatever: with the window of warm-up that it
            was in, or the draws that it had made; what comes of it are the bits of a run that was not. With more
            `draws` it goes on with one that had ended. Where nothing is there, it begins.

    Returns:
        A `Posterior` with `stats` in ArviZ's names, and what stands in `Sampled`.

    Raises:
        ValueError: data that do not fit the pair, options out of range, no latents, a discrete latent not enumerated;
            a folder that cannot be written into, has no room for the draws, or holds some already.
        CheckpointError: what is in the folder is of another run, or damaged, or another process is writing there.
        SamplingError: no start of finite density, or chains that never move.
        TraceError, CompileError: `compile` asks for what cannot be.
    """
    deadline = Deadline(max_seconds)
    wanted = Run(
        draws, CHAINS if chains is None else chains, method, start, max_warmup, max_seconds, thin, seed, compile,
        store, progress, ess, (target_accept,), sized=chains is None, resume=resume,
    )  # fmt: skip
    with proper():
        given = check(pair, data)
        check_learnable(given)
    return sampled(given, wanted, deadline)


def sampled(given: Checked, wanted: Run, deadline: Deadline) -> Sampled:
    """`sample` of checked data.

    Args:
        given: the pair and its data.
        wanted: what is asked for.
        deadline: when to stop at the latest.
    """
    pair, batch = given.pair, given.batch
    if wanted.folder is not None:
        check_folder(wanted.folder, wanted.resume)
    with pair.learning("sampled"), or_as_it_was(pair), quietly(wanted.seed, pair):
        trained = pair.trained
        if not trained:
            take(pair, batch)
        values = {} if trained else pair.initial(batch)
        potential = Potential(given, recentred=wanted.method == "hmc")
        if wanted.sized:
            wanted = replace(wanted, chains=number(potential, None))
        wanted.check_room(potential)
        check_effort(given, "thin", wanted.thin, wanted.chains * wanted.draws)
        if trained and potential.has_globals:  # codes of other rows are no refit
            take(pair, batch)
        names = starts.order(potential, trained) if wanted.start == "auto" else (wanted.start,)

        def find(chosen: str) -> tuple[Tensor, Metric | None]:
            potential.uncentre()
            return starts.find(potential, chosen, values, wanted.chains)

        with opened(wanted, _run_of(given, trained)) as course:
            return run(wanted, potential, find, names, deadline, wanted.mode, course)


def _run_of(given: Checked, trained: bool) -> dict[str, Any]:
    """What a run is a run of. The parameters of a guide that was not fitted are of no account."""
    pair = given.pair
    own = {name: value for name, value in pair.state_dict().items() if trained or not name.startswith("auto.")}
    data = {"total": given.batch.total, **given.batch.fields()}
    return {
        "model": pair.name, "type": str(pair.dtype)[6:], "device": pair.device.type, "data": digest(data),
        "parameters": digest(own),
    }  # fmt: skip
