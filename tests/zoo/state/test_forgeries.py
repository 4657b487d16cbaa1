"""Nothing else than what was saved is believed: flipped bits, other lengths, links, forged records and tensors."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

import zoo
from tests.helpers.saving import Toy, made, same
from zoo import state
from zoo.base import ModelGuide
from zoo.state import CONFIG, WEIGHTS, DamagedFile


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a saved toy."""
    folder = made().save(tmp_path_factory.mktemp("saved"))
    return {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def sealed(record: dict[str, Any]) -> bytes:
    """A config as an attacker who knows the format would write it."""
    record = {key: value for key, value in record.items() if key != "checksum"}
    text = json.dumps(record, indent=2).encode() + b"\n"
    return json.dumps({**record, "checksum": hashlib.sha256(text).hexdigest()}, indent=2).encode() + b"\n"


def forged(saved: dict[str, bytes], weights: bytes | None = None, **changes: Any) -> dict[str, bytes]:
    """The files with some config entries changed, other weights perhaps, and all checksums made to fit."""
    weights = saved[WEIGHTS] if weights is None else weights
    entry = {WEIGHTS: {"size": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}}
    return {CONFIG: sealed({**json.loads(saved[CONFIG]), "files": entry, **changes}), WEIGHTS: weights}


def test_forging_as_such_works(saved: dict[str, bytes], tmp_path: Path) -> None:
    assert forged(saved) == saved
    assert zoo.load(put(tmp_path, forged(saved, card={"seed": 5}))).card == {"seed": 5}


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_any_flipped_bit_is_noticed(file: str, saved: dict[str, bytes], tmp_path: Path) -> None:
    rng = random.Random(0)
    put(tmp_path, saved)
    for position in range(len(saved[file])):
        flipped = bytearray(saved[file])
        flipped[position] ^= 1 << rng.randrange(8)
        (tmp_path / file).write_bytes(flipped)
        with pytest.raises(DamagedFile):
            state.load(tmp_path)


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_any_other_length_is_noticed(file: str, saved: dict[str, bytes], tmp_path: Path) -> None:
    put(tmp_path, saved)
    for content in [saved[file][:length] for length in range(0, len(saved[file]), 7)] + [
        saved[file] + tail for tail in (b"\0", b"\n", b" " * 1000)
    ]:
        (tmp_path / file).write_bytes(content)
        with pytest.raises(DamagedFile, match=str(tmp_path)):
            state.load(tmp_path)


def test_sizes_are_checked_before_reading(saved: dict[str, bytes], tmp_path: Path) -> None:
    # Sparse files of a terabyte: reading one would show.
    put(tmp_path, saved)
    for name, message in ((WEIGHTS, "expected .* bytes, got"), (CONFIG, "oversized")):
        os.truncate(tmp_path / name, 1 << 40)
        start = time.monotonic()
        with pytest.raises(DamagedFile, match=message):
            state.load(tmp_path)
        assert time.monotonic() - start < 1
        put(tmp_path, saved)


def test_missing_and_linked_files(saved: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="no such folder"):
        zoo.load(tmp_path / "none")
    for name in (CONFIG, WEIGHTS):
        folder = tmp_path / f"without_{name}"
        folder.mkdir()
        put(folder, {key: value for key, value in saved.items() if key != name})
        with pytest.raises(DamagedFile, match=f"no {name}"):
            zoo.load(folder)
        (tmp_path / name).write_bytes(saved[name])
        (folder / name).symlink_to(tmp_path / name)
        with pytest.raises(DamagedFile, match=f"{name}: a link"):
            zoo.load(folder)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(DamagedFile, match=f"{name}: no plain file"):
            zoo.load(folder)
        with pytest.raises(DamagedFile, match="it is a file"):
            zoo.load(tmp_path / name)
    whole = tmp_path / "whole"
    whole.mkdir()
    (tmp_path / "latest").symlink_to(put(whole, saved))
    assert zoo.load(tmp_path / "latest").config["features"] == 3  # a link to a folder is the user's own


def test_saving_replaces_links_and_leaves_their_ends(saved: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in (CONFIG, WEIGHTS, f"{WEIGHTS}.part"):
        (tmp_path / name).write_bytes(b"mine")
        (tmp_path / "run" / name).symlink_to(tmp_path / name)
    pair = made()
    assert same(zoo.load(pair.save(tmp_path / "run")), pair)
    assert {(tmp_path / name).read_bytes() for name in (CONFIG, WEIGHTS, f"{WEIGHTS}.part")} == {b"mine"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2, this version reads format 1"),
        (
            {"model": "toy_stat"},
            f"unknown model 'toy_stat', did you mean.*{Toy.__module__}.Toy: import that module",
        ),
        ({"model": ["toy_state"]}, "'model': expected str"),
        ({"class": None}, "'class': expected str"),
        ({"config": {"featurs": 3}}, "no argument 'featurs', did you mean 'features'"),
        ({"config": {"features": 0}}, "expected at least 1"),
        ({"config": {"features": "3"}}, "expected a whole number"),
        ({"config": {"features": 5}}, "'log_scale': expected shape"),
        ({"config": {"hidden": [4, 4]}}, "missing: net.2"),
        ({"config": {"hidden": []}}, "not of this model: net.1"),
        ({"config": {"guide": "lowrank"}}, "missing"),
        ({"config": [1]}, "'config': expected dict"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"dtype": "float64"}, "expected type torch.float64, got torch.float32"),
        ({"training": 1}, "'training': expected bool"),
        ({"files": {}}, "expected one file"),
        ({"files": {"../outside.safetensors": {}}}, "expected one file"),
        ({"files": {WEIGHTS: 3}}, "expected one file"),
        ({"files": {WEIGHTS: {}}}, "expected None bytes"),
        ({"card": []}, "'card': expected dict"),
        ({"history": None}, "'history': expected trained, sampled, measured, got None"),
        ({"history": {"trained": True}}, "'history': expected trained, sampled, measured"),
        ({"history": {"trained": 1, "sampled": False, "measured": None}}, "'history': 'trained': got 1"),
        ({"history": {"trained": True, "sampled": False, "measured": 5}}, "'history': 'measured': got 5"),
        ({"config": {"hidden": [10**9]}}, "cannot build.*weights do not justify"),
        ({"config": {"features": 10**9}}, "cannot build.*weights do not justify"),
        ({"config": {"features": 10**40}}, "cannot build"),
        ({"config": {"hidden": [20_000] * 50}}, "cannot build.*weights do not justify"),
    ],
)
def test_forged_configs(changes: dict[str, Any], message: str, saved: dict[str, bytes], tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DamagedFile, match=f"(?s){message}") as caught:
        zoo.load(put(tmp_path, forged(saved, **changes)))
    assert str(tmp_path) in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2_000_000  # kB


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 900_000,
        b'{"format": NaN}',
        b'{"format": 1, "format": 1}',
        pickle.dumps({"format": 1}),
        b'{"format": 1}'.decode().encode("utf-16"),
    ],
)
def test_hostile_json(text: bytes, saved: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match=CONFIG):
        zoo.load(put(tmp_path, {**saved, CONFIG: text}))


def test_json_of_another_kind_is_told_by_its_kind(saved: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match=r"not the JSON that was saved \(expected an object, got list\)"):
        zoo.load(put(tmp_path, {**saved, CONFIG: b'[{"format": 1}]'}))


def weights(change: Callable[[dict[str, Tensor]], Any], pair: ModelGuide | None = None) -> bytes:
    tensors = {name: value.clone() for name, value in (pair or made()).state_dict().items()}
    change(tensors)
    return to_safetensors(tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("log_scale"), "missing: log_scale"),
        (lambda t: t.update(extra=torch.ones(2)), "not of this model: extra"),
        (lambda t: t.update(log_scale=torch.ones(4)), r"'log_scale': expected shape \(3,\), got \(4,\)"),
        (lambda t: t.update(log_scale=torch.ones(3, 1)), r"'log_scale': expected shape"),
        (lambda t: t.update(log_scale=torch.ones(3).double()), "'log_scale': expected type"),
        (lambda t: t.update(order=torch.ones(3).int()), "'order': expected type torch.int64, got torch.int32"),
        (lambda t: t["log_scale"].fill_(float("inf")), "'log_scale' holds values that are not finite"),
        (lambda t: t.update(log_scale=torch.ones(1 << 24)), "'log_scale': expected shape"),
    ],
)
def test_forged_tensors(change: Any, message: str, saved: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match=message):
        zoo.load(put(tmp_path, forged(saved, weights(change))))


class Payload:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_nothing_is_ever_unpickled(saved: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "run").mkdir()
    torch.save(Payload(ran), tmp_path / "torch.pt")
    for content in (pickle.dumps(Payload(ran)), (tmp_path / "torch.pt").read_bytes()):
        with pytest.raises(DamagedFile, match="not a safetensors file"):
            zoo.load(put(tmp_path / "run", forged(saved, content)))
    assert not ran.exists()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    zoo.load(put(tmp_path / "run", saved))


def test_forged_safetensors_headers(saved: dict[str, bytes], tmp_path: Path) -> None:
    # With the checksums made to fit, a flip in the header or a lie in it is still refused, or changes nothing.
    rng, good = random.Random(0), zoo.load(put(tmp_path, saved))
    whole = saved[WEIGHTS]
    length = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:length])
    lies = []
    for key, value in {"data_offsets": [0, 1 << 40], "shape": [1 << 40], "dtype": "F99"}.items():
        lie = json.dumps({**header, "log_scale": {**header["log_scale"], key: value}}).encode()
        lies.append(len(lie).to_bytes(8, "little") + lie + whole[length:])
    lies += [(1 << size).to_bytes(8, "little") + whole[8:] for size in (0, 20, 40, 62)]
    for _ in range(60):
        flipped = bytearray(whole)
        flipped[rng.randrange(length)] ^= 1 << rng.randrange(8)
        lies.append(bytes(flipped))
    refused = 0
    for content in lies:
        try:
            found = state.load(put(tmp_path, forged(saved, content)))
        except DamagedFile:
            refused += 1
        else:
            assert {k: v.shape for k, v in found.state_dict().items()} == {
                k: v.shape for k, v in good.state_dict().items()
            }
    assert refused > len(lies) / 2
