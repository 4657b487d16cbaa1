"""`zoo anomaly`, `zoo profile`, and the clusters that `zoo encode` writes: as in Python."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import inference
import zoo
from inference.command.main import main
from inference.data.check import as_batch
from tests.helpers.command import fails

IRIS = zoo.datasets.load("iris")


@pytest.fixture
def saved():
    torch.manual_seed(0)
    pair = zoo.create("gmm", features=4, components=3)
    pair.initial(as_batch(pair, IRIS))
    pair.save("run")
    return pair


def test_strange_rows_are_written_and_named(saved, capsys):
    np.save("usual.npy", IRIS.x[:20].numpy())
    assert main(["anomaly", "run", "iris", "--draws", "9", "--reference", "usual.npy", "--out", "scores.csv"]) == 0
    said = capsys.readouterr().out
    found = pd.read_csv("scores.csv")
    expected = inference.anomaly(saved, IRIS, draws=9, reference=IRIS.x[:20])
    assert found["row"].tolist() == list(range(1, 151))
    for name in ("score", "sd", "share"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
    assert f"row {expected['score'].argmax() + 1}: " in said
    assert "stranger than" in said
    assert "is there already" in fails(capsys, "anomaly", "run", "iris", "--out", "scores.csv")


def test_what_sets_clusters_apart_is_printed_and_written(saved, capsys):
    assert main(["profile", "run", "iris", "--out", "apart.csv"]) == 0
    said = capsys.readouterr().out
    expected = inference.profile(saved, IRIS)
    found = pd.read_csv("apart.csv")
    assert "rows in each cluster: " in said
    np.testing.assert_allclose(found["difference"], expected.table["difference"], rtol=1e-5)
    assert main(["profile", "run", "iris", "--labels", "petal_width"]) == 0
    assert "0.1: 3.3%" in capsys.readouterr().out
    assert "no column 'petal_widht' in 'iris', did you mean 'petal_width'?" in fails(
        capsys, "profile", "run", "iris", "--labels", "petal_widht"
    )


def test_encoded_rows_carry_their_cluster(saved):
    assert main(["encode", "run", "iris", "--out", "codes.csv"]) == 0
    found = pd.read_csv("codes.csv")
    shares = found[["component_0", "component_1", "component_2"]].to_numpy()
    assert found["cluster"].tolist() == shares.argmax(1).tolist()
    np.testing.assert_allclose(found["probability"], shares.max(1))
