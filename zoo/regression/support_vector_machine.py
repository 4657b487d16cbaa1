r"""Bayesian support vector machine, linear or with a Gaussian kernel, for two classes or one against the rest.

For features phi(x) in R^F of the standardised covariates, functions k = 1..K' and rows n = 1..N,

    weights     w_k ~ N(0, I / 2)
    intercept   b_k ~ N(0, s^2 / 2)
    f_k(x)          = w_k phi(x) + b_k
    y           y_n given x_n ~ Hinge:   log l(y | f) = -2 C sum_k max(0, 1 - s_k(y) f_k(x))

with y in 0..K-1. Two classes need one function, K' = 1, with s(1) = 1 and s(0) = -1; more have one each, K' = K, with
s_k(k) = 1 and s_k(y) = -1 otherwise. All latents are global. The log of prior times pseudo-likelihood is minus twice

    1/2 sum_k (|w_k|^2 + b_k^2 / s^2) + C sum_n sum_k max(0, 1 - s_k(y_n) f_k(x_n))

the objective of the soft-margin machine (Polson & Scott 2011, section 2): with `likelihood="hinge"` the mode, of
`guide="delta"`, is that machine. Its intercept is penalised as liblinear's is with `intercept_scaling` s; libsvm's is
free (s to infinity).

The pseudo-likelihood l is no density: its sum over y depends on f. What is fitted and what is predicted:

    likelihood     fitted by                              y drawn, and predicted, from
    normalised     l(y | f) / sum_y' l(y' | f)            the same: an ordinary generative model
    hinge          l(y | f), as in Polson & Scott         l(y | f) / sum_y' l(y' | f)

The second is coherent too (Sollich 2002, section 3): there sum_y l(y | f) weighs the inputs, which are thought rarer
where f leaves room for doubt, and p(y | x, f) is the same ratio in both. Log-likelihoods of new rows are probabilities
under `normalised` only. Predictions average over the posterior of w and b.

The Gaussian kernel exp(-gamma |s - t|^2) is estimated by R random frequencies, F = 2R (Rahimi & Recht 2007, "Random
features for large-scale kernel machines"); they are drawn when the pair is made, and are part of its state.

Held against, in `test_support_vector_machine.py`: the primal objective of scikit-learn's LinearSVC and SVC with hinge
loss, on breast cancer, wine and iris (within 1e-3, relative).

References: Polson & Scott (2011), "Data augmentation for support vector machines"; Sollich (2002), "Bayesian methods
for support vector machines: evidence and predictive class probabilities".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.abilities import InTheirUnits
from zoo.base import Batch, ModelGuide, register
from zoo.config import Positive
from zoo.guides import Family
from zoo.parts.constants import constants
from zoo.parts.covariates import Fourier, by_row, check_response, covariates, response
from zoo.parts.designs import of_classes
from zoo.parts.units import Units
from zoo.schema.design import Design
from zoo.suiting import Suit, content, left_out


class Hinge(dist.Categorical):
    """Classes y in 0..K-1 with log l(y | f) = -2 C sum_k max(0, 1 - s_k(y) f_k); drawn from l normalised over y.

    Args:
        f: values of the functions, (*, K'); K' = 1 stands for two classes.
        cost: C.
        normalised: whether the log density is that of the draws; otherwise it is log l itself.
    """

    def __init__(self, f: Tensor, cost: Tensor, normalised: bool) -> None:
        self.f, self.cost, self.normalised = f, cost, normalised
        yes, no = functional.relu(1 - f), functional.relu(1 + f)
        loss = torch.cat([no, yes], -1) if f.shape[-1] == 1 else no.sum(-1, keepdim=True) - no + yes  # (*, K)
        self.potential = -2 * cost * loss
        super().__init__(logits=self.potential, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Hinge:
        """The same, of more batch dimensions."""
        return Hinge(self.f.expand(*batch_shape, self.f.shape[-1]), self.cost, self.normalised)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of each class, or log l where not normalised, (*)."""
        density: Tensor = super().log_prob(value)  # type: ignore[no-untyped-call]
        return density if self.normalised else density + self.potential.logsumexp(-1)


@register("support_vector_machine")
class SupportVectorMachine(ModelGuide):
    """Support vector machine with a posterior over its weights (Polson & Scott 2011).

    Its joint density stands at the top of this file.

    Args:
        features: number of covariates D.
        classes: K.
        kernel: `linear` (phi(x) = x standardised, F = D), or `rbf`, Gaussian.
        gamma: inverse squared width of the Gaussian kernel, in standard units; 1 / D if left out.
        frequencies: R, of the Gaussian kernel.
        cost: C.
        intercept_scale: s.
        likelihood: `normalised` or `hinge`, see above.
        guide: automatic guide over weights and intercepts; `delta` is the usual machine.
        design: how x and y come from a frame (`zoo.datasets.Design`); features and classes are read off it.

    Raises:
        ValueError: fewer than two classes.
    """

    adapts: ClassVar = ("classes",)
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "x": ("feature",), "weights": ("function", "basis"), "intercept": ("function",),
    }  # fmt: skip

    def __init__(
        self,
        features: int = 2,
        classes: int = 2,
        kernel: Literal["linear", "rbf"] = "linear",
        gamma: Positive | None = None,
        frequencies: int = 100,
        cost: Positive = 1.0,
        intercept_scale: Positive = 1.0,
        likelihood: Literal["normalised", "hinge"] = "normalised",
        guide: Family = "normal",
        design: Design | None = None,
    ) -> None:
        super().__init__(guide)
        self.design = design
        features, classes = (features, classes) if design is None else of_classes(self, design)
        if classes < 2:
            raise ValueError(f"support_vector_machine: needs at least 2 classes, got classes={classes}")
        self.features, self.classes, self.normalised = features, classes, likelihood == "normalised"
        self.standard = Units(features)
        self.basis = nn.Identity() if kernel == "linear" else Fourier(features, frequencies, gamma or 1 / features)
        self.shape = (1 if classes == 2 else classes, features if kernel == "linear" else 2 * frequencies)  # (K', F)
        half = math.sqrt(0.5)
        constants(self, cost=cost, zero=0.0, weight_scale=half, intercept_scale=intercept_scale * half)

    @classmethod
    def suits(cls, data: Batch, given: Mapping[str, Any]) -> Suit:
        """Width, and the number of classes of y."""
        known = data.y is not None and left_out(given, "classes")
        most = content(data.y).most if known and data.y is not None else 0
        return super().suits(data, given) | Suit({"classes": most + 1} if most else {})

    def model(self, batch: Batch) -> Tensor:
        """Sample weights, intercepts and y; returns y, (B,)."""
        weights = pyro.sample("weights", dist.Normal(self.zero, self.weight_scale).expand(self.shape).to_event(2))
        prior = dist.Normal(self.zero, self.intercept_scale).expand(self.shape[:1]).to_event(1)
        intercept = pyro.sample("intercept", prior)  # (K')
        f = by_row(self.phi(batch), weights.mT) + intercept  # (B, K')
        with batch.plate():
            y: Tensor = pyro.sample("y", Hinge(f, self.cost, self.normalised), obs=batch.y)  # (B)
        return y

    def phi(self, batch: Batch) -> Tensor:
        """The features of each row, (B, F)."""
        found: Tensor = self.basis(self.standard(covariates(self, batch, self.features)))
        return found

    def inputs(self, n: int) -> Batch:
        """Covariates drawn from a Gaussian with the mean and deviation of each training column."""
        normal = torch.randn(n, self.features, dtype=self.dtype, device=self.device)
        return Batch(n, n, x=self.standard.inverse(normal))

    def check(self, batch: Batch) -> None:
        """Refuse labels of one class."""
        check_response(self, batch, classes=True)

    def measure(self, batch: Batch) -> None:
        """The standard units of the covariates."""
        self.standard.place(covariates(self, batch, self.features))

    def in_units(self, values: Mapping[str, Tensor], columns: Sequence[str]) -> InTheirUnits:
        """Of the linear kernel, coefficients (term), or (class, term), in units of the covariates."""
        if not isinstance(self.basis, nn.Identity):
            return {}
        weights, intercept = (values[name].to("cpu", torch.float64) for name in ("weights", "intercept"))
        slopes = weights / self.standard.unit.to(weights)  # (S, K', D)
        start = intercept - (slopes * self.standard.centre.to(weights)).sum(-1)
        found, terms = torch.cat([start.unsqueeze(-1), slopes], -1), ["Intercept", *columns]
        if self.shape[0] == 1:
            return {"coefficients": (found.squeeze(-2), {"term": terms})}
        known = self.target.categories if self.target is not None else range(self.classes)
        return {"coefficients": (found, {"class": [str(name) for name in known], "term": terms})}

    @torch.no_grad()
    def initial(self, batch: Batch) -> dict[str, Tensor]:
        """Start at the soft-margin machine."""
        x, y = covariates(self, batch, self.features), response(self, batch)
        constant = float(self.intercept_scale / self.weight_scale)  # s: a feature that stands for the intercept
        phi = functional.pad(self.phi(batch), (0, 1), value=constant).double()  # (N, F + 1)
        sign = 2 * functional.one_hot(y.long(), self.classes).double()[:, -self.shape[0] :] - 1  # (N, K')
        found = soft_margin(phi, sign, float(self.cost) * batch.total / batch.size).mT.to(x)  # (K', F + 1)
        return {"weights": found[:, :-1], "intercept": constant * found[:, -1]}


def soft_margin(phi: Tensor, sign: Tensor, cost: float, tolerance: float = 1e-4, steps: int = 5000) -> Tensor:
    """argmin_w 1/2 |w|^2 + C sum_n max(0, 1 - s_n w phi_n), a machine for each column of signs: (F, K').

    By accelerated projected gradients on the dual, max sum(a) - 1/2 |sum_n a_n s_n phi_n|^2 over 0 <= a <= C, restarted
    where they turn back (O'Donoghue & Candes 2015), until the duality gap is this small a part of the objective.
    """
    rate = 1 / torch.linalg.matrix_norm(phi, 2).square().clamp(min=torch.finfo(phi.dtype).tiny)
    now = ahead = torch.zeros_like(sign)  # (N, K')
    momentum, best, least = 1.0, phi.mT @ sign * 0, torch.full_like(sign[0], torch.inf)
    for step in range(steps):
        slope = 1 - sign * (phi @ (phi.mT @ (ahead * sign)))
        after = (ahead + rate * slope).clamp(0, cost)
        turned = ((after - now) * (after - ahead)).sum() < 0
        momentum, before = 1.0 if turned else (1 + math.sqrt(1 + 4 * momentum**2)) / 2, momentum
        ahead = after if turned else after + (before - 1) / momentum * (after - now)
        now = after
        if step % 20 == 19:
            weights = phi.mT @ (now * sign)  # (F, K')
            square = 0.5 * weights.square().sum(0)
            primal = square + cost * functional.relu(1 - sign * (phi @ weights)).sum(0)
            best, least = torch.where(primal < least, weights, best), primal.minimum(least)
            if bool((least - (now.sum(0) - square) <= tolerance * least).all()):
                break
    return best
