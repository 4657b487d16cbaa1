"""Abilities beyond the contract: each is offered by something registered, asked for by somebody, and listed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

import zoo
from inference.running.expectation import base_of
from tests.helpers.pairs import NAMES
from tests.helpers.places import ROOT
from zoo import abilities
from zoo.base import registered
from zoo.config import hints

EVERY = [(owner, ability) for owner, group in abilities.ABILITIES.items() for ability in group]
CONFIGS = {"recurrent": {"alphabet": "ab"}}


def offers(name):
    """What a pair, its observed sites, their supports and the types of its arguments are."""
    pair = zoo.create(name, **CONFIGS.get(name, {}))
    sites = [site for site in pair.sites().values() if site.observed]
    supports = [site.fn.support for site in sites]
    inner = [s.base_constraint for s in supports if hasattr(s, "base_constraint")]
    kinds = [
        kind for hint in hints(registered(name).__init__).values() for kind in (hint, *getattr(hint, "__args__", ()))
    ]
    return [pair, *(base_of(site.fn) for site in sites), *supports, *inner, *kinds]


OFFERS = {name: offers(name) for name in NAMES}


@pytest.mark.parametrize(("_owner", "ability"), EVERY, ids=lambda v: getattr(v, "__name__", ""))
def test_each_is_offered_by_a_registered_pair_and_not_by_all(_owner, ability):
    who = {name for name, found in OFFERS.items() if any(isinstance(thing, ability) for thing in found)}
    assert who
    assert who != set(OFFERS) or ability in abilities.ABILITIES["The type of an argument"]


@pytest.mark.parametrize(("_owner", "ability"), EVERY, ids=lambda v: getattr(v, "__name__", ""))
def test_each_is_asked_for(_owner, ability):
    assert any(
        isinstance(node, ast.Name) and node.id == ability.__name__
        for path in [*(ROOT / "inference").rglob("*.py"), ROOT / "zoo" / "config.py"]
        for node in ast.walk(ast.parse(path.read_text()))
    )


@pytest.mark.parametrize(("_owner", "ability"), EVERY, ids=lambda v: getattr(v, "__name__", ""))
def test_each_says_what_it_is_with_shapes(_owner, ability):
    assert ability.__doc__
    for name in abilities.names(ability):
        member = vars(ability).get(name)
        if member is None:
            assert name in ability.__annotations__
        else:
            assert member.__doc__, name


def test_nothing_is_looked_up_by_string():
    """The names of abilities are in no `getattr` or `hasattr` of the project any more."""
    known = {name for _, ability in EVERY for name in abilities.names(ability)}
    for base in ("zoo", "inference"):
        for path in (ROOT / base).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"getattr", "hasattr"}:
                    name = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
                    assert name not in known, f"{path.name}, line {node.lineno}: {name}"


def test_the_list_is_printed_without_torch():
    code = "import sys, runpy; runpy.run_module('zoo.abilities', run_name='__main__'); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for _, ability in EVERY:
        assert f"  {ability.__name__} (" in done.stdout


def test_hints_of_the_protocols_resolve():
    from torch import Tensor
    from torch.distributions.constraints import Constraint

    from zoo.batch import Batch

    space = {**vars(abilities), "Tensor": Tensor, "Constraint": Constraint, "Batch": Batch, "Path": Path}
    for _, ability in EVERY:
        for name in abilities.names(ability):
            member = vars(ability).get(name)
            get_type_hints(getattr(member, "fget", member) or ability, globalns=space)
