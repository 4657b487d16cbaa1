"""Automatic guides over the global latents of any pair.

Families, all Gaussian in the unconstrained space of the latents (Kucukelbir et al. 2017, "Automatic differentiation
variational inference"): `normal` (factorised), `multivariate` (full covariance), `lowrank` (low rank plus diagonal),
`laplace` (Gaussian at the mode with the curvature there), `delta` (the mode alone).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.autoguide import (
    AutoContinuous,
    AutoDelta,
    AutoGuide,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    init_to_median,
    init_to_value,
)
from torch import Tensor, nn

from zoo.batch import is_local

if TYPE_CHECKING:
    from zoo.base import Batch, ModelGuide

Family = Literal["normal", "multivariate", "lowrank", "laplace", "delta"]


class AutoLaplace(AutoContinuous):
    """Laplace approximation in unconstrained space (MacKay 2003, chapter 27).

    While it is trained the guide is a point at `loc`, so the ELBO is the log joint density there. Once `curve` has
    been given the Hessian of the negative log joint at the mode, it is N(loc, Hessian^-1).
    """

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)  # type: ignore[no-untyped-call]
        loc: Tensor = self._init_loc()  # type: ignore[no-untyped-call]
        self.loc = nn.Parameter(loc)
        self.register_buffer("scale_tril", torch.zeros(len(loc), len(loc), dtype=loc.dtype, device=loc.device))

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """The Gaussian once curved, the point mass before."""
        if self.curved:
            return dist.MultivariateNormal(self.loc, scale_tril=self.scale_tril)
        return dist.Delta(self.loc).to_event(1)

    curved = False  # a Python flag beside the buffer, so that a graph can be traced through it

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state, prefix, *rest)
        self.curved = bool(self.scale_tril.any())

    @torch.no_grad()
    def curve(self, hessian: Tensor | None) -> None:
        """Set the covariance to the inverse of `hessian`, (P, P); None goes back to a point.

        Raises:
            ValueError: the Hessian is not positive definite, so `loc` is not a mode.
        """
        self.curved = False
        self.scale_tril.zero_()
        if hessian is None:
            return
        hessian = (hessian + hessian.mT) / 2
        precision, info = torch.linalg.cholesky_ex(hessian)
        if info or not torch.isfinite(precision).all():
            low = torch.linalg.eigvalsh(hessian.nan_to_num())[0].item()
            raise ValueError(
                f"laplace: the log density is not curved downwards at the point reached (smallest eigenvalue of the "
                f"negative Hessian {low:.3g}); fit for longer, or use guide='multivariate'"
            )
        self.scale_tril.copy_(torch.linalg.cholesky(torch.cholesky_inverse(precision)))
        self.curved = True


_FAMILIES: dict[str, Callable[..., AutoGuide]] = {
    "normal": AutoNormal,
    "multivariate": AutoMultivariateNormal,
    "lowrank": AutoLowRankMultivariateNormal,
    "laplace": AutoLaplace,
    "delta": AutoDelta,
}


def _hidden(message: Any) -> bool:
    """Whether the automatic guide must not see this site: observed, local, or enumerated."""
    if message["type"] != "sample":
        return False
    enumerated = "enumerate" in message["infer"]
    return is_local(message) or message["is_observed"] or enumerated or message["name"] == "data"


def build(
    family: Family,
    model: Callable[[Batch], Any],
    values: Mapping[str, Tensor] | None = None,
) -> AutoGuide:
    """The guide; its first call makes its parameters. Latents start at `values`, else near their prior median."""
    init = init_to_value(values=dict(values or {}), fallback=init_to_median(num_samples=15))
    return _FAMILIES[family](poutine.block(model, hide_fn=_hidden), init_loc_fn=init)


def start(pair: ModelGuide, batch: Batch, values: Mapping[str, Tensor]) -> None:
    """Move the automatic guide's locations to `values`, in place; sites not named keep a fresh default start."""
    fresh = build(pair.guide_family, pair.model, values)
    with poutine.block(), torch.no_grad():
        fresh(batch)
    pair.auto.load_state_dict(fresh.state_dict())


def refresh(guide: AutoGuide, pair: ModelGuide) -> None:
    """Record the model's sites again, after a change of device or type."""
    with torch.random.fork_rng(devices=[]), torch.no_grad(), pyro.validation_enabled(False):
        model = poutine.block(guide.model, guide._prototype_hide_fn)
        guide.prototype_trace = poutine.block(poutine.trace(model).get_trace)(pair.simulate(2)[0])
