"""What memory cannot hold is refused first, by the name of the option, with what it would take."""

from __future__ import annotations

import time

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import inference
import zoo
from inference.codes.collapse import code_kl
from inference.gallery.paths import interpolations, traversals
from zoo.state import memory

HUGE = 10**12


@pytest.fixture(scope="module")
def fitted():
    data = zoo.datasets.load("faithful")
    pair = zoo.create("gmm")
    inference.fit(pair, data, steps=3, progress=False, compile="off")
    return pair, data, inference.draw(pair, data, 10)


# A draw of the globals of a mixture of two Gaussians in the plane: 2 weights, 4 means, 4 scales, 2 factors of 2 x 2; an
# observation: 2 numbers; each of 4 bytes.
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda pair, data, _: inference.draw(pair, data, HUGE), r"draws: 1,000,000,000,000 would take 72 TB"),
        (lambda pair, data, _: inference.prior(pair, data, HUGE), r"draws: 1,000,000,000,000 would take 72 TB"),
        (lambda pair, data, _: inference.khat(pair, data, HUGE), r"draws: 1,000,000,000,000 would take 72 TB"),
        (lambda pair, *_: inference.generate(pair, HUGE), r"number: 1,000,000,000,000 would take 80 TB"),
        (lambda pair, _, draws: inference.predict(pair, draws, HUGE), r"number of rows: 1,000,000,000,000 would take"),
        (lambda pair, data, _: inference.fit(pair, data, particles=HUGE), r"particles: 1,000,000,000,000 would take"),
        (lambda pair, data, _: inference.sample(pair, data, HUGE), r"draws: 1,000,000,000,000 would take"),
        (lambda pair, data, _: inference.sample(pair, data, 1, HUGE), r"chains: 1,000,000,000,000 would take"),
        (
            lambda *_: zoo.create("gmm", components=10**9),
            r"gmm: components=1,000,000,000: takes more than 2.15 GB of memory to build",
        ),
        (lambda pair, data, _: inference.sample(pair, data, thin=HUGE), r"thin: 1,000,000,000,000 would work out"),
        (
            lambda pair, data, draws: inference.to_arviz(pair, draws, data, prior=HUGE),
            r"prior: 1,000,000,000,000 would",
        ),
        (lambda pair, data, draws: inference.resample(draws, HUGE), r"draws: 1,000,000,000,000 would take 72 TB"),
    ],
)
def test_a_size_that_no_memory_holds_is_refused_at_once(call, words, fitted):
    began = time.perf_counter()
    with pytest.raises(ValueError, match=words):
        call(*fitted)
    assert time.perf_counter() - began < 60


@pytest.fixture(scope="module")
def encoder():
    data = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    pair = zoo.create("gaussian_autoencoder", features=4, latent=1)
    inference.fit(pair, data, steps=3, progress=False, compile="off")
    return pair, data, inference.draw(pair, data, 10)


# What memory bears is bounded by time: 10^14 numbers are eleven days at a hundred million a second.
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda pair, x, draws: inference.log_likelihood(pair, draws, x, particles=HUGE),
            "particles: .* would work out",
        ),
        (lambda pair, x, _: inference.log_marginal(pair, x, particles=HUGE), "particles: .* would work out"),
        (lambda pair, x, _: inference.gap(pair, x, particles=HUGE), "particles: .* would work out"),
        (lambda pair, x, _: inference.gap(pair, x, method="annealed", chains=HUGE), "chains: .* would take 16 TB"),
        (lambda pair, x, _: inference.khat(pair, x, particles=HUGE), "particles: .* would take 200 TB"),
        (lambda pair, x, _: inference.encode(pair, x, draws=HUGE), "draws: .* would take 200 TB"),
        (lambda pair, x, _: inference.reconstruct(pair, x, draws=HUGE), "draws: .* would work out"),
        (lambda pair, x, _: inference.refine(pair, x, samples=HUGE), "samples: .* would work out"),
        (lambda pair, x, _: code_kl(pair, x, draws=HUGE), "draws: .* would work out"),
        (lambda pair, *_: inference.fit_by_simulation(pair, steps=HUGE), "steps: .* would take 8 TB"),
        (lambda pair, *_: inference.fit_by_simulation(pair, batch_size=HUGE), "batch_size: .* would take"),
        (lambda pair, x, _: interpolations(pair, x, steps=HUGE), "steps: .* would take"),
        (lambda pair, x, _: traversals(pair, x, steps=HUGE), "steps: .* would take"),
    ],
)
def test_so_is_work_that_no_lifetime_bears(call, words, encoder):
    before = {name: value.clone() for name, value in encoder[0].state_dict().items()}
    with pytest.raises(ValueError, match=words.replace(": .*", ": 1,000,000,000,000")):
        call(*encoder)
    assert all(torch.equal(value, before[name]) for name, value in encoder[0].state_dict().items())


def test_particles_that_nobody_draws_may_be_any_number(fitted):
    pair, data, draws = fitted
    few = inference.log_likelihood(pair, draws, data, particles=1)
    assert torch.equal(inference.log_likelihood(pair, draws, data, particles=HUGE), few)


# Ten million of each: what smaller pairs take tells it, and no more than 16 MB are made on the way.
@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("gmm", {"components": 10**7}, "components=10,000,000"),
        ("gmm", {"features": 10**7}, "features=10,000,000"),
        ("hmm", {"states": 10**5}, "states=100,000"),
        ("neural_autoencoder", {"hidden": (10**7,)}, r"hidden=\(10,000,000\)"),
        ("neural_autoencoder", {"hidden": (10**12,)}, r"hidden=\(1,000,000,000,000\)"),
        ("random_forest", {"inducing": 10**7}, "inducing=10,000,000"),
        ("support_vector_machine", {"classes": 10**7}, "classes=10,000,000"),
        ("polynomial_regression", {"features": 10**7}, "features=10000000 and degree=2 make 20000001 terms"),
        ("autoregressive", {"order": 10**7}, "steps=30, but the longest lag is 10000000"),
        ("decision_tree", {"depth": 40}, "depth: 40 would take"),
        ("random_forest", {"depth": HUGE}, "depth: 1,000,000,000,000 would take"),
    ],
)
def test_a_pair_that_no_memory_holds_is_refused_before_it_is_begun(name, arguments, words):
    torch.manual_seed(0)
    made = _Most()
    with made, pytest.raises(ValueError, match=words):
        zoo.create(name, **arguments)
    assert made.bytes <= memory._TRIED
    after = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), after)  # nothing was drawn


class _Most(TorchDispatchMode):
    """The bytes of the largest tensor that was made."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.bytes = max(self.bytes, made.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize(("power", "offset"), [(1, 0), (1, 10**6), (2, 10**6), (0.5, 300)])
def test_what_grows_by_a_power_goes_on(power, offset):
    sizes = [4**k for k in range(1, 7)]
    costs = [offset + 7 * size**power for size in sizes]
    assert memory._continued(sizes, costs, 10**7) == pytest.approx(offset + 7 * 10 ** (7 * power), rel=1e-6)
    assert memory._continued(sizes, [offset] * 6, 10**7) == offset


def test_large_numbers_that_cost_little_are_taken_and_the_same_is_drawn():
    torch.manual_seed(0)
    large = zoo.create("support_vector_machine", frequencies=10**7)  # of a kernel that this one has not
    torch.manual_seed(0)
    small = zoo.create("support_vector_machine")
    assert all(torch.equal(a, b) for a, b in zip(large.parameters(), small.parameters(), strict=True))


def test_so_are_the_steps_of_a_forecast_and_imputations():
    series = zoo.datasets.load("lakehuron").x.reshape(1, -1)
    pair = zoo.create("autoregressive")
    inference.fit(pair, series, steps=3, progress=False, compile="off")
    posterior = inference.draw(pair, series, 10)
    with pytest.raises(ValueError, match=r"horizon: 1,000,000,000,000 would take 40 TB of memory, and .* are free"):
        inference.forecast(pair, posterior, series, HUGE)
    table = zoo.create("naive_bayes")
    rows = table.simulate(5)[0]
    assert rows.x is not None
    rows.x[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"draws: 1,000,000,000,000 would take .* of memory"):
        inference.impute(table, rows, draws=HUGE)


def test_what_fits_is_taken(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 10**6)
    memory.check_room("draws", 10, 10**6)
    with pytest.raises(ValueError, match=r"draws: 11 would take 1 MB of memory, and 1 MB are free"):
        memory.check_room("draws", 11, 10**6 + 1)
    assert zoo.create("gmm", components=3).config["components"] == 3


def test_there_is_memory():
    assert 10**7 < memory.available() < 1 << 50
