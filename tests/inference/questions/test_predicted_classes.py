"""Probabilities of the classes of new rows, by name, against scikit-learn's naive Bayes; by Python and command."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest

import inference
from inference.command.main import main

naive_bayes = pytest.importorskip("sklearn.naive_bayes")


@functools.cache
def people() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    kind = rng.choice(["cat", "dog", "eel"], 150, p=[0.5, 0.3, 0.2])
    fur = np.where(kind == "eel", "bare", rng.choice(["long", "short"], 150))
    loud = np.where(rng.random(150) < np.where(kind == "dog", 0.8, 0.2), "yes", "no")
    return pd.DataFrame({"fur": fur, "loud": loud, "kind": kind}).set_index(np.arange(150) + 1000)


def expected() -> np.ndarray:
    """Tables at their posterior means, which is the posterior predictive of rows without holes."""
    frame = people()
    codes = np.stack([pd.Categorical(frame[name]).codes for name in ("fur", "loud")], 1)
    share = (frame["kind"].value_counts().sort_index().to_numpy() + 1) / (len(frame) + 3)
    model = naive_bayes.CategoricalNB(alpha=1.0, class_prior=share).fit(codes, frame["kind"])
    return model.predict_proba(codes)


def test_a_frame_of_probabilities_by_class():
    frame = people()
    pair = inference.pair_for("naive_bayes", frame, target="kind", tell=None)
    inference.fit(pair, frame, progress=False)
    posterior = inference.draw(pair, frame, draws=4000)
    for rows in (frame, frame.drop(columns="kind")):
        found = inference.predictions(pair, posterior, rows)
        assert list(found.columns) == ["class", "cat", "dog", "eel"]
        assert found.index.equals(frame.index)
        np.testing.assert_allclose(found[["cat", "dog", "eel"]], expected(), atol=0.02)
        assert (found["class"] == np.array(["cat", "dog", "eel"])[expected().argmax(1)]).mean() > 0.95


def test_the_command_writes_them(tmp_path, capsys):
    people().to_csv(tmp_path / "people.csv", index=False)
    run = str(tmp_path / "run")
    fit = ["fit", "naive_bayes", "--data", str(tmp_path / "people.csv"), "--target", "kind", "--no-score"]
    assert main([*fit, "--out", run]) == 0
    people().drop(columns="kind").to_csv(tmp_path / "new.csv", index=False)
    assert main(["predict", run, str(tmp_path / "new.csv"), "--out", str(tmp_path / "out.csv")]) == 0
    assert "kind of 150 rows (class, cat, dog, eel)" in capsys.readouterr().out
    found = pd.read_csv(tmp_path / "out.csv")
    np.testing.assert_allclose(found[["cat", "dog", "eel"]], expected(), atol=0.02)
