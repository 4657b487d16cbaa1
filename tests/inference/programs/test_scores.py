"""Observations of programs left out, and programs compared: ArviZ's own numbers, and closed forms."""

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from tests.helpers.programs import SCHOOLS, SIGMA, conjugate, noise, program, schools

RUN = {"draws": 50, "chains": 8, "progress": False, "max_warmup": 100}
Y = noise(20) + 2

pytestmark = pytest.mark.filterwarnings(
    "ignore:warm-up stopped", "ignore:chains disagree", "ignore:.*diverged", "ignore:Estimated shape"
)


@pytest.fixture(scope="module")
def posterior():
    return inference.sample(zoo.program(schools), SCHOOLS, SIGMA, **RUN)


def test_leaving_one_out_is_as_arviz_has_it(posterior):
    model = zoo.program(schools)
    ours = inference.loo(model, posterior, SCHOOLS, SIGMA)
    exported = inference.to_arviz(model, posterior, SCHOOLS, SIGMA, predictive=False)
    theirs = az.loo(exported, pointwise=True, reff=1.0)
    assert np.allclose(ours.pointwise, theirs["loo_i"], atol=1e-3)  # ArviZ smooths some tails otherwise
    assert ours.penalty == pytest.approx(theirs["p_loo"], abs=2e-3)


def mean_of_all(precise, y, size):
    """Exact draws of a conjugate normal's posterior, each observation left out in turn by formula."""
    precision = len(y) + 1 / 25
    mu = y.sum() / precision + torch.randn(1, size, generator=precise, dtype=torch.float64) / precision**0.5
    return inference.Posterior({"mu": mu}, frozenset(), {}, "mcmc", 1, size)


def test_scores_of_a_conjugate_normal_are_its_closed_form():
    """p(y_n | others) and p(new | y) are normal: mean that of mu, variance 1 + 1 / precision."""
    draws = mean_of_all(torch.Generator().manual_seed(0), Y, 40_000)
    rest, precision = Y.sum() - Y, len(Y) - 1 + 1 / 25
    expected = dist.Normal(rest / precision, (1 + 1 / precision) ** 0.5).log_prob(Y)
    found = inference.loo(zoo.program(conjugate), draws, Y)
    assert np.allclose(found.pointwise, expected, atol=0.01)
    new, precision = noise(4), len(Y) + 1 / 25
    scores = inference.log_score(zoo.program(conjugate), draws, new)["y"]
    expected = dist.Normal(Y.sum() / precision, (1 + 1 / precision) ** 0.5).log_prob(new)
    assert torch.allclose(scores, expected, atol=0.01)


def wider(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mu, 4.0), obs=y)


def test_the_program_that_predicts_better_comes_first():
    draws = mean_of_all(torch.Generator().manual_seed(0), Y, 200)
    models = {"wide": (zoo.program(wider), draws, Y), "right": (zoo.program(conjugate), draws, Y)}
    table = inference.compare(models)
    assert list(table.index) == ["right", "wide"]
    containers = {name: inference.to_arviz(*model, predictive=False) for name, model in models.items()}
    assert np.allclose(inference.compare(containers)["elpd_diff"], table["elpd_diff"])
    with pytest.raises(ValueError, match="their y differ, as at"):
        inference.compare(models | {"other": (zoo.program(wider), draws, Y + 1)})


def test_draws_of_a_guide_are_weighed_and_resampled():
    model = zoo.program(conjugate, guide="multivariate")
    inference.fit(model, Y, steps=100, progress=False)
    draws = inference.draw(model, Y, draws=500)
    assert inference.loo(model, draws, Y).weighted
    assert inference.resample(draws, 100).method == "psis"
    bare = inference.draw(model, Y, draws=500, stats=False)
    with pytest.raises(ValueError, match="lack log_p and log_q"):
        inference.loo(model, bare, Y)


def test_what_cannot_be_left_out_is_told():
    model, arguments = program("crossed")
    people, items = arguments[0].shape
    shapes = {"skill_scale": (), "skill": (people, 1), "ease": (items,)}
    draws = inference.Posterior({n: torch.ones(1, 30, *s) for n, s in shapes.items()}, frozenset(), {}, "mcmc", 1, 30)
    with pytest.raises(ValueError, match="several observed sites, 'rating', 'total': say which with site="):
        inference.loo(zoo.program(model), draws, *arguments)
    with pytest.raises(ValueError, match="has no observed site 'ratin', did you mean 'rating'"):
        inference.loo(zoo.program(model), draws, *arguments, site="ratin")
    with pytest.raises(ValueError, match="site 'total' is one observation"):
        inference.loo(zoo.program(model), draws, *arguments, site="total")
    assert inference.loo(zoo.program(model), draws, *arguments, site="rating").pointwise.shape == (people * items,)


def test_programs_of_several_sites_are_compared_by_one_of_them():
    """With fixed latents each site's score is its log density: of y that of Normal(mu, 1), whatever z is."""

    def both(y, z, scale):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(mu, scale), obs=y)
            pyro.sample("z", dist.Normal(mu, 1.0), obs=z)

    fixed = inference.Posterior({"mu": torch.full((1, 50), 2.0).double()}, frozenset(), {}, "mcmc", 1, 50)
    models = {name: (zoo.program(both), fixed, Y, Y + 9, scale) for name, scale in (("one", 1.0), ("four", 4.0))}
    with pytest.raises(ValueError, match="several observed sites, 'y', 'z': say which with site="):
        inference.compare(models)
    table = inference.compare(models, site="y")
    assert list(table.index) == ["one", "four"]
    column = next(name for name in ("elpd_loo", "elpd") if name in table)
    for name, scale in (("one", 1.0), ("four", 4.0)):
        assert table[column][name] == pytest.approx(float(dist.Normal(2.0, scale).log_prob(Y).sum()), rel=1e-5)
    containers = {name: inference.to_arviz(*model, predictive=False) for name, model in models.items()}
    assert np.allclose(inference.compare(containers, site="y")[column], table[column])
    other = float(dist.Normal(2.0, 1.0).log_prob(Y + 9).sum())
    assert inference.compare(containers, site="z")[column]["one"] == pytest.approx(other, rel=1e-5)
    with pytest.raises(ValueError, match="found 2, 'y', 'z': say which with site="):
        inference.compare(containers)
    with pytest.raises(ValueError, match="no log likelihood of 'w'"):
        inference.compare(containers, site="w")
