r"""Bayesian decision tree with soft splits, for numbers and for classes.

For nodes i = 1..2^H - 1 and leaves l = 1..2^H, covariates d = 1..D, classes k = 1..K and rows n = 1..N,

    relevance   r_d ~ N(0, s^2)
    direction  v_id ~ N(0, s^2)                         weights of the covariates at a node: softmax(r + v_i)
    threshold   t_i ~ N(0, 1)                           a cut at rank Phi(t_i)
    sharpness   a_i ~ LogNormal(log a, 1/2)             gates are sigmoids; phi_l(x) is the probability of leaf l
    leaves      m_l ~ N(0, b^2)                         regression
                p_l ~ Dirichlet(alpha, ..., alpha)      classification
    noise     sigma ~ LogNormal(log 1/2, 1)             regression
    y           y_n given x_n ~ Normal(c + u sum_l phi_l(x_n) m_l, u sigma)        regression
                                Categorical(sum_l phi_l(x_n) p_l)                  classification

All latents are global; gates are defined in `parts/trees/soft_trees.py`. Splits act on the ranks of x, and mean c and
deviation u of y come from the data (`fit` sets both once, through `initial`), so the prior knows no units. The guide is

    q(r) q(v) q(t) q(a) q(sigma) q(leaves | r, v, t, a)

a factorised Gaussian (of the logarithm where positive) for all but the leaves, which are conjugate given the gates
(`parts/trees/leaves.py`). It starts at the tree that greedy search finds (Breiman et al. 1984).

Limits: the guide has one mode, where trees may have many.

Held against, in `test_decision_tree.py`: all stumps by enumeration: cut at 26, here 25.99 ± 0.20; noise 0.353, here
0.362; weight of the feature that splits 1, here 0.991.

References: Irsoy, Yildiz & Alpaydin (2012), "Soft decision trees"; Linero & Yang (2018), "Bayesian regression tree
ensembles that adapt to smoothness and sparsity"; Chipman, George & McCulloch (1998), "Bayesian CART model search".
"""

from __future__ import annotations

from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn import functional

from zoo.base import Batch, register
from zoo.config import Positive
from zoo.parts.constants import constants
from zoo.parts.covariates import covariates, response
from zoo.parts.trees.soft_trees import greedy
from zoo.parts.trees.tree_pair import Task, TreePair
from zoo.schema.design import Design


@register("decision_tree")
class DecisionTree(TreePair):
    """Soft decision tree (Irsoy, Yildiz & Alpaydin 2012) with a posterior over splits and leaves.

    Its joint density stands at the top of this file.

    Args:
        features: number of covariates D.
        task: `regression` (y a number) or `classification` (y a class, 0 to K - 1).
        classes: K, of a classification.
        depth: H.
        sparsity: s; larger puts more of a node's weight on one covariate.
        sharpness: a, the prior median; a gate opens over about 4 / a of the ranks.
        leaf_scale: b, in deviations of y.
        leaf_concentration: alpha, prior rows of each class in a leaf.
        inducing: number of pseudo-observations J behind the leaves' posterior; from N on, nothing is gained.
        design: how x and y come from a frame (`zoo.datasets.Design`); features and classes are read off it.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "x": ("feature",), "relevance": ("feature",), "direction": ("node", "feature"),
        "threshold": ("node",), "sharpness": ("node",), "leaves": ("leaf", "output"),
    }  # fmt: skip

    def __init__(
        self,
        features: int = 2,
        task: Task = "regression",
        classes: int = 2,
        depth: int = 3,
        sparsity: Positive = 3.0,
        sharpness: Positive = 15.0,
        leaf_scale: Positive = 1.5,
        leaf_concentration: Positive = 0.5,
        inducing: int = 200,
        design: Design | None = None,
    ) -> None:
        counts = task == "classification"
        super().__init__(features, task, classes, None, depth, sparsity, sharpness, inducing, design, counts)
        if self.classification:
            self.register_buffer("leaf_concentration", torch.full(self.shape[-1:], leaf_concentration))
        else:
            constants(self, leaf_loc=0.0, leaf_scale=leaf_scale)

    def leaf_prior(self) -> dist.TorchDistribution:
        """p(leaves), of event shape (L, K)."""
        prior: dist.TorchDistribution
        if self.classification:
            prior = dist.Dirichlet(self.leaf_concentration).expand(self.shape[:1]).to_event(1)
        else:
            prior = dist.Normal(self.leaf_loc, self.leaf_scale).expand(self.shape).to_event(2)
        return prior

    def leaf_posterior(self, reach: Tensor) -> dist.TorchDistribution:
        """q(leaves | gates), given the leaves that the pseudo-rows reach, (J, L)."""
        if self.classification:
            return self.pseudo.dirichlet(reach, self.leaf_concentration)
        return super().leaf_posterior(reach)

    def labels(self, f: Tensor) -> dist.TorchDistribution:
        """Classes of these probabilities, (B, K)."""
        return dist.Categorical(f)

    def measure(self, batch: Batch) -> None:
        """Ranks of the covariates, and the units of y."""
        self.ranks.place(covariates(self, batch, self.features))
        if not self.classification:
            self.units.place(response(self, batch))

    @torch.no_grad()
    def initial(self, batch: Batch) -> dict[str, Tensor]:
        """Start the guide at the greedy tree."""
        x, y = covariates(self, batch, self.features), response(self, batch)
        u, precision = self.ranks(x), 1.0
        if self.classification:
            target = functional.one_hot(y.long(), self.shape[-1]).to(x)  # (N, K)
        else:
            target = self.units(y).unsqueeze(-1)  # (N, 1)
        feature, cut, leaf = greedy(u, target, self.depth)
        self.gates.place(feature, cut)
        if not self.classification:
            inside = functional.one_hot(leaf, self.shape[0]).to(x)  # (N, L)
            mean = inside.mT @ target / inside.sum(0).clamp(min=1).unsqueeze(-1)  # (L, 1)
            noise = (target - inside @ mean).square().mean().sqrt().clamp(min=0.05)
            self.log_noise.copy_(noise.log())
            precision = float(noise) ** -2
        self.pseudo.place(u, target, precision * batch.total / batch.size)
        return {}

    def spoken(self, leaves: Tensor) -> Tensor:
        """Leaves in the units of y, or class probabilities."""
        return leaves if self.classification else self.units.inverse(leaves)
