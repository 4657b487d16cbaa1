"""sample: gradient MCMC over every continuous latent of any pair, discrete ones summed out, many chains as one batch.

Globals t and continuous locals z are drawn together from p(t, z | x); parameters of the pair (the networks of a
decoder, say) are held fixed. One configuration serves all: `inference.hamiltonian` has the algorithm, and
`inference.adaptation` how it is tuned.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor
from tqdm.auto import tqdm

from inference.adaptation import QUARTER, Moments, StepSize, Trajectory, harmonic
from inference.compiled import CompileError, Mode, Traced, TraceError, choose_mode
from inference.data import as_batch
from inference.hamiltonian import Metric, Move, State, leapfrog, plan, transition
from inference.memory import pieces, quietly
from inference.mixing import SETTLED, disagreement, limit, rhat, worst
from inference.posterior import Posterior, draw
from inference.potential import Potential
from zoo.base import ModelGuide

Start = Literal["auto", "prior", "jitter", "guide"]
Compile = Literal["auto", "inductor", "graph", "off"]
Method = Literal["hmc", "nuts"]

APPROACH = (15, 15, 20)  # transitions, each chain with a step size of its own; after each a new metric
SETTLE = 50  # transitions after which the metric is estimated once more
CHECKED = 100  # transitions of the first window that may be the last; each further one is twice as long
SHORTEST = 10  # transitions of a window that R-hat can be worked out from
SHORT = 8  # most leapfrog steps on the way to where the mass is
STEPS = 128  # most leapfrog steps of a transition
LONGEST = 8 * QUARTER  # most time of a trajectory: modes apart would make it grow for nothing
DENSE = 100  # most numbers that get a full covariance
WATCHED = 1000  # most numbers whose R-hat is looked at
TRIES = 20  # for a start of finite density


class SamplingError(ValueError):
    """No chain can move, or none can start; the message says where and what to do."""


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


def sample(
    pair: ModelGuide,
    data: Any,
    draws: int = 500,
    chains: int = 64,
    *,
    method: Method = "hmc",
    start: Start = "auto",
    max_warmup: int = 2000,
    thin: int = 1,
    seed: int = 0,
    compile: Compile = "auto",  # noqa: A002 - the name users know from torch
    progress: bool = True,
) -> Sampled:
    """Draw from the posterior of all continuous latents, global and local; discrete ones are summed out.

    A pair that has not been fitted takes its constants from `pair.initial(data)`, in place, as `fit` does. Parameters
    are held fixed: fit a pair with networks first. Chains run as one batch: 64 cost little more than one where the data
    are small, and tune the sampler faster. An interrupt while drawing keeps what is there.

    Args:
        pair: the pair; its floating-point type is that of the draws (`pair.double()` for stiff posteriors).
        data: see `inference.data`.
        draws: of each chain.
        chains: how many, C.
        method: `hmc`, or `nuts` (Pyro's, chain after chain: a slow reference).
        start: `jitter` around `pair.initial(data)`, or the prior median; `prior`; `guide`, draws from the fitted guide,
            which also give the first metric; `auto` is `guide` for a fitted pair, else `jitter`.
        max_warmup: most transitions of warm-up, which ends when R-hat of all latents is below 1.01.
        thin: transitions for each draw that is kept.
        seed: seeds everything drawn here; the caller's random state is left as it was.
        compile: `graph` traces each leapfrog step into one graph, `inductor` also compiles it; `off` is plain Pyro;
            `auto` is `graph`, and `off` with a warning where that cannot be.
        progress: show a bar.

    Returns:
        A `Posterior` with `stats` in ArviZ's names, and what stands in `Sampled`.

    Raises:
        ValueError: data that do not fit the pair, options out of range, no latents, a discrete latent not enumerated.
        SamplingError: no start of finite density, or chains that never move.
    """
    _check_options(locals())
    batch = as_batch(pair, data)
    pair.check(batch)
    with quietly(seed, pair):
        values = {} if pair.card else pair.initial(batch)
        potential = Potential(pair, batch)
        chosen = ("guide" if pair.card else "jitter") if start == "auto" else start
        points, metric = _start(potential, chosen, values, chains)
        mode, _ = choose_mode(compile, 3 * (draws * thin + 2 * CHECKED))
        run = _Run(potential, chains, seed, mode, compile == "auto", progress)
        if method == "nuts":
            found = run.nuts(points, draws, max_warmup, thin)
        else:
            found = run.hmc(points, metric, draws, max_warmup, thin)
    for note in found.notes:
        warnings.warn(note, stacklevel=2)
    return found


def _check_options(given: dict[str, Any]) -> None:
    for name, least in (("draws", 1), ("chains", 1), ("max_warmup", 1), ("thin", 1)):
        value = given[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    for name, options in (("method", Method), ("start", Start), ("compile", Compile)):
        if given[name] not in get_args(options):
            raise ValueError(f"{name}: expected one of {', '.join(get_args(options))}, got {given[name]!r}")


# --- where chains start -----------------------------------------------------------------------------------------------


def _start(potential: Potential, start: str, values: dict[str, Tensor], chains: int) -> tuple[Tensor, Metric | None]:
    """Free latents of each chain, (C, P), and the metric that a guide suggests.

    Raises:
        SamplingError: no point of finite density was found.
    """
    metric = None
    if start == "guide":
        cloud = _guide(potential, max(chains, 200))
        spread = cloud.std(0)
        if bool((spread > 0).all()):
            metric = _metric(potential, cloud.mean(0), spread, chains)
        else:  # a point guide
            start, values = "jitter", potential.constrain(cloud[:1])[0]
            values = {name: value[0] for name, value in values.items()}
    elif start == "prior":
        cloud = potential.prior(chains)
    if start == "jitter":
        cloud = _centre(potential, values).expand(chains, -1)
    points = torch.empty_like(cloud[:chains])
    bad = torch.ones(chains, dtype=torch.bool, device=points.device)
    for attempt in range(TRIES):
        if start == "jitter":  # closer and closer to the centre
            new = cloud + (2 * torch.rand_like(cloud) - 1) * 0.8**attempt
        elif start == "prior":
            new = potential.prior(chains)
        else:
            new = cloud[torch.randperm(len(cloud), device=cloud.device)[:chains]]
        points[bad] = new[bad]
        bad = ~torch.isfinite(potential.log_density(points))
        if not bool(bad.any()):
            return points, metric
    names = potential.culprits(points[bad][0])
    raise SamplingError(
        f"no start of finite log density in {TRIES} tries (start='{start}'): it is not finite at site "
        f"{', '.join(map(repr, names)) or 'none alone, but in their sum'}; check the data against the support and the "
        "prior of that site, or choose another start"
    )


def _centre(potential: Potential, values: dict[str, Tensor]) -> Tensor:
    """Free latents of these values, (P,), and of others the prior median, or 0 where that cannot be told from it."""
    count = 400
    given = {name: value.expand(count, *value.shape) for name, value in values.items()}
    draws = potential.free(given) if given else potential.prior(count)
    median, spread = draws.median(0).values, draws.quantile(0.75, 0) - draws.quantile(0.25, 0)
    return torch.where(median.abs() > 3 * spread / math.sqrt(count), median, torch.zeros_like(median))


def _guide(potential: Potential, draws: int) -> Tensor:
    found = draw(potential.pair, potential.batch, draws, stats=False, seed=int(torch.randint(2**31, ())))
    return potential.free({block.name: found[block.name][0] for block in potential.blocks if block.name in found.draws})


def _metric(potential: Potential, centre: Tensor, spread: Tensor, chains: int) -> Metric:
    dense = potential.size <= min(DENSE, 25 * chains)
    return Metric(centre.contiguous(), spread.diag_embed() if dense else spread.contiguous())


# --- one run ----------------------------------------------------------------------------------------------------------


class _Run:
    """Warm-up, then draws, of C chains."""

    state: State
    metric: Metric
    step: Callable[..., Any]  # one leapfrog step under that metric

    def __init__(
        self, potential: Potential, chains: int, seed: int, mode: Mode, fallback: bool, progress: bool
    ) -> None:
        self.potential, self.chains, self.progress = potential, chains, progress
        self.device = potential.pair.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.mode, self.fallback = mode, fallback
        self.plain = leapfrog(potential.value_and_gradient)
        self.traced = Traced(self.plain, mode)
        self.index, self.moved, self.notes = 0, 0, list[str]()
        self.seconds = dict.fromkeys(("compile", "warmup", "draws"), 0.0)
        self.cpu = dict(self.seconds)
        # all numbers, or evenly spaced ones
        self.watched = torch.linspace(0, potential.size - 1, min(WATCHED, potential.size)).round().long()
        self.factor = min(8.0, max(1.0, math.sqrt(64 / chains)))  # fewer chains tell less: longer windows

    # -- moves

    def stand(self, points: Tensor, metric: Metric) -> None:
        """Put the chains at free latents (C, P) under a metric: a step of no length."""
        self.metric = metric
        z, zero, none = metric.into(points), torch.zeros_like(points), points.new_zeros(len(points), 1)
        began, known = _clock(), self.traced.seconds
        while True:
            bound = (metric.centre, metric.scale)
            self.step = partial(self.plain, *bound) if self.mode == "off" else self.traced.bind(*bound)
            try:
                _, _, log_density, gradient = self.step(z, zero, zero, none)
                break
            except (TraceError, CompileError) as error:
                if not self.fallback:
                    raise
                self.mode = "off" if isinstance(error, TraceError) else "graph"
                self.traced = Traced(self.plain, self.mode)
                slower = "plain Pyro" if self.mode == "off" else "a plain graph"
                warnings.warn(f"{self.potential.name}: {error}; sampling with {slower} instead", stacklevel=6)
        if self.traced.seconds != known:
            self.spent("compile", began)
        self.state = State(z, log_density, gradient)

    def spent(self, what: str, began: tuple[float, float]) -> None:
        """Count the time since `began`."""
        now = _clock()
        self.seconds[what] += now[0] - began[0]
        self.cpu[what] += now[1] - began[1]

    def move(self, size: Tensor, steps: int) -> Move:
        """One transition of all chains."""
        z = self.state.z
        noise = torch.randn(z.shape, dtype=z.dtype, device=self.device, generator=self.generator)
        log_uniform = torch.rand(len(z), dtype=z.dtype, device=self.device, generator=self.generator).log()
        self.state, move = transition(self.step, self.state, noise, log_uniform, size, steps)
        return move

    # -- Pyro's NUTS

    def nuts(self, points: Tensor, draws: int, most: int, thin: int) -> Sampled:
        """Pyro's No-U-Turn sampler (Hoffman & Gelman 2014), one chain after another, on the same log density."""
        compute = self.potential.value_and_gradient
        evaluate = compute if self.mode == "off" else Traced(compute, self.mode).bind()
        began, warmup = _clock(), min(most, 1000)
        found, stats = [], dict[str, list[list[float]]]()
        for point in points:
            kernel = NUTS(
                potential_fn=lambda free: -_Evaluated.apply(free["point"], evaluate),  # type: ignore[no-untyped-call]
                adapt_step_size=True,
                full_mass=self.potential.size <= DENSE,
            )
            kept: dict[str, list[float]] = {name: [] for name in _NUTS}

            def look(kernel: Any, free: Any, stage: str, index: int, kept: dict[str, list[float]] = kept) -> None:
                if stage.lower().startswith("sample"):
                    kept["step_size"].append(float(kernel.step_size))
                    kept["lp"].append(-float(kernel._potential_energy_last))
                    kept["diverging"].append(float(index in kernel._divergences))

            chain = MCMC(
                kernel, draws * thin, warmup, initial_params={"point": point.clone()},
                disable_progbar=not self.progress, hook_fn=look,
            )  # fmt: skip
            with torch.enable_grad():
                chain.run()
            found.append(chain.get_samples()["point"][thin - 1 :: thin])
            for name, values in kept.items():
                stats.setdefault(name, []).append(values[thin - 1 :: thin])
        self.spent("draws", began)
        self.metric = Metric(torch.zeros_like(points[0]), torch.ones_like(points[0]))
        kept_stats = {name: torch.tensor(values).to(points) for name, values in stats.items()}
        kept_stats["diverging"] = kept_stats["diverging"].bool()
        return self.result(torch.stack(found), kept_stats, warmup, float(kept_stats["step_size"].mean()), math.nan)

    # -- Hamiltonian Monte Carlo

    def hmc(self, points: Tensor, metric: Metric | None, draws: int, max_warmup: int, thin: int) -> Sampled:
        """Warm up until the chains agree, then draw."""
        bar = tqdm(total=None, disable=None if self.progress else True, unit="draw", desc="warm-up")
        began = _clock()
        try:
            size, length, warmup = self.warm(points, metric, max_warmup, bar)
            self.spent("warmup", began)
            self.seconds["warmup"] -= self.seconds["compile"]
            self.cpu["warmup"] -= self.cpu["compile"]
            bar.reset(total=draws)
            bar.set_description("sampling")
            began = _clock()
            kept, stats, done = self.collect(size, length, draws, thin, bar)
            self.spent("draws", began)
        finally:
            bar.close()
        if done < draws:
            self.notes.append(f"interrupted: {done} of {draws} draws of each chain are kept")
        return self.result(kept[:, :done], {n: v[:, :done] for n, v in stats.items()}, warmup, size, length)

    def warm(self, points: Tensor, metric: Metric | None, most: int, bar: Any) -> tuple[float, float, int]:
        """Tune metric, step size and trajectory; returns the latter two, and the number of transitions."""
        spread = torch.ones_like(points[0])
        self.stand(points, metric or _metric(self.potential, points.mean(0), spread, self.chains))
        first = (SETTLE,) if metric is not None else (*APPROACH, SETTLE)
        factor = min(self.factor, most / (sum(first) + CHECKED))
        windows = [max(1, round(window * factor)) for window in first]
        for window in windows[:-1]:
            self.approach(window, bar)
        clock = Trajectory()
        _, _, moments = self.window(windows[-1], Trajectory(), bar)
        total, length = sum(windows), max(SHORTEST, round(CHECKED * factor))
        while True:
            self.stand(self.metric.out(self.state.z), moments.metric())
            history, size, moments = self.window(length, clock, bar)
            total += length
            found = rhat(history).nan_to_num(nan=1.0)
            bar.set_postfix_str(f"R-hat {float(found.max()):.3f}")
            settled = float(found.max()) < limit(history.shape[1])
            if settled or most - total < SHORTEST:
                if not settled:
                    self.unsettled(found, total)
                return size, clock.settled, total
            length = min(2 * length, most - total)

    def approach(self, count: int, bar: Any) -> None:
        """Go towards where the mass is, each chain with steps of its own size, then take on the metric found there."""
        size, moments = StepSize(self.first_size(), 0.8), Moments(self.metric)
        for i in range(count):
            steps = min(SHORT, math.ceil(QUARTER / float(size.size.median())))
            move = self.move(size.size.unsqueeze(-1), steps)
            size.update(move.acceptance)
            if 2 * i + 1 >= count:
                moments.add(self.state)
            bar.update()
        points, lost = self.metric.out(self.state.z), moments.lost()
        if bool(lost.any()) and not bool(lost.all()):  # these chains start again where others stand
            others = (~lost).nonzero().squeeze(-1)
            picked = torch.randint(len(others), (int(lost.sum()),), device=self.device, generator=self.generator)
            points[lost] = points[others[picked]]
            self.moved += len(picked)
        self.stand(points, moments.metric())

    def window(self, count: int, clock: Trajectory, bar: Any) -> tuple[Tensor, float, Moments]:
        """Tune step size and trajectory for a while.

        Returns:
            The watched numbers in the later half, (C, n, W), the step size, and the moments of that half.
        """
        size, moments, history = StepSize(self.first_size().median()), Moments(self.metric), []
        diverging = torch.zeros(self.chains, device=self.device)
        for i in range(count):
            used, steps = plan(clock.time, float(size.size), self.index, STEPS)
            self.index += 1
            move = self.move(self.sizes(used), steps)
            size.update(harmonic(move.acceptance))
            clock.update(move, used * steps, float(size.size) / 2, min(LONGEST, float(size.size) * STEPS))
            if 2 * i + 1 >= count:
                moments.add(self.state)
                history.append(self.metric.out(self.state.z)[:, self.watched])
                diverging += move.diverging
            bar.update()
        if bool((diverging > 0.5 * len(history)).all()):
            raise SamplingError(_STUCK)
        return torch.stack(history, 1), float(size.settled), moments

    def sizes(self, size: float) -> Tensor:
        """One step size for all chains, (C, 1)."""
        return torch.full((self.chains, 1), size, dtype=self.state.z.dtype, device=self.device)

    def first_size(self) -> Tensor:
        """Step sizes at which the chains accept one step, (C,).

        Raises:
            SamplingError: no chain does, however short the step.
        """
        state, size = self.state, self.sizes(1.0)
        for _ in range(60):
            move = self.move(size, 1)
            self.state = state
            refused = move.acceptance.unsqueeze(-1) < 0.5
            if not bool(refused.any()):
                break
            size = torch.where(refused, size / 2, size)
        if bool((size < 2.0**-50).all()):
            raise SamplingError(_STUCK)
        return size.squeeze(-1)

    def unsettled(self, found: Tensor, total: int) -> None:
        """Write down which sites kept warm-up from ending."""
        names = []
        for block in self.potential.blocks:
            inside = ((self.watched >= block.begin) & (self.watched < block.end)).to(found.device)
            value = float(found[inside].max()) if bool(inside.any()) else 1.0
            names += [f"'{block.name}' ({value:.2f})"] if value >= SETTLED else []
        self.notes.append(
            f"warm-up stopped at max_warmup={total} with R-hat above {SETTLED} of {', '.join(names)}: step size and "
            "metric may not suit the posterior"
        )

    def collect(
        self, size: float, length: float, draws: int, thin: int, bar: Any
    ) -> tuple[Tensor, dict[str, Tensor], int]:
        """Standardised draws (C, draws, P), their stats (C, draws), and how many there are."""
        z = self.state.z
        kept = z.new_empty(self.chains, draws, z.shape[1])
        lead = (self.chains, draws)
        stats = {name: z.new_empty(lead) for name in ("acceptance_rate", "energy", "lp")}
        stats["diverging"] = torch.zeros(lead, dtype=torch.bool, device=z.device)
        stats["n_steps"] = torch.zeros(lead, dtype=torch.long, device=z.device)
        stats["step_size"] = z.new_empty(lead)
        done = 0
        try:
            for i in range(draws):
                for _ in range(thin):
                    used, steps = plan(length, size, self.index, STEPS)
                    self.index += 1
                    move = self.move(self.sizes(used), steps)
                    stats["diverging"][:, i] |= move.diverging
                kept[:, i] = self.state.z
                stats["lp"][:, i] = self.state.log_density
                stats["acceptance_rate"][:, i] = move.acceptance
                stats["energy"][:, i] = move.energy
                stats["n_steps"][:, i], stats["step_size"][:, i] = steps, used
                done = i + 1
                bar.update()
        except KeyboardInterrupt:
            if not done:
                raise
        return kept, stats, done

    def result(self, kept: Tensor, stats: dict[str, Tensor], warmup: int, size: float, length: float) -> Sampled:
        """Constrain the draws and look at how the chains agree."""
        chains, count, _ = kept.shape
        parts: dict[str, list[Tensor]] = {}
        jacobian = []
        for piece in pieces(chains * count, self.potential.size):
            values, log_jacobian = self.potential.constrain(self.metric.out(kept.flatten(0, 1)[piece]))
            jacobian.append(log_jacobian)
            for name, value in values.items():
                parts.setdefault(name, []).append(value)
        found = {name: torch.cat(values).unflatten(0, (chains, count)) for name, values in parts.items()}
        stats["log_p"] = stats["lp"] - torch.cat(jacobian).unflatten(0, (chains, count))
        local = self.potential.local
        rhats = {}
        if count >= 4:
            rhats = worst({name: _thinned(value) for name, value in found.items()})
        if rhats and max(rhats.values()) > limit(count):
            globals_ = {n: v for n, v in found.items() if n not in local}
            self.notes.append(disagreement(globals_ or found, self.potential.pair.dims, stats["lp"], rhats))
        if bool(stats["diverging"].any()):
            number, of = int(stats["diverging"].sum()), chains * count
            self.notes.append(
                f"{number} of {of} transitions diverged: the posterior has corners that these steps cannot follow, and "
                "draws near them are too few. Another parametrisation (non-centred, say) or a tighter prior may help"
            )
        return Sampled(
            found, local, stats, "mcmc", chains, count,
            rhat=rhats, notes=tuple(self.notes), warmup=warmup, moved=self.moved, step_size=size, trajectory=length,
            compile=self.mode, seconds=self.seconds, cpu=self.cpu,
        )  # fmt: skip


def _clock() -> tuple[float, float]:
    """Seconds on the wall and of this process."""
    return time.perf_counter(), time.process_time()


_NUTS = ("step_size", "lp", "diverging")  # what Pyro's kernel tells of each draw


class _Evaluated(torch.autograd.Function):
    """A log density whose gradient is known already."""

    @staticmethod
    def forward(context: Any, point: Tensor, evaluate: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        value, gradient = evaluate(point.detach().unsqueeze(0))
        context.save_for_backward(gradient.squeeze(0))
        return value.squeeze(0)

    @staticmethod
    def backward(context: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = context.saved_tensors
        return gradient * upstream[0], None


_STUCK = (
    "every chain diverges or stands still, however short its steps: the log density or its gradient is not smooth or "
    "not finite around the start. Look for a scale that may go to zero, use pair.double(), rescale the data, or start "
    "elsewhere (start='prior' or 'guide')"
)


def _thinned(draws: Tensor) -> Tensor:
    """At most about `WATCHED` numbers of each draw, evenly spaced: (C, n, ...) to (C, n, P)."""
    flat = draws.reshape(*draws.shape[:2], -1)
    return flat[..., :: max(1, flat.shape[-1] // WATCHED)]
