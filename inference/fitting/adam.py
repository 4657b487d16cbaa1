"""Adam with a limit on the gradient's length, as operations on tensors that a graph can hold.

    g <- g min(1, limit / |g|)        limit = clip max(1, usual),   usual a running mean of |g| as clipped
    m <- m + (1 - b1) (g - m)         v <- b2 v + (1 - b2) g^2
    p <- p - lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)

(Kingma & Ba 2015, algorithm 1.) An absolute limit tames the first steps, whose lengths Adam would remember; a relative
one spares, later on, the rare large gradients of rare features. When loss or gradient is not finite nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPS = 1e-8
MEMORY = 0.02  # weight of the newest length in their running mean


@dataclass
class Adam:
    """State of the optimiser: tensors, written in place."""

    means: list[Tensor]
    squares: list[Tensor]
    count: Tensor  # steps taken, a scalar
    usual: Tensor  # running mean of the gradient's length, a scalar

    @classmethod
    def of(cls, parameters: Sequence[Tensor], device: torch.device | str = "cpu") -> Adam:
        """That of a start at these parameters."""
        # Of single precision, whatever torch's default type and that of the parameters: the fused kernel wants it.
        zero = torch.zeros((), dtype=torch.float32, device=device)
        means, squares = ([torch.zeros_like(p.detach()) for p in parameters] for _ in range(2))
        return cls(means, squares, zero, zero.clone())

    @torch.no_grad()
    def restart(self) -> None:
        """Forget all steps; lengths of gradients are remembered."""
        for tensor in (*self.means, *self.squares, self.count):
            tensor.zero_()

    @classmethod
    def holding(cls, tensors: Mapping[str, Sequence[Tensor]]) -> Adam:
        """The state that these tensors are, as `tensors` gave them."""
        return cls(list(tensors["means"]), list(tensors["squares"]), *tensors["scalars"])

    def tensors(self) -> dict[str, list[Tensor]]:
        """All of it."""
        return {"means": self.means, "squares": self.squares, "scalars": [self.count, self.usual]}


def update(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    state: Adam,
    loss: Tensor,
    rate: Tensor,
    clip: Tensor,
    fused: bool = True,
) -> Tensor:
    """One step, in place, the gradients spent; returns the loss, or NaN where that or a gradient was not finite.

    Args:
        parameters, gradients: as many of one as of the other, of equal shapes.
        state: of the optimiser.
        loss: a scalar.
        rate: step size, a float64 scalar.
        clip: limit on the gradient's length, a scalar; inf for none.
        fused: use torch's fused kernel, else elementwise operations, which a compiler fuses better.
    """
    lengths = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    length = (torch.stack(lengths).norm() if len(lengths) > 1 else lengths[0]).float()
    whole = loss + length
    good = whole - whole == 0  # not where either is infinite or NaN
    limit = clip * state.usual.clamp(min=1.0)
    state.usual.add_(torch.where(good, MEMORY * (torch.minimum(length, limit) - state.usual), 0.0))
    advance(parameters, gradients, state, rate, good.float(), (length / limit).clamp(min=1.0), fused)
    return torch.where(good, loss, torch.nan)


def advance(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    state: Adam,
    rate: Tensor,
    good: Tensor,
    shrink: Tensor,
    fused: bool = True,
    betas: tuple[float, float] = BETAS,
) -> None:
    """The step itself, in place: of gradients divided by the scalar `shrink`, and only where the scalar `good` is 1."""
    state.count.add_(good)
    if fused:
        torch._fused_adam_(
            list(parameters),
            [_laid_out_as(p, gradient) for p, gradient in zip(parameters, gradients, strict=True)],
            state.means,
            state.squares,
            [],
            [state.count] * len(parameters),
            lr=rate,
            beta1=betas[0],
            beta2=betas[1],
            grad_scale=shrink,
            found_inf=1 - good,
            weight_decay=0.0,
            eps=EPS,
            amsgrad=False,
            maximize=False,
        )
        return
    count, bad = state.count.double(), good == 0
    first, second = 1 - betas[0] ** count, (1 - betas[1] ** count).sqrt()
    for p, gradient, mean, square in zip(parameters, gradients, state.means, state.squares, strict=True):
        g = torch.where(bad, 0, gradient / shrink).to(p.dtype)
        m = mean + (1 - betas[0]) * (g - mean)
        v = betas[1] * square + (1 - betas[1]) * g * g
        new = p - (rate / first).to(p.dtype) * m / (v.sqrt() / second.to(p.dtype) + EPS)
        p.copy_(torch.where(bad, p, new))
        mean.copy_(torch.where(bad, mean, m))
        square.copy_(torch.where(bad, square, v))


def _laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The kernel reads memory in order: a gradient transposed against its parameter would meet the wrong entries."""
    same = gradient.stride() == parameter.stride()
    return gradient if same else torch.empty_like(parameter).copy_(gradient)
