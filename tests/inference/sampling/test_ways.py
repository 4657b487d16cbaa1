"""Ways to run chains: as a graph or as plain Pyro, from any start, thinned, interrupted, or not at all."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.sampling.sample import SamplingError, sample
from tests.helpers.pairs import Coded
from tests.helpers.sampling import QUICK, Normals, data_of, interrupted_after, short, z_scores
from zoo.base import ModelGuide


@short
def test_graph_and_plain_pyro_walk_the_same_way():
    pair, data = Normals().double(), torch.linspace(0, 1, 5)
    options = {"draws": 20, "chains": 4, "max_warmup": 20, **QUICK}
    graph = sample(pair, data, compile="graph", **options)
    plain, other = (sample(pair, data, compile="off", seed=seed, **options) for seed in (0, 1))
    torch.testing.assert_close(graph["loc"], plain["loc"])
    assert (graph.compile, plain.compile) == ("graph", "off")
    assert not torch.equal(plain["loc"], other["loc"])


@short
def test_seeds_reproduce_and_the_random_state_of_the_caller_stays():
    pair, data = Normals(), torch.linspace(0, 1, 5)
    before = torch.get_rng_state()
    one, other = (sample(pair, data, 10, 4, max_warmup=20, **QUICK) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one["loc"], other["loc"])
    assert one["loc"].dtype == torch.float32


@pytest.mark.parametrize("start", ["prior", "jitter", "guide"])
def test_every_start_ends_in_the_same_posterior(start):
    pair, data = Normals().double(), torch.linspace(-3, 5, 20).double()
    if start == "guide":
        inference.fit(pair, data, steps=200, **QUICK)
    found = sample(pair, data, 150, start=start, **QUICK)
    precision = 1 / 9 + 20 / 4
    assert z_scores(found["loc"], (1 / 9 + data.sum() / 4) / precision) < 4


def test_few_chains_do():
    found = sample(Normals().double(), torch.linspace(-3, 5, 20).double(), 600, 4, **QUICK)
    assert found["loc"].shape == (4, 600)
    assert found.rhat["loc"] < 1.01


@short
@pytest.mark.parametrize(("chains", "most"), [(1, 1), (2, 2), (2, 5)])
def test_hardly_any_warm_up_leaves_chains_that_move(chains, most):
    """From one draw or two no scale can be told."""
    torch.manual_seed(0)
    found = sample(Coded(), torch.randn(20, 4), 5, chains, max_warmup=most, **QUICK)
    assert (found["z"][:, -1] != found["z"][:, 0]).any()
    assert 0.01 < found.step_size < 10


def test_nuts_agrees():
    pair, data = Normals().double(), torch.linspace(-3, 5, 20).double()
    found = sample(pair, data, 200, 2, method="nuts", max_warmup=150, **QUICK)
    precision = 1 / 9 + 20 / 4
    assert z_scores(found["loc"], (1 / 9 + data.sum() / 4) / precision) < 4
    assert found.stats["diverging"].shape == (2, 200)


@short
def test_thinned_draws_are_every_so_many():
    pair, data = Normals(), torch.linspace(0, 1, 5)
    full = sample(pair, data, 12, 4, max_warmup=20, **QUICK)
    thinned = sample(pair, data, 4, 4, thin=3, max_warmup=20, **QUICK)
    assert torch.equal(full["loc"][:, 2::3], thinned["loc"])


def test_an_interrupt_keeps_what_is_done(monkeypatch):
    interrupted_after(50, monkeypatch)
    with pytest.warns(UserWarning, match="interrupted: 50 of 2000 draws"):
        found = sample(Normals().double(), torch.linspace(0, 1, 5), 2000, max_warmup=40, **QUICK)
    assert found["loc"].shape == (64, 50)
    assert found["loc"].isfinite().all()


@pytest.mark.parametrize(
    "where",
    ["inference.compiling.compiled.record", "inference.sampling.warmup.harmonic", "inference.sampling.drawing._drawn"],
)
def test_an_interrupt_before_the_first_draw_leaves_nothing(where, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    pair = zoo.create("polynomial_regression", degree=1).double().train()
    batch = data_of(pair, 10).but(x=5 + 7 * torch.rand(10, 1).double())
    before, state = {name: value.clone() for name, value in pair.state_dict().items()}, torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        sample(pair, batch, 20, 4, max_warmup=40, store=tmp_path, **QUICK)
    assert torch.equal(state, torch.get_rng_state())
    assert pair.training
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    assert not list(tmp_path.iterdir())


class Precise(ModelGuide):
    """x_n ~ Normal(3, t^(-1/2)), t ~ Gamma(1e-4, 1e-4): at the prior median of t there is nothing to go by."""

    def __init__(self) -> None:
        super().__init__("normal")
        self.register_buffer("rate", torch.tensor(1e-4))

    def model(self, batch):
        t = pyro.sample("t", dist.Gamma(self.rate, self.rate))
        with batch.plate():
            return pyro.sample("x", dist.Normal(3.0, t.rsqrt()), obs=batch.x)


@pytest.mark.slow
@short
def test_where_chains_cannot_move_the_next_start_is_tried():
    x = 3 + torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 2
    shape, rate = 1e-4 + 25, 1e-4 + float((x - 3).square().sum()) / 2  # Gamma(shape, rate), by conjugacy
    with pytest.warns(UserWarning, match="chains could not move from jitter; these started from mode"):
        found = sample(Precise().double(), x, 100, 16, max_warmup=300, **{**QUICK, "compile": "off"})
    assert found.notes[0].startswith("start='auto'")
    assert float(found["t"].mean()) == pytest.approx(shape / rate, abs=0.2 * shape**0.5 / rate)
    assert float(found["t"].std()) == pytest.approx(shape**0.5 / rate, rel=0.2)
    with pytest.raises(SamplingError, match="every chain diverges"):  # a start that was asked for is the only one
        sample(Precise().double(), x, 100, 16, start="jitter", **{**QUICK, "compile": "off"})


@short
def test_chains_stop_when_their_time_is_over(ticking):
    """Half of it may go into warm-up; what was drawn by then is kept, and says how much it is."""
    pair, data = Normals().double(), torch.linspace(0, 1, 5)
    with pytest.warns(UserWarning, match=r"stopped after 10\d s: \d+ of 1000000 draws of each chain are kept"):
        found = sample(pair, data, 10**6, 4, max_warmup=10**6, max_seconds=100.0, **QUICK)
    assert found.warmup + found["loc"].shape[1] <= 100
    assert 45 <= found.warmup <= 75
    with pytest.warns(UserWarning, match="1 of 50 draws of each chain are kept"):
        assert sample(pair, data, 50, 4, max_seconds=1e-9, **QUICK)["loc"].shape == (4, 1)


def test_time_that_is_none_is_refused():
    for options, words in (
        ({"max_seconds": -1.0}, "max_seconds: expected a finite number"),
        ({"max_seconds": "1"}, "max_seconds: expected a finite number"),
        ({"max_seconds": 1.0, "method": "nuts"}, "max_seconds: nuts cannot be stopped"),
    ):
        with pytest.raises(ValueError, match=words):
            sample(Normals(), torch.linspace(0, 1, 5), 10, 4, **options, **QUICK)
