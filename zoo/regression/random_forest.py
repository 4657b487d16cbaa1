r"""Bayesian sum of soft trees (soft BART), for numbers and for classes.

For trees t = 1..T with nodes i = 1..2^H - 1 and leaves l = 1..2^H, covariates d = 1..D and rows n = 1..N,

    relevance    r_d ~ N(0, s^2)
    direction  v_tid ~ N(0, s^2)                        weights of the covariates at a node: softmax(r + v_ti)
    threshold   t_ti ~ N(0, 1)                          a cut at rank Phi(t_ti)
    sharpness   a_ti ~ LogNormal(log a, 1/2)            gates are sigmoids; phi_tl(x) is what they make of a leaf
    leaves     m_tlk ~ N(0, b^2 / T)
    f_k(x)         = sum_t sum_l phi_tl(x) m_tlk                           regression
                     c_k + sum_t sum_l (phi_tl(x) - 2^-H) m_tlk            classification
    noise      sigma ~ LogNormal(log 1/2, 1)            regression
    y          y_n given x_n ~ Normal(c + u f(x_n), u sigma)                regression
                               Categorical(softmax(f_1(x_n), ..., f_K(x_n)))    classification

All latents are global; gates are defined in `parts/trees/soft_trees.py`. Splits act on the ranks of x; mean c and
deviation u of y, or c_k, the log share of class k, come from the data (`fit` sets them once, through `initial`), so the
prior knows no units. Of classes, trees say only how rows differ. The guide is

    q(r) q(v) q(t) q(a) q(sigma) q(m | r, v, t, a)

a factorised Gaussian (of the logarithm where positive) for all but the leaves, which are conjugate given the gates
(`parts/trees/leaves.py`): one Gaussian over all T 2^H of them. That is what keeps intervals honest. A factorised guide
of the leaves has to freeze the gates, or to give up their trees.

Limits: the guide has one mode, where trees may have many.

Held against, in `test_random_forest.py`: 10-fold RMSE of scikit-learn's RandomForestRegressor, 58.5 on diabetes and
2.253 on Friedman #1; here 54.5 and 1.104, with 90 % intervals that cover 90.7 % and 92.4 % (slow).

References: Linero & Yang (2018), "Bayesian regression tree ensembles that adapt to smoothness and sparsity"; Chipman,
George & McCulloch (2010), "BART: Bayesian additive regression trees".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn import functional

from zoo.base import Batch, register
from zoo.config import Positive
from zoo.parts.constants import constants
from zoo.parts.covariates import covariates, response
from zoo.parts.trees.tree_pair import Task, TreePair
from zoo.schema.design import Design


@register("random_forest")
class RandomForest(TreePair):
    """Sum of soft trees (Linero & Yang 2018).

    Its joint density stands at the top of this file.

    Args:
        features: number of covariates D.
        task: `regression` (y a number) or `classification` (y a class, 0 to K - 1).
        classes: K, of a classification.
        trees: T.
        depth: H.
        sparsity: s; at 2, four fifths of a node's weight are on two or three of ten covariates.
        sharpness: a, the prior median; a gate opens over about 4 / a of the ranks.
        leaf_scale: b, about the prior deviation of f: in deviations of y (2.5 if left out), or in log-odds (6).
        inducing: number of pseudo-observations J behind the leaves' posterior; from N on, nothing is gained.
        design: how x and y come from a frame (`zoo.datasets.Design`); features and classes are read off it.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "x": ("feature",), "relevance": ("feature",), "direction": ("tree", "node", "feature"),
        "threshold": ("tree", "node"), "sharpness": ("tree", "node"), "leaves": ("tree", "leaf", "output"),
    }  # fmt: skip

    def __init__(
        self,
        features: int = 2,
        task: Task = "regression",
        classes: int = 2,
        trees: int = 20,
        depth: int = 2,
        sparsity: Positive = 2.0,
        sharpness: Positive = 8.0,
        leaf_scale: Positive | None = None,
        inducing: int = 200,
        design: Design | None = None,
    ) -> None:
        super().__init__(features, task, classes, trees, depth, sparsity, sharpness, inducing, design)
        scale = leaf_scale or (6.0 if self.classification else 2.5)
        constants(self, leaf_loc=0.0, leaf_scale=scale / math.sqrt(trees))
        self.centre = 2.0**-depth if self.classification else 0.0
        if self.classification:
            self.register_buffer("base", torch.zeros(self.shape[-1]))

    def leaf_prior(self) -> dist.TorchDistribution:
        """p(leaves), of event shape (T, L, K)."""
        prior: dist.TorchDistribution = dist.Normal(self.leaf_loc, self.leaf_scale).expand(self.shape).to_event(3)
        return prior

    def labels(self, f: Tensor) -> dist.TorchDistribution:
        """Classes of these log-odds around those of their shares, (B, K)."""
        return dist.Categorical(logits=self.base + f)

    def reach(self, ranks: Tensor, gates: Mapping[str, Tensor]) -> Tensor:
        """phi for numbers, phi - 2^-H for classes, (*, B, T L)."""
        return super().reach(ranks, gates) - self.centre

    def measure(self, batch: Batch) -> None:
        """Ranks of the covariates, and units or log-odds of y."""
        x, y = covariates(self, batch, self.features), response(self, batch)
        self.ranks.place(x)
        if self.classification:
            known = functional.one_hot(y.long(), self.shape[-1]).to(x)
            share = (known.sum(0) + 1) / (len(known) + self.shape[-1])
            self.base.copy_(share.log() - share.log().mean())
        else:
            self.units.place(y)

    @torch.no_grad()
    def initial(self, batch: Batch) -> dict[str, Tensor]:
        """Start the guide: random gates, pseudo-rows from the data."""
        x, y = covariates(self, batch, self.features), response(self, batch)
        if self.classification:
            known = functional.one_hot(y.long(), self.shape[-1]).to(x)
            # log-odds of about +-2, worth p (1 - p) each, as in a step of Newton's method
            target, precision = 4 * known - 2 - self.base, 0.1
        else:
            target, precision = self.units(y).unsqueeze(-1), 4.0
        self.gates.scatter()
        self.pseudo.place(self.ranks(x), target, precision * batch.total / batch.size)
        return {}

    def spoken(self, leaves: Tensor) -> Tensor:
        """Leaves in units of y around its mean, or in log-odds."""
        return leaves if self.classification else self.units.unit * leaves
