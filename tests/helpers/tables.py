"""A table with one column of each kind."""

from __future__ import annotations

import numpy as np


def mixed():
    """A table with one column of each kind, holes in most."""
    g = np.random.default_rng(0)
    rows = 60
    return {
        "height": [None, *np.round(g.normal(0, 10, rows - 1), 2).tolist()],
        "income": np.round(np.exp(g.normal(size=rows)) + 0.01, 2).tolist(),
        "visits": g.negative_binomial(1, 0.1, rows).tolist(),
        "smokes": ["no", "yes", None] * 20,
        "town": [["Ulm", "Bonn", "Kiel", "Köln"][i % 4] for i in range(rows)],
        "stars": [3, 4, 5, 4] * 15,
        "member": [True, False, None] * 20,
    }
