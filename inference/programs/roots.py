"""Roots of covariances: what has none gives no number, and densities by a root have their gradient by the covariance.

With K = L L' and a = K^-1 (x - m), the log density of x ~ Normal(m, K) has

    d/dK = (a a' - K^-1) / 2,        d/dm = a

(Rasmussen & Williams 2006, "Gaussian Processes for Machine Learning", equation 5.9). By way of L, autograd takes three
products and solutions of N rows more than the one inverse here: half the time of a Gaussian process of a hundred rows.
"""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.overrides import TorchFunctionMode


class Roots(Messenger, TorchFunctionMode):
    """Inside, `torch.linalg.cholesky` raises nothing, and densities of normals know the covariance behind a root.

    A step of a chain that leads to a matrix without a root ends in a density that is not a number, as any other does
    that leads out of where the density is defined.
    """

    def __init__(self) -> None:
        Messenger.__init__(self)
        TorchFunctionMode.__init__(self)
        self.known: dict[int, tuple[Tensor, Tensor]] = {}  # id of a root -> it, which so lives on, and what it is of

    def __enter__(self) -> Any:
        TorchFunctionMode.__enter__(self)
        return Messenger.__enter__(self)

    def __exit__(self, *error: Any) -> Any:
        Messenger.__exit__(self, *error)
        return TorchFunctionMode.__exit__(self, *error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.linalg.cholesky and not kwargs:
            root, info = torch.linalg.cholesky_ex(*args)
            root = root + torch.where(info > 0, math.nan, 0.0).to(root.dtype)[..., None, None]
            self.known[id(root)] = root, args[0]
            return root
        return func(*args, **kwargs)

    def _pyro_sample(self, message: Any) -> None:
        fn = message["fn"]
        if isinstance(fn, MultivariateNormal):
            _, covariance = self.known.get(id(fn._unbroadcasted_scale_tril), (None, None))
            if covariance is not None:
                fn = copy.copy(fn)  # the program's own stays as it is
                vars(fn)["log_prob"] = partial(_log_prob, message["fn"], covariance)
                message["fn"] = fn


def _log_prob(fn: Any, covariance: Tensor, value: Tensor) -> Tensor:
    with torch.no_grad():
        log_p = fn.log_prob(value)
    found: Tensor = _Density.apply(covariance, value - fn.loc, log_p)  # type: ignore[no-untyped-call]
    return found


class _Density(torch.autograd.Function):
    """The log density of x - m, (..., n), under K, (..., n, n), which is known; with its gradient by both."""

    @staticmethod
    def forward(ctx: Any, covariance: Tensor, apart: Tensor, log_p: Tensor) -> Tensor:
        ctx.save_for_backward(covariance, apart)
        return log_p.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        covariance, apart = ctx.saved_tensors
        root, info = torch.linalg.cholesky_ex(covariance)
        unit = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device)
        inverse = torch.cholesky_inverse(torch.where((info > 0)[..., None, None], unit, root))  # else it would raise
        if covariance.ndim == 2:  # one for all rows
            solved = apart @ inverse  # (..., n)
            rows = solved.reshape(-1, apart.shape[-1])
            outer = rows.mT @ (rows * slope.reshape(-1, 1))
        else:
            solved = (inverse @ apart.unsqueeze(-1)).squeeze(-1)
            outer = solved.unsqueeze(-1) * (solved * slope.unsqueeze(-1)).unsqueeze(-2)
        by_covariance = 0.5 * (
            outer.sum_to_size(covariance.shape) - inverse * slope.sum_to_size(covariance.shape[:-2])[..., None, None]
        )
        return by_covariance, (-solved * slope.unsqueeze(-1)).sum_to_size(apart.shape), None


__all__ = ["Roots"]
