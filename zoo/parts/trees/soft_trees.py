"""Soft trees: binary trees of depth H whose nodes send a row right with some probability, and what fits them.

Node i of 2^H - 1 sees the ranks u in [0, 1]^D of a row (`covariates.Ranks`),

    relevance  r_d  ~ N(0, s^2)                                  of covariate d, the same in all nodes of all trees
    direction  v_id ~ N(0, s^2)                                  weights w_i = softmax(r + v_i): sparse as s grows
    threshold  t_i  ~ N(0, 1)                                    c_i = Phi(t_i), uniform on the ranks
    sharpness  a_i  ~ LogNormal(log a, 1/2)                      one over the width of the gate, in ranks
    P(right)   g_i(u) = sigmoid(a_i (w_i u - c_i))

and phi_l(u), the probability of leaf l, is the product of the gates on its path. A shared r lets a covariate drop out
of all trees at once (as in Linero 2018, "Bayesian regression trees for high-dimensional prediction and variable
selection"). Splits act on ranks, so they know nothing of the units of x.

Gates have a factorised Gaussian posterior in the space of (r, v, t, log a); what that leaves out, `leaves.py` puts in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from zoo.parts.covariates import Ranks, by_row

WIDTH = 0.1  # standard deviations that gates start from, in units of the prior's


class Gates(nn.Module):
    """Directions, thresholds and sharpness of all nodes: their prior, their posterior, and what they do to rows.

    Args:
        features: number of covariates D.
        depth: H.
        trees: T, which gives every site but `relevance` a leading dimension; None for one tree without it.
        sharpness: a, the prior median.
        sparsity: s.
    """

    def __init__(self, features: int, depth: int, trees: int | None, sharpness: float, sparsity: float) -> None:
        super().__init__()
        self.depth, self.trees = depth, trees
        nodes = (2**depth - 1,) if trees is None else (trees, 2**depth - 1)
        shapes = {"relevance": (features,), "direction": (*nodes, features), "threshold": nodes, "sharpness": nodes}
        scale = {"relevance": sparsity, "direction": sparsity, "threshold": 1.0, "sharpness": 0.5}
        for name, shape in shapes.items():
            self.register_buffer(f"{name}_loc", torch.full(shape, math.log(sharpness) if name == "sharpness" else 0.0))
            self.register_buffer(f"{name}_scale", torch.full(shape, scale[name]))
        # in units of the prior, so that one step of the optimiser suits every site
        self.step = nn.ParameterDict({name: nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items()})
        self.log_width = nn.ParameterDict(
            {name: nn.Parameter(torch.full(shape, math.log(WIDTH))) for name, shape in shapes.items()}
        )
        self.scatter()

    def sample_prior(self) -> dict[str, Tensor]:
        """Sample p(gates), by site."""
        return {name: pyro.sample(name, self._density(name, *self._prior(name))) for name in self.step}

    def sample_posterior(self) -> dict[str, Tensor]:
        """Sample q(gates), by site."""
        values = {}
        for name in self.step:
            loc, scale = self._prior(name)
            fn = self._density(name, loc + scale * self.step[name], scale * self.log_width[name].exp())
            values[name] = pyro.sample(name, fn)
        return values

    @torch.no_grad()
    def scatter(self) -> None:
        """Move the posterior means to a draw from the prior: each tree starts elsewhere."""
        for name, step in self.step.items():
            step.normal_()
            self.log_width[name].fill_(math.log(WIDTH))

    @torch.no_grad()
    def place(self, feature: Tensor, cut: Tensor, weight: float = 0.8, sharpness: float = 20.0) -> None:
        """Move the posterior means of one tree to splits of these features, (I,), at these ranks, (I,)."""
        D = self.step["relevance"].shape[0]
        gap = math.log(weight * max(D - 1, 1) / (1 - weight))
        chosen = nn.functional.one_hot(feature, D).to(cut)
        wanted = {
            "relevance": torch.zeros_like(self.step["relevance"]),
            "direction": gap * (chosen - 1 / D),
            "threshold": torch.special.ndtri(cut.clamp(0.01, 0.99)),
            "sharpness": torch.full_like(cut, math.log(sharpness)),
        }
        for name, value in wanted.items():
            loc, scale = self._prior(name)
            self.step[name].copy_((value - loc) / scale)
            self.log_width[name].fill_(math.log(WIDTH))

    def directions(self, values: Mapping[str, Tensor]) -> Tensor:
        """Weights of the covariates at each node, (*, T I, D); they sum to one."""
        own = values["direction"] if self.trees is None else values["direction"].flatten(-3, -2)
        return (values["relevance"].unsqueeze(-2) + own).softmax(-1)

    def right(self, u: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """P(right) at each node of each tree, (*, B, T, I), of rows with ranks u, (B, D)."""
        cut, sharpness = torch.special.ndtr(values["threshold"]), values["sharpness"]
        if self.trees is not None:
            cut, sharpness = cut.flatten(-2), sharpness.flatten(-2)
        along = by_row(u, self.directions(values).mT)  # (*, B, T I)
        right: Tensor = torch.sigmoid(sharpness * (along - cut)).unflatten(-1, (self.trees or 1, -1))
        return right

    def reach(self, u: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """phi, the probability of each leaf of each tree, (*, B, T L)."""
        return leaf_probabilities(self.right(u, values), self.depth).flatten(-2)

    def _prior(self, name: str) -> tuple[Tensor, Tensor]:
        return getattr(self, f"{name}_loc"), getattr(self, f"{name}_scale")

    @staticmethod
    def _density(name: str, loc: Tensor, scale: Tensor) -> Any:
        fn: Any = dist.LogNormal(loc, scale) if name == "sharpness" else dist.Normal(loc, scale)
        return fn.to_event(loc.ndim)


def leaf_probabilities(right: Tensor, depth: int) -> Tensor:
    """From gates (*, 2^H - 1), level by level from the root, to leaves (*, 2^H), from left to right."""
    reach = torch.ones_like(right[..., :1])
    for level in range(depth):
        gate = right[..., 2**level - 1 : 2 ** (level + 1) - 1]
        reach = torch.stack([reach * (1 - gate), reach * gate], -1).flatten(-2)  # (*, 2^(level + 1))
    return reach


def greedy(u: Tensor, target: Tensor, depth: int, smallest: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Splits of a hard tree by exhaustive search: features (I,), cuts in ranks (I,), and the leaf of each row, (N,).

    Each split leaves the smallest sum of squares of the target, (N, K), one-hot of classes (then that is Gini's
    index); (N, D) ranks u. A side keeps at least `smallest` rows; a node that cannot splits at random.
    """
    N, D = u.shape
    node = torch.zeros(N, dtype=torch.long, device=u.device)
    features, cuts = [], []
    for i in range(2**depth - 1):
        here = node == i
        ranks, order = u[here].sort(0)  # (n, D)
        n, total = len(ranks), target[here].sum(0)
        left = target[here][order].cumsum(0)  # (n, D, K)
        count = torch.arange(1, n + 1, dtype=u.dtype, device=u.device).unsqueeze(-1)
        gain = left.square().sum(-1) / count + (total - left).square().sum(-1) / (n - count).clamp(min=1)
        possible = (ranks[1:] > ranks[:-1]) & (count[:-1] >= smallest) & (n - count[:-1] >= smallest)
        gain = gain[:-1].masked_fill(~possible, -torch.inf) if n else gain
        if possible.any():
            best = int(gain.argmax())
            row, feature = divmod(best, D)
            cut = (ranks[row, feature] + ranks[row + 1, feature]) / 2
        else:
            feature, cut = int(torch.randint(D, ())), torch.rand((), dtype=u.dtype, device=u.device)
        features.append(feature)
        cuts.append(cut)
        node = torch.where(here, 2 * i + 1 + (u[:, feature] > cut), node)
    return torch.tensor(features, device=u.device), torch.stack(cuts), node - (2**depth - 1)


class Anatomy(NamedTuple):
    """S draws of T trees laid open, for pictures: (S, T, ...) throughout.

    Args:
        weight: of the covariates at each node, (S, T, I, D); they sum to one.
        cut: the threshold of each node, in ranks, (S, T, I).
        value: the same in units of each covariate, (S, T, I, D).
        share: of the rows that end in each leaf, (S, T, L).
        leaf: what a leaf says, (S, T, L, K).
    """

    weight: Tensor
    cut: Tensor
    value: Tensor
    share: Tensor
    leaf: Tensor


@torch.no_grad()
def anatomy(gates: Gates, ranks: Ranks, x: Tensor, values: Mapping[str, Tensor], leaf: Tensor) -> Anatomy:
    """Lay open S draws, each site (S, *event), over rows x, (B, D); leaves (S, T L, K)."""
    values = {name: values[name].unsqueeze(1) for name in gates.step}  # (S, 1, *event)
    T, S = gates.trees or 1, len(leaf)
    weight = gates.directions(values).squeeze(1).unflatten(1, (T, -1))  # (S, T, I, D)
    cut = torch.special.ndtr(values["threshold"]).reshape(S, T, -1)
    D = weight.shape[-1]
    value = ranks.inverse(cut.reshape(-1, 1).expand(-1, D)).reshape(weight.shape)
    share = gates.reach(ranks(x), values).mean(1).unflatten(-1, (T, -1))
    return Anatomy(weight, cut, value, share, leaf.unflatten(1, (T, -1)))
