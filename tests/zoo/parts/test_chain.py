"""The distribution of a hidden Markov chain against enumeration, hmmlearn, and exact moments."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hmmlearn import hmm as hmmlearn
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from tests.helpers.chains import KINDS, MISSING, enumerate_paths, make, moving
from zoo.parts.chains.chain import HiddenMarkovChain


@pytest.mark.parametrize("kind", KINDS)
def test_equals_enumeration(kind: str) -> None:
    T, lengths = 7, torch.tensor([7, 4, 1, 6])
    initial, transition, emission = make(kind)
    chain = HiddenMarkovChain(initial, transition, emission, T, lengths)
    torch.manual_seed(1)
    x = HiddenMarkovChain(initial, transition, emission, T).sample((4,)).double()
    x[0, 2], x[1, 0], x[3, 5] = MISSING, MISSING, MISSING
    if chain.event_dim == 2:
        x[0, 4, 1], x[3, 1, 0] = MISSING, MISSING
    x[1, 4:], x[2, 1:] = 0, MISSING  # past the end any valid value may stand, or none
    log_prob, states, (path, best) = chain.log_prob(x), chain.smooth(x), chain.viterbi(x)
    filtered, (_, pairs) = chain.filter(x), chain.expectations(x)
    for n, length in enumerate(lengths.tolist()):
        paths, joint = enumerate_paths(chain, x[n], length)
        weight = joint.softmax(0)
        torch.testing.assert_close(log_prob[n], joint.logsumexp(0), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(best[n], joint.max(), rtol=1e-9, atol=1e-9)
        assert path[n].tolist() == [*paths[joint.argmax()].tolist(), *[-1] * (T - length)]
        for t in range(length):
            marginal = torch.stack([weight[paths[:, t] == k].sum() for k in range(3)])
            torch.testing.assert_close(states[n, t], marginal, rtol=1e-9, atol=1e-9)
        for t, i, j in itertools.product(range(length - 1), range(3), range(3)):
            both = weight[(paths[:, t] == i) & (paths[:, t + 1] == j)].sum()
            torch.testing.assert_close(pairs[n, t, i, j], both, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(filtered[n, length - 1], states[n, length - 1])
    # a filtered step is the last smoothed step of the sequence cut there
    cut = HiddenMarkovChain(initial, transition, emission, 3)
    torch.testing.assert_close(filtered[0, 2], cut.smooth(x[0, :3])[-1])
    ahead = states[1, 3] @ torch.linalg.matrix_power(transition.softmax(-1), 3)
    torch.testing.assert_close(states[1, 6], ahead)  # past the end: predicted


@pytest.mark.parametrize("kind", KINDS[1:])
def test_equals_hmmlearn(kind: str) -> None:
    initial, transition, emission = make(kind, seed=3)
    lengths = torch.tensor([200, 150, 1, 77])
    chain = HiddenMarkovChain(initial, transition, emission, 200, lengths)
    torch.manual_seed(2)
    x = chain.sample()
    classes = {
        "diag": lambda: hmmlearn.GaussianHMM(3, covariance_type="diag"),
        "full": lambda: hmmlearn.GaussianHMM(3, covariance_type="full"),
        "poisson": lambda: hmmlearn.PoissonHMM(3),
        "categorical": lambda: hmmlearn.CategoricalHMM(3),
    }
    other: Any = classes[kind]()
    other.startprob_, other.transmat_ = initial.softmax(-1).numpy(), transition.softmax(-1).numpy()
    if kind == "diag":
        other.means_, other.covars_ = emission.mean.numpy(), emission.variance.numpy()
    elif kind == "full":
        other.means_, other.covars_ = emission.mean.numpy(), emission.covariance_matrix.numpy()
    elif kind == "poisson":
        other.n_features, other.lambdas_ = 1, emission.rate.unsqueeze(-1).numpy()
    else:
        other.n_features, other.emissionprob_ = 4, emission.probs.numpy()
    rows = torch.cat([x[n, :length].reshape(length, -1) for n, length in enumerate(lengths)]).numpy()
    assert chain.log_prob(x).sum().item() == pytest.approx(other.score(rows, lengths.tolist()), rel=1e-8)
    states = torch.cat([chain.smooth(x)[n, :length] for n, length in enumerate(lengths)]).numpy()
    np.testing.assert_allclose(states, other.predict_proba(rows, lengths.tolist()), atol=1e-8)
    path, best = chain.viterbi(x)
    log_joint, decoded = other.decode(rows, lengths.tolist())
    assert best.sum().item() == pytest.approx(log_joint, rel=1e-8)
    np.testing.assert_array_equal(np.concatenate([path[n, :length] for n, length in enumerate(lengths)]), decoded)


@pytest.mark.parametrize("K", [2, 3])
def test_float32_gradient_over_ten_thousand_steps(K: int) -> None:
    """In float32 the value and its gradient keep the digits that the inputs have."""
    T = 10_000
    initial, transition, emission = make("normal", K=K, seed=5)
    transition = transition + 3 * torch.eye(K)
    torch.manual_seed(4)
    x = HiddenMarkovChain(initial, transition, emission, T).sample().float()
    found = {}
    for dtype in (torch.float64, torch.float32):
        inputs = [p.float().to(dtype).requires_grad_() for p in (initial, transition, emission.loc, emission.scale)]
        chain = HiddenMarkovChain(*inputs[:2], dist.Normal(*inputs[2:]), T)
        value = chain.log_prob(x.to(dtype))
        found[dtype] = value.double(), [g.double() for g in torch.autograd.grad(value, inputs)]
    (exact, exact_gradient), (value, gradient) = found[torch.float64], found[torch.float32]
    assert value.item() == pytest.approx(exact.item(), rel=1e-6)
    for got, true in zip(gradient, exact_gradient, strict=True):
        assert (got - true).norm() < 2e-4 * true.norm()


def test_impossible_transitions_and_lost_states_keep_gradients_finite() -> None:
    zero = -torch.inf
    initial = torch.tensor([0.0, zero], requires_grad=True)
    transition = torch.tensor([[0.0, 0.0], [zero, 0.0]], requires_grad=True)  # left to right
    loc = torch.tensor([0.0, 8.0], requires_grad=True)
    x = torch.tensor([0.1, 9.0, 30.0, -0.1, 0.2, MISSING, -20.0, 0.0])  # outliers, and then back in state 0
    chain = HiddenMarkovChain(initial, transition, dist.Normal(loc, torch.ones(2)), len(x))
    value = chain.log_prob(x)
    exact = HiddenMarkovChain(
        initial.double(), transition.double(), dist.Normal(loc.double(), torch.ones(2).double()), len(x)
    )
    joint = torch.stack(  # the switch to state 1 comes at step s, or never
        [exact.emission_log_probs(x.double())[:s, 0].sum() + exact.emission_log_probs(x.double())[s:, 1].sum()
         - min(s, len(x) - 1) * np.log(2) for s in range(1, len(x) + 1)]
    )  # fmt: skip
    assert value.item() == pytest.approx(joint.logsumexp(0).item(), rel=1e-6)
    for gradient in torch.autograd.grad(value, (initial, transition, loc)):
        assert torch.isfinite(gradient).all()
    stuck = HiddenMarkovChain(
        initial, torch.tensor([[zero, 0.0], [0.0, zero]]), dist.Categorical(logits=torch.eye(2).log()), 3
    )
    assert stuck.log_prob(torch.tensor([[0, 1, 0], [0, 0, 1]])).tolist() == [0.0, zero]


def test_traced_gradient_equals_eager() -> None:
    initial, transition, emission = make("diag")

    def gradient(initial: Tensor, transition: Tensor, loc: Tensor, x: Tensor, lengths: Tensor) -> list[Tensor]:
        inputs = [p.detach().requires_grad_() for p in (initial, transition, loc)]
        chain = HiddenMarkovChain(*inputs[:2], dist.Normal(inputs[2], torch.ones_like(loc)).to_event(1), 13, lengths)
        value = chain.log_prob(x).sum()
        return [value, *torch.autograd.grad(value, inputs)]

    def arguments(seed: int) -> tuple[Tensor, ...]:
        torch.manual_seed(seed)
        x = torch.randn(5, 13, 2, dtype=torch.float64)
        x[torch.rand(x.shape) < 0.2] = MISSING
        return initial, transition, emission.mean, x, torch.randint(1, 14, (5,))

    with pyro.validation_enabled(False):
        graph = make_fx(gradient)(*arguments(0))
        for seed in (0, 1):  # other missing cells and lengths: nothing is baked in
            for got, true in zip(graph(*arguments(seed)), gradient(*arguments(seed)), strict=True):
                torch.testing.assert_close(got, true, rtol=1e-12, atol=1e-12)
                assert torch.isfinite(got).all()


@pytest.mark.parametrize("kind", ["normal", "left_right"])
def test_sampled_paths_have_the_posteriors_of_all_paths(kind: str) -> None:
    """Chi-square of 40,000 whole paths, and of their posterior under several draws, by enumeration."""
    T, lengths, count = 4, torch.tensor([4, 2]), 40_000
    if kind == "left_right":
        pair, values = moving("left_right")
        chain = pair.chain(values, T, lengths)
        x = torch.tensor([[0.0, 1.0, MISSING, 2.0], [1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    else:
        chain = HiddenMarkovChain(*make("normal"), T, lengths)
        x = torch.tensor([[0.3, -1.0, MISSING, 2.0], [1.0, 0.5, 0.0, 0.0]], dtype=torch.float64)
    torch.manual_seed(0)
    found = chain.sample_states(x.expand(count, 2, T))
    assert found.shape == (count, 2, T)
    assert (found[:, 1, 2:] == -1).all()
    for n, length in enumerate(lengths.tolist()):
        paths, joint = enumerate_paths(chain, x[n], length)
        expected = joint.softmax(0)
        code = (found[:, n, :length] * 3 ** torch.arange(length - 1, -1, -1)).sum(-1)
        seen = torch.bincount(code, minlength=len(paths)) / count
        assert (seen[expected == 0] == 0).all()
        enough = expected * count >= 5
        chi_square = float(((seen - expected).square() / expected)[enough].sum() * count)
        freedom = int(enough.sum()) - 1
        assert chi_square < freedom + 4 * (2 * freedom) ** 0.5


def test_samples_have_the_exact_moments() -> None:
    """Mean of each step, and of the product of neighbours, by matrix products; z-scores of 200,000 draws."""
    initial, transition, emission = make("normal")
    torch.manual_seed(0)
    x = HiddenMarkovChain(initial, transition, emission, 4).expand((2,)).sample((100_000,)).flatten(0, 1)
    pi, A = initial.softmax(-1), transition.softmax(-1)
    for t in range(4):
        states = pi @ torch.linalg.matrix_power(A, t)
        check = [(x[:, t], states @ emission.mean)]
        if t < 3:
            check.append((x[:, t] * x[:, t + 1], (states * emission.mean) @ A @ emission.mean))
        for got, true in check:
            assert abs(got.mean() - true) < 4 * got.std() / len(got) ** 0.5


def test_forecast_is_the_matrix_power() -> None:
    initial, transition, emission = make("normal", seed=2)
    lengths = torch.tensor([3, 6])
    chain = HiddenMarkovChain(initial, transition, emission, 6, lengths)
    torch.manual_seed(0)
    x = chain.sample()
    ahead = chain.forecast(x, 5)
    draws = ahead.sample((40_000,))
    for n, length in enumerate(lengths.tolist()):
        last = HiddenMarkovChain(initial, transition, emission, length).filter(x[n, :length])[-1]
        for h in range(5):
            states = last @ torch.linalg.matrix_power(transition.softmax(-1), h + 1)
            assert abs(draws[:, n, h].mean() - states @ emission.mean) < 4 * draws[:, n, h].std() / 200
    # and as a density: log p(x, future) - log p(x)
    whole = HiddenMarkovChain(initial, transition, emission, 11).log_prob(torch.cat([x[1], draws[0, 1]]))
    torch.testing.assert_close(ahead.log_prob(draws[0])[1], whole - chain.log_prob(x)[1])


def test_chain_refuses_shapes_that_do_not_fit() -> None:
    two, three = torch.zeros(2), torch.zeros(3)
    with pytest.raises(ValueError, match="emission's batch: expected one entry for each of 2 states"):
        HiddenMarkovChain(two, torch.zeros(2, 2), dist.Normal(three, 1), 4)
    with pytest.raises(ValueError, match="transition_logits"):
        HiddenMarkovChain(two, torch.zeros(2, 3), dist.Normal(two, 1), 4)
