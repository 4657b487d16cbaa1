"""How many bits a model needs for each dimension of an observation: the unit in which image models are compared.

    bits per dimension = -log2 P(x_n) / D

P is the probability of the data as they are, on their grid of whole numbers. A likelihood of whole numbers (0 or 1,
binomial, categorical) is such a probability. A density is not: it is taken as the model's belief about the number
behind the rounded one, and averaged over the cell around it, u uniform,

    P(x_n) = prod_d h  E_u[ p(x_n + h u) ],  u in (-1/2, 1/2)^D  >=  exp(E_u[log p(x_n + h u)] + D log h),

where h is the step of the grid (Theis, van den Oord & Bethge 2016, "A note on the evaluation of generative models").
Numbers for one data set compare when it is on one grid: 8-bit images with 8-bit images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inference.codes.anomaly import nats_to_bits, surprise
from inference.data.check import check
from inference.posterior.latents import Posterior
from inference.running.checked import Checked
from inference.running.quiet import seeded
from inference.running.words import check_bool, check_number
from zoo.base import ModelGuide
from zoo.rows import nth
from zoo.threads.turns import in_turn

CELLS = 8  # points of each cell that a density is averaged over


@dataclass(frozen=True)
class Bits:
    """Bits per dimension of N observations.

    Args:
        rows: of each, (N,).
        sd: the Monte Carlo errors of these, (N,).
        dimensions: numbers in each that are not missing, (N,).
        tight: whether they are of the marginal -log2 P(x_n); else of the bound on it, which is larger.
        width: the step h of the grid, where the likelihood is a density; None where it is a probability.
    """

    rows: Tensor
    sd: Tensor
    dimensions: Tensor
    tight: bool
    width: float | None = None

    @property
    def mean(self) -> float:
        """All bits over all dimensions."""
        return float((self.rows * self.dimensions).sum() / self.dimensions.sum())

    @property
    def error(self) -> float:
        """Standard error of the mean over observations; NaN of a single one."""
        apart = (self.rows - self.mean) * self.dimensions
        return float(apart.square().sum().sqrt() / self.dimensions.sum()) if len(apart) > 1 else math.nan

    def __str__(self) -> str:
        """In words."""
        about = "importance-sampled" if self.tight else "bound"
        cell = f"; a density, over cells of width {self.width:.4g}" if self.width is not None else ""
        return f"{self.mean:.4f} ± {self.error:.4f} bits per dimension ({about}, {len(self.rows)} observations{cell})"


@in_turn
def bits_per_dimension(
    pair: ModelGuide,
    data: Any,
    *,
    tight: bool = False,
    draws: int | None = None,
    width: float | None = None,
    posterior: Posterior | None = None,
    seed: int = 0,
) -> Bits:
    """Bits per dimension of each observation, and their mean.

    Args:
        pair: a fitted pair, of images, counts, texts or other numbers on a grid.
        data: see `inference.data`; any number of rows.
        tight: of the marginal probability, by importance sampling; else of the bound on it.
        draws: of codes and global latents, for each row (and for each of 8 points of its cells, of a density); by
            default 20, or 5,000 where `tight`.
        width: of a density: the step of the grid that the data are on; by default 1 where all are whole numbers, 1/255
            where all are shares of 255.
        posterior: of the global latents; by default draws from the guide.
        seed: seeds everything drawn.

    Raises:
        ValueError: data on no known grid under a density, a `width` of no use, a table of several kinds of columns.

    Example:
        >>> print(inference.bits_per_dimension(pair, images))  # doctest: +SKIP
        1.9531 ± 0.0114 bits per dimension (bound, 1000 observations)
    """
    check_bool("tight", tight)
    given = check(pair, data)
    if pair.schema is not None:
        raise ValueError(f"bits per dimension: {pair.name} models a table, whose columns are on no common grid")
    options: dict[str, Any] = {"tight": tight, "draws": draws, "posterior": posterior}
    dimensions = _dimensions(given)
    discrete = {name: site.discrete for name, site in given.observed.items()}
    if all(discrete.values()):
        if width is not None:
            raise ValueError(f"width: {pair.name} gives probabilities of whole numbers, which take none")
        nats, sd = surprise(given, seed=seed, **options)
        return _bits(nats, sd, dimensions, tight, None)
    if any(discrete.values()):
        raise ValueError(f"bits per dimension: {pair.name} observes whole numbers and real ones together")
    step = _width(given, width)
    nats, sd = _over_cells(given, step, options, seed)
    return _bits(nats - dimensions * math.log(step), sd, dimensions, tight, step)


def _bits(nats: Tensor, sd: Tensor, dimensions: Tensor, tight: bool, width: float | None) -> Bits:
    return Bits(nats_to_bits(nats) / dimensions, nats_to_bits(sd) / dimensions, dimensions, tight, width)


def _over_cells(given: Checked, step: float, options: dict[str, Any], seed: int) -> tuple[Tensor, Tensor]:
    """Minus the log density of each row averaged over its cell, (N,), and its error."""
    found = []
    for k in range(CELLS):
        fields = {}
        with seeded(seed + k):
            for name in given.observed:
                value = getattr(given.batch, name)
                fields[name] = value + step * (torch.rand(value.shape, dtype=torch.float64) - 0.5).to(value)
        found.append(surprise(given.but(given.batch.but(**fields)), seed=seed + k, **options))
    scores, errors = torch.stack([score for score, _ in found]), torch.stack([error for _, error in found])
    if options["tight"]:
        weight = (-scores).softmax(0)
        within = (weight * errors).square().sum(0)
        between = (weight - 1 / CELLS).square().sum(0) * CELLS / (CELLS - 1)
        return math.log(CELLS) - (-scores).logsumexp(0), (within + between).sqrt()
    return scores.mean(0), scores.std(0) / math.sqrt(CELLS)


def _dimensions(given: Checked) -> Tensor:
    """Numbers observed in each row that are not missing, (N,)."""
    total = torch.zeros(given.size, dtype=given.pair.dtype, device=given.pair.device)
    for name in given.observed:
        value = getattr(given.batch, name)
        there = ~value.isnan()
        if (lengths := given.batch.lengths) is not None and value.ndim > 1:
            within = torch.arange(value.shape[1], device=value.device) < lengths[:, None]
            there = there & within.reshape(*within.shape, *[1] * (value.ndim - 2))
        total += there.reshape(given.size, -1).sum(1)
    if not bool((total > 0).all()):
        row = int((total == 0).nonzero()[0])
        raise ValueError(f"bits per dimension, row {nth(row)}: everything is missing")
    return total


def _width(given: Checked, wanted: float | None) -> float:
    """The step of the grid that the data are on.

    Raises:
        ValueError: none is known.
    """
    if wanted is not None:
        check_number("width", wanted)
        if wanted <= 0:
            raise ValueError(f"width: expected a number above 0, got {wanted}")
        return float(wanted)
    values = torch.cat([getattr(given.batch, name).flatten() for name in given.observed]).double()
    values = values[values.isfinite()]
    if bool((values == values.round()).all()):
        return 1.0
    if bool(((values >= 0) & (values <= 1)).all()) and bool(((255 * values).round() / 255 - values).abs().max() < 1e-6):
        return 1 / 255
    raise ValueError(
        f"bits per dimension: {given.pair.name} gives a density, and the data are neither whole numbers nor shares of "
        "255; width=… says on what grid they are"
    )
