"""Variational autoregressive model (variational recurrent neural network): latent states beside a recurrent one.

For sequences n = 1..N and their steps t = 1..T_n, with a recurrent network of parameters theta and z_n0, x_n0 a start,

    h_nt = RNN(h_{n,t-1}, x_{n,t-1}, z_{n,t-1}; theta)
    z_nt | h_nt       ~ Normal(a(h_nt), diag(b(h_nt))^2)           latent state, in R^L
    x_nt | z_nt, h_nt ~ F(f(h_nt, z_nt))                           observation, D features, independent given f

where F is Normal, with mean and deviation from f, or Bernoulli; a and b and f are networks. A missing feature adds no
factor, and the network is told a zero and that it is missing. With `transition="linear"` nothing but the last state is
carried on: a linear-Gaussian state-space model if F is Normal,

    z_n1 ~ Normal(m, diag(s)^2)     z_nt ~ Normal(A z_{n,t-1}, diag(q)^2)     x_nt ~ Normal(C z_nt + d, diag(r)^2)

Gaussian features stand as (x_d - c_d) / u_d in all of this: their means c and deviations u are set by `fit`.

The guide multiplies the prior of each state by what observations say of it, a Gaussian factor g, and normalises:

    q(z_n | x_n) = prod_t q(z_nt | z_n1..z_{n,t-1}, x_n)     q(z_nt | ...) ~ Normal(a(h_nt), diag(b(h_nt))^2) g_nt(z_nt)

with g_nt from h_nt and x_nt, `filter`, or from h_nt and x_nt..x_nT, `smooth`, read backwards by a network. Where there
is nothing to be seen (past the end, or a missing step to a filter) g is 1, so q is the prior and costs nothing. For
linear transitions g has a full precision matrix and depends on x alone: it is what a linear-Gaussian model, of matrices
of its own or (`exact`) of this one's, makes of x. So the smoother's q can be the posterior
(`zoo.parts.recurrent.affine`).

All sites are local: `z`, the path of states, and `x`. As z_nt listens to x_{n,t-1}, paths have no prior of their own:
where x is given z is drawn with it as the past, and where it is not, both are drawn in turn, step by step
(`zoo.parts.recurrent.latent_path`). So `simulate` and `inference.generate` draw from p(x, z); `inference.predict` draws
each x_nt again given z_n1..z_nt and the observations before it, which completes missing steps.

Held against, in `test_variational_autoregressive.py`: in the linear-Gaussian case, statsmodels' Kalman filter, with
gaps: log weights of the exact smoother are constant and equal to its log-likelihood; bounds of learned guides are never
above it, and the smoother's within 1 %.

References: Chung et al. (2015), "A recurrent latent variable model for sequential data"; Fraccaro et al. (2016),
"Sequential neural models with stochastic layers" (smoothing); Sønderby et al. (2016), "Ladder variational
autoencoders" (the product of prior and evidence).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

import pyro
import torch
from torch import Tensor, nn

from zoo.base import Batch, ModelGuide, register
from zoo.parts import layouts, likelihoods, nets
from zoo.parts.nets import mlp, positive
from zoo.parts.recurrent import affine
from zoo.parts.recurrent.cells import Cell, Recurrence
from zoo.parts.recurrent.dynamics import Chain, Dynamics, Emission, Evidence, normal
from zoo.parts.recurrent.latent_path import LatentPath, Observations
from zoo.parts.sequence import inside, steps_of, whole
from zoo.parts.units import Units
from zoo.suiting import Suit, left_out

MOST = 15.0  # log of the largest precision of evidence over that of the prior


@register("variational_autoregressive")
class VariationalAutoregressive(ModelGuide):
    """Variational recurrent neural network (Chung et al. 2015).

    Its joint density stands at the top of this file. `x` is (N, T, D); `lengths`, (N,), says how
    many steps of each sequence count. NaN is a missing value. What stands past the end is ignored.

    Args:
        features: the number of features D.
        latent: dimension of a state L; it may exceed D.
        emission: distribution F of a feature, `gaussian` or `bernoulli`.
        transition: how states move, by a recurrent `network` or `linear`.
        guide: q(z | x): each state given the observations up to it, `filter`, or all of them, `smooth`.
        exact: only for linear transitions and Gaussian emissions: the evidence of the guide is computed, not learned.
            The bound of a smoother is then the log-likelihood itself, whatever is drawn.
        cell: recurrent networks, `gru` or `lstm`.
        hidden: their size H, and width of the hidden layer of the other networks.
        steps: the number of steps T of simulated sequences.

    Raises:
        ValueError: `exact` with a network, or with other than Gaussian emissions.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {"z": ("step", "latent"), "x": ("step", "feature")}
    adapts: ClassVar = ("emission",)

    def __init__(
        self,
        features: int = 2,
        latent: int = 2,
        emission: Emission = "gaussian",
        transition: Literal["network", "linear"] = "network",
        guide: Literal["filter", "smooth"] = "smooth",
        exact: bool = False,
        cell: Cell = "gru",
        hidden: int = 16,
        steps: int = 5,
    ) -> None:
        super().__init__()
        if exact and (transition, emission) != ("linear", "gaussian"):
            raise ValueError(
                "variational_autoregressive: exact=True goes with transition='linear' and emission='gaussian', "
                f"not '{transition}' and '{emission}'"
            )
        self.steps, self.linear, self.smooth, self.exact = steps, transition == "linear", guide == "smooth", exact
        gaussian, inputs = emission == "gaussian", Dynamics.inputs(latent, features)
        if transition == "linear":
            net: nn.Module = affine.Memoryless(features)
            prior: nn.Module = affine.AffinePrior(latent)
            decoder: nn.Module = affine.AffineDecoder(latent, features, gaussian)
        else:
            net, prior = Recurrence(cell, inputs, hidden), NetworkPrior(latent, hidden)
            decoder = NetworkDecoder(latent, features, hidden, gaussian)
        self.dynamics = Dynamics(net, prior, decoder, emission, latent, features)
        if transition == "linear" and not exact:
            self.evidence: nn.Module = affine.Information(latent, features, ahead=self.smooth)
        elif transition == "network":
            summary = 2 * features + (hidden if self.smooth else 0)
            if self.smooth:
                self.backward_net = Recurrence(cell, 2 * features, hidden)
            self.evidence = Gain(hidden + summary, latent, hidden)

    @classmethod
    def suits(cls, data: Batch, given: Mapping[str, Any]) -> Suit:
        """The features of a step, and its emission."""
        offers = {"binary": "bernoulli", "real": "gaussian"}
        offers = {"real": "gaussian"} if given.get("exact") else offers
        found = likelihoods.suited(data.x, given, offers, "emission")
        return found | Suit({"features": layouts.features(data)} if left_out(given, "features") else {})

    def model(self, batch: Batch) -> Tensor:
        """Sample p(x, z); returns x, (B, T, D)."""
        chain = self._chain(batch)
        with batch.plate():
            z = pyro.sample("z", LatentPath(chain))  # (*, B, T, L)
            return pyro.sample("x", Observations(chain, z), obs=batch.x)

    def guide(self, batch: Batch) -> Tensor:
        """Sample q(z | x); returns z, (B, T, L)."""
        nets.seen(self, batch)
        chain = self._chain(batch)
        with batch.plate():
            return pyro.sample("z", LatentPath(chain, self._evidence(chain)))

    def inputs(self, n: int) -> Batch:
        """Lengths: all steps of every sequence."""
        return whole(self, n, self.steps)

    def measure(self, batch: Batch) -> None:
        """Centre and unit of Gaussian features."""
        if isinstance(self.dynamics.units, Units) and batch.x is not None:
            self.dynamics.units.place(inside(batch.x, batch.lengths))

    def _chain(self, batch: Batch) -> Chain:
        return Chain(self.dynamics, steps_of(batch, self.steps), batch.x, batch.lengths)

    def _evidence(self, chain: Chain) -> Evidence:
        """What the observations say of each state."""
        x: Any = self.dynamics.units(chain.x)  # (B, T, D)
        if self.linear:
            prior, decoder = cast("Any", self.dynamics.prior), cast("Any", self.dynamics.decoder)
            motion = prior.motion if self.smooth else None
            found = affine.chain(prior, decoder, motion, x) if self.exact else self.evidence(prior, x)
            return Evidence(affine.posterior, found)
        missing = x.isnan()
        summary = torch.cat([torch.where(missing, 0.0, x), missing.to(x)], -1)
        seen = (~missing).any(-1, keepdim=True).to(x)  # (B, T, 1)
        if self.smooth:
            last = (seen * torch.arange(1, x.shape[1] + 1, device=x.device).unsqueeze(-1)).amax((-1, -2))  # (B,)
            order = reversal(last.long(), x.shape[1]).unsqueeze(-1)  # an observation seen last is read first
            h, _ = self.backward_net(summary.gather(1, order.expand_as(summary)))
            summary = torch.cat([h.gather(1, order.expand_as(h)), summary], -1)
            seen = seen.flip(1).cummax(1).values.flip(1)  # whether anything is left to see
        return Evidence(self.evidence, (summary, seen))


class NetworkPrior(nn.Module):
    """a(h) and b(h)."""

    def __init__(self, latent: int, hidden: int) -> None:
        super().__init__()
        self.net = mlp(hidden, (hidden,), 2 * latent)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """(*, H) -> (*, L) twice."""
        loc, raw = self.net(h).chunk(2, -1)
        return loc, positive(raw)


class NetworkDecoder(nn.Module):
    """f(h, z)."""

    def __init__(self, latent: int, features: int, hidden: int, noisy: bool) -> None:
        super().__init__()
        self.outputs = 2 if noisy else 1
        self.net = mlp(hidden + latent, (hidden,), self.outputs * features)

    def forward(self, h: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        """(*, H) and (*, L) -> (*, D) for each number that a feature needs."""
        out: tuple[Tensor, ...] = self.net(torch.cat([h, z], -1)).chunk(self.outputs, -1)
        return out


class Gain(nn.Module):
    """Evidence that z_t is near m, worth w observations of it with the prior's own variance; m and w from a network.

    The product with Normal(a, b^2) has mean a + k (m - a), k = w / (1 + w), a gain, and variance b^2 / (1 + w).
    """

    def __init__(self, inputs: int, latent: int, hidden: int) -> None:
        super().__init__()
        self.net = mlp(inputs, (hidden,), 2 * latent)

    def forward(self, h: Tensor, loc: Tensor, scale: Tensor, summary: Tensor, weight: Tensor) -> Any:
        """The prior Normal(loc, scale^2), (*, L), times what h and a summary (*, S) say, `weight` (*, 1) times."""
        told = torch.cat([h, summary.expand(*h.shape[:-1], -1)], -1)
        m, log_w = self.net(told).chunk(2, -1)
        w = weight * log_w.clamp(max=MOST).exp()
        loc, scale = loc + w / (1 + w) * (m - loc), scale / (1 + w).sqrt()
        return normal(loc, scale)


def reversal(lengths: Tensor, steps: int) -> Tensor:
    """Indices that turn the first `lengths` of T steps around and the rest by themselves, (*, T); its own inverse."""
    return (lengths.unsqueeze(-1) - 1 - torch.arange(steps, device=lengths.device)) % steps
