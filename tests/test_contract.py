"""The house: which way imports run, how long files are, and that one file adds a model."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from tests.helpers.places import ROOT
from zoo.base import ModelGuide, register, registered
from zoo.sources import FAMILIES

# Floors of inference/, lowest first: a package imports from floors below its own, never from beside it or above.
FLOORS = [
    {"compiling", "drawing"},
    {"running"},
    {"data"},
    {"posterior", "fitting"},
    {"questions", "sampling"},
    {"codes", "forecasting", "compression"},
    {"roads"},
    {"checking"},
    {"gallery", "estimator", "programs"},
    {"reporting"},
    {"command"},
]
MOST_ARROWS = 88
MOST_LINES = 400


@functools.cache
def modules():
    """Every file of the project by the name it is imported under."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for base in ("zoo", "inference")
        for path in (ROOT / base).rglob("*.py")
    }


def imports(path, *, typing_too=False):
    """Modules of this project that a file imports when it runs, and on request those that only its types name."""
    run, typed = _imports(path)
    return run | typed if typing_too else run


@functools.cache
def _imports(path):
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set(), set()
    for node in ast.walk(tree):
        names = set()
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        found[id(node) in typing_only].update(names)
    return found


def arrows():
    """(package, package it imports from) of inference/, each with the imports that make it."""
    found = {}
    for name, path in modules().items():
        here = name.split(".")[1:2]
        if name.split(".")[0] != "inference" or not here:
            continue
        for other in imports(path, typing_too=True):
            there = other.split(".")
            if there[0] == "inference" and there[1:2] and there[1:2] != here and f"inference.{there[1]}" in modules():
                found.setdefault((here[0], there[1]), []).append(f"{name} imports {other}")
    return found


def module_graph(planted=()):
    """Module -> modules it imports, those that only its types name too; and `planted` (module, import) pairs."""
    graph = {name: imports(path, typing_too=True) & modules().keys() - {name} for name, path in modules().items()}
    for name in graph:  # a package's face and its files know each other by design: the face's own imports count
        parent = name.rpartition(".")[0]
        graph[name] -= {parent} if f"from {parent} import" not in modules()[name].read_text() else set()
    for package in ("zoo", "inference"):
        graph[package] = imports(modules()[package]) & modules().keys() - {package}
    for name, other in planted:
        graph[name] = graph[name] | {other}
    return graph


def circles(graph):
    """Groups of nodes that reach each other (Tarjan 1972), from node -> nodes."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = {stack.pop()}
            while node not in group:
                group.add(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_models_import_neither_inference_nor_arviz():
    for path in (ROOT / "zoo").rglob("*.py"):
        for name in imports(path):
            assert name.split(".")[0] not in {"inference", "arviz", "matplotlib"}, f"{path.name} imports {name}"


def test_inference_knows_no_model_and_no_part_of_one():
    families = {f"zoo.{family}" for family in (*FAMILIES, "parts")}
    assert all((ROOT / family.replace(".", "/")).is_dir() for family in families)
    for path in (ROOT / "inference").rglob("*.py"):
        for name in imports(path, typing_too=True):
            assert ".".join(name.split(".")[:2]) not in families, f"{path.name} imports {name}"


def test_arrows_between_packages_run_down():
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    found = {name.split(".")[1] for name in modules() if name.startswith("inference.")}
    assert found == set(floor), "each package of inference/ has its floor in FLOORS"
    for (here, there), why in arrows().items():
        assert floor[there] < floor[here], why[0]
    assert len(arrows()) <= MOST_ARROWS


def test_imports_run_in_no_circle():
    assert circles(module_graph()) == []


def test_a_circle_is_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []
    assert circles(module_graph([("zoo.guides", "zoo.pair")])) == [["zoo.guides", "zoo.pair"]]
    assert circles(module_graph([("inference.running.width", "inference.data.check")])) != []


def test_an_import_for_types_alone_counts(tmp_path):
    path = tmp_path / "one.py"
    path.write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from zoo.base import ModelGuide\n")
    assert "zoo.base" in imports(path, typing_too=True)
    assert "zoo.base" not in imports(path)


def test_every_file_holds_one_idea():
    for name, path in modules().items():
        assert len(path.read_text().splitlines()) <= MOST_LINES, name


@pytest.mark.parametrize("name", [name for name in zoo.names() if registered(name).__module__.startswith("zoo.")])
def test_the_maths_is_on_the_first_screen(name):
    path = Path(sys.modules[registered(name).__module__].__file__)
    screen = path.read_text().splitlines()[:40]
    assert any("~" in line or r"\sim" in line for line in screen), "no joint density in the first 40 lines"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


def test_import_leaves_the_heavy_libraries_alone():
    code = (
        "import sys, zoo, inference; from zoo.base import registry; registry()\n"
        "loaded = {'arviz', 'matplotlib', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "print(loaded); sys.exit(bool(loaded))"
    )
    done = run(code)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("words", [["list"], ["list", "auto*"], ["list", "--data"]])
def test_lists_are_printed_without_torch(words):
    code = f"import sys\nfrom inference.command.main import main\nmain({words!r})\nsys.exit('torch' in sys.modules)"
    done = run(code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) > 1


def test_help_answers_without_torch():
    code = (
        "import sys\nfrom inference.command.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    sys.exit('torch' in sys.modules)"
    )
    done = run(code)
    assert done.returncode == 0
    assert "zoo fit gmm --data iris" in done.stdout


def test_two_pairs_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two pairs called 'gmm'"):

        @register("gmm")
        class Other(ModelGuide):
            """Another."""


def test_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="unknown model 'gmmm', did you mean 'gmm'"):
        zoo.create("gmmm")


PAIR = '''
"""A user's own pair: x_nd ~ Normal(loc_d, scale u_d), loc_d ~ Normal(c_d, 3 u_d), in units of the data."""
import pyro
import pyro.distributions as dist
import torch
from zoo import guides
from zoo.base import ModelGuide, register
from zoo.parts.units import Units


@register("own_normal")
class OwnNormal(ModelGuide):
    """Normal with unknown mean."""

    dims = {"x": ("feature",), "loc": ("feature",)}

    def __init__(self, features: int = 3, scale: float = 1.0, guide: guides.Family = "normal"):
        super().__init__(guide)
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.tensor(scale))
        self.units = Units(features)

    def measure(self, batch):
        self.units.place(batch.x)

    def initial(self, batch):
        return {"loc": batch.x.mean(0)}

    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.units.centre + self.centre, 3.0 * self.units.unit).to_event(1))
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc, self.scale * self.units.unit).to_event(1), obs=batch.x)
'''


FAULTS = {  # what is sound, what is put in its place, and the check of conformance that sees it
    "scale": ("with batch.plate():", 'with pyro.plate("data", batch.size):', "minibatch"),
    "buffer": (
        'self.register_buffer("centre", torch.zeros(features))',
        "self.centre = torch.zeros(features)",
        "changes_nothing_but_the_type",
    ),
    "unused": (
        "super().__init__(guide)",
        "super().__init__(guide); self.spare = torch.nn.Parameter(torch.ones(1))",
        "gradient",
    ),
    "baked": (
        "dist.Normal(loc, self.scale * self.units.unit)",
        "dist.Normal(loc, torch.rand(()).item() + 1)",
        "every_objective",
    ),
    "raw": ("3.0 * self.units.unit", "3.0", "units_do_not_matter"),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Outcomes of conformance by test: every check on the sound pair, on each faulty one those that should see it."""
    folder = tmp_path_factory.mktemp("own")
    sources = [PAIR]
    for name, (sound, fault, _) in FAULTS.items():
        assert sound in PAIR
        faulty = PAIR.replace(sound, fault).replace("own_normal", f"{name}_fault")
        sources.append(faulty.replace("OwnNormal", name.title()))
    path = folder / "own_normal.py"
    path.write_text("\n".join(sources))
    chosen = " or ".join(f"({name}_fault and {check})" for name, (_, _, check) in FAULTS.items())
    command = [sys.executable, "-m", "pytest", "tests/conformance.py", "--pair-module", str(path), "-q", "-rA"]
    command += ["-k", f"own_normal or {chosen}", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    found = re.findall(r"^(PASSED|FAILED|ERROR|SKIPPED) (?:tests/conformance\.py::)?(\S+)", done.stdout, re.MULTILINE)
    return {test: outcome for outcome, test in found}, done.stdout


def test_one_new_file_adds_a_model_that_passes_every_check(outcomes):
    found, output = outcomes
    own = [outcome for test, outcome in found.items() if "own_normal" in test]
    assert len(own) > 30, output[-3000:]
    assert set(own) == {"PASSED"}, output[-3000:]
    assert "own_normal" not in zoo.names()


@pytest.mark.parametrize("name", FAULTS)
def test_conformance_sees_a_planted_fault(outcomes, name):
    found, output = outcomes
    seen = [outcome for test, outcome in found.items() if f"{name}_fault" in test]
    assert "FAILED" in seen, output[-3000:]
