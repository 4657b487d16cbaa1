"""Faults planted in models, fits and data are caught by `inference.check`, and the same without them are left alone."""

import math
from functools import partial
from typing import ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.checking.bounds import of_bound, of_gap, of_idle, of_scale
from inference.checking.held_out import of_scores, of_twins
from inference.checking.parts import belongs
from inference.checking.restarts import of_restarts
from inference.data.check import check
from inference.posterior.latents import Posterior
from tests.campaigns.silence import silence
from zoo.base import Batch, ModelGuide

pytestmark = pytest.mark.usefixtures("double")


class Mean(ModelGuide):
    """x_n ~ Normal(m, 1), m ~ Normal(0, 5), with faults on demand."""

    dims: ClassVar = {}

    def __init__(self, fault: str = "") -> None:
        super().__init__("normal")
        self.fault = fault
        self.register_buffer("zero", torch.zeros(()))

    def model(self, batch: Batch) -> torch.Tensor:
        m = pyro.sample("m", dist.Normal(self.zero, 5.0))
        # the fault: a plate of the batch alone, without the rows that it stands for
        plate = pyro.plate("data", batch.size, dim=-1) if self.fault == "scale" else batch.plate()
        with plate:
            return pyro.sample("x", dist.Normal(m, 1.0), obs=batch.x)


def rows(count=60, seed=0, shift=1.0):
    return shift + torch.randn(count, generator=torch.Generator().manual_seed(seed))


def fitted(**config):
    pair = Mean(**config).double()
    inference.fit(pair, Batch.of(rows()), progress=False)
    return pair


def test_a_model_that_is_right_is_left_alone():
    found = inference.check(fitted(), Batch.of(rows()), held_out=Batch.of(rows(40, seed=1)))
    assert found.verdict == "trust", found
    for name in ("scale of minibatches", "bound on the evidence", "rows in fit and test", "held-out score"):
        assert found[name].state == "ok", found[name]


def test_some_of_many_rows_stand_for_all_and_the_same_seed_gives_the_same_bits():
    data = Batch.of(rows(3000))
    pair = Mean().double()
    inference.fit(pair, data, progress=False)
    first, again = (inference.check(pair, data) for _ in range(2))
    assert [(f.name, f.told) for f in first] == [(f.name, f.told) for f in again]
    assert "of 250 (of 3,000) observations" in first["leave-one-out"].told
    elpd = float(first["leave-one-out"].told.split("elpd ")[1].split(" ")[0])
    whole = inference.loo(pair, inference.draw(pair, data, 1000), data)
    assert abs(elpd - whole.elpd) < 4 * whole.pointwise.std() / 250**0.5 * 3000


def test_draws_of_other_data_are_told():
    """Their own densities still say that the guide is exact."""
    pair, data = fitted(), Batch.of(rows())
    draws = {"guide": inference.draw(pair, data, 200), "chains": inference.sample(pair, data, 60, progress=False)}
    for posterior in (*draws.values(), inference.infer(pair, data, progress=False)):
        names = [finding.name for finding in inference.check(pair, data, posterior, run=False)]
        assert "posterior and data" not in names
    for posterior in draws.values():
        for other in (rows()[:30], rows(seed=5)):
            found = inference.check(pair, Batch.of(other), posterior, run=False)
            assert found["posterior and data"].state == "wrong"
            assert found.verdict == "do not trust"


def test_too_few_draws_are_no_fault_of_the_predictions():
    found = inference.check(fitted(), Batch.of(rows()), inference.draw(fitted(), Batch.of(rows()), 5), run=False)
    assert found["coverage of 'x'"].state == "could not be judged"
    assert found.verdict == "caution"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["gmm", "hmm", "bayesian_network", "naive_bayes", "support_vector_machine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_of_these_data_are_known_as_such(name, dtype):
    pair = zoo.create(name, dtype=dtype)
    torch.manual_seed(0)
    data, _ = pair.simulate(60)
    inference.fit(pair, data, steps=20, progress=False)
    given = check(pair, data)
    for posterior in (inference.draw(pair, data, 50), inference.resample(inference.draw(pair, data, 50))):
        assert not list(belongs(pair, given, posterior, 0))


def test_a_guide_that_is_narrow_is_caught_within_the_work_of_a_short_fit():
    """Its k̂ is fine: only chains see it."""
    pair, data = fitted(), Batch.of(rows())
    posterior = inference.draw(pair, data, 1000)
    width = 0.7
    m = posterior.draws["m"]
    narrow = m.mean() + width * (m - m.mean())
    log_q = posterior.stats["log_q"] - math.log(width)  # the same z of another scale
    log_p = -0.5 * (narrow / 5) ** 2 - 0.5 * (data.x - narrow[..., None]).square().sum(-1)
    wrong = Posterior({"m": narrow}, frozenset(), {"log_p": log_p, "log_q": log_q}, "svi", 1, 1000)
    for steps in (30, 3000):
        pair.card["fit"] |= {"steps": steps, "batch_size": 60}
        assert inference.check(pair, data, wrong)["a short Hamiltonian run"].state == "wrong"


def test_a_scale_of_minibatches_that_is_lost_is_caught():
    found = inference.check(fitted(fault="scale"), Batch.of(rows()))
    assert found["scale of minibatches"].state == "wrong"
    assert found.verdict == "do not trust"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", zoo.names())
def test_every_pair_weighs_its_rows_alike(name):
    """Rows of all pairs keep their density in parts of the data."""
    pair = zoo.create(name, dtype=torch.float64)
    torch.manual_seed(0)
    (found,) = of_scale(check(pair, pair.simulate(8)[0]))
    assert found.state == "ok", found


def test_a_bound_above_the_evidence_is_an_error():
    """Of Normal draws log p - log q = c - z^2 / 8, say, the evidence is known: c + log E[exp(-z^2 / 8)]."""
    z = np.random.default_rng(0).standard_normal(4000)
    ratios = -10 - z**2 / 8
    evidence = -10 - 0.5 * math.log(1.25)
    (found,) = of_bound(ratios, evidence, 0.0)
    assert found.state == "ok"
    assert found.value == pytest.approx(-10 - 1 / 8, abs=0.02)
    assert f"importance-weighted {evidence:.1f}"[:26] in found.told
    (found,) = of_bound(ratios + 1, evidence, 0.0)  # a density counted twice
    assert found.state == "wrong"
    (found,) = of_bound(ratios, math.nan, math.nan, reported=-9.0)
    assert found.state == "wrong"
    assert "that the fit reported" in found.told


def test_a_fit_that_reports_too_much_is_caught():
    pair = fitted()
    pair.card["metrics"]["elbo_per_observation"] += 0.2
    found = inference.check(pair, Batch.of(rows()))
    assert found["bound on the evidence"].state == "wrong"
    assert found.verdict == "do not trust"


def test_test_data_that_leaked_into_the_fit_are_caught():
    data = rows()
    pair = fitted()
    mixed = torch.cat([data[:20], rows(20, seed=3)])
    found = inference.check(pair, Batch.of(data), held_out=Batch.of(mixed))
    assert found["rows in fit and test"].state == "wrong"
    assert found["rows in fit and test"].value == 0.5
    assert found.verdict == "do not trust"
    far = inference.check(pair, Batch.of(data), held_out=Batch.of(rows(40, seed=1, shift=3.0)))
    assert far["held-out score"].state == "look"


def test_twins_that_data_have_anyway_are_no_leak():
    coins = np.random.default_rng(0).integers(0, 2, (2, 200, 3))
    first, second = ({"x": torch.from_numpy(one).double()} for one in coins)
    (found,) = of_twins(first, second)
    assert found.state == "ok"
    assert found.value == 1.0


def test_scores_of_one_population_agree():
    generator = np.random.default_rng(1)
    away = [next(of_scores(generator.standard_normal(50), generator.standard_normal(30))).value for _ in range(400)]
    assert np.std(away) == pytest.approx(1.0, abs=0.15)  # a standard error is one
    (found,) = of_scores(generator.standard_normal(500) - 1, generator.standard_normal(100))
    assert (found.state, found.advice) == ("look", "Are rows of the test among those of the fit?")


@pytest.mark.filterwarnings("ignore")
def test_an_encoder_trained_on_other_data_is_caught():
    """Of the best linear encoder the gap is nothing; of one that belongs to other data nearly all there is."""
    generator = torch.Generator().manual_seed(0)
    loadings = torch.randn(2, 6, generator=generator)
    data = torch.randn(200, 2, generator=generator) @ loadings + 0.3 * torch.randn(200, 6, generator=generator)
    pair = zoo.create("gaussian_autoencoder", features=6, latent=2).double()
    inference.fit(pair, data, progress=False)
    assert inference.check(pair, data)["amortisation gap"].state == "ok"
    other = zoo.create("gaussian_autoencoder", features=6, latent=2).double()
    inference.fit(other, data.flip(1), progress=False)
    state = {name: value for name, value in other.state_dict().items() if "encod" in name}
    assert state
    pair.load_state_dict({**pair.state_dict(), **state})
    found = inference.check(pair, data)
    assert found["amortisation gap"].state == "look"
    assert found["guides of the rows"].state == "wrong"
    assert found.verdict == "do not trust"


def test_gaps_are_held_against_what_codes_say():
    small, large = torch.full((20,), 0.01), torch.full((20,), 0.5)
    first, second = of_gap(small, large, 1.0)
    assert (first.state, second.state) == ("ok", "look")
    assert second.value == pytest.approx(0.5)


def test_components_that_hold_nothing_are_told():
    (found,) = of_idle("states", torch.tensor([20.0, 0.3, 5.0]))
    assert found.state == "look"
    assert "1 of 3" in found.told
    generator = torch.Generator().manual_seed(0)
    data = torch.cat([torch.randn(60, 1, generator=generator), 8 + torch.randn(60, 1, generator=generator)])
    pair = zoo.create("gmm", features=1, components=2).double()
    inference.fit(pair, data, progress=False)
    (held,) = (finding for finding in inference.check(pair, data, run=False) if finding.name.startswith("idle"))
    assert held.state == "ok"
    assert "each of 2" in held.told


class Mirrored(ModelGuide):
    """x_n ~ Normal(m^2, 1): m and -m are as likely, and a normal guide ends at either."""

    dims: ClassVar = {}

    def __init__(self) -> None:
        super().__init__("normal")
        self.register_buffer("zero", torch.zeros(()))

    def initial(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"m": 2 * torch.randn(())}

    def model(self, batch: Batch) -> torch.Tensor:
        m = pyro.sample("m", dist.Normal(self.zero, 5.0))
        with batch.plate():
            return pyro.sample("x", dist.Normal(m.square(), 1.0), obs=batch.x)


def test_fits_that_end_at_different_guides_are_seen(monkeypatch):
    pair, data = Mirrored().double(), Batch.of(rows(shift=4.0))
    monkeypatch.setattr("inference.checking.restarts.fit", partial(inference.fit, steps=60))
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    (found,) = of_restarts(pair, check(pair, data), 5, 0)
    assert found.state == "wrong"
    assert found.value > 2  # some at 2 and some at -2
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    with pytest.raises(ValueError, match="restarts: expected 2 or more"):
        inference.check(pair, data, restarts=1)


@pytest.mark.slow
def test_fits_that_end_at_one_guide_are_left_alone():
    found = inference.check(fitted(), Batch.of(rows()), restarts=3, run=False)
    assert found["restarts"].state == "ok", found["restarts"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", zoo.names())
def test_false_alarms_come_at_the_nominal_rate(name):
    found = silence(name, seconds=40)  # `python -m tests.campaigns.silence` takes 200 data sets, and hours
    assert found.judged + found.untrusted
    assert not found.wrong, str(found)
