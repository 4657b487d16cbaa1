"""Every pair gives its data back to the bit, in chunks of any size, on any number of threads, in another process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import inference
import zoo


def same(one, other):
    assert one.fields().keys() == other.fields().keys()
    for name, value in one.fields().items():
        assert value.dtype == other.fields()[name].dtype
        assert value.numpy().tobytes() == other.fields()[name].numpy().tobytes(), name


@pytest.mark.parametrize("name", zoo.names())
def test_what_a_pair_simulates_comes_back(name, tmp_path):
    torch.manual_seed(0)
    pair = zoo.create(name)
    data = pair.simulate(20)[0]
    found = {}
    for chunk in (1, 64):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            try:
                path = tmp_path / f"{chunk}.{threads}.zoo"
                made = inference.compress(pair, data, path, chunk=chunk)
                same(inference.decompress(path, pair), data)
            finally:
                torch.set_num_threads(1)
            found[chunk, threads] = path.read_bytes()
            assert made.rows == 20
            assert made.rates.file == len(found[chunk, threads])
            assert (made.coded == "model") == (not made.note)
    assert found[1, 1] == found[1, 2]
    assert found[64, 1] == found[64, 2]
    part = inference.decompress(tmp_path / "1.1.zoo", pair, rows=slice(9, 17))
    same(part.but(total=data.total), data.select(slice(9, 17)))


def test_another_process_reads_it(tmp_path):
    torch.manual_seed(1)
    pair = zoo.create("naive_bayes")
    data = pair.simulate(300)[0]
    inside = inference.compress(pair, data, tmp_path / "with.zoo", with_model=True)
    outside = inference.compress(pair, data, tmp_path / "without.zoo")
    assert inside.coded == outside.coded == "model"
    assert outside.rates.file < inside.rates.file
    pair.save(tmp_path / "pair")
    np.save(tmp_path / "x.npy", data.x.numpy())
    code = (
        "import sys, numpy as np, torch, inference, zoo\n"
        "torch.set_num_threads(2)\n"
        "folder = sys.argv[1]\n"
        "x = np.load(folder + '/x.npy').tobytes()\n"
        "for found in (inference.decompress(folder + '/with.zoo'),\n"
        "              inference.decompress(folder + '/without.zoo', zoo.load(folder + '/pair'))):\n"
        "    assert found.x.numpy().tobytes() == x\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


TYPES = ["<f8", "<f4", "<f2", ">f8", "<i8", "|i1", "<u8", "<u2", "|b1", "<M8[s]"]


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(TYPES).flatmap(
        lambda dtype: hnp.arrays(
            dtype, hnp.array_shapes(max_dims=3, max_side=6), elements=hnp.from_dtype(np.dtype(dtype))
        )
    )
)
def test_any_array_comes_back(tmp_path_factory, array):
    path = tmp_path_factory.getbasetemp() / "any.zoo"
    inference.compress(PLAIN, array, path)
    found = inference.decompress(path, PLAIN)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()


PLAIN = zoo.create("gmm", features=2)
CELLS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["a", "b", 0.5, 2])
)


@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 12).flatmap(
        lambda n: st.dictionaries(st.text(max_size=3), st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=4)
    )
)
def test_any_table_comes_back(tmp_path_factory, table):
    path = tmp_path_factory.getbasetemp() / "table.zoo"
    inference.compress(PLAIN, table, path)
    assert repr(inference.decompress(path, PLAIN)) == repr(table)


@settings(deadline=None, max_examples=25)
@given(
    hnp.arrays(
        "f8",
        st.tuples(st.integers(1, 20), st.just(7)),
        elements=st.floats(width=64) | st.sampled_from([0.0, 1.0, 2.0, np.nan]),
    )
)
def test_data_that_the_model_was_not_made_for_come_back(tmp_path_factory, array):
    path = tmp_path_factory.getbasetemp() / "alien.zoo"
    made = inference.compress(TABLE, array[:, :6], path, with_model=True)
    assert made.coded == "model"
    assert inference.decompress(path).tobytes() == array[:, :6].tobytes()


TABLE = zoo.create("naive_bayes").double()


@settings(deadline=None, max_examples=25)
@given(st.text(min_size=1))
def test_any_text_comes_back(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "text.zoo"
    inference.compress(PLAIN, text, path)
    assert inference.decompress(path, PLAIN) == text
