"""Pictures that cost nothing, for tests that look at none."""

from __future__ import annotations

import numpy as np
import pytest

from inference.reporting import latents
from inference.reporting.encoding import encoded


@pytest.fixture
def blank(monkeypatch):
    """Pictures cost most of a page's time."""
    one = encoded(latents.weights(np.zeros(30)))
    monkeypatch.setattr("inference.reporting.parts.encoded", lambda figure: one)
