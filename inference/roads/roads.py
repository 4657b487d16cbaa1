"""Roads over a log density, whoever's it is: the Gaussian and the tempered one, each with its evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from inference.compiling.compiled import Mode
from inference.roads import tempered
from inference.roads.evaluating import Evaluated
from inference.roads.folding import fold, weighed_evidence
from inference.roads.gaussian import Found, gaussian
from inference.roads.grounds import Ground, Inferred, Tried
from inference.roads.labelling import are_free, in_order
from inference.roads.tempered import Tempered
from inference.roads.tempering import FromPrior
from inference.running.deadline import Deadline
from inference.sampling.density import Density
from inference.sampling.labels import stems
from inference.sampling.mixing import worst

LIMITS = {"share": 0.3, "effective": 400, "moved": 0.5, "elsewhere": 0.01, "stretch": 0.1}
NEARLY = 0.95  # share from which weights are so nearly equal that the shape of their tail says nothing
LABELLED = 500  # draws by which it is told whether labels lie apart
LATENTS = 40  # beyond which no particles are tried: of 44 the weights and the bridge told evidence 9.5 nats apart
LARGEST = 200  # latents beyond which no full covariance is tried
RUNS, ISLANDS, PARTICLES = 2, 8, 128  # of the tempered road: independent runs, islands of each, particles of these
MORE = 4  # times as many, where the runs do not agree
HOPELESS = 16  # times as far from its threshold as it may be: more particles are not tried then
APART = "paths that ended in other modes"
NATS, RHAT, MOVED = 0.1, 1.01, 0.2  # two runs agree to so much; so many last moves were accepted
DEVIATION = 0.1  # of itself, that a standard deviation may be off


def by_gaussian(
    potential: Density,
    centre: Tensor,
    draws: int,
    seed: int,
    density: Evaluated | None = None,
    rest: float | None = None,
    search: Callable[..., Found] = gaussian,
) -> tuple[Inferred, Found] | None:
    """Draws of a Gaussian, corrected by their weights, with the evidence; None where there are too many latents.

    Where weights cannot correct it, the density does not tell labels apart, and paths ended in other modes, nobody
    knows how many of these there are: that is part of the evidence then.

    Args:
        potential: the density.
        centre: free latents to start around, (P,).
        draws: how many, all of one chain.
        seed: of all that is drawn.
        density: its gradient, where that is recorded already.
        rest: seconds, after which it ends with the Gaussian that it has.
        search: what finds it.
    """
    if potential.size > LARGEST:
        return None
    found = search(potential, centre, seed, density, rest)
    weighed = found.weighed
    picked = weighed.resampled(draws, np.random.default_rng(seed)).to(weighed.points.device)
    values, jacobian = potential.constrain(weighed.points[picked].to(potential.dtype))
    log_p = weighed.log_p[picked].to(jacobian) - jacobian
    folded, labels = fold(potential, weighed.points[picked]), ""
    log_evidence, error = weighed.log_evidence, weighed.error
    if folded is not None:
        log_evidence, error, one = weighed_evidence(folded, weighed)
        labels = folded.told() if one else ""
    effective = weighed.share * len(weighed.points)
    tail = () if weighed.share >= NEARLY else (Ground("k̂", weighed.k, weighed.limit),)
    stretched = (Ground("other modes widen by", found.stretch, LIMITS["stretch"]),) if found.elsewhere else ()
    grounds = (
        *tail,
        Ground("effective share", weighed.share, LIMITS["share"], least=True),
        Ground("effective draws", effective, LIMITS["effective"], least=True),
        Ground("weights moved moments by", max(weighed.shift, weighed.stretch), LIMITS["moved"]),
        Ground("other modes may hold" if found.cut else "other modes hold", found.elsewhere, LIMITS["elsewhere"]),
        *stretched,
    )
    made = Inferred(
        {name: value[None] for name, value in values.items()}, potential.local, {"log_p": log_p[None]}, "psis", 1,
        draws, grounds=grounds, log_evidence=log_evidence, error=error, labels=labels, found=found,
        advice=f"the budget ended the Gaussian road: {found.cut}; give it more" if found.cut else "",
    )  # fmt: skip
    if all(ground.holds for ground in grounds):
        return made, found
    if found.cut or not found.apart:
        return made, found
    # Of the Gaussian itself: the few draws of large weights are narrow, and all labels would lie apart.
    values = potential.constrain(weighed.points[:LABELLED].to(potential.dtype))[0]
    plain = {name: value[None] for name, value in values.items()}
    free = [stem for stem in stems(potential.dims) if are_free(potential, plain, stem)]
    if free:  # how many modes there are nobody knows then, nor which of them is the highest
        advice = (
            f"labels of '{free[0]}' mean nothing to the density, and paths from other starts end in modes of their "
            "own: these draws are of the highest mode that was found; fewer of them, or tighter priors, may help"
        )
        return replace(made, grounds=(*grounds, Ground(APART, found.apart, 0)), advice=advice), found
    return made, found


def wanted(road: str, tried: Sequence[Tried]) -> bool:
    """Whether a road is to be taken after those tried.

    The tempered one is where modes lie apart or chains disagree; chains are not where labels switch between many modes.
    """
    if road == "Hamiltonian":
        return not any(ground.name == APART and not ground.holds for one in tried for ground in one.grounds)
    if road != "tempered":
        return True
    if not tried or any(one.road == road for one in tried):
        return False
    last = tried[-1]
    signs = ("other modes", APART) if last.road == "Gaussian" else ("R-hat",)
    apart = any(ground.name.startswith(signs) and not ground.holds for ground in last.grounds)
    return apart or (last.road == "Hamiltonian" and bool(last.failed))


def by_tempered(
    density: Density, draws: int, rest: float | None = None, mode: Mode = "graph", at_once: int = 1024
) -> Inferred | None:
    """Draws by sequential Monte Carlo, with the evidence: two independent runs agree.

    None where no prior is proper, or where so many latents lead so few particles astray.

    Labels that the density does not tell apart are put in one order first. Runs that do not agree are followed by
    others of more particles, unless they lie so far apart that these would not either: that is counted, not timed.
    Runs under `inference.running.quiet.quietly`, which seeds it.

    Args:
        density: of the posterior; its coordinates may change.
        draws: how many, of all runs together.
        rest: seconds, after which no temperature begins.
        mode: how leapfrog steps run.
        at_once: particles that move together.

    Raises:
        SamplingError: the prior has no draw of a posterior density.
    """
    if density.size > LATENTS:
        return None
    deadline, particles = Deadline(rest), max(PARTICLES, math.ceil(draws / (RUNS * ISLANDS)))
    try:
        path = FromPrior(density)
    except NotImplementedError:
        return None
    steps = tempered.Steps(path, mode)
    while True:
        runs = [
            tempered.run(
                path, islands=ISLANDS, particles=particles, deadline=deadline, at_once=at_once, steps=steps
            )
            for _ in range(RUNS)
        ]  # fmt: skip
        found = _agreed(density, runs, draws)
        told = all(ground.holds for ground in found.grounds)
        if told or particles > PARTICLES or deadline.over(0.2) or _hopeless(found):
            return found
        particles *= MORE


def _hopeless(found: Inferred) -> bool:
    """Whether runs know so little of the posterior that `MORE` times the particles would not do either."""
    values = {ground.name: ground.value for ground in found.grounds}
    few = HOPELESS * values["effective draws"] < LIMITS["effective"]
    return few or not values["error of the log evidence"] <= HOPELESS * NATS


def _agreed(density: Density, runs: Sequence[Tempered], draws: int) -> Inferred:
    """Draws of several runs as chains, and how they agree."""
    count = math.ceil(draws / len(runs))
    sites = runs[0].draws
    both = {name: torch.stack([run[name].flatten(0, 1) for run in runs]) for name in sites}
    # Not thinned before they are judged. Particles of a run are in random order.
    both, labels = in_order(density, both)
    stats = {name: torch.stack([run.stats[name].flatten() for run in runs]) for name in runs[0].stats}
    names = [block.name for block in density.blocks]
    rhat = max(worst({name: both[name] for name in names}).values(), default=math.inf)
    spread = math.hypot(*(run.error for run in runs))
    values = [run.log_evidence for run in runs]
    apart = max(values) - min(values)
    error = max(spread, apart) / len(runs)
    words = " and ".join(f"'{label}'" for label in labels)
    grounds = [
        Ground("inverse temperature", min(run.betas[-1] for run in runs), 1, least=True),
        Ground("runs differ in log evidence by", apart, max(NATS, 3 * spread)),
        Ground("error of the log evidence", error, NATS),
        Ground(f"R-hat of runs with labels of {words} in one order" if labels else "R-hat of runs", rhat, RHAT),
        Ground("effective draws", _effective(both, names, runs, bool(labels)), LIMITS["effective"], least=True),
        Ground("error of a deviation", _unsure([both[name] for name in names]), DEVIATION),
        Ground("accepted moves", min(run.acceptance for run in runs), MOVED, least=True),
    ]
    return Inferred(
        {name: value[:, :count] for name, value in both.items()}, density.local,
        {name: value[:, :count] for name, value in stats.items()}, "smc", len(runs),
        min(count, len(stats["lp"][0])), grounds=tuple(grounds), log_evidence=sum(values) / len(values), error=error,
        advice=" ".join(dict.fromkeys(note for run in runs for note in run.notes)), found=tuple(runs),
    )  # fmt: skip


def _effective(draws: dict[str, Tensor], names: Sequence[str], runs: Sequence[Tempered], labels: bool) -> float:
    """Effective draws of a mean, at the least.

    Islands tell, by how far their means lie apart; of modes the error of what each holds does. Where labels had to be
    put in order neither means anything, and the islands of the end, whose particles were mixed, have to do.
    """
    if labels:
        least = math.inf
        for name in names:
            value = draws[name].unflatten(1, (ISLANDS, -1)).flatten(0, 1)  # (I, N, *event)
            means = (value.mean(1) - value.mean((0, 1))) / value.std((0, 1)).clamp(min=1e-300)
            least = min(least, len(value) / max(1e-12, float(means.var(0).max())))
        return min(least, float(len(runs) * draws[names[0]].shape[1]))
    total = 0.0
    for run in runs:
        whole = run.chains * run.size
        if run.modes:
            shares = [share * (1 - share) / max(error, 1e-12) ** 2 for share, error in run.modes]
            total += min(whole, *shares)
        else:
            total += min(whole, run.chains / max(run.apart, 1e-12) ** 2)
    return total


def _unsure(sites: Sequence[Tensor]) -> float:
    """How far a standard deviation may be off, as a part of itself, of the number for which it is farthest.

    By what the runs do not agree on; and by the fourth moment, since few particles in a far mode, or none, may be all
    that there are of it in each run. Ranks, of which R-hat is, see neither.

    Args:
        sites: draws of each, (runs, n, ...).
    """
    worst_of_all = 0.0
    for value in sites:
        flat = value.flatten(2).double() if value.ndim > 2 else value.unsqueeze(-1).double()
        moves = flat.flatten(0, 1).std(0) > 0
        if not bool(moves.any()):
            continue
        flat = flat[..., moves]
        apart = flat.std(1).log().std(0) / math.sqrt(len(flat))
        whole = flat.flatten(0, 1)
        z = (whole - whole.mean(0)) / whole.std(0)
        tails = ((z.pow(4).mean(0) - 1).clamp(min=0) / (4 * len(whole))).sqrt()
        worst_of_all = max(worst_of_all, float(torch.maximum(apart, tails).max()))
    return worst_of_all
