"""The house: which way imports run, how long files are, and that one file adds a model."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from zoo.base import ModelGuide, register, registered

ROOT = Path(__file__).parent.parent

# Floors of inference/, lowest first; a file imports from floors below its own, never above.
FLOORS = [
    {"recording", "adam", "hamiltonian", "mixing", "labels", "store", "arviz_shim", "schedule", "memory", "parser"},
    {"data", "objective", "compiled", "adaptation"},
    {"step", "marginal", "potential"},
    {"curvature", "posterior", "chains", "draws"},
    {"loop", "likelihood", "starts", "warmup", "nuts", "plots", "sequences", "codes", "queries", "trees"},
    {
        "svi",
        "mcmc",
        "diagnostics",
        "strangers",
        "export",
        "amortised",
        "semi_amortised",
        "bounds",
        "simulation",
        "tables",
        "writing",
    },
    {"run_folder", "demo", "gallery", "estimator", "graph_plot"},
    {"commands"},
    {"asking"},
    {"cli"},
]


def imports(path):
    """Modules of this project that a file imports when it runs, `TYPE_CHECKING` blocks left out."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_models_import_neither_inference_nor_arviz():
    for path in (ROOT / "zoo").rglob("*.py"):
        for name in imports(path):
            assert name.split(".")[0] not in {"inference", "arviz", "matplotlib"}, f"{path.name} imports {name}"


def test_inference_knows_no_model_and_its_imports_run_down():
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    families = {f"zoo.{folder.name}" for folder in (ROOT / "zoo").iterdir() if folder.is_dir()} - {
        "zoo.datasets",
        "zoo.state",
    }
    for path in (ROOT / "inference").glob("*.py"):
        if path.stem == "__init__":
            continue
        assert path.stem in floor, f"{path.name} has no floor"
        for name in imports(path):
            assert not any(name.startswith(family) for family in families), f"{path.name} imports {name}"
            parts = name.split(".")
            # A late function-level import upwards is one too: there is none.
            if parts[0] == "inference" and len(parts) > 1 and parts[1] in floor:
                lower = floor[parts[1]] < floor[path.stem] or parts[1] == path.stem
                same_floor = floor[parts[1]] == floor[path.stem]
                assert lower or same_floor, f"{path.name} imports {name} from a floor above"


def test_every_file_of_the_zoo_is_short():
    for path in (ROOT / "zoo").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 250, path


@pytest.mark.parametrize("name", zoo.names())
def test_the_maths_is_on_the_first_screen(name):
    path = Path(sys.modules[registered(name).__module__].__file__)
    screen = path.read_text().splitlines()[:40]
    assert any("~" in line or r"\sim" in line for line in screen), "no joint density in the first 40 lines"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


def test_import_leaves_the_heavy_libraries_alone():
    code = (
        "import sys, zoo, inference; zoo.names()\n"
        "loaded = {'arviz', 'matplotlib', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "print(loaded); sys.exit(bool(loaded))"
    )
    done = run(code)
    assert done.returncode == 0, done.stdout + done.stderr


def test_help_answers_without_torch():
    code = (
        "import sys\nfrom inference.cli import main\n"
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
"""A user's own pair: x_nd ~ Normal(loc_d, scale), loc_d ~ Normal(0, 3)."""
import pyro
import pyro.distributions as dist
import torch
from zoo import guides
from zoo.base import ModelGuide, register


@register("own_normal")
class OwnNormal(ModelGuide):
    """Normal with unknown mean."""

    dims = {"x": ("feature",), "loc": ("feature",)}

    def __init__(self, features: int = 3, scale: float = 1.0, guide: guides.Family = "normal"):
        super().__init__(guide)
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.tensor(scale))

    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.centre, 3.0).to_event(1))
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc, self.scale).to_event(1), obs=batch.x)
'''


def conformance(path, *more):
    command = [sys.executable, "-m", "pytest", "tests/conformance.py", "--pair-module", str(path), "-q", "-x", *more]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:xdist"], capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_one_new_file_adds_a_model_that_passes_every_check(tmp_path):
    path = tmp_path / "own_normal.py"
    path.write_text(PAIR)
    done = conformance(path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "own_normal" not in zoo.names()


@pytest.mark.parametrize(
    ("sound", "fault", "check"),
    [
        ("with batch.plate():", 'with pyro.plate("data", batch.size):', "minibatch"),
        ('self.register_buffer("centre", torch.zeros(features))', "self.centre = torch.zeros(features)", "type"),
        (
            "super().__init__(guide)",
            "super().__init__(guide); self.spare = torch.nn.Parameter(torch.ones(1))",
            "gradient",
        ),
        ("dist.Normal(loc, self.scale)", "dist.Normal(loc, torch.rand(()).item() + 1)", "graph"),
    ],
    ids=["scale", "buffer", "unused", "baked"],
)
def test_conformance_sees_a_planted_fault(tmp_path, sound, fault, check):
    assert sound in PAIR
    path = tmp_path / "own_normal.py"
    path.write_text(PAIR.replace(sound, fault))
    done = conformance(path, "-k", check)
    assert done.returncode == 1, done.stdout[-2000:]
