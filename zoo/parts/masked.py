"""A network whose outputs see only what comes before them, and the distribution of rows that it conditions.

Give each of D features a rank under an ordering, and each hidden unit a degree between 1 and D - 1. A unit may see
units of its own degree or less, and features of that rank or less; the output of a feature sees units of lower degree
than its rank (Germain et al. 2015, "MADE", section 3). The masks that say so multiply the weights; several orderings
share them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor, nn
from torch.nn import functional

from zoo.parts.sequence import moments
from zoo.settings import settings

Size = torch.Size | list[int] | tuple[int, ...]


class MaskedLinear(nn.Module):
    """A linear map of which `forward` keeps the weights that a mask lets through, (outputs, inputs)."""

    def __init__(self, inputs: int, outputs: int, gain: float = 1.0) -> None:
        super().__init__()
        # a mask leaves about half of the weights
        self.weight = nn.Parameter(gain * math.sqrt(2 / inputs) * torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """From (R or 1, n, inputs) and masks (R or 1, outputs, inputs) to (R, n, outputs)."""
        weight = self.weight * mask
        if h.shape[0] == 1 < len(weight):  # one product for all orderings
            found: Tensor = functional.linear(h[0], weight.flatten(0, 1)).unflatten(-1, weight.shape[:2])
            return found.transpose(0, 1) + self.bias
        return self.bias + h @ weight.mT


class MaskedNetwork(nn.Module):
    """Rows (n, D, I), I numbers a feature, to (R, n, D, O): O numbers a feature from those before it in R orderings.

    Args:
        features: D.
        hidden: widths of the hidden layers; none makes each output linear in the features before it.
        each: I.
        outputs: O.
        orderings: R; the first is the order of the features, the others are drawn.
    """

    rank: Tensor

    def __init__(self, features: int, hidden: Sequence[int], each: int, outputs: int, orderings: int) -> None:
        super().__init__()
        self.features, self.hidden, self.each, self.outputs = features, tuple(hidden), each, outputs
        drawn = [torch.arange(features), *(torch.randperm(features) for _ in range(orderings - 1))]
        self.register_buffer("rank", torch.stack(drawn) + 1)  # (R, D)
        widths = [features * each, *hidden, features * outputs]
        self.layers = nn.ModuleList(
            MaskedLinear(before, after, 0.5 if j == len(hidden) else 1.0)
            for j, (before, after) in enumerate(pairwise(widths))
        )

    def forward(self, x: Tensor) -> Tensor:
        """The numbers that condition each feature."""
        return self.run(x, self.rank)

    def run(self, x: Tensor, rank: Tensor) -> Tensor:
        """`forward` under the orderings (R, D) given: from (n, D, I) to (R, n, D, O)."""
        # features in units: a degree each, the rank repeated
        seen = rank.repeat_interleave(self.each, -1)
        wanted = rank.repeat_interleave(self.outputs, -1)
        h = x.flatten(-2).unsqueeze(0)  # (1, n, D I)
        for layer, width in zip(self.layers, self.hidden, strict=False):
            degree = torch.arange(width, device=rank.device) % max(self.features - 1, 1) + 1
            h = functional.silu(layer(h, degree.unsqueeze(-1) >= seen.unsqueeze(-2)))
            seen = degree.unsqueeze(0)
        h = self.layers[-1](h, wanted.unsqueeze(-1) > seen.unsqueeze(-2))
        return h.unflatten(-1, (self.features, self.outputs))  # type: ignore[no-any-return]


class Conditional(nn.Module, ABC):
    """What a feature is given those before it.

    Args:
        each: I, numbers in which its value enters the network.
        outputs: O, numbers that say its distribution.
    """

    support: Any

    def __init__(self, each: int, outputs: int) -> None:
        super().__init__()
        self.each, self.outputs = each, outputs

    @abstractmethod
    def code(self, x: Tensor) -> Tensor:
        """Values (n, D) as numbers for the network, (n, D, I)."""

    @abstractmethod
    def density(self, h: Tensor) -> Any:
        """p(x_d | what came before), of batch shape (..., D), from what the network says, (..., D, O)."""


class MaskedAutoregression(TorchDistribution):
    """Rows x of D features, p(x) = 1/R sum_r prod_d p(x_d | the features before d in ordering r), event shape (D,).

    Args:
        network: the outputs that condition each feature.
        conditional: what they mean.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's name and type
    has_rsample = False

    def __init__(self, network: MaskedNetwork, conditional: Conditional) -> None:
        self.network, self.conditional = network, conditional
        super().__init__(torch.Size(), torch.Size([network.features]), validate_args=False)

    @property
    def support(self) -> Any:
        """That of a feature, for each."""
        return torch.distributions.constraints.independent(self.conditional.support, 1)

    def expand(self, batch_shape: Size, _instance: Any = None) -> MaskedAutoregression:
        """The same rows, (*batch_shape, D)."""
        new: MaskedAutoregression = self._get_checked_instance(MaskedAutoregression, _instance)  # type: ignore[no-untyped-call]
        new.network, new.conditional = self.network, self.conditional
        super(MaskedAutoregression, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        return new

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows (..., D), (...)."""
        value = self.ordered_log_prob(x).logsumexp(0) - math.log(len(self.network.rank))
        return value.expand(broadcast_shape(self.batch_shape, x.shape[:-1]))

    def ordered_log_prob(self, x: Tensor) -> Tensor:
        """Log density under each ordering, (R, ...)."""
        rows = x.reshape(-1, x.shape[-1])  # (n, D)
        h = self.network(self.conditional.code(rows))  # (R, n, D, O)
        value: Tensor = self.conditional.density(h).log_prob(rows).sum(-1)  # (R, n)
        return value.reshape(-1, *x.shape[:-1])

    @torch.no_grad()
    def conditional_moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each feature given those before it in the first ordering, that of the columns, (..., D).

        What comes before a feature in another ordering is another thing: the others are left out.
        """
        rows = x.reshape(-1, x.shape[-1])
        h = self.network.run(self.conditional.code(rows), self.network.rank[:1])[0]  # (n, D, O)
        mean, variance = moments(self.conditional.density(h))
        return mean.reshape(x.shape), variance.reshape(x.shape)

    @torch.no_grad()
    def sample(self, sample_shape: Size = ()) -> Tensor:
        """Rows, each drawn feature by feature in an ordering of its own, (*sample_shape, *batch_shape, D)."""
        shape = torch.Size((*sample_shape, *self.batch_shape))
        network, D = self.network, self.network.features
        x = torch.zeros(shape.numel(), D).to(next(network.parameters()))
        which = torch.randint(len(network.rank), (len(x),), device=x.device)
        size = max(1, 4 * settings.memory // (D * max(network.outputs, network.each, *network.hidden, 1)))
        for r, rank in enumerate(network.rank):
            for rows in (which == r).nonzero().squeeze(-1).split(size):
                if not len(rows):
                    continue
                part = x[rows]
                for d in rank.argsort().tolist():
                    h = network.run(self.conditional.code(part), rank.unsqueeze(0))[0]
                    part[:, d] = self.conditional.density(h).sample()[:, d]
                x[rows] = part
        return x.reshape(*shape, D)
