"""Normalising flows over a vector: distributions that may bend and skew, with densities in closed form.

    u = loc + tril F(e),  e ~ N(0, I),    log q(u) = log N(e; 0, I) - log |det dF/de| - log det tril

F is a chain of inverse autoregressive layers (Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling 2016, "Improving
variational inference with inverse autoregressive flow", eqs. 10-12), each in the reverse order of the one before. In a
layer the l-th number is a monotonic rational-quadratic spline of e_l on [-5, 5] (Durkan, Bekasov, Murray & Papamakarios
2019, "Neural spline flows", eqs. 4-8; the identity beyond), then scaled and shifted, all as a network says that reads
the numbers before the l-th. A draw and its density take one pass of each network; the density of any other value takes
as many as there are numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from pyro.contrib.zuko import ZukoToPyro
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, Transform, constraints

from zoo.threads.randomness import apart

LAYERS, BINS, BOUND = 3, 8, 5.0
LEAST, MOST = (
    32,
    64,
)  # hidden units, of two layers: twice as many as numbers between these, and never fewer than numbers
GAIN = 0.1  # of what networks say, so that the step size of the Gaussian's parameters suits theirs


def zuko() -> Any:
    """The package, which the extra `flows` brings.

    Raises:
        ValueError: it is not installed.
    """
    validating = Distribution._validate_args
    try:
        import zuko.distributions
        import zuko.flows
        import zuko.transforms
    except ImportError:
        raise ValueError("a flow needs the package zuko: pip install 'pyro-zoo[flows]'") from None
    finally:
        Distribution.set_default_validate_args(validating)  # importing zuko turns validation off
    return zuko


class Warp(nn.Module):
    """F of the module's first line, of P numbers: the identity at the start, and once it is `reset`.

    Args:
        size: P.

    Raises:
        ValueError: zuko, of the extra `flows`, is not installed.

    Example::

        warp = Warp(2)
        q = flowing(torch.zeros(2), torch.eye(2), warp())
        q.log_prob(q(torch.Size([5])))  # (5,), of a standard normal still
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        make = zuko().flows.MaskedAutoregressiveTransform
        hidden = max(LEAST, min(MOST, 2 * size), size)
        network = {"hidden_features": (hidden, hidden), "activation": nn.SiLU} if size > 1 else {}
        shapes = ((), (), (BINS,), (BINS,), (BINS - 1,))
        order = torch.arange(size)
        self.layers = nn.ModuleList(
            make(size, order=order if k % 2 == 0 else order.flip(0), univariate=_bent, shapes=shapes, **network)
            for k in range(LAYERS)
        )
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Be the identity, by the same networks every time: all bins are equal, all slopes and scales one."""
        with apart(0):
            for layer in self.layers:
                network: Any = getattr(layer, "hyper", None)  # one number has none
                if network is None:
                    for parameter in layer.parameters():
                        parameter.zero_()
                else:
                    _silence(network)

    def forward(self) -> list[Transform]:
        """The layers at the present parameters, the one that takes e first."""
        return [layer() for layer in self.layers]


def _silence(network: nn.Sequential) -> None:
    """Let a network say 0, by units of the last hidden layer in twos that are alike and count with opposite signs.

    With weights of 0 it would say so too, but no gradient would come to the layers before them.
    """
    linear: list[Any] = [module for module in network if isinstance(module, nn.Linear)]
    for module in linear:
        module.reset_parameters()
    inner, last = linear[-2:]
    last.bias.zero_()
    left = torch.zeros_like(last.weight)
    kinds: dict[tuple[bool, ...], int] = {}  # of what they may read and who may read them -> a unit without its twin
    for unit, kind in enumerate(torch.cat([inner.mask, last.mask.mT], -1).tolist()):
        twin = kinds.pop(tuple(kind), None)
        if twin is None:
            kinds[tuple(kind)] = unit
            continue
        inner.weight[unit], inner.bias[unit] = inner.weight[twin], inner.bias[twin]
        left[:, twin], left[:, unit] = last.weight[:, twin], -last.weight[:, twin]
    last.weight.copy_(left)


def _bent(shift: Tensor, scale: Tensor, widths: Tensor, heights: Tensor, slopes: Tensor) -> Transform:
    """One number's spline, then its scale and shift."""
    made = zuko().transforms
    spline = made.MonotonicRQSTransform(GAIN * widths, GAIN * heights, GAIN * slopes, bound=BOUND)
    found: Transform = made.ComposedTransform(spline, made.MonotonicAffineTransform(GAIN * shift, GAIN * scale))
    return found


class LowerAffine(Transform):
    """loc + tril e, of e (*, P), with loc (P,) and a Cholesky factor (P, P)."""

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, loc: Tensor, tril: Tensor) -> None:
        super().__init__()
        self.loc, self.tril = loc, tril

    def _call(self, x: Tensor) -> Tensor:
        return self.loc + x @ self.tril.mT

    def _inverse(self, y: Tensor) -> Tensor:
        found: Tensor = torch.linalg.solve_triangular(self.tril, (y - self.loc).unsqueeze(-1), upper=False)
        return found.squeeze(-1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """(*)."""
        return self.tril.diagonal().log().sum().expand(x.shape[:-1])

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        """That of its argument."""
        return shape


class Flowing(ZukoToPyro):
    """A flow of zuko's as a distribution of Pyro's, which knows its support."""

    support = constraints.real_vector

    def expand(self, *args: Any, **kwargs: Any) -> Flowing:
        """To other batch shapes."""
        return Flowing(self.dist.expand(*args, **kwargs))


def flowing(loc: Tensor, tril: Tensor, layers: list[Transform]) -> Any:
    """The distribution of loc + tril F(e), for Pyro: it keeps the density of what it draws.

    Args:
        loc: (P,).
        tril: Cholesky factor of the covariance that it has while F is the identity, (P, P).
        layers: of F, as a `Warp` gives them.
    """
    package = zuko()
    back = [transform.inv for transform in (LowerAffine(loc, tril), *reversed(layers))]  # from u to e, as zuko has it
    noise = Normal(torch.zeros_like(loc), torch.ones_like(loc))
    return Flowing(package.distributions.NormalizingFlow(package.transforms.ComposedTransform(*back), noise))
