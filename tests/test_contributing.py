"""CONTRIBUTING.md against the tree: its floors, its lists, its example, and where it says that a line belongs."""

from __future__ import annotations

import re
import sys
import types

import pytest
import torch

import inference
import zoo
from inference.command import parser, use
from inference.command.main import main
from tests.helpers.places import ROOT
from tests.test_contract import FLOORS
from zoo import abilities, datasets, registry

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BEGIN, END = "<!-- abilities -->\n", "<!-- end of abilities -->"


def test_the_list_of_abilities_is_the_one_in_the_code():
    found = TEXT.partition(BEGIN)[2].partition(END)[0]
    wanted = f"```text\n{abilities.listed()}\n```\n"
    assert found == wanted, f"CONTRIBUTING.md: between the list's marks there should be\n\n{wanted}"


def test_the_floors_are_those_that_the_imports_keep():
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", TEXT, re.MULTILINE)
    told = {
        int(floor): {name.rstrip("/").removesuffix(".py") for name in re.findall(r"`(.+?)`", names)}
        for floor, names in rows
    }
    assert [told[floor] for floor in sorted(told)] == FLOORS


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:zoo|inference|tests|examples)/[\w/.]*)`", TEXT))))
def test_what_it_names_is_there(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("zoo/sequences/hmm.py", 'Literal["gaussian", "poisson", "categorical"]'),
        ("zoo/parts/chains/baum_welch.py", "poisson"),
        ("zoo/parts/chains/emissions.py", "def log_probs"),
        ("inference/data/check.py", "def _check_support"),
        ("zoo/arrays.py", "def as_tensor"),
        ("inference/command/use.py", "def forecast"),
        ("inference/command/parser.py", "query"),
    ],
)
def test_a_newcomer_is_sent_to_the_file_that_does_it(path, words):
    assert f"`{path}`" in TEXT
    assert words in (ROOT / path).read_text()


@pytest.fixture
def own_rates(monkeypatch):
    """The class of the worked example, as a user's module has it."""
    found = [block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "global_guide" in block]
    assert len(found) == 1
    module = types.ModuleType("own_rates")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    before = dict(registry._registry)
    exec(compile(found[0], "CONTRIBUTING.md", "exec"), vars(module))
    yield module.OwnRates
    registry._registry.clear()
    registry._registry.update(before)


def test_the_example_with_a_local_latent_runs(own_rates, tmp_path):
    torch.manual_seed(0)
    pair = own_rates().double()
    batch, truth = pair.simulate(200)
    inference.fit(pair, batch, steps=600, lr=0.03, progress=False, compile="off")
    posterior = inference.draw(pair, batch, 100)
    assert posterior.draws.keys() == {"mean", "r"}
    mean, rates = posterior["mean"].mean((0, 1)), posterior["r"].mean((0, 1))
    assert ((mean / truth["mean"]) - 1).abs().max() < 4 * (1 / 3 / 200 + 1 / (200 * truth["mean"].min())) ** 0.5
    codes = torch.stack([rates.flatten(), truth["r"].flatten()])
    assert torch.corrcoef(codes)[0, 1] > 0.5
    assert inference.khat(pair, batch, 100, 100).locals.shape == (200,)
    assert torch.equal(zoo.load(pair.save(tmp_path)).net.weight, pair.net.weight)


def test_a_command_added_as_it_says_can_be_typed(monkeypatch, capsys):
    for told in ("inference/command/use.py", "inference/command/main.py", "tests/inference/command/test_use.py"):
        assert f"`{told}`" in TEXT
    about = parser._about

    def with_shape(add):
        about(add)
        add("shape", "say the shape of data").add_argument("data")

    monkeypatch.setattr(parser, "_about", with_shape)
    monkeypatch.setattr(
        use, "shape", lambda options: sys.stdout.write(str(datasets.load(options.data).x.shape)), raising=False
    )
    assert main(["shape", "faithful"]) == 0
    assert "272, 2" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["shape", "--help"])
    assert "Say the shape of data." in capsys.readouterr().out
