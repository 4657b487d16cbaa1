"""`inference.infer`: the road it takes, what it says of it, and that everything takes its draws."""

from __future__ import annotations

import math
import warnings

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from inference.roads.climbing import climb
from inference.roads.grounds import Ground, Inferred, Tried
from inference.roads.judging import judged
from inference.roads.roads import APART, _hopeless, by_gaussian, wanted
from inference.running.deadline import Deadline
from inference.running.quiet import quietly
from inference.sampling import starts
from inference.sampling.chains import SamplingError


def schools(sigma, y):
    mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(y)):
        z = pyro.sample("z", dist.Normal(torch.zeros(()).to(y), 1.0))
        pyro.sample("y", dist.Normal(mu + tau * z, sigma), obs=y)


SIGMA = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18], dtype=torch.float64)
Y = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12], dtype=torch.float64)


@pytest.fixture(scope="module")
def mixture():
    data = zoo.datasets.load("faithful")
    pair = zoo.create("gmm", features=2, components=2, guide="multivariate").double()
    return pair, data, inference.infer(pair, data, progress=False)


def test_a_mixture_goes_by_the_gaussian_road(mixture):
    _, _, posterior = mixture
    assert posterior.road == "Gaussian"
    assert posterior.trusted
    assert [tried.road for tried in posterior.tried] == ["Gaussian"]
    assert repr(posterior).startswith("trust it: Gaussian road, ")
    assert "\n" not in repr(posterior)
    means = posterior["locs"][0].mean(0)
    means = means[means[:, 0].argsort()]
    np.testing.assert_allclose(means[:, 0], [2.03, 4.29], atol=0.05)  # the two kinds of eruptions
    assert posterior.cpu > 0


def test_the_evidence_of_a_pair_is_that_of_both_orders_of_its_components(mixture):
    _, _, posterior = mixture  # components far apart: the weights of one order tell half of it
    assert posterior.log_evidence == pytest.approx(posterior.found.weighed.log_evidence + np.log(2), abs=1e-3)
    assert "labels of 'component' in one of 2 equal orders" in repr(posterior)


def test_the_guide_is_left_at_the_gaussian(mixture):
    pair, data, posterior = mixture
    judged = inference.khat(pair, data)
    assert judged.share > 0.7
    drawn = inference.draw(pair, data, 2000)
    bound = float((drawn.stats["log_p"] - drawn.stats["log_q"]).mean())
    assert bound == pytest.approx(posterior.found.weighed.bound, abs=0.1)


def test_everything_takes_its_draws(mixture, tmp_path):
    pair, data, posterior = mixture
    idata = inference.to_arviz(pair, posterior, data)
    assert np.isfinite(np.asarray(az.summary(idata, var_names=["locs"], kind="stats")["mean"], dtype=float)).all()
    assert inference.predict(pair, posterior, 3)["x"].shape == (1, 1000, 3, 2)
    assert inference.log_likelihood(pair, posterior, data).shape == (1, 1000, 272)
    assert np.isfinite(inference.loo(pair, posterior, data).elpd)
    assert posterior.thin(10).road == "Gaussian"
    pair.save(tmp_path / "geyser")
    again = inference.khat(zoo.load(tmp_path / "geyser"), data)
    assert again.share > 0.7


def test_a_closed_form_is_recognised():
    series = np.random.default_rng(0).normal(size=60).cumsum() * 0.3
    pair = zoo.create("autoregressive", order=1, steps=60).double()
    posterior = inference.infer(pair, series[None], draws=100, progress=False)
    assert posterior.road == "exact"
    assert posterior.trusted
    fitted = zoo.create("autoregressive", order=1, steps=60).double()
    loss = inference.fit(fitted, series[None], progress=False).losses[0]
    assert posterior.log_evidence == pytest.approx(-loss, rel=1e-9)


def test_a_program_takes_the_same_roads():
    posterior = inference.infer(zoo.program(schools), SIGMA, Y, progress=False)
    assert posterior.trusted
    assert abs(float(posterior["mu"].mean()) - 4.39) < 0.1 * 3.3  # posteriordb, eight schools
    assert abs(posterior.log_evidence - -31.3113) < 4 * posterior.error + 0.02  # quadrature


@pytest.mark.slow
def test_where_the_gaussian_falls_short_chains_follow():
    def model():
        pyro.sample("x", dist.StudentT(torch.tensor(2.5, dtype=torch.float64), 0.0, 1.0).expand([3]).to_event(1))

    posterior = inference.infer(zoo.program(model), progress=False)
    assert [tried.road for tried in posterior.tried] == ["Gaussian", "Hamiltonian"]
    assert posterior.road == "Hamiltonian"
    assert "before it Gaussian (" in repr(posterior)


def made(value, limit=1.0, **more):
    return Inferred({"x": torch.zeros(1, 2)}, chains=1, size=2, grounds=(Ground("R-hat", value, limit),), **more)


def test_the_best_road_is_kept_where_none_holds():
    found = climb("p", [("one", lambda rest: made(2.0)), ("two", lambda rest: made(1.5))], Deadline())
    assert not found.trusted
    assert found.road == "two"
    assert repr(found).startswith("do not trust: two road")
    assert "R-hat 1.5 > 1" in repr(found)
    assert "one (R-hat 2 > 1" in repr(found)


def test_a_road_that_fails_is_told_and_the_next_one_taken():
    def fails(rest):
        raise SamplingError("no start")

    found = climb("p", [("one", fails), ("none", lambda rest: None), ("two", lambda rest: made(0.5))], Deadline())
    assert found.trusted
    assert [tried.failed for tried in found.tried] == ["no start", ""]
    with pytest.raises(SamplingError, match=r"p: no road led to a posterior: one \(no start"):
        climb("p", [("one", fails)], Deadline())


def test_a_budget_keeps_the_best_and_says_what_is_missing():
    found = climb("p", [("one", lambda rest: made(2.0)), ("two", lambda rest: made(0.5))], Deadline(1e-9))
    assert found.road == "one"
    assert "left no time for the two road: give it more" in found.advice


def test_chains_are_not_run_where_labels_switch_between_modes_and_particles_do_not_change_that():
    ground, other = Ground(APART, 3, 0), Ground("R-hat of runs", 1.8, 1.01)
    tried = [Tried("Gaussian", (ground,)), Tried("tempered", (other,))]
    assert wanted("tempered", tried[:1])
    assert not wanted("Hamiltonian", tried[:1])
    assert not wanted("Hamiltonian", tried)  # of 64 chains each would stay in the mode where it began, for minutes
    assert wanted("Hamiltonian", [Tried("Gaussian", (other,))])


def centred(sigma, y):
    mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def test_chains_cut_short_cannot_be_judged_and_do_not_take_the_place_of_what_can():
    """One, two and three draws of each chain: R-hat needs four."""
    program = zoo.program(centred)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so short a warm-up has not settled
        for count in (1, 2, 3):
            found = judged(inference.sample(program, SIGMA, Y, draws=count, chains=2, max_warmup=8, progress=False))
            assert not any(ground.holds for ground in found.grounds if ground.name in ("R-hat", "bulk ESS", "tail ESS"))
            kept = climb(
                "p", [("one", lambda rest: made(2.0, road="one")), ("two", lambda rest, f=found: f)], Deadline(3600.0)
            )
            assert kept.road == "one"
            assert not kept.trusted
            assert f"the two road ended with {count} draws a chain, too few" in kept.advice.lower()
            assert "the budget of 3600 s cut it short, give it more" in kept.advice
            alone = climb("p", [("two", lambda rest, f=found: f)], Deadline())
            assert alone.road == "two"
            assert not alone.trusted


def test_a_budget_ends_the_gaussian_road_too_and_it_says_where():
    with quietly(0):
        density = ProgramPotential(outline(zoo.program(schools), (SIGMA, Y), {}))
        whole, _ = by_gaussian(density, starts.centre(density, {}), 500, 0)
        found, gaussian = by_gaussian(density, starts.centre(density, {}), 500, 0, rest=1e-9)
    assert gaussian.cut.startswith("its Newton paths were not walked to the end")
    assert gaussian.points < 0.5 * whole.found.points
    assert found.advice.startswith("the budget ended the Gaussian road: its Newton paths")
    lacking = [ground.name for ground in found.grounds if not ground.holds]
    assert "other modes may hold" in lacking  # nobody looked
    assert all(ground.holds for ground in whole.grounds)
    assert whole.log_evidence == pytest.approx(-31.33, abs=0.1)  # by quadrature; cut short, it is near that too
    assert found.log_evidence == pytest.approx(-31.33, abs=1.0)


def test_a_scale_that_runs_away_is_named():
    rng = np.random.default_rng(0)
    wide = torch.as_tensor(np.exp(rng.uniform(-60, 0, (2, 500))))  # as draws of a density 1 / tau go
    heavy = torch.as_tensor(np.abs(rng.standard_cauchy((2, 500))))  # half-Cauchy: a proper one of heavy tails
    either = torch.as_tensor(rng.normal(size=(2, 500, 3)) * 1e12)
    bad = (Ground("R-hat", 2.0, 1.01),)
    draws = {"tau": wide, "sigma": heavy, "x": either}
    found = Inferred(draws, method="mcmc", chains=2, size=500, grounds=bad)
    told = climb("p", [("one", lambda rest: found)], Deadline()).advice
    assert told.startswith("'tau' runs away, from ")
    assert told.endswith("is its prior proper, and do the data bound it?")
    assert "sigma" not in told
    assert "'x'" not in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget": -1}, "budget"),
        ({"budget": "long"}, "budget"),
        ({"draws": 0}, "draws"),
        ({"progress": 1}, "progress"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        inference.infer(zoo.create("gmm", features=2), zoo.datasets.load("faithful"), **options)


def test_the_constants_of_the_data_are_those_of_every_road():
    """A mixture whose prior is in units of the data: of a x the density is that of x over a, and so is the evidence."""
    x = zoo.datasets.load("faithful").x.double()[:60, 1:]
    found = []
    for unit in (1.0, 1000.0):
        pair = zoo.create("gmm", features=1, components=1).double()
        found.append(inference.infer(pair, unit * x + unit, progress=False))
        assert float(pair.loc) == pytest.approx(unit * float(x.median()) + unit, rel=0.1)
    one, other = found
    assert one.road == other.road == "Gaussian"
    shift = len(x) * np.log(1000.0)
    assert other.log_evidence == pytest.approx(
        one.log_evidence - shift, abs=4 * float(np.hypot(one.error, other.error)) + 1e-3
    )
    assert float(other["locs"].mean()) == pytest.approx(1000 * float(one["locs"].mean()), rel=1e-3)


def test_a_gaussian_road_that_fails_leaves_the_constants_of_the_data(monkeypatch):
    def fails(*args, **kwargs):
        raise SamplingError("no start")

    monkeypatch.setattr("inference.roads.infer._exact", lambda *args: None)  # as of a pair with latents of each row
    monkeypatch.setattr("inference.roads.infer.by_gaussian", fails)
    x = torch.randn(40, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 5 + 1000
    pair = zoo.create("gmm", features=1, components=1).double()
    found = inference.infer(pair, x, draws=300, progress=False)
    assert found.road == "Hamiltonian"
    assert float(pair.loc) == pytest.approx(float(x.median()), abs=2 * float(x.std()))
    assert float(found["locs"].mean()) == pytest.approx(float(x.mean()), abs=float(x.std()) / 4)


@pytest.mark.parametrize(
    ("draws", "error", "hopeless"), [(229, 0.044, False), (60, 1.5, False), (15, 0.1, True), (400, math.nan, True)]
)
def test_whether_more_particles_are_tried_is_counted_and_not_timed(draws, error, hopeless):
    """229 and 0.044 are those of three states of the earthquakes, which four times the particles bring to 400."""
    grounds = (Ground("effective draws", draws, 400, least=True), Ground("error of the log evidence", error, 0.1))
    assert _hopeless(Inferred({"x": torch.zeros(1, 2)}, chains=1, size=2, grounds=grounds)) is hopeless
