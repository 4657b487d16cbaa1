"""What packages say of themselves: `zoo` and `inference` of their public names, the others of their files."""

from __future__ import annotations

import ast
import inspect
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest

import inference
import zoo

FACES = [zoo, inference]
ROOT = Path(__file__).parent.parent


def lines(face):
    """What the docstring of a package says of each name."""
    return dict(re.findall(r"^    (\w+): (.+)$", face.__doc__, re.MULTILINE))


def public(face):
    return {name for name in face.__all__ if not name.startswith("__")}


@pytest.mark.parametrize("face", FACES)
def test_dir_lists_the_public_names_and_nothing_else(face):
    assert {name for name in dir(face) if not name.startswith("__")} == public(face)
    assert {"__doc__", "__name__", "__path__"} <= set(dir(face))


@pytest.mark.parametrize("face", FACES)
def test_help_has_a_line_for_each_name_that_is_true(face):
    told = lines(face)
    assert told.keys() == public(face)
    for name, line in told.items():
        own = inspect.getdoc(getattr(face, name)).split("\n", maxsplit=1)[0]
        assert own.startswith(line), f"{name}: {own}"
        assert re.match(r"[.,:; ]|$", own[len(line) :]), f"{name} stops in the middle of a word"
    shown = pydoc.plain(pydoc.render_doc(face))
    assert all(f"{name}: {line}" in shown for name, line in told.items())


def test_a_line_of_another_docstring_is_seen():
    own = inspect.getdoc(inference.fit).split("\n", maxsplit=1)[0]
    assert not own.startswith(lines(inference)["draw"])


def test_neither_dir_nor_docstring_load_anything():
    code = (
        "import sys, zoo, inference\n"
        "said = dir(zoo), dir(inference), zoo.__doc__, inference.__doc__, repr(zoo.settings)\n"
        "sys.exit(bool({'torch', 'numpy', 'pyro'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("face", FACES)
def test_a_name_that_is_not_there(face):
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        face.fitt  # noqa: B018


PACKAGES = [*(ROOT / "inference").glob("*/__init__.py"), *(ROOT / "zoo" / "parts").rglob("__init__.py")]


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.parent.name)
def test_a_package_says_what_each_of_its_files_holds(path):
    told = set(re.findall(r"\w+", ast.get_docstring(ast.parse(path.read_text()))))
    files = {each.stem for each in path.parent.glob("*.py")} - {"__init__"}
    assert files
    assert files <= told, f"{path}: not a word of {', '.join(sorted(files - told))}"


@pytest.mark.parametrize(
    ("face", "name", "close"),
    [(zoo, "creat", "create"), (inference, "fitt", "fit"), (inference, "posterior_draw", ""), (zoo, "_x", "")],
)
def test_a_name_that_is_not_there_is_told_with_the_nearest(face, name, close):
    wanted = f"module '{face.__name__}' has no attribute '{name}'" + (f", did you mean '{close}'?" if close else "")
    with pytest.raises(AttributeError) as caught:
        getattr(face, name)
    assert str(caught.value).startswith(wanted)
    assert close or "create" not in str(caught.value)
