"""The tempered road: sequential Monte Carlo along a path to the posterior, which modes far apart do not stop.

Particles are drawn from the first density of a path (`inference.roads.tempering`), weighed towards the next, resampled
where few carry the weight (systematically, within their island), and moved by the Hamiltonian kernel of
`inference.sampling.hamiltonian` (Del Moral, Doucet & Jasra 2006, "Sequential Monte Carlo samplers"). Weights multiply
to an unbiased estimate of p(x), the evidence; and a mode has as many particles as it has mass, whether or not anything
could walk there from another.

The inverse temperature goes as far as the conditional effective sample size lets it (Zhou, Johansen & Aston 2016); step
sizes follow the acceptance of all particles, the metric is their covariance, and moves go on until particles have
forgotten where they began (Buchholz, Chopin & Jacob 2021, "Adaptive tuning of Hamiltonian Monte Carlo within
sequential Monte Carlo"). Islands share all that, and nothing else: they are weighed and resampled each by itself, so
that what they do not agree on is the error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from inference.compiling.compiled import Mode
from inference.compiling.fallback import Fallback, Fastest
from inference.posterior.latents import Posterior
from inference.roads.folding import bridged
from inference.roads.modes import mixture, shares
from inference.roads.particles import effective, log_mean, next_beta, normalised, systematic
from inference.roads.tempering import Path
from inference.running.deadline import Deadline
from inference.running.pieces import pieces
from inference.sampling.chains import DENSE, SamplingError, clock
from inference.sampling.hamiltonian import Metric, State, leapfrog, plan, transition
from zoo.settings import settings

SHARE = 0.7  # conditional effective sample size of a step, of the particles
RESAMPLED = 0.5  # effective sample size below which an island is resampled, of the particles
ACCEPT = 0.8  # the acceptance that step sizes are adapted to
TIME = 1.5  # of a trajectory, in units of the posterior's scale: about a quarter of a period of a Gaussian
LEAPS = 32  # most leapfrog steps of a trajectory
MOVES, LAST = (1, 10), (4, 20)  # fewest and most at each temperature, and at the posterior
FORGOTTEN, FORGOTTEN_LAST = 0.3, 0.1  # correlation with where they began, over all latents, at which moves end
APART = 3.0  # times the scale of the curvature that particles lie apart, where these are modes
STALLED = 0.9  # times the correlation before: no use to go on
MOST = 2000  # temperatures


@dataclass(frozen=True)
class Tempered(Posterior):
    """Draws by sequential Monte Carlo: chains are islands, resampled at the end by their evidence.

    Args:
        log_evidence: log p(x), in nats.
        error: its standard error.
        by: "smc", the weights of the particles, or "bridge", bridge sampling from the draws: the surer.
        of_islands: the log evidence that the weights of each island gave.
        modes: what part of the posterior each mode of the free latents has, and the standard error of that; draws are
            in these proportions. Empty where there is one mode.
        apart: the standard deviation between islands of the mean of a free latent, in posterior deviations, of the
            latent for which it is largest: means over all islands are off by some `apart` / sqrt(islands).
        betas: the inverse temperatures.
        moves: transitions of each particle.
        acceptance: of the last moves.
        whole: whether the posterior was reached; else the draws are of the last temperature.
        notes: what was found wanting, each a sentence.
        seconds, cpu: on the wall and of this process.
    """

    log_evidence: float = math.nan
    error: float = math.nan
    by: str = "smc"
    of_islands: tuple[float, ...] = ()
    modes: tuple[tuple[float, float], ...] = ()
    apart: float = math.nan
    betas: tuple[float, ...] = ()
    moves: int = 0
    acceptance: float = math.nan
    whole: bool = True
    notes: tuple[str, ...] = ()
    seconds: float = math.nan
    cpu: float = math.nan
    points: Tensor | None = field(default=None, repr=False)  # free latents, (S, P), in the coordinates of the end


class Steps:
    """What particles on a path do, recorded once for all runs on it.

    Args:
        path: what they move along.
        mode: how the leapfrog step runs.
        fallback: where the mode fails, go on with the next slower one.
    """

    def __init__(self, path: Path, mode: Mode, fallback: bool = True) -> None:
        way = Fallback(path.density.name, "sampling", mode, fallback)

        def tempered(points: Tensor, beta: Tensor, *held: Tensor) -> tuple[Tensor, Tensor]:
            first, ratio, gradient = path.parts(points, beta, *held)
            return first + beta * ratio, gradient

        self.parts = Fastest(path.parts, way).bind()
        self.leap = Fastest(leapfrog(tempered, 1 + len(path.density.held)), way)


class Islands:
    """Particles on a path.

    Args:
        path: what they move along.
        islands, particles: I, and N in each.
        steps: of theirs.
        at_once: particles that move together, for what memory and cache hold.

    Raises:
        SamplingError: no first draw has a posterior density.
    """

    def __init__(self, path: Path, islands: int, particles: int, steps: Steps, at_once: int | None = None) -> None:
        self.path, self.density, self.shape = path, path.density, (islands, particles)
        self._parts, self._leap = steps.parts, steps.leap
        self.at_once = at_once or islands * particles
        self.size, self.index, self.moved, self.acceptance = 0.5, 0, 0, math.nan
        self.beta, self.betas = 0.0, [0.0]
        self.points = path.draws(islands * particles)
        # Not from the numbers that the first draws came from: momenta would be where the particles are.
        self.generator = torch.Generator(self.density.device).manual_seed(int(torch.randint(2**62, ())))
        first = self.points.new_zeros(self.shape)
        self.log_weights, self.log_evidence = normalised(first), first[:, 0]
        self.log_ratio = self._look()

    def _look(self) -> Tensor:
        """log r at the particles, (I, N)."""
        first, ratio, _ = self._at(self.points)
        ratio = torch.where(first.isfinite(), ratio, -math.inf)
        return ratio.nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf).reshape(self.shape)

    def log_density(self, points: Tensor) -> Tensor:
        """Of the posterior but for its constant, at points, (S, P) -> (S,)."""
        first, ratio, _ = self._at(points)
        return first + ratio

    def _at(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log q and log r, each (S,), and the gradient at the temperature of now, (S, P)."""
        found = []
        for some in pieces(len(points), self._cost()):
            beta = points.new_full((some.stop - some.start,), self.beta)
            found.append(self._parts(points[some], beta, *self.density.held))
        first, ratio, gradient = (torch.cat(values) for values in zip(*found, strict=True))
        return first, ratio, gradient

    def weigh(self, share: float) -> None:
        """Go to the next temperature, and resample islands in which few particles carry the weight.

        Raises:
            SamplingError: an island has no particle of finite density.
        """
        if bool((self.log_ratio == -math.inf).all(-1).any()):
            names = self.density.culprits(self.points[0])
            raise SamplingError(
                f"{self.density.name}: no particle has a posterior density (site "
                f"{', '.join(map(repr, names)) or 'none alone'}): the prior lies where the data cannot be"
            )
        new = next_beta(self.log_weights, self.log_ratio, self.beta, share)
        gain = torch.where(self.log_ratio == -math.inf, self.log_ratio, (new - self.beta) * self.log_ratio)
        weights = self.log_weights + gain
        self.log_evidence = self.log_evidence + weights.logsumexp(-1)
        self.log_weights, self.beta = normalised(weights), new
        self.betas.append(new)
        few = effective(self.log_weights) < RESAMPLED
        if bool(few.any()):
            own = torch.arange(self.shape[1], device=few.device).expand(self.shape)
            picked = torch.where(few.unsqueeze(-1), systematic(self.log_weights, self.generator), own)
            begin = torch.arange(self.shape[0], device=few.device).unsqueeze(-1) * self.shape[1]
            self.points = self.points[(picked + begin).flatten()]
            even = torch.full_like(self.log_weights, -math.log(self.shape[1]))
            self.log_weights = torch.where(few.unsqueeze(-1), even, self.log_weights)

    def pool(self) -> None:
        """Resample all islands together, each by its evidence, into islands that are alike."""
        self.choose((normalised(self.log_evidence) + self.log_weights.mT).mT.flatten())

    def choose(self, log_weights: Tensor) -> None:
        """Resample all particles by these weights, (S,), and mix them."""
        picked = systematic(normalised(log_weights.unsqueeze(0)), self.generator)[0]
        mixed = torch.randperm(len(picked), device=picked.device, generator=self.generator)
        self.points = self.points[picked[mixed]]
        self.log_weights = torch.full_like(self.log_weights, -math.log(self.shape[1]))

    def move(self, fewest: int, most: int, forgotten: float) -> None:
        """Transitions at this temperature, until particles have forgotten where they began."""
        self._recentre()
        first, ratio, gradient = self._at(self.points)
        metric = self._metric(gradient)
        start, gradient = metric.into(self.points), metric.gradient(gradient)
        value = first + self.beta * ratio
        step = self._leap.bind(metric.centre, metric.scale)  # the temperature is of each particle
        beta = self.points.new_full((len(start),), self.beta)
        held = (beta, *self.density.held)
        parts = list(pieces(len(start), self._cost()))
        bound = [_held(step, [h[some] if h is beta else h for h in held]) for some in parts]
        states = [State(start[some], value[some], gradient[some]) for some in parts]
        before = 1.0
        for count in range(1, most + 1):
            used, steps = plan(TIME, self.size, self.index, LEAPS)
            self.index += 1
            noise = torch.randn(start.shape, dtype=start.dtype, device=start.device, generator=self.generator)
            chance = torch.rand(len(start), dtype=start.dtype, device=start.device, generator=self.generator).log()
            acceptance = []
            for i, some in enumerate(parts):
                size = noise.new_full((some.stop - some.start, 1), used)
                states[i], done = transition(bound[i], states[i], noise[some], chance[some], size, steps)
                acceptance.append(done.acceptance)
            self.acceptance = float(torch.cat(acceptance).mean())
            self.size *= min(1.25, max(0.4, math.exp(1.5 * (self.acceptance - ACCEPT))))
            self.moved += 1
            z = torch.cat([state.z for state in states])
            left = _correlation(start, z)
            if count >= fewest and (left < forgotten or left > STALLED * before):
                break
            before = left
        self.points = metric.out(z)
        if self.beta < 1:
            self.log_ratio = self._look()

    def moments(self) -> Tensor:
        """Means of free latents in each island, in deviations over all, (I, P)."""
        weights = self.log_weights.exp().unsqueeze(-1)
        points = self.points.unflatten(0, self.shape)
        means = (weights * points).sum(1)
        spread = ((weights * (points - means.mean(0)).square()).sum(1)).mean(0).sqrt()
        found: Tensor = (means - means.mean(0)) / (spread + torch.finfo(spread.dtype).tiny)
        return found

    def _recentre(self) -> None:
        """Go on in coordinates that suit the particles."""
        weights = self._weights()
        picked = systematic(weights.log().unsqueeze(0), torch.Generator(weights.device).manual_seed(0))[0]
        moved = self.path.recentre(self.points[picked], self._dense)
        if moved is not None:
            self.points = moved(self.points)

    def _metric(self, gradient: Tensor) -> Metric:
        """Centre and scale of the particles; where they lie in modes apart, the scale within these.

        Their covariance is that of all modes together. The inverse of E[g g'], g the gradient of the log density, is
        the mean curvature wherever they are: the same for a Gaussian, and never wider.
        """
        weights = self._weights()
        centre = weights @ self.points
        off = self.points - centre
        gradient = torch.where(gradient.isfinite(), gradient, 0.0)
        wide, steep = ((weights @ found.square()).clamp(min=1e-300).sqrt() for found in (off, gradient))
        if not self._dense:
            return Metric(centre, torch.where(wide * steep > APART, 1 / steep, wide))
        covariance = self._shrunk((off * weights.unsqueeze(-1)).mT @ off, wide)
        curvature = self._shrunk((gradient * weights.unsqueeze(-1)).mT @ gradient, steep)
        if float((covariance * curvature * torch.outer(wide * steep, wide * steep)).sum()) > APART**2 * len(centre):
            scale, info = torch.linalg.cholesky_ex(torch.cholesky_inverse(torch.linalg.cholesky(curvature)))
            wide = 1 / steep
        else:
            scale, info = torch.linalg.cholesky_ex(covariance)
        return Metric(centre, wide) if bool(info.any()) else Metric(centre, wide.unsqueeze(-1) * scale)

    def _shrunk(self, covariance: Tensor, spread: Tensor) -> Tensor:
        """Correlations, nearer to none by as many particles as tell them."""
        size = len(spread)
        less = size / (size + math.prod(self.shape))
        return (1 - less) * covariance / torch.outer(spread, spread) + less * torch.eye(size).to(covariance)

    def _weights(self) -> Tensor:
        """Of all particles, (S,)."""
        weights = self.log_weights.exp().flatten()
        found: Tensor = weights / weights.sum()
        return found

    @property
    def _dense(self) -> bool:
        return self.density.size <= DENSE and math.prod(self.shape) >= 5 * self.density.size

    def _cost(self) -> int:
        """What a particle costs, so that `at_once` go together."""
        return max(1, settings.memory // self.at_once)


def _finished(
    cloud: Islands, value: float, error: float, notes: list[str]
) -> tuple[float, float, str, tuple[tuple[float, float], ...]]:
    """The evidence by bridge sampling where that is surer, and modes in the proportions that weights tell."""
    log_p = cloud.log_density(cloud.points).reshape(cloud.shape)
    try:
        found = bridged(
            cloud.density, cloud.points.unflatten(0, cloud.shape), log_p, cloud.log_density, cloud.generator
        )
    except ValueError:  # too few effective draws
        return value, error, "smc", ()
    proposal = mixture(cloud.points)
    told = shares(proposal, cloud.log_density, cloud.points, cloud.generator) if len(proposal.parts) > 1 else None
    modes: tuple[tuple[float, float], ...] = ()
    if told is not None:
        cloud.choose(told.weights(cloud.points))
        cloud.move(2, 2, 0.0)
        modes = tuple(zip(told.shares.tolist(), told.errors.tolist(), strict=True))
    if abs(found.value - value) > 4 * math.hypot(found.error, error) + 0.1:
        notes.append(
            f"the evidence by the particles' weights, {value:.2f} ± {error:.2f}, and by bridge sampling, "
            f"{found.value:.2f} ± {found.error:.2f}, do not agree"
        )
        return value, max(error, abs(found.value - value)), "smc", modes
    surer = not found.error > error
    return (found.value, found.error, "bridge", modes) if surer else (value, error, "smc", modes)


def _held(step: Callable[..., Any], held: list[Tensor]) -> Callable[..., Any]:
    return lambda *rest: step(*held, *rest)


def _correlation(start: Tensor, z: Tensor) -> float:
    """Of where particles are with where they began, the mean over latents."""
    one, other = start - start.mean(0), z - z.mean(0)
    scale = one.square().sum(0).sqrt() * other.square().sum(0).sqrt()
    return float(((one * other).sum(0) / (scale + 1e-300)).mean())


def run(
    path: Path,
    *,
    islands: int = 8,
    particles: int = 128,
    mode: Mode = "graph",
    share: float = SHARE,
    deadline: Deadline | None = None,
    at_once: int | None = None,
    steps: Steps | None = None,
) -> Tempered:
    """Draws of the posterior at the end of a path, and its evidence.

    All that is random comes from torch's state: run it under `inference.running.quiet.quietly`.

    Args:
        path: see `inference.roads.tempering`.
        islands, particles: I, and N in each; islands of fewer than 2 have no error.
        mode: how leapfrog steps run.
        share: conditional effective sample size of a step, of the particles.
        deadline: when to stop at the latest: the draws are then of the temperature that was reached.
        at_once: particles that move together.
        steps: recorded for another run on this path, and used again.

    Raises:
        SamplingError: no first draw has a posterior density, or no particle can move.

    Example::

        with quietly(0):
            found = run(FromPrior(density))
        print(found.log_evidence, found.error)
    """
    began, deadline, notes = clock(), deadline or Deadline(), []
    cloud = Islands(path, islands, particles, steps or Steps(path, mode), at_once=at_once)
    while cloud.beta < 1 and len(cloud.betas) <= MOST and not deadline.over():
        cloud.weigh(share)
        if cloud.beta < 1:
            cloud.move(*MOVES, FORGOTTEN)
    whole = cloud.beta == 1
    if not whole:
        notes.append(f"stopped at inverse temperature {cloud.beta:.3g}: the draws are not of the posterior")
    value, error = log_mean(cloud.log_evidence)
    apart = float(cloud.moments().std(0).max()) if islands > 1 else math.nan
    each = tuple(cloud.log_evidence.tolist())
    cloud.pool()
    cloud.move(*LAST, FORGOTTEN_LAST)
    by: str = "smc"
    modes: tuple[tuple[float, float], ...] = ()
    if whole:
        value, error, by, modes = _finished(cloud, value, error, notes)
    if cloud.acceptance < 0.2:
        notes.append(f"particles hardly move: {cloud.acceptance:.0%} of the last moves were accepted")
    values, jacobian = cloud.density.constrain(cloud.points)
    joint = cloud.log_density(cloud.points)
    now = clock()
    lead = cloud.shape
    return Tempered(
        {name: found.unflatten(0, lead) for name, found in values.items()}, cloud.density.local,
        {"lp": joint.reshape(lead), "log_p": (joint - jacobian).reshape(lead)}, "smc", islands, particles,
        log_evidence=value, error=error, by=by, of_islands=each, modes=modes, apart=apart, betas=tuple(cloud.betas),
        moves=cloud.moved, acceptance=cloud.acceptance, whole=whole, notes=tuple(notes), seconds=now[0] - began[0],
        cpu=now[1] - began[1], points=cloud.points,
    )  # fmt: skip
