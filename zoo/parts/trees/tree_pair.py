"""What a soft tree and a sum of soft trees have in common as pairs: gates, leaves given gates, noise and response.

The joint density and the guide stand at the top of each of their files. A subclass says what its leaves come from, what
classes follow from them, and where its guide starts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from zoo.base import Batch, ModelGuide
from zoo.parts.constants import constants
from zoo.parts.covariates import Ranks, by_row, check_response, covariates
from zoo.parts.designs import of_classes, of_numbers
from zoo.parts.trees.leaves import Pseudo
from zoo.parts.trees.soft_trees import Anatomy, Gates, anatomy
from zoo.parts.units import Units
from zoo.schema.design import Design
from zoo.state.memory import check_room
from zoo.suiting import Suit, content, left_out

Task = Literal["regression", "classification"]


class TreePair(ModelGuide):
    """Soft trees over the ranks of D covariates, with a posterior of the leaves given the gates.

    Args:
        features: number of covariates D.
        task: `regression` or `classification`.
        classes: K, of a classification.
        trees: T, which gives leaves and gates a leading dimension; None for one tree without it.
        depth: H.
        sparsity, sharpness: of the gates.
        inducing: number of pseudo-observations J behind the leaves' posterior.
        design: how x and y come from a frame; features and classes are read off it.
        counts: whether these are counts of classes.

    Raises:
        ValueError: a classification of fewer than two classes, or trees so deep that memory does not hold them.
    """

    adapts: ClassVar = ("classes",)
    step_size = 0.04  # 1e-2 is too short for the 500 steps that do

    def __init__(
        self,
        features: int,
        task: Task,
        classes: int,
        trees: int | None,
        depth: int,
        sparsity: float,
        sharpness: float,
        inducing: int,
        design: Design | None = None,
        counts: bool = False,
    ) -> None:
        super().__init__()
        if design is not None and task == "classification":
            features, classes = of_classes(self, design)
        elif design is not None:
            features = of_numbers(self, design)
        self.design, self.features, self.depth, self.classification = design, features, depth, task == "classification"
        if self.classification and classes < 2:
            raise ValueError(f"{self.name}: a classification needs at least 2 classes, got classes={classes}")
        nodes = (trees or 1) * 2 ** min(depth, 99)
        each = 4 * (features + 2) + (0 if counts else nodes)  # its gate, and a row of the matrix of leaves
        check_room(f"{self.name}: depth", depth, 4 * nodes * each)
        self.ranks, self.units = Ranks(features), Units()
        self.gates = Gates(features, depth, trees, sharpness, sparsity)
        leaves = (2**depth, classes if self.classification else 1)
        self.shape = leaves if trees is None else (trees, *leaves)  # (L, K) or (T, L, K)
        self.pseudo = Pseudo(inducing, features, self.shape[-1], counts)
        if not self.classification:
            constants(self, noise_loc=math.log(0.5), noise_scale=1.0)
            self.log_noise = nn.Parameter(torch.tensor(math.log(0.5)))
            self.log_noise_width = nn.Parameter(torch.tensor(math.log(0.1)))

    @classmethod
    def suits(cls, data: Batch, given: Mapping[str, Any]) -> Suit:
        """Width, and of a classification the number of classes of y."""
        codes = given.get("task") == "classification" and left_out(given, "classes")
        most = content(data.y).most if codes and data.y is not None else 0
        return super().suits(data, given) | Suit({"classes": most + 1} if most else {})

    def model(self, batch: Batch) -> Tensor:
        """Sample gates, leaves, noise and y; returns y, (B,)."""
        gates = self.gates.sample_prior()
        leaves = self.flat(pyro.sample("leaves", self.leaf_prior()))  # (M, K), M leaves in all
        f = by_row(self.reach(self.ranks(covariates(self, batch, self.features)), gates), leaves)  # (B, K)
        density: dist.TorchDistribution
        if self.classification:
            density = self.labels(f)
        else:
            noise = pyro.sample("noise", dist.LogNormal(self.noise_loc, self.noise_scale))  # ()
            density = dist.Normal(self.units.inverse(f.squeeze(-1)), self.units.unit * noise)
        with batch.plate():
            y: Tensor = pyro.sample("y", density, obs=batch.y)  # (B)
        return y

    def guide(self, batch: Batch) -> dict[str, Tensor]:
        """Sample gates, then the leaves that they call for; returns the global latents."""
        values = self.gates.sample_posterior()
        values["leaves"] = pyro.sample("leaves", self.leaf_posterior(self.reach(self.pseudo.ranks, values)))
        if not self.classification:
            values["noise"] = pyro.sample("noise", dist.LogNormal(self.log_noise, self.log_noise_width.exp()))
        return values

    def leaf_prior(self) -> dist.TorchDistribution:
        """p(leaves), of event shape `shape`."""
        raise NotImplementedError

    def leaf_posterior(self, reach: Tensor) -> dist.TorchDistribution:
        """q(leaves | gates), given what the gates make of the pseudo-rows, (J, M)."""
        return self.pseudo.gaussian(reach, self.leaf_scale, self.shape)

    def labels(self, f: Tensor) -> dist.TorchDistribution:
        """p(y | f) of classes, f (B, K)."""
        raise NotImplementedError

    def reach(self, ranks: Tensor, gates: Mapping[str, Tensor]) -> Tensor:
        """By what the leaves are multiplied, (*, B, M)."""
        return self.gates.reach(ranks, gates)

    def flat(self, leaves: Tensor) -> Tensor:
        """The leaves of all trees side by side, (*, M, K)."""
        return leaves if self.gates.trees is None else leaves.flatten(-3, -2)

    def inputs(self, n: int) -> Batch:
        """Covariates drawn from the training ones, each column by itself."""
        return Batch(n, n, x=self.ranks.inverse(torch.rand(n, self.features, dtype=self.dtype, device=self.device)))

    def check(self, batch: Batch) -> None:
        """Refuse a constant target, and labels of one class."""
        check_response(self, batch, self.classification)

    def anatomy(self, values: Mapping[str, Tensor], batch: Batch) -> Anatomy:
        """The trees of S draws, each site (S, *event); leaves in units that a user knows."""
        x = covariates(self, batch, self.features)
        return anatomy(self.gates, self.ranks, x, values, self.spoken(self.flat(values["leaves"])))

    def spoken(self, leaves: Tensor) -> Tensor:
        """Leaves (S, M, K) in units that a user knows."""
        raise NotImplementedError
