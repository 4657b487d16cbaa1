"""What is written takes as many bits as the model says, minus log2 p, and no more than other programs write."""

from __future__ import annotations

import gzip
import lzma

import numpy as np
import pytest
import torch
from scipy import stats

import inference
import zoo
from inference.compression.freezing import DRAWS
from inference.compression.rates import Rates, others


def own_bits(pair, data, steps=1.0):
    """Minus log2 of the posterior predictive density, and of the width of a cell: bits of all rows."""
    posterior = inference.draw(pair, data, DRAWS, stats=False)
    return float(-inference.log_score(pair, posterior, data).sum() / np.log(2)) - data.size * np.log2(steps)


def fitted(columns, x, y=None, **config):
    pair = zoo.create("naive_bayes", columns=columns, **config).double()
    data = zoo.Batch.of(x=torch.from_numpy(x), **({} if y is None else {"y": torch.from_numpy(y)}))
    inference.fit(pair, data, steps=100, progress=False, compile="off")
    return pair, data


@pytest.fixture(scope="module")
def mixed_table():
    """4,000 rows of a table whose columns hang together through a class of three that is not in it."""
    rng = np.random.default_rng(0)
    z = rng.integers(0, 3, 4000)
    x = np.stack(
        [
            np.round(rng.normal(np.array([0.0, 4.0, 9.0])[z], 1.0), 1),
            np.round(np.exp(rng.normal(np.array([1.0, 2.0, 3.0])[z], 0.3)), 2),
            rng.poisson(np.array([2.0, 9.0, 30.0])[z]),
            (rng.random(4000) < np.array([0.1, 0.5, 0.9])[z]).astype(float),
            np.array(
                [rng.choice(5, p=p) for p in np.array([[8, 1, 1, 0, 0], [1, 1, 6, 1, 1], [0, 0, 1, 1, 8]])[z] / 10]
            ),
        ],
        axis=1,
    )
    columns = [("a", "real"), ("b", "positive"), ("c", "count"), ("d", "binary"), ("e", "categorical", (0, 1, 2, 3, 4))]
    return fitted(columns, x, target=("z", "categorical", (0, 1, 2)))


def test_the_file_takes_what_the_model_says(mixed_table, tmp_path):
    pair, data = mixed_table
    made = inference.compress(pair, data, tmp_path / "a.zoo", chunk=4096)
    bits = own_bits(pair, data, steps=0.1 * 0.01)
    assert made.coded == "model"
    assert 8 * made.rates.chunks == pytest.approx(bits, rel=0.01, abs=64)
    raw = "\n".join(",".join(f"{cell:g}" for cell in row) for row in data.x.tolist()).encode()
    assert made.rates.file < len(lzma.compress(raw, preset=9))  # header and all


def test_columns_that_hang_together_cost_less_than_alone(mixed_table, tmp_path):
    pair, data = mixed_table
    together = inference.compress(pair, data, tmp_path / "a.zoo").rates.chunks
    plain = inference.compress(zoo.create("gmm"), data, tmp_path / "b.zoo")
    assert plain.coded == "frequencies"
    assert "has no codec of its own" in plain.note or "columns" in plain.note
    assert together < 0.93 * plain.rates.chunks


def test_a_column_of_categories_takes_its_entropy(tmp_path):
    rng = np.random.default_rng(1)
    p = np.array([0.6, 0.3, 0.08, 0.02])
    x = rng.choice(4, size=(20000, 1), p=p).astype(np.uint8)
    made = inference.compress(zoo.create("gmm", features=5), x, tmp_path / "a.zoo")
    counts = np.bincount(x[:, 0])
    assert 8 * made.rates.chunks == pytest.approx(len(x) * stats.entropy(counts, base=2), rel=1e-3, abs=400)


def test_a_hole_is_left_out_and_told_apart(mixed_table, tmp_path):
    pair, data = mixed_table
    holes = torch.from_numpy(np.random.default_rng(2).random(tuple(data.x.shape)) < 0.1)
    data = data.but(x=data.x.masked_fill(holes, torch.nan))
    made = inference.compress(pair, data, tmp_path / "a.zoo")
    seen = ~holes.numpy()
    steps = seen[:, 0].sum() * np.log2(0.1) + seen[:, 1].sum() * np.log2(0.01)
    where = sum(len(column) * stats.entropy([column.mean(), 1 - column.mean()], base=2) for column in seen.T)
    assert 8 * made.rates.chunks == pytest.approx(own_bits(pair, data) - steps + where, rel=0.01, abs=64)
    again = inference.decompress(tmp_path / "a.zoo", pair)
    assert again.x.numpy().tobytes() == data.x.numpy().tobytes()


def test_a_value_that_the_model_finds_impossible_costs_some_bytes(mixed_table, tmp_path):
    pair, data = mixed_table
    before = inference.compress(pair, data, tmp_path / "a.zoo").rates.file
    x = data.x.clone()
    x[7, 0], x[9, 3] = 1e7, 5.0
    after = inference.compress(pair, data.but(x=x), tmp_path / "b.zoo").rates.file
    assert before < after < before + 400
    assert torch.equal(inference.decompress(tmp_path / "b.zoo", pair).x, x)


def test_break_even():
    rates = Rates(file=1500, header=300, tables=200, chunks=1000, raw=8000)
    even = rates.break_even({"gzip": 3000, "xz": 900}, rows=100)
    assert even["gzip"] == pytest.approx(500 / (30 - 10))
    assert even["xz"] == float("inf")
    assert "500 bytes that do not grow" in rates.told(100, 2)
    assert "80.00 bits a row, 40.0000 a cell" in rates.told(100, 2)
    data = b"a,b\n" * 1000
    found = others(data)
    assert found["gzip"] == len(gzip.compress(data, 9, mtime=0))
    assert found.keys() >= {"gzip", "bz2", "xz"}
