"""A fit that goes on from a checkpoint is the fit that was never broken off, to the last bit."""

from __future__ import annotations

import signal
import threading
import time
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pyro.infer.autoguide
import pytest
import torch

import inference
import zoo
from inference.fitting.course import Length
from inference.fitting.rows import Minibatches
from inference.running.checkpoints import Checkpoints, Shelf
from tests.helpers.broken_off import (
    QUIET,
    Broken,
    broken_off,
    data,
    mixture,
    rows,
    same,
    steps_of,
    table,
    told,
    tree,
    vae,
)

CASES = {
    "a mixture, searched": (mixture, data, {"steps": 16}),
    "in parts": (mixture, data, {"steps": 16, "batch_size": 50}),
    "held out": (mixture, data, {"steps": 16, "batch_size": 100, "validation": 0.2, "patience": 4}),
    "until it stands still": (mixture, data, {"max_steps": 450, "tolerance": 10.0}),
    "until, from the averaged end of an annealed run on": (tree, table, {"max_steps": 280}),  # step 112 of 120
    "annealed": (vae, rows, {"steps": 16, "anneal": 20, "free_bits": 0.1, "batch_size": 32}),
    "weighed": (vae, rows, {"steps": 16, "objective": "iwae", "particles": 3}),
    "constant": (vae, rows, {"steps": 16, "schedule": "constant", "average": 0.5}),
}


SLOW = pytest.mark.slow


@pytest.mark.parametrize("mode", ["off", "graph"])
@pytest.mark.parametrize("case", [pytest.param(case, marks=[SLOW] * case.startswith("until")) for case in CASES])
def test_a_fit_goes_on_bit_for_bit(case, mode, tmp_path):
    make, given, options = CASES[case]
    options = {**options, "compile": mode}
    whole = make()
    before = inference.fit(whole, given(), **QUIET | options)
    broken_off(make, given(), tmp_path, before.steps // 2 + 3, every=before.steps // 5, **options)
    on = make(seed=5)  # other starting values: those of the checkpoint count
    torch.manual_seed(99)
    after = inference.fit(on, given(), checkpoint=tmp_path, resume=True, **QUIET | options)
    assert 0 < after.resumed < after.steps
    assert same(whole, on)
    assert told(before) == told(after)
    for card in (whole.card, on.card):
        card["fit"].pop("seconds")
    assert whole.card == on.card
    again = inference.fit(make(), given(), checkpoint=tmp_path, resume=True, **QUIET | options)
    assert again.resumed == again.steps, "of a fit that had ended nothing is done again"
    assert told(again) == told(before)


def test_checkpoints_change_no_bit_of_a_fit(tmp_path):
    plain, kept = mixture(), mixture()
    one = inference.fit(plain, data(), steps=12, **QUIET)
    other = inference.fit(kept, data(), steps=12, checkpoint=Checkpoints(tmp_path, steps=1), **QUIET)
    assert same(plain, kept)
    assert told(one) == told(other)
    assert np.array_equal(plain.card["metrics"]["elbo_per_observation"], kept.card["metrics"]["elbo_per_observation"])


def test_going_on_works_in_a_thread_of_its_own(tmp_path):
    whole, on = vae(), vae(3)
    inference.fit(whole, rows(), steps=20, **QUIET)
    broken_off(vae, rows(), tmp_path, 13, steps=20)

    def go():
        inference.fit(on, rows(), steps=20, checkpoint=tmp_path, resume=True, **QUIET)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    assert same(whole, on)


def test_a_fit_on_other_data_goes_on_with_the_constants_it_had(tmp_path):
    """Of a pair that was fitted before: its past goes with the checkpoint."""
    first = data()

    def make(seed=0):
        pair = mixture(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inference.fit(pair, first.select(slice(0, 100)), steps=3, **QUIET)
        return pair

    whole = make()
    with pytest.warns(inference.KeptConstants):
        before = inference.fit(whole, first, steps=20, **QUIET)
    with pytest.warns(inference.KeptConstants):
        broken_off(make, first, tmp_path, 13, steps=20)
    on = mixture(7)  # never fitted: all of it comes from the checkpoint
    after = inference.fit(on, first, steps=20, checkpoint=tmp_path, resume=True, **QUIET)
    assert same(whole, on)
    assert told(before) == told(after)
    assert before.kept
    assert whole._history.measured == on._history.measured


def schools(sigma, y):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(sigma)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


SCHOOLS = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18]), torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12])


@pytest.mark.parametrize("guide", ["own", pytest.param("normal", marks=SLOW)])
def test_a_program_goes_on_too(guide, tmp_path):
    def draws(program):
        return inference.draw(program, *SCHOOLS, draws=3)["theta"]

    def program():
        pyro.clear_param_store()  # in which an automatic guide of Pyro's finds what one before it has left
        return zoo.program(schools, guide=pyro.infer.autoguide.AutoNormal(schools) if guide == "own" else guide)

    whole = program()
    before, drawn = inference.fit(whole, *SCHOOLS, steps=30, **QUIET), draws(whole)

    def callback(step, *_):
        if step == 17:
            raise Broken

    often = Checkpoints(tmp_path, steps=5)
    with pytest.raises(Broken):
        inference.fit(program(), *SCHOOLS, steps=30, callbacks=[callback], checkpoint=often, **QUIET)
    on = program()
    after = inference.fit(on, *SCHOOLS, steps=30, checkpoint=tmp_path, resume=True, **QUIET)
    assert after.resumed == 15
    assert told(before) == told(after)
    assert torch.equal(drawn, draws(on))
    other = SCHOOLS[0], SCHOOLS[1] + 1
    with pytest.raises(inference.CheckpointError, match="of another fit, data: "):
        inference.fit(on, *other, steps=30, checkpoint=tmp_path, resume=True, **QUIET)


# --- of another length ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "goes_on"),
    [
        ({"schedule": "constant"}, 18),  # 20 steps average the last 2, 35 steps the last 4: both take 18 alike
        ({"schedule": "constant", "average": 0.0}, 20),
        ({"schedule": "cosine"}, 2),  # whose step sizes are the same at the first step, and at the next, the longest
    ],
)
def test_a_fit_that_is_extended_equals_one_of_that_length(options, goes_on, tmp_path):
    whole, on = vae(), vae(4)
    before = inference.fit(whole, rows(), steps=35, **QUIET | options)
    inference.fit(vae(), rows(), steps=20, checkpoint=Checkpoints(tmp_path, steps=1, keep=30), **QUIET | options)
    after = inference.fit(on, rows(), steps=35, checkpoint=tmp_path, resume=True, **QUIET | options)
    assert after.resumed == goes_on
    assert same(whole, on)
    assert told(before) == told(after)


def test_a_fit_that_takes_other_steps_begins_anew_and_says_so(tmp_path):
    whole, on = vae(), vae()
    before = inference.fit(whole, rows(), steps=35, **QUIET)
    inference.fit(vae(), rows(), steps=20, checkpoint=tmp_path, **QUIET)
    with pytest.warns(UserWarning, match="a fit of 35 steps takes other steps than that of the checkpoints"):
        after = inference.fit(on, rows(), steps=35, checkpoint=tmp_path, resume=True, **QUIET)
    assert after.resumed == 0
    assert same(whole, on)
    assert told(before) == told(after)


def test_a_fit_until_it_converges_may_be_given_more_steps(tmp_path):
    whole, on = mixture(), mixture(4)
    before = inference.fit(whole, data(), max_steps=60, **QUIET)
    short = inference.fit(mixture(), data(), max_steps=25, checkpoint=tmp_path, **QUIET)
    assert short.reason.startswith("not converged")
    after = inference.fit(on, data(), max_steps=60, checkpoint=tmp_path, resume=True, **QUIET)
    assert after.resumed == 25
    assert same(whole, on)
    assert told(before) == told(after)


def test_a_fit_that_time_ended_goes_on(tmp_path):
    """What it averaged because of the time it had is not part of a fit that has more."""
    whole, on = vae(), vae(4)
    before = inference.fit(whole, rows(), steps=40, schedule="constant", **QUIET)

    def slow(step, *_):
        time.sleep(0.02)

    seconds = inference.fit(
        vae(), rows(), steps=40, schedule="constant", max_seconds=0.3, average=0.1, callbacks=[slow],
        checkpoint=tmp_path, **QUIET,
    )  # fmt: skip
    assert seconds.reason.startswith("stopped after")
    after = inference.fit(on, rows(), steps=40, schedule="constant", checkpoint=tmp_path, resume=True, **QUIET)
    assert after.resumed == seconds.steps < 36
    assert same(whole, on)
    assert told(before) == told(after)


def test_which_lengths_agree():
    cosine = [Length(limit, True, "cosine", 0.1) for limit in (2000, 4000)]
    assert cosine[0].agrees(cosine[1], 51), "both rise over fifty steps, and begin to fall at the same size"
    assert not cosine[0].agrees(cosine[1], 52)
    short, long = (Length(limit, True, "constant", 0.1, standardises=True) for limit in (300, 600))
    assert long.agrees(short, 100)
    assert not long.agrees(short, 101), "the shorter one took its guide's units a third of the way on"


def test_rows_go_on_in_their_order():
    for drawn in range(12):
        one = Minibatches(10, 4, torch.Generator().manual_seed(1))
        for _ in range(drawn):
            next(one)
        other = Minibatches(10, 4, torch.Generator())
        other.restore(one.state())
        for _ in range(12):
            assert torch.equal(next(one), next(other))


# --- when, and how many -----------------------------------------------------------------------------------------------


def test_the_newest_and_the_best_stay(tmp_path):
    folder = tmp_path / "run"
    with Shelf(Checkpoints(folder, steps=1, keep=2), {}, False) as shelf:
        for step, score in enumerate([5.0, 1.0, 3.0, float("nan"), 2.0], start=1):
            assert shelf.write(step, {"x": torch.ones(2)}, score)
    assert steps_of(folder) == [2, 4, 5]
    assert len(list(folder.glob("*.safetensors"))) == 3
    with Shelf(Checkpoints(folder), {}, True) as shelf:
        assert shelf.newest().step == 5
        shelf.write(6, {}, 4.0)
    assert steps_of(folder) == [2, 5, 6], "which one was the best is known again"


def test_time_decides_when_steps_do_not(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("inference.running.checkpoints.time.perf_counter", lambda: now[0])
    with Shelf(Checkpoints(tmp_path, seconds=10.0), {}, False) as shelf:
        now[0] = 9.9
        assert not shelf.due(1)
        now[0] = 10.0
        assert shelf.due(1)
        shelf.kept_at, shelf.cost = 10.0, 0.5  # which took half a second: next after fifty
        now[0] = 59.0
        assert not shelf.due(2)
        now[0] = 60.0
        assert shelf.due(2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"folder": 3}, "checkpoint: expected the path of a folder, got 3"),
        ({"folder": "x", "steps": 0}, "steps"),
        ({"folder": "x", "seconds": 0.0}, "seconds"),
        ({"folder": "x", "keep": 0}, "keep"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Checkpoints(**options)


def test_what_cannot_be_gone_on_from_is_refused(tmp_path):
    pair = mixture()
    with pytest.raises(ValueError, match="resume: give checkpoint="):
        inference.fit(pair, data(), steps=2, resume=True, **QUIET)
    with pytest.raises(ValueError, match="resume: expected True or False, got 'yes'"):
        inference.fit(pair, data(), steps=2, checkpoint=tmp_path, resume="yes", **QUIET)
    with pytest.raises(ValueError, match="method='em' takes no steps"):
        inference.fit(pair, data(), method="em", checkpoint=tmp_path, **QUIET)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="checkpoint: cannot write into"):
        inference.fit(pair, data(), steps=2, checkpoint=tmp_path / "file", **QUIET)
    assert not pair.fitted


# --- interrupts -------------------------------------------------------------------------------------------------------


def test_an_interrupt_keeps_a_whole_step(tmp_path):
    whole, on, here = vae(), vae(4), vae()
    inference.fit(whole, rows(), steps=20, **QUIET)

    def callback(step, *_):
        if step == 6:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    fit = inference.fit(here, rows(), steps=20, callbacks=[callback], checkpoint=tmp_path, **QUIET)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert (fit.reason, fit.steps) == ("interrupted", 7)
    after = inference.fit(on, rows(), steps=20, checkpoint=tmp_path, resume=True, **QUIET)
    assert after.resumed == 7
    assert same(whole, on)


def test_a_handler_of_the_users_own_hears_of_a_signal_after_the_step(tmp_path):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(steps_of(tmp_path)))
    try:

        def callback(step, *_):
            if step == 4:
                signal.raise_signal(signal.SIGTERM)
                assert not heard

        inference.fit(vae(), rows(), steps=8, callbacks=[callback], checkpoint=tmp_path, **QUIET)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [[5]]
    assert steps_of(tmp_path) == [5, 8]
