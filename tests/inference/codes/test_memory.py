"""What codes, predictions and scores hold at once stays bounded, whatever the numbers of rows and draws."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import inference
import zoo
from inference.codes.encoding import reconstruct
from inference.codes.gaps import gap, log_marginal
from inference.codes.imputation import impute
from inference.codes.refinement import refine
from tests.helpers.codes import HoleyFactors, globally
from zoo.settings import settings


class Peak(TorchDispatchMode):
    """The largest number of bytes in tensors made while it stands, at any one time."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.seen = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        known = {
            leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
        }
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self.seen and storage._cdata not in known:
                    self.add(storage)
        self.peak = max(self.peak, self.now)
        return result

    def add(self, storage):
        key, size = storage._cdata, storage.nbytes()

        def gone(_):
            self.now -= size
            self.seen.pop(key, None)

        self.seen[key] = weakref.ref(storage, gone)
        self.now += size


SMALL = 2**14  # the budget of these tests


BOUND = 12 * 4 * SMALL  # bytes beyond the result that any function may hold: a dozen of the largest tensors at once


def peak(function):
    """Bytes beyond the result at the worst moment, and those of the result."""
    with Peak() as watch:
        result = function()
        held = watch.now
    del result
    return watch.peak - held, held


def test_the_watch_sees_what_is_held_at_once():
    def function():
        kept = [torch.zeros(1000) for _ in range(3)]
        total = torch.stack(kept).sum(0)
        del kept
        for _ in range(5):
            total = total + torch.ones(1000).reshape(10, -1).reshape(-1)
        return total

    extra, held = peak(function)
    assert held == 4000
    assert extra == 4000 * (3 + 3 + 1 - 1)


def log_marginal_of(trials):
    config = {"likelihood": "categorical", "trials": trials} if trials else {}
    pair = zoo.create("gaussian_vae", hidden=(16,), **config)
    return lambda rows, count: lambda: log_marginal(pair, torch.ones(rows, 64), particles=count)


def predictions(rows, count):
    pair = zoo.create("gaussian_vae", hidden=(16,))
    posterior = inference.draw(pair, torch.ones(rows, 64), draws=count)
    return lambda: inference.predict(pair, posterior, torch.ones(rows, 64))


def imputations(rows, count):
    x = torch.ones(rows, 5)
    x[:, 2] = torch.nan
    return lambda: impute(HoleyFactors(), x, draws=count, proposals=count)


def refinements(rows, count):
    pair = zoo.create("gaussian_vae", hidden=(16,))
    return lambda: refine(pair, torch.ones(rows, 64), covariance="full", steps=2, samples=count)


def gaps(rows, count):
    pair = zoo.create("gaussian_vae", hidden=(16,))
    options = {"steps": 1, "temperatures": 2, "method": "annealed"}
    return lambda: gap(pair, torch.ones(rows, 64), chains=max(2, count // 8), particles=count, **options)


def reconstructions(rows, count):
    pair = zoo.create("bayesian_vae", features=64, hidden=(16,))
    posterior = globally(pair, draws=3)
    return lambda: reconstruct(pair, torch.ones(rows, 64), draws=count, posterior=posterior)


def slow(task, name):
    return pytest.param(task, id=name, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(log_marginal_of(None), id="log_marginal"),
        pytest.param(predictions, id="predict"),
        pytest.param(imputations, id="impute"),
        slow(log_marginal_of(10), "log_marginal of categories"),
        slow(reconstructions, "reconstruct"),
        slow(refinements, "refine"),
        slow(gaps, "gap"),
    ],
)
@settings.using(memory=SMALL)
def test_memory_is_bounded_whatever_the_numbers_of_rows_and_draws(task, monkeypatch):
    monkeypatch.setattr("inference.data.check._CHUNK", 16)  # the check of the data has its own bound, of 4096 rows
    extras = {(rows, count): peak(task(rows, count))[0] for rows, count in ((40, 40), (160, 40), (40, 160))}
    assert max(extras.values()) < BOUND, extras
