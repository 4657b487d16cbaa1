"""The export to ArviZ: groups, names and labels, on both ArviZ lines; what `az` makes of it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference import to_arviz
from inference.posterior.draws import Posterior
from tests.helpers.exported import CASES, CHAINS, DRAWS, D, N, counts, regression, walk
from zoo.base import Batch, ModelGuide
from zoo.settings import settings


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[ModelGuide, Posterior, Batch]:
    return CASES[request.param]()


# --- what is in it ----------------------------------------------------------------------------------------------------


def group(made, name):
    """One group as a plain Dataset, on either line."""
    return made[name].to_dataset() if hasattr(made[name], "to_dataset") else made[name]


def test_every_group_is_there(case):
    pair, posterior, batch = case
    made = to_arviz(pair, posterior, batch, prior=3)
    wanted = {
        "posterior",
        "sample_stats",
        "log_likelihood",
        "posterior_predictive",
        "observed_data",
        "prior",
        "prior_predictive",
    }
    if posterior.globals:
        wanted |= {"log_prior", "unconstrained_posterior"}
    if batch.fields().keys() - pair.sites(batch).keys():
        wanted |= {"constant_data"}
    found = {g.strip("/") for g in made.groups() if g != "/"} if callable(made.groups) else set(made.children)
    assert found == wanted
    assert group(made, "prior").sizes["draw"] == 3
    assert "obs" in group(made, "observed_data").dims
    for name in wanted - {"observed_data", "constant_data"}:
        for variable in group(made, name).data_vars.values():
            assert variable.dims[:2] == ("chain", "draw")


def test_values_and_dims_are_those_of_the_posterior():
    pair, posterior, batch = regression()
    made = to_arviz(pair, posterior, batch, predictive=False)
    assert group(made, "posterior")["coefficients"].dims == ("chain", "draw", "feature")
    for name, value in posterior.draws.items():
        np.testing.assert_array_equal(group(made, "posterior")[name], value)
    for name, value in posterior.stats.items():
        np.testing.assert_array_equal(group(made, "sample_stats")[name], value)
    np.testing.assert_array_equal(group(made, "sample_stats")["lp"], posterior.stats["log_p"])
    np.testing.assert_array_equal(group(made, "observed_data")["y"], batch.y)
    np.testing.assert_array_equal(group(made, "constant_data")["x"], batch.x)


def test_log_prior_and_log_likelihood_are_the_densities():
    pair, posterior, batch = regression()
    made = to_arviz(pair, posterior, batch, predictive=False)
    fns = {
        "coefficients": dist.Normal(torch.zeros(D), 1).to_event(1),
        "noise": dist.Gamma(2.0, 1.0),
        "shares": dist.Dirichlet(torch.ones(4)),
    }
    for name, fn in fns.items():
        np.testing.assert_allclose(group(made, "log_prior")[name], fn.log_prob(posterior[name]), rtol=1e-5, atol=1e-5)
    mean = torch.einsum("cdf,nf->cdn", posterior["coefficients"], batch.x)
    direct = dist.Normal(mean, posterior["noise"].unsqueeze(-1)).log_prob(batch.y)
    np.testing.assert_allclose(group(made, "log_likelihood")["y"], direct, rtol=1e-4, atol=1e-5)


def test_unconstrained_draws_lead_back_to_the_posterior():
    pair, posterior, batch = regression()
    made = group(to_arviz(pair, posterior, batch, predictive=False, log_likelihood=False), "unconstrained_posterior")
    assert made["shares"].shape == (CHAINS, DRAWS, 3)
    np.testing.assert_allclose(np.exp(made["noise"]), posterior["noise"], rtol=1e-5)
    back = torch.distributions.biject_to(dist.constraints.simplex)(torch.tensor(made["shares"].values))
    np.testing.assert_allclose(back, posterior["shares"], rtol=1e-4, atol=1e-6)


def test_a_draw_on_the_edge_of_its_support_has_no_unconstrained_group():
    pair, posterior, batch = regression()
    posterior["shares"][0, 0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    made = to_arviz(pair, posterior, batch, predictive=False, log_likelihood=False)
    assert set(group(made, "unconstrained_posterior").data_vars) <= {"coefficients", "noise", "shares"}
    for variable in group(made, "unconstrained_posterior").data_vars.values():
        assert np.isfinite(variable).all()


def test_missing_steps_and_padding_are_nan():
    pair, posterior, batch = walk()
    made = to_arviz(pair, posterior, batch)
    gone = np.zeros((N, 5), dtype=bool)
    gone[1, 3:] = True
    predicted = group(made, "posterior_predictive")["x"]
    assert predicted.dims == ("chain", "draw", "obs", "step")
    assert (np.isnan(predicted) == gone).all()
    gone[0, 1] = True
    assert (np.isnan(group(made, "observed_data")["x"]) == gone).all()
    np.testing.assert_array_equal(group(made, "constant_data")["lengths"], batch.lengths)


def test_counts_are_integers():
    made = to_arviz(*counts(), log_likelihood=False)
    for name in ("observed_data", "posterior_predictive"):
        assert group(made, name)["x"].dtype.kind == "i"


def test_labels_come_from_a_frame_and_from_the_user():
    pair, posterior, batch = counts()
    frame = pd.DataFrame(batch.x.numpy(), columns=["eyes", "ears", "legs"])
    who = [f"cat {i}" for i in range(N)]
    made = to_arviz(pair, posterior, frame, rows=4, log_likelihood=False, predictive=2, coords={"obs": who})
    assert list(group(made, "observed_data")["feature"].values) == ["eyes", "ears", "legs"]
    assert list(group(made, "observed_data")["obs"].values) == who
    assert list(group(made, "posterior")["obs"].values) == who[:4]
    given = to_arviz(
        pair, posterior, frame, log_likelihood=False, predictive=False, coords={"feature": ["a", "b", "c"]}
    )
    assert list(group(given, "observed_data")["feature"].values) == ["a", "b", "c"]


def test_predictive_draws_are_few_enough_and_numbered_as_in_the_posterior():
    pair, posterior, batch = regression()
    posterior["coefficients"].mul_(torch.linspace(-9, 9, DRAWS).unsqueeze(-1))  # no two draws alike
    made = to_arviz(pair, posterior, batch, predictive=5, log_likelihood=False)
    predicted = group(made, "posterior_predictive")
    assert predicted["y"].shape == (CHAINS, 5, N)
    # They are numbered by the draws they were made from: against those means they scatter by the noise.
    chosen = predicted["draw"].values.tolist()
    mean = torch.einsum("cdf,nf->cdn", posterior["coefficients"][:, chosen], batch.x)
    score = (predicted["y"].values - mean.numpy()) / posterior["noise"][:, chosen].unsqueeze(-1).numpy()
    assert abs((score**2).mean() - 1) < 4 * np.sqrt(2 / score.size)
    with settings.using(export_cells=CHAINS * N * 7):
        made = to_arviz(pair, posterior, batch, log_likelihood=False)
    assert group(made, "posterior_predictive").sizes["draw"] == 7


def test_local_latents_are_few_enough_to_summarise():
    pair, posterior, batch = counts()
    with settings.using(export_latents=10):  # two numbers an observation: five observations
        made = to_arviz(pair, posterior, batch, predictive=False, log_likelihood=False)
    assert group(made, "posterior")["z"].shape == (CHAINS, DRAWS, 5, 2)
    np.testing.assert_array_equal(group(made, "posterior")["z"], posterior["z"][:, :, :5])
    assert group(made, "observed_data").sizes["obs"] == N


def test_it_says_where_it_comes_from():
    pair, posterior, batch = regression()
    pair.card["metrics"] = {"khat": 0.25}
    made = to_arviz(
        pair, posterior, batch, predictive=False, log_likelihood=False, attrs={"data": "made up", "ok": True}
    )
    for attrs in (made.attrs, group(made, "posterior").attrs, group(made, "observed_data").attrs):
        assert attrs["inference_method"] == "svi"
        assert attrs["model"] == "Regression"
        assert json.loads(attrs["config"]) == {"scale": 1.0}
        assert attrs["khat"] == 0.25
        assert attrs["data"] == "made up"
        assert attrs["ok"] == "true"


def test_the_same_seed_gives_the_same_export_and_leaves_the_random_state_alone(case):
    pair, posterior, batch = case
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, second = (to_arviz(pair, posterior, batch, predictive=3, seed=3) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    other = to_arviz(pair, posterior, batch, predictive=3, seed=4)
    assert group(first, "posterior_predictive").identical(group(second, "posterior_predictive"))
    assert group(first, "log_likelihood").identical(group(second, "log_likelihood"))
    assert not group(first, "posterior_predictive").equals(group(other, "posterior_predictive"))


class Named(ModelGuide):
    """Sites that are called as dims are; counts so wide that no integer holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones(()))

    def model(self, batch: Batch) -> torch.Tensor:
        draw = pyro.sample("draw", dist.Normal(0 * self.one, self.one))
        pyro.sample("obs", dist.Normal(draw, self.one))
        with batch.plate():
            return pyro.sample("x", dist.Geometric(1e-30 * self.one), obs=batch.x)


def test_a_site_that_is_called_like_a_dim_is_exported_under_another_name():
    pair = zoo.create("gmm").double()
    batch = pair.simulate(12)[0]
    made = to_arviz(pair, inference.draw(pair, batch, 2), batch, log_likelihood=False, prior=2000)
    assert json.loads(made.attrs["renamed"]) == {"component": "component_value"}
    weights, which = group(made, "prior")["weights"], group(made, "prior")["component_value"]
    assert weights.dims == ("chain", "draw", "component")
    assert which.dims == ("chain", "draw", "obs")
    # weights ~ Dirichlet(1, 1) are uniform, and so is the component of an observation: mean 1/2
    assert abs(float(weights.isel(component=1).mean()) - 0.5) < 4 / np.sqrt(12 * 2000)
    picked = weights.values[0, np.arange(2000)[:, None], which.values[0]]  # E[w_z] = E[w_1^2 + w_2^2] = 2/3
    assert abs(picked.mean() - 2 / 3) < 4 * picked.mean(1).std() / np.sqrt(2000)

    own = Named().double()
    posterior = Posterior({name: torch.zeros(1, 4).double() for name in ("draw", "obs")}, size=4)
    made = to_arviz(own, posterior, torch.ones(3).double(), log_likelihood=False, prior=5)
    for name in ("posterior", "prior", "log_prior", "unconstrained_posterior"):
        assert set(group(made, name).data_vars) == {"draw_value", "obs_value"}
    assert group(made, "prior_predictive")["x"].values.min() > 1e20  # beyond any integer: none is wrapped


def test_a_log_likelihood_worked_out_before_is_taken():
    pair, posterior, batch = regression()
    values = torch.randn(CHAINS, DRAWS, N)
    made = to_arviz(pair, posterior, batch, predictive=False, log_likelihood=values)
    np.testing.assert_array_equal(group(made, "log_likelihood")["y"], values.double())
    with pytest.raises(ValueError, match=r"log_likelihood.*\(2, 100, 30\)"):
        to_arviz(pair, posterior, batch, predictive=False, log_likelihood=values[..., 1:])


def test_what_does_not_fit_is_refused():
    pair, posterior, batch = counts()
    with pytest.raises(ValueError, match="no dim 'featur', did you mean 'feature'"):
        to_arviz(pair, posterior, batch, coords={"featur": [1, 2, 3]}, log_likelihood=False)
    with pytest.raises(ValueError, match="dim 'feature' has 3 entries here, 2"):
        to_arviz(pair, posterior, batch, coords={"feature": [1, 2]}, log_likelihood=False)
    with pytest.raises(ValueError, match="'z' of 30 rows, the data have 10"):
        to_arviz(pair, posterior, batch.select(slice(0, 10)))
