"""Options and parametrisation shared by the tests: every registered pair, and every choice its arguments offer."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import sys
import types
import typing
from pathlib import Path

import pyro
import pytest
import torch

import zoo
from inference.running.loading import arviz
from zoo import guides
from zoo.base import registered
from zoo.config import hints

pytest.register_assert_rewrite("tests.helpers")
torch.set_warn_always(True)  # what torch says once a process would fail one test or another, as they happen to run
torch.set_num_threads(1)  # two busy cores: more threads make steps several times slower


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="run conformance checks there: cpu, cuda")
    parser.addoption("--pair-module", help="a Python file with registered pairs: conformance runs on those alone")
    parser.addoption(
        "--program-module", help="a Python file with a dict PROGRAMS: conformance of programs runs on those"
    )


def _module(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _programs(path):
    """The dict of a file, read with float64 as torch's default: constants of priors are made as it is read."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return _module(path).PROGRAMS
    finally:
        torch.set_default_dtype(before)


def pytest_configure(config):
    arviz()  # tests import it as they are collected, by several processes at once
    path = config.getoption("--program-module")
    config.programs = _programs(path or Path(__file__).parent / "helpers" / "programs.py")
    config.all_programs = bool(path)
    path = config.getoption("--pair-module")
    if path:
        before = set(zoo.names())
        _module(path)
        config.pair_names = sorted(set(zoo.names()) - before)
    else:
        config.pair_names = zoo.names()


@pytest.fixture
def double():
    """float64 as torch's default, and a parameter store of the test's own, as programs have them."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()
    torch.set_default_dtype(before)


@pytest.fixture
def no_fallback():
    """An operation that `vmap` has no rule for is an error."""
    torch._C._functorch._set_vmap_fallback_enabled(False)
    yield
    torch._C._functorch._set_vmap_fallback_enabled(True)


def variants(name):
    """The default configuration, and each other choice of each `Literal` argument, the automatic guide apart.

    An optional whole number that a choice takes (a number of categories, say) is set to 3, to keep it small.
    """
    yield {}
    init = registered(name).__init__
    optional = [key for key, hint in hints(init).items() if typing.get_args(hint) == (int, type(None))]
    for key, hint in hints(init).items():
        choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
        if hint == guides.Family:
            continue
        for choice in choices:
            if choice != inspect.signature(init).parameters[key].default:
                yield {key: choice, **_taken(name, {key: choice}, optional)}


def _taken(name, choice, optional):
    """Those of the optional numbers that go with a choice: some exclude each other."""
    taken = {}
    for key in optional:
        try:
            zoo.create(name, **choice, **taken, **{key: 3})
            taken[key] = 3
        except ValueError:
            pass
    return taken


QUICK_PROGRAMS = ("schools", "answers", "factored")


def pytest_generate_tests(metafunc):
    module = metafunc.module.__name__.rpartition(".")[2]
    if module == "conformance_programs" and "name" in metafunc.fixturenames:
        slow = set() if metafunc.config.all_programs else set(metafunc.config.programs) - set(QUICK_PROGRAMS)
        names = [pytest.param(n, marks=[pytest.mark.slow] * (n in slow)) for n in metafunc.config.programs]
        metafunc.parametrize("name", names)
    if module != "conformance":
        return
    names = metafunc.config.pair_names
    if "variant" in metafunc.fixturenames:
        cases = [(name, config) for name in names for config in variants(name)]
        ids = [f"{name}[{','.join(f'{k}={v}' for k, v in config.items())}]" for name, config in cases]
        metafunc.parametrize("variant", cases, ids=ids)
    elif "name" in metafunc.fixturenames:
        metafunc.parametrize("name", names)


@pytest.fixture
def device(request):
    return request.config.getoption("--device")


@pytest.fixture(scope="module")
def asia():
    """The network of Lauritzen & Spiegelhalter (1988), with its known tables."""
    return registered("bayesian_network").from_bif("asia").double()


@pytest.fixture
def ticking(monkeypatch):
    """The clock of deadlines goes on by a second whenever it is looked at, and by nothing else."""
    seconds = itertools.count()
    clock = types.SimpleNamespace(perf_counter=lambda: float(next(seconds)))
    monkeypatch.setattr("inference.running.deadline.time", clock)


@pytest.fixture(autouse=True)
def _seeded():
    """Each test starts from the same random state and leaves the default settings behind."""
    torch.manual_seed(0)
    yield
    assert torch.get_default_dtype() == torch.float32
