import copy
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo import lean

SHAPES = st.lists(
    st.one_of(
        st.integers(0, 3), st.lists(st.integers(0, 3), max_size=3), st.lists(st.integers(1, 2), max_size=4).map(tuple)
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(SHAPES)
def test_shapes_broadcast_as_numpys_do(shapes):
    try:
        expected = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(RuntimeError, match="broadcast"):
            lean.broadcast_shapes(*shapes)
    else:
        found = lean.broadcast_shapes(*shapes)
        assert tuple(found) == expected
        assert type(found) is torch.Size


@pytest.mark.parametrize("shapes", [((-1,), (2,)), ("ab",), (2.5,), ((2.5,),), (), (None, (2,)), (torch.Size([3]), 1)])
def test_what_is_no_shape_is_left_to_torch(shapes):
    def told(broadcast):
        try:
            return broadcast(*shapes)
        except Exception as error:
            return type(error), str(error)

    assert told(lean.broadcast_shapes) == told(lean._torchs)


def test_it_is_torchs_own_to_whoever_asks():
    zoo.ModelGuide  # noqa: B018 - loads what installs it
    assert torch.broadcast_shapes is torch.functional.broadcast_shapes is lean.broadcast_shapes
    assert pickle.loads(pickle.dumps(torch.broadcast_shapes)) is torch.broadcast_shapes
    assert copy.deepcopy(torch.broadcast_shapes) is torch.broadcast_shapes
    assert torch.broadcast_shapes.__doc__ == lean._torchs.__doc__


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated")
def test_a_trace_keeps_shapes_that_vary():
    traced = torch.jit.trace(lambda x: x.expand(torch.broadcast_shapes(x.shape, (2, 1))), torch.zeros(3))
    assert traced(torch.zeros(5)).shape == (2, 5)


HIDDEN = """
import sys, torch
from zoo import lean
lean.spare()
@lean.operator("zoo_test::twice")
def twice(x: torch.Tensor) -> torch.Tensor:
    seen.append(torch.compiler.is_dynamo_compiling())
    return x * 2
seen = []
@twice.register_fake
def _(x): return torch.empty_like(x)
x = torch.tensor([1.0, -1.0])
assert twice(x).tolist() == [2, -2]
assert torch.empty(2, device="meta").clamp_(min=0).shape == (2,)
assert "torch._dynamo" not in sys.modules
whole = torch.compile(lambda x: (twice(x) + 1).clamp_(min=0), backend="aot_eager", fullgraph=True)
assert whole(x).tolist() == [3, 0]
assert "torch._dynamo" in sys.modules
assert twice(x).tolist() == [2, -2] and seen == [False] * len(seen) and len(seen) == 3
assert torch.empty(2, device="meta").clamp_(min=0).shape == (2,)
print(torch._dynamo.utils.counters["stats"]["unique_graphs"])
"""


def test_operators_are_hidden_from_the_compiler_once_it_is_there():
    command = [sys.executable, "-W", "ignore", "-c", HIDDEN]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip() == "1"


def test_a_model_is_described_without_what_makes_it_fast():
    code = (
        "import sys\nfrom inference.command.main import main\nmain(['info', 'hmm'])\n"
        "sys.exit(', '.join({'numba', 'sympy', 'torch._dynamo', 'pandas', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "given initial, transition, locs, scales" in done.stdout


def test_a_run_for_its_shape_is_one_thread_and_ends():
    with lean.for_its_shape():
        assert lean.shaped()
        other = threading.Thread(target=lambda: seen.append(lean.shaped()))
        seen = []
        other.start()
        other.join()
    assert seen == [False]
    assert not lean.shaped()
