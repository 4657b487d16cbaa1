"""What was saved before keeps loading: one folder of each pair, a pickle, and a run folder of the command line.

All were made by the code from before `inference` became packages. Folders without a `history` are of that kind.
"""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
import torch

import inference
import zoo
from inference.command.main import main
from tests.helpers import pairs
from tests.helpers.places import ROOT
from zoo.batch import Batch

SAVED, PICKLED, RUN = (ROOT / "tests" / name for name in ("saved", "saved_pickle", "saved_run"))
NAMES = sorted(path.name for path in SAVED.iterdir())
# Equal to the last bit on the machine and the libraries that made them. Elsewhere sums run in another order: float64
# has 1e-16, these sums some thousand terms, and triangular solves lose a few digits more.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
QUICK = {"compile": "off", "progress": False, "device": "cpu"}


def scores_of(name):
    return json.loads((SAVED / name / "scores.json").read_text())


def data_of(scores):
    kinds = scores["dtypes"]
    return Batch.of(**{n: torch.tensor(v, dtype=getattr(torch, kinds[n])) for n, v in scores["data"].items()})


def test_every_pair_has_its_folder():
    assert pairs.NAMES == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_pair_scores_as_it_did(name):
    scores, pair = scores_of(name), zoo.load(SAVED / name)
    data = data_of(scores)
    assert pair.fitted
    posterior = inference.draw(pair, data, 4, seed=1)
    found = inference.log_likelihood(pair, posterior, data, particles=10, seed=2)
    np.testing.assert_allclose(found, scores["log_likelihood"], **CLOSE)
    if scores["log_p"]:
        np.testing.assert_allclose(posterior.stats["log_p"], scores["log_p"], **CLOSE)
    predicted = inference.predict(pair, posterior, data, seed=4)
    sums = {field: value.double().sum().item() for field, value in predicted.items()}
    assert sums == pytest.approx(scores["predicted"], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_goes_on_from_a_saved_pair(name, recwarn):
    """It is not started anew, and the data it was fitted to call for no other constants."""
    pair = zoo.load(SAVED / name)
    before = {key: value.clone() for key, value in pair.state_dict().items()}
    fit = inference.fit(pair, data_of(scores_of(name)), steps=1, lr=1e-9, average=0, **QUICK)
    assert fit.kept == ()
    assert not [w for w in recwarn if issubclass(w.category, inference.KeptConstants)]
    for key, value in pair.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=1e-6, atol=1e-7)


def test_what_was_saved_before_can_be_saved_again(tmp_path):
    pair = zoo.load(zoo.load(SAVED / "gmm").save(tmp_path / "again"))
    assert pair.fitted
    assert json.loads((tmp_path / "again" / "config.json").read_text())["history"]["trained"] is True


def test_an_old_pickle_loads():
    text = (PICKLED / "gmm.pickle").read_bytes()
    assert b"zoo.base" in text, "the old name of what rebuilds a pair"
    pair = pickle.loads(text)
    x = torch.tensor([[3.6, 79.0], [1.8, 54.0], [3.333, 74.0]], dtype=torch.float64)
    scores = inference.log_likelihood(pair, inference.draw(pair, Batch.of(x=x), 4, seed=1), Batch.of(x=x), seed=2)
    wanted = json.loads((PICKLED / "scores.json").read_text())["log_likelihood"]
    np.testing.assert_allclose(scores, wanted, **CLOSE)
    assert pair.fitted
    assert b"zoo.pair" in pickle.dumps(pair), "the name that pickles give from now on"


def test_an_old_run_folder_is_loaded_and_sampled_from(tmp_path, monkeypatch, capsys):
    shutil.copytree(RUN, tmp_path / "old")
    monkeypatch.chdir(tmp_path)
    pair = zoo.load("old")
    assert pair.fitted
    assert pair.card["metrics"]["observations"] == 150
    main(["sample", "old", "--number", "7", "--out", "more.csv"])
    assert len((tmp_path / "more.csv").read_text().splitlines()) == 8
    assert "7 new observations" in capsys.readouterr().out
