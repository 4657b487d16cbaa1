"""Data sets say of themselves what is true, and readers refuse what they cannot read, by name."""

from __future__ import annotations

import gzip
import math
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from zoo import datasets
from zoo.datasets import Description, dataset, registry

NAMES = [name for name in datasets.names() if not name.startswith("fashion")]
SKLEARN = [name for name in NAMES if "scikit-learn" in datasets.describe(name).needs]


# --- known data sets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", NAMES)
def test_description_is_true(known: str) -> None:
    about, batch = datasets.describe(known), datasets.load(known)
    assert about.rows == batch.size == batch.total
    assert len(set(about.columns)) == len(about.columns)
    assert bool(about.target) == (batch.y is not None)
    assert about.what
    assert about.source
    assert about.licence
    for value in batch.fields().values():
        assert value.dtype in (torch.float64, torch.int64)
        assert value.is_contiguous()
        assert torch.isfinite(value).all()
    if batch.lengths is None:
        assert batch.x.shape == (about.rows, len(about.columns))


@pytest.mark.parametrize("known", SKLEARN)
def test_same_values_and_columns_as_scikit_learn(known: str) -> None:
    bunch = getattr(pytest.importorskip("sklearn.datasets"), f"load_{known}")()
    batch = datasets.load(known)
    np.testing.assert_array_equal(batch.x, bunch.data)
    np.testing.assert_array_equal(batch.y, bunch.target)

    def words(columns: object) -> list[set[str]]:
        return [set(str(c).replace("(cm)", "").replace("/", "_").replace("_", " ").split()) for c in columns]

    if known == "diabetes":
        np.testing.assert_allclose((batch.x**2).sum(0), 1)
    if known == "digits":
        assert words(c.replace("pixel", "") for c in bunch.feature_names) == words(
            c.replace("pixel", "") for c in datasets.describe(known).columns
        )
        assert set(batch.x.unique().tolist()) == set(range(17))
    else:
        assert words(datasets.describe(known).columns) == words(bunch.feature_names)


def test_faithful_has_its_published_means() -> None:
    # Means and standard deviations that R prints for `datasets::faithful`.
    x = datasets.load("faithful").x
    np.testing.assert_allclose(x.mean(0), [3.487783, 70.897059], atol=5e-7)
    np.testing.assert_allclose(x.std(0), [1.141371, 13.594974], atol=5e-7)


def test_earthquakes_has_its_published_likelihood() -> None:
    # Zucchini, MacDonald & Langrock, 2nd ed.: one Poisson state, -log L = 391.9189; mean 19.364, variance 51.573.
    batch = datasets.load("earthquakes")
    assert batch.x.shape == (1, 107)
    assert batch.lengths.tolist() == [107]
    assert batch.x.mean().item() == pytest.approx(19.364, abs=5e-4)
    assert batch.x.var().item() == pytest.approx(51.573, abs=5e-4)
    log_likelihood = torch.distributions.Poisson(batch.x.mean()).log_prob(batch.x).sum().item()
    assert -log_likelihood == pytest.approx(391.9189, abs=5e-5)


def test_eight_schools_pooled_effect() -> None:
    # Gelman et al., Bayesian Data Analysis, 3rd ed., section 5.5: pooled estimate 7.7, standard error 4.1.
    batch = datasets.load("eight_schools")
    weight = batch.x[:, 0] ** -2
    assert ((weight * batch.y).sum() / weight.sum()).item() == pytest.approx(7.7, abs=0.05)
    assert weight.sum().item() ** -0.5 == pytest.approx(4.1, abs=0.05)


def test_target_moves_a_column() -> None:
    whole, batch = datasets.load("faithful"), datasets.load("faithful", target="waiting")
    assert torch.equal(batch.x, whole.x[:, :1])
    assert torch.equal(batch.y, whole.x[:, 1])
    with pytest.raises(ValueError, match=r"'faithful'.*no column 'wating', did you mean 'waiting'\?"):
        datasets.load("faithful", target="wating")
    with pytest.raises(ValueError, match="not a table"):
        datasets.load("earthquakes", target="count")


@pytest.mark.parametrize("ask", [datasets.load, datasets.describe])
def test_unknown_name_gets_the_nearest(ask: object) -> None:
    with pytest.raises(ValueError, match="unknown data set 'irs', did you mean 'iris'"):
        ask("irs")


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match=r"'iris' comes with scikit-learn.*pyro-zoo\[sklearn\]"):
        datasets.load("iris")
    assert datasets.load("faithful").size == 272


def test_adding_a_data_set_touches_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_known", dict(registry._known))
    about = Description("toy", what="w", rows=2, columns=("a",), source="s", licence="l")
    dataset(about)(lambda: {"x": np.ones((2, 1))})
    assert "toy" in datasets.names()
    assert datasets.describe("toy") == about
    assert datasets.load("toy").size == 2
    dataset(about)(lambda: {"x": np.ones((2, 1))})  # a reloaded module registers again
    other = dataset(Description("toy", what="v", rows=2, columns=("a",), source="s", licence="l"))
    with pytest.raises(ValueError, match="two data sets called 'toy'"):
        other(lambda: {"x": np.ones((2, 1))})


def test_import_is_light() -> None:
    code = "import sys, zoo.datasets as d; d.describe('iris'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded
    assert not {"torch", "pandas", "polars", "pyarrow", "sklearn", "matplotlib", "arviz"} & set(loaded)


def test_every_csv_is_in_the_readme() -> None:
    folder = Path(datasets.__file__).parent
    text = (folder / "README.md").read_text(encoding="utf-8")
    for name in [*(file.name for file in folder.glob("*.csv")), *datasets.names()]:
        assert f"`{name}`" in text or f"`{name}.csv`" in text


# --- IDX ---------------------------------------------------------------------------------------------------------

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(values: np.ndarray) -> bytes:
    """The IDX file of an array, by the published layout."""
    head = struct.pack(">BBBB", 0, 0, CODES[values.dtype.str[1:]], values.ndim)
    return (
        head + struct.pack(f">{values.ndim}I", *values.shape) + values.astype(values.dtype.newbyteorder(">")).tobytes()
    )


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


def test_fashion_mnist_from_zoo_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10_000, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, 10_000, dtype=np.uint8)
    (tmp_path / "fashion-mnist").mkdir()
    (tmp_path / "fashion-mnist" / "t10k-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels), 1))
    batch = datasets.load("fashion_mnist_test")
    assert batch.x.shape == (10_000, 784)
    assert batch.x.dtype == torch.float32
    assert batch.y.dtype == torch.int64
    np.testing.assert_array_equal(batch.x, images.reshape(10_000, 784))
    np.testing.assert_array_equal(batch.y, labels)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(labels[:9]))
    with pytest.raises(ValueError, match=r"expected an array of shape \(10000,\), got \(9,\)"):
        datasets.load("fashion_mnist_test")


def test_fashion_mnist_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    with pytest.raises(ValueError, match=r"dataset-fashion-mnist.*ZOO_DATA"):
        datasets.load("fashion_mnist")


# --- the user's own files ----------------------------------------------------------------------------------------


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
