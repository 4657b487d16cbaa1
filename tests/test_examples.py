"""Every script in examples/ runs, as a user would run it, and its one asserted number holds."""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
from pathlib import Path

import pyro
import pytest

from tests.helpers.places import EXAMPLES
from zoo import registry

SCRIPTS = sorted(EXAMPLES.glob("*.py"))


SLOW = {"out_of_distribution", "image_generation", "polynomial_loo", "image_anomalies", "pyro_program"}


@pytest.mark.parametrize(
    "script", [pytest.param(s, marks=pytest.mark.slow if s.stem in SLOW else ()) for s in SCRIPTS], ids=lambda s: s.stem
)
def test_example(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))  # a script may register a pair of its own
    spec = importlib.util.spec_from_file_location(f"examples_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    assert module.__doc__, "an example opens by saying what it shows"
    assert "\n    assert " in inspect.getsource(module.main), "an example asserts one number"

    number = module.main(tmp_path)

    assert isinstance(number, (int, float))
    assert math.isfinite(number)
    assert capsys.readouterr().out.strip(), "an example says what it finds"
    pictures = list(tmp_path.glob("*.png"))
    assert pictures, "an example leaves a picture in the folder it was given"
    assert all(picture.stat().st_size > 5_000 for picture in pictures)
    assert not list(pyro.get_param_store().keys()), "pairs keep their own parameters"


def test_there_are_examples() -> None:
    assert SCRIPTS
