"""Commands run in a folder of their own, and draw blank pictures where no test looks at them."""

from __future__ import annotations

import pytest

from tests.helpers.command import blank_pictures


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def blank():
    with blank_pictures():
        yield
