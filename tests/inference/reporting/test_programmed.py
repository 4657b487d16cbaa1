"""Pages about programs, and about draws by MCMC."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.checking.findings import Check, Finding
from inference.posterior.latents import Posterior
from tests.helpers.pages import faults

GOOD = Check("schools", (Finding("R-hat", "ok", "1.0 ≤ 1.01", 1.0, "Vehtari et al. 2021", bears=True),))


def schools(sigma, y):
    """Eight schools."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    with pyro.plate("school", len(sigma)):
        pyro.sample("y", dist.Normal(mu, sigma), obs=y)


DATA = torch.tensor([15.0, 10, 16, 11]), torch.tensor([28.0, 8, -3, 7])


def chains(shift=0.0):
    drawn = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    drawn[0] += shift
    return Posterior({"mu": drawn}, method="mcmc", chains=4, size=50)


def test_a_program_has_a_page_too():
    page = inference.report(zoo.program(schools), chains(), *DATA, found=GOOD)
    assert (page.name, page.about) == ("schools", "Eight schools.")
    assert [(one.kind, one.missing) for one in (*page.seen, *page.drawn)] == [
        ("observed", ""),
        ("densities", ""),
        ("chains", ""),
        ("left_out", ""),
    ]
    assert page.summary.values[0]["r_hat"] < 1.05
    assert faults(page.html) == []


def test_chains_apart_are_seen_in_the_table(blank):
    page = inference.report(zoo.program(schools), chains(shift=4.0), *DATA, run=False)
    assert page.verdict == "do not trust"
    assert page.summary.values[0]["r_hat"] > 1.2


def test_a_program_that_observes_nothing_and_draws_of_another(blank):
    def nothing():
        pyro.sample("mu", dist.Normal(0.0, 5.0))

    page = inference.report(zoo.program(nothing), chains(), found=GOOD)
    assert page.seen == []
    assert "observes nothing" in page.html
    wrong = inference.report(zoo.program(schools), Posterior({"nu": torch.zeros(1, 30)}, size=30), *DATA, run=False)
    assert wrong.verdict == "do not trust"
    assert "mu" in wrong.check["posterior and data"].told
    assert wrong.seen[0].missing
    with pytest.raises(ValueError, match="expected a Posterior"):
        inference.report(zoo.program(schools), None, *DATA)
