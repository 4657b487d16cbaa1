"""The README tells the truth: its snippets run, its table is the registry, its commands and pictures exist."""

from __future__ import annotations

import re
import shlex

import pytest
import torch

import inference
import zoo
from inference.command import about, words
from inference.command import main as command_line
from inference.command.parser import parser
from tests.helpers.places import ROOT
from zoo import registry

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
BEGIN, END = "<!-- table: models -->\n", "<!-- end of table -->"


def table():
    rows = sorted(about.described(name) for name in zoo.names() if about.described(name)[0] in zoo._FAMILIES)
    lines = [f"| {family} | `{name}` | {summary} |" for family, name, summary in rows]
    return "\n".join(["| family | name | what it is |", "| --- | --- | --- |", *lines]) + "\n"


def test_the_table_of_models_is_the_registry():
    found = TEXT.partition(BEGIN)[2].partition(END)[0]
    assert found == table(), f"README.md: between the table's marks there should be\n\n{table()}"


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs(number, tmp_path, monkeypatch, capsys):
    import matplotlib as mpl

    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))  # a snippet registers a pair of its own
    code = SNIPPETS[number]
    assert len(code.splitlines()) <= 15 or "@register" in code
    names = {"__name__": "snippet"}
    exec(compile(code, f"README.md snippet {number}", "exec"), names)
    if "@register" in code:
        counts = torch.poisson(torch.tensor([2.0, 10.0, 30.0]).expand(50, 3))
        pair = zoo.create("counts")
        inference.fit(pair, counts, steps=300, progress=False)
        rate = inference.draw(pair, counts, 200)["rate"].mean((0, 1))
        assert torch.allclose(rate, counts.mean(0), rtol=0.1)
    else:
        assert capsys.readouterr().out.strip()


def test_there_is_a_snippet_for_each_use_and_one_for_a_pair_of_your_own():
    assert len(SNIPPETS) == 13
    assert sum("@register" in snippet for snippet in SNIPPETS) == 1


COMMANDS = re.findall(r"^(zoo .*?)(?:  +#.*)?$", TEXT, re.MULTILINE) + re.findall(r"`(zoo [^`]*)`", TEXT)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one(command):
    options = parser(command_line._RUNS, command_line._with_run).parse_args(shlex.split(command)[1:])
    if "name" in options:
        zoo.create(options.name, **words.settings(options.name, words.named(options.set)))


def test_there_are_commands():
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("picture", re.findall(r"!\[.*?\]\((.*?)\)", TEXT))
def test_a_picture_is_there_and_small(picture):
    assert 2_000 < (ROOT / picture).stat().st_size < 150_000
