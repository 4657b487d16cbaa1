"""Every posterior of posteriordb that is at hand, by `infer` with its defaults: right, or not called trusted."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import inference
import zoo
from tests.helpers.places import REFERENCE, benchmark

FOLDER = REFERENCE / "posteriordb"
NAMES = sorted(path.name for path in FOLDER.iterdir()) if FOLDER.is_dir() else []


@pytest.fixture
def references():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield benchmark("references")
    torch.set_default_dtype(before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*transitions diverged")
@pytest.mark.skipif(not NAMES, reason=f"no reference posteriors at {FOLDER} (set ZOO_REFERENCE)")
@pytest.mark.parametrize("name", NAMES)
def test_means_and_deviations_are_those_of_the_reference(name, references):
    reference = references.REFERENCES[name]
    posterior = inference.infer(zoo.program(reference.model), *reference.given(name), progress=False)
    assert posterior.trusted or posterior.advice
    if not posterior.trusted:
        return
    draws = reference.columns({site: value.flatten(0, 1).numpy() for site, value in posterior.draws.items()})
    known = json.loads((FOLDER / name / "reference_summary.json").read_text())
    effective = min(len(next(iter(draws.values()))), 900)  # what each road that is trusted has, at the least
    for parameter, told in reference.known(name).items():
        error = np.hypot(told["sd"] / np.sqrt(effective), told.get("mcse_mean", 0.0))
        assert abs(draws[parameter].mean() - told["mean"]) < max(0.1 * told["sd"], 3 * error), parameter
        assert abs(draws[parameter].mean() - told["mean"]) < 4 * error, parameter
        assert abs(draws[parameter].std() / told["sd"] - 1) < 0.1, parameter
    evidence = known.get("log_evidence")
    if evidence and np.isfinite(posterior.log_evidence):
        assert abs(posterior.log_evidence - evidence["value"]) < 0.05 + 4 * posterior.error
