"""How far an encoder is from the truth: three numbers for each observation, and what lies between them.

    log p(x_n)  >=  ELBO of the best Gaussian over its codes  >=  ELBO of the encoder
           approximation gap                       amortisation gap            (Cremer et al. 2018)

log p(x_n) comes from importance sampling, whose bound closes with the number of samples (Burda et al. 2016), or from
annealed importance sampling: Hamiltonian transitions that lead from the best Gaussian to the posterior (Neal 2001;
Wu et al. 2017, "On the quantitative analysis of decoder-based generative models").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from inference.codes import Codes, Encoder, Proposal, Values, check_count, share
from inference.data import as_batch
from inference.memory import quietly
from inference.posterior import Posterior
from inference.semi_amortised import Covariance, Refined, log_normal, refine, traced
from zoo.base import Batch, ModelGuide

GAP_GLOBALS = 10  # draws of the global latents, from the guide
LEAPFROG = 5  # steps of a Hamiltonian transition
SAMPLING = {"importance": "importance sampling", "annealed": "annealed importance sampling"}
ACCEPT = 0.65  # the acceptance rate that step sizes are adapted to (Beskos et al. 2013)


@dataclass(frozen=True)
class Gap:
    """Three numbers for each observation, in nats, (N,).

    Args:
        log_marginal: log p(x_n).
        best: ELBO of the best Gaussian of the family named by `covariance`.
        encoder: ELBO of the encoder.
        error: standard error of `log_marginal` from the samples behind it; too small where a proposal misses mass.
        method: how `log_marginal` was found.
        covariance: of the best Gaussian.
    """

    log_marginal: Tensor
    best: Tensor
    encoder: Tensor
    error: Tensor
    method: str
    covariance: Covariance

    @property
    def approximation(self) -> Tensor:
        """What the family costs: log p(x_n) minus the ELBO of the best Gaussian, (N,)."""
        return self.log_marginal - self.best

    @property
    def amortisation(self) -> Tensor:
        """What sharing one encoder costs: ELBO of the best Gaussian minus that of the encoder, (N,)."""
        return self.best - self.encoder

    def __str__(self) -> str:
        """In words."""
        family = "factorised" if self.covariance == "diagonal" else "full-covariance"
        lines = [
            (f"log p(x), by {SAMPLING[self.method]}", self.log_marginal),
            (f"ELBO of the best {family} Gaussian", self.best),
            ("ELBO of the encoder", self.encoder),
            ("approximation gap, for want of a richer family", self.approximation),
            ("amortisation gap, for want of a better encoder", self.amortisation),
        ]
        head = f"nats per observation, mean ± standard error over {len(self.best)} observations"
        return "\n".join([head, *(f"  {name}: {_mean(value)}" for name, value in lines)])


def log_marginal(
    pair: ModelGuide,
    data: Any,
    *,
    particles: int = 5000,
    posterior: Posterior | None = None,
    proposal: Literal["encoder"] | Refined = "encoder",
    seed: int = 0,
) -> Tensor:
    """log p(x_n), (N,), in nats: the importance-weighted bound, in bounded memory whatever N and `particles` are.

    With global latents t it is the log predictive density, log of the mean of p(x_n | t) over their draws. Enumerated
    latents are summed out exactly.

    Args:
        pair: a fitted pair.
        data: see `inference.data`; any rows.
        particles: importance samples, dealt out to the draws of the globals.
        posterior: of the global latents; by default draws from the guide.
        proposal: where codes come from: the encoder, or what `refine` found for these very data.
        seed: seeds them.

    Raises:
        ValueError: the guide is a point mass, or the proposal belongs to other data.
    """
    check_count("particles", particles)
    batch = as_batch(pair, data)
    codes = Codes.of(pair, batch)
    if codes.drawn and proposal == "encoder":
        codes.check_continuous("log_marginal")
    if isinstance(proposal, Refined):
        codes.check_continuous("log_marginal with a refined proposal", density=False)
        if len(proposal.loc) != batch.size:
            raise ValueError(f"proposal: refined for {len(proposal.loc)} rows, the data have {batch.size}")
    elif proposal != "encoder":
        raise ValueError(f"proposal: expected 'encoder' or what `refine` returns, got {proposal!r}")
    source: Proposal = proposal if isinstance(proposal, Refined) else Encoder()
    with quietly(seed, pair):
        return _importance(codes, batch, [source], codes.global_draws(batch, posterior), particles)[0]


def gap(
    pair: ModelGuide,
    data: Any,
    *,
    particles: int = 5000,
    method: Literal["importance", "annealed"] = "importance",
    covariance: Covariance = "diagonal",
    steps: int = 500,
    temperatures: int = 100,
    chains: int = 16,
    posterior: Posterior | None = None,
    seed: int = 0,
) -> Gap:
    """What an encoder loses, and to what: log p(x_n), the best Gaussian's ELBO and the encoder's, for each row.

    With global latents t each of the three is averaged over draws of t: what the guide over t loses is left out.

    Args:
        pair: a fitted pair.
        data: see `inference.data`; any rows.
        particles: importance samples (for each draw of the globals): one half from the encoder, one from the best
            Gaussian, weighed by the mixture of both (Veach & Guibas 1995). Also how many go into each ELBO, up to 1000.
        method: how to find log p(x): `importance`, or `annealed` for codes that no Gaussian comes near.
        covariance: `diagonal`, the best factorised Gaussian, or `full`.
        steps: of the optimiser that finds it.
        temperatures: stations of the annealed path.
        chains: annealed chains for each row (and each draw of the globals).
        posterior: of the global latents; by default 10 draws from the guide.
        seed: seeds everything drawn.

    Raises:
        ValueError: the guide draws no code or is a point mass, or options out of range.
    """
    for name, value, least in (("particles", particles, 2), ("temperatures", temperatures, 2), ("chains", chains, 2)):
        check_count(name, value, least)
    if method not in ("importance", "annealed"):
        raise ValueError(f"method: expected 'importance' or 'annealed', got {method!r}")
    batch = as_batch(pair, data)
    codes = Codes.of(pair, batch)
    codes.check_continuous("gap")
    with quietly(seed, pair):
        globals_ = codes.global_draws(batch, posterior, GAP_GLOBALS)
    drawn = {name: torch.cat([values[name] for values in globals_])[None] for name in codes.globals}
    same = Posterior(drawn, chains=1, size=len(globals_)) if drawn else None
    options: dict[str, Any] = {"steps": steps, "covariance": covariance, "posterior": same}
    refined = refine(pair, batch, samples=min(particles, 1000), seed=seed, **options)
    with quietly(seed + 1, pair):
        proposals: list[Proposal] = [refined] if codes.auxiliary else [Encoder(), refined]
        found = [
            _importance(codes, batch, proposals, [fixed], particles)
            if method == "importance"
            else Annealing(codes, refined, temperatures, chains)(batch, fixed)
            for fixed in globals_
        ]
    marginal = torch.stack([value for value, _ in found]).mean(0)
    error = torch.stack([error for _, error in found]).square().mean(0).div(len(found)).sqrt()
    return Gap(marginal, refined.elbo, refined.encoder_elbo, error, method, covariance)


def _importance(
    codes: Codes, batch: Batch, proposals: list[Proposal], globals_: list[Values], particles: int
) -> tuple[Tensor, Tensor]:
    """Log of the mean importance weight of each row and its standard error, both (N,)."""
    result = torch.empty(batch.size, dtype=codes.pair.dtype, device=codes.pair.device)
    error = torch.zeros_like(result)
    # With nothing to sample each draw of the globals gives an exact number.
    number = max(particles if codes.drawn else 1, len(globals_) * len(proposals))
    turns = [(proposal, fixed) for fixed in globals_ for proposal in proposals]
    for rows, part in codes.rows(batch):
        total = squares = result.new_full((part.size,), -math.inf)
        for t, where in share(number, len(turns)):
            proposal, fixed = turns[t]
            for piece in codes.draws_at_once(where.stop - where.start, part, len(proposals)):
                weight = _log_weight(codes, part, rows, piece.stop - piece.start, proposal, proposals, fixed)
                total = torch.logaddexp(total, weight.logsumexp(0))
                squares = torch.logaddexp(squares, (2 * weight).logsumexp(0))
        result[rows] = total - math.log(number)
        # Relative variance of the mean weight: sum w^2 / (sum w)^2 - 1 / K.
        error[rows] = ((squares - 2 * total).exp() - 1 / number).clamp(min=0).sqrt()
    return result, error


def _log_weight(
    codes: Codes, part: Batch, rows: slice, count: int, proposal: Proposal, mixture: list[Proposal], fixed: Values
) -> Tensor:
    """log p(x, z) - log of the mixture's density at `count` codes from one of its parts, (S, B)."""
    if not codes.drawn:
        return codes.log_joint(part, {}, fixed)
    values, log_q = proposal.propose(codes, part, rows, count, fixed)
    if len(mixture) > 1:
        parts = [log_q if other is proposal else other.log_prob(codes, part, rows, values, fixed) for other in mixture]
        log_q = torch.logsumexp(torch.stack(parts), 0) - math.log(len(mixture))
    return codes.log_joint(part, values, fixed) - log_q


class Annealing:
    """Annealed importance sampling of each row, from the refined Gaussian to its posterior.

    In the coordinates v in which that Gaussian is N(0, I), log pi_b(v) = (1 - b) log N(v) + b log p(x, v), from b = 0
    to 1. Step sizes of each row at each b are learned in a run of their own, so that the estimate is unbiased.
    """

    def __init__(self, codes: Codes, refined: Refined, temperatures: int, chains: int) -> None:
        self.codes, self.refined, self.temperatures, self.chains = codes, refined, temperatures, chains
        self._ascent = traced(self._density_and_gradient, 2 * LEAPFROG * temperatures)

    def __call__(self, batch: Batch, fixed: Values) -> tuple[Tensor, Tensor]:
        """log p(x_n) and its standard error, both (N,)."""
        values, errors = [], []
        # Gradients hold on to some four tensors for each chain.
        for rows, part in self.codes.rows(batch, 1 + self.chains * 4 // 16):
            step = 0.5 * torch.ones(self.temperatures, part.size).to(self.refined.loc)
            self._run(part, rows, fixed, step, learn=True)
            weight = self._run(part, rows, fixed, step, learn=False)  # (S, B)
            total = weight.logsumexp(0)
            values.append(total - math.log(self.chains))
            spread = ((2 * weight).logsumexp(0) - 2 * total).exp() - 1 / self.chains
            errors.append(spread.clamp(min=0).mul(self.chains / (self.chains - 1)).sqrt())
        return torch.cat(values), torch.cat(errors)

    def _run(self, part: Batch, rows: slice, fixed: Values, step: Tensor, learn: bool) -> Tensor:
        """Log weights of all chains, (S, B); `step`, (temperatures, B), is read, or written when learning."""
        loc = self.refined.loc
        v = torch.randn(self.chains, *loc[rows].shape).to(loc)
        log_p, slope = self._at(v, part, rows, fixed)
        weight = torch.zeros_like(log_p)
        size = step[0].clone()
        for t in range(self.temperatures):
            before, beta = t / self.temperatures, (t + 1) / self.temperatures
            weight = weight + (beta - before) * (log_p - log_normal(v))
            if t == self.temperatures - 1:
                break  # a move at b = 1 would change no weight
            if learn:
                step[t] = size
            v, log_p, slope, accepted = self._move(v, log_p, slope, step[t], beta, part, rows, fixed)
            size = size * (0.2 * (accepted.mean(0) - ACCEPT)).exp()
        return weight

    def _move(
        self,
        v: Tensor,
        log_p: Tensor,
        slope: Tensor,
        step: Tensor,
        beta: float,
        part: Batch,
        rows: slice,
        fixed: Values,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One Hamiltonian transition that leaves pi_b as it is; also its acceptance probability, (S, B)."""

        def energy(v: Tensor, log_p: Tensor, momentum: Tensor) -> Tensor:
            return -(1 - beta) * log_normal(v) - beta * log_p + 0.5 * momentum.square().sum(-1)

        momentum = torch.randn_like(v)
        start = energy(v, log_p, momentum)
        new, new_p, new_slope = v, log_p, slope
        size = step[:, None]
        for _ in range(LEAPFROG):
            momentum = momentum + 0.5 * size * (beta * new_slope - (1 - beta) * new)
            new = new + size * momentum
            new_p, new_slope = self._at(new, part, rows, fixed)
            momentum = momentum + 0.5 * size * (beta * new_slope - (1 - beta) * new)
        # Where a trajectory diverges its energy is not a number: refused.
        accept = (start - energy(new, new_p, momentum)).nan_to_num(-math.inf).clamp(max=0).exp()
        taken = torch.rand_like(accept) < accept
        wide = taken[..., None]
        return (
            torch.where(wide, new, v),
            torch.where(taken, new_p, log_p),
            torch.where(wide, new_slope, slope),
            accept,
        )

    def _at(self, v: Tensor, part: Batch, rows: slice, fixed: Values) -> tuple[Tensor, Tensor]:
        tril = self.refined.tril
        scale = self.refined.scale[rows] if tril is None else tril[rows]
        found: tuple[Tensor, Tensor] = self._ascent(v, self.refined.loc[rows], scale, dict(fixed), part.fields())
        return found

    def _density_and_gradient(
        self, v: Tensor, loc: Tensor, scale: Tensor, fixed: dict[str, Tensor], fields: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """log p(x, v), (S, B), and its gradient in v, (S, B, L)."""
        blank = loc.new_empty(0)
        local = Refined(loc, scale, None if scale.ndim == 2 else scale, blank, blank, blank, self.refined.space)
        part = Batch(len(loc), len(loc), **fields)
        with torch.enable_grad():
            v = v.detach().requires_grad_()
            values, change = local.space.values(local.at(v))
            log_p = self.codes.log_joint(part, values, fixed) + change + local.log_det()
            return log_p.detach(), torch.autograd.grad(log_p.sum(), v)[0]


def _mean(value: Tensor) -> str:
    error = f" ± {float(value.std()) / math.sqrt(len(value)):.3g}" if len(value) > 1 else ""
    return f"{float(value.mean()):.4g}{error}"
