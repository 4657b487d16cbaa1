"""What the page of a comparison says of models: better, worse, or not told apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from inference.reporting.compared import Comparison
from tests.helpers.pages import faults

CASES = {  # difference and its error, as Sivula, Magnusson & Vehtari (2020) read them -> what is said
    (2.0, 0.1): "too little to tell the two apart",
    (9.0, 6.0): "it may as well be the better one",
    (30.0, 6.0): "it predicts worse",
}


def table(difference, error):
    lines = {
        "rank": [0, 1],
        "elpd_loo": [-100.0, -100.0 - difference],
        "p_loo": [3.0, 4.0],
        "elpd_diff": [0.0, difference],
        "weight": [1.0, 0.0],
        "se": [5.0, 5.0],
        "dse": [0.0, error],
        "warning": np.array([False, True]),
        "scale": ["log", "log"],
    }
    return pd.DataFrame(lines, index=["curve", "<b>line</b>"])


@pytest.mark.parametrize("case", CASES)
def test_a_difference_is_held_against_its_error(case, tmp_path):
    for sign in (1, -1):  # ArviZ 0.x and 1.x differ in it
        found = Comparison(table(*case).assign(elpd_diff=[0.0, sign * case[0]]), ["a note"], "zoo compare")
        assert found.told[0] == "'curve' is expected to predict new data best."
        assert CASES[case] in found.told[1]
    html = found.save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert faults(html) == []
    assert "<b>" not in html
    assert "a note" in html
