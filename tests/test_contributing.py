"""CONTRIBUTING.md against the tree: its floors, its list of abilities, and where it says that a line belongs."""

from __future__ import annotations

import re

import pytest

from tests.helpers.places import ROOT
from tests.test_contract import FLOORS
from zoo import abilities

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BEGIN, END = "<!-- abilities -->\n", "<!-- end of abilities -->"


def test_the_list_of_abilities_is_the_one_in_the_code():
    found = TEXT.partition(BEGIN)[2].partition(END)[0]
    wanted = f"```text\n{abilities.listed()}\n```\n"
    assert found == wanted, f"CONTRIBUTING.md: between the list's marks there should be\n\n{wanted}"


def test_the_floors_are_those_that_the_imports_keep():
    rows = re.findall(r"^\| (\d) \| (.+?) \|", TEXT, re.MULTILINE)
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
        ("inference/command/use.py", "def query"),
        ("inference/command/parser.py", "query"),
    ],
)
def test_a_newcomer_is_sent_to_the_file_that_does_it(path, words):
    assert f"`{path}`" in TEXT
    assert words in (ROOT / path).read_text()
