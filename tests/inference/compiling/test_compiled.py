"""Recorded graphs: they do what the function does, on any input, and tell what they cannot hold."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import inference
from inference.compiling import compiled
from inference.compiling.compiled import CompileError, Traced, TraceError
from inference.compiling.fallback import choose_mode
from inference.compiling.recording import record
from inference.compiling.running import quick
from inference.data.check import as_batch
from inference.fitting.adam import Adam, advance, update
from inference.fitting.objective import choose
from tests.helpers.pairs import Coded, Normal
from tests.helpers.places import ROOT
from tests.helpers.sampling import short


def _with_row(x):
    out = torch.zeros(5)
    out[1:] = x[1]
    before = out.sum()
    out[0] = before
    return out + before


def _written_by_view(x):
    first = x * 2
    view = first.view(-1)
    view.add_(1)
    return x * 2 - view.sum()


def _view_of_written(x):
    base = torch.ones(6)
    view = base[2:]
    base += x.sum()
    again = base[2:]
    return view + again * 2


def _gradient(x):
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad((leaf.tanh() @ leaf.T).logsumexp(0).sum(), leaf)[0]


FUNCTIONS = {
    "writes into a fresh tensor": lambda x: torch.zeros(3, 4).index_put((torch.tensor([0]),), x[0]).add_(x).add_(1),
    "writes into a slice": _with_row,
    "writes into what it was given": lambda x: (x.mul_(2), x + 1)[1],
    "a view of what is written into": _view_of_written,
    "equal to what is written into": lambda x: (x * 2).add_(1) + x * 2,
    "equal to what is written into by a view": _written_by_view,
    "equal operations": lambda x: (x.exp() + x.exp()) * (x.T.exp().T - 0.5),
    "constants": lambda x: x * torch.arange(4) + torch.eye(4)[:3] * torch.tensor(2.0),
    "several results": lambda x: torch.linalg.qr(x)[1] + x.sort(-1).values.sum(),
    "gradient": _gradient,
    "a chain of small ones": lambda x: (
        torch.where(x > 0, (1 - x).clamp(max=2.0) ** 2 / 3, x.mean(0, keepdim=True))
        .masked_fill(x == 0, 1.0)
        .add(x.squeeze(-1), alpha=0.5)
        .div(0.3, rounding_mode="floor")
        .cumsum(-1)
        .gather(-1, torch.tensor([[0], [2], [1]]))
        .expand(3, 4)
        .reshape(2, 6)
        .t()
        .sum(1, dtype=torch.float64)
    ),
    "1 and 1.0": lambda x: torch.full_like(x, 1, dtype=None).sum() + torch.full((), 1.0) + torch.full((), 1) / 3 * x,
    "reads a constant": lambda x: x * (2 if torch.ones(3).sum() > 2 else 1) + torch.tensor([1, 0, 2]).nonzero().sum(),
}


def sample(seed):
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_graph_does_what_the_function_does_every_time(name):
    function = FUNCTIONS[name]
    given = sample(0)
    graph, _ = record(function, [given])
    assert torch.equal(given, sample(0)), "recording wrote into its input"
    for run in (graph, quick(graph)):
        for seed in (0, 1, 1):
            torch.testing.assert_close(run(sample(seed))[0], function(sample(seed)), rtol=0, atol=0)


def test_equal_operations_are_done_once_and_constants_not_at_all():
    graph, _ = record(FUNCTIONS["equal operations"], [sample(0)])
    count = sum(node.target is torch.ops.aten.exp.default for node in graph.graph.nodes)
    assert count == 2  # of x and of its transpose
    graph, _ = record(FUNCTIONS["constants"], [sample(0)])
    assert [node.target for node in graph.graph.nodes if node.op == "call_function"] == [
        torch.ops.aten.mul.Tensor,
        torch.ops.aten.add.Tensor,
    ]


def test_draws_are_fresh_on_every_run_and_the_same_for_the_same_seed():
    state = torch.get_rng_state()
    graph, _ = record(lambda x: x + torch.randn(4) + torch.bernoulli(torch.full((4,), 0.5)), [sample(0)])
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(3)
    first, second = graph(sample(0))[0], graph(sample(0))[0]
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(sample(0) + torch.randn(4) + torch.bernoulli(torch.full((4,), 0.5)), first)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x * float(x[0, 0]),
        lambda x: x[x > 0],
        lambda x: x * int(torch.randn(()) > 0),
    ],
    ids=["branch", "float", "mask", "random branch"],
)
def test_a_function_that_reads_values_is_refused_with_its_line(function):
    with pytest.raises(TraceError, match=r"reads the value of a tensor .*test_compiled\.py:\d+: lambda x"):
        record(function, [sample(0)])


def test_other_shapes_are_recorded_once_and_bound_tensors_may_get_new_storage():
    calls = []

    def function(weight, x):
        calls.append(x.shape)
        return weight * x

    weight = nn.Parameter(torch.ones(4))
    traced = Traced(function)
    call = traced.bind(weight)
    for rows in (3, 2, 3, 2):
        torch.testing.assert_close(call(torch.ones(rows, 4)), torch.ones(rows, 4))
    assert calls == [(3, 4), (2, 4)]
    weight.data = torch.full((4,), 2.0)
    torch.testing.assert_close(call(torch.ones(3, 4)), torch.full((3, 4), 2.0))
    torch.testing.assert_close(traced(weight, torch.ones(3, 4)), torch.full((3, 4), 2.0))
    assert len(calls) == 2


# --- Adam -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        (torch.arange(3.0), torch.ones(3)),
        ({"x": torch.arange(3.0)}, [torch.ones(3)]),
        (torch.arange(3.0), (torch.ones(3), torch.zeros(3))),
        (),
    ],
)
@pytest.mark.parametrize(
    "result",
    [
        lambda total, *_: (total, total + 1),
        lambda total, *_: total,
        lambda total, *_: [total, total + 1],
        lambda total, *_: {"b": total, "a": (total + 1, [total + 2])},
        lambda total, *rest: (total, rest),
        lambda *_: (),
    ],
)
def test_bound_functions_take_and_return_nests_as_they_are(rest, result):
    def function(held, *rest):
        total = held["weight"].sum()
        for i, leaf in enumerate(pytree.tree_leaves(rest)):
            total = total + (i + 1) * leaf.sum()
        return result(total, *pytree.tree_map(lambda leaf: 2 * leaf, rest))

    held = {"weight": torch.tensor([1.0, 2.0])}
    bound = Traced(function).bind(held)
    for _ in range(2):
        found, expected = bound(*rest), function(held, *rest)
        assert pytree.tree_structure(found) == pytree.tree_structure(expected)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_inputs_may_lie_in_memory_in_any_order():
    def step(x, y):
        y.add_(x)
        return (x @ x.mT).sum() + x.cos()

    runs, given = Traced(step, "inductor"), torch.arange(12.0).reshape(3, 4)
    spread = torch.ones(1, 4).expand(3, 4)
    for x in (given, given.mT.contiguous().mT, given.repeat(1, 2)[:, ::2], spread):
        for y in (torch.ones(3, 4), torch.ones(4, 3).mT):
            torch.testing.assert_close(runs(x, y), (x @ x.mT).sum() + x.cos())
            torch.testing.assert_close(y, 1 + x)
    assert len(runs._graphs) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fused", [True, False])
def test_adam_is_that_of_torch_whatever_the_layout_of_the_gradient(dtype, fused):
    torch.manual_seed(0)
    start = [torch.randn(3, 4), torch.randn(2, 5).T, torch.randn(5, 2), torch.randn(5), torch.randn(())]
    start = [p.to(dtype) for p in start]
    ours = [p.clone() for p in start]  # the second lies in memory column by column
    theirs = [nn.Parameter(p.clone(memory_format=torch.contiguous_format)) for p in start]
    optimiser, state, usual = torch.optim.Adam(theirs, lr=1e-2), Adam.of(ours), 0.0
    rate, clip = torch.tensor(1e-2, dtype=torch.float64), torch.tensor(4.0)
    for step in range(30):
        size = 30 if step % 5 == 0 else 1  # some are clipped
        gradients = [
            torch.randn(4, 3).T,
            torch.randn(5, 2),
            torch.randn(2, 5).T,
            torch.randn(1).expand(5),
            torch.randn(()),
        ]
        gradients = [size * g.to(dtype) for g in gradients]
        for p, g in zip(theirs, gradients, strict=True):
            p.grad = g.clone(memory_format=torch.contiguous_format)
        limit = 4.0 * max(1.0, usual)
        norm = float(nn.utils.clip_grad_norm_(theirs, limit))
        usual += 0.02 * (min(norm, limit) - usual)
        optimiser.step()
        assert float(update(ours, gradients, state, torch.ones((), dtype=dtype), rate, clip, fused)) == 1
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_adam_does_nothing_where_something_is_not_finite(fused, where):
    parameters = [torch.ones(3), torch.ones(2)]
    state = Adam.of(parameters)
    rate, clip, one = torch.tensor(0.1, dtype=torch.float64), torch.tensor(torch.inf), torch.ones(())
    update(parameters, [torch.ones(3), torch.ones(2)], state, one, rate, clip, fused)
    kept = [tensor.clone() for tensor in (*parameters, *state.means, *state.squares, state.count, state.usual)]
    bad = torch.tensor([1.0, torch.nan]) if where == "gradient" else torch.ones(2)
    loss = torch.tensor(torch.inf) if where == "loss" else one
    assert update(parameters, [torch.ones(3), bad], state, loss, rate, clip, fused).isnan()
    now = (*parameters, *state.means, *state.squares, state.count, state.usual)
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))


@pytest.mark.parametrize("fused", [True, False])
def test_a_plain_step_of_adam_is_that_of_torch_at_other_betas(fused):
    torch.manual_seed(0)
    ours, theirs = [torch.ones(3).double()], [nn.Parameter(torch.ones(3).double())]
    optimiser, state = torch.optim.Adam(theirs, lr=0.1, betas=(0.9, 0.99)), Adam.of(ours)
    rate, one = torch.tensor(0.1, dtype=torch.float64), torch.ones(())
    for _ in range(30):
        gradient = torch.randn(3).double()
        theirs[0].grad = gradient.clone()
        optimiser.step()
        advance(ours, [gradient], state, rate, one, one, fused, (0.9, 0.99))
        torch.testing.assert_close(ours[0], theirs[0].detach(), rtol=1e-6, atol=1e-7)


# --- modes ------------------------------------------------------------------------------------------------------------


def test_auto_compiles_only_what_repays_it(monkeypatch):
    assert choose_mode("auto", 10)[0] == "off"
    assert choose_mode("auto", 1000)[0] == "graph"
    assert choose_mode("auto", None)[0] == "graph"
    assert choose_mode("off", 10**6)[0] == "off"
    monkeypatch.setattr(compiled, "compiler", lambda: "c++")
    assert choose_mode("auto", 10**6)[0] == "inductor"
    monkeypatch.setattr(compiled, "compiler", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_mode("auto", 10**6) == ("graph", "no C++ compiler found")


@pytest.mark.parametrize("broken", ["missing", "failing"])
def test_without_a_working_compiler_the_graph_runs_and_says_so(monkeypatch, broken):
    if broken == "missing":
        monkeypatch.setattr(compiled, "compiler", lambda: None)
    else:
        import torch._inductor

        def fail(*_, **__):
            raise PermissionError("[Errno 13] Permission denied: '/cache'")

        monkeypatch.setattr(torch._inductor, "compile", fail)
    data = 1.5 + sample(0).flatten()
    with pytest.raises(CompileError, match="compiler" if broken == "missing" else "PermissionError.*cache"):
        inference.fit(Normal(), data, steps=60, compile="inductor", progress=False, device="cpu")
    monkeypatch.setattr("inference.fitting.fit.choose_mode", lambda *_: ("inductor", "for the test"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = inference.fit(Normal(), data, steps=60, progress=False, device="cpu")
    assert (fit.compile, fit.compile_reason) == ("graph", "inductor failed")
    assert sum("not compiled instead" in str(w.message) for w in caught) == 1


@pytest.mark.slow
def test_where_torch_can_make_no_cache_folder_graphs_run_all_the_same(tmp_path):
    """They need nothing of torch's own tracer, which takes seconds to load and wants such a folder."""
    (tmp_path / "file").touch()
    code = (
        "import sys, inference, torch\nfrom tests.helpers.pairs import Normal\n"
        "fit = inference.fit(Normal(), torch.zeros(9), steps=60, progress=False, device='cpu')\n"
        "print(fit.compile, 'torch._dynamo' in sys.modules)"
    )
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "file" / "cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "graph False\n"


def test_where_recording_needs_the_tracer_of_torch_and_it_cannot_be_loaded_plain_pyro_runs_and_says_so(monkeypatch):
    monkeypatch.setattr("inference.compiling.recording._ALONE", False)  # as before torch 2.13
    monkeypatch.setattr("inference.compiling.recording.unready", lambda: "torch._dynamo cannot be loaded")
    with pytest.warns(UserWarning, match=r"nothing can be traced here: torch\._dynamo cannot .* plain Pyro instead"):
        fit = inference.fit(Normal(), torch.zeros(9), steps=60, initialise=False, progress=False, device="cpu")
    assert fit.compile == "off"


@pytest.mark.parametrize("when", ["recording", "compiling"])
def test_an_interrupt_before_the_first_step_leaves_the_pair_whole(monkeypatch, when):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(compiled, "_compiled" if when == "compiling" else "record", interrupt)
    pair, data = Normal(), 1.5 + sample(0).flatten()
    fit = inference.fit(pair, data, steps=60, compile="inductor", initialise=False, progress=False, device="cpu")
    assert (fit.steps, fit.reason) == (0, "interrupted")
    monkeypatch.undo()
    assert inference.fit(pair, data, steps=60, compile="graph", progress=False, device="cpu").steps == 60


@pytest.mark.skipif(compiled.compiler() is None, reason="needs a C++ compiler")
def test_inductor_ends_where_the_graph_ends():
    data = 1.5 + sample(0).flatten()
    ends = {}
    for mode in ("graph", "inductor"):
        torch.manual_seed(0)
        pair = Normal()
        fit = inference.fit(pair, data, steps=200, compile=mode, progress=False, device="cpu")
        assert fit.compile == mode
        ends[mode] = torch.cat([p.detach().flatten() for p in pair.parameters()]), torch.from_numpy(fit.losses)
    for one, other in zip(*ends.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


# --- batch statistics -------------------------------------------------------------------------------------------------


class Normed(Coded):
    """The same with an encoder that standardises by running means and deviations, and drops some of what it sees."""

    def __init__(self, latent: int = 2, features: int = 4, hidden: int = 8) -> None:
        super().__init__(latent, features)
        first, last = nn.Linear(features, hidden), nn.Linear(hidden, 2 * latent)
        self.encoder = nn.Sequential(nn.BatchNorm1d(features), first, nn.Dropout(0.2), nn.Tanh(), last)


MODES = ["off", "graph", pytest.param("inductor", marks=pytest.mark.slow)]


@pytest.mark.parametrize("hidden", [8, 4000], ids=["small", "large"])  # Adam inside the graph, and beside it
@pytest.mark.parametrize("mode", MODES)
def test_batch_statistics_are_those_of_the_steps_and_of_nothing_else(mode, hidden):
    torch.manual_seed(0)
    x = 3 + 2 * torch.randn(30, 4)
    pair = Normed(hidden=hidden)
    wanted = nn.BatchNorm1d(4)
    rows = torch.Generator().manual_seed(3)
    for batch in [x[torch.randperm(30, generator=rows)].split(15) for _ in range(30)]:
        for part in batch:
            wanted(part)
    fit = inference.fit(pair, x, steps=60, batch_size=15, compile=mode, seed=3, progress=False, device="cpu")
    assert fit.compile == mode
    norm = pair.encoder[0]
    assert int(norm.num_batches_tracked) == 60
    torch.testing.assert_close(norm.running_mean, wanted.running_mean)
    torch.testing.assert_close(norm.running_var, wanted.running_var)
    assert not any(module.training for module in pair.modules())


def test_equal_batch_norms_are_both_counted():
    norm = nn.BatchNorm1d(4)
    graph, _ = record(
        lambda x, mean, var: (
            nn.functional.batch_norm(x, mean, var, training=True)
            + nn.functional.batch_norm(x, mean, var, training=True)
            + mean
        ),
        [sample(0), norm.running_mean, norm.running_var],
    )
    found = graph(sample(0), norm.running_mean, norm.running_var)[0]
    other = nn.BatchNorm1d(4)
    wanted = other(sample(0)) + other(sample(0))
    torch.testing.assert_close(found, (wanted + other.running_mean).detach())
    torch.testing.assert_close(norm.running_mean, other.running_mean)


@short
def test_a_pair_left_in_training_mode_is_read_in_evaluation_mode():
    torch.manual_seed(0)
    pair, x = Normed(), torch.randn(20, 4)
    pair.encoder[2].eval()  # as somebody may want it
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    one = inference.draw(pair, x, 5)
    choose(pair, as_batch(pair, x))
    inference.log_likelihood(pair, one, x)
    inference.encode(pair, x)
    inference.sample(pair, x, 2, 4, max_warmup=20, progress=False)
    assert pair.training
    assert pair.encoder[0].training
    assert not pair.encoder[2].training
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    assert torch.equal(inference.draw(pair.eval(), x, 5)["z"], one["z"])
