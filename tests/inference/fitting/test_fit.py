"""fit: what its options do, how it stops, and what it refuses."""

from __future__ import annotations

import math
import threading
import time
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import inference
import zoo
from inference.data.check import as_batch
from inference.fitting.loop import NonFiniteError
from inference.fitting.objective import choose
from inference.running.densities import UnsupportedGuide, run
from tests.helpers.pairs import Coded, Normal, data

QUICK = {"progress": False, "device": "cpu"}


def exact(x):
    """Mean and standard deviation of the posterior of `Normal`."""
    precision = len(x) + 1 / 4
    return float(x.sum()) / precision, precision**-0.5


def test_the_known_posterior_is_reached_by_every_guide_with_a_density():
    x = data().double()
    mean, sd = exact(x)
    for family in ("normal", "multivariate", "laplace"):
        pair = Normal(guide=family).double()
        fit = inference.fit(pair, x, initialise=False, **QUICK)  # else the search would start there, but for Laplace
        draws = inference.draw(pair, x, 4000)["loc"]
        assert fit.reason == "the ELBO has converged"
        assert float(draws.mean()) == pytest.approx(mean, abs=4 * sd / 4000**0.5 + 0.1 * sd)
        assert float(draws.std()) == pytest.approx(sd, rel=0.1)


class Narrow(Normal):
    """The same with a likelihood 2,000 times narrower: the posterior is far narrower than any guide's start."""

    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.zero, 2.0))
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc, 0.0005), obs=batch.x)


def test_a_narrow_posterior_is_not_taken_for_converged_too_early():
    x = 1.5 + 0.0005 * (data().double() - 1.5)
    pair = Narrow().double()
    inference.fit(pair, x, **QUICK)
    draws, sd = inference.draw(pair, x, 4000)["loc"], 0.0005 / 40**0.5
    assert float(draws.mean()) == pytest.approx(float(x.mean()), abs=4 * sd / 4000**0.5 + 0.15 * sd)
    assert float(draws.std()) == pytest.approx(sd, rel=0.15)


class Unplaced(Normal):
    """The same, and says itself that it knows no start: there is no search for one, and no width."""

    def initial(self, batch):
        return {}


def test_after_a_third_of_known_steps_the_guides_own_width_is_their_unit():
    """Once: what moved it by a part of the unit it had at first then moves it by that part of its width."""
    pair, units, widths = Unplaced().double(), [], []

    def look(step, loss, fitted):
        units.append(float(fitted.automatic.unit))
        widths.append(float(fitted.automatic.get_posterior().stddev.detach()))

    inference.fit(pair, data().double(), steps=30, lr=0.05, callbacks=[look], compile="off", **QUICK)
    assert [step for step in range(1, 30) if units[step] != units[step - 1]] == [11]
    assert units[11] * zoo.guides.WIDTH == pytest.approx(widths[10], rel=1e-6)
    assert widths[11] == pytest.approx(widths[10], rel=0.1)  # one step further
    assert widths[10] < 0.95 * widths[0]


def test_laplace_is_exact_for_a_gaussian_posterior_and_survives_saving():
    x = data().double()
    mean, sd = exact(x)
    pair = Normal(guide="laplace").double()
    inference.fit(pair, x, steps=30, **QUICK)
    assert pair.auto.loc.item() == pytest.approx(mean, abs=1e-8)
    assert float(pair.auto.scale_tril) == pytest.approx(sd, rel=1e-6)
    other = Normal(guide="laplace").double()
    other.load_state_dict(pair.state_dict())
    assert torch.equal(inference.draw(other, x, 5)["loc"], inference.draw(pair, x, 5)["loc"])


def test_graph_and_off_end_at_the_same_elbo():
    x = data()
    ends = []
    for mode in ("graph", "off"):
        torch.manual_seed(1)
        pair = Normal()
        fit = inference.fit(pair, x, steps=300, compile=mode, **QUICK)
        assert fit.compile == mode
        ends.append(fit.losses)
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-4)


def test_auto_traces_long_runs_only():
    assert inference.fit(Normal(), data(), steps=5, **QUICK).compile == "off"
    long = inference.fit(Normal(), data(), steps=200, **QUICK)
    assert long.compile == "graph"
    assert long.trace_seconds > 0


@pytest.mark.parametrize(
    ("name", "options"),
    [("gmm", {"steps": 3}), ("gmm", {"method": "em"}), ("polynomial_regression", {})],  # the last takes no steps
)
def test_seconds_are_those_of_the_clock_around_the_fit(name, options):
    pair = zoo.create(name)
    batch, _ = pair.simulate(20)
    began = time.perf_counter()
    result = inference.fit(pair, batch, **options, **QUICK)
    whole = time.perf_counter() - began
    assert 0 < result.seconds <= whole


class Branching(Normal):
    """Its model branches on a drawn value, which no graph can hold."""

    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.zero, 2.0))
        shift = 1.0 if loc > 100 else 0.0
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc + shift, 1.0), obs=batch.x)


def test_a_model_that_cannot_be_traced_falls_back_with_one_warning():
    with pytest.warns(UserWarning, match="fitting with plain Pyro instead") as caught:
        fit = inference.fit(Branching(), data(), steps=250, **QUICK)
    assert len(caught) == 1
    assert fit.compile == "off"
    with pytest.raises(RuntimeError, match="cannot be traced"):
        inference.fit(Branching(), data(), steps=250, compile="graph", **QUICK)


class ScoreFunction(Normal):
    """A discrete latent that the guide samples: no reparameterised draw."""

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(()))

    def model(self, batch):
        kind = pyro.sample("kind", dist.Bernoulli(0.5 + 0 * self.zero))
        with batch.plate():
            return pyro.sample("x", dist.Normal(2 * kind, 1.0), obs=batch.x)

    def guide(self, batch):
        pyro.sample("kind", dist.Bernoulli(logits=self.logit))


def test_score_function_guides_run_on_plain_pyro_and_are_refused_by_name_in_a_graph():
    pair = ScoreFunction()
    assert np.isfinite(inference.fit(pair, data(), steps=20, compile="off", **QUICK).losses).all()
    with pytest.raises(UnsupportedGuide, match="'kind'"):
        inference.fit(pair, data(), steps=20, compile="graph", **QUICK)


def test_a_discrete_latent_that_nobody_sums_out_is_an_error_by_name():
    class Left(Normal):
        def model(self, batch):
            with batch.plate():
                kind = pyro.sample("kind", dist.Bernoulli(0.5 + 0 * self.zero))
                return pyro.sample("x", dist.Normal(2 * kind, 1.0), obs=batch.x)

    with pytest.raises(ValueError, match=r"discrete site 'kind' is neither sampled.*mark it infer=\{'enumerate'"):
        inference.fit(Left(), data(), steps=2, **QUICK)


class Breaking(Normal):
    """The likelihood turns NaN once `loc` passes 0.5."""

    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.zero, 2.0))
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc / (loc < 0.5), 1.0), obs=batch.x)


@pytest.mark.parametrize("mode", ["graph", "off"])
def test_a_step_that_is_not_finite_is_never_applied_and_the_site_is_named(mode):
    pair = Breaking()
    with torch.no_grad():
        pair.auto.centre.fill_(0.0)
    with pyro.validation_enabled(False), pytest.raises(NonFiniteError, match=r"site 'x'.*last good step"):
        inference.fit(pair, data() + 50, steps=2000, lr=0.05, compile=mode, **QUICK)
    assert all(torch.isfinite(value).all() for value in pair.state_dict().values())


def test_validation_stops_early_and_keeps_the_best():
    torch.manual_seed(0)
    pair, kept = Coded(), {}
    noise = np.random.default_rng(0).normal(size=(60, 4))

    def keep(step, loss, fitted):
        kept[step + 1] = {name: p.detach().clone() for name, p in fitted.named_parameters()}

    fit = inference.fit(
        pair, noise, steps=5000, lr=0.05, validation=0.5, patience=5, schedule="constant", callbacks=[keep], **QUICK
    )
    assert "validation has not improved in 5 evaluations" in fit.reason
    scores = [score for _, score in fit.validation]
    assert fit.steps < 5000
    assert np.argmin(scores) == len(scores) - 6
    best = kept[fit.validation[-6][0]]
    assert all(torch.equal(p, best[name]) for name, p in pair.named_parameters())
    other = inference.fit(Coded(), noise[:30], steps=200, validation=noise[30:], **QUICK)
    assert len(other.validation) == 2


def test_annealing_and_free_bits_keep_the_code_alive():
    batch = as_batch(Coded(), torch.randn(64, 4))
    pair = Coded()
    terms = run(pair, batch, analytic=True)
    kl = terms.local_kl["z"].mean(0).clamp(min=0.7).sum().item()
    torch.manual_seed(0)
    floored = float(choose(pair, batch, free_bits=0.7).loss(pair, batch))
    torch.manual_seed(0)
    free = float(choose(pair, batch).loss(pair, batch, kl_weight=0.0))
    assert floored - free == pytest.approx(64 * kl, rel=1e-4)
    torch.manual_seed(0)
    half = float(choose(pair, batch).loss(pair, batch, kl_weight=0.5))
    torch.manual_seed(0)
    whole = float(choose(pair, batch).loss(pair, batch))
    assert half == pytest.approx((free + whole) / 2, rel=1e-5)
    assert inference.fit(pair, batch, steps=300, anneal=100, free_bits=0.1, **QUICK).compile == "graph"


def test_iwae_is_tighter_than_the_elbo_and_tightens_with_particles():
    torch.manual_seed(0)
    pair, x = Coded(), torch.randn(200, 4)
    batch = as_batch(pair, x)
    with torch.no_grad():
        bounds = [-float(choose(pair, batch, "iwae", k).loss(pair, batch)) for k in (2, 20, 200)]
        elbo = -np.mean([float(choose(pair, batch).loss(pair, batch)) for _ in range(20)])
    assert elbo < bounds[0] < bounds[1] < bounds[2]
    with pytest.raises(ValueError, match="iwae needs at least 2"):
        inference.fit(pair, x, objective="iwae", particles=1, **QUICK)
    with pytest.raises(ValueError, match="batch_size=len"):
        inference.fit(Normal(), data(), objective="iwae", batch_size=8, **QUICK)


def test_the_estimator_follows_the_trace():
    def chosen(pair):
        return choose(pair, pair.simulate(3)[0]).estimator

    assert chosen(Coded()) == "mean_field"
    assert chosen(Normal()) == "trace"
    assert chosen(zoo.create("gmm")) == "enumerate"


def test_fitting_again_goes_on_and_initialise_starts_over():
    x = zoo.datasets.load("faithful")
    torch.manual_seed(0)
    pair = zoo.create("gmm", features=2, components=2)
    inference.fit(pair, x, steps=200, **QUICK)
    ended = {name: value.clone() for name, value in pair.state_dict().items()}
    inference.fit(pair, x, steps=1, lr=1e-9, **QUICK)
    assert all(torch.allclose(value, ended[name], atol=1e-6) for name, value in pair.state_dict().items())
    inference.fit(pair, x, steps=1, lr=1e-9, initialise=True, **QUICK)
    assert not all(torch.allclose(value, ended[name], atol=1e-3) for name, value in pair.state_dict().items())


def test_callbacks_see_every_step_and_can_stop():
    seen = []
    fit = inference.fit(
        Normal(), data(), steps=50, callbacks=[lambda step, loss, pair: seen.append(loss) or step == 9], **QUICK
    )
    assert fit.steps == 10
    assert fit.reason == "stopped by a callback"
    assert seen == list(fit.losses)


def test_an_interrupt_keeps_what_is_done():
    def stop(step, loss, pair):
        if step == 5:
            raise KeyboardInterrupt

    fit = inference.fit(Normal(), data(), steps=50, callbacks=[stop], **QUICK)
    assert fit.reason == "interrupted"
    assert fit.steps == 6


def test_threads_queue_and_end_where_each_ends_alone():
    def work(seed, out):
        pair = pairs[seed]
        inference.fit(pair, data(seed=seed), steps=40, seed=seed, compile="off", **QUICK)
        out[seed] = pair.state_dict()

    results = []
    for together in (False, True):
        pairs = []
        for seed in range(3):
            torch.manual_seed(seed)
            pairs.append(Normal())
        out = {}
        threads = [threading.Thread(target=work, args=(seed, out)) for seed in range(3)]
        for thread in threads:
            thread.start()
            if not together:
                thread.join()
        for thread in threads:
            thread.join()
        results.append(out)
    for seed in range(3):
        assert all(torch.equal(results[0][seed][k], results[1][seed][k]) for k in results[0][seed])


def test_options_out_of_range_are_refused_by_name():
    for option, value in {
        "steps": 0,
        "epochs": -1,
        "batch_size": 0,
        "lr": math.nan,
        "schedule": "linear",
        "compile": "jit",
        "average": 2.0,
        "free_bits": -1.0,
        "validation": 1.0,
        "particles": 0,
        "objective": "vimco",
    }.items():
        with pytest.raises(ValueError, match=option):
            inference.fit(Normal(), data(), **{option: value}, **QUICK)
    with pytest.raises(ValueError, match="epochs or steps, not both"):
        inference.fit(Normal(), data(), steps=1, epochs=1, **QUICK)


def test_nothing_global_is_changed():
    validating = torch.distributions.Distribution._validate_args
    inference.fit(Normal(), data(), steps=250, **QUICK)
    assert torch.distributions.Distribution._validate_args == validating
    assert pyro.settings.get("validate_distributions_pyro") == validating
    assert torch.is_grad_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inference.fit(Normal(), data(), steps=3, compile="off", **QUICK)


def test_em_places_the_guide_at_the_mode_with_the_widths_of_the_curvature():
    data = zoo.datasets.load("faithful")
    pair = zoo.create("gmm", components=2, guide="multivariate").double()
    fit = inference.fit(pair, data, method="em", **QUICK)
    assert fit.losses[-1] <= fit.losses[0]
    assert (np.diff(fit.losses) < 1e-9).all(), "EM never falls"
    em = inference.draw(pair, data, 500)
    longer = zoo.create("gmm", components=2, guide="multivariate").double()
    inference.fit(longer, data, steps=500, **QUICK)
    svi = inference.draw(longer, data, 500)
    for name in ("weights", "locs", "scales"):
        one, other = (draws[name].sort(-1).values if name == "weights" else draws[name] for draws in (em, svi))
        assert (one.mean((0, 1)) - other.mean((0, 1))).abs().max() < 1.5 * other.std((0, 1)).max()


def test_em_is_refused_by_name_where_a_pair_has_none():
    with pytest.raises(ValueError, match="has no expectation-maximisation"):
        inference.fit(Normal(), data(), method="em", **QUICK)
    with pytest.raises(ValueError, match="needs an automatic guide"):
        inference.fit(Coded(), torch.randn(20, 4), method="em", **QUICK)
