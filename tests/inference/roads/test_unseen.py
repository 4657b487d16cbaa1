"""Posteriors that no road was tuned to, by `infer` with its defaults: right, or not called trusted."""

from __future__ import annotations

import numpy as np
import pytest

import inference
import zoo
from tests.helpers.unseen import value
from tests.helpers.unseen_cases import UNSEEN

EFFECTIVE = 400  # draws that each road that is trusted has, at the least
LIMIT = 60.0  # seconds


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", UNSEEN)
def test_what_is_trusted_is_right(name, seed):
    program, arguments, known, evidence = UNSEEN[name]()
    posterior = inference.infer(zoo.program(program), *arguments, seed=seed, budget=LIMIT, progress=False)
    assert posterior.trusted or posterior.advice or any(not ground.holds for ground in posterior.grounds)
    if not posterior.trusted:
        return
    for site, told in known.items():
        draws, (means, deviations) = value(posterior.draws, site), map(np.ravel, told)
        z = (draws - means) / deviations
        error = 4 / np.sqrt(EFFECTIVE)
        assert np.abs(z.mean(0)).max() < error, site
        # Of a deviation, by the fourth moment, as far as draws tell it.
        tails = 4 * np.sqrt(((z**4).mean(0) - 1).clip(min=2) / 4 / EFFECTIVE)
        assert (np.abs(np.log(draws.std(0) / deviations)) < tails).all(), site
    if evidence is not None and np.isfinite(posterior.log_evidence):
        assert abs(posterior.log_evidence - evidence) < 0.05 + 4 * posterior.error
