"""The campaign of mutants: its map of tests holds, words are left alone, and a fault that a test sees is killed."""

from __future__ import annotations

import pytest

from tests.campaigns.covering import COVER, OWN, ROOT, core, covering

SOURCE = """
from torch import Tensor

Kind = int | None


def mean(x: Tensor | None, strict: bool = True) -> Tensor | None:
    if x is None or len(x) < 1:
        raise ValueError(f"expected {1 + 1} rows")
    return x.sum() / 4


def told(x: Tensor) -> str:
    return "rows " * (2 + 3)
"""


def test_every_file_of_the_core_is_covered():
    files = core()
    assert len(files) > 100
    assert files == list(dict.fromkeys(files))
    for path in files:
        tests = covering(path)
        assert tests, path
        assert all((ROOT / test).is_file() for test in tests), path
    for path, test in OWN.items():
        assert covering(path)[0].endswith(f"/{test}"), path
    assert all((ROOT / name).exists() for name in COVER)
    assert covering("inference/codes/gaps.py")[0] == "tests/inference/codes/test_gaps.py"
    with pytest.raises(ValueError, match="no tests are known for it"):
        core(["inference/command/use.py"])
    with pytest.raises(ValueError, match="there is no such file"):
        core(["inference/codes/nothing.py"])


def test_mutants_change_numbers_and_conditions_and_no_words():
    pytest.importorskip("cosmic_ray", reason="make mutants brings it")
    from tests.campaigns import mutable

    found = list(mutable.spots(SOURCE))
    changes = {mutable.change(SOURCE, spot) for spot in found}
    assert ("return x.sum() / 4", "return x.sum() * 4") in changes
    assert ("if x is None or len(x) < 1:", "if x is None or len(x) <= 1:") in changes
    assert ("if x is None or len(x) < 1:", "if x is None and len(x) < 1:") in changes
    assert {spot.line for spot in found} == {7, 8, 10}  # 7 by its default


@pytest.mark.slow
def test_a_mutant_that_a_test_sees_is_killed():
    pytest.importorskip("cosmic_ray")
    from tests.campaigns import mutants
    from tests.campaigns.mutable import change, spots

    path = "inference/fitting/schedule.py"
    source = (ROOT / path).read_text()
    killed = "return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, limit - rise)))"
    (seen,) = (s for s in spots(source) if change(source, s) == (killed, killed.replace("(1 +", "(1 -")))
    (result,) = mutants.campaign([(path, seen)], limit=240)
    assert (result.outcome, result.test.partition("::")[0]) == ("killed", "tests/inference/fitting/test_schedule.py")
    assert "1 killed" in mutants.told([result])
