"""Every kind of data gives the same batch, whole or in minibatches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

import inference
import zoo
from inference.data.check import as_batch
from inference.fitting.rows import Minibatches
from tests.helpers.pairs import Coded
from zoo.base import Batch


def test_minibatches_are_whole_permutations_in_equal_pieces():
    rows = Minibatches(10, 4, torch.Generator().manual_seed(0))
    drawn = torch.cat([next(rows) for _ in range(5)])
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(10))


def test_every_kind_of_data_is_accepted_and_gives_the_same_batch():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    array = np.random.default_rng(0).normal(size=(6, 4))
    pair = Coded()

    class Rows(Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, i):
            return array[i], i

    names = ["a", "b", "c", "d"]
    forms = [
        array,
        torch.from_numpy(array),
        pandas.DataFrame(array, columns=names),
        polars.DataFrame(array, schema=names),
        Batch.of(array),
        TensorDataset(torch.from_numpy(array)),
        Rows(),
    ]
    for form in forms:
        batch = as_batch(pair, form)
        assert torch.equal(batch.x, torch.from_numpy(array).float())
    bad = pandas.DataFrame(array, columns=names)
    bad.loc[3, "c"] = np.nan
    with pytest.raises(ValueError, match="row 3, column 'c'"):
        as_batch(pair, bad)
    words = pandas.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"], "c": [0, 0], "d": [0, 0]})
    with pytest.raises(ValueError, match="row 0, column 'b': expected a number, got 'x'"):
        as_batch(pair, words)


def test_bare_covariates_are_taken_as_such_where_y_may_be_generated():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 2))
    frame = pandas.DataFrame(X, columns=["a", "b"])
    pair = zoo.create("polynomial_regression", features=2)
    inference.fit(pair, X, X[:, 0], steps=5, progress=False, compile="off")
    posterior = inference.draw(pair, (X, X[:, 0]), 7)
    wanted = inference.predict(pair, posterior, Batch.of(X))["y"]
    assert wanted.shape == (1, 7, 20)
    for bare in (X, torch.from_numpy(X), frame, (X, None)):
        assert torch.equal(inference.predict(pair, posterior, bare)["y"], wanted)
        assert inference.prior(pair, bare, 3).size == 3
    assert inference.importance(pair, posterior, frame)


def test_one_array_for_a_pair_that_needs_two_is_told_by_what_it_was_taken_for():
    pair, X = zoo.create("polynomial_regression", features=2), np.ones((5, 2))
    both = r"give both, as fit\(pair, X, y\)"
    with pytest.raises(ValueError, match=rf"needs field 'x' .*given: one array or frame, taken as y; {both}"):
        inference.fit(pair, X)
    with pytest.raises(ValueError, match=rf"needs field 'y' .*given: x; {both}"):
        inference.fit(pair, Batch.of(X))
