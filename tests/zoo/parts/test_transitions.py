"""Free, tied and left-to-right transitions by their definitions, against enumeration and hmmlearn."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hmmlearn import hmm as hmmlearn
from scipy import optimize
from scipy.special import expit, log_softmax, softmax
from torch import Tensor

from tests.helpers.chains import KINDS_OF_MOVES, MISSING, moving
from zoo.parts.chains.transitions import most_probable, stationary
from zoo.sequences.hmm import HMM


def matrix(kind: str, values: dict[str, Tensor], K: int) -> Tensor:
    """A by its definition, entry by entry."""
    if kind == "free":
        return values["transition"]
    A = torch.zeros(K, K, dtype=torch.float64)
    for k in range(K):
        left, sticks = 1.0, iter(values["sticks"][sum(K - 1 - i for i in range(k)) :] if kind == "left_right" else ())
        for j in range(K):
            if kind == "tied":
                A[k, j] = values["stay"] * (k == j) + (1 - values["stay"]) * values["destination"][j]
            elif j >= k:
                A[k, j] = left * (next(sticks) if j < K - 1 else 1.0)
                left = left - A[k, j]
    return A


@pytest.mark.parametrize("kind", KINDS_OF_MOVES)
@pytest.mark.parametrize("start", ["free", "stationary"])
def test_every_kind_of_transitions_equals_enumeration(kind: str, start: str) -> None:
    if kind == "left_right" and start == "stationary":
        pytest.skip("it starts in state 1")
    T, lengths = 6, torch.tensor([6, 3, 1])
    pair, values = moving(kind, start=start)
    A = matrix(kind, values, 3)
    torch.testing.assert_close(pair.transition(values), A, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(A.sum(-1), torch.ones(3, dtype=torch.float64))
    if kind == "left_right":
        pi = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    elif start == "free":
        pi = values["initial"]
    else:
        pi = values["destination"] if kind == "tied" else torch.linalg.matrix_power(A, 200)[0]
    x = torch.randint(0, 3, (3, T), generator=torch.Generator().manual_seed(1)).double()
    x[0, 2] = MISSING
    chain = pair.chain(values, T, lengths)
    for n, length in enumerate(lengths.tolist()):
        paths = torch.tensor(list(itertools.product(range(3), repeat=length)))
        joint = pi[paths[:, 0]]
        for t in range(length):
            joint = joint * (A[paths[:, t - 1], paths[:, t]] if t else 1)
            joint = joint * (1 if x[n, t].isnan() else values["probs"][paths[:, t], x[n, t].long()])
        torch.testing.assert_close(chain.log_prob(x)[n], joint.sum().log(), rtol=1e-9, atol=1e-9)
        weight = joint / joint.sum()
        moves = torch.zeros(3, 3, dtype=torch.float64)
        for t, i, j in itertools.product(range(length - 1), range(3), range(3)):
            moves[i, j] += weight[(paths[:, t] == i) & (paths[:, t + 1] == j)].sum()
        alone = pair.chain(values, T, lengths[n : n + 1]).counts(x[n : n + 1])[2]
        torch.testing.assert_close(alone, moves, rtol=1e-9, atol=1e-9)


def test_left_right_equals_hmmlearn() -> None:
    pair, values = moving("left_right", states=4)
    T, lengths = 80, torch.tensor([80, 40, 1])
    x = pair.chain(values, T, lengths).sample()
    other: Any = hmmlearn.CategoricalHMM(4)
    other.startprob_, other.transmat_ = np.eye(4)[0], matrix("left_right", values, 4).numpy()
    other.n_features, other.emissionprob_ = 3, values["probs"].numpy()
    rows = torch.cat([x[n, :length] for n, length in enumerate(lengths)]).reshape(-1, 1).long().numpy()
    chain = pair.chain(values, T, lengths)
    assert chain.log_prob(x).sum().item() == pytest.approx(other.score(rows, lengths.tolist()), rel=1e-8)
    states = torch.cat([chain.smooth(x)[n, :length] for n, length in enumerate(lengths)]).numpy()
    np.testing.assert_allclose(states, other.predict_proba(rows, lengths.tolist()), atol=1e-8)


def test_left_right_sticks_are_the_dirichlet_prior() -> None:
    """Mean and variance of every entry of A, of 20,000 draws, against those of a Dirichlet."""
    pair = HMM(states=3, transitions="left_right", concentration=0.7, persistence=2.0).double()
    torch.manual_seed(0)
    A = pair.transition({"sticks": pair.prior()["sticks"].sample((20_000,))})
    for k in range(3):
        concentration = pair.moves[k, k:]
        true = torch.distributions.Dirichlet(concentration) if len(concentration) > 1 else None
        mean = true.mean if true else torch.ones(1, dtype=torch.float64)
        assert (A[:, k, :k] == 0).all()
        assert ((A[:, k, k:].mean(0) - mean).abs() <= 4 * A[:, k, k:].std(0) / 20_000**0.5 + 1e-12).all()
        if true:
            torch.testing.assert_close(A[:, k, k:].var(0), true.variance, rtol=0.05, atol=0)


def test_stationary_distribution() -> None:
    transition = torch.randn(5, 4, 4, dtype=torch.float64).softmax(-1)
    pi = stationary(transition)
    torch.testing.assert_close((pi.unsqueeze(-2) @ transition).squeeze(-2), pi)
    torch.testing.assert_close(pi.sum(-1), torch.ones(5, dtype=torch.float64))


def test_the_m_step_of_tied_transitions_ends_where_scipy_does() -> None:
    """Of given moves the density of (stay, q) is that of the definition: SciPy climbs it, and the M-steps end there."""
    rng = np.random.default_rng(0)
    moves, persistence, alpha = 30 * rng.random((4, 4)) + 60 * np.eye(4), 2.5, 0.7

    def negative(free: np.ndarray) -> float:
        stay, q = expit(free[0]), softmax(np.append(free[1:], 0.0))
        A = stay * np.eye(4) + (1 - stay) * q
        prior = persistence * np.log(stay) + alpha * np.log1p(-stay) + alpha * np.log(q).sum()
        return -float((moves * np.log(A)).sum() + prior)

    best = optimize.minimize(negative, np.zeros(4), tol=1e-12, options={"gtol": 1e-9})
    q = np.exp(log_softmax(np.append(best.x[1:], 0.0)))
    counts = torch.full((4, 4), alpha).double() + persistence * torch.eye(4).double()
    counts[0, 0] = persistence  # where tied transitions keep the prior of `stay`
    values, scores, given = None, [], torch.from_numpy(moves)[None]
    for _ in range(200):
        values = most_probable("tied", given, counts, torch.tensor(alpha).double(), values)
        stay, log_q = float(values["stay"]), values["destination"][0].log().numpy()
        scores.append(negative(np.append(np.log(stay / (1 - stay)), log_q[:-1] - log_q[-1])))
    assert (np.diff(scores) < 1e-9).all()  # each M-step climbs
    assert float(values["stay"]) == pytest.approx(expit(best.x[0]), abs=1e-5)
    np.testing.assert_allclose(values["destination"][0], q, atol=1e-5)
