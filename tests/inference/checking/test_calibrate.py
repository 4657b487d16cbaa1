"""Calibration by simulation: what is right is left alone, faults of model, guide, sampler and encoder are caught."""

import json
from typing import ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.checking import simulations, uniformity
from inference.checking.encoded import from_middle, from_places
from inference.checking.refits import Refit
from inference.posterior.latents import Posterior
from zoo.base import Batch, ModelGuide

pytestmark = pytest.mark.usefixtures("double")
REACH, ROWS = 0.7, 4


class Twice(dist.Normal):
    """A density that counts twice; its draws are those of once."""

    def log_prob(self, value):
        return 2 * super().log_prob(value)


class Part(dist.Normal):
    """A density of which every other row's factor is left out."""

    def log_prob(self, value):
        found = super().log_prob(value)
        return found * (torch.arange(found.shape[-1]) % 2)


class Level(ModelGuide):
    """x_n ~ Normal(m, 1), m ~ Normal(0, 0.7): given N of them m ~ Normal(sum x / (N + 1/0.49), 1 / (N + 1/0.49))."""

    dims: ClassVar = {}
    fixed_units = True

    def __init__(self, fault: str = "") -> None:
        super().__init__("normal")
        self.fault = fault
        self.register_buffer("zero", torch.zeros(()))

    def model(self, batch: Batch) -> torch.Tensor:
        before = Twice if self.fault == "twice" else dist.Normal
        m = pyro.sample("m", before(self.zero, REACH))
        of = Part if self.fault == "part" else dist.Normal
        with batch.plate():
            return pyro.sample("x", of(m.expand(batch.size) if m.ndim == 0 else m, 1.0), obs=batch.x)


def calibrated(fault="", n=120, **options):
    return inference.calibrate(Level(fault).double(), n, rows=ROWS, progress=False, **options)


def exactly(shift=0.0, width=1.0, prior=False, some=slice(None)):
    """In the place of a fit: draws of the posterior in closed form, with faults on demand."""

    def refit(self, batch, seed):
        noise = torch.randn(self.draws, generator=torch.Generator().manual_seed(seed + 10**6))
        x = batch.x[some]
        precision = len(x) + REACH**-2
        m = x.sum() / precision + (shift + width * noise) / precision**0.5
        return Refit({"m": REACH * noise if prior else m}, "closed form")

    return refit


def test_infer_is_calibrated_and_its_graph_is_recorded_once(monkeypatch):
    found = calibrated(n=40)
    assert found.verdict == "trust", found
    assert found.roads["Gaussian"] == 40
    assert found.size == 40
    assert set(found.ranks) == {"m", "log likelihood"}
    assert set(found.p) == {"m", "log likelihood", "m by the data", "log likelihood by the data"}
    assert all(ranks.min() >= 0 and ranks.max() <= 99 for ranks in found.ranks.values())


def test_a_prior_that_counts_twice_is_caught():
    found = calibrated("twice")
    assert found.verdict == "do not trust", found
    assert found.findings[0].state == "wrong"


def test_a_likelihood_without_half_of_its_factors_is_caught(monkeypatch):
    """What is left is a posterior too, of half of the data: only the other half can tell (Modrák et al. 2023)."""
    monkeypatch.setattr("inference.checking.refits.Refits.__call__", exactly(some=slice(1, None, 2)))
    found = calibrated("part", n=250)
    assert found.verdict == "do not trust", found
    assert found["ranks of m"].state == found["ranks of log likelihood"].state == "ok"
    assert found["ranks of m by the data"].state == "wrong"


@pytest.mark.slow
def test_by_infer_too():
    assert calibrated("part", n=250)["ranks of m by the data"].state == "wrong"


@pytest.mark.parametrize(("fault", "n"), [("", 80), ("twice", 80), pytest.param("part", 250, marks=pytest.mark.slow)])
def test_chains_through_the_truth_tell_faults_of_the_model(fault, n):
    """No guide is asked, so that none can be to blame."""
    found = calibrated(fault, n=n, road="joint", draws=15)
    assert found.verdict == ("do not trust" if fault else "trust"), found


def test_chains_through_the_truth_need_not_mix():
    """Ranks are uniform even where a chain hardly moves: those of a random place in it are."""
    from inference.checking import joint

    found = []
    with pytest.MonkeyPatch.context() as context:
        context.setattr(joint, "LENGTH", 0.02)
        found = calibrated(n=60, road="joint", draws=9)
    assert found.verdict == "trust", found


FAULTS = {
    "narrow": ({"width": 0.7}, "log likelihood", ""),
    "shifted": ({"shift": 0.5}, "m", "too high"),
    "prior": ({"prior": True}, "log likelihood", ""),
}


@pytest.mark.parametrize("name", FAULTS)
def test_draws_that_are_not_the_posterior_are_caught(name, monkeypatch):
    faults, quantity, words = FAULTS[name]
    monkeypatch.setattr("inference.checking.refits.Refits.__call__", exactly(**faults))
    found = calibrated(n=250)
    assert found.verdict == "do not trust", found
    assert found[f"ranks of {quantity}"].state == "wrong"
    assert words in found[f"ranks of {quantity}"].told
    if name == "prior":  # which latents alone cannot tell, and turned by the data can
        assert found["ranks of m"].state == "ok"
        assert found["ranks of m by the data"].state == "wrong"


def test_a_narrow_guide_in_the_right_place_is_no_bias(monkeypatch):
    """Yao et al. (2018), section 3: what is asked of its place alone."""
    monkeypatch.setattr("inference.checking.refits.Refits.__call__", exactly(width=0.6))
    found = calibrated(n=250, road="fit")
    assert found.bias["m"] > 0.01
    assert found.p["m"] < 0.01
    assert "too narrow" in found["ranks of m"].told
    monkeypatch.setattr("inference.checking.refits.Refits.__call__", exactly(shift=0.5))
    found = calibrated(n=250, road="fit")
    assert found.bias["m"] < 1e-4
    assert found["place of the guide"].state == "wrong"


def test_exact_draws_raise_no_alarm(monkeypatch):
    """At 0.01, of 20 calibrations; the p-value of all quantities together is none too small."""
    monkeypatch.setattr("inference.checking.refits.Refits.__call__", exactly())
    found = [calibrated(n=25, draws=19, seed=1000 * i).p_value for i in range(20)]
    assert sum(p <= 0.01 for p in found) <= 2  # of a binomial number of 20 at 0.01, 0.1 % are more
    assert min(found) < 0.5


def test_simulations_are_kept_and_gone_on_with(tmp_path, monkeypatch):
    whole = calibrated(n=8, draws=19)
    monkeypatch.setattr("inference.checking.refits.Refits.__call__", exactly())
    first = calibrated(n=5, draws=19, folder=tmp_path)
    lines = (tmp_path / "calibration.jsonl").read_text().splitlines()
    assert len(lines) == 6
    (tmp_path / "calibration.jsonl").write_text("\n".join(lines) + '\n{"simulation": 5, "ra')  # cut short
    calls = []
    monkeypatch.setattr(
        "inference.checking.refits.Refits.__call__", lambda *given: calls.append(1) or exactly()(*given)
    )
    second = calibrated(n=8, draws=19, folder=tmp_path)
    assert len(calls) == 3
    assert second.size == whole.size == 8
    np.testing.assert_array_equal(second.ranks["m"][:5], first.ranks["m"])
    at_once = calibrated(n=8, draws=19)
    np.testing.assert_array_equal(second.ranks["m"], at_once.ranks["m"])
    with pytest.raises(ValueError, match=r"folder: .* holds simulations of draws=19, not 9"):
        calibrated(n=8, draws=9, folder=tmp_path)
    (tmp_path / "calibration.jsonl").write_text(json.dumps([1]) + "\n")
    with pytest.raises(ValueError, match=r"is not a file of inference\.calibrate"):
        calibrated(n=8, draws=19, folder=tmp_path)


def test_simulations_that_fail_are_told(monkeypatch):
    right = exactly()

    def sometimes(self, batch, seed):
        if seed % 4 == 0:
            raise inference.SamplingError("no chain can move")
        return right(self, batch, seed)

    monkeypatch.setattr("inference.checking.refits.Refits.__call__", sometimes)
    found = calibrated(n=40)
    assert (found.size, len(found.failed), found.verdict) == (30, 10, "caution")
    assert found["failed simulations"].told == "10 simulations gave no draws: no chain can move"
    assert "no chain can move" in str(found)


@pytest.mark.filterwarnings("ignore")
def test_an_encoder_is_asked_without_a_fit(monkeypatch):
    """Of probabilistic PCA the best encoder is exact; one of other data is not (Tipping & Bishop 1999)."""
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(200, 2, generator=generator) @ torch.randn(2, 6, generator=generator)
    data = data + 0.3 * torch.randn(200, 6, generator=generator)
    pair = zoo.create("gaussian_autoencoder", features=6, latent=2).double()
    inference.fit(pair, data, progress=False)
    monkeypatch.setattr("inference.checking.refits.Refits.__call__", None)
    found = inference.calibrate(pair, 150, progress=False)
    assert found.road == "encoder"
    assert found.verdict == "trust", found
    assert set(found.ranks) == {"z[0]", "z[1]", "log likelihood", "whole code (TARP)", "whole code, from its middle"}
    other = zoo.create("gaussian_autoencoder", features=6, latent=2).double()
    inference.fit(other, data.flip(1), progress=False)
    state = {name: value for name, value in other.state_dict().items() if "encod" in name}
    pair.load_state_dict({**pair.state_dict(), **state})
    assert inference.calibrate(pair, 150, progress=False).verdict == "do not trust"


def _codes(correlated, seed, number=300, draws=60):
    """x = z + noise of unit scale, whose errors go together: codes given x are Normal(x / 2, R / 2), R correlated."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.linalg.cholesky(torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
    x = 2**0.5 * torch.randn(number, 2, generator=generator) @ root.T
    noise = torch.randn(draws + 1, number, 2, generator=generator)
    drawn = noise if not correlated else noise @ root.T
    drawn[0] = noise[0] @ root.T
    codes = x / 2 + drawn / 2**0.5
    return codes, [(far[1:] < far[0]).sum(0).numpy() for far in (from_places(codes, x, seed), from_middle(codes))]


def test_codes_that_are_right_one_by_one_and_wrong_together_are_seen():
    codes, (_, ranks) = _codes(correlated=False, seed=0, number=1000)
    for i in range(2):
        alone = (codes[1:, :, i] < codes[0, :, i]).sum(0).numpy()
        assert uniformity.of_ranks(alone, 60) > 0.01
    assert uniformity.of_ranks(ranks, 60) < 1e-3


def test_exact_codes_raise_no_alarm():
    """At 0.05, of 40: no more than a binomial number reaches once in ten thousand."""
    found = np.array([[uniformity.of_ranks(r, 60) for r in _codes(correlated=True, seed=1 + i)[1]] for i in range(40)])
    assert ((found <= 0.05).sum(0) <= 9).all()


def test_codes_that_leave_the_data_out_are_seen():
    """Places that go with the data see it; distances from places that do not are those of the prior, and uniform."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(81, 300, 2, generator=generator)
    x = z[0] + 0.5 * torch.randn(300, 2, generator=generator)
    distances = from_places(z, x, 0)
    assert uniformity.of_ranks((distances[1:] < distances[0]).sum(0).numpy(), 80) < 1e-3


SEEN = torch.tensor([1.3, 0.2, 0.9, -0.4])


def _given(shift=0.0, width=1.0, count=400):
    """Draws of m given `SEEN`, in closed form."""
    precision = len(SEEN) + REACH**-2
    noise = torch.randn(1, count, generator=torch.Generator().manual_seed(5))
    return Posterior({"m": SEEN.sum() / precision + (shift + width * noise) / precision**0.5}, size=count)


FAR = {"right": ({}, {}), "draws": ({"shift": 1.0}, {}), "refits": ({}, {"width": 0.6}), "wide": ({"width": 2.0}, {})}


@pytest.mark.parametrize("name", FAR)
def test_draws_given_data_are_judged_near_these_data(name, monkeypatch):
    """Posterior SBC: the latents of a right posterior are draws given both what was seen and what they simulate."""
    given, refit = FAR[name]
    monkeypatch.setattr("inference.checking.refits.Refits.__call__", exactly(**refit))
    pair = Level().double()
    posterior = _given(**given)
    found = inference.calibrate(pair, 250, Batch.of(SEEN), posterior=posterior, progress=False)
    assert found.verdict == ("trust" if name == "right" else "do not trust"), found


def test_a_posterior_of_other_latents_or_without_its_data_is_refused():
    with pytest.raises(ValueError, match="draws given data, which are to be given too"):
        inference.calibrate(Level().double(), 2, posterior=_given(), progress=False)
    other = Posterior({"n": torch.zeros(1, 5)}, size=5)
    with pytest.raises(ValueError, match="posterior"):
        inference.calibrate(Level().double(), 2, Batch.of(SEEN), posterior=other, progress=False)


def test_simulations_do_not_depend_on_which_came_before(tmp_path):
    """Nor on where a run was broken off: whether the graph is tried is told by the first alone."""
    whole = calibrated(n=6, draws=19)
    calibrated(n=2, draws=19, folder=tmp_path)
    found = calibrated(n=6, draws=19, folder=tmp_path)
    np.testing.assert_array_equal(found.ranks["m"], whole.ranks["m"])
    assert found.roads == whole.roads


@pytest.mark.slow
def test_processes_give_the_ranks_of_one():
    one, two = (calibrated(n=6, draws=19, workers=workers) for workers in (1, 2))
    for name, ranks in one.ranks.items():
        np.testing.assert_array_equal(two.ranks[name], ranks)
    assert one.roads == two.roads


def test_the_pair_and_random_numbers_are_left_as_they_were(monkeypatch):
    monkeypatch.setattr("inference.checking.refits.Refits.__call__", exactly())
    pair = Level().double()
    before, state = torch.get_rng_state(), {name: value.clone() for name, value in pair.state_dict().items()}
    inference.calibrate(pair, 3, torch.randn(7), draws=9, progress=False)
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    torch.randn(7)
    assert torch.equal(torch.get_rng_state(), after)
    assert not pair.fitted
    assert all(torch.equal(value, state[name]) for name, value in pair.state_dict().items())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n: expected"),
        ({"draws": 0}, "draws: expected"),
        ({"workers": 0}, "workers: expected"),
        ({"road": "north"}, "road: expected 'auto'"),
        ({"road": "encoder"}, "no continuous latent of each row"),
        ({"steps": 5}, "steps: options of"),
        ({"folder": 3}, "folder: expected a path"),
        ({"seed": 0.5}, "seed: expected a whole number"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        inference.calibrate(Level().double(), **{"n": 2, "rows": 4, "progress": False, **options})


def test_ranks_among_ties_are_drawn():
    generator = np.random.default_rng(0)
    found = [simulations.rank(np.array([1.0, 0.0, 1.0, 1.0, 2.0]), generator) for _ in range(400)]
    assert set(found) == {1, 2, 3}


def test_swapped_labels_are_seen():
    """Half of the chains have the components of a mixture in the other order."""
    generator = torch.Generator().manual_seed(0)
    y = torch.cat([torch.randn(40, generator=generator) - 3, torch.randn(40, generator=generator) + 3])

    def mixture(y):
        locs = pyro.sample("locs", dist.Normal(torch.zeros(2), 5.0).to_event(1))
        mixed = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(locs, 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", mixed, obs=y)

    program = zoo.program(mixture)
    centres = torch.stack([y[:40].mean(), y[40:].mean()])
    draws = centres + torch.randn(16, 100, 2, generator=generator) / 40**0.5
    right = inference.Posterior({"locs": draws}, frozenset(), {}, "mcmc", 16, 100)
    assert inference.check(program, right, y).verdict == "trust"
    draws = draws.clone()
    draws[::2] = draws[::2].flip(-1)
    swapped = inference.Posterior({"locs": draws}, frozenset(), {}, "mcmc", 16, 100)
    found = inference.check(program, swapped, y)
    assert found["R-hat"].state == "wrong"
    assert found.verdict == "do not trust"
