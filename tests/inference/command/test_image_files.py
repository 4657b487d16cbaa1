"""`zoo fit` of images: what is proposed for them is said, scores are in bits, and what is written are images."""

from __future__ import annotations

import json

import numpy as np
import pytest

import zoo
from inference.command.main import main
from tests.helpers.command import FEW

pytestmark = [pytest.mark.usefixtures("blank"), pytest.mark.slow]


def test_images_are_modelled_as_images(tmp_path, capsys):
    """Shape and likelihood are proposed and said; the scores of a run are in bits, and what is written are images."""
    images = np.random.default_rng(0).integers(0, 256, (12, 5, 4), dtype=np.uint8)
    np.save("images.npy", images)
    options = ["--set", "hidden=8", *FEW, "--out", "run"]
    assert main(["fit", "gaussian_vae", "--data", "images.npy", *options]) == 0
    said = capsys.readouterr().out
    assert "likelihood='beta_binomial', trials=255, since x holds 12 images of 5 x 4 and cells are bytes" in said
    assert zoo.load("run").image == (5, 4)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["bits_per_dimension"] == pytest.approx(-metrics["log_score_per_observation"] / 20 / np.log(2))
    assert "bits for each pixel" in (tmp_path / "run" / "summary.txt").read_text()
    assert main(["score", "run", "images.npy", "--draws", "20", "--out", "rows.csv"]) == 0
    rows = np.loadtxt("rows.csv", delimiter=",", skiprows=1)[:, 1]
    assert f"{-rows.mean() / 20 / np.log(2):.4f} bits for each of 20 pixels" in capsys.readouterr().out
    assert main(["reconstruct", "run", "images.npy", "--out", "again.npy"]) == 0
    assert np.load("again.npy").shape == (12, 5, 4)
