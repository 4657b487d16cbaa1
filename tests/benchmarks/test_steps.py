"""The benchmark of steps on programs: what it says of results made up here, and a tiny run."""

import json

import pytest
import torch

from tests.helpers.places import benchmark


@pytest.fixture
def steps():
    before = torch.get_default_dtype()
    yield benchmark("steps")
    torch.set_default_dtype(before)


def run(ours, pyro):
    times = {"ours": ours, "pyro": pyro, "pyro_unchecked": [t / 2 for t in pyro]}
    return times | {"before": 3.0, "wall": 4.0, "recording": 1.0, "skipped": 0}


RESULTS = {
    "radon/graph/0": run([100.0, 300.0, 200.0], [400.0, 1000.0, 900.0]),
    "baseball/graph/0": run([600.0], [1000.0]),
    "radon/inductor/0": {"failed": "over 9 s of CPU"},
}


def test_ratios_are_medians_of_those_within_blocks(steps):
    assert steps.ratio(RESULTS["radon/graph/0"]) == pytest.approx(0.25)  # of 0.25, 0.3 and 0.222
    assert steps.ratio(RESULTS["radon/graph/0"], "pyro_unchecked") == pytest.approx(0.5)


def test_the_table_and_what_it_comes_to(steps):
    rows = steps.table(RESULTS, ["radon", "baseball"]).splitlines()
    cells = [cell.strip() for cell in rows[2].split("|")[1:-1]]
    assert cells == ["`radon`", "900", "450", "0.250", "over 9 s of CPU", "4.0, 1.0", ""]
    assert steps.verdict(RESULTS, ["radon", "baseball"]) == (
        "- `graph`: median 0.425 of Pyro's time (least 0.250, most 0.600; 0.850 of that without validation); at most "
        "0.5 in 1 of 2, not `baseball`."
    )


@pytest.mark.slow
def test_a_tiny_run_is_kept_and_not_repeated(steps, tmp_path):
    path = tmp_path / "kept.json"
    arguments = ["--quick", "--out", str(path), "--only", "gaussian_mixture", "--methods", "graph,own_graph"]
    found = steps.main(arguments)
    assert all(one["ours"][0] > 0 and one["pyro"][0] > 0 for one in found.values())
    written = path.read_text()
    steps.main(arguments)
    assert path.read_text() == written
    assert set(json.loads(written)) == {"gaussian_mixture/graph/0", "gaussian_mixture/own_graph/0"}
