"""The journeys of examples/journeys: at most ten lines from data to an answer and its picture, run as they stand.

What they answer is held against others: the survey against least squares, the mixture against the grapes, the network
against its published tables, the airline against statsmodels' airline model.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from inference.forecasting.scores import crps
from tests.helpers.places import EXAMPLES

SCRIPTS = sorted((EXAMPLES / "journeys").glob("*.py"))
SLOW = {"airline", "clusters", "digits", "holes", "matrix", "verse"}


def lines(script: Path) -> int:
    """Lines of code: what is left without the docstring and blank lines."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    return sum((node.end_lineno or node.lineno) - node.lineno + 1 for node in tree.body[1:])


def table(printed: str, row: str) -> list[float]:
    """The numbers of a line of what a script printed."""
    line = next(line for line in printed.splitlines() if line.startswith(row))
    return [float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", line.removeprefix(row))]


def survey(printed: str) -> None:
    sm = pytest.importorskip("statsmodels.api")
    least = sm.OLS.from_formula("income ~ age + educ + C(vote)", sm.datasets.anes96.load_pandas().data).fit()
    for row, name in (("age", "age"), ("educ", "educ"), ("C(vote)[T.1]", "C(vote)[T.1.0]")):
        estimate, sd = table(printed, row)[:2]
        assert abs(estimate - least.params[name]) < 0.08 * least.bse[name], row  # 4 errors of 4,000 draws, and a prior
        assert sd == pytest.approx(least.bse[name], rel=0.06), row


def network(printed: str) -> None:
    # By enumeration of the published tables: P(lung = yes | smoke, xray, dysp) of the three patients
    found = [float(line.split()[1]) for line in printed.splitlines() if re.match(r"[012]\s", line)]
    np.testing.assert_allclose(found, enumerated(), atol=2e-6)


def enumerated() -> list[float]:
    """P(lung = yes | ...) from the tables of Lauritzen and Spiegelhalter (1988), all 2^8 cases summed."""
    import itertools

    def joint(asia, tub, smoke, lung, bronc, either, xray, dysp):
        p = lambda chance, value: chance if value else 1 - chance  # noqa: E731
        breath = {(1, 1): 0.9, (1, 0): 0.7, (0, 1): 0.8, (0, 0): 0.1}[either, bronc]
        return (
            p(0.01, asia) * p(0.05 if asia else 0.01, tub) * p(0.5, smoke) * p(0.1 if smoke else 0.01, lung)
            * p(0.6 if smoke else 0.3, bronc) * float(either == (tub or lung)) * p(0.98 if either else 0.05, xray)
            * p(breath, dysp)
        )  # fmt: skip

    answers = []
    for smoke, xray, dysp in ((1, 1, 1), (0, 1, None), (None, 0, 0)):
        total = sick = 0.0
        for case in itertools.product((0, 1), repeat=8):
            known = zip((case[2], case[6], case[7]), (smoke, xray, dysp), strict=True)
            if all(want is None or have == want for have, want in known):
                total += joint(*case)
                sick += joint(*case) * case[3]
        answers.append(sick / total)
    return answers


def airline(printed: str) -> None:
    """Less CRPS than SARIMA (0,1,1)(0,1,1)12 of logarithms from the same origins; 90 % intervals hold about 90 %."""
    sarimax = pytest.importorskip("statsmodels.tsa.statespace.sarimax").SARIMAX
    y = zoo.datasets.load("airpassengers").x[0].double().numpy()
    scores, rng = [], np.random.default_rng(0)
    for end in range(len(y) - 24, len(y) - 11):
        model = sarimax(np.log(y[:end]), order=(0, 1, 1), seasonal_order=(0, 1, 1, 12))
        fit = model.fit(disp=False, method="powell")  # as high as its default, which may warn that it has not converged
        ahead = fit.get_forecast(12)
        draws = np.exp(ahead.predicted_mean + ahead.se_mean * rng.normal(size=(4000, 12)))
        scores.append(crps(draws, y[end : end + 12]))
    coverage, _, own = table(printed, "autoregressive")[:3]
    assert own < np.mean(scores) < table(printed, "seasonal naive")[2]
    assert 0.85 <= coverage <= 0.95


def matrix(printed: str) -> None:
    assert "(100, 10) (3, 10)" in printed
    assert re.search(r"\(100, \d+\) \(100, 10\)", printed)


CHECKS = {"survey": survey, "airline": airline, "network": network, "matrix": matrix}


@pytest.mark.parametrize(
    "script", [pytest.param(s, marks=pytest.mark.slow if s.stem in SLOW else ()) for s in SCRIPTS], ids=lambda s: s.stem
)
def test_a_journey_ends_with_its_answer_and_picture(script: Path, tmp_path: Path) -> None:
    assert lines(script) <= 10
    needs = {"holes": "palmerpenguins", "survey": "statsmodels", "airline": "pandas"}.get(script.stem)
    if needs:
        pytest.importorskip(needs)
    alone = {**os.environ, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip(), "a journey says what it finds"
    (picture,) = tmp_path.glob("*.png")
    assert picture.stat().st_size > 5_000
    if script.stem in CHECKS:
        CHECKS[script.stem](run.stdout)


def test_there_are_eight() -> None:
    assert len(SCRIPTS) == 8
