"""Automatic guides over the global latents of any pair.

Families in the unconstrained space of the latents, nearly all Gaussian there (Kucukelbir et al. 2017, "Automatic
differentiation variational inference"): `normal` (factorised), `multivariate` (full covariance), `lowrank` (low rank
plus diagonal), `flow` (a full covariance, bent and skewed by a normalising flow: `zoo.flows`), `laplace` (Gaussian at
the mode with the curvature there), `delta` (the mode alone). `auto` is `normal` until `inference.fit` or
`inference.infer` picks one of these (`inference.fitting.picking`); the pair is then of that family.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, cast

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.autoguide import (
    AutoContinuous,
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuide,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    init_to_median,
)
from torch import Tensor, nn
from torch.distributions import biject_to

from zoo.batch import Batch, is_local
from zoo.flows import Warp, flowing
from zoo.structure import note
from zoo.threads.handlers import PairContext, unvalidated
from zoo.threads.randomness import apart

WIDTH = 0.1  # standard deviation that Gaussian guides start from, in standardised space
PARTICLES = {"flow": 32}  # draws a step of `inference.fit` of the families that want more than one
_DRAWS = 10_000  # behind quantiles that have no closed form

Family = Literal["normal", "multivariate", "lowrank", "flow", "laplace", "delta", "auto"]


class Landing(dist.TorchDistribution):
    """A Gaussian whose density at its own draws has their gradient and none of its parameters.

    What is left out is zero on average and nothing but noise: without it a guide that is the posterior has gradients of
    zero at every draw, and stays (Roeder, Wu & Duvenaud 2017, "Sticking the landing").

    Args:
        base: of one of the families here.
    """

    has_rsample = True
    arg_constraints = {}  # noqa: RUF012 - torch's name and type

    def __init__(self, base: Any) -> None:
        self.base = base
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """All reals."""
        return self.base.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> Landing:
        """The same, of more batch dimensions."""
        return Landing(self.base.expand(batch_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """A draw, (*sample_shape, P)."""
        drawn: Tensor = self.base.rsample(sample_shape)
        return drawn

    def log_prob(self, value: Tensor) -> Tensor:
        """Its density, as a function of the draw alone."""
        still = copy.copy(self.base)
        for name, held in vars(still).items():
            if isinstance(held, Tensor):
                vars(still)[name] = held.detach()
            elif isinstance(held, dist.Distribution):
                vars(still)[name] = Landing(held)
        density: Tensor = still.log_prob(value)
        return density


class Standardised(AutoContinuous):
    """A Gaussian guide over a standardised latent: unconstrained latent = centre + unit * latent.

    The optimiser moves every location by about the same amount a step. Once `unit` is set so that the posterior has
    width `WIDTH` in every direction of the standardised space, that amount suits posteriors of any width.
    """

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.register_buffer("centre", self.loc.detach().clone())
        self.register_buffer("unit", self._unit_of(torch.ones_like(self.centre)))
        with torch.no_grad():
            self.loc.zero_()

    landing = False  # a Python flag, so that a graph can be traced through it: see `Landing`
    lands: ClassVar[bool] = True  # whether its posterior may do so

    def sample_latent(self, *args: Any, **kwargs: Any) -> Tensor:
        """Draw the unconstrained latents, (P,)."""
        posterior = self.get_posterior(*args, **kwargs)  # type: ignore[no-untyped-call]
        posterior = Landing(posterior) if self.landing and self.lands else posterior
        latent: Tensor = pyro.sample(f"_{self._pyro_name}_latent", posterior, infer={"is_auxiliary": True})
        return latent

    def _unit_of(self, width: Tensor) -> Tensor:
        """The unit that stands for independent latents of these widths, (P,)."""
        return width

    def _unit_now(self) -> Tensor:
        """The unit in which the present guide would have width 1."""
        unit: Tensor = self.unit * self._scale()
        return unit

    def _scale(self) -> Tensor:
        scale: Tensor = cast(Any, self).scale
        return scale

    def _loc_scale(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        posterior = self.get_posterior()  # type: ignore[no-untyped-call]
        return posterior.mean, posterior.stddev

    def gaussian(self) -> Any:
        """The Gaussian that the guide is, or is made of, over the unconstrained latents, (P,)."""
        return self.get_posterior()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def standardise(self, width: Tensor | None = None, tril: Tensor | None = None) -> None:
        """Set `unit` so that the latent has width `WIDTH`. The distribution stays, unless another is given.

        Args:
            width: standard deviations to take on, (P,).
            tril: Cholesky factor of the covariance to take on where the family can, (P, P).
        """
        loc = self.gaussian().mean
        unit = self._unit_now() if width is None else self._unit_of(width)
        self.unit.copy_((tril if tril is not None and self.unit.ndim == 2 else unit) / WIDTH)
        self.centre.copy_(loc)
        self.loc.zero_()
        setattr(self, "scale", torch.full_like(loc, WIDTH))  # noqa: B010 - a PyroParam takes a tensor


class Normal(Standardised, AutoDiagonalNormal):
    """Factorised Gaussian."""

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """Normal over the unconstrained latents, (P,)."""
        return dist.Normal(self.centre + self.unit * self.loc, self.unit * self.scale).to_event(1)


class Multivariate(Standardised, AutoMultivariateNormal):
    """Gaussian of any covariance."""

    def _unit_of(self, width: Tensor) -> Tensor:
        return width.diag_embed()

    def _unit_now(self) -> Tensor:
        tril: Any = self.scale_tril
        unit: Tensor = self.unit @ (self._scale().unsqueeze(-1) * tril)
        return unit

    def standardise(self, width: Tensor | None = None, tril: Tensor | None = None) -> None:
        """See `Standardised.standardise`; correlations go into `unit` too."""
        super().standardise(width, tril)
        setattr(self, "scale_tril", torch.eye(len(self.loc)).to(self.loc))  # noqa: B010 - a PyroParam takes a tensor

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """Multivariate normal over the unconstrained latents, (P,)."""
        return dist.MultivariateNormal(self.centre + self.unit @ self.loc, scale_tril=self._unit_now())


class Flow(Multivariate):
    """A Gaussian of any covariance whose standard normal noise goes through a normalising flow, the identity at first.

    So it begins as the Gaussian that it is placed at, which stays within the family (see `zoo.flows`).
    """

    lands = False

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        with apart(0):
            self.warp = Warp(self.latent_dim).to(self.loc)

    def gaussian(self) -> Any:
        """The Gaussian that it is but for the flow."""
        return super().get_posterior()

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """The flow over the unconstrained latents, (P,)."""
        return flowing(self.centre + self.unit @ self.loc, self._unit_now(), self.warp())

    def standardise(self, width: Tensor | None = None, tril: Tensor | None = None) -> None:
        """See `Standardised.standardise`; where a Gaussian is given, the flow is the identity again."""
        super().standardise(width, tril)
        if width is not None:
            self.warp.reset()

    def median(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Medians of the latents by site, as `quantiles` has them."""
        return {name: value[0] for name, value in self.quantiles([0.5]).items()}

    @torch.no_grad()
    def quantiles(self, quantiles: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Quantiles of each number, by the same draws every time: site -> (Q, *event)."""
        wanted = torch.as_tensor(quantiles).to(self.loc)
        with apart(0):
            latents = self.get_posterior()(torch.Size([_DRAWS])).quantile(wanted, 0)  # (Q, P)
        pieces = [list(self._unpack_latent(latent)) for latent in latents]  # type: ignore[no-untyped-call]
        parts = [{site["name"]: biject_to(site["fn"].support)(value) for site, value in piece} for piece in pieces]
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


class LowRank(Standardised, AutoLowRankMultivariateNormal):
    """Gaussian whose covariance is diagonal plus low rank, sqrt(P)."""

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """Low-rank multivariate normal over the unconstrained latents, (P,)."""
        scale = self._unit_now()
        loc = self.centre + self.unit * self.loc
        return dist.LowRankMultivariateNormal(loc, self.cov_factor * scale.unsqueeze(-1), scale.square())


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
    "normal": Normal,
    "multivariate": Multivariate,
    "lowrank": LowRank,
    "flow": Flow,
    "laplace": AutoLaplace,
    "delta": AutoDelta,
    "auto": Normal,
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
    given, median = dict(values or {}), init_to_median(num_samples=15)

    def init(site: Any) -> Any:
        value = given.get(site["name"])
        return median(site) if value is None else _inside(site["fn"].support, value)

    guide = _FAMILIES[family](poutine.block(model, hide_fn=_hidden), init_loc_fn=init)
    guide._pyro_context = PairContext()  # until a pair takes it over
    return guide


def _inside(support: Any, value: Tensor) -> Tensor:
    """The value, a little off the edge of its support if rounding has put it there: it would be infinite off it.

    So much nearer to the middle that the unconstrained value is finite: a correlation of 1 in single precision, say.
    """
    transform, step = biject_to(support), torch.finfo(value.dtype).eps
    for _ in range(10):
        free = transform.inv(value)
        if free.isfinite().all():
            break
        value, step = value + step * (transform(torch.zeros_like(free)) - value), 4 * step
    return value


def start(
    guide: AutoGuide, family: Family, model: Callable[[Batch], Any], batch: Batch, values: Mapping[str, Tensor]
) -> None:
    """Move a guide of `build(family, model)` to `values`, in place; sites not named keep a fresh default start."""
    fresh = build(family, model, values)
    with poutine.block(), torch.no_grad():
        fresh(batch)
    guide.load_state_dict(fresh.state_dict())


def adopt(pair: Any, family: Family, batch: Batch) -> None:
    """Give a pair another family, in place, as if it had been made with it; what was trained stays, as far as it can.

    Args:
        pair: with an automatic guide and an argument `guide`.
        batch: of the data; two rows of them will do.
    """
    trained, kept = pair.trained, pair.automatic
    with poutine.block(), torch.no_grad(), apart(0), unvalidated():
        guide = build(family, pair.model)
        guide(batch)
    guide._pyro_set_supermodule("auto", pair._pyro_context)
    pair._modules["auto"] = guide.train(kept.training)
    if trained and isinstance(kept, Standardised) and isinstance(guide, Standardised):
        gaussian = kept.gaussian()
        put(guide, gaussian.mean, getattr(gaussian, "scale_tril", gaussian.stddev.diag_embed()))
    pair.guide_family = family
    pair.config["guide"] = family
    note(pair, "auto")
    pair._announce()
    if not trained:
        pair._settle()


@torch.no_grad()
def put(guide: Any, loc: Tensor, tril: Tensor) -> None:
    """Put a guide at a Gaussian of this Cholesky factor (P, P), as far as it can hold one."""
    width = torch.linalg.inv(tril).square().sum(0).rsqrt()  # of each number, the others held
    guide.centre.copy_(loc)
    guide.loc.zero_()
    guide.standardise(width.to(guide.loc), tril.to(guide.loc))


def refresh(guide: AutoGuide, batch: Batch) -> None:
    """Record the model's sites again, from a run on `batch`, after a change of device or type."""
    with apart(), torch.no_grad(), unvalidated():
        model = poutine.block(guide.model, guide._prototype_hide_fn)
        guide.prototype_trace = poutine.block(poutine.trace(model).get_trace)(batch)
