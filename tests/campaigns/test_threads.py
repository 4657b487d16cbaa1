"""The campaign of threads: a slice of it at once, all of it among the slow tests."""

from __future__ import annotations

import warnings

import pytest

from tests.campaigns import threads


@pytest.fixture(autouse=True)
def short_runs():
    with warnings.catch_warnings():  # fits of ten steps are not asked to converge
        warnings.simplefilter("ignore")
        yield


def test_reading_and_loading_beside_each_other(tmp_path):
    works = {name: work for name, work in threads.kinds(tmp_path).items() if name in ("draw, score, predict", "load")}
    alone = {name: threads.bits(work()) for name, work in works.items()}
    names = [*works, *works]
    found = threads.together([works[name] for name in names])
    assert [threads.wrong(name, result, alone[name]) for name, result in zip(names, found, strict=True)] == [""] * 4


@pytest.mark.slow
def test_every_kind_beside_every_other(tmp_path):
    told = [line for _, lines in threads.cells(tmp_path) for line in lines]
    assert told == []


@pytest.mark.slow
def test_many_calls_in_many_threads_beside_plain_pyro(tmp_path):
    assert threads.soak(tmp_path) == []
