"""The sum over all paths of a hidden Markov chain, as one balanced tree of matrix products.

With start pi, transition matrix A and emission densities b_t(k) = p(x_t | z_t = k),

    p(x_{1:T}) = sum_z pi(z_1) b_1(z_1) prod_{t>1} A(z_{t-1}, z_t) b_t(z_t) = v^T M_2 M_3 ... M_T 1,

v(k) = pi(k) b_1(k), M_t(i, j) = A(i, j) b_t(j). Products associate, so neighbours are multiplied in pairs, all pairs of
all sequences in one operation, and ceil(log2 T) of these do it (Särkkä & García-Fernández 2021, "Temporal
parallelization of Bayesian smoothers"). Matrices are kept as logs relative to their own largest entry: what a matrix
shares goes into one running total, and the digits of a float32 are left for what tells the states apart.

Any semiring will do: with max in place of the sum the value is that of the best path (Viterbi 1967).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

Combine = Callable[[Tensor, int], Tensor]  # adds a tensor of logs over one dim


def sum_of_paths(initial: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
    """Log-probability of each sequence, the states summed out, of logs of one type that are taken as they are.

    Every dimension left of the shown ones broadcasts. A step that says nothing (missing, or past the end) has
    emission log-probabilities zero. Logs may be -inf: gradients stay finite.

    Args:
        initial: of the first state, (..., K).
        transition: row i is the next state given state i, (..., K, K).
        emission: log p(x_t | z_t = k), (..., T, K).

    Returns:
        (...), -inf where no path is possible.
    """
    return product(*blocks_of(initial, transition, emission), log_sum)


def log_sum(x: Tensor, dim: int) -> Tensor:
    """Add probabilities."""
    return x.logsumexp(dim)


def maximum(x: Tensor, dim: int) -> Tensor:
    """Keep the best; of equal ones the gradient follows one, where `amax` would share it."""
    return x.max(dim).values


def lowest(dtype: torch.dtype) -> float:
    """Stands for log 0: sums of many stay finite, so that no gradient is inf - inf."""
    return -float(torch.finfo(dtype).max ** 0.5)


def factors(initial_logits: Tensor, transition_logits: Tensor, emission_log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """log v, (..., K), and log M_t for t = 2..T, (..., T - 1, K, K)."""
    given = (initial_logits.log_softmax(-1), transition_logits.log_softmax(-1), emission_log_probs)
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in given))
    return blocks_of(*(x.to(dtype) for x in given))


def blocks_of(initial: Tensor, transition: Tensor, emission: Tensor) -> tuple[Tensor, Tensor]:
    """The same of logs that are taken as they are, of one type."""
    initial, transition, emission = (x.clamp(min=lowest(x.dtype)) for x in (initial, transition, emission))
    return initial + emission[..., 0, :], transition.unsqueeze(-3) + emission[..., 1:, :].unsqueeze(-2)


def stay(like: Tensor) -> Tensor:
    """The logs of the identity, (K, K), for the K of `like`, (..., K)."""
    K = like.shape[-1]
    return torch.eye(K, dtype=like.dtype, device=like.device).log().clamp(min=lowest(like.dtype))


def product(first: Tensor, blocks: Tensor, combine: Combine) -> Tensor:
    """v^T M_2 ... M_T 1 in logs, (...), from log v and log M."""
    total = torch.zeros_like(first[..., 0])
    while (count := blocks.shape[-3]) != 1:
        if count % 2 or count == 0:
            blocks = torch.cat([blocks, stay(first).expand(*blocks.shape[:-3], 1, -1, -1)], -3)
            continue
        # Peaks are constants as far as gradients go: the value does not depend on them.
        peak = blocks.detach().amax((-1, -2), keepdim=True)
        blocks, total = blocks - peak, total + peak.sum((-1, -2, -3))
        left, right = blocks.unflatten(-3, (-1, 2)).unbind(-3)
        blocks = combine(left.unsqueeze(-1) + right.unsqueeze(-3), -2)  # over j of (..., i, j, k)
    paths = first.unsqueeze(-1) + blocks.squeeze(-3)  # (..., K, K): by first and last state
    total = total + combine(paths.flatten(-2), -1)
    return total.masked_fill(total < lowest(total.dtype) / 2, -torch.inf)
