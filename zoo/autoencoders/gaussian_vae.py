"""Variational autoencoder with a Gaussian code.

For observation n of N, with decoder network f and encoder network g,

    z_n       ~ p(z)                          code, in R^L
    x_n | z_n ~ prod_d p(x_nd | f(z_n)_d)     observation, D features

    p(x, z)  = prod_n p(z_n) prod_d p(x_nd | f(z_n)_d)
    q(z | x) = prod_n q(z_n | x_n)

The prior p(z) is N(0, I), `standard`, or the mean of the guide over K pseudo-inputs u_k that are learned, `vamp`:

    p(z) = 1/K sum_k q(z | u_k)

The guide q(z | x) is one of

    z ~ N(m, diag(s)^2)                     (m, s) = g(x)       `diagonal`
    z ~ N(m, T T')                          (m, T) = g(x)       `full`
    z = m + s F(e; h),    e ~ N(0, I)       (m, s, h) = g(x)    `flow`

where F is an inverse autoregressive flow, so that log q(z | x) = log N(e | 0, I) - sum_l log s_l dF_l/de_l.

All sites are local: `z`, the code, and `x`, the observation. There are no global latents: the networks and the
pseudo-inputs are parameters.

Networks see and give Gaussian features as (x_d - c_d) / u_d: their means c and deviations u are set by `fit`.

Held against, in `test_gaussian_vae.py`: the ELBO by SciPy at equal weights and noise, five likelihoods by two guides
(equal to 1e-9); the `vamp` prior by SciPy's mixture, and the flow's density by the autograd log-determinant (1e-9); log
p(x) of a bent posterior with two modes, by quadrature (gap 0.60 diagonal, 0.45 full, 0.22 flow, each ± 0.04 nats); a
plain PyTorch twin trained beside it on digits, three seeds, held out: ahead by -0.02 ± 0.73 nats (ELBO) and
0.24 ± 0.71 (importance-sampled log-likelihood), that is level (slow).

Kingma & Welling 2014, "Auto-encoding variational Bayes"; Tomczak & Welling 2018, "VAE with a VampPrior"; Kingma et al.
2016, "Improved variational inference with inverse autoregressive flow".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.nn import PyroParam
from torch import Tensor, nn

from zoo.base import Batch, ModelGuide, register
from zoo.images import counted
from zoo.parts import likelihoods, nets
from zoo.parts.units import Units
from zoo.suiting import Suit

TRIALS = {"binomial": 16, "beta_binomial": 255, "categorical": 255}  # the largest counts of digits, and of pixels
COMPONENTS = 50  # pseudo-inputs where not told
CONTEXT = 32  # numbers of g(x) that shape the flow


@register("gaussian_vae")
class GaussianVAE(ModelGuide):
    """Variational autoencoder with a Gaussian code (Kingma & Welling 2014).

    Args:
        features: number of features or pixels D. For `conv` and `residual` a square, unless `image` says otherwise.
        latent: dimension of the code L, at most D.
        hidden: widths of the encoder's hidden layers, mirrored in the decoder; for `conv` and `residual` channels, each
            halving the image. An empty tuple makes both networks linear.
        net: `mlp`, `conv` (over an image, flattened channel by channel and row by row) or `residual` (that with
            residual blocks).
        likelihood: of a feature given the code. `bernoulli` (0 or 1); `gaussian` (real, one learned scale a feature);
            or a whole number from 0 to `trials`: `binomial`, `beta_binomial` (overdispersed) or
            `categorical` (any shape at all).
        trials: the largest count, only for the last three: by default 16 for `binomial` (as in the 8x8 digits) and 255
            for the others (8-bit pixels).
        guide: q(z | x): a Gaussian of covariance `diagonal` or `full`, or a `flow` (extra `flows`), which can bend and
            split.
        prior: p(z), `standard` or `vamp` (Tomczak & Welling 2018). With guide `flow`, whose density at codes of another
            row takes L passes, the mixture is of the Gaussians N(m(u_k), diag(s(u_k))^2) that the flow starts from. Let
            the weight of the KL terms rise slowly in a fit: codes that overlap at first may else stay together.
        components: number of pseudo-inputs K, only for `vamp`; by default 50.
        image: (H, W) or (C, H, W) of images, channels first: the pair then takes and gives images of that shape, and
            `features` is C H W.
        encoder: a network of your own in the place of g. It takes rows (B, D) as `read` gives them, or images
            (B, *image), to numbers (B, 2 L) for guide `diagonal`, means first; (B, L + L (L + 1) / 2) for `full` and
            (B, L + 32) for `flow`. The pair takes a copy, and a saved one is loaded by zoo.load(folder, encoder=…).
        decoder: a network of your own in the place of f, from codes (B, L) to logits or means (B, D), or images
            (B, *image); for `beta_binomial` with 2 and for `categorical` with `trials` + 1 numbers a feature,
            (B, D, numbers), or maps (B, C numbers, H, W).

    Raises:
        ValueError: `trials` or `components` is of no use; the code is larger than the data; convolutions of an image
            whose shape is not known, or which is too small; `flow` without the package zuko; an `encoder` or `decoder`
            that gives other shapes.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {"z": ("latent",), "x": ("feature",)}
    adapts: ClassVar = ("likelihood", "trials")
    scale: Tensor
    pseudo_inputs: Tensor

    def __init__(
        self,
        features: int = 64,
        latent: int = 2,
        hidden: tuple[int, ...] = (64,),
        net: nets.Net = "mlp",
        likelihood: Literal["bernoulli", "gaussian", "binomial", "beta_binomial", "categorical"] = "bernoulli",
        trials: int | None = None,
        guide: Literal["diagonal", "full", "flow"] = "diagonal",
        prior: Literal["standard", "vamp"] = "standard",
        components: int | None = None,
        image: tuple[int, ...] | None = None,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if likelihood not in TRIALS and trials is not None:
            raise ValueError(f"likelihood='{likelihood}' takes no trials, got trials={trials}")
        if prior != "vamp" and components is not None:
            raise ValueError(f"prior='{prior}' takes no components, got components={components}")
        if latent > features:
            raise ValueError(f"a code of latent={latent} dimensions is larger than the data, features={features}")
        self.image = image
        self.latent, self.likelihood, self.family, self.vamp = latent, likelihood, guide, prior == "vamp"
        self.trials = trials or TRIALS.get(likelihood, 1)
        outputs = {"beta_binomial": 2, "categorical": self.trials + 1}.get(likelihood, 1)
        spread = {"diagonal": latent, "full": latent * (latent + 1) // 2, "flow": latent + CONTEXT}[guide]
        self.encoder = nets.encoder(net, features, hidden, latent + spread, image, encoder)
        self.decoder = nets.decoder(net, latent, hidden, features, outputs, image, decoder)
        if guide == "flow":
            self.flow = nets.Flow(latent, CONTEXT)
        if likelihood == "gaussian":
            self.units = Units(features)
            self.scale = PyroParam(torch.ones(features), nets.SCALE)  # type: ignore[assignment]  # in these units
        if self.vamp:  # u, (K, D), in units of the encoder
            shape = (components or COMPONENTS, features)
            real = likelihood == "gaussian"
            start = torch.randn(shape) if real else torch.rand(shape)
            support = constraints.real if real else constraints.unit_interval
            self.pseudo_inputs = PyroParam(start, support)  # type: ignore[assignment]
        self.register_buffer("prior_loc", torch.zeros(latent))
        self.register_buffer("prior_scale", torch.ones(latent))

    @classmethod
    def suits(cls, data: Batch, given: Mapping[str, Any]) -> Suit:
        """Width, and the family of a cell; of bytes the overdispersed one."""
        offers = {"binary": "bernoulli", "count": "binomial", "byte": "beta_binomial", "real": "gaussian"}
        return super().suits(data, given) | likelihoods.suited(counted(data.x), given, offers)

    def measure(self, batch: Batch) -> None:
        """Centre and unit of Gaussian features."""
        if self.likelihood == "gaussian" and batch.x is not None:
            self.units.place(batch.x)

    @torch.no_grad()
    def initial(self, batch: Batch) -> dict[str, Tensor]:
        """Start the pseudo-inputs at random rows of the data, as far as they go; there are no globals."""
        if self.vamp and batch.x is not None:
            u = self.pseudo_inputs.clone()
            rows = torch.randperm(batch.size, device=u.device)[: len(u)]
            u[: len(rows)] = self.read(batch.x[rows])
            # The ends of the unit interval are at infinity for the optimiser.
            self.pseudo_inputs = u if self.likelihood == "gaussian" else u.clamp(0.01, 0.99)
        return {}

    def model(self, batch: Batch) -> Tensor:
        """Sample p(x, z); returns x, (B, D)."""
        prior = self.prior()
        with batch.plate():
            z = pyro.sample("z", prior)  # (*, B, L)
            return pyro.sample("x", self.decode(z).to_event(1), obs=batch.x)

    def guide(self, batch: Batch) -> Tensor:
        """Sample q(z | x); returns z, (B, L)."""
        with batch.plate():
            return pyro.sample("z", self.encode(nets.seen(self, batch)))

    def prior(self) -> Any:
        """p(z), of event shape (L,)."""
        if not self.vamp:
            return dist.Normal(self.prior_loc, self.prior_scale).to_event(1)
        components = self._gaussian(self.encoder(self.pseudo_inputs))  # of batch shape (K,)
        weights = dist.Categorical(logits=self.prior_loc.new_zeros(components.batch_shape))
        return dist.MixtureSameFamily(weights, components)

    def decode(self, z: Tensor) -> Any:
        """p(x_d | z), of batch shape (*, B, D)."""
        h = self.decoder(z)  # (*, B, D, outputs)
        if self.likelihood == "categorical":
            return dist.Categorical(logits=h)
        if self.likelihood == "beta_binomial":
            concentration = nets.positive(h)
            return dist.BetaBinomial(concentration[..., 0], concentration[..., 1], self.trials)
        h = h[..., 0]
        if self.likelihood == "binomial":
            return dist.Binomial(self.trials, logits=h)
        if self.likelihood == "gaussian":
            return dist.Normal(self.units.inverse(h), self.units.unit * self.scale)
        return dist.Bernoulli(logits=h)

    def read(self, x: Tensor) -> Tensor:
        """Rows (*, D) as the encoder sees them: pixels in [0, 1], Gaussian features in their units."""
        x = x.to(self.prior_loc.dtype)
        return self.units(x) if self.likelihood == "gaussian" else x / self.trials

    def encode(self, x: Tensor) -> Any:
        """q(z | x), of batch shape (B,) and event shape (L,)."""
        h = self.encoder(self.read(x))  # (B, L + spread)
        q = self._gaussian(h)
        return self.flow(q.base_dist.loc, q.base_dist.scale, h[..., -CONTEXT:]) if self.family == "flow" else q

    def _gaussian(self, h: Tensor) -> Any:
        """N(m, T T') or N(m, diag(s)^2) from rows of the encoder's outputs."""
        loc = h[..., : self.latent]
        if self.family == "full":
            return dist.MultivariateNormal(loc, scale_tril=nets.scale_tril(h[..., self.latent :], self.latent))
        return dist.Normal(loc, nets.positive(h[..., self.latent : 2 * self.latent])).to_event(1)
