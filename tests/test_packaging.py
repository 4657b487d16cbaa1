"""What is shipped: one version, one lowest Python, every package and data file."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import zoo

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_one_version_in_one_place():
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "zoo.version.__version__"
    tree = ast.parse((ROOT / "zoo" / "version.py").read_text())
    assigned = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    assert ast.literal_eval(assigned["__version__"]) == zoo.__version__  # setuptools reads it without torch


def test_the_citation_names_this_version():
    cited = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    assert cited == [zoo.__version__]


def test_the_lowest_python_is_the_same_everywhere():
    lowest = PROJECT["project"]["requires-python"].removeprefix(">=")
    major, minor = lowest.split(".")
    classified = [name.split(":: ")[-1] for name in PROJECT["project"]["classifiers"] if ":: Python :: 3." in name]
    assert lowest == min(classified, key=lambda version: int(version.split(".")[1]))
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{major}{minor}"
    makefile = (ROOT / "Makefile").read_text()
    assert f"sys.version_info < ({major}, {minor}))" in makefile
    assert set(re.findall(r"(?:but|zoo needs) Python (3\.\d+)", makefile)) == {lowest}
    assert re.findall(r"needs? Python (3\.\d+)", (ROOT / "README.md").read_text()) == [lowest]


def test_the_hook_before_a_commit_is_make_lint():
    entries = re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert entries == ["make lint"]


@pytest.mark.parametrize("name", PROJECT["tool"]["setuptools"]["package-data"])
def test_every_folder_and_data_file_is_shipped(name):
    data = {
        path for pattern in PROJECT["tool"]["setuptools"]["package-data"][name] for path in (ROOT / name).glob(pattern)
    }
    for path in (ROOT / name).rglob("*"):
        if path.is_dir() or "__pycache__" in path.parts:
            continue
        if path.suffix == ".py":
            assert (path.parent / "__init__.py").exists(), f"{path.parent} is no package: its modules stay behind"
        else:
            assert path in data, f"{path} is in no wheel"
