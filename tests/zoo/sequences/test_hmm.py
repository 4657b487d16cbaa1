"""The hidden Markov chain against enumeration, hmmlearn, published maxima and posteriordb."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hmmlearn import hmm as hmmlearn
from pyro import poutine
from torch import Tensor
from torch.distributions import constraints
from torch.fx.experimental.proxy_tensor import make_fx

import zoo
from inference.data.check import as_batch
from inference.fitting.fit import fit
from inference.posterior.draws import Posterior, draw
from inference.posterior.khat import khat
from inference.questions.sequences import forecast, sample_paths, smooth, viterbi
from tests.helpers.places import REFERENCE
from zoo import datasets
from zoo.base import Batch, ModelGuide
from zoo.parts.chains import baum_welch
from zoo.parts.chains.chain import HiddenMarkovChain
from zoo.parts.chains.transitions import stationary
from zoo.sequences.hmm import HMM
from zoo.settings import settings

KINDS = ("normal", "diag", "full", "poisson", "categorical")
MISSING = torch.nan


def make(kind: str, K: int = 3, D: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, dist.TorchDistribution]:
    """Random initial logits, transition logits and emissions, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    tril = torch.linalg.cholesky(torch.eye(D, dtype=torch.float64) + (f := normal(K, D, D)) @ f.mT)
    emission = {
        "normal": lambda: dist.Normal(2 * normal(K), normal(K).exp()),
        "diag": lambda: dist.Normal(2 * normal(K, D), normal(K, D).exp()).to_event(1),
        "full": lambda: dist.MultivariateNormal(2 * normal(K, D), scale_tril=tril),
        "poisson": lambda: dist.Poisson((normal(K) + 1).exp()),
        "categorical": lambda: dist.Categorical(normal(K, 4).softmax(-1)),
    }[kind]()
    return normal(K), normal(K, K), emission


def enumerate_paths(chain: HiddenMarkovChain, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """All K^length paths of one sequence, (P, length), and their log joint densities with x, one step at a time."""
    pi, A = chain.initial_logits.log_softmax(-1), chain.transition_logits.log_softmax(-1)
    paths = torch.tensor(list(itertools.product(range(chain.states), repeat=length)))
    total = pi[paths[:, 0]]
    for t in range(length):
        if t:
            total = total + A[paths[:, t - 1], paths[:, t]]
        total = total + one_step(chain.emission, x[t])[paths[:, t]]
    return paths, total


def one_step(emission: dist.TorchDistribution, x: Tensor) -> Tensor:
    """log p(x_t | k), (K,), of one step that may miss values."""
    if isinstance(emission, torch.distributions.Independent):
        seen = [d for d in range(len(x)) if not x[d].isnan()]
        return sum(
            (emission.base_dist.log_prob(x.nan_to_num())[:, d] for d in seen), torch.zeros(3, dtype=torch.float64)
        )
    return torch.zeros(3, dtype=torch.float64) if x.isnan().any() else emission.log_prob(x)


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


@pytest.mark.parametrize(("states", "truth"), [(1, 391.9189), (2, 342.3183), (3, 329.4603)])
def test_reaches_the_published_maxima_on_earthquakes(states: int, truth: float) -> None:
    """Zucchini, MacDonald & Langrock: Poisson emissions, stationary start."""
    pair = HMM(states=states, emission="poisson", start="stationary").double()
    batch = as_batch(pair, datasets.load("earthquakes"))
    torch.manual_seed(0)
    free = {name: value.log().requires_grad_() for name, value in pair.initial(batch).items()}
    optimiser = torch.optim.LBFGS(free.values(), max_iter=300, tolerance_change=1e-12, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        values = {"transition": free["transition"].softmax(-1), "rates": free["rates"].exp()}
        value = -pair.chain(values, 107, batch.lengths).log_prob(batch.x).sum()
        value.backward()
        return value

    optimiser.step(loss)
    assert loss().item() == pytest.approx(truth, abs=1e-4)


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


KINDS_OF_MOVES = ("free", "tied", "left_right")


def moving(kind: str, states: int = 3, seed: int = 0, **config: Any) -> tuple[HMM, dict[str, Tensor]]:
    """A pair with such transitions, in float64, and a draw of its global latents."""
    pair = HMM(states=states, transitions=kind, emission="categorical", categories=3, **config).double()
    torch.manual_seed(seed)
    return pair, pair.simulate(1)[1]


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


EM = [
    *({"emission": "categorical", "categories": 3, "transitions": kind} for kind in KINDS_OF_MOVES),
    {"emission": "poisson", "rate": 3.0},
    {"features": 2, "loc_scale": 0.5, "scale": 0.3},
]


def sequences(**config: Any) -> tuple[HMM, Batch, dict[str, Tensor]]:
    """A pair, ragged sequences with missing values drawn from it, and other global latents."""
    torch.manual_seed(3)
    pair = HMM(states=3, **config).double()
    x = pair.simulate(20)[0].x.double()
    x[torch.rand(x.shape) < 0.1] = MISSING
    lengths = torch.randint(1, 21, (20,))
    return pair, Batch(20, 20, x=x, lengths=lengths), pair.simulate(1)[1]


def log_joint_unconstrained(pair: HMM, values: dict[str, Tensor], batch: Batch) -> float:
    """Up to a constant, term by term: densities of logits, and of logs of scales and rates."""
    counts = pair.moves if pair.transitions != "left_right" else pair.moves.triu()
    A, alpha = pair.transition(values), pair.alpha
    prior = torch.xlogy(counts, A).sum()
    if pair.transitions == "tied":
        stay, q = values["stay"], values["destination"]
        prior = pair.moves[0, 0] * stay.log() + alpha * (1 - stay).log() + alpha * q.log().sum()
    if "initial" in values:
        prior = prior + alpha * values["initial"].log().sum()
    if "probs" in values:
        prior = prior + alpha * values["probs"].log().sum()
    if "rates" in values:
        prior = prior - (values["rates"].log() - pair.log_rate).square().sum() / 8
    if "locs" in values:
        prior = prior - (1 + (values["locs"] / pair.loc_scale).square()).log().sum()
        prior = prior - values["scales"].log().sum() - (pair.scale / values["scales"]).sum()
    return float(pair.chain(values, batch.x.shape[1], batch.lengths).log_prob(batch.x).sum() + prior)


@pytest.mark.parametrize("config", EM, ids=lambda config: "-".join(map(str, config.values())))
def test_baum_welch_steps_never_lower_the_posterior(config: dict[str, Any]) -> None:
    """The scores are the log joint density, term by term, and rise to where it is flat."""
    pair, batch, values = sequences(**config)
    data = baum_welch.Data(pair, batch)
    values = {name: value[None, None] for name, value in values.items()}
    scores, apart = [], []
    for _ in range(15):
        score, counts = data.e_step(values)
        scores.append(float(score) * 20)
        apart.append(scores[-1] - log_joint_unconstrained(pair, {n: v[0, 0] for n, v in values.items()}, batch))
        values = data.m_step(*counts)
    assert all(after > before - 1e-9 for before, after in itertools.pairwise(scores))
    assert scores[-1] > scores[0] + 0.1
    np.testing.assert_allclose(apart, apart[0], rtol=0, atol=1e-4)  # constants of the prior are float32


@pytest.mark.parametrize(
    "config",
    [*(pytest.param(config, marks=pytest.mark.slow) for config in EM[:2]), *EM[2:]],  # these climb slowly
    ids=lambda config: "-".join(map(str, config.values())),
)
def test_maximise_ends_where_the_log_joint_is_flat(config: dict[str, Any]) -> None:
    pair, batch, start = sequences(**config)
    found, course = pair.maximise(batch, start=start, iterations=20_000, tolerance=1e-13)
    assert (np.diff(course) > 0).all()
    best = log_joint_unconstrained(pair, found, batch)
    generator = torch.Generator().manual_seed(0)
    for name, fn in pair.prior().items():  # no direction of any site leads up
        transform = torch.distributions.biject_to(fn.support)
        free = transform.inv(found[name])
        step = 1e-4 * torch.randn(free.shape, generator=generator, dtype=torch.float64)
        up, down = (log_joint_unconstrained(pair, {**found, name: transform(free + s)}, batch) for s in (step, -step))
        assert abs(up - down) < 0.3 * abs(up + down - 2 * best) + 1e-8, name


def test_maximise_reaches_what_hmmlearn_reaches() -> None:
    """From the same start, with the same Dirichlet priors: the log joint density of its estimate is not higher."""
    config = {"features": 2, "loc_scale": 100.0, "scale": 1e-3}
    pair, _, start = sequences(**config)
    torch.manual_seed(5)
    truth = {**start, "locs": 3 * torch.randn(3, 2).double(), "scales": torch.ones(3, 2).double()}
    x = pair.chain(truth, 60, None).expand((10,)).sample()
    start = {**truth, "locs": truth["locs"] + torch.randn(3, 2), "scales": 2 * truth["scales"]}
    start["transition"] = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    batch = Batch(10, 10, x=x)
    found, course = pair.maximise(batch, start=start, iterations=1000, tolerance=1e-9)
    other: Any = hmmlearn.GaussianHMM(
        3, "diag", startprob_prior=2.0, transmat_prior=2 + np.eye(3), covars_prior=0, covars_weight=0, means_weight=0,
        n_iter=1000, tol=1e-8, init_params="", implementation="scaling",
    )  # fmt: skip
    other.startprob_, other.transmat_ = start["initial"].numpy(), start["transition"].numpy()
    other.means_, other.covars_ = start["locs"].numpy(), start["scales"].square().numpy()
    other.fit(x.flatten(0, 1).numpy(), [60] * 10)
    order = other.means_[:, 0].argsort()
    theirs = {
        "initial": other.startprob_[order],
        "transition": other.transmat_[order][:, order],
        "locs": other.means_[order],
        "scales": np.sqrt(np.stack([np.diag(c) for c in other.covars_]))[order],
    }
    theirs = {name: torch.from_numpy(value.copy()) for name, value in theirs.items()}
    ours, peers = (log_joint_unconstrained(pair, values, batch) for values in (found, theirs))
    assert peers <= ours + 1e-6
    assert ours < peers + 2  # the same mode: prior terms of scales and locs are all that differs
    torch.testing.assert_close(found["locs"], theirs["locs"], rtol=0, atol=0.05)
    chain = pair.chain(found, 60, None)
    prior = sum(fn.log_prob(found[name]) for name, fn in pair.prior().items())
    jacobian = sum(found[name].log().sum() for name in ("initial", "transition", "scales"))
    assert course[-1] * 10 == pytest.approx(float(chain.log_prob(x).sum() + prior + jacobian), rel=1e-6)


@pytest.mark.parametrize(
    "config",
    [{"features": 2}, {"features": 2, "covariance": "full"}, {"emission": "poisson", "start": "stationary"}],
    ids=lambda config: "-".join(map(str, config.values())),
)
def test_fit_by_em_places_the_guide(config: dict[str, Any]) -> None:
    pair, batch, _ = sequences(**config)
    result = fit(pair, batch, method="em", seed=1, progress=False)
    assert (np.diff(result.losses) < 0).all()
    torch.manual_seed(1)
    values, _ = pair.maximise(as_batch(pair, batch))
    centre = pair._modules["auto"].median(batch)
    chains = (pair.chain({n: v[n] for n in pair.prior()}, 20, batch.lengths) for v in (values, centre))
    best, placed = (float(chain.log_prob(batch.x).sum()) for chain in chains)
    assert placed == pytest.approx(best, abs=1.0)
    again = fit(pair, batch, method="em", seed=1, progress=False)
    assert (again.losses == result.losses).all()


def test_pieces_of_work_add_up_to_the_whole() -> None:
    pair, batch, _ = sequences(features=2)
    torch.manual_seed(0)
    whole = pair.maximise(batch, starts=4, iterations=10)
    data = baum_welch.Data(pair, batch)
    values = data.m_step(*data.started(4))
    score, counts = data.e_step(values)
    for room in (20 * 3 * 2 * 3, 7):  # two starts, three sequences each; one of one
        with settings.using(memory=room):
            again, pieces = data.e_step(values)
        for got, want in zip((again, *pieces), (score, *counts), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    assert len(whole[1]) <= 10


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (None, {}, "need the observations"),
        (torch.zeros(3, 5), {}, r"x must be \('N', 'T', 2\), got \(3, 5\)"),
        (torch.zeros(3, 5, 1), {}, r"got \(3, 5, 1\)"),
        (torch.zeros(3, 5, 2).index_fill_(0, torch.tensor([1]), torch.inf), {}, "sequence 1 of x is not finite"),
        (torch.full((3, 5, 2), torch.nan), {}, "every value of x is missing"),
        (torch.zeros(3, 5, 2), {"starts": 0}, "must be positive, got 0"),
        (torch.zeros(3, 5, 2), {"iterations": 0}, "must be positive, got 10 and 0"),
    ],
)
def test_maximise_refuses_what_it_cannot_use(x: Tensor | None, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HMM(features=2).maximise(Batch(3, 3, x=x), **options)


def test_left_right_initial_values_find_the_stages() -> None:
    """States whose means do not grow: their order in time is kept."""
    torch.manual_seed(0)
    lengths = torch.tensor([40, 40, 30, 36])
    truth = (torch.arange(40) * 4 // lengths.unsqueeze(-1)).clamp(max=3)  # (4, 40)
    x = torch.tensor([5.0, 0.0, 9.0, 2.0])[truth] + 0.3 * torch.randn(4, 40)
    pair = HMM(states=4, transitions="left_right").double()
    batch = as_batch(pair, Batch(4, 4, x=x.unsqueeze(-1), lengths=lengths))
    path, _ = pair.chain(pair.initial(batch), 40, lengths).viterbi(batch.x)
    assert (path == truth)[path >= 0].double().mean() > 0.98


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


def test_sample_paths_average_to_the_smoothed_states() -> None:
    """Over draws of the parameters too: shares of 400 paths a draw against `smooth`, z-scores; seeds; lengths."""
    pair = HMM(emission="poisson", steps=8).double()
    posterior = posterior_of(pair, 3)
    batch = as_batch(pair, pair.simulate(2)[0]).but(lengths=torch.tensor([8, 3]))
    states = smooth(pair, posterior, batch, mean=False)[0]  # (3, 2, 8, K)
    paths = torch.stack([sample_paths(pair, posterior, batch, seed=seed)[0] for seed in range(400)])
    assert paths.shape == (400, 3, 2, 8)
    assert (paths[:, :, 1, 3:] == -1).all()
    for t, n in ((0, 0), (7, 0), (4, 0), (2, 1)):
        share, p = (paths[:, :, n, t] == 1).double().mean(0), states[:, n, t, 1]
        assert ((share - p).abs() <= 4.5 * (p * (1 - p) / 400).sqrt() + 1e-12).all()
    assert torch.equal(sample_paths(pair, posterior, batch, seed=1), paths[1][None])
    assert sample_paths(pair, posterior, batch, 2).shape == (1, 2, 2, 8)
    other = zoo.create("polynomial_regression")
    with pytest.raises(ValueError, match="no hidden states"):
        sample_paths(other, posterior_of(other, 2), other.simulate(3)[0])


@pytest.mark.parametrize("kind", KINDS_OF_MOVES)
def test_forecast_of_every_kind(kind: str) -> None:
    """The mean of the categories ahead, by matrix powers of the last filtered states; z-scores of 4,000 draws."""
    pair, values = moving(kind)
    batch = as_batch(pair, pair.simulate(2)[0]).but(lengths=torch.tensor([20, 5]))
    many = Posterior({n: v.expand(1, 4000, *v.shape) for n, v in values.items()}, size=4000)
    ahead = forecast(pair, many, batch, 3)[0].double()  # (4000, 2, 3)
    codes = values["probs"] @ torch.arange(3.0, dtype=torch.float64)
    for n, length in enumerate((20, 5)):
        last = pair.chain(values, length, None).filter(batch.x[n, :length])[-1]
        for h in range(3):
            mean = last @ torch.linalg.matrix_power(pair.transition(values), h + 1) @ codes
            assert abs(ahead[:, n, h].mean() - mean) < 4 * ahead[:, n, h].std() / 4000**0.5


CONFIGS = [
    {"emission": "categorical", "transitions": "tied"},
    {"emission": "poisson", "transitions": "tied", "start": "stationary", "states": 3},
    {"transitions": "left_right", "states": 4},
    {"features": 2},
    {"features": 2, "covariance": "full", "states": 3},
    {"emission": "poisson", "start": "stationary"},
    {"emission": "categorical", "categories": 4},
]


@pytest.mark.parametrize("config", CONFIGS)
def test_many_draws_at_once_equal_a_loop(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    pair = HMM(steps=9, **config).double()
    batch = as_batch(pair, pair.simulate(5)[0])
    draws = [pair.simulate(1)[1] for _ in range(4)]
    stacked = {name: torch.stack([d[name] for d in draws]).unsqueeze(1) for name in draws[0]}
    with pyro.plate("draws", 4, dim=-2), poutine.condition(data=stacked), poutine.trace() as recorder:
        pair.model(batch)
    recorder.trace.compute_log_prob()
    site = recorder.trace.nodes["x"]
    assert site["log_prob"].shape == (4, 5)
    K = pair.states
    for s, values in enumerate(draws):
        chain = pair.chain(values, 9, batch.lengths)
        torch.testing.assert_close(site["log_prob"][s], chain.log_prob(batch.x))
        torch.testing.assert_close(site["fn"].smooth(batch.x)[s], chain.smooth(batch.x))
        torch.testing.assert_close(site["fn"].viterbi(batch.x)[1][s], chain.viterbi(batch.x)[1])
    assert site["fn"].sample().shape == (4, *batch.x.shape)
    assert site["fn"].forecast(batch.x, 3).sample((2,)).shape == (2, 4, 5, 3, *batch.x.shape[2:])
    assert site["fn"].smooth(batch.x).shape == (4, 5, 9, K)


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


def test_support_takes_missing_values() -> None:
    pair = HMM(emission="poisson")
    x = torch.tensor([[1.0, 3.0, torch.nan], [2.0, -1.0, 0.5]])
    with pytest.raises(ValueError, match=r"row 1, column 1: expected .*NaN.*, got -1"):
        as_batch(pair, x)
    with pytest.raises(ValueError, match=r"row 0, column 1: expected .*, got 4"):
        as_batch(HMM(emission="categorical", categories=4), torch.tensor([[0, 4]]))
    assert torch.isfinite(pair.sites(as_batch(pair, x[:1]))["x"].fn.log_prob(x[:1])).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"emission": "categorical", "covariance": "full"}, "covariance"),
        ({"emission": "poisson", "features": 2}, "features"),
        ({"states": 0}, "at least 1"),
        ({"states": 1, "transitions": "left_right"}, "at least 2 states, got states=1"),
        ({"start": "stationary", "transitions": "left_right"}, "starts in the first"),
    ],
)
def test_refuses_arguments_that_do_not_fit(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.create("hmm", **config)


def test_chain_refuses_shapes_that_do_not_fit() -> None:
    two, three = torch.zeros(2), torch.zeros(3)
    with pytest.raises(ValueError, match="emission's batch: expected one entry for each of 2 states"):
        HiddenMarkovChain(two, torch.zeros(2, 2), dist.Normal(three, 1), 4)
    with pytest.raises(ValueError, match="transition_logits"):
        HiddenMarkovChain(two, torch.zeros(2, 3), dist.Normal(two, 1), 4)


def test_stationary_distribution() -> None:
    transition = torch.randn(5, 4, 4, dtype=torch.float64).softmax(-1)
    pi = stationary(transition)
    torch.testing.assert_close((pi.unsqueeze(-2) @ transition).squeeze(-2), pi)
    torch.testing.assert_close(pi.sum(-1), torch.ones(5, dtype=torch.float64))


TRUTHS = {
    "gaussian": ({"features": 2}, lambda s: 10 + 4.0 * s.unsqueeze(-1) + 0.5 * torch.randn(*s.shape, 2)),
    "full": ({"features": 2, "covariance": "full"}, lambda s: 4.0 * s.unsqueeze(-1) + torch.randn(*s.shape, 2)),
    "poisson": ({"emission": "poisson"}, lambda s: torch.poisson(5.0 + 20 * s)),
    "categorical": (
        {"emission": "categorical", "categories": 6},
        lambda s: 2 * s + torch.randint(0, 2, s.shape),
    ),
}


@pytest.mark.parametrize("kind", TRUTHS)
def test_initial_values_find_separated_states(kind: str) -> None:
    """Ragged sequences with a fifth of the steps missing: the initial values decode nearly every observed step."""
    config, emit = TRUTHS[kind]
    torch.manual_seed(0)
    stay = torch.log(0.05 + 0.85 * torch.eye(3))
    states = HiddenMarkovChain(torch.zeros(3), stay, dist.Delta(torch.arange(3.0)), 60).sample((8,)).long()
    x = emit(states).double()
    x[torch.rand(8, 60) < 0.2] = MISSING
    pair = HMM(states=3, **config).double()
    batch = as_batch(pair, Batch(8, 8, x=x, lengths=torch.tensor([60, 60, 50, 40, 30, 20, 10, 1])))
    values = pair.initial(batch)
    assert set(values) == set(pair.prior())
    chain = pair.chain(values, 60, batch.lengths)
    path, _ = chain.viterbi(batch.x)
    seen = (path >= 0) & ~x.reshape(8, 60, -1).isnan().any(-1)
    assert (path == states)[seen].double().mean() > 0.95


def posterior_of(pair: ModelGuide, count: int) -> Posterior:
    torch.manual_seed(0)
    values = [pair.simulate(1)[1] for _ in range(count)]
    return Posterior({name: torch.stack([v[name] for v in values])[None] for name in values[0]}, size=count)


def test_sequence_tools_equal_a_loop_over_draws() -> None:
    pair = HMM(emission="poisson", steps=12).double()
    posterior = posterior_of(pair, 5)
    batch = as_batch(pair, pair.simulate(4)[0])
    chains = [pair.chain({n: v[0, s] for n, v in posterior.draws.items()}, 12, batch.lengths) for s in range(5)]
    states = torch.stack([chain.smooth(batch.x) for chain in chains])
    for budget in (2**22, 12 * 8 * 3):  # all at once, and three pieces of work at a time
        with settings.using(memory=budget):
            torch.testing.assert_close(smooth(pair, posterior, batch, mean=False)[0], states)
            torch.testing.assert_close(smooth(pair, posterior, batch), states.mean(0))
            paths = viterbi(pair, posterior, batch)
            assert paths.shape == (1, 5, 4, 12)
            assert all(torch.equal(paths[0, s], chain.viterbi(batch.x)[0]) for s, chain in enumerate(chains))
            assert forecast(pair, posterior, batch, 6, draws=2).shape == (1, 2, 4, 6)
    assert torch.equal(forecast(pair, posterior, batch, 6, seed=1), forecast(pair, posterior, batch, 6, seed=1))
    with pytest.raises(ValueError, match="horizon"):
        forecast(pair, posterior, batch, 0)
    other = zoo.create("polynomial_regression")
    with pytest.raises(ValueError, match="polynomial_regression has no hidden states at y"):
        smooth(other, posterior_of(other, 2), other.simulate(3)[0])


class OrderedNormal(dist.TorchDistribution):
    """N(loc, 1) on 0 < m_1 < m_2 < ..., not normalised again, as posteriordb has it."""

    arg_constraints = {}  # noqa: RUF012
    support = constraints.independent(constraints.positive, 1)

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(torch.Size(), loc.shape)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return torch.normal(self.loc.expand(*sample_shape, 2), 1).abs()

    def log_prob(self, gaps: Tensor) -> Tensor:
        """Of the gaps (m_1, m_2 - m_1): their Jacobian is one."""
        return dist.Normal(self.loc, 1).log_prob(gaps.cumsum(-1)).sum(-1)


class HMMExample(ModelGuide):
    """posteriordb's hmm_example, with a uniform start (the posterior is the same, the evidence is K times smaller)."""

    def __init__(self) -> None:
        super().__init__("multivariate")
        self.register_buffer("loc", torch.tensor([3.0, 10.0]))

    def model(self, batch: Batch) -> Tensor:
        theta = pyro.sample("theta", dist.Dirichlet(torch.ones_like(self.loc).expand(2, 2)).to_event(1))
        mu = pyro.sample("gaps", OrderedNormal(self.loc)).cumsum(-1)
        with batch.plate():
            chain = HiddenMarkovChain(0 * self.loc, theta.log(), dist.Normal(mu, 1), 100)
            return pyro.sample("x", chain, obs=batch.x)


@pytest.mark.slow
def test_posteriordb_hmm_example() -> None:
    folder = REFERENCE / "posteriordb" / "hmm_example-hmm_example"
    if not folder.exists():
        pytest.skip(f"no reference data at {folder}")
    reference = json.loads((folder / "reference_summary.json").read_text())
    y = json.loads((folder / "data.json").read_text())["y"]
    pair = HMMExample().double()
    data = torch.tensor(y, dtype=torch.float64)[None]
    fit(pair, data, steps=1500, particles=8, lr=0.02, seed=0, progress=False)
    posterior = draw(pair, data, 4000)
    theta, mu = posterior["theta"], posterior["gaps"].cumsum(-1)
    for name, site, entries in (("theta1", theta[0, :, 0], 2), ("theta2", theta[0, :, 1], 2), ("mu", mu[0], 2)):
        for i in range(entries):
            true = reference["parameters"][f"{name}[{i + 1}]"]
            assert abs(site[:, i].mean() - true["mean"]) < 0.25 * true["sd"], name
            assert 0.8 < site[:, i].std() / true["sd"] < 1.2, name
    weight = posterior.stats["log_p"] - posterior.stats["log_q"]
    evidence = reference["log_evidence"]["value_with_uniform_initial_state"]
    elbo, error = weight.mean().item(), weight.std().item() / weight.numel() ** 0.5
    assert evidence - 0.2 < elbo < evidence + 4 * (error + reference["log_evidence"]["standard_error"])
    assert khat(pair, data).globals < 0.7


@pytest.mark.parametrize(
    ("x", "lengths", "message"),
    [
        (
            torch.zeros(2, 5, 1),
            torch.tensor([2.5, 3.0]),
            r"'lengths', row 0: expected a whole number of steps, got 2\.5",
        ),
        (torch.zeros(2, 5, 1), torch.tensor([5.0, torch.nan]), "row 1: expected a whole number of steps, got nan"),
        (torch.zeros(2, 5, 1), torch.tensor([5, 6]), "row 1: expected 1 to 5, got 6"),
        (torch.zeros(2, 5, 1), torch.tensor([5, 0]), "row 1: expected 1 to 5, got 0"),
        (torch.zeros(2, 0, 1), None, "at least one step or column"),
        (torch.zeros(()), None, "expected rows, got the single number 0"),
    ],
)
def test_lengths_and_shapes_that_make_no_sequences_are_refused(x: Tensor, lengths: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_batch(zoo.create("hmm"), x if lengths is None else Batch.of(x, lengths=lengths))
