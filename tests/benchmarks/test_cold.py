"""The benchmark of cold processes: what it says of results made up here, and one that runs."""

import ast

import numpy as np
import pytest

from tests.helpers.places import benchmark, package


@pytest.fixture
def cold():
    return benchmark("cold")


def run(cpu, mean=0.0, reached=True, **more):
    return {"cpu": cpu, "reached": reached, "moments": {"x": ([mean, 1.0], [2.0, 1.0])}, **more}


def test_ratios_are_of_runs_that_may_be_believed(cold):
    results = {
        "radon/ours": run(2.0, 0.5, road="Gaussian"),
        "radon/nutpie": run(8.0),
        "radon/numpyro": run(10.0),
        "baseball/ours": run(3.0, reached=False, road="Hamiltonian"),
        "baseball/nutpie": run(4.0),
        "item_response/ours": run(6.0, road="Hamiltonian"),
        "item_response/nutpie": run(12.0, reached=False),
        "item_response/numpyro": {"failed": "out of memory"},
    }
    lines = cold.table(results).splitlines()
    cells = {line.split("`")[1]: [cell.strip() for cell in line.split("|")[2:-1]] for line in lines if "`" in line}
    assert cells["radon"] == ["2.0", "8.0", "10.0", "0.25", "0.20", "Gaussian", "0.25"]
    assert cells["baseball"] == ["3.0 (not believed)", "4.0", "not run", "", "", "Hamiltonian", ""]
    assert cells["item_response"] == ["6.0", "12.0 (not reached)", "out of memory", "", "", "Hamiltonian", ""]
    assert "Of nutpie's time: 0.25 in the median, 0.25 at the most." in lines
    assert "ruggedness" not in cells


def test_the_worst_number_of_all_sites_counts(cold):
    rng = np.random.default_rng(0)
    draws = {"a": rng.standard_normal((4, 500)), "b": rng.standard_normal((4, 500, 3)), "still": np.ones((4, 500))}
    worst, least = cold.quality(draws)
    assert worst < 1.01
    assert 1000 < least < 2500
    draws["b"][0, :, 2] += 2
    worst, least = cold.quality(draws)
    assert worst > 1.2
    assert least < 100


def test_every_program_has_its_twins(cold):
    examples = package("pyro_programs").EXAMPLES
    parsed = ast.parse((cold.HERE / "pymc_twins.py").read_text())
    twins = {node.name: len(node.args.args) for node in parsed.body if isinstance(node, ast.FunctionDef)}
    assert twins == {name: len(examples[name].data()) for name in cold.NAMES}


@pytest.mark.slow
def test_a_fresh_process_is_measured_whole(cold):
    example = package("pyro_programs").EXAMPLES["ruggedness"]
    found = cold.outcome("ruggedness", "regressions", example.data(), "ours", 0)
    assert found["reached"]
    assert found["cpu"] > 0.5  # torch alone takes more to import
    with pytest.raises(RuntimeError, match="nobody"):
        cold.measured({"name": "nobody", "home": "regressions", "data": (), "seed": 0, "draws": None, "method": "ours"})
