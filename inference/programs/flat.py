"""A program as a pair of one observation, so that everything that fits pairs fits programs.

Its one observation is a 0, whose density is all there is to climb. With a guide of a family its one latent is the flat
vector u of the program's continuous latents without constraint, so that the joint density is the program's own:

    log p("x" | u) = log p(observed, T(u)) + log |det dT / du|

and u itself has density 1 everywhere, though it is drawn from Normal(m, I) where somebody asks.

With a guide of the user's own there is no latent: the density is one estimate of the bound, of fresh draws each time.
Parameters of the program and of that guide are those of the pair: the very tensors that plain Pyro would optimise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor, nn
from torch.distributions import constraints

from inference.fitting.falling import Bound
from inference.running.mapped import Mapped, TraceError, elsewhere
from zoo.base import Batch, ModelGuide
from zoo.guides import Family

Function = Callable[[Tensor], Tensor]  # of one point, a number
DATA = Batch(1, 1, x=torch.zeros(1))


class Climbed:
    """A function of one point and of parameters, for points (..., P), through which gradients flow.

    Args:
        function: of one point (P,), to a number.
        point: an example.
        leaves: the parameters that it holds.
        name: of the program.
        recorded: whether it is written down; if that cannot be, and is not `required`, it runs plain.
        offence: what is not finite at points, in words.

    Raises:
        TraceError: a run cannot be written down, and that is required.
    """

    def __init__(
        self, function: Function, point: Tensor, leaves: list[Tensor], name: str, recorded: bool, required: bool,
        offence: Callable[[Tensor], str] | None = None,
    ) -> None:  # fmt: skip
        self.function, self.dtype, self.leaves, self.why = function, point.dtype, leaves, ""
        self.offence = offence
        self.mapped: Mapped | None = None
        if recorded:
            try:
                self.mapped = Mapped(function, point, name, leaves, cuts=True, other=elsewhere(point))
            except TraceError as error:
                if required:
                    raise
                self.why = str(error)

    @property
    def random(self) -> bool:
        """Whether it draws: a bound does, and a density of a part of the rows."""
        return self.mapped is not None and bool(self.mapped.random)

    def __call__(self, points: Tensor, leaves: list[Tensor]) -> Tensor:
        """(..., P) -> (...), at these values of the parameters."""
        flat = points.reshape(-1, points.shape[-1]).to(self.dtype)
        if self.mapped is not None:
            found: Tensor = self.mapped.one(flat[0], leaves) if len(flat) == 1 else self.mapped(flat, leaves)
        else:
            found = torch.stack([_Plain.apply(self, point, *leaves) for point in flat])  # type: ignore[no-untyped-call]
        return found.reshape(points.shape[:-1]).to(points.dtype)


class _Plain(torch.autograd.Function):
    """A run of plain Pyro, whose gradients are those at the user's own parameters."""

    @staticmethod
    def forward(context: Any, climbed: Climbed, point: Tensor, *_: Tensor) -> Tensor:
        with torch.enable_grad():
            point = point.detach().requires_grad_()
            value = climbed.function(point)
            asked = [point, *climbed.leaves]
            gradients = torch.autograd.grad(value, asked, allow_unused=True) if value.requires_grad else [None]
        context.save_for_backward(
            *(torch.zeros_like(a) if g is None else g for a, g in zip(asked, gradients, strict=True))
        )
        return value.detach()

    @staticmethod
    def backward(context: Any, *upstream: Tensor) -> tuple[Any, ...]:
        return None, *(upstream[0] * gradient for gradient in context.saved_tensors)


def pair_of(
    name: str, climbed: Climbed, leaves: Mapping[str, Tensor], centre: Tensor, family: Family | None
) -> ModelGuide:
    """The pair.

    Args:
        name: of the program.
        climbed: its log density at u, or an estimate of the bound, of points without any meaning.
        leaves: its parameters, which stay the user's own tensors.
        centre: where u is drawn around, (P,), before anything is fitted; of a bound, any point.
        family: of the guide over u; None for a bound.
    """

    class Flat(ModelGuide):
        def __init__(self, guide: Family = "normal") -> None:
            super().__init__(guide)
            self.register_buffer("centre", centre.detach().clone())
            self.number = len(leaves)
            for i, leaf in enumerate(leaves.values()):
                shared = leaf if isinstance(leaf, nn.Parameter) else nn.Parameter(leaf.detach())  # the same storage
                self.register_parameter(f"parameter_{i}", shared)

        def model(self, batch: Batch) -> Tensor:
            point = self.centre
            if family is not None:
                own: Any = _Anywhere(self.centre, torch.ones_like(self.centre))
                point = pyro.sample("free", own.to_event(1))
            values = [getattr(self, f"parameter_{i}") for i in range(self.number)]
            with batch.plate():
                return pyro.sample("x", _Rest(climbed, point, values), obs=batch.x)

        def offence(self, drawn: Any) -> str | None:
            """What is not finite at a draw of the guide, its trace, by the program's own names."""
            point = drawn.nodes["free"]["value"] if family is not None else self.centre
            return climbed.offence(point) if climbed.offence else None

    class Guided(Flat, Bound):
        pass

    made = Flat if family is not None else Guided
    made.__name__ = made.__qualname__ = name
    return made(guide=family or "normal")


class _Anywhere(dist.Normal):
    """Draws that a normal gives, of density 1: all of the density is that of the observation."""

    def log_prob(self, value: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(value)


class _Rest(TorchDistribution):
    """The log density of a program, or a bound, as the density of an observation."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 - as torch has it
    support = constraints.real
    has_rsample = False

    def __init__(self, climbed: Climbed, free: Tensor, leaves: list[Tensor], shape: Any = None) -> None:
        self.climbed, self.free, self.leaves = climbed, free, leaves
        super().__init__(torch.Size(free.shape[:-1]) if shape is None else shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> _Rest:
        """To more points of the same density."""
        return _Rest(self.climbed, self.free, self.leaves, torch.Size(batch_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Nothing is drawn: the observation is a 0."""
        return self.free.new_zeros(torch.Size(sample_shape) + self.batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Along the points; of a bound each particle has draws of its own."""
        found = self.climbed(self.free.expand(*self.batch_shape, -1), self.leaves)
        return found.expand(broadcast_shape(value.shape, self.batch_shape))
