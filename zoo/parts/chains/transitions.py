"""How a hidden Markov chain moves: three priors of its transition matrix A, (K, K).

    free         A(k,.) ~ Dirichlet(c_k),  c_kl = alpha + persistence [k = l]
    tied         A(k, l) = p [k = l] + (1 - p) q(l),   p ~ Beta(alpha + persistence, alpha),   q ~ Dirichlet(alpha, ...)
    left_right   A(k, l) = 0 for l < k,   A(k, k..K) ~ Dirichlet(c_kk, ..., c_kK),   and the chain starts in state 1

Tied states (parameter tying: Rabiner 1989, section IV) move alike: whatever the state is, it is kept with probability
p, or else the next one is drawn afresh from q, the same state among them. That is the chain of Li & Stephens (2003),
and q is its stationary distribution. Left to right is the model of Bakis (1976; Rabiner 1989, equation 45): the
index never falls, and the last state is never left. Its rows are made of sticks that are broken off in turn,

    A(k, l) = v_kl prod_{k <= m < l} (1 - v_km),     v_kl ~ Beta(c_kl, sum_{m > l} c_km),     k <= l < K,

which is the same Dirichlet (Connor & Mosimann 1969).
"""

from __future__ import annotations

from typing import Literal

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor

Transitions = Literal["free", "tied", "left_right"]
_TURNS = 10  # of a matrix and the slope of its stationary distribution


def prior(kind: Transitions, counts: Tensor, alpha: Tensor) -> dict[str, dist.TorchDistribution]:
    """The sites that A is made of, by name: `transition`; `stay` and `destination`; or `sticks`.

    Args:
        kind: of transitions.
        counts: c, (K, K).
        alpha: scalar.
    """
    K = counts.shape[-1]
    if kind == "tied":
        return {"stay": dist.Beta(counts[0, 0], alpha), "destination": dist.Dirichlet(alpha.expand(K))}
    if kind == "left_right":
        after = counts.flip(-1).cumsum(-1).flip(-1) - counts  # of the moves further to the right
        row, column = torch.triu_indices(K, K - 1, device=counts.device)
        return {"sticks": dist.Beta(counts[row, column], after[row, column]).to_event(1)}
    return {"transition": dist.Dirichlet(counts).to_event(1)}


def log_matrix(values: dict[str, Tensor], states: int) -> Tensor:
    """log A, (..., K, K), from its sites; -inf for moves that are ruled out."""
    if "sticks" in values:
        sticks = values["sticks"]
        where = torch.ones(states, states - 1, dtype=torch.bool, device=sticks.device).triu()
        place = (where.flatten().cumsum(0) - 1).clamp(min=0).view(where.shape)
        broken = torch.where(where, sticks[..., place], 0)  # (..., K, K - 1)
        found = F.pad(log(broken), (0, 1)) + F.pad(log(1 - broken).cumsum(-1), (1, 0))
        allowed = torch.ones(states, states, dtype=torch.bool, device=sticks.device).triu()
        return torch.where(allowed, found, -torch.inf)
    if "stay" in values:
        stay, q = values["stay"][..., None, None], values["destination"].unsqueeze(-2)
        return log(stay * torch.eye(states, dtype=q.dtype, device=q.device) + (1 - stay) * q)
    return log(values["transition"])


def log_start(values: dict[str, Tensor], log_transition: Tensor) -> Tensor:
    """log pi, (..., K): of the site `initial`, state 1 from left to right, or else stationary."""
    if "initial" in values:
        return log(values["initial"])
    if "sticks" in values:
        first = torch.arange(log_transition.shape[-1], device=log_transition.device) == 0
        return torch.where(first, 0.0, -torch.inf).to(log_transition.dtype)
    return log(stationary(log_transition.exp()))


def most_probable(
    kind: Transitions,
    moves: Tensor,
    counts: Tensor,
    alpha: Tensor,
    before: dict[str, Tensor] | None,
    point: float = 0.0,
    first: Tensor | None = None,
) -> dict[str, Tensor]:
    """The M-step: the sites of A given expected moves, (..., K, K).

    Args:
        kind: of transitions.
        moves: from each state to each.
        counts: c, (K, K), added to them.
        alpha: scalar.
        before: the sites under which these were expected; tied ones need them.
        point: 1 for the highest density of the probabilities themselves, 0 for that of their logits.
        first: states that sequences start in, (..., K), where they do so by the stationary distribution.
    """
    if kind == "left_right":
        rows = (moves + counts).triu()
        left = rows.flip(-1).cumsum(-1).flip(-1)  # of each stick before it is broken
        row, column = torch.triu_indices(rows.shape[-1], rows.shape[-1] - 1, device=rows.device)
        broken = _positive(rows[..., row, column] - point)
        return {"sticks": broken / (broken + _positive((left - rows)[..., row, column] - point))}
    if kind == "free":
        return {"transition": _with_start(_positive(moves + counts - point), first)}
    # A move from a state to itself is one of two kinds: kept, or drawn afresh.
    here = moves.diagonal(dim1=-2, dim2=-1)
    if before is None:
        kept = here / 2
    else:
        stay = before["stay"].unsqueeze(-1)
        kept = here * stay / (stay + (1 - stay) * before["destination"])
    afresh = moves.sum(-2) - kept
    stay, leave = _positive(kept.sum(-1) + counts[0, 0] - point), _positive(afresh.sum(-1) + alpha - point)
    drawn = afresh if first is None else afresh + first  # q is the stationary distribution
    return {"stay": stay / (stay + leave), "destination": F.normalize(_positive(drawn + alpha - point), 1, -1)}


def _with_start(counts: Tensor, first: Tensor | None) -> Tensor:
    """The matrix, (..., K, K), under which so many moves and starts, by its stationary distribution, are likeliest.

    At the maximum of sum c log A + sum f log pi each row of A is in proportion to c + A g, with g the slope of the
    second sum, to which any number may be added in each row.
    """
    matrix = F.normalize(counts, 1, -1)
    if first is None:
        return matrix
    for _ in range(_TURNS):
        probs = stationary(matrix)
        system = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device) - matrix + 1
        ratio = (first / probs.clamp(min=1e-12)).unsqueeze(-1)
        slope = probs.unsqueeze(-1) * torch.linalg.solve_ex(system, ratio)[0].mT
        matrix = F.normalize(counts + matrix * (slope - slope.amin(-1, keepdim=True)), 1, -1)
    return matrix


def _positive(counts: Tensor) -> Tensor:
    """Counts that make no probability of exactly 0 or 1."""
    return counts.clamp(min=1e-8)


def stationary(transition: Tensor) -> Tensor:
    """The distribution pi with pi = pi A, (..., K): solves pi (I - A + 1) = 1 (Zucchini et al. 2016, section 1.3.2)."""
    system = torch.eye(transition.shape[-1], dtype=transition.dtype, device=transition.device) - transition + 1
    probs: Tensor = torch.linalg.solve_ex(system.mT, torch.ones_like(transition[..., :1]))[0].squeeze(-1)
    return probs


def log(probs: Tensor) -> Tensor:
    """Of probabilities; one that has underflowed keeps a finite gradient."""
    return probs.clamp(min=torch.finfo(probs.dtype).tiny).log()
