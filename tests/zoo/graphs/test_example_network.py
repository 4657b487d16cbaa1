"""The example of `bayesian_network` stands only where nothing is given, and leaks into nobody's error."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import inference
import zoo
from zoo.graphs.bayesian_network import ARROWS, GARDEN
from zoo.schema.schema import Schema

QUICK = {"steps": 1, "progress": False, "device": "cpu"}
FRAME = pd.DataFrame({"a": [-1.0, 2.5, 3.0, 2.0], "b": [1.5, -2.0, 4.0, 3.0]})


def test_it_stands_where_nothing_is_given():
    pair = zoo.create("bayesian_network")
    assert (pair.schema, pair.edges) == (GARDEN, ARROWS)
    assert pair.config["columns"] is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"edges": [("a", "b")]}, "nothing says what the nodes a, b are: give .*columns=Schema.infer"),
        ({"tables": {"a": [0.5, 0.5]}}, "nothing says what the nodes a are"),
        ({"columns": ["real", "real"], "edges": [("a", "x1")]}, "arrow a -> x1: no node 'a'; nodes: x1, x2"),
        ({"columns": ["real", "real"], "tables": {"a": [0.5, 0.5]}}, "tables: no node 'a'; nodes: x1, x2"),
    ],
)
def test_what_is_wrong_with_a_users_network_names_the_users_nodes(config, words):
    with pytest.raises(ValueError, match=words) as error:
        zoo.create("bayesian_network", **config)
    assert "rain" not in str(error.value)


def test_columns_alone_have_no_arrows():
    pair = zoo.create("bayesian_network", columns=Schema.infer(FRAME))
    assert pair.edges == ()
    inference.fit(pair, FRAME, **QUICK)
    assert pair.schema.names == ("a", "b")


@pytest.mark.parametrize(
    "data", [FRAME, FRAME.to_numpy(), zoo.Batch.of(x=FRAME.to_numpy())], ids=["frame", "array", "batch"]
)
def test_other_columns_are_told_that_it_is_the_example(data):
    with pytest.raises(ValueError, match=r"made without columns, as an example.*columns=Schema.infer\(table\)"):
        inference.fit(zoo.create("bayesian_network"), data, **QUICK)


def test_a_node_that_the_example_lacks():
    pair = zoo.create("bayesian_network")
    with pytest.raises(ValueError, match=r"no node 'bronc'; nodes: rain, .* made without columns, as this example"):
        inference.query(pair, None, "bronc")
    with pytest.raises(ValueError, match=r"no node 'bronc'; nodes: a, b$"):
        inference.query(zoo.create("bayesian_network", columns=Schema.infer(FRAME)), None, "bronc")


def test_its_numbers_have_names():
    """Entries of each site against the example's own table, by hand."""
    pair = zoo.create("bayesian_network").double()
    x = pair.simulate(50)[0]
    posterior = inference.draw(pair, x, 4)
    idata = inference.to_arviz(pair, posterior, x, predictive=False, log_likelihood=False)
    probs = idata["posterior"]["probs_3"]
    draws = posterior["probs_3"].numpy()  # rows: rain, then sprinkler, fastest
    found = probs.sel(probs_3_entry="P(grass = wet | rain = no, sprinkler = yes)").values
    np.testing.assert_array_equal(found, draws[:, :, 1, 2])
    slopes = idata["posterior"]["coefficients_1"]
    found = slopes.sel(coefficients_1_entry="slope in warmth of growth | grass = damp").values
    np.testing.assert_array_equal(found, posterior["coefficients_1"].numpy()[:, :, 1, 1])
    assert "variance of warmth | rain = yes" in idata["posterior"]["variance_0"]["variance_0_entry"].values
    table = inference.tables(pair, posterior)
    wet = "P(grass = wet | rain = no, sprinkler = yes)"
    assert table.loc[wet, "estimate"] == pytest.approx(draws[0, :, 1, 2].mean())
    assert table.loc[wet, "97.5%"] == pytest.approx(np.quantile(draws[0, :, 1, 2], 0.975))


def test_known_tables_have_names(asia):
    table = inference.tables(asia)
    assert len(table) == 36
    assert table.loc["P(dysp = yes | bronc = yes, either = no)", "estimate"] == 0.8  # Lauritzen & Spiegelhalter (1988)
    assert table.loc["P(tub = no | asia = yes)", "estimate"] == 0.95
    assert (table["sd"] == 0).all()
    with pytest.raises(ValueError, match="no node is discrete, so there are no tables"):
        inference.tables(zoo.create("bayesian_network", columns=["real", "real"]))
