"""Whether a Gaussian guide stands where the ELBO is highest: losses that stand still do not say so.

In the guide's own units, where it has width 1 in every direction, the slope of the ELBO is that of a Gaussian whose
centre is off by as many deviations, and whose widths are off by half as large a part. A guide that is far too narrow
along a ridge has slopes near 1 there, in nats, while its losses may barely move.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from inference.fitting.step import Stepper
from zoo import guides
from zoo.base import Batch

DRAWS = 64  # gradients; four times as many where those leave a doubt
_STEEP = 0.3  # nats for each width: less is good enough, a guide that is off by 0.3 deviations or a sixth of its width
_DOUBT, _SURE = 2.5, 4.0  # standard errors


def slope(stepper: Stepper, batches: Callable[[], Batch], one: Tensor) -> float:
    """The steepest slope of the ELBO that is steep beyond doubt, in nats for a width of the guide; else 0.

    The guide stays what it is; the parameters that stand for it are those of its own units afterwards.

    Args:
        stepper: of a pair with a standardised guide.
        batches: the next minibatch.
        one: weight of the KL terms.
    """
    auto = stepper.pair.automatic
    if not isinstance(auto, guides.Standardised):
        return 0.0
    auto.standardise()
    units = {name: unit for name, unit in _units(auto).items() if name in stepper.parameters}
    total, squares, count = torch.zeros_like(one), torch.zeros_like(one), 0
    for draws, errors in ((DRAWS, _DOUBT), (4 * DRAWS, _SURE)):
        for _ in range(draws):
            batch = batches()
            gradients = dict(zip(stepper.parameters, stepper(batch, one)[1], strict=True))
            slopes = torch.cat([(gradients[name] * unit).flatten() for name, unit in units.items()]).double()
            total, squares = total + batch.total * slopes, squares + (batch.total * slopes).square()
        count += draws
        mean = (total / count).abs()
        error = ((squares / count - mean.square()).clamp(min=0) / (count - 1)).sqrt()
        steep = mean[(mean > _STEEP) & (mean > errors * error)]
        if not len(steep) or not bool(mean.isfinite().all()):
            return 0.0
    return float(steep.max())


def _units(auto: guides.Standardised) -> dict[str, float | Tensor]:
    """What a parameter changes by when the guide moves by one of its widths, or gets e times as wide."""
    scale = auto.scale.detach()
    inner = -torch.expm1(-scale)  # the derivative of softplus, which keeps widths positive
    units: dict[str, float | Tensor] = {"auto.loc": guides.WIDTH, "auto.scale_unconstrained": scale / inner}
    if isinstance(auto, guides.Multivariate):
        units["auto.scale_tril_unconstrained"] = torch.ones_like(scale)[:, None].expand(len(scale), -1).tril(-1)
    return units
