"""What memory cannot hold is refused first, by the name of the option, with what it would take."""

from __future__ import annotations

import time

import pytest
import torch

import inference
import zoo
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
    ],
)
def test_a_size_that_no_memory_holds_is_refused_at_once(call, words, fitted):
    began = time.perf_counter()
    with pytest.raises(ValueError, match=words):
        call(*fitted)
    assert time.perf_counter() - began < 60


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
