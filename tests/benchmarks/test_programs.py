"""The benchmark of programs: what its scores and its verdict say of results made up here, and a tiny run."""

import json

import numpy as np
import pytest
import torch

from tests.helpers.places import benchmark


@pytest.fixture
def programs():
    before = torch.get_default_dtype()
    yield benchmark("programs")
    torch.set_default_dtype(before)


def run(rate, mean, rhat=1.0):
    how = {"warmup": 200, "operations": 99, "divergences": 0, "cpu": 2.0}
    return {"rate": rate, "rhat": rhat, "summary": {"mu[1]": [mean, 1.0, 0.03]}, **how}


RESULTS = {
    "radon/ours/0": run(600.0, 1.0), "radon/pyro/0": run(10.0, 1.1), "radon/numpyro/0": run(300.0, 1.0),
    "baseball/ours_graph/0": run(100.0, 1.0, 1.02), "baseball/pyro/0": run(20.0, 2.0),
    "baseball/numpyro/0": run(400.0, 1.0),
}  # fmt: skip


def test_means_are_apart_by_the_errors_of_both(programs):
    assert programs.away(run(1, 1.0), run(1, 1.1)) == pytest.approx(0.1 / (0.03 * 2**0.5))


def test_the_verdict_counts_what_the_table_says(programs):
    told = programs.verdict(RESULTS, ["radon", "baseball"])
    assert "Ours over pyro: median 32.5 (least 5.00, most 60) of 2 programs, ahead on 2." in told
    assert "Ours over numpyro: median 1.1 (least 0.25, most 2) of 2 programs, ahead on 1." in told
    assert "Means within 4 combined errors of Pyro's: 1 of 2." in told
    assert "R-hat below 1.01: 1 of 2." in told
    rows = programs.table(RESULTS, ["radon", "baseball"], programs.METHODS).splitlines()
    assert rows[2].split(" | ")[:6] == ["| `radon`", "600.0", "not run", "10.0", "300.0", "99"]


def test_sites_without_a_variance_are_compared_by_their_logarithms(programs):
    rng = np.random.default_rng(0)
    draws = {"m": rng.random((2, 5)), "kappa": 2 + np.eye(2, 5), "phi": rng.random((2, 5, 18))}
    found = programs.named("baseball", draws)
    np.testing.assert_allclose(found["kappa[1]"], np.log(draws["kappa"]))
    assert len(found) == 20


@pytest.mark.slow
def test_a_tiny_run_is_kept_and_not_repeated(programs, tmp_path, capsys):
    path = tmp_path / "kept.json"
    arguments = ["--quick", "--out", str(path), "--only", "eight_schools_reparam", "--methods", "ours_graph,pyro"]
    found = programs.main(arguments)
    assert set(found) == {"eight_schools_reparam/ours_graph/0", "eight_schools_reparam/pyro/0"}
    assert all(result["rate"] > 0 for result in found.values())
    written = path.read_text()
    programs.main(arguments)
    assert path.read_text() == written
    assert json.loads(written)["eight_schools_reparam/ours_graph/0"]["summary"].keys() >= {"mu[1]", "tau[1]"}


def test_a_twin_in_numpyro_has_the_density_of_its_program(programs):
    pytest.importorskip("numpyro")
    errors = programs.main(["--check"])
    assert all(error < 1e-6 or np.isnan(error) for error in errors.values())
