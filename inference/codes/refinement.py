"""Semi-amortised inference: each observation's own Gaussian over its codes, started at the encoder.

For observation n the codes, unconstrained, have q_n(u) = N(u | m_n, T_n T_n'), T_n diagonal or lower triangular, and
(m_n, T_n) climb the ELBO of that observation alone,

    E_q[log p(x_n, z(u) | t) + log |dz/du| - log q_n(u)],

averaged over draws t of the global latents; the pair stays as it is. With T_n diagonal this is the best factorised
Gaussian, which tells how much an ELBO loses to the encoder and how much to the family (`inference.codes.gaps`).

Kim et al. 2018, "Semi-amortized variational autoencoders"; Cremer et al. 2018, "Inference suboptimality in variational
autoencoders"; the gradient leaves out the score, so that it has no noise where q is the posterior: Roeder et al. 2017,
"Sticking the landing".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import biject_to

from inference.codes.reading import Codes, Encoder, Proposal, Values
from inference.compiling.fallback import Fastest
from inference.data.check import check
from inference.fitting.adam import Adam, advance
from inference.fitting.schedule import Averaging, learning_rate
from inference.posterior.draws import Posterior
from inference.running.effort import check_effort
from inference.running.naming import naming_the_site
from inference.running.quiet import quietly
from inference.running.words import check_count
from inference.sampling.hamiltonian import Metric
from zoo.base import Batch, ModelGuide
from zoo.settings import settings
from zoo.state.memory import check_room
from zoo.threads.turns import in_turn

Covariance = Literal["diagonal", "full"]
BETAS = (0.9, 0.99)  # of Adam: a few hundred steps have no time for a longer memory
NOISE = 8  # samples a step, in antithetic pairs
SAMPLES = 200  # fresh ones for the ELBOs afterwards


class Space:
    """The drawn codes of one observation as a point u of R^L; z(u) by the usual bijections onto their supports."""

    def __init__(self, codes: Codes) -> None:
        self._sites = []
        for name, site in codes.drawn.items():
            transform = biject_to(codes.supports[name])
            self._sites.append((name, transform, transform.inverse_shape(site.event_shape)))
        self.size = sum(shape.numel() for _, _, shape in self._sites)  # L

    def values(self, u: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """(S, B, L) -> site -> (S, B, *event), and log |dz/du|, (S, B)."""
        found, log_det, begin = {}, u.new_zeros(u.shape[:-1]), 0
        for name, transform, shape in self._sites:
            end = begin + shape.numel()
            part = u[..., begin:end].reshape(*u.shape[:-1], *shape)
            found[name] = transform(part)
            change = transform.log_abs_det_jacobian(part, found[name])
            log_det = log_det + change.reshape(*u.shape[:-1], -1).sum(-1)
            begin = end
        return found, log_det

    def flatten(self, values: Values) -> Tensor:
        """The inverse of `values`: site -> (S, B, *event) to (S, B, L)."""
        parts = [transform.inv(values[name]) for name, transform, _ in self._sites]
        parts = [
            part.reshape(*part.shape[: part.ndim - len(shape)], -1)
            for part, (_, _, shape) in zip(parts, self._sites, strict=True)
        ]
        return torch.cat(parts, -1)


@dataclass(frozen=True)
class Refined:
    """A Gaussian for each observation over its codes, unconstrained. Also a proposal for `inference.codes.gaps`.

    Args:
        loc: (N, L).
        scale: standard deviations, (N, L).
        tril: Cholesky factors of the covariances, (N, L, L), or None where they are diagonal.
        elbo, encoder_elbo: of each observation after and before, from equally many fresh samples, (N,), in nats.
        error: standard error of their difference that comes from those samples, (N,).
        space: how unconstrained codes become values of sites.
    """

    loc: Tensor
    scale: Tensor
    tril: Tensor | None
    elbo: Tensor
    encoder_elbo: Tensor
    error: Tensor
    space: Space

    def draws(self, n: int, *, seed: int = 0) -> dict[str, Tensor]:
        """`n` draws of the codes, site -> (1, n, N, *event).

        Raises:
            ValueError: fewer than one.
        """
        check_count("n", n)
        check_room("n", n, n * self.loc.numel() * self.loc.element_size())
        with quietly(seed):
            values, _ = self.space.values(self.metric().out(torch.randn(n, *self.loc.shape).to(self.loc)))
        return {name: value[None] for name, value in values.items()}

    def metric(self, rows: slice = slice(None)) -> Metric:
        """The map of standard normal noise onto the unconstrained codes of these rows."""
        return Metric(self.loc[rows], (self.scale if self.tril is None else self.tril)[rows])

    def propose(self, codes: Codes, part: Batch, rows: slice, count: int, fixed: Values) -> tuple[Values, Tensor]:
        """See `inference.codes.reading.Proposal`."""
        noise, metric = torch.randn(count, part.size, self.space.size).to(self.loc), self.metric(rows)
        values, change = self.space.values(metric.out(noise))
        return values, log_normal(noise) - metric.log_det() - change

    def log_prob(self, codes: Codes, part: Batch, rows: slice, values: Values, fixed: Values) -> Tensor:
        """See `inference.codes.reading.Proposal`."""
        u, metric = self.space.flatten(values), self.metric(rows)
        return log_normal(metric.into(u)) - metric.log_det() - self.space.values(u)[1]


@in_turn
def refine(
    pair: ModelGuide,
    data: Any,
    *,
    steps: int = 500,
    lr: float = 0.1,
    covariance: Covariance = "diagonal",
    samples: int = SAMPLES,
    posterior: Posterior | None = None,
    seed: int = 0,
) -> Refined:
    """Fit a Gaussian to the codes of each observation, starting at the encoder's; the pair is not changed.

    Args:
        pair: a fitted pair.
        data: see `inference.data`.
        steps: of Adam, with a cosine decay to zero; the last fifth is averaged.
        lr: step size, in units of the encoder's standard deviations.
        covariance: `diagonal` (the best factorised Gaussian) or `full`.
        samples: fresh ones for each ELBO afterwards.
        posterior: of the global latents, which the ELBO is averaged over; by default draws from the guide.
        seed: seeds everything drawn.

    Raises:
        ValueError: the guide draws no code, or is a point mass; or options out of range.
    """
    check_count("steps", steps)
    check_count("samples", samples, least=2)
    if not (isinstance(lr, (int, float)) and 0 < lr < math.inf):
        raise ValueError(f"lr: expected a finite number above 0, got {lr!r}")
    if covariance not in ("diagonal", "full"):
        raise ValueError(f"covariance: expected 'diagonal' or 'full', got {covariance!r}")
    given = check(pair, data)
    batch, codes = given.batch, Codes.of(given)
    codes.check_continuous("refine")
    check_effort(given, "samples", samples)
    space = Space(codes)
    parts: list[tuple[Tensor, Tensor, Tensor | None]] = []
    with quietly(seed, pair):
        globals_ = codes.global_draws(batch, posterior)
        climb = _Climb(codes, space, globals_, steps, lr)
        # Gradients hold on to some four tensors for each sample; the start, to all of its draws.
        start_draws = max(settings.start_draws, 10 * space.size)
        held = start_draws * space.size + (4 * space.size**2 if covariance == "full" else 0)
        cost = 1 + NOISE * 4 // 16 + held // (16 * codes.width)
        for _, part in codes.rows(batch, cost):
            start = _start(codes, space, part, globals_, covariance, start_draws)
            parts.append(climb(part, *start))
        loc, scale = (torch.cat(which) for which in ([p[0] for p in parts], [p[1] for p in parts]))
        tril = None if covariance == "diagonal" else torch.cat([p[2] for p in parts if p[2] is not None])
        blank = loc.new_empty(0)
        found = Refined(loc, scale, tril, blank, blank, blank, space)
        after, after_error = elbo(codes, batch, found, globals_, samples)
        before, before_error = elbo(codes, batch, Encoder(), globals_, samples)
    error = (after_error.square() + before_error.square()).sqrt()
    return Refined(loc, scale, tril, after, before, error, space)


def elbo(codes: Codes, batch: Batch, proposal: Proposal, globals_: list[Values], samples: int) -> tuple[Tensor, Tensor]:
    """ELBO of each observation under a proposal and its standard error, both (N,)."""
    mean = torch.empty(batch.size, dtype=codes.pair.dtype, device=codes.pair.device)
    error = torch.empty_like(mean)
    samples = max(samples, len(globals_))
    for rows, part in codes.rows(batch):
        centre: Tensor | None = None  # so that squares do not cancel
        first = second = mean.new_zeros(part.size)
        for some, fixed in codes.draws(samples, part, globals_):
            values, log_q = proposal.propose(codes, part, rows, some.stop - some.start, fixed)
            weight = codes.log_joint(part, values, fixed) - log_q  # (S, B)
            centre = weight[0] if centre is None else centre
            first = first + (weight - centre).sum(0) / samples
            second = second + (weight - centre).square().sum(0) / samples
        mean[rows] = first if centre is None else centre + first
        error[rows] = ((second - first.square()).clamp(min=0) / (samples - 1)).sqrt()
    return mean, error


def log_normal(noise: Tensor) -> Tensor:
    """log N(noise | 0, I), (..., L) -> (...)."""
    return -0.5 * (noise.square().sum(-1) + noise.shape[-1] * math.log(2 * math.pi))


def _start(
    codes: Codes, space: Space, part: Batch, globals_: list[Values], covariance: Covariance, number: int
) -> tuple[Tensor, Tensor]:
    """Mean and scale of the encoder's unconstrained codes: (B, L), and (B, L) or a Cholesky factor (B, L, L)."""
    kept = [
        space.flatten(codes.propose(part, some.stop - some.start, fixed)[0])
        for some, fixed in codes.draws(number, part, globals_)
    ]
    u = torch.cat(kept)  # (S, B, L)
    loc, sd = u.mean(0), u.std(0)
    if covariance == "diagonal":
        return loc, sd
    unit = ((u - loc) / sd).movedim(0, -1)  # (B, L, S)
    correlation = unit @ unit.mT / (number - 1)
    shrunk = 0.99 * correlation + 0.01 * torch.eye(space.size, dtype=u.dtype, device=u.device)
    return loc, sd[..., None] * torch.linalg.cholesky(shrunk)


class _Climb:
    """Adam on the ELBO of each row. Coordinates: u = loc + scale (a + C noise), so a step suits any scale."""

    def __init__(self, codes: Codes, space: Space, globals_: list[Values], steps: int, lr: float) -> None:
        self.codes, self.space, self.globals, self.steps, self.lr = codes, space, globals_, steps, lr
        self._step = Fastest.of(self._by_hand, codes.pair.name, "refining", steps)

    def __call__(self, part: Batch, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The climbed mean and standard deviations, (B, L), and the Cholesky factor, (B, L, L), of full covariance."""
        start = Metric(loc, scale)
        a = torch.zeros_like(loc)
        c = torch.zeros_like(scale)  # C is exp(c), or the strict lower triangle of c with exp on the diagonal
        rate = torch.zeros((), dtype=torch.float64, device=loc.device)
        step_of = self._step.bind(a, c, Adam.of([a, c], loc.device).tensors(), rate, loc, scale)
        averaging = Averaging([a, c])
        for step in range(self.steps):
            rate.fill_(self.lr * learning_rate("cosine", step, self.steps))
            chosen = torch.randint(len(self.globals), (NOISE,))
            fixed = {name: torch.cat([self.globals[s][name] for s in chosen]) for name in self.globals[0]}
            step_of(fixed, part.fields())
            if step >= 0.8 * self.steps:
                averaging.add()
        averaging.apply()
        loc, factor = start.out(a[None])[0], _factor(a, c)
        if start.diagonal:
            return loc, scale * factor, None
        tril = scale @ factor
        return loc, tril.square().sum(-1).sqrt(), tril

    def _by_hand(
        self,
        a: Tensor,
        c: Tensor,
        adam: dict[str, list[Tensor]],
        rate: Tensor,
        loc: Tensor,
        scale: Tensor,
        fixed: dict[str, Tensor],
        fields: dict[str, Tensor],
    ) -> tuple[()]:
        """One step on the ELBO, summed over rows, in a and c, in place."""
        half = torch.randn((NOISE // 2, *loc.shape), dtype=loc.dtype, device=loc.device)
        noise = torch.cat([half, -half])  # (S, B, L)
        size = len(loc)
        with torch.enable_grad(), naming_the_site():
            leaves = [a.detach().requires_grad_(), c.detach().requires_grad_()]
            unit = Metric(leaves[0], _factor(*leaves)).out(noise)
            back = Metric(a, _factor(a, c)).into(unit)
            values, change = self.space.values(Metric(loc, scale).out(unit))
            # log q up to its parameters, which are held fixed in it: its gradient in them is noise around zero.
            gain = self.codes.log_joint(Batch(size, size).but(**fields), values, fixed) + change
            gain = gain + 0.5 * back.square().sum(-1)
            gradients = torch.autograd.grad(-gain.mean(0).sum(), leaves)
        with torch.no_grad():
            one = rate.new_ones((), dtype=torch.float32)
            # A row whose loss overflows stays where it is for this step, and no other row is held up by it.
            finite = [gradient.nan_to_num(0, 0, 0) for gradient in gradients]
            advance([a, c], finite, Adam.holding(adam), rate, one, one, betas=BETAS)
        return ()


def _factor(a: Tensor, c: Tensor) -> Tensor:
    """C: positive numbers exp(c), or the lower triangle of c, its diagonal through exp."""
    return c.exp() if c.ndim == a.ndim else c.tril(-1) + c.diagonal(dim1=-2, dim2=-1).exp().diag_embed()
