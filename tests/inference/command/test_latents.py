"""The table of latents in a summary: the model's order, and none cut off unseen."""

from __future__ import annotations

import pytest

import inference
import zoo
from inference.command.latents import _shares, in_order, table
from tests.helpers.pairs import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_sites_stand_as_the_model_writes_them_and_factors_last(name):
    pair = zoo.create(name)
    sites = [site.name for site in pair.sites().values() if not (site.local or site.observed)]
    found = in_order(pair, sorted(sites))
    assert sorted(found) == sorted(sites)
    factors = [site for site in found if "correlations" in site]
    assert found == [site for site in sites if site not in factors] + factors


def test_locations_are_not_cut_for_correlations():
    pair = zoo.create("gmm", features=4, components=3)
    posterior = inference.draw(pair, zoo.datasets.load("iris"), 20)
    exported = inference.to_arviz(pair, posterior, zoo.datasets.load("iris"), predictive=False, log_likelihood=False)
    lines = table(exported, in_order(pair, sorted(posterior.globals)), 40)
    count = {name: sum(line.startswith(f"{name}[") for line in lines) for name in posterior.globals}
    assert count == {"weights": 3, "locs": 12, "scales": 12, "correlations": 13}
    assert lines[-1] == "… and 14 more of correlations, in posterior.nc"
    assert list(dict.fromkeys(line.split("[")[0] for line in lines[1:-1])) == [
        "weights",
        "locs",
        "scales",
        "correlations",
    ]


@pytest.mark.parametrize(
    ("sizes", "most", "wanted"),
    [([3, 12], 40, [3, 12]), ([3, 12, 12, 27], 40, [3, 12, 12, 13]), ([10, 160, 160, 900], 40, [10, 22, 4, 4]),
     ([2, 100], 40, [2, 38]), ([50, 1], 40, [39, 1])],
)  # fmt: skip
def test_the_last_are_cut_first(sizes, most, wanted):
    assert _shares(sizes, most) == wanted
