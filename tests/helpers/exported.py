"""Three little pairs with posteriors made up: a regression, counts without globals, a walk with holes."""

from __future__ import annotations

from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from inference.posterior.draws import Posterior
from zoo.base import Batch, ModelGuide

CHAINS, DRAWS, N, D = 2, 100, 30, 3


class Regression(ModelGuide):
    """Global latents on three kinds of support, and a deterministic site."""

    dims: ClassVar = {"coefficients": ("feature",), "shares": ("part",), "x": ("feature",)}

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))

    def model(self, batch: Batch) -> torch.Tensor:
        zero, one = 0 * self.scale, self.scale
        coefficients = pyro.sample("coefficients", dist.Normal(zero, one).expand([D]).to_event(1))
        noise = pyro.sample("noise", dist.Gamma(2 * one, one))
        pyro.sample("shares", dist.Dirichlet(one.expand(4)))
        with batch.plate():
            mean = pyro.deterministic("mean", (batch.x * coefficients).sum(-1))
            return pyro.sample("y", dist.Normal(mean, noise), obs=batch.y)

    def inputs(self, n: int) -> Batch:
        return Batch(n, n, x=torch.randn(n, D).to(self.scale))


class Counts(ModelGuide):
    """Local latents alone: counts with a factor analysis of their logits."""

    dims: ClassVar = {"z": ("latent",), "x": ("feature",)}

    def __init__(self) -> None:
        super().__init__()
        self.decoder, self.encoder = nn.Linear(2, D), nn.Linear(D, 2)

    def model(self, batch: Batch) -> torch.Tensor:
        zero = self.decoder.bias.new_zeros(2)
        with batch.plate():
            z = pyro.sample("z", dist.Normal(zero, 1).to_event(1))
            return pyro.sample("x", dist.Binomial(16, logits=self.decoder(z)).to_event(1), obs=batch.x)

    def guide(self, batch: Batch) -> None:
        with batch.plate():
            pyro.sample("z", dist.Normal(self.encoder(batch.x), 1).to_event(1))


class Walk(ModelGuide):
    """Sequences of normal steps around one global mean; NaN is a missing step."""

    dims: ClassVar = {"x": ("step",)}

    def __init__(self, steps: int = 5) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("zero", torch.tensor(0.0))

    def model(self, batch: Batch) -> torch.Tensor:
        mean = pyro.sample("mean", dist.Normal(self.zero, 1))
        with batch.plate():
            fn = Steps(mean, self.steps, batch.lengths)
            return pyro.sample("x", fn, obs=batch.x)

    def inputs(self, n: int) -> Batch:
        return Batch(n, n, lengths=torch.full((n,), self.steps))


class _AnyNumber(dist.constraints.Constraint):
    """The reals and NaN."""

    is_discrete = False
    event_dim = 0

    def check(self, value: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(value, dtype=torch.bool)


class Steps(dist.TorchDistribution):
    """T independent normal steps of which `lengths` count; NaN counts for nothing."""

    arg_constraints: ClassVar = {}
    support = dist.constraints.independent(_AnyNumber(), 1)
    has_rsample = False

    def __init__(self, mean: torch.Tensor, steps: int, lengths: torch.Tensor) -> None:
        self.loc, self.steps, self.lengths = mean, steps, lengths
        shape = torch.broadcast_shapes(mean.shape, lengths.shape)
        super().__init__(shape, (steps,), validate_args=False)

    def expand(self, shape: torch.Size) -> Steps:
        return Steps(self.loc.expand(shape), self.steps, self.lengths)

    def sample(self, shape: tuple[int, ...] = ()) -> torch.Tensor:
        mean = self.loc.expand((*shape, *self.batch_shape)).unsqueeze(-1)
        return mean + torch.randn(*mean.shape[:-1], self.steps).to(mean)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        counts = (torch.arange(self.steps) < self.lengths.unsqueeze(-1)) & ~value.isnan()
        each = dist.Normal(self.loc.unsqueeze(-1), 1, validate_args=False).log_prob(value.nan_to_num())
        return (each * counts).sum(-1)


def made_up(truth: dict[str, torch.Tensor], local: frozenset[str] = frozenset()) -> Posterior:
    """A narrow posterior around the truth, on its support: jitter in log space for the positive sites."""
    torch.manual_seed(0)
    draws = {}
    for name, value in truth.items():
        noise = 0.06 * torch.randn(CHAINS, DRAWS, *value.shape)
        # in units of the residuals: a posterior much wider than they are would have infinite importance weights
        draws[name] = value * noise.exp() if name in ("noise", "shares") else value + noise * truth.get("noise", 1.0)
    if "shares" in draws:
        draws["shares"] = draws["shares"] / draws["shares"].sum(-1, keepdim=True)
    stats = {name: torch.randn(CHAINS, DRAWS) for name in ("log_p", "log_q")}
    return Posterior(draws, local, stats, chains=CHAINS, size=DRAWS)


def regression() -> tuple[ModelGuide, Posterior, Batch]:
    torch.manual_seed(1)
    pair = Regression()
    batch, truth = pair.simulate(N)
    return pair, made_up(truth), batch


def counts() -> tuple[ModelGuide, Posterior, Batch]:
    torch.manual_seed(1)
    pair = Counts()
    batch, truth = pair.simulate(N)
    return pair, made_up(truth, frozenset({"z"})), batch


def walk() -> tuple[ModelGuide, Posterior, Batch]:
    torch.manual_seed(1)
    pair = Walk()
    batch, truth = pair.simulate(N)
    x, lengths = batch.x.clone(), torch.full((N,), 5)
    x[0, 1], lengths[1] = torch.nan, 3
    return pair, made_up(truth), Batch(N, N, x=x, lengths=lengths)


CASES = {case.__name__: case for case in (regression, counts, walk)}
