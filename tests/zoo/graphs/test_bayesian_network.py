"""bayesian_network: posteriors in closed form, incomplete rows and hidden nodes, and what is refused."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import gammaln
from scipy.stats import multivariate_normal

import inference
from inference.data.check import as_batch
from inference.questions import queries
from inference.questions.queries import query
from tests.helpers.networks import (
    ARROWS,
    BINARY,
    MIXED,
    QUICK,
    gaussian_given,
    log_density_by_hand,
    made,
    spread,
    truth,
)
from zoo.graphs.bayesian_network import BayesianNetwork
from zoo.parts.networks.row import NetworkRow

# --- learning -------------------------------------------------------------------------------------------------------


def evidence_of_regression(pair, node, y, z):
    """log p(y | z) with the coefficients and the variance integrated out: a multivariate Student t."""
    column = node.column
    centre, unit = (part.numpy() for part in (pair.network.columns.centre, pair.network.columns.unit))
    design = np.concatenate([np.ones((len(y), 1)), (z - centre[list(node.slopes)]) / unit[list(node.slopes)]], 1)
    kappa, a, b = float(pair.kappa), float(pair.a), float(pair.b) * unit[column] ** 2
    shape = np.eye(len(y)) + design @ design.T / kappa
    error = y - centre[column]
    quadratic = error @ np.linalg.solve(shape, error)
    result = gammaln(a + len(y) / 2) - gammaln(a) - len(y) / 2 * math.log(2 * math.pi * b)
    return result - np.linalg.slogdet(shape)[1] / 2 - (a + len(y) / 2) * math.log1p(quadratic / (2 * b))


def log_evidence(pair, x):
    """log p(x) of complete rows, in closed form."""
    total, alpha = 0.0, float(pair.alpha)
    for table in pair.network.tables:
        counts = np.zeros(table.shape)
        np.add.at(counts, tuple(x[:, list(table.labels)].astype(int).T), 1)
        n = counts.reshape(-1, table.shape[-1])
        total += (gammaln(alpha + n) - gammaln(alpha)).sum()
        total += (gammaln(alpha * n.shape[1]) - gammaln(alpha * n.shape[1] + n.sum(1))).sum()
    for node in pair.network.equations:
        for codes in itertools.product(*(range(pair.network.sizes[switch]) for switch in node.switches)):
            rows = (x[:, list(node.switches)] == codes).all(1)
            total += evidence_of_regression(pair, node, x[rows, node.column], x[rows][:, list(node.slopes)])
    return total


def test_with_complete_rows_the_guide_starts_as_the_exact_posterior():
    """log p(data, draw) - log q(draw) is log p(data) at every draw: only the exact posterior does that."""
    pair = made(concentration=0.7, coefficient_count=0.3, variance_concentration=1.5, variance_rate=0.2)
    x = spread(pair)
    pair.initial(as_batch(pair, x))
    stats = inference.draw(pair, x, 50).stats
    found = (stats["log_p"] - stats["log_q"])[0]
    np.testing.assert_allclose(found, log_evidence(pair, x.numpy()), rtol=1e-9)


def test_a_fit_stays_at_the_exact_posterior():
    pair = made()
    x = spread(pair)
    # Adam's steps at a gradient of rounding size are as long as its step size
    inference.fit(pair, x, steps=50, lr=3e-3, compile="off", **QUICK)
    stats = inference.draw(pair, x, 50).stats
    found = (stats["log_p"] - stats["log_q"])[0]
    assert float(found.std()) < 0.05
    assert float(found.mean()) == pytest.approx(log_evidence(pair, x.numpy()), abs=0.05)


def test_expected_counts_equal_enumeration():
    pair = made()
    spread(pair)
    values = truth(pair)
    x = pair.simulate(20)[0].x
    x[torch.rand(x.shape) < 0.4] = torch.nan
    from zoo.parts.networks import learning

    found, _ = learning.expectations(pair.network, {name: value[None] for name, value in values.items()}, x)
    wanted, products = torch.zeros(2, 3).double(), torch.zeros(3, 3, 3).double()
    place = {column: g for g, column in enumerate([2, 3, 4, 5])}
    for line in x:
        weights, moments = [], []
        for a, c in itertools.product(range(2), range(3)):
            full = line.clone()
            full[:2] = torch.where(full[:2].isnan(), torch.tensor([a, c], dtype=full.dtype), full[:2])
            right = full[0] == a and full[1] == c
            weights.append(math.exp(log_density_by_hand(pair, values, full.numpy())) if right else 0.0)
            mean, cov = gaussian_given(pair, values, {0: a, 1: c})
            seen = ~np.isnan(line[2:].numpy())
            gain = cov[:, seen] @ np.linalg.inv(cov[np.ix_(seen, seen)]) if seen.any() else np.zeros((4, 0))
            middle = mean + gain @ (line[2:].numpy()[seen] - mean[seen])
            moments.append((middle, cov - gain @ cov[seen]))
        p = np.array(weights) / sum(weights)
        wanted += torch.as_tensor(p.reshape(2, 3))
        for p_k, (middle, cov), c in zip(p, moments, [0, 1, 2, 0, 1, 2], strict=True):
            centre, unit = pair.network.columns.centre[2:].numpy(), pair.network.columns.unit[2:].numpy()
            t = np.concatenate([[1], (middle - centre) / unit])
            second = np.outer(t, t)
            second[1:, 1:] += cov / np.outer(unit, unit)
            # v has the slope u and the switch c: its row of the equations with one slope is that of c
            entries = [0, 1 + place[2], 1 + place[3]]
            products[c] += torch.as_tensor(p_k * second[np.ix_(entries, entries)])
    counts = found["probs_3"][0]
    torch.testing.assert_close(counts, wanted, atol=1e-10, rtol=0)
    torch.testing.assert_close(found["products_1"][0], products, atol=1e-8, rtol=1e-8)


def wrong_by(pair, x, asia):
    """Mean absolute error of the posterior mean tables, over all rows of all tables."""
    pair.initial(as_batch(pair, x))
    inference.fit(pair, x, steps=60, initialise=False, compile="off", **QUICK)
    found = pair.tables(queries.mean_values(inference.draw(pair, x, 200)))
    return np.mean([float((found[name] - table).abs().mean()) for name, table in asia.tables({}).items()])


def test_learning_from_incomplete_rows_beats_listwise_deletion(asia):
    torch.manual_seed(0)
    x = asia.simulate(600)[0].x
    holes = torch.rand(x.shape) < 0.3
    incomplete = x.masked_fill(holes, torch.nan)
    kept = x[~holes.any(1)]
    assert 10 < len(kept) < 60
    pairs = [made(asia.schema, asia.edges) for _ in range(3)]
    all_rows, listwise, complete = (
        wrong_by(pair, rows, asia) for pair, rows in zip(pairs, (incomplete, kept, x), strict=True)
    )
    assert complete < all_rows < 0.7 * listwise


def test_a_hidden_node_is_found():
    """Latent classes: one hidden cause of five signs. The log-likelihood reaches the truth's, and so do the tables."""
    torch.manual_seed(0)
    signs = [f"s{i}" for i in range(5)]
    columns = [("cause", "binary", BINARY), *((sign, "binary", BINARY) for sign in signs)]
    edges = [("cause", sign) for sign in signs]
    tables = {"cause": [0.35, 0.65]} | {sign: [[0.85, 0.15], [0.2, 0.8]] for sign in signs}
    real = made(columns, edges, tables=tables)
    x = real.simulate(2000)[0].x
    hidden = x.clone()
    hidden[:, 0] = torch.nan
    pair = made(columns, edges)
    values = pair.initial(as_batch(pair, hidden))
    at_truth = NetworkRow(real.network, {}, torch.float64).log_prob(hidden).sum()
    found = NetworkRow(pair.network, values, torch.float64).log_prob(hidden).sum()
    assert float(found) > float(at_truth) - 1
    learned = pair.tables(values)
    flip = bool(learned["s0"][0, 0] < learned["s0"][1, 0])
    for name, table in learned.items():
        table = table.flip(0) if flip else table  # noqa: PLW2901 - classes have no names
        torch.testing.assert_close(table, torch.tensor(tables[name]).double(), atol=0.08, rtol=0)


def test_a_hidden_real_node_is_found():
    """Spearman's factor: one hidden cause of four scores explains their covariance."""
    torch.manual_seed(0)
    names = ["g", "s1", "s2", "s3", "s4"]
    g = torch.randn(1500, 1).double()
    scores = 50 + 10 * (g * torch.tensor([0.9, 0.8, 0.7, 0.6]) + 0.5 * torch.randn(1500, 4))
    x = torch.cat([torch.full_like(g, torch.nan), scores], 1)
    pair = made([(name, "real") for name in names], [("g", name) for name in names[1:]])
    values = pair.initial(as_batch(pair, x))
    found = NetworkRow(pair.network, values, torch.float64).log_prob(x).mean()
    fitted = multivariate_normal(scores.mean(0), np.cov(scores.T.numpy())).logpdf(scores.numpy()).mean()
    assert float(found) == pytest.approx(fitted, abs=0.01)


def test_learned_tables_are_written_as_bif(asia, tmp_path):
    assert asia.to_bif({}, "asia") == asia.to_bif({}, "asia")
    path = tmp_path / "learned.bif"
    pair = made(asia.schema, asia.edges)
    values = pair.initial(as_batch(pair, asia.simulate(50)[0]))
    path.write_text(pair.to_bif(values))
    again = BayesianNetwork.from_bif(path)
    for name, table in pair.tables(values).items():
        torch.testing.assert_close(again.tables({})[name], table, atol=0, rtol=0)
    with pytest.raises(ValueError, match="node 'u' is not discrete"):
        made().to_bif(truth(made()))


def test_known_tables_are_exact_in_double_precision(asia):
    assert float(asia.network.certain_rows(asia.network.tables[0])[0, 0]) == 0.01
    single = BayesianNetwork.from_bif("asia")
    assert query(single, None, "asia").mean[0] == 0.01
    some = made(asia.schema, asia.edges, tables={"asia": [0.01, 0.99]})
    assert some.network.groups == {2: 17}
    inference.fit(some, asia.simulate(20)[0], steps=2, **QUICK)
    assert float(query(some, inference.draw(some, asia.simulate(2)[0], 3), "asia").mean[0]) == 0.01


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"edges": [("rain", "wet")]}, "arrow rain -> wet: no node 'rain'; nodes: a, c, u"),
        ({"edges": [("a", "c"), ("c", "a")]}, "cycle: a -> c -> a"),
        ({"edges": [("u", "c")]}, "arrow u -> c: a discrete node cannot have a real parent"),
        (
            {"columns": [("n", "count"), ("a", "binary")], "edges": []},
            "column 'n': .* this one is count; call it 'real'",
        ),
        ({"tables": {"b": [0.5, 0.5]}}, "tables: no node 'b'"),
        ({"tables": {"u": [0.5, 0.5]}}, "tables: 'u' is real"),
        ({"tables": {"a": [0.5, 0.6]}}, r"table of 'a': P\(a\) sums to 1.1, not to one"),
        ({"tables": {"c": [[1, 0, 0], [0.2, 0.2, 0.2]]}}, r"P\(c given a=yes\) sums to 0.6"),
        ({"tables": {"a": [1.5, -0.5]}}, "table of 'a': holds what is no probability"),
        ({"tables": {"a": [[0.5, 0.5]]}}, r"table of 'a': expected shape \(2,\), got \(1, 2\)"),
        ({"tables": {"a": "half"}}, "table of 'a': expected nested lists of numbers, got 'half'"),
        ({"tables": {"a": ["half", "half"]}}, "table of 'a': expected numbers"),
        ({"tables": 3}, "expected a mapping of nodes to tables"),
    ],
)
def test_networks_that_are_none(config, words):
    with pytest.raises(ValueError, match=words):
        made(**{"columns": MIXED, "edges": ARROWS, **config})


def test_data_that_cannot_be(asia):
    with pytest.raises(ValueError, match="every table is known: there is nothing to fit"):
        inference.fit(asia, asia.simulate(3)[0], steps=1, **QUICK)
    pair = made()
    x = pair.simulate(5)[0].x
    apart = made(MIXED, {"c": ["a"], "v": ["u"], "t": ["w"]})
    x[:, 2:4] = torch.nan
    with pytest.raises(ValueError, match=r"nodes without a cell in any row, .* no arrow to one that has any: u, v"):
        inference.fit(apart, x, steps=1, **QUICK)
    known = made(MIXED, ARROWS, tables={"a": [1.0, 0.0]})
    x[:, 0] = torch.tensor([0, 0, 1, torch.nan, 0])
    with pytest.raises(ValueError, match="row 2: has probability zero under the known tables"):
        inference.fit(known, x, steps=1, **QUICK)
    with pytest.raises(ValueError, match=r"row 1, column 'c'.*expected a code from 0 to 2.*got 3"):
        inference.fit(
            pair, x.index_put((torch.tensor(1), torch.tensor(1)), torch.tensor(3.0).double()), steps=1, **QUICK
        )
