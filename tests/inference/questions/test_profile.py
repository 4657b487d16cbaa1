"""Profiles of clusters against pandas' groups, scikit-learn's mutual information and sums by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.metrics import mutual_info_score

import inference
import zoo

IRIS = load_iris(as_frame=True)
FLOWERS = IRIS.data.rename(columns=lambda name: name.replace(" (cm)", "").replace(" ", "_"))
SPECIES = IRIS.target_names[IRIS.target]


def mixture():
    pair = zoo.create("gmm", features=4, components=2).double()
    return pair, inference.prior(pair, draws=5, seed=0)


def test_given_labels_as_pandas_groups_them():
    pair, _ = mixture()
    found = inference.profile(pair, FLOWERS, SPECIES)
    table = found.table.set_index("column")
    groups = FLOWERS.groupby(SPECIES)
    assert found.shares.to_dict() == pytest.approx(dict.fromkeys(IRIS.target_names, 1 / 3))
    assert (table["value"] == "mean").all()
    pd.testing.assert_frame_equal(table[list(IRIS.target_names)].T, groups.mean()[table.index], check_names=False)
    within = np.sqrt(sum(((part - part.mean()) ** 2).sum() for _, part in groups) / len(FLOWERS))
    wide = (groups.mean().max() - groups.mean().min()) / within
    pd.testing.assert_series_equal(table["difference"], wide[table.index], check_names=False)
    for name in table.index:
        tenths = np.digitize(
            FLOWERS[name], np.unique(np.quantile(FLOWERS[name], np.arange(0.1, 0.95, 0.1))), right=True
        )
        assert table.loc[name, "information"] == pytest.approx(mutual_info_score(SPECIES, tenths))
    assert table["information"].is_monotonic_decreasing
    assert table.index[0].startswith("petal")  # which tells iris apart best


def test_clusters_count_by_their_probabilities():
    pair, posterior = mixture()
    (r,) = inference.assignments(pair, posterior, FLOWERS).values()
    r = r.numpy()
    found = inference.profile(pair, FLOWERS, posterior=posterior)
    np.testing.assert_allclose(found.shares, r.mean(0))
    for _, line in found.table.iterrows():
        x = FLOWERS[line["column"]].to_numpy()
        means = [np.average(x, weights=r[:, k]) for k in (0, 1)]
        within = sum((r[:, k] * (x - means[k]) ** 2).sum() for k in (0, 1)) / len(x)
        np.testing.assert_allclose(line[["0", "1"]].astype(float), means)
        assert line["difference"] == pytest.approx(abs(means[0] - means[1]) / np.sqrt(within))


def test_categories_and_missing_cells():
    rng = np.random.default_rng(0)
    town = rng.choice(["Bonn", "Ulm", "Kiel"], 80)
    table = pd.DataFrame({"town": town, "age": rng.normal(40, 9, 80), "smokes": rng.choice(["no", "yes"], 80)})
    table.loc[[3, 17], "town"] = None
    table.loc[5, "age"] = np.nan
    pair = zoo.create("naive_bayes_vae", columns=zoo.datasets.Schema.infer(table))
    group = np.where(rng.random(80) < 0.5, "old", "new")
    found = inference.profile(pair, table, group)
    lines = found.table.set_index(["column", "value"])
    shares = pd.crosstab(table["town"], group, normalize="columns")
    for place in ("Bonn", "Kiel", "Ulm"):
        np.testing.assert_allclose(lines.loc[("town", place), ["new", "old"]].astype(float), shares.loc[place])
    seen = table["town"].notna()
    assert lines.loc[("town", "Ulm"), "information"] == pytest.approx(mutual_info_score(town[seen], group[seen]))
    means = table["age"].groupby(group).mean()
    np.testing.assert_allclose(lines.loc[("age", "mean"), ["new", "old"]].astype(float), means)
    assert "rows in each cluster: new: " in str(found)


def test_wrong_labels_are_refused():
    pair, _ = mixture()
    line = zoo.create("gaussian_autoencoder", features=4)
    with pytest.raises(ValueError, match="gaussian_autoencoder finds no clusters; give labels"):
        inference.profile(line, FLOWERS)
    with pytest.raises(ValueError, match="labels: expected 150, one for each row, got 3"):
        inference.profile(pair, FLOWERS, [1, 2, 3])
    with pytest.raises(ValueError, match="150 different values are no clusters, at most 50"):
        inference.profile(pair, FLOWERS, np.arange(150))
    with pytest.raises(ValueError, match="all are missing"):
        inference.profile(pair, FLOWERS, [None] * 150)
