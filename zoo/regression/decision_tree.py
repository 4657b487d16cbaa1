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

All latents are global; gates are defined in `soft_trees.py`. Splits act on the ranks of x, and mean c and deviation u
of y come from the data (`fit` sets both once, through `initial`), so the prior knows no units. The guide is

    q(r) q(v) q(t) q(a) q(sigma) q(leaves | r, v, t, a)

a factorised Gaussian (of the logarithm where positive) for all but the leaves, which are conjugate given the gates
(`leaves.py`). It starts at the tree that greedy search finds (Breiman et al. 1984).

Limits: the guide has one mode, where trees may have many.

Held against, in `test_decision_tree.py`: all stumps by enumeration: cut at 26, here 25.99 ± 0.20; noise 0.353, here
0.362; weight of the feature that splits 1, here 0.991.

References: Irsoy, Yildiz & Alpaydin (2012), "Soft decision trees"; Linero & Yang (2018), "Bayesian regression tree
ensembles that adapt to smoothness and sparsity"; Chipman, George & McCulloch (1998), "Bayesian CART model search".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.base import Batch, ModelGuide, register
from zoo.parts.covariates import Ranks, Standard, by_row, check_response, covariates, response
from zoo.parts.trees.leaves import Pseudo
from zoo.parts.trees.soft_trees import Anatomy, Gates, anatomy, greedy


@register("decision_tree")
class DecisionTree(ModelGuide):
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
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "x": ("feature",), "relevance": ("feature",), "direction": ("node", "feature"),
        "threshold": ("node",), "sharpness": ("node",), "leaves": ("leaf", "output"),
    }  # fmt: skip

    def __init__(
        self,
        features: int = 2,
        task: Literal["regression", "classification"] = "regression",
        classes: int = 2,
        depth: int = 3,
        sparsity: float = 3.0,
        sharpness: float = 15.0,
        leaf_scale: float = 1.5,
        leaf_concentration: float = 0.5,
        inducing: int = 200,
    ) -> None:
        super().__init__()
        self.features, self.depth, self.classification = features, depth, task == "classification"
        if self.classification and classes < 2:
            raise ValueError(f"decision_tree: a classification needs at least 2 classes, got classes={classes}")
        self.ranks, self.units = Ranks(features), Standard()
        self.gates = Gates(features, depth, None, sharpness, sparsity)
        self.shape = (2**depth, classes if self.classification else 1)  # (L, K)
        self.pseudo = Pseudo(inducing, features, self.shape[-1], counts=self.classification)
        if self.classification:
            self.register_buffer("leaf_concentration", torch.full((classes,), leaf_concentration))
        else:
            self.register_buffer("leaf_loc", torch.tensor(0.0))
            self.register_buffer("leaf_scale", torch.tensor(leaf_scale))
            self.register_buffer("noise_loc", torch.tensor(math.log(0.5)))
            self.register_buffer("noise_scale", torch.tensor(1.0))
            self.log_noise = nn.Parameter(torch.tensor(math.log(0.5)))
            self.log_noise_width = nn.Parameter(torch.tensor(math.log(0.1)))

    def model(self, batch: Batch) -> Tensor:
        """Sample gates, leaves, noise and y; returns y, (B,)."""
        gates = self.gates.sample_prior()
        leaves = pyro.sample("leaves", self.leaf_prior())  # (L, K)
        reach = self.gates.reach(self.ranks(covariates(self, batch, self.features)), gates)  # (B, L)
        f = by_row(reach, leaves)  # (B, K)
        density: dist.TorchDistribution
        if self.classification:
            density = dist.Categorical(f)
        else:
            noise = pyro.sample("noise", dist.LogNormal(self.noise_loc, self.noise_scale))  # ()
            density = dist.Normal(self.units.inverse(f.squeeze(-1)), self.units.unit * noise)
        with batch.plate():
            y: Tensor = pyro.sample("y", density, obs=batch.y)  # (B)
        return y

    def leaf_prior(self) -> dist.TorchDistribution:
        """p(leaves), of event shape (L, K)."""
        prior: dist.TorchDistribution
        if self.classification:
            prior = dist.Dirichlet(self.leaf_concentration).expand(self.shape[:1]).to_event(1)
        else:
            prior = dist.Normal(self.leaf_loc, self.leaf_scale).expand(self.shape).to_event(2)
        return prior

    def guide(self, batch: Batch) -> dict[str, Tensor]:
        """Sample gates, then the leaves that they call for; returns the global latents."""
        values = self.gates.sample_posterior()
        reach = self.gates.reach(self.pseudo.ranks, values)  # (J, L)
        if self.classification:
            values["leaves"] = pyro.sample("leaves", self.pseudo.dirichlet(reach, self.leaf_concentration))
        else:
            values["leaves"] = pyro.sample("leaves", self.pseudo.gaussian(reach, self.leaf_scale, self.shape))
            values["noise"] = pyro.sample("noise", dist.LogNormal(self.log_noise, self.log_noise_width.exp()))
        return values

    def inputs(self, n: int) -> Batch:
        """Covariates drawn from the training ones, each column by itself."""
        return Batch(n, n, x=self.ranks.inverse(torch.rand(n, self.features, dtype=self.dtype, device=self.device)))

    def check(self, batch: Batch) -> None:
        """Refuse a constant target, and labels of one class."""
        check_response(self, batch, self.classification)

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

    def anatomy(self, values: Mapping[str, Tensor], batch: Batch) -> Anatomy:
        """The tree of S draws, each site (S, *event); leaves in the units of y, or class probabilities."""
        leaf = values["leaves"] if self.classification else self.units.inverse(values["leaves"])  # (S, L, K)
        return anatomy(self.gates, self.ranks, covariates(self, batch, self.features), values, leaf)
