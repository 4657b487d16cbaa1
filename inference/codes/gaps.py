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

from inference.codes.annealing import Annealing, log_mean
from inference.codes.reading import Codes, Encoder, Proposal, Values
from inference.codes.refinement import Covariance, Refined, refine
from inference.data.check import check
from inference.posterior.draws import Posterior
from inference.running.effort import check_effort
from inference.running.quiet import quietly
from inference.running.words import check_count
from zoo.base import Batch, ModelGuide
from zoo.settings import settings
from zoo.state.memory import check_room
from zoo.threads.turns import in_turn

SAMPLING = {"importance": "importance sampling", "annealed": "annealed importance sampling"}


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


@in_turn
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
    given = check(pair, data)
    batch, codes = given.batch, Codes.of(given)
    if codes.drawn and proposal == "encoder":
        codes.check_continuous("log_marginal")
    if isinstance(proposal, Refined):
        codes.check_continuous("log_marginal with a refined proposal", density=False)
        if len(proposal.loc) != batch.size:
            raise ValueError(f"proposal: refined for {len(proposal.loc)} rows, the data have {batch.size}")
    elif proposal != "encoder":
        raise ValueError(f"proposal: expected 'encoder' or what `refine` returns, got {proposal!r}")
    check_effort(given, "particles", particles)
    source: Proposal = proposal if isinstance(proposal, Refined) else Encoder()
    with quietly(seed, pair):
        return _importance(codes, batch, [source], codes.global_draws(batch, posterior), particles)[0]


@in_turn
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
    check_count("steps", steps)
    if method not in ("importance", "annealed"):
        raise ValueError(f"method: expected 'importance' or 'annealed', got {method!r}")
    given = check(pair, data)
    batch, codes = given.batch, Codes.of(given)
    codes.check_continuous("gap")
    if method == "importance":
        check_effort(given, "particles", particles)
    else:  # a row at a time: its chains, and their step sizes
        check_room("chains", chains, 4 * chains * codes.size * pair.dtype.itemsize)
        check_room("temperatures", temperatures, temperatures * pair.dtype.itemsize)
        check_effort(given, "temperatures", temperatures, chains)
    with quietly(seed, pair):
        globals_ = codes.global_draws(batch, posterior, settings.gap_draws)
    drawn = {name: torch.cat([values[name] for values in globals_])[None] for name in codes.globals}
    same = Posterior(drawn, chains=1, size=len(globals_)) if drawn else None
    options: dict[str, Any] = {"steps": steps, "covariance": covariance, "posterior": same}
    refined = refine(pair, given, samples=min(particles, 1000), seed=seed, **options)
    with quietly(seed + 1, pair):
        proposals: list[Proposal] = [refined] if codes.auxiliary else [Encoder(), refined]
        annealing = Annealing(codes, refined, temperatures, chains)
        found = [
            _importance(codes, batch, proposals, [fixed], particles)
            if method == "importance"
            else annealing(batch, fixed)
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
        for some, (proposal, fixed) in codes.draws(number, part, turns, len(proposals)):
            weight = _log_weight(codes, part, rows, some.stop - some.start, proposal, proposals, fixed)
            total = torch.logaddexp(total, weight.logsumexp(0))
            squares = torch.logaddexp(squares, (2 * weight).logsumexp(0))
        result[rows], error[rows] = log_mean(total, squares, number)
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


def _mean(value: Tensor) -> str:
    error = f" ± {float(value.std()) / math.sqrt(len(value)):.3g}" if len(value) > 1 else ""
    return f"{float(value.mean()):.4g}{error}"
