"""A picture of a predictive check for each kind of data: what is drawn is what the data and the draws are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inference
import zoo
from inference.gallery.predictive import predictive
from tests.helpers.pairs import NAMES
from zoo import Batch


def drawn(pair, data, draws=20):
    found = inference.predict(pair, inference.draw(pair, data, draws), data)
    return {name: value.flatten(0, 1) for name, value in found.items()}


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]


@pytest.mark.parametrize("name", NAMES)
def test_every_pair_has_one(name, tmp_path):
    pair = zoo.create(name)
    torch.manual_seed(0)
    data = pair.simulate(4)[0]
    predictive(pair, data, drawn(pair, data, 2)).savefig(tmp_path / "a.png", dpi=72)
    assert (tmp_path / "a.png").stat().st_size > 2000


def test_a_series_is_a_fan_over_time():
    """The band is that of the quantiles of the draws at each step, by NumPy."""
    data = zoo.datasets.load("lakehuron")
    pair = zoo.create("autoregressive").double()
    made = drawn(pair, data)
    (axes,) = predictive(pair, data, made).axes
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_array_equal(lines["data"], data.x[0].numpy())
    np.testing.assert_allclose(lines["median"], np.median(made["x"][:, 0].numpy(), 0))
    low, high = np.quantile(made["x"][:, 0].numpy(), [0.05, 0.95], axis=0)
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert set(np.round(np.r_[low, high], 6)) <= set(np.round(band, 6))


def test_series_end_where_they_end_and_features_have_names():
    x = np.random.default_rng(0).normal(size=(3, 10, 2))
    pair = zoo.create("hmm", features=2)
    data = Batch.of(x, lengths=[10, 4, 7])
    figure = predictive(pair, data, drawn(pair, data), columns=("north", "south"))
    assert titles(figure)[:3] == ["series 1, north", "series 1, south", "series 2, north"]
    steps = [len(next(line for line in axes.lines if line.get_label() == "data").get_ydata()) for axes in figure.axes]
    assert steps == [10, 10, 4, 4, 7, 7]


def test_categories_are_bars_by_name():
    """Of the data as they were given, and of the draws: shares by NumPy."""
    rng = np.random.default_rng(0)
    table = {
        "town": rng.choice(["Oslo", "Rome", "Bern"], 40, p=[0.5, 0.3, 0.2]).tolist(),
        "rain": rng.gamma(2.0, size=40).tolist(),
        "sex": rng.choice(["f", "m"], 40).tolist(),
    }
    schema = zoo.datasets.Schema.infer({name: table[name] for name in ("town", "rain")})
    pair = zoo.create("naive_bayes", columns=schema, target=("sex", "categorical", ["f", "m"]))
    made = drawn(pair, table)
    figure = predictive(pair, table, made)
    assert titles(figure) == ["town", "rain", "sex"]
    town, _, sex = figure.axes[:3]
    assert [label.get_text() for label in town.get_yticklabels()] == ["Bern", "Oslo", "Rome"]
    assert [label.get_text() for label in sex.get_yticklabels()] == ["f", "m"]
    wanted = [100 * table["town"].count(name) / 40 for name in ("Bern", "Oslo", "Rome")]
    assert [bar.get_width() for bar in town.patches] == pytest.approx(wanted)
    shares = np.stack([(made["x"][..., 0].numpy() == k).mean(1) for k in range(3)], 1) * 100
    np.testing.assert_allclose(town.lines[0].get_xdata(), np.median(shares, 0))


def test_nodes_of_a_network_have_a_panel_each():
    pair = zoo.create("bayesian_network")
    torch.manual_seed(0)
    data = pair.simulate(30)[0]
    assert titles(predictive(pair, data, drawn(pair, data))) == ["rain", "sprinkler", "grass", "warmth", "growth"]


def test_images_stand_above_what_the_model_makes_of_them():
    data = zoo.datasets.load("digits").select(slice(0, 9)).but(total=9)
    pair = zoo.create("gaussian_vae", features=64, latent=2, likelihood="binomial", trials=16, hidden=(8,))
    (axes,) = predictive(pair, data, drawn(pair, data)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["data", "model"]


def test_a_response_has_its_own_name():
    x = np.random.default_rng(0).normal(size=(20, 1))
    pair = zoo.create("polynomial_regression", features=1)
    data = Batch.of(x, x[:, 0])
    assert titles(predictive(pair, data, drawn(pair, data), columns=("height",), target="weight")) == ["weight"]


def test_letters_are_counted_by_name():
    verse = "a rose is a rose\n" * 8
    pair = zoo.create("recurrent", alphabet=zoo.datasets.text.alphabet(verse), steps=8, hidden=4)
    (axes,) = predictive(pair, verse, drawn(pair, inference.data.check.as_batch(pair, verse))).axes
    assert {"new line", "space", "a", "r"} <= {label.get_text() for label in axes.get_yticklabels()}


def test_draws_must_be_of_the_data():
    pair = zoo.create("gmm")
    data = pair.simulate(6)[0]
    with pytest.raises(ValueError, match=r"'x': expected draws \(S, 6, 2\), got \(3, 5, 2\)"):
        predictive(pair, data, {"x": np.zeros((3, 5, 2))})
    with pytest.raises(ValueError, match="expected draws of x, got y"):
        predictive(pair, data, {"y": np.zeros((3, 6))})
