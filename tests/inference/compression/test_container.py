"""Damaged, truncated, foreign, newer and hostile files: one named error, and nothing silently wrong."""

from __future__ import annotations

import copy
import json
import struct
import zlib

import numpy as np
import pytest
import torch

import inference
import zoo
from inference.compression.container import MAGIC, Container, Sink
from inference.compression.errors import CompressionError
from inference.compression.packing import best, inflate, opened, pack, unpack


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A pair, data with holes and escapes, and their file with the model in it."""
    torch.manual_seed(0)
    pair = zoo.create("naive_bayes").double()
    data = pair.simulate(90)[0]
    x = data.x.clone()
    x[3, 1], x[4, 0], x[5, 0], x[6, 2] = torch.nan, -0.0, torch.inf, 7.5
    data = data.but(x=x)
    path = tmp_path_factory.mktemp("made") / "a.zoo"
    inference.compress(pair, data, path, with_model=True, chunk=40)
    return pair, data, path


def test_flips_and_cuts_are_seen(made, tmp_path):
    _, data, path = made
    good, rng, broken = path.read_bytes(), np.random.default_rng(0), tmp_path / "b.zoo"
    places = np.r_[np.arange(24), rng.integers(0, len(good), 252), len(good) - 1 - np.arange(24)]
    spoiled = []
    for place in places.tolist():
        wrong = bytearray(good)
        wrong[place] ^= 1 << int(rng.integers(8))
        spoiled.append(bytes(wrong))
    spoiled += [good[: int(cut)] for cut in rng.integers(0, len(good), 100)]
    spoiled += [b"", good + b"\0", good[::-1], b"PK\x03\x04" + good, np.random.default_rng(1).bytes(1000)]
    assert len(spoiled) >= 400
    for wrong in spoiled:
        broken.write_bytes(wrong)
        with pytest.raises(CompressionError, match="cannot decompress"):
            inference.decompress(broken)
    broken.write_bytes(good)
    assert torch.equal(inference.decompress(broken).x.nan_to_num(), data.x.nan_to_num())


def again(container, header, arrays, path, rows=None):
    """A file of that content whose checksums are right."""
    with path.open("wb") as file:
        sink = Sink(file, header, arrays)
        for number, chunk in enumerate(container.chunks):
            sink.chunk(container.data(number), rows or chunk.rows, chunk.decoded)
        sink.close()


def places_of(value, at=()):
    """All places in a header."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places_of(item, (*at, key))


HOSTILE = [
    None,
    -1,
    0,
    1 << 62,
    10**30,
    0.5,
    "x",
    "text",
    "<f8",
    "category",
    "float",
    [],
    {},
    [1, 2],
    [[1, 1, 1]] * 40,
    True,
]


def test_hostile_headers_run_nothing_and_take_no_memory(made, tmp_path):
    path = made[2]
    container, rng, wrong = Container(path), np.random.default_rng(0), tmp_path / "w.zoo"
    places = [at for at in places_of(container.header) if at]
    refused = 0
    for _ in range(400):
        header = copy.deepcopy(container.header)
        at = places[int(rng.integers(len(places)))]
        inner = header
        for key in at[:-1]:
            inner = inner[key]
        inner[at[-1]] = HOSTILE[int(rng.integers(len(HOSTILE)))]
        again(container, header, container.arrays, wrong)
        try:
            inference.decompress(wrong)
        except CompressionError:
            refused += 1
    assert refused > 250  # other names, or texts that stand for nothing here, are nothing to refuse


def test_hostile_tables_run_nothing(made, tmp_path):
    container, rng, wrong = Container(made[2]), np.random.default_rng(0), tmp_path / "w.zoo"
    names = sorted(container.arrays)
    for _ in range(150):
        arrays = dict(container.arrays)
        name = names[int(rng.integers(len(names)))]
        old = arrays[name]
        new = [
            np.zeros((0,), np.int16), np.zeros_like(old), -np.ones_like(old), old.reshape(-1)[:1], old[..., ::-1],
            np.full(old.shape, 32767, old.dtype), old[None], np.zeros((1 << 12, 1 << 8), np.int16),
            old.astype(np.int64),
        ]  # fmt: skip
        arrays[name] = np.ascontiguousarray(new[int(rng.integers(len(new)))])
        again(container, container.header, arrays, wrong)
        try:
            inference.decompress(wrong)
        except CompressionError:
            continue
        assert np.array_equal(arrays[name], old) or name == "0.weights"


def test_rows_that_are_not_there_are_refused(made, tmp_path):
    container, wrong = Container(made[2]), tmp_path / "w.zoo"
    for rows in (1, 39, 1 << 16, 1 << 20):
        again(container, container.header, container.arrays, wrong, rows)
        with pytest.raises(
            CompressionError, match=r"does not decode|at most|ends before|no valid|refers|JSON|no cell|out of"
        ):
            inference.decompress(wrong)


def test_a_packed_bomb_is_not_unpacked():
    bomb = zlib.compress(bytes(1 << 24), 9)
    with pytest.raises(CompressionError, match="expected 10 bytes packed, got 11 or more"):
        inflate(bomb, 10)
    with pytest.raises(CompressionError, match="cannot hold"):
        inflate(bomb, 1 << 40)
    for data in (bytes(1 << 16), np.random.default_rng(0).bytes(300), b"abc" * 40, b""):
        assert opened(best(data), len(data)) == data
        with pytest.raises(CompressionError):
            opened(best(data), len(data) + 1)


@pytest.mark.parametrize("shape", [(0,), (3,), (2, 5), (4, 1, 3)])
@pytest.mark.parametrize("kind", ["int16", "int32", "int64", "uint8"])
def test_arrays_come_back(shape, kind):
    array = np.random.default_rng(0).integers(0, 200, size=shape).astype(kind)
    np.testing.assert_array_equal(unpack(pack(array), kind, shape), array)


def test_a_newer_file_and_a_foreign_one_are_told(made, tmp_path):
    good, path = made[2].read_bytes(), tmp_path / "n.zoo"
    start = struct.pack("<8sII", MAGIC, 2, struct.unpack("<I", good[12:16])[0])
    path.write_bytes(start + good[16:])
    with pytest.raises(CompressionError, match="format 2, newer than this version of zoo, which reads up to 1"):
        inference.decompress(path)
    path.write_bytes(json.dumps({"no": "such"}).encode())
    with pytest.raises(CompressionError, match="not a file that zoo compressed"):
        inference.decompress(path)
    with pytest.raises(CompressionError, match="No such file"):
        inference.decompress(tmp_path / "nothing.zoo")


def test_another_model_is_told(made, tmp_path):
    pair, data, _ = made
    path = tmp_path / "a.zoo"
    inference.compress(pair, data, path)
    with pytest.raises(CompressionError, match="it holds no model: give the naive_bayes that it was compressed with"):
        inference.decompress(path)
    other = zoo.create("naive_bayes").double()
    with torch.no_grad():
        next(other.parameters()).add_(0.5)
    with pytest.raises(CompressionError, match="another model, a naive_bayes of other numbers"):
        inference.decompress(path, other)


def test_tables_that_come_out_otherwise_are_refused(made, tmp_path, monkeypatch):
    """As they would where a processor rounds otherwise."""
    pair, data, _ = made
    path, own = tmp_path / "a.zoo", type(pair).class_tables
    inference.compress(pair, data, path)
    monkeypatch.setattr(
        type(pair), "class_tables", lambda self, v, c: (own(self, v, c)[0].roll(1, -1), own(self, v, c)[1])
    )
    with pytest.raises(CompressionError, match="tables come out otherwise here"):
        inference.decompress(path, pair)


def test_a_file_is_written_whole_or_not_at_all(made, tmp_path):
    pair, path = made[0], tmp_path / "a.zoo"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match=r"column 'a', row 1: expected a number, a text"):
        inference.compress(pair, {"a": [1, {}]}, path)
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["a.zoo"]
    for wrong in (object(), np.zeros((0, 3)), {}, {"a": [1], "b": []}, np.array([1j]), ""):
        with pytest.raises(ValueError, match=r"expected"):
            inference.compress(pair, wrong, path)
