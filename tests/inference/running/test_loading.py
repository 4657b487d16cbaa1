"""ArviZ is loaded by many processes at once on the first day, and without a place to write to."""

import os
import re
import subprocess
import sys

import pytest

LOADS = "from inference.running.loading import arviz; print(arviz().summary.__name__)"


def _started(cache):
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "MPLCONFIGDIR": str(cache.parent)}
    return subprocess.Popen(
        [sys.executable, "-W", "error::FutureWarning", "-c", LOADS],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_it_is_loaded_where_its_note_of_the_day_cannot_be_written(tmp_path):
    """No root of whom permissions ask nothing either may make a folder in a file."""
    file = tmp_path / "file"
    file.write_text("")
    told, errors = _started(file / "cache").communicate()
    assert told == "summary\n", errors


@pytest.mark.parametrize("before", [None, "/somewhere"])
def test_the_note_of_another_process_is_moved_away_under_its_hands(before, monkeypatch):
    """What ArviZ 0.23 raises then, at the first import alone; the environment is left as it was."""
    from inference.running import loading

    places = []

    def once_gone(name):
        places.append(os.environ.get("XDG_CACHE_HOME"))
        if len(places) == 1:
            raise FileNotFoundError("daily_warning.tmp")
        return name

    monkeypatch.setattr(loading.importlib, "import_module", once_gone)
    if before is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", before)
    assert loading.arviz() == "arviz"
    assert places[0] == before != places[1]
    assert os.environ.get("XDG_CACHE_HOME") == before
    assert not os.path.exists(places[1])


def test_nothing_loads_it_another_way():
    """`import arviz` in a function of `inference` would meet both faults again."""
    from pathlib import Path

    import inference

    files = {path.name: path.read_text() for path in Path(inference.__file__).parent.rglob("*.py")}
    assert "loading.py" in files
    assert [name for name, text in files.items() if re.search(r"^ *(import|from) arviz\b", text, re.M)] == []
