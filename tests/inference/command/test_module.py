"""Pairs of the user's own on the command line: a file is run when it is named, and only then."""

from __future__ import annotations

import json
import sys

import pytest

import zoo
from inference.command.main import main
from tests.helpers.command import fails
from zoo import registry

pytestmark = pytest.mark.usefixtures("blank")
FIT = ["fit", "my_mean", "--data", "faithful"]
MINE = '''
import pyro
import pyro.distributions as dist
import torch
from zoo import ModelGuide, register


@register("my_mean")
class MyMean(ModelGuide):
    """Two means, of my own."""

    def __init__(self) -> None:
        super().__init__("delta")
        self.register_buffer("zero", torch.zeros(2))

    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.zero, 100).to_event(1))
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc, 10).to_event(1), obs=batch.x)
'''


@pytest.fixture(autouse=True)
def _forgotten():
    """What the file registers is gone after the test."""
    known, modules = dict(registry._registry), set(sys.modules)
    yield
    registry._registry.clear()
    registry._registry.update(known)
    for name in set(sys.modules) - modules:
        if name in ("own_pair", "broken", "empty"):
            del sys.modules[name]


def test_a_pair_of_ones_own_is_fitted_and_asked_for_again(tmp_path, capsys):
    (tmp_path / "own_pair.py").write_text(MINE)
    assert "unknown model 'my_mean'" in fails(capsys, *FIT, "--out", "run")
    paths = list(sys.path)
    assert main([*FIT, "--module", "own_pair.py", "--steps", "3", "--no-score", "--out", "run"]) == 0
    assert sys.path == paths
    assert json.loads((tmp_path / "run" / "config.json").read_text())["card"]["module"] == "own_pair.py"
    assert main(["info", "my_mean", "--module", "own_pair.py"]) == 0
    assert "Two means, of my own." in capsys.readouterr().out
    registry._registry.pop("my_mean")  # as in another process
    del sys.modules["own_pair"]
    line = fails(capsys, "sample", "run", "--out", "new.csv")
    assert "saved by own_pair.MyMean: import that module first: --module FILE.py runs it" in line
    assert main(["sample", "run", "--module", "own_pair.py", "-n", "4", "--out", "new.csv"]) == 0
    assert len((tmp_path / "new.csv").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.py", None, "--module none.py: no such file"),
        ("model.txt", "", "--module model.txt: expected a .py file"),
        ("empty.py", "x = 1\n", "--module empty.py: it registers no pair: @register('name')"),
        ("broken.py", "\n\n1 / 0\n", "--module broken.py, line 3: ZeroDivisionError: division by zero"),
        ("broken.py", "\ndef f(:\n", "--module broken.py, line 2: SyntaxError"),
        ("json.py", "", "--module json.py: there is a module called 'json' already; rename the file"),
    ],
)
def test_a_file_that_gives_no_pair_is_refused_by_name(name, text, words, tmp_path, capsys):
    if text is not None:
        (tmp_path / name).write_text(text)
    assert words in fails(capsys, "list", "--module", name)
    assert "broken" not in sys.modules
    assert zoo.names()
