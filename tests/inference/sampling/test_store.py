"""Draws written to a folder are those in memory; a folder that cannot take them is refused."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

import inference
from inference.sampling.sample import sample
from tests.helpers.places import benchmark
from tests.helpers.sampling import QUICK, interrupted_after, short
from zoo import Batch
from zoo.settings import settings

sampling = benchmark("sampling")


def kept_in(folder, draws=40, **options):
    return sample(
        sampling.EightSchools().double(), EIGHT, draws, 4, max_warmup=40, store=folder, **{**QUICK, **options}
    )


EIGHT = Batch.of(x=torch.full((8, 1), 10.0), y=torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]))


@short
@pytest.mark.parametrize("stop", [None, 17])
def test_draws_written_out_are_those_in_memory(stop, tmp_path, monkeypatch):
    whole = kept_in(None)
    if stop:
        interrupted_after(stop, monkeypatch)
    told = pytest.warns(UserWarning, match=f"interrupted: {stop} of 40 draws") if stop else nullcontext()
    with settings.using(memory=200), told:  # five draws a piece
        found = kept_in(tmp_path / "kept")
    assert found.size == (stop or 40)
    for folder, values, wanted in (("draws", found.draws, whole.draws), ("stats", found.stats, whole.stats)):
        assert values.keys() == wanted.keys()
        for name, value in values.items():
            torch.testing.assert_close(value, wanted[name][:, : found.size])
            np.testing.assert_array_equal(np.load(tmp_path / "kept" / folder / f"{name}.npy"), value)
    assert inference.to_arviz(sampling.EightSchools().double(), found, EIGHT).posterior["raw"].shape == (
        4,
        found.size,
        8,
    )
    with pytest.raises(ValueError, match="holds draws already"):
        kept_in(tmp_path / "kept")


@short
def test_a_folder_that_draws_cannot_go_into_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"store: cannot write into .*file"):
        kept_in(tmp_path / "file" / "below")
    with pytest.raises(ValueError, match=r"store: the draws take .* GB, and .* has .* GB left"):
        kept_in(tmp_path / "new", draws=10**12)
    assert not list((tmp_path / "new").iterdir())
