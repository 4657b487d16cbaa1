"""The user's own files, whole or damaged: IDX, CSV, NumPy, Parquet; no pickle is ever read."""

from __future__ import annotations

import gzip
import math
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.helpers.files import CODES, idx
from zoo import datasets
from zoo.notes import DataWarning

IDX_ARRAYS = st.sampled_from(sorted(CODES)).flatmap(
    lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
)


@settings(max_examples=60, deadline=None)
@given(values=IDX_ARRAYS, zipped=st.booleans())
def test_idx_round_trip(values: np.ndarray, zipped: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(idx(values)) if zipped else idx(values))
    out = datasets.read_idx(path)
    assert out.dtype == values.dtype
    assert out.dtype.isnative
    np.testing.assert_array_equal(out, values)


@settings(max_examples=60, deadline=None)
@given(values=IDX_ARRAYS, data=st.data())
def test_idx_of_another_length_is_refused(
    values: np.ndarray, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = idx(values)
    keep = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.mktemp("idx") / "file"
    for damaged, word in ((whole[:keep], "truncated|not an IDX"), (whole + b"\0", "oversized")):
        for content in (damaged, gzip.compress(damaged, mtime=0)):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=word) as caught:
                datasets.read_idx(path)
            assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\1\x08\1" + bytes(8), "two zero bytes"),
        (b"\0\0\x07\1" + bytes(8), "unknown IDX type 0x07; known: 0x08"),
        (b"\0\0\x08\0" + bytes(8), "at least one dimension"),
        (b"\0\0\x08\3" + b"\xff" * 12 + bytes(9), "truncated: shape"),  # promises 2^96 bytes
        (gzip.compress(bytes(100), mtime=0)[:-12], "cannot read"),
        (gzip.compress(bytes(100), mtime=0)[:10] + b"\xff" * 40, "cannot read"),
        (None, "cannot read"),
    ],
)
def test_idx_damaged(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        datasets.read_idx(path)
    assert str(path) in str(caught.value)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "columns", "x"),
    [
        ("a,b\n1,2\n3,4\n", ("a", "b"), [[1, 2], [3, 4]]),
        ("1,2\n3,4", ("column_1", "column_2"), [[1, 2], [3, 4]]),
        ('\ufeff"a, b";c\r\n\r\n1e3;-2\r\n', ("a, b", "c"), [[1000, -2]]),
        ("a\tb\n 1 \t2\n", ("a", "b"), [[1, 2]]),
        ("a,b\n,2\nNA,nan\n", ("a", "b"), [[math.nan, 2], [math.nan, math.nan]]),
        (",b\n1,2\n", ("column_1", "b"), [[1, 2]]),
        ("a\n1\n2\n", ("a",), [[1], [2]]),
    ],
)
def test_csv(text: str, columns: tuple[str, ...], x: list[list[float]], tmp_path: Path) -> None:
    batch, found = datasets.read(write(tmp_path / "t.CSV", text))
    assert found == columns
    assert batch.x.dtype == torch.float64
    np.testing.assert_array_equal(batch.x, np.array(x, dtype=float))


def test_csv_target(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a,price,b\n1,2,3\n4,5,6\n")
    batch, columns = datasets.read(path, target="price")
    assert columns == ("a", "b")
    assert batch.x.tolist() == [[1, 3], [4, 6]]
    assert batch.y.tolist() == [2, 5]
    assert datasets.load(str(path), target="price").y.tolist() == [2, 5]
    only = write(tmp_path / "u.csv", "y\n1\n2\n")
    assert datasets.load(only, target="y").fields().keys() == {"y"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("a,b\n", "header and no rows"),
        ("a,a\n1,2\n", "two columns called 'a'"),
        ("a,b\n1,2\n3\n", "row 2: expected 2 cells, got 1"),
        ("a,b\n1,2\n3,4,5\n", "row 2: expected 2 cells, got 3"),
        ("a,b\n1,2\n3,red\n", "row 2, column 'b': expected a number, got 'red'"),
        ("1,2\n3,1_000\n", "row 2, column 'column_2': expected a number, got '1_000'"),
        ("a\n1\n" + "9" * 200_000 + "\n", "field limit"),
    ],
)
def test_csv_refused(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(ValueError, match=message) as caught:
        datasets.read(path)
    assert str(path) in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".npy", ".npz", ".parquet", ".NPY"]))
def test_any_bytes_read_or_are_refused(content: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / f"file{suffix}"
    path.write_bytes(content)
    refused = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # some bytes are letters in Windows-1252
            batch, _ = datasets.read(path)
    except ValueError as error:  # and no other
        refused = str(error)
    assert str(path) in refused if refused else suffix == ".csv" and batch.x.ndim == 2


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6).reshape(3, 2),
        np.asfortranarray(np.arange(6.0).reshape(3, 2)),
        np.arange(6, dtype=">f4").reshape(3, 2),
        np.arange(6, dtype=np.float16).reshape(3, 2),
        np.ones((3, 2, 2), dtype=bool),
        np.arange(3, dtype=np.longdouble),
    ],
)
def test_npy(value: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", value)
    batch, columns = datasets.read(tmp_path / "t.npy")
    assert batch.size == 3
    assert batch.x.is_floating_point()
    assert batch.x.is_contiguous()
    assert columns == (("column_1", "column_2") if value.ndim == 2 else ())
    np.testing.assert_array_equal(batch.x, value.astype(np.float64))
    batch.x.zero_()  # its own memory, not the file's
    np.testing.assert_array_equal(np.load(tmp_path / "t.npy"), value)


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, x=np.ones((3, 4), np.float32), y=np.array([0, 1, 2], np.uint8), lengths=np.array([1, 2, 3]))
    batch, columns = datasets.read(path)
    assert batch.x.dtype == torch.float32
    assert batch.y.dtype == batch.lengths.dtype == torch.int64
    assert batch.size == 3
    assert len(columns) == 4
    np.savez(path, x=np.ones((3, 4)), lenghts=np.array([1, 2, 3]))
    with pytest.raises(ValueError, match=r"no batch field 'lenghts', did you mean 'lengths'\?"):
        datasets.read(path)
    np.savez(path, x=np.ones((3, 4)), y=np.ones(2))
    with pytest.raises(ValueError, match="'y': expected"):
        datasets.read(path)
    np.savez(path)
    with pytest.raises(ValueError, match="holds no array"):
        datasets.read(path)


class Payload:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_pickles_are_never_read(tmp_path: Path) -> None:
    payload = Payload(tmp_path / "ran")
    hostile = np.empty(1, dtype=object)
    hostile[0] = payload
    np.save(tmp_path / "t.npy", hostile, allow_pickle=True)
    np.savez(tmp_path / "t.npz", x=hostile)
    (tmp_path / "u.npy").write_bytes(pickle.dumps(payload))
    for name in ("t.npy", "t.npz", "u.npy"):
        with pytest.raises(ValueError, match="never unpickled"):
            datasets.read(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_npy_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    for value, message in [
        (np.array(["a", "b"]), "expected numbers, got an array of str"),
        (np.ones(2, dtype=complex), "complex128"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "datetime64"),
        (np.array(1.0), "at least one row"),
        (np.ones((0, 3)), "at least one row"),
        (np.ones((3, 0)), "at least one row"),
    ]:
        np.save(path, value)
        with pytest.raises(ValueError, match=message):
            datasets.read(path)
    np.save(path, np.ones((100, 100)))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="damaged"):
        datasets.read(path)
    path.write_bytes(whole.replace(b"(100, 100)", b"(10**9,10)"))
    with pytest.raises(ValueError, match="damaged"):
        datasets.read(path)


@pytest.mark.parametrize("names", [("x_train", "y_train", "x_test"), ("train_images", "train_labels", "val_images")])
def test_npz_in_parts(tmp_path: Path, names: tuple[str, str, str]) -> None:
    """As the archives of MNIST and its kin are."""
    images, labels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.array([1, 0])
    x, y, other = names
    np.savez(tmp_path / "t.npz", **{x: images, y: labels, other: images[:1]})
    with pytest.warns(DataWarning, match=f"left out, as other parts of the archive: {other}"):
        batch = datasets.load(tmp_path / "t.npz")
    np.testing.assert_array_equal(batch.x, images)
    np.testing.assert_array_equal(batch.y, labels)
    np.savez(tmp_path / "t.npz", **{x: images, "mask": images})
    with pytest.raises(ValueError, match="no batch field"):
        datasets.load(tmp_path / "t.npz")


def test_npz_flipped(tmp_path: Path) -> None:
    # A zip checks each member: no flip in the data may pass unseen.
    path, value = tmp_path / "t.npz", np.arange(1000.0)
    np.savez_compressed(path, x=value)
    whole = bytearray(path.read_bytes())
    for position in np.random.default_rng(0).integers(0, len(whole), 100):
        flipped = whole.copy()
        flipped[position] ^= 1 << (position % 8)
        path.write_bytes(flipped)
        try:
            batch, _ = datasets.read(path)
        except ValueError:
            continue
        np.testing.assert_array_equal(batch.x, value)


PARQUET = ("pyarrow.parquet", "polars", "pandas")


@pytest.mark.parametrize("library", PARQUET)
def test_parquet(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(library)
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"a": [1, None, 3], "b": [0.5, 1.5, None], "c": [True, False, None], "d": [1, 2, 3]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    parquet.write_table(pyarrow.table({"a": [1, 2], "b": ["red", "green"]}), tmp_path / "u.parquet")
    if library != "pandas":  # pandas itself reads through pyarrow
        for other in set(PARQUET) - {library}:
            monkeypatch.setitem(sys.modules, other, None)
    else:
        monkeypatch.setattr("zoo.datasets.readers._PARQUET", {library: datasets.readers._PARQUET[library]})
    batch, found = datasets.read(tmp_path / "t.parquet", target="d")
    assert found == ("a", "b", "c")
    assert batch.x.dtype == torch.float64
    assert batch.y.tolist() == [1, 2, 3]
    nan = math.nan
    np.testing.assert_array_equal(batch.x, [[1, 0.5, 1], [nan, 1.5, 0], [3, nan, nan]])
    with pytest.raises(ValueError, match="row 1, column 'b': expected a number, got 'red'"):
        datasets.read(tmp_path / "u.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"damaged.*") as caught:
        datasets.read(tmp_path / "t.parquet")
    assert "t.parquet" in str(caught.value)


def test_parquet_without_any_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.parquet").touch()
    for library in PARQUET:
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=r"pip install .pyro-zoo\[parquet\]"):
        datasets.read(tmp_path / "t.parquet")


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "t.xlsx").touch()
    np.savez(tmp_path / "t", x=np.ones(2))
    (tmp_path / "t.npz").rename(tmp_path / "t.npy")
    np.save(tmp_path / "u", np.ones(2))
    (tmp_path / "u.npy").rename(tmp_path / "u.npz")
    for name, message in [
        ("none.csv", "no such file"),
        ("folder.csv", "not a file"),
        ("t.xlsx", "ending in .csv"),
        ("t.npy", "rename it to .npz"),
        ("u.npz", "rename it to .npy"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            datasets.load(str(tmp_path / name))
        assert str(tmp_path / name) in str(caught.value)


def test_arff_of_numbers_is_a_matrix(tmp_path: Path) -> None:
    path = tmp_path / "t.arff"
    path.write_text("@relation r\n@attribute a real\n@attribute kind {0, 1}\n@data\n1.5, 1\n?, 0\n")
    table = datasets.read(path, target="kind")
    assert table.columns == ("a",)
    np.testing.assert_array_equal(table.batch.x, [[1.5], [np.nan]])
    np.testing.assert_array_equal(table.batch.y, [1, 0])
    np.testing.assert_array_equal(datasets.load(path).x, [[1.5, 1], [np.nan, 0]])
    path.write_text(path.read_text().replace("{0, 1}", "{0, 1, blue}").replace("?, 0", "?, blue"))
    with pytest.raises(ValueError, match=r"t\.arff': row 2, column 'kind': expected a number, got 'blue'"):
        datasets.load(path)
    path.write_text("@relation r\n@attribute a real\n@data\n")
    with pytest.raises(ValueError, match="a header and no rows"):
        datasets.load(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_bytes_that_are_no_numpy_file_are_not_called_objects(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{suffix}"
    for content in (b"\xce\x93" + bytes(range(100)), b"a,b\n1,2\n", b"\x80\x07" * 9):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged or not a NumPy file") as caught:
            datasets.load(path)
        assert "pickle" not in str(caught.value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"no array")
    with pytest.raises(ValueError, match=r"its member 'x' is no array" if suffix == ".npz" else r"rename it to \.npz"):
        datasets.load(path)


@pytest.mark.parametrize("name", ["t.csv", "t.arff"])
@pytest.mark.parametrize("reader", [datasets.load, datasets.table])
def test_a_text_that_is_none_is_told_by_its_first_bad_byte(
    name: str, reader: Callable[[Path], object], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"a,b\n\x811,2\n")
    with pytest.raises(ValueError, match=f"{name}': not a text in UTF-8: byte 5 is 0x81$"):
        reader(tmp_path / name)
