"""The campaign "bad data": a slice of it, and the whole of it, with no wrong answer; and it sees planted faults."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import zoo.arrays
from tests.campaigns import bad_data
from tests.helpers.pairs import NAMES


def test_a_slice_of_the_campaign_has_no_wrong_answer():
    result = bad_data.campaign(["linear_autoencoder"], every=29, steps=20)
    assert set(result.counts) == {*bad_data.DOORS, "same bits"}
    assert not result.wrong, result.table()


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (lambda data: np.asarray(data.data), "a masked cell: -999 is seen at"),
        (lambda data: np.nan_to_num(np.asarray(data.filled(np.nan))), "a masked cell: 0 is seen at"),
    ],
    ids=["the mask thrown away", "zero for missing"],
)
def test_a_planted_fault_is_seen(fault, seen, monkeypatch):
    monkeypatch.setattr(zoo.arrays, "_unmasked", fault)
    subject, result = bad_data.Subject.of("linear_autoencoder", steps=60), bad_data.Result()
    subject.fields = lambda: ((name, given) for name, given in fields if given.name == "a masked cell")
    fields = list(bad_data.Subject.fields(subject))
    bad_data.bad(subject, result)
    assert len(result.wrong) == len(bad_data.DOORS)
    assert all(seen in what for _, what in result.wrong)
    assert seen in result.table()


def test_dumps_late_refusals_and_unnamed_cells_are_wrong():
    given = bad_data.Given("a cell", None, None, (3, 1))

    def said(words, begun=(), kind=ValueError):
        def call():
            raise kind(words)

        return bad_data.judge(call, given, "x", None, list(begun))

    assert said("field 'x', row 3, column 1").startswith("raised from below")
    assert said("field 'x', row 3, column 1", begun=[1]).startswith("refused after a step")
    assert said("shape", kind=RuntimeError) == "RuntimeError: shape"
    assert bad_data.judge(lambda: None, given, "x", None, []) == "accepted, and it holds no numbers"

    def refused(value):
        return bad_data.judge(lambda: zoo.arrays.as_tensor("x", value), given, "x", None, [])

    wrong = np.ones((5, 2), object)
    wrong[3, 1] = "red"
    assert refused(wrong) == ""
    wrong[2, 0] = "red"
    assert refused(wrong).startswith("row or column is not named")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_campaign_has_no_wrong_answer():
    torch.set_num_threads(1)
    result = bad_data.campaign(NAMES)
    assert result.counts.total() > 9000
    assert not result.wrong, result.table()
