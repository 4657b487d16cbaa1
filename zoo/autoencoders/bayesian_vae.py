"""Variational autoencoder whose decoder weights are random.

For observation n of N, with a decoder of layers j = 0..J that map I_j numbers to O_j, and encoder network g,

    W_jio ~ N(0, s^2 / I_j)                                weights of layer j, I_j x O_j
    b_jo  ~ N(0, s^2)                                      its biases (the weights of one constant input)
    z_n   ~ N(0, I)                                        code, in R^L
    x_n | z_n, W, b ~ prod_d p(x_nd | f(z_n; W, b)_d)      observation, D features

    f(z; W, b) = a( ... a(z W_0 + b_0) ... ) W_J + b_J,    a(h) = h / (1 + exp(-h))

    p(x, z, W, b) = p(W) p(b) prod_n N(z_n | 0, I) prod_d p(x_nd | f(z_n; W, b)_d)
    q(z, W, b | x) = q(W) q(b) prod_n N(z_n | m(x_n), diag(t(x_n))^2),    (m, t) = g(x_n)

with q(W) and q(b) products of Gaussians, one for each number. Dividing by I_j keeps the prior over functions the same
whatever the widths are (Neal 1996).

Networks see and give Gaussian features as (x_d - c_d) / u_d: their means c and deviations u are set by `fit`, so the
prior of the weights knows no units.

Global sites: `weight_0`, `bias_0`, ..., in the order of the layers. Local: `z`, the code, and `x`, the observation.
Only the encoder is a plain network.

Limits: disagreement of the weights (`inference.novelty`) finds digits among Fashion-MNIST better than likelihood does
(AUROC 0.933 to 0.944 against 0.884 to 0.900, three seeds), and held-out classes of digits worse: it is no better
detector in general (examples/benchmarks/README.md).

Held against, in `test_bayesian_vae.py`: the ELBO by SciPy, three likelihoods by three depths (equal to 1e-9); the best
factorised Gaussian of the linear case (means within 0.009 sd, sd within 1.5 %); where the data say nothing, the prior:
KL of the weights 5.8e-6 nats, from 312 at the start, where at most 0.0072 are possible.

Kingma & Welling 2014, "Auto-encoding variational Bayes", appendix F; Blundell et al. 2015, "Weight uncertainty in
neural networks"; Daxberger & Hernández-Lobato 2019, "Bayesian variational autoencoders for unsupervised
out-of-distribution detection".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroParam
from torch import Tensor, nn
from torch.nn import functional

from zoo.base import Batch, ModelGuide, register
from zoo.config import Positive
from zoo.images import counted
from zoo.parts import likelihoods, nets
from zoo.parts.units import Units
from zoo.suiting import Suit

WIDTH = 0.05  # standard deviation that posteriors start from, in units of the prior's


class Weights(nn.Module):
    """An array of weights with its prior N(0, scale^2) and its posterior, Gaussian and factorised.

    The posterior's standard deviation is kept in units of the prior's: then one step of the optimiser widens or
    narrows every weight by about the same factor.

    Args:
        shape: of the array.
        scale: prior standard deviation.
        start: standard deviation of the posterior means at the start.
    """

    prior_loc: Tensor
    prior_scale: Tensor

    def __init__(self, shape: tuple[int, ...], scale: float, start: float) -> None:
        super().__init__()
        self.register_buffer("prior_loc", torch.zeros(shape))
        self.register_buffer("prior_scale", torch.full(shape, scale))
        self.loc = nn.Parameter(start * torch.randn(shape))
        self.spread = nn.Parameter(torch.full(shape, math.log(math.expm1(WIDTH))))  # the inverse of softplus

    def prior(self) -> Any:
        """p(weights), all dimensions in the event."""
        return dist.Normal(self.prior_loc, self.prior_scale).to_event()

    def posterior(self) -> Any:
        """q(weights), all dimensions in the event."""
        return dist.Normal(self.loc, self.prior_scale * nets.positive(self.spread)).to_event()


@register("bayesian_vae")
class BayesianVAE(ModelGuide):
    """Variational autoencoder with priors on the decoder's weights (Daxberger & Hernández-Lobato 2019).

    Args:
        features: number of features or pixels D.
        latent: dimension of the code L, at most D.
        hidden: widths of the encoder's hidden layers, mirrored in the decoder. An empty tuple makes both linear.
        likelihood: of a feature given the code. `bernoulli` (0 or 1), `gaussian` (real, one learned scale a feature)
            or `binomial` (a whole number from 0 to `trials`).
        trials: the largest count, only for `binomial`: by default 16 (as in the 8x8 digits).
        weight_scale: s; the prior standard deviation of a bias, and of a weight times the root of its fan-in.
        image: (H, W) or (C, H, W) of images, channels first: the pair then takes and gives images of that shape, and
            `features` is C H W.

    Raises:
        ValueError: `latent` above `features`, or `trials` for a likelihood that takes none.
    """

    adapts: ClassVar = ("likelihood", "trials")
    scale: Tensor

    def __init__(
        self,
        features: int = 16,
        latent: int = 2,
        hidden: tuple[int, ...] = (16,),
        likelihood: Literal["bernoulli", "gaussian", "binomial"] = "bernoulli",
        trials: int | None = None,
        weight_scale: Positive = 1.0,
        image: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        if latent > features:
            raise ValueError(f"latent={latent} is more than features={features}: a code is no larger than its data")
        if likelihood != "binomial" and trials is not None:
            raise ValueError(f"likelihood='{likelihood}' takes no trials, got trials={trials}")
        self.latent, self.likelihood, self.image = latent, likelihood, image
        self.trials = trials or (16 if likelihood == "binomial" else 1)
        self.encoder = nets.mlp(features, hidden, 2 * latent)
        widths = [latent, *hidden[::-1], features]
        names = ["latent", *(f"hidden_{j}" for j in range(len(hidden))), "feature"]
        dims: dict[str, tuple[str, ...]] = {"z": ("latent",), "x": ("feature",)}
        weights: dict[str, Weights] = {}
        for j, (inputs, outputs) in enumerate(pairwise(widths)):
            sd = 1 / math.sqrt(inputs)
            gain = 1.0 if j < len(hidden) else 0.5  # as in `nets.mlp`
            weights[f"weight_{j}"] = Weights((inputs, outputs), weight_scale * sd, gain * sd)
            weights[f"bias_{j}"] = Weights((outputs,), weight_scale, 0.0)
            dims |= {f"weight_{j}": (names[j], names[j + 1]), f"bias_{j}": (names[j + 1],)}
        self.dims = dims  # type: ignore[misc]
        self.weights: Mapping[str, Weights] = nn.ModuleDict(weights)  # type: ignore[assignment]
        if likelihood == "gaussian":
            self.units = Units(features)
            self.scale = PyroParam(torch.ones(features), nets.SCALE)  # type: ignore[assignment]  # in these units
        self.register_buffer("prior_loc", torch.zeros(latent))
        self.register_buffer("prior_scale", torch.ones(latent))

    @classmethod
    def suits(cls, data: Batch, given: Mapping[str, Any]) -> Suit:
        """Width, and the family of a cell."""
        offers = {"binary": "bernoulli", "count": "binomial", "byte": "binomial", "real": "gaussian"}
        return super().suits(data, given) | likelihoods.suited(counted(data.x), given, offers)

    def measure(self, batch: Batch) -> None:
        """Centre and unit of Gaussian features."""
        if self.likelihood == "gaussian" and batch.x is not None:
            self.units.place(batch.x)

    @torch.no_grad()
    def initial(self, batch: Batch) -> dict[str, Tensor]:
        """Start the last biases at the features' means, on the decoder's scale; the guide is moved in place."""
        if batch.x is not None:
            bias = self.weights[f"bias_{len(self.weights) // 2 - 1}"]
            mean = self.read(batch.x).mean(0)
            if self.likelihood != "gaussian":
                mean = torch.logit(mean, eps=1e-6)
            # A pixel that is always black calls for minus infinity: go no further than the prior would.
            bias.loc.copy_(torch.clamp(mean, -3 * bias.prior_scale, 3 * bias.prior_scale))
        return {}

    def model(self, batch: Batch) -> Tensor:
        """Sample p(x, z, W, b); returns x, (B, D)."""
        weights = {name: pyro.sample(name, array.prior()) for name, array in self.weights.items()}
        with batch.plate():
            z = pyro.sample("z", dist.Normal(self.prior_loc, self.prior_scale).to_event(1))  # (*, B, L)
            return pyro.sample("x", self.decode(z, weights).to_event(1), obs=batch.x)

    def guide(self, batch: Batch) -> Tensor:
        """Sample q(z, W, b | x); returns z, (B, L)."""
        for name, array in self.weights.items():
            pyro.sample(name, array.posterior())
        with batch.plate():
            return pyro.sample("z", self.encode(nets.seen(self, batch)))

    def decode(self, z: Tensor, weights: dict[str, Tensor]) -> Any:
        """p(x_d | z, W, b), of batch shape (*, B, D)."""
        last = len(weights) // 2 - 1
        for j in range(last + 1):
            weight, bias = weights[f"weight_{j}"], weights[f"bias_{j}"]  # (I, O) or (S, 1, I, O); (O,) or (S, 1, O)
            # One matrix product a draw, (*, B, I) @ (S, I, O): with its row dimension W would be copied for every row.
            z = z @ (weight.squeeze(-3) if weight.ndim > 2 else weight) + bias
            z = functional.silu(z) if j < last else z
        if self.likelihood == "binomial":
            return dist.Binomial(self.trials, logits=z)
        if self.likelihood == "gaussian":
            return dist.Normal(self.units.inverse(z), self.units.unit * self.scale)
        return dist.Bernoulli(logits=z)

    def read(self, x: Tensor) -> Tensor:
        """Rows (*, D) as the encoder sees them: shares of `trials`, Gaussian features in their units."""
        x = x.to(self.prior_loc.dtype)
        return self.units(x) if self.likelihood == "gaussian" else x / self.trials

    def encode(self, x: Tensor) -> Any:
        """q(z | x), of batch shape (B,) and event shape (L,)."""
        loc, spread = self.encoder(self.read(x)).chunk(2, -1)  # each (B, L)
        return dist.Normal(loc, nets.positive(spread)).to_event(1)
