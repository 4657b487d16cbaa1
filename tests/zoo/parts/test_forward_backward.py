"""The compiled forward-backward algorithm against all paths, against the tree of products, and as an operator."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from zoo.parts.chains import emissions, forward_backward, gaussian, kernels, native, tree
from zoo.parts.chains.chain import HiddenMarkovChain
from zoo.parts.chains.forward_backward import _flat, _forward, _forward_only, filtered, log_likelihood, relative

pytestmark = pytest.mark.skipif(not native.available(), reason="needs numba")


class Unwritten:
    """NumPy, whose `empty` holds NaN: what memory may hold, and no result may depend on."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: Any, dtype: Any = np.float64) -> Any:
        return np.full(shape, np.nan).astype(dtype)


@pytest.fixture(autouse=True)
def _unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (forward_backward, gaussian):
        monkeypatch.setattr(module, "np", Unwritten())


def inputs(
    lead: tuple[Any, ...] = ((), (), (4,)), T: int = 9, K: int = 3, spread: float = 3.0, seed: int = 0
) -> list[Tensor]:
    """Initial logits, transition logits and emission log-probabilities with these batch shapes, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [normal(*lead[0], K), normal(*lead[1], K, K), -spread * normal(*lead[2], T, K).square()]


def left_to_right(given: list[Tensor]) -> list[Tensor]:
    K = given[0].shape[-1]
    initial = given[0].masked_fill(torch.arange(K) > 0, -torch.inf)
    return [initial, given[1].masked_fill(~torch.ones(K, K).triu().bool(), -torch.inf), given[2]]


def gradients(function: Any, given: list[Tensor]) -> list[Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in given]
    value = function(*leaves)
    weight = torch.linspace(0.5, 2, value.numel(), dtype=value.dtype).view(value.shape)
    return [value.detach(), *torch.autograd.grad((weight * value).sum(), leaves)]


def lost(initial: Tensor, transition: Tensor, emission: Tensor) -> np.ndarray[Any, Any]:
    """Which sequences the loops that are not in logs lose a state of."""
    _, rows, (start, moves, logs) = _flat(initial.log_softmax(-1), transition.log_softmax(-1), emission)
    known = np.empty((len(rows), *logs.shape[1:]))
    return _forward_only(start, moves, *relative(logs), np.full(len(logs), logs.shape[1]), rows, known)[1]


def by_tree(initial: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
    return tree.sum_of_paths(initial.log_softmax(-1), transition.log_softmax(-1), emission)


def by_paths(initial: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
    """Every one of the K^T paths of one sequence by itself."""
    pi, A = initial.log_softmax(-1), transition.log_softmax(-1)
    T, K = emission.shape
    paths = torch.tensor(list(itertools.product(range(K), repeat=T)))
    steps = emission[torch.arange(T), paths].sum(-1) + A[paths[:, :-1], paths[:, 1:]].sum(-1)
    return (pi[paths[:, 0]] + steps).logsumexp(0)


@pytest.mark.parametrize(("T", "K"), [(1, 3), (2, 1), (7, 3), (5, 5)])
@pytest.mark.parametrize("sparse", [False, True])
def test_value_and_gradient_equal_those_of_all_paths(T: int, K: int, sparse: bool) -> None:
    given = inputs(((), (), ()), T, K)
    given = left_to_right(given) if sparse else given
    for got, true in zip(gradients(log_likelihood, given), gradients(by_paths, given), strict=True):
        torch.testing.assert_close(got, true.nan_to_num(), rtol=1e-9, atol=1e-9)


SHAPES: list[Any] = [
    ((), (), (4,)),
    ((5, 1), (5, 1), (4,)),  # particles and sequences
    ((5, 1), (), (1, 1)),
    ((), (2, 1, 1), (3, 4)),
    ((4,), (4,), ()),  # sequences that share their observations
    ((2, 3), (3,), (2, 1)),
]


@pytest.mark.parametrize("lead", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_equals_the_tree_whatever_is_shared(lead: Any, dtype: torch.dtype) -> None:
    given = [x.to(dtype) for x in inputs(lead, T=40)]
    found = gradients(log_likelihood, given)
    true = gradients(by_tree, [x.double() for x in given])
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    for got, want in zip(found, true, strict=True):
        assert got.dtype == dtype
        assert got.shape == want.shape
        assert (got.double() - want).norm() <= tolerance * want.norm()


@pytest.mark.parametrize("sparse", [False, True])
def test_long_sequences_neither_underflow_nor_lose_digits(sparse: bool) -> None:
    """Each step costs a digit or more on the way up and on the way down: thousands of them need dividing out."""
    given = inputs(lead=((), (), (2,)), T=3000, K=4)
    given = left_to_right(given) if sparse else given
    for one, other in zip(gradients(log_likelihood, given), gradients(by_tree, given), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("K", [2, 5])
@pytest.mark.parametrize("spread", [3.0, 1e3])  # with the latter shares of 1e-500 are nothing rare
def test_lost_states_that_come_back_are_not_missed(K: int, spread: float) -> None:
    given = left_to_right(inputs(T=60, K=K, spread=spread))
    assert spread == 3.0 or lost(*given).any()
    for got, want in zip(gradients(log_likelihood, given), gradients(by_tree, given), strict=True):
        assert got.isfinite().all()
        assert (got - want).norm() <= 1e-9 * (1 + want.norm())


def test_shares_that_vanish_do_no_harm_where_all_moves_are_possible() -> None:
    given = inputs(T=60, K=4, spread=1e4)
    assert not lost(*given).any()
    for got, want in zip(gradients(log_likelihood, given), gradients(by_tree, given), strict=True):
        assert (got - want).norm() <= 1e-9 * want.norm()


def test_nearly_impossible_moves_are_worked_out_in_logs() -> None:
    given = inputs(T=6, K=2, spread=1.0)
    given[1] = torch.tensor([[0.0, -800.0], [-800.0, 0.0]], dtype=torch.float64)
    given[2][:, 3:, 0] = -2000.0  # only by the move that is nearly impossible
    for got, want in zip(gradients(log_likelihood, given), gradients(by_tree, given), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_impossible_sequences_are_minus_infinity_with_gradient_zero_and_nan_stays() -> None:
    given = inputs(((), (), (3,)))
    given[2][0, 4] = -torch.inf
    given[2][1, 4, 1] = torch.nan
    value, *rest = gradients(log_likelihood, given)
    assert value[0] == -torch.inf
    assert value[1].isnan()
    assert value[2].isfinite()
    assert (rest[-1][0] == 0).all()
    alone = gradients(log_likelihood, [*given[:2], given[2][:1]])
    assert all((gradient == 0).all() for gradient in alone[1:])


@pytest.mark.parametrize("sparse", [False, True])
def test_gradcheck_and_second_derivatives(sparse: bool) -> None:
    given = inputs(((2, 1), (2, 1), (3,)), T=4)
    where = torch.ones(3, 3, dtype=torch.bool).triu() if sparse else torch.ones(3, 3, dtype=torch.bool)

    def function(initial: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
        return log_likelihood(initial, torch.where(where, transition, -torch.inf), emission)

    leaves = [x.requires_grad_() for x in given]
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


def test_hessian_equals_the_trees() -> None:
    initial, transition, emission = inputs(((), (), (2,)), T=5)

    def of(function: Any) -> Any:
        return torch.autograd.functional.hessian(lambda t, e: function(initial, t, e).sum(), (transition, emission))

    for got, want in zip(of(log_likelihood), of(by_tree), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("keep", [False, True])
def test_is_an_operator_by_torchs_own_checks(keep: bool) -> None:
    given = inputs(((2, 1), (), (3,)), T=4)
    logs = [given[0].log_softmax(-1), given[1].log_softmax(-1), given[2]]
    torch.library.opcheck(_forward, (*logs, keep))
    if keep:
        torch.library.opcheck(_forward, (*[x.requires_grad_() for x in logs], keep))


def test_traced_graph_works_for_other_data() -> None:
    def function(*given: Tensor) -> list[Tensor]:
        return gradients(log_likelihood, list(given))

    graph = make_fx(function)(*inputs(((2, 1), (2, 1), (4,))))
    assert graph.code.count("torch.ops.zoo.hidden_markov.default") == 1  # natively, and not through a loop or a tree
    assert "logsumexp" not in graph.code
    other = inputs(((2, 1), (2, 1), (4,)), seed=1)
    other[2][0] *= 1e4
    other[1][0, 0, 1] = torch.tensor([-torch.inf, 0.0, -torch.inf])
    for got, want in zip(graph(*other), function(*other), strict=True):
        assert torch.equal(got, want)


def test_no_grad_keeps_nothing() -> None:
    given = inputs()
    logs = [given[0].log_softmax(-1), given[1].log_softmax(-1), given[2]]
    _, states, moves = _forward(*logs, False)
    assert states.numel() == moves.numel() == 0
    with torch.no_grad():
        value = log_likelihood(*[x.requires_grad_() for x in given])
    torch.testing.assert_close(value, by_tree(*given).detach())


def test_filtered_states_are_those_of_each_past() -> None:
    given = inputs(((), (), (2,)), T=6)
    for logs in (given, left_to_right(inputs(((), (), (2,)), T=6, spread=1e4))):
        start, moves = (x.log_softmax(-1) for x in logs[:2])
        states = filtered(start, moves, logs[2])
        for t in range(6):
            past = logs[2][:, : t + 1].clone().requires_grad_()
            last = torch.autograd.grad(tree.sum_of_paths(start, moves, past).sum(), past)[0][:, -1]
            torch.testing.assert_close(states[:, t], last, rtol=1e-9, atol=1e-9)


def test_without_numba_the_tree_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(T=40)
    compiled = gradients(log_likelihood, given)
    monkeypatch.setattr(native, "available", lambda: False)
    monkeypatch.setattr(native, "run", None)
    for got, want in zip(gradients(log_likelihood, given), compiled, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    start, moves = (x.log_softmax(-1) for x in given[:2])
    states = filtered(start, moves, given[2])
    monkeypatch.undo()
    torch.testing.assert_close(states, filtered(start, moves, given[2]), rtol=1e-10, atol=1e-10)


def test_numba_is_not_imported_before_it_is_needed() -> None:
    script = "import sys; from zoo.base import registry; registry(); sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    numba = pytest.importorskip("numba")
    real, asked = numba.njit, []

    def njit(kernel: Any, cache: bool = False, **options: Any) -> Any:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(kernel, **options)

    monkeypatch.setattr(numba, "njit", njit)
    monkeypatch.setattr(native, "_compiled", {})
    scaled, peaks = np.zeros((1, 2, 4)), np.zeros(1)
    native.run(kernels.differences, np.array([[[-1.0, -3.0], [-2.0, -2000.0]]]), scaled, peaks)
    assert asked == [True, False]
    assert peaks.tolist() == [-3.0]
    none = [-np.inf, -np.inf]
    assert scaled.tolist() == [[[0.0, -2.0, *none], [0.0, kernels.LOWEST, *none]]]


@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_gaussian_densities_equal_torchs(scalar: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(native, "available", lambda: False)
    generator = torch.Generator().manual_seed(0)
    shape = (2, 1, 3) if scalar else (2, 1, 3, 4)  # two particles, three states, four features
    loc = (1e4 + torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()
    scale = torch.randn(shape, generator=generator, dtype=torch.float64).exp().requires_grad_()
    x = 1e4 + 3 * torch.randn(5, 6, *shape[3:], generator=generator, dtype=torch.float64)
    x[torch.rand(x.shape, generator=generator) < 0.2] = torch.nan
    over = torch.arange(6) >= torch.tensor([6, 3, 1, 5, 6]).unsqueeze(-1)
    normal = dist.Normal(loc, scale) if scalar else dist.Normal(loc, scale).to_event(1)
    found = emissions.log_probs(normal, x, over)
    terms = dist.Normal(loc.unsqueeze(-3 + scalar), scale.unsqueeze(-3 + scalar)).log_prob(
        x.nan_to_num().unsqueeze(-1 if scalar else -2)
    )
    seen = ~x.isnan() & ~(over if scalar else over.unsqueeze(-1))
    terms = torch.where(seen.unsqueeze(-1 if scalar else -2), terms, 0)
    true = terms if scalar else terms.sum(-1)
    torch.testing.assert_close(found, true, rtol=1e-9, atol=1e-9)
    weight = torch.randn(true.shape, generator=generator, dtype=torch.float64)
    for got, want in zip(*(torch.autograd.grad((weight * f).sum(), (loc, scale)) for f in (found, true)), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_a_chain_of_one_step_can_be_drawn() -> None:
    chain = HiddenMarkovChain(torch.zeros(2), torch.zeros(2, 2), dist.Normal(torch.zeros(2), 1.0), 1)
    assert chain.sample((3,)).shape == (3, 1)


def test_gaussian_densities_are_an_operator_with_second_derivatives() -> None:
    generator = torch.Generator().manual_seed(0)
    loc, x = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((2, 1, 3, 2), (4, 70, 2)))
    scale = torch.rand(3, 2, generator=generator, dtype=torch.float64) + 0.5
    x[0, 3, 1], x[2, 69] = torch.nan, torch.nan
    torch.library.opcheck(gaussian._gaussian, (loc, scale, x))
    leaves = (loc[..., :2, :].requires_grad_(), scale[:2].requires_grad_())
    few = x[:, 64:]
    assert torch.autograd.gradcheck(lambda *given: gaussian._gaussian(*given, few), leaves)
    assert torch.autograd.gradgradcheck(lambda *given: gaussian._gaussian(*given, few), leaves)


GAUSSIAN: list[Any] = [  # batch shapes of logits, parameters, observations and lengths
    ((), (), (), ()),
    ((), (), (4,), (4,)),
    ((5, 1), (5, 1), (4,), (4,)),
    ((5, 1), (), (4,), None),
    ((), (4,), (), (4,)),
]


def gaussian_inputs(lead: Any, T: int = 70, K: int = 3, D: int = 2, seed: int = 0) -> tuple[list[Tensor], Any]:
    """Logits, loc and scale; and observations, a fifth of them missing, with lengths."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = 3 * normal(*lead[2], T, D)
    x[torch.rand(x.shape, generator=generator) < 0.2] = torch.nan
    lengths = None if lead[3] is None else torch.randint(1, T + 1, lead[3], generator=generator)
    shape = (*lead[1], K, D)
    return [normal(*lead[0], K), normal(*lead[0], K, K), 2 * normal(*shape), normal(*shape).exp()], (x, lengths)


def by_steps(initial: Tensor, transition: Tensor, loc: Tensor, scale: Tensor, x: Tensor, lengths: Any) -> Tensor:
    """The same by torch's own density and the tree."""
    T = x.shape[-2]
    seen = ~x.isnan()
    if lengths is not None:
        seen = seen & (torch.arange(T) < lengths.unsqueeze(-1)).unsqueeze(-1)
    terms = dist.Normal(loc.unsqueeze(-3), scale.unsqueeze(-3)).log_prob(x.nan_to_num().unsqueeze(-2))
    return by_tree(initial, transition, torch.where(seen.unsqueeze(-2), terms, 0).sum(-1))


@pytest.mark.parametrize("lead", GAUSSIAN, ids=str)
@pytest.mark.parametrize("kind", ["dense", "left to right", "outliers"])
def test_gaussian_chains_equal_the_tree(lead: Any, kind: str) -> None:
    given, (x, lengths) = gaussian_inputs(lead)
    if kind != "dense":
        given[:2] = left_to_right([*given[:2], x])[:2]
    if kind == "outliers":  # states are lost, and come back
        x[..., 10::20, :] += 200.0
    found = gradients(lambda *leaves: gaussian.log_likelihood(*leaves, x, lengths), given)
    true = gradients(lambda *leaves: by_steps(*leaves, x, lengths), given)
    for got, want in zip(found, true, strict=True):
        assert got.shape == want.shape
        assert (got - want).norm() <= 1e-9 * (1 + want.norm())


def test_steps_past_the_end_are_not_looked_at() -> None:
    given, (x, _) = gaussian_inputs(((), (), (2,), None), T=9)
    lengths = torch.tensor([4, 9])
    found = gradients(lambda *leaves: gaussian.log_likelihood(*leaves, x, lengths), given)
    x[0, 4:] = torch.inf
    for got, want in zip(gradients(lambda *v: gaussian.log_likelihood(*v, x, lengths), given), found, strict=True):
        assert torch.equal(got, want)


def test_gaussian_chain_is_an_operator_with_second_derivatives() -> None:
    given, (x, lengths) = gaussian_inputs(((2, 1), (), (3,), (3,)), T=5)
    logs = [given[0].log_softmax(-1), given[1].log_softmax(-1), *given[2:]]
    torch.library.opcheck(gaussian._chain, (*logs, x, lengths, False))
    leaves = [v.requires_grad_() for v in logs]
    torch.library.opcheck(gaussian._chain, (*leaves, x, lengths, True))
    leaves = [v.detach().requires_grad_() for v in given]
    assert torch.autograd.gradcheck(lambda *v: gaussian.log_likelihood(*v, x, lengths), leaves)
    assert torch.autograd.gradgradcheck(lambda *v: gaussian.log_likelihood(*v, x, lengths), leaves)
