"""Data sets say of themselves what is true, and readers refuse what they cannot read, by name."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.files import idx
from zoo import datasets
from zoo.datasets import Description, dataset, embedded, registry

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


def test_airline_passengers_are_those_of_r_with_their_months():
    # Mean, first and last year that R prints for `datasets::AirPassengers`.
    batch = datasets.load("airpassengers")
    assert batch.x.shape == (1, 144)
    assert float(batch.x.mean()) == pytest.approx(280.2986, abs=5e-5)
    assert batch.x[0, :12].tolist() == [112, 118, 132, 129, 121, 135, 148, 148, 136, 119, 104, 118]
    assert batch.x[0, -12:].tolist() == [417, 391, 419, 461, 472, 535, 622, 606, 508, 461, 390, 432]
    assert batch.when.words(0, 144) == "monthly, 1949-01 to 1960-12"


@pytest.mark.parametrize("ask", [datasets.load, datasets.describe])
def test_unknown_name_gets_the_nearest(ask: object) -> None:
    with pytest.raises(ValueError, match="unknown data set 'irs', did you mean 'iris'"):
        ask("irs")


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"'iris' comes with scikit-learn.*pyro-zoo\[sklearn\]"):
        datasets.load("iris")
    assert datasets.load("faithful").size == 272


@pytest.mark.parametrize("known", embedded._FILES)
def test_a_file_of_scikit_learn_is_read_as_it_is_loaded(known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(embedded, "_sklearn", lambda name: pytest.fail(f"{name} was imported"))
    found = datasets.load(known)
    monkeypatch.undo()
    monkeypatch.setitem(embedded._FILES, known, "no_such_file.csv")
    expected = datasets.load(known)
    assert torch.equal(found.x, expected.x)
    assert torch.equal(found.y, expected.y)
    assert found.x.stride() == expected.x.stride()
    monkeypatch.setitem(embedded._FILES, known, "linnerud_exercise.csv")  # another shape, and not of numbers by commas
    assert torch.equal(datasets.load(known).x, expected.x)


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
