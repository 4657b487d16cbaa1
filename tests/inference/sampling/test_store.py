"""Draws written to a folder are those in memory; a folder that cannot take them is refused."""

from __future__ import annotations

import multiprocessing
import os
from contextlib import nullcontext

import numpy as np
import pytest
import torch

import inference
from inference.sampling import writer
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


@short
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_a_run_that_is_killed_leaves_its_whole_draws_and_no_zeros(seconds, tmp_path, monkeypatch):
    whole = kept_in(None)

    def work():
        taken, take = 0, writer.Draws.take

        def killed(self, points, stats):
            nonlocal taken
            taken += 1
            if taken == 40:
                os._exit(9)
            take(self, points, stats)

        writer.SECONDS = seconds
        writer.Draws.take = killed
        with settings.using(memory=600):  # fifteen draws a piece
            kept_in(tmp_path / "kept")

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == 9
    assert not list(tmp_path.rglob("*.npy"))  # nothing that NumPy's users would take for draws
    found = inference.reopen(tmp_path / "kept")
    pieces = 600 // (4 * 10)
    assert found.size == (39 if seconds == 0 else 39 // pieces * pieces)
    assert found.local == whole.local
    for values, wanted in ((found.draws, whole.draws), (found.stats, whole.stats)):
        assert values.keys() == wanted.keys()
        for name, value in values.items():
            torch.testing.assert_close(value, wanted[name][:, : found.size])
    assert inference.to_arviz(sampling.EightSchools().double(), found, EIGHT).posterior["raw"].shape[1] == found.size
    with pytest.raises(ValueError, match=r"which inference\.reopen\('.*'\) reads"):
        kept_in(tmp_path / "kept")


@short
def test_draws_of_a_finished_run_are_read_again_and_a_folder_without_any_is_refused(tmp_path):
    found = kept_in(tmp_path / "kept")
    again = inference.reopen(tmp_path / "kept")
    assert {name: value.shape for name, value in again.draws.items()} == {
        name: value.shape for name, value in found.draws.items()
    }
    assert all(torch.equal(value, found[name]) for name, value in again.draws.items())
    with pytest.raises(ValueError, match="holds no draws of which one was whole"):
        inference.reopen(tmp_path / "none")
    (tmp_path / "kept" / "draws" / "mu.npy").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"mu\.npy' cannot be read"):
        inference.reopen(tmp_path / "kept")
