"""Small registered pairs to save, and whether two are the same to the last bit."""

from __future__ import annotations

import itertools
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import zoo
from inference.fitting.objective import choose
from zoo.base import Batch, ModelGuide, register


@register("toy_state")
class Toy(ModelGuide):
    """A Gaussian whose mean is a network's view of one latent vector.

    A second paragraph that the card leaves out.
    """

    def __init__(
        self, features: int = 3, hidden: tuple[int, ...] = (4,), dropout: float = 0.5, guide: str = "normal"
    ) -> None:
        super().__init__(guide)
        sizes = (2, *hidden, features)
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.net = nn.Sequential(*layers, nn.Dropout(min(dropout, 0.9)))
        self.log_scale = nn.Parameter(torch.zeros(features))
        self.register_buffer("prior_scale", torch.ones(2))
        self.register_buffer("order", torch.arange(features))

    def model(self, batch: Batch) -> Tensor:
        code = pyro.sample("code", dist.Normal(0, self.prior_scale).to_event(1))  # (2,)
        with batch.plate():
            loc = self.net(code)[..., self.order]  # (D,)
            return pyro.sample("x", dist.Normal(loc, self.log_scale.exp()).to_event(1), obs=batch.x)


@register("toy_state_bare")
class Bare(ModelGuide):
    """A pair without a single tensor."""

    def __init__(self) -> None:
        super().__init__()

    def model(self, batch: Batch) -> Tensor:
        with batch.plate():
            return pyro.sample("x", dist.Bernoulli(0.5), obs=batch.x)


def made(name: str = "toy_state", seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any) -> ModelGuide:
    """A pair whose every parameter has moved away from where it was built."""
    torch.manual_seed(seed)
    pair = zoo.create(name, **config).to(dtype)
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    pair.card = {"data": {"name": "toy", "rows": 5}, "metrics": {"elbo": -1.25}, "seed": seed}
    return pair


def loss(pair: ModelGuide, batch: Batch) -> float:
    torch.manual_seed(1)
    # Pyro's estimator for this pair: its TraceEnum_ELBO mixes types where a masked site is float64
    return float(choose(pair, batch).pyro().loss(pair.model, pair.guide, batch))


def same(first: ModelGuide, second: ModelGuide) -> bool:
    """Whether two pairs hold the same bits, arguments and card."""
    a, b = first.state_dict(), second.state_dict()
    tensors = a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)
    return tensors and first.config == second.config and first.card == second.card
