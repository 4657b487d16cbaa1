"""The benchmark of the SAAS prior: its function, its R-hat, and what its table says."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.places import benchmark, package


def test_hartmanns_function_has_its_known_minimum():
    """Surjanovic & Bingham, Virtual Library of Simulation Experiments: -3.32237 there, and more around it."""
    hartmann = package("pyro_programs.subspaces").hartmann
    best = np.array([[0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573]])
    assert hartmann(best)[0] == pytest.approx(-3.32237, abs=1e-5)
    assert (hartmann(best + 0.01 * np.random.default_rng(0).standard_normal((50, 6))) > hartmann(best)).all()


class TestTable:
    @pytest.fixture
    def saas(self):
        return benchmark("saas")

    def test_one_chain_is_judged_by_its_halves(self, saas):
        rng = np.random.default_rng(0)
        draws = {site: rng.uniform(1, 2, size=(1, 400)) for site in saas.LATENTS}
        assert saas.seen_so_far(draws, 400) < 1.03
        draws["noise"][:, 200:] += 1  # which moves on and never comes back
        assert saas.seen_so_far(draws, 400) > 1.5
        assert saas.seen_so_far(draws, 200) < 1.05

    def test_ratios_are_of_the_time_until_draws_pass(self, saas):
        run = {"chains": 4, "warmup": 9, "plain_draws": 5, "plain_cpu": 1.0, "plain_rhat": 1.2, "divergences": 0}
        results = {
            "saas_50/ours/0": run | {"cpu": 10.0, "draws": 20, "compile": 5.0},
            "saas_50/numpyro/0": run | {"cpu": 40.0, "draws": 30, "compile": 10.0},
            "saas_50/pyro/0": run | {"over": 200.0, "compile": 0.0},
            "saas_100/pyro/0": {"failed": "out of time"},
        }
        lines = saas.table(results).splitlines()
        cells = {
            line.split("|")[2].strip(" `"): [cell.strip() for cell in line.split("|")[3:-1]] for line in lines[2:5]
        }
        assert cells["ours"][3:5] == ["10.0", ""]
        assert (cells["numpyro"][3:5], cells["numpyro"][6]) == (["40.0", "0.250"], "0.300")
        assert cells["pyro"][2:5] == ["not reached", "over 200.0", "0.050"]
        assert "failed: out of time" in lines[5]
