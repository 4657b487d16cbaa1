"""Checkpoints that are damaged, hostile or of another fit, and disks that are full: nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import warnings

import numpy as np
import pytest
import torch

import inference
import zoo
from inference.running.checkpoints import Checkpoints
from tests.helpers.broken_off import QUIET, broken_off, rows, same, steps_of, told, vae
from zoo.state import files, packing


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
