"""Little pairs with codes whose posteriors are exact: tables with holes, classes, two levels, a point."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

import inference
import zoo
from zoo.base import ModelGuide


class OrMissing(constraints.Constraint):
    def __init__(self, base):
        self.base = base

    def check(self, value):
        return self.base.check(value) | value.isnan()


class HoleyNormal(dist.TorchDistribution):
    """Independent normals, (D,); a NaN adds no factor."""

    arg_constraints = {}  # noqa: RUF012
    has_rsample = True

    def __init__(self, loc, scale):
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=False)

    @property
    def support(self):
        return constraints.independent(OrMissing(constraints.real), 1)

    @property
    def mean(self):
        return self.loc

    def expand(self, batch_shape, _instance=None):
        shape = (*batch_shape, *self.event_shape)
        return HoleyNormal(self.loc.expand(shape), self.scale.expand(shape))

    def rsample(self, sample_shape=()):
        shape = (*sample_shape, *self.loc.shape)
        return self.loc + self.scale * torch.randn(shape, dtype=self.loc.dtype)

    def log_prob(self, value):
        known = ~value.isnan()
        density = dist.Normal(self.loc, self.scale).log_prob(torch.where(known, value, 0.0))
        return torch.where(known, density, 0.0).sum(-1)


class HoleyFactors(ModelGuide):
    """Factor analysis with holes: z ~ N(0, I), x_d | z ~ N(w_d z, psi_d). The guide knows the posterior, but is off."""

    dims = {"z": ("latent",), "x": ("feature",)}  # noqa: RUF012

    def __init__(self, features: int = 5, latent: int = 2, shift: float = 0.7, widen: float = 1.4):
        super().__init__()
        self.shift, self.widen = shift, widen
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("weight", torch.randn(features, latent, generator=generator))
        self.register_buffer("scale", torch.linspace(0.4, 0.9, features))
        self.register_buffer("zero", torch.zeros(latent))

    def model(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(self.zero, self.zero + 1).to_event(1))
            return pyro.sample("x", HoleyNormal(z @ self.weight.T, self.scale), obs=batch.x)

    def guide(self, batch):
        known = (~batch.x.isnan()).to(self.weight)  # (B, D)
        loading = self.weight / self.scale[:, None]
        precision = torch.diag(self.zero + 1) + torch.einsum("bd,dl,dm->blm", known, loading, loading)
        covariance = precision.inverse()
        loc = torch.einsum("blm,dm,bd->bl", covariance, loading, batch.x.nan_to_num() * known / self.scale)
        sd = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        with batch.plate():
            wide = dist.MultivariateNormal(loc + self.shift * sd, self.widen**2 * covariance)
            return pyro.sample("z", wide)

    def conditional(self, row):
        """Mean and covariance of the missing cells of one row, given the rest."""
        covariance = self.weight @ self.weight.T + torch.diag(self.scale**2)
        m, o = row.isnan(), ~row.isnan()
        gain = covariance[m][:, o] @ covariance[o][:, o].inverse()
        return gain @ row[o], covariance[m][:, m] - gain @ covariance[o][:, m]


class Classes(ModelGuide):
    """Two classes, each with its own normals, and holes."""

    dims = {"x": ("feature",)}  # noqa: RUF012

    def __init__(self, holes: bool = True):
        super().__init__()
        self.holes = holes
        self.register_buffer("weights", torch.tensor([0.3, 0.7]))
        self.register_buffer("locs", torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, -1.5]]))
        self.register_buffer("scale", torch.tensor([0.8, 1.0, 0.6]))

    def model(self, batch):
        with batch.plate():
            k = pyro.sample("k", dist.Categorical(self.weights), infer={"enumerate": "parallel"})
            return pyro.sample("x", HoleyNormal(self.locs[k], self.scale), obs=batch.x)

    def posterior(self, x):
        """p(k | observed cells), (N, 2)."""
        density = dist.Normal(self.locs, self.scale).log_prob(x[:, None].nan_to_num())  # (N, 2, D)
        return (torch.where(x.isnan()[:, None], 0.0, density).sum(-1) + self.weights.log()).softmax(-1)


class TwoLevels(ModelGuide):
    """A guide whose second code depends on its first, and whose third has no moments in closed form."""

    dims = {"x": ("feature",), "c": ("latent",)}  # noqa: RUF012

    def __init__(self, slope: float = 0.5):
        super().__init__()
        self.slope = slope
        self.register_buffer("zero", torch.zeros(2))

    def model(self, batch):
        with batch.plate():
            a = pyro.sample("a", dist.Normal(self.zero[0], self.zero[0] + 1))
            b = pyro.sample("b", dist.Normal(a, self.zero[0] + 1))
            pyro.sample("c", dist.LogNormal(self.zero, self.zero + 1).to_event(1))
            loc = torch.stack(torch.broadcast_tensors(a, b), -1)
            return pyro.sample("x", dist.Normal(loc, self.zero + 1).to_event(1), obs=batch.x)

    def guide(self, batch):
        with batch.plate():
            a = pyro.sample("a", dist.Normal(batch.x[:, 0], 1.0))
            pyro.sample("b", dist.Normal(self.slope * a, 0.3))
            squashed = dist.TransformedDistribution(
                dist.Normal(batch.x, 0.5).to_event(1), [dist.transforms.ExpTransform()]
            )
            pyro.sample("c", squashed)


class Pointed(dist.Normal):
    """A normal that recommends another number than its mean."""

    @property
    def point(self):
        return self.loc + 100


class Emitting(ModelGuide):
    """x given z by any distribution; the guide is a point at the data's first column."""

    def __init__(self, kind: str = "categorical"):
        super().__init__()
        self.kind = kind
        self.register_buffer("zero", torch.zeros(()))

    def model(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(self.zero, self.zero + 1))[..., None]
            logits = torch.stack([0 * z, z, 2 * z], -1)  # (*, B, 1, 3)
            fn = {
                "categorical": lambda: dist.Categorical(logits=logits),
                "pointed": lambda: Pointed(z, 1.0),
                "meanless": lambda: dist.TransformedDistribution(
                    dist.Normal(z, 0.1), [dist.transforms.TanhTransform()]
                ),
            }[self.kind]()
            return pyro.sample("x", fn.to_event(1), obs=batch.x)

    def guide(self, batch):
        with batch.plate():
            return pyro.sample("z", dist.Delta(batch.x[..., 0].to(self.zero)))


def linear(features=6, latent=3, off=0.0, seed=0):
    """A gaussian_autoencoder in float64, its guide moved off by `off`, with 40 of its own observations."""
    torch.manual_seed(seed)
    pair = zoo.create("gaussian_autoencoder", features=features, latent=latent).double()
    batch, _ = pair.simulate(40)
    with torch.no_grad():
        for parameter in (pair.encoder, pair.scale_tril_unconstrained):
            parameter.add_(off * torch.randn_like(parameter))
    return pair, batch


def globally(pair, draws=6):
    """A posterior of global latents, from the guide."""
    return inference.draw(pair, pair.simulate(2)[0], draws=draws, seed=1)
