"""Draws that were saved are read back to the last bit, by later versions too, and predict without the fitted data."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import inference
import zoo
from inference import Posterior
from inference.posterior import containers
from tests.helpers.places import ROOT
from zoo.batch import Batch
from zoo.state import DamagedFile

SAVED = ROOT / "tests" / "saved_draws"


def posterior():
    draws = {"loc": torch.randn(2, 5, 3), "a/b": torch.arange(10).reshape(2, 5), "z": torch.randn(2, 5, 4).double()}
    return Posterior(draws, frozenset({"z"}), {"log_p": torch.tensor(np.full((2, 5), np.nan))}, "mcmc", 2, 5)


def told(found):
    plain = found.local, found.method, found.chains, found.size, type(found)
    return plain, {n: (v.dtype, v.numpy().tobytes()) for n, v in (found.draws | found.stats).items()}


def test_draws_come_back_bit_for_bit(tmp_path):
    wanted = posterior()
    assert wanted.save(tmp_path / "draws") == tmp_path / "draws"
    assert told(Posterior.load(tmp_path / "draws")) == told(wanted)
    other = Posterior({"x": torch.ones(1, 2)}, size=2)
    other.save(str(tmp_path / "draws"))
    assert told(Posterior.load(tmp_path / "draws")) == told(other), "the newest"
    assert len(list((tmp_path / "draws").iterdir())) == 2


def test_a_kill_between_the_files_leaves_the_earlier_draws(tmp_path, monkeypatch):
    wanted = posterior()
    wanted.save(tmp_path)
    real = os.replace

    def replace(source, target):
        if str(target).endswith(".json"):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        Posterior({"x": torch.ones(1, 2)}, size=2).save(tmp_path)
    assert told(Posterior.load(tmp_path)) == told(wanted)


DAMAGES = {
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "gone": lambda path: path.unlink(),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"x": 1})),
    "a bit flipped": lambda path: path.write_bytes((old := path.read_bytes())[:-9] + bytes([old[-9] ^ 1]) + old[-8:]),
}


@pytest.mark.parametrize("end", [".json", ".safetensors"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_kind_of_error(damage, end, tmp_path):
    posterior().save(tmp_path)
    DAMAGES[damage](next(tmp_path.glob(f"*{end}")))
    with pytest.raises(DamagedFile):
        Posterior.load(tmp_path)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(DamagedFile, match="holds no draws that were saved"):
        Posterior.load(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no draws of which one was whole"):
        Posterior.open(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DamagedFile, match="cannot read draws from"):
        Posterior.load(tmp_path / "file")
    with pytest.raises(ValueError, match="cannot save draws into"):
        posterior().save(tmp_path / "file")


def test_a_posterior_nc_is_read_back(tmp_path):
    torch.manual_seed(0)
    pair = zoo.create("gmm", features=2, components=2).double()
    data = pair.simulate(20)[0]
    wanted = inference.draw(pair, data, 6)
    containers.save(inference.to_arviz(pair, wanted, data, predictive=False), tmp_path / "posterior.nc")
    found = Posterior.load(tmp_path / "posterior.nc")
    assert (found.chains, found.size, found.method) == (1, 6, "svi")
    for name, value in wanted.draws.items():
        assert torch.equal(found[name], value)
    assert torch.equal(found.stats["log_p"], wanted.stats["log_p"])
    scores = [inference.log_likelihood(pair, draws, data) for draws in (wanted, found)]
    assert torch.equal(*scores)


def test_draws_of_an_earlier_version_predict_without_the_data_of_their_fit():
    """The folder was made by the first version that saved draws, and stays as it is: pair, draws, rows and answers."""
    pair, found = zoo.load(SAVED / "model"), Posterior.load(SAVED / "draws")
    known = json.loads((SAVED / "answers.json").read_text())
    rows = Batch.of(x=torch.tensor(known["x"], dtype=torch.float64))
    mean = inference.predictions(pair, found, rows)["mean"]
    np.testing.assert_allclose(np.asarray(mean), known["mean"], rtol=1e-9)
    drawn = inference.predict(pair, found, rows, seed=1)["y"]
    assert drawn.shape == (2, 8, 3)
    assert drawn.double().mean().item() == pytest.approx(known["drawn"], rel=1e-9)
    nc = Posterior.load(SAVED / "posterior.nc")
    assert nc.draws.keys() == {"sigma"}, "the others are in the units of x and y there: they are no latents"
    with pytest.raises(ValueError, match=r"variance|coefficients"):
        inference.predict(pair, nc, rows)


def test_an_older_posterior_nc_that_does_not_tell_units_is_refused(tmp_path):
    groups = {"posterior": {"loc": (("chain", "draw"), np.zeros((1, 4)))}}
    containers.save(containers.build(groups), tmp_path / "posterior.nc")
    with pytest.raises(DamagedFile, match="does not say which latents are in the data's units"):
        Posterior.load(tmp_path / "posterior.nc")


def test_saved_draws_can_be_saved_again(tmp_path):
    shutil.copytree(SAVED / "draws", tmp_path / "draws")
    found = Posterior.load(tmp_path / "draws")
    found.save(tmp_path / "draws")
    assert told(Posterior.load(tmp_path / "draws")) == told(found)
