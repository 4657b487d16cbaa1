"""`zoo check` says of a run whether its posterior can be believed."""

import pytest

import inference
import zoo
from inference.command.main import main
from tests.helpers.command import fails

pytestmark = pytest.mark.usefixtures("blank")


def test_a_run_is_checked_as_python_checks_it(capsys):
    fit = ["fit", "gmm", "--data", "faithful", "--set", "components=1", "--steps", "100", "--double", "--no-score"]
    assert main([*fit, "--out", "run"]) == 0
    capsys.readouterr()
    status = main(["check", "run", "--no-run"])
    told = capsys.readouterr().out
    found = inference.check(zoo.load("run"), zoo.datasets.load("faithful"), run=False)
    assert told.strip() == str(found)
    assert status == {"trust": 0, "caution": 1, "do not trust": 2}[found.verdict]
    assert told.splitlines()[0] == f"gmm: {found.verdict}"
    zoo.create("gmm").save("bare")
    assert "'bare' was not left by `zoo fit`" in fails(capsys, "check", "bare")
    assert "expected shape (N, 2), got (150, 4)" in fails(capsys, "check", "run", "--data", "iris")
