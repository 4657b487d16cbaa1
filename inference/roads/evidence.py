"""The evidence of a model, log p(x): its density of all the data, averaged over the prior.

exact        the guide is the posterior in closed form: log p(x, t) - log q(t) is the same at every t
importance   mean weight of a guide's draws
smc          weights of particles from the prior to the posterior (`inference.roads.tempered`), or bridge sampling
             from where they end, whichever is surer
bridge       bridge sampling from draws of the posterior (`inference.roads.bridge`)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from inference.compiling.compiled import Mode
from inference.compiling.fallback import Fallback, Fastest
from inference.data.check import check
from inference.data.learnable import check_learnable
from inference.fitting import exact
from inference.fitting.fit import fit
from inference.posterior.check import check_posterior
from inference.posterior.latents import Posterior
from inference.posterior.loo import weights_of
from inference.posterior.psis import check_enough, pareto_k, threshold
from inference.roads import tempered
from inference.roads.folding import bridged
from inference.roads.tempering import FromPrior
from inference.running.checked import Checked
from inference.running.constants import take
from inference.running.deadline import Deadline
from inference.running.naming import proper
from inference.running.programmed import or_program
from inference.running.quiet import quietly
from inference.running.words import check_number, listed
from inference.sampling.density import Density
from inference.sampling.potential import Potential
from zoo.base import ModelGuide
from zoo.threads.turns import in_turn

Method = Literal["auto", "exact", "importance", "smc", "bridge"]
AT_MOST = 8192  # draws that bridge sampling takes
MORE = 4  # times the particles of the run before, where that was not sure enough
RUNS = 3
PARTICLES = 128  # of the first run, in each island


@dataclass(frozen=True)
class Evidence:
    """The log evidence of a model.

    Args:
        value: log p(x), in nats.
        error: its standard error; 0 where it is exact.
        method: "exact", "importance", "smc" or "bridge".
        notes: what was found wanting, each a sentence.
        observed: the values that it is a density of, by site.
    """

    value: float
    error: float
    method: str
    notes: tuple[str, ...] = ()
    observed: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict, repr=False, compare=False)

    def __str__(self) -> str:
        """In words."""
        names = {"smc": "sequential Monte Carlo", "bridge": "bridge sampling", "importance": "importance weights"}
        by = "in closed form" if self.method == "exact" else f"± {self.error:.2g}, by {names[self.method]}"
        return "; ".join([f"log evidence {self.value:.2f} {by}", *self.notes])


@in_turn
@or_program("evidence")
def log_evidence(
    pair: ModelGuide,
    data: Any,
    posterior: Posterior | None = None,
    *,
    method: Method = "auto",
    precision: float = 0.05,
    max_seconds: float | None = None,
    seed: int = 0,
) -> Evidence:
    """log p(x), the log density of all the data under the model, averaged over the prior; parameters are held fixed.

    The pair is left as it was. One that has measured no data yet takes its constants (centres, units) from these, as a
    fit would: its prior is the one that goes with them.

    Args:
        pair: the pair.
        data: all of them; see `inference.data`.
        posterior: draws of all its continuous latents for these data, if there are some: from `sample`, or from `draw`
            with `stats`, or from `infer`. What they tell is the evidence of the modes that they visit; orders of
            labels that the density does not tell apart count as visited, all K!.
        method: `exact`, where the guide is the posterior in closed form; `importance`, by draws of a guide, with their
            Pareto k; `bridge`, from draws by MCMC; `smc`, sequential Monte Carlo from the prior, which needs no draws
            and finds modes by itself. `auto` is what suits the draws that are given, else `exact` where it holds, else
            `smc`.
        precision: standard error in nats that is enough: `smc` goes on with four times, and sixteen times, as many
            particles where it is larger.
        max_seconds: begin no temperature of `smc` later than this after the call.
        seed: seeds everything drawn here; the caller's random state is left as it was.

    Returns:
        An `Evidence`: `value`, `error`, `method`, and `notes` of what was found wanting.

    Raises:
        ValueError: a posterior that is not this pair's or has too few draws; draws of a guide whose weights cannot
            correct it; an improper prior; `exact` of a guide that is not; `max_seconds` over before the posterior was
            reached.
        SamplingError: the prior has no draw of a posterior density.

    Example::

        pair = zoo.create("polynomial_regression", features=1, degree=2).double()
        data, _ = pair.simulate(50)
        print(inference.log_evidence(pair, data))
    """
    deadline = Deadline(max_seconds)
    check_options(method, precision, max_seconds)
    with proper():
        given = check(pair, data)
        check_learnable(given)
    if posterior is not None:
        posterior = check_posterior(given, posterior, local=True)
    own = copy.deepcopy(pair)
    with quietly(seed, own):
        if not own.trained:
            take(own, given.batch)
        given = replace(given, pair=own)
    fields = given.batch.fields()
    observed = {name: fields[name].detach().cpu().double().numpy() for name in given.observed if name in fields}
    asked: Method = "exact" if method == "auto" and posterior is None else method
    if asked == "exact":
        value = None if given.continuous_locals or not given.globals else _exact(given, pair.trained, seed)
        if value is not None:
            return Evidence(value, 0.0, "exact", observed=observed)
        if method == "exact":
            raise ValueError(f"method: the guide of {pair.name} is not its posterior in closed form")
    if posterior is not None and given.continuous_locals and posterior.method == "svi":
        raise ValueError(f"posterior: {pair.name} has local latents, over which draws of a guide do not sum: use 'smc'")
    with quietly(seed, own):
        density = Potential(given)
        found = of_density(density, posterior, method, precision, deadline, at_once=at_once(given))
    return replace(found, observed=observed)


def at_once(given: Checked) -> int:
    """How many particles of a pair move together, for what a cache holds."""
    return max(32, min(1024, 2**18 // max(1, given.size * given.width)))


def check_options(method: Any, precision: Any, max_seconds: Any) -> None:
    """Refuse options that are none.

    Raises:
        ValueError: by name.
    """
    if method not in get_args(Method):
        raise ValueError(f"method: expected one of {', '.join(get_args(Method))}, got {method!r}")
    check_number("precision", precision)
    if max_seconds is not None:
        check_number("max_seconds", max_seconds)


def of_density(
    density: Density,
    posterior: Posterior | None,
    method: Method,
    precision: float,
    deadline: Deadline,
    mode: Mode = "graph",
    at_once: int = 1024,
) -> Evidence:
    """The evidence of any density, by what suits the draws or by what is asked for. Runs under `quietly`.

    Raises:
        ValueError: see `log_evidence`.
    """
    if method == "auto":
        method = "smc" if posterior is None else "importance" if posterior.method == "svi" else "bridge"
    if method == "smc":
        return _by_particles(density, precision, deadline, mode, at_once)
    if method == "exact":
        raise ValueError(f"method: nothing is known of {density.name} in closed form")
    if posterior is None:
        raise ValueError(f"method: '{method}' needs draws of the posterior: posterior=…")
    if method == "importance":
        return _by_weights(posterior)
    return _by_bridge(density, posterior, mode, at_once)


def _exact(given: Checked, trained: bool, seed: int) -> float | None:
    """The evidence where the guide, as it is or as a fit would place it, is the posterior."""
    if trained:
        return exact.exact_evidence(given.pair, given.batch, seed)
    if not given.pair.initial(given.batch):
        return None
    made = fit(given.pair, given, steps=None, max_steps=1, progress=False, compile="off", seed=seed)
    return -float(made.losses[0]) * given.batch.total if made.reason == exact.REASON else None


def _by_particles(density: Density, precision: float, deadline: Deadline, mode: Mode, at_once: int) -> Evidence:
    """Sequential Monte Carlo, with more particles until it is sure enough."""
    try:
        path = FromPrior(density)
    except NotImplementedError as error:
        raise ValueError(f"{density.name}: a latent has an improper prior, of which there is no evidence") from error
    particles, found = PARTICLES, None
    for _ in range(RUNS):
        run = tempered.run(path, particles=particles, mode=mode, deadline=deadline, at_once=at_once)
        if not run.whole:
            if found is not None:
                break
            raise ValueError(f"max_seconds: {density.name}: {run.notes[0]}; it takes longer")
        found, particles = run, particles * MORE
        if found.error <= precision and not found.notes:
            break
    assert found is not None  # noqa: S101 - of at least one run
    return Evidence(found.log_evidence, found.error, found.by, found.notes)


def _by_weights(posterior: Posterior) -> Evidence:
    """The mean weight of a guide's draws.

    Raises:
        ValueError: draws without densities, too few, or of which the weights cannot correct the guide.
    """
    ratios = weights_of(posterior)
    if ratios is None:
        raise ValueError(
            "posterior: 'importance' needs draws of a guide that has a density: from draw, with stats=True"
        )
    check_enough("posterior: draws", len(ratios))
    k, limit = float(pareto_k(ratios)), threshold(len(ratios))
    if k >= limit:
        raise ValueError(
            f"posterior: the weights of these draws have k̂ = {k:.2f}, above {limit:.2f}: their mean cannot be "
            "believed; method='smc' needs no guide"
        )
    top = ratios.max()
    weights = np.exp(ratios - top)
    error = float(weights.std(ddof=1) / weights.mean() / math.sqrt(len(weights)))
    return Evidence(float(top + np.log(weights.mean())), error, "importance")


def _by_bridge(density: Density, posterior: Posterior, mode: Mode, at_once: int) -> Evidence:
    """Bridge sampling from draws.

    Raises:
        ValueError: a latent without draws, or too few of them.
    """
    lacking = [block.name for block in density.blocks if block.name not in posterior.draws]
    if lacking:
        raise ValueError(
            f"posterior: bridge sampling needs draws of all continuous latents; it lacks {listed(lacking)}"
        )
    some = posterior.thin(max(1, AT_MOST // posterior.chains))
    flat = {block.name: some[block.name].flatten(0, 1).to(density.device) for block in density.blocks}
    points = density.free(flat).to(density.dtype)
    look = at_points(density, mode, at_once)
    log_p = look(points)
    if not bool(log_p.isfinite().all()):
        raise ValueError("posterior: draws of it have no density under this model: were they made for other data?")
    lead = (some.chains, some.size)
    generator = torch.Generator(points.device).manual_seed(int(torch.randint(2**62, ())))
    found = bridged(density, points.unflatten(0, lead), log_p.reshape(lead), look, generator)
    return Evidence(found.value, found.error, "bridge")


def at_points(density: Density, mode: Mode, at_once: int) -> Callable[[Tensor], Tensor]:
    """The log density at many points, (S, P) -> (S,), recorded once."""
    held = density.held
    few = density.prior(2)
    density.value_and_gradient(few, *held)
    run = Fastest(density.value_and_gradient, Fallback(density.name, "bridge sampling", mode)).bind()

    def look(points: Tensor) -> Tensor:
        count = len(points)
        more = -count % min(at_once, count)  # pieces of one size: each size is recorded
        padded = torch.cat([points, points[:1].expand(more, -1)])
        size = min(at_once, count)
        parts = [run(padded[i : i + size], *held)[0] for i in range(0, len(padded), size)]
        return torch.cat(parts)[:count]

    return look
