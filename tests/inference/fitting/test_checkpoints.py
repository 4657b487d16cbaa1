"""A fit that goes on from a checkpoint is the fit that was never broken off, to the last bit; faults lose nothing."""

from __future__ import annotations

import errno
import json
import os
import pickle
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
from zoo.state import files, packing

QUIET = {"progress": False, "compile": "off"}


class Broken(Exception):
    """Ends a fit where a test wants it to."""


def data():
    return zoo.datasets.load("faithful")


def mixture(seed=0):
    torch.manual_seed(seed)
    return zoo.create("gmm", features=2, components=2)


def vae(seed=0):
    torch.manual_seed(seed)
    return zoo.create("gaussian_vae", features=6, latent=2, hidden=[8])


def tree(seed=0):
    torch.manual_seed(seed)
    return zoo.create("decision_tree", features=2, depth=1)


def table():
    x = torch.rand(40, 2, generator=torch.Generator().manual_seed(0))
    return zoo.Batch.of(x=x, y=(x[:, 0] > 0.5).float() + 0.1 * x[:, 1])


def rows():
    return torch.rand(90, 6, generator=torch.Generator().manual_seed(0)).round()


def broken_off(make, given, folder, at, *, every=5, **options):
    """A fit that ends with an error after so many steps."""

    def callback(step, *_):
        if step + 1 == at:
            raise Broken

    with pytest.raises(Broken):
        inference.fit(
            make(), given, callbacks=[callback], checkpoint=Checkpoints(folder, steps=every), **QUIET | options
        )


def same(one, other):
    """Whether two pairs hold the same bits."""
    tensors = one.state_dict(), other.state_dict()
    return tensors[0].keys() == tensors[1].keys() and all(torch.equal(v, tensors[1][n]) for n, v in tensors[0].items())


def told(fit):
    return {
        **{n: v for n, v in vars(fit).items() if n not in ("losses", "seconds", "trace_seconds", "resumed")},
        "losses": fit.losses.tobytes(),
    }


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


def steps_of(folder):
    return sorted(int(path.stem.split("-")[-1]) for path in folder.glob("*.json"))


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


# --- faults -----------------------------------------------------------------------------------------------------------


def broken(tmp_path, **options):
    """Checkpoints of steps 5 and 10 of 20."""
    broken_off(vae, rows(), tmp_path, 12, steps=20, **options)
    return sorted(tmp_path.glob("*.json"))


def on(tmp_path, make=vae, given=None, **options):
    pair = make()
    fit = inference.fit(
        pair, rows() if given is None else given, checkpoint=tmp_path, resume=True, **QUIET | {"steps": 20} | options
    )
    return pair, fit


DAMAGES = {
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "a bit flipped": lambda path: path.write_bytes((old := path.read_bytes())[:-9] + bytes([old[-9] ^ 1]) + old[-8:]),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"x": 1})),
    "a link": lambda path: (path.rename(path.with_suffix(".away")), path.symlink_to(path.with_suffix(".away"))),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("end", [".json", ".safetensors"])
def test_the_one_before_is_taken_where_the_newest_is_damaged(damage, end, tmp_path):
    if damage == "gone" and end == ".json":
        pytest.skip("without it there is no checkpoint, as after a kill between the two files")
    whole = vae()
    inference.fit(whole, rows(), steps=20, **QUIET)
    newest = broken(tmp_path)[-1]
    DAMAGES[damage](newest.with_suffix(end))
    with pytest.warns(UserWarning, match=r"going on from the checkpoint of step 5, which is whole"):
        pair, fit = on(tmp_path)
    assert fit.resumed == 5
    assert same(whole, pair)


def test_where_none_is_whole_nothing_is_run(tmp_path):
    for path in broken(tmp_path):
        path.with_suffix(".safetensors").write_bytes(b"")
    pair, state = vae(), torch.get_rng_state()
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    with pytest.raises(inference.CheckpointError, match=r"no checkpoint that is whole: .*expected .* bytes, got 0"):
        inference.fit(pair, rows(), steps=20, checkpoint=tmp_path, resume=True, **QUIET)
    assert all(torch.equal(before[name], value) for name, value in pair.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert len(steps_of(tmp_path)) == 2, "what is there stays"


def resealed(path, change):
    """A record that was changed by somebody who knows how checksums are made."""
    record = json.loads(path.read_text())
    record.pop("checksum")
    change(record)
    path.write_bytes(files.sealed(record))


HOSTILE = {
    "no state": lambda r: r.update(state=None),
    "a word for a state": lambda r: r.update(state="x"),
    "another shape": lambda r: r["state"]["items"]["pair"]["items"].update(
        {next(iter(r["state"]["items"]["pair"]["items"])): {"tensor": "/losses"}}
    ),
    "no parameters": lambda r: r["state"]["items"].pop("pair"),
    "a tensor that is not there": lambda r: r["state"]["items"].update(losses={"tensor": "/no"}),
    "losses that are words": lambda r: r["state"]["items"].update(losses="many"),
    "fewer losses": lambda r: r["state"]["items"].update(losses={"items": {}}),
    "a mode that is none": lambda r: r["state"]["items"].update(modes=["off", "os.system"]),
    "counts that are words": lambda r: r["state"]["items"]["loop"]["items"].update(skipped="none"),
    "memory of other names": lambda r: r["state"]["items"].update(averaging={"items": {"__class__": 1}}),
    "a history that is none": lambda r: r["state"]["items"].update(history=[]),
    "another format": lambda r: r.update(format=9),
    "another version": lambda r: r["told"]["versions"].update(zoo="99.0"),
    "no run": lambda r: r["told"].pop("run"),
    "a length that is none": lambda r: r["told"].update(length=["a", "b"]),
    "random numbers that are none": lambda r: r["state"]["items"].update(random={"items": {"cpu": {"tensor": "/no"}}}),
    "deep": lambda r: r.update(state=json.loads("[" * 900 + "]" * 900)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_checkpoint_is_one_kind_of_error(case, tmp_path):
    for path in broken(tmp_path):
        resealed(path, HOSTILE[case])
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != ".lock"}
    with pytest.raises(inference.CheckpointError):
        on(tmp_path)
    assert kept == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != ".lock"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"given": 1 - rows()}, "of another fit, data: "),
        ({"lr": 0.5}, "of another fit, lr: 0.01 there, 0.5 here"),
        ({"seed": 1}, "of another fit, seed: 0 there, 1 here"),
        ({"batch_size": 8}, "of another fit, batch_size: 90 there, 8 here"),
        ({"compile": "graph"}, "of another fit, compile: off there, graph here"),
        ({"make": lambda: zoo.create("gaussian_vae", features=6, latent=3)}, "of another fit, config: "),
        ({"make": lambda: vae().double()}, "of another fit, type: float32 there, float64 here"),
        ({"make": lambda: zoo.create("masked_autoregressive", features=6)}, "of another fit, (model|config): "),
        ({"steps": None}, "of another fit, (length|schedule): "),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_by_name(change, words, tmp_path):
    broken(tmp_path)
    with pytest.raises(inference.CheckpointError, match=words):
        on(tmp_path, **change)
    assert steps_of(tmp_path) == [5, 10]


def test_checkpoints_that_are_there_are_not_written_over(tmp_path):
    broken(tmp_path)
    with pytest.raises(inference.CheckpointError, match="holds checkpoints already: resume=True"):
        inference.fit(vae(), rows(), steps=20, checkpoint=tmp_path, **QUIET)


def test_two_fits_in_one_folder_are_refused(tmp_path):
    def callback(step, *_):
        if step == 5:
            with pytest.raises(inference.CheckpointError, match=f"another run \\({os.getpid()}\\) is writing into"):
                inference.fit(vae(1), rows(), steps=20, checkpoint=tmp_path, resume=True, **QUIET)

    inference.fit(vae(), rows(), steps=8, callbacks=[callback], checkpoint=tmp_path, **QUIET)
    on(tmp_path, steps=8)  # the lock is gone with the fit


def test_other_threads_are_told(tmp_path):
    for path in broken(tmp_path):
        resealed(path, lambda record: record["told"].update(threads=64))
    with pytest.warns(UserWarning, match="made with 64 processor threads, now 1"):
        on(tmp_path)


def test_a_full_disk_costs_a_warning_and_no_step(tmp_path, monkeypatch):
    whole = vae()
    before = inference.fit(whole, rows(), steps=20, **QUIET)
    written = packing.save
    full = [False]

    def save(folder, name, *rest):
        if full[0]:
            (folder / f"{name}.safetensors").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        written(folder, name, *rest)

    def callback(step, *_):
        full[0] = 6 <= step < 16

    monkeypatch.setattr(packing, "save", save)
    here = vae()
    with pytest.warns(UserWarning, match=r"No space left on device\); the fit goes on, that of step 5 is the") as seen:
        fit = inference.fit(
            here, rows(), steps=20, callbacks=[callback], checkpoint=Checkpoints(tmp_path, steps=5), **QUIET
        )
    assert len(seen) == 1, "once, not at each"
    assert told(fit) == told(before)
    assert same(whole, here)
    assert steps_of(tmp_path) == [5, 20]
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_a_limit_on_the_size_of_files_costs_a_warning_too(tmp_path):
    """By the system itself, in a process of its own: the limit cannot be raised again."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            import resource

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                fit = inference.fit(vae(), rows(), steps=6, checkpoint=Checkpoints(tmp_path, steps=2), **QUIET)
            said = [str(one.message) for one in seen]
            code = 0 if fit.steps == 6 and len(said) == 1 and "File too large" in said[0] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not list(tmp_path.iterdir())  # the folder was there before, and stays


# --- the files --------------------------------------------------------------------------------------------------------


def test_a_state_comes_back_bit_for_bit(tmp_path):
    state = {
        "words": ["a", None, True, 3, {"tensor": 1.5}],
        "numbers": [0.1, float("inf"), -float("inf"), 1e-320],
        "tensors": [torch.randn(2, 3).T, torch.tensor(7), torch.zeros(0, 2), torch.tensor([1.5, float("nan")]).half()],
        "array": np.arange(3.0),
    }
    packing.save(tmp_path, "one", {"step": 1}, state)
    known, found = packing.load(tmp_path, "one")
    assert known == {"step": 1}
    assert found["words"] == state["words"]
    assert found["numbers"] == state["numbers"]
    for one, other in zip(state["tensors"], found["tensors"], strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one.nan_to_num(5), other.nan_to_num(5))
    assert torch.equal(found["array"], torch.arange(3.0, dtype=torch.float64))
    with pytest.raises(TypeError, match="state '/x': set cannot be kept"):
        packing.save(tmp_path, "two", {}, {"x": {1, 2}})


def test_digests_tell_data_apart():
    x = torch.arange(6.0)
    values = [x, x.double(), x.reshape(2, 3), x + 1, [x], [x, x], {"x": x}, {"y": x}, 6, 6.0, "6", None, x.numpy() * 2]
    assert len({packing.digest(value) for value in values}) == len(values)
    assert packing.digest(x) == packing.digest(x.numpy().copy()) == packing.digest(x.repeat(2)[:6])
