"""Completed tables of files with decimal commas, read back by pandas with its defaults."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from inference.command.main import main


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas_become_points_throughout(separator, tmp_path):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"height": rng.normal(170, 9, 60).round(1), "weight": rng.normal(1700, 90, 60).round(1)})
    holes = frame.mask(rng.random(frame.shape) < 0.1)
    holes["name"] = [f"{row},5" if row else "x" for row in range(60)]
    holes.to_csv(tmp_path / "german.csv", sep=separator, decimal=",", index=False)
    words = ["--data", "german.csv", "--set", "latent=1", "--kind", "name=ignored", "--steps", "5", "--no-score"]
    assert main(["fit", "naive_bayes_vae", *words, "--out", "german"]) == 0
    words = ["--draws", "20", "--copies", "2", "--out", "filled.csv"]
    assert main(["impute", "german", "german.csv", *words]) == 0
    for name in ("filled", "filled.1", "filled.2"):
        found = pd.read_csv(tmp_path / f"{name}.csv")
        assert all(found[name].dtype.kind == "f" for name in ("height", "weight"))
        known = holes[["height", "weight"]].notna()
        pd.testing.assert_frame_equal(found[["height", "weight"]].where(known), holes[["height", "weight"]])
        assert list(found["name"]) == list(holes["name"])
