"""bayesian_network against enumeration, pgmpy's variable elimination, SciPy's normal, and posteriors in closed form."""

from __future__ import annotations

import gzip
import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import gammaln
from scipy.stats import multivariate_normal

import inference
import zoo
from inference.data.check import as_batch
from inference.drawing import layers
from inference.gallery import network
from inference.questions import queries
from inference.questions.queries import query
from zoo.graphs.bayesian_network import BayesianNetwork
from zoo.parts.networks import factors, row
from zoo.parts.networks.row import NetworkRow
from zoo.settings import settings

QUICK = {"progress": False, "device": "cpu"}
BINARY = ("no", "yes")
MIXED = [
    ("a", "binary", BINARY),
    ("c", "categorical", "xyz"),
    ("u", "real"),
    ("v", "real"),
    ("w", "real"),
    ("t", "real"),
]
ARROWS = {"c": ["a"], "u": ["a"], "v": ["c", "u"], "w": ["u", "v"], "t": ["c"]}


def made(columns=MIXED, edges=ARROWS, **config):
    return zoo.create("bayesian_network", columns=columns, edges=edges, **config).double()


@pytest.fixture(scope="module")
def asia():
    return BayesianNetwork.from_bif("asia").double()


def joint(pair):
    """The full joint table of a network of known tables, one dimension a node."""
    total, V = np.ones(()), len(pair.schema.used)
    for table in pair.network.tables:
        known = pair.network.known[table.column]
        letters = [chr(97 + i) for i in table.labels]
        everything = "".join(chr(97 + i) for i in range(V))
        ones = [np.ones(len(column.categories)) for column in pair.schema.used]
        text = f"{','.join(everything)},{''.join(letters)}->{everything}"
        total = total * np.einsum(text, *ones, known)
    return total


def conditional(table, asked, seen):
    """P(asked | seen) of a full joint table, by counting it up."""
    table = table[tuple(slice(seen[i], seen[i] + 1) if i in seen else slice(None) for i in range(table.ndim))]
    table = table.sum(tuple(i for i in range(table.ndim) if i not in asked))
    table = np.moveaxis(table, range(table.ndim), np.argsort(np.argsort(asked)).argsort()) if len(asked) > 1 else table
    return table / table.sum()


# --- exact answers --------------------------------------------------------------------------------------------------


def test_asia_against_the_full_joint_table(asia):
    table, names, rng = joint(asia), asia.schema.names, np.random.default_rng(0)
    assert table.sum() == pytest.approx(1)
    for i, name in enumerate(names):
        np.testing.assert_allclose(query(asia, None, name).mean, conditional(table, [i], {}), rtol=0, atol=1e-12)
    done = 0
    while done < 20:
        nodes = rng.permutation(8)
        asked, seen = sorted(nodes[:2].tolist()), {int(i): int(rng.integers(2)) for i in nodes[2 : 3 + done % 4]}
        evidence = {names[i]: ("yes", "no")[code] for i, code in seen.items()}
        of_evidence = table[tuple(seen.get(i, slice(None)) for i in range(8))].sum()
        if of_evidence == 0:
            continue
        answer = query(asia, None, [names[i] for i in asked], evidence)
        np.testing.assert_allclose(answer.mean, conditional(table, asked, seen), rtol=0, atol=1e-12)
        assert float(answer.log_evidence) == pytest.approx(math.log(of_evidence), abs=1e-12)
        done += 1


def test_published_numbers_of_asia(asia):
    """A smoker who has been to Asia and is short of breath (Lauritzen & Spiegelhalter 1988, section 2)."""
    assert query(asia, None, "bronc")["yes"] == pytest.approx(0.45)
    assert query(asia, None, "either")["yes"] == pytest.approx(0.064828)
    assert query(asia, None, "tub")["yes"] == pytest.approx(0.0104)


def bif_of_pgmpy(name, folder):
    pgmpy = pytest.importorskip("pgmpy", reason="pgmpy brings the networks and the reference")
    path = Path(pgmpy.__file__).parent / "utils" / "example_models" / f"{name}.bif.gz"
    if not path.exists():
        pytest.skip("this version of pgmpy comes without the networks")
    (folder / f"{name}.bif").write_bytes(gzip.decompress(path.read_bytes()))
    return folder / f"{name}.bif"


@pytest.mark.parametrize("name", ["asia", "child", "alarm"])
@pytest.mark.filterwarnings("ignore")
def test_marginals_and_conditionals_equal_variable_elimination(name, tmp_path):
    path = bif_of_pgmpy(name, tmp_path)
    from pgmpy.inference import VariableElimination
    from pgmpy.readwrite import BIFReader

    pair, peer = BayesianNetwork.from_bif(path), VariableElimination(BIFReader(str(path)).get_model())
    states, rng = {c.name: c.categories for c in pair.schema}, np.random.default_rng(0)
    questions = [(node, {}) for node in states]
    while len(questions) < len(states) + 20:
        node, *given = rng.permutation(list(states))[: rng.integers(2, 6)]
        evidence = {other: states[other][rng.integers(len(states[other]))] for other in given}
        if all(np.isfinite(query(pair, None, node).log_evidence)):
            try:
                query(pair, None, node, evidence)
            except ValueError as error:
                assert "probability zero" in str(error)  # noqa: PT017
                continue
            questions.append((node, evidence))
    for node, evidence in questions:
        wanted = peer.query([node], evidence=evidence, show_progress=False)
        wanted = [wanted.get_value(**{node: state}) for state in states[node]]
        np.testing.assert_allclose(query(pair, None, node, evidence).mean, wanted, rtol=0, atol=1e-9)


def test_kidney_stones_by_the_back_door():
    """Charig et al. (1986): treatment A is better in both groups and worse in all (Simpson's paradox)."""
    columns = [("size", "binary", ("small", "large")), ("treatment", "binary", "AB"), ("success", "binary", BINARY)]
    success = [[[6 / 87, 81 / 87], [36 / 270, 234 / 270]], [[71 / 263, 192 / 263], [25 / 80, 55 / 80]]]
    tables = {
        "size": [357 / 700, 343 / 700],
        "treatment": [[87 / 357, 270 / 357], [263 / 343, 80 / 343]],
        "success": success,
    }
    edges = {"treatment": ["size"], "success": ["size", "treatment"]}
    pair = zoo.create("bayesian_network", columns=columns, edges=edges, tables=tables)
    assert query(pair, None, "success", {"treatment": "A"})["yes"] == pytest.approx(273 / 350)
    assert query(pair, None, "success", {"treatment": "B"})["yes"] == pytest.approx(289 / 350)
    wanted = [sum(tables["size"][size] * success[size][code][1] for size in (0, 1)) for code in (0, 1)]
    for code, treatment in enumerate("AB"):
        found = query(pair, None, "success", do={"treatment": treatment})
        assert found["yes"] == pytest.approx(wanted[code], abs=1e-12)
        assert float(found.log_evidence) == pytest.approx(0)  # nothing was observed
    assert query(pair, None, "success", do={"treatment": "A"})["yes"] == pytest.approx(0.8325, abs=5e-5)
    assert query(pair, None, "size", do={"treatment": "A"})["small"] == pytest.approx(357 / 700)
    # Together with evidence: P(size | success, do(A)).
    found = query(pair, None, "size", {"success": "yes"}, do={"treatment": "A"})["small"]
    assert found == pytest.approx(tables["size"][0] * success[0][0][1] / wanted[0], abs=1e-12)


# --- the density of rows with holes ---------------------------------------------------------------------------------


def truth(pair, seed=0):
    """One value of each global site."""
    torch.manual_seed(seed)
    values = pair.simulate(2)[1]
    return {name: value.clamp(min=0.2) if "variance" in name else value for name, value in values.items()}


def gaussian_given(pair, values, codes):
    """Mean and covariance of the real nodes of `MIXED` at codes of a and c, by hand."""
    network, V = pair.network, len(pair.schema.used)
    weights, constant, variance = np.zeros((V, V)), np.zeros(V), np.zeros(V)
    centre = network.columns.centre.numpy()
    for node in network.equations:
        at = node.first
        for stride, switch in zip(itertools.accumulate([1] * len(node.switches)), node.switches, strict=True):
            assert stride == 1, "one switch at most in this network"
            at += codes[switch]
        terms = values[f"coefficients_{len(node.slopes)}"][at].numpy()
        variance[node.column] = values[f"variance_{len(node.slopes)}"][at]
        constant[node.column] = terms[0]
        for slope, parent in zip(terms[1:], node.slopes, strict=True):
            weights[node.column, parent] = slope
            constant[node.column] -= slope * centre[parent]
    real = [i for i, column in enumerate(pair.schema.used) if not column.categories]
    weights, constant, variance = weights[np.ix_(real, real)], constant[real], variance[real]
    inverse = np.linalg.inv(np.eye(len(real)) - weights)
    return inverse @ constant, inverse @ np.diag(variance) @ inverse.T


def log_density_by_hand(pair, values, x):
    """log p of one row, NaN where missing, by summing over all states and SciPy's multivariate normal."""
    tables = {name: table.numpy() for name, table in pair.tables(values).items()}
    seen = ~np.isnan(x[2:])
    total = 0.0
    for a, c in itertools.product(range(2), range(3)):
        if x[0] in (a, np.nan) or np.isnan(x[0]):
            if not (np.isnan(x[1]) or x[1] == c):
                continue
            weight = tables["a"][a] * tables["c"][a, c]
            mean, covariance = gaussian_given(pair, values, {0: a, 1: c})
            if seen.any():
                some = np.ix_(seen, seen)
                weight *= multivariate_normal(mean[seen], covariance[some]).pdf(x[2:][seen])
            total += weight
    return math.log(total)


def spread(pair, seed=1):
    """Data in odd units, so that centres and units matter."""
    x = pair.simulate(200)[0].x.clone()
    x[:, 2:] = 1000 + 5 * x[:, 2:]
    pair.network.standardise(x)
    return x


def test_rows_with_every_pattern_of_holes():
    pair = made()
    spread(pair)
    values = truth(pair)
    complete = pair.simulate(2)[0].x[0].numpy()
    patterns = np.array(list(itertools.product([False, True], repeat=6)))
    x = np.where(patterns, np.nan, complete)
    found = NetworkRow(pair.network, values, torch.float64).log_prob(torch.as_tensor(x))
    wanted = [
        0.0 if pattern.all() else log_density_by_hand(pair, values, line)
        for pattern, line in zip(patterns, x, strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)


def test_asia_with_every_pattern_of_holes(asia):
    table = joint(asia)
    patterns = np.array(list(itertools.product([False, True], repeat=8)))
    complete = torch.as_tensor([[1, 1, 0, 0, 0, 0, 0, 1]], dtype=torch.float64).numpy()
    x = np.where(patterns, np.nan, complete)
    found = NetworkRow(asia.network, {}, torch.float64).log_prob(torch.as_tensor(x)).numpy()
    for line, value in zip(x, found, strict=True):
        part = table[tuple(slice(None) if np.isnan(cell) else int(cell) for cell in line)].sum()
        assert value == pytest.approx(math.log(part), abs=1e-12)


def test_a_piece_at_a_time_gives_the_same():
    pair = made()
    x = spread(pair)
    x[torch.rand(x.shape) < 0.3] = torch.nan
    posterior = inference.prior(pair, 2, draws=7)
    whole = inference.log_likelihood(pair, posterior, x)
    answer = query(pair, posterior, "a", {"w": 1001.0}).draws
    with settings.using(memory=2000):
        assert len(list(row.pieces(pair.network, len(x), 7))) > 5
        torch.testing.assert_close(inference.log_likelihood(pair, posterior, x), whole)
    with settings.using(memory=20):
        torch.testing.assert_close(query(pair, posterior, "a", {"w": 1001.0}).draws, answer)


def test_long_products_do_not_underflow_in_single_precision():
    """A chain of 60 unlikely steps: p = 1e-240, far below what single precision holds."""
    columns = [(f"n{i}", "binary", BINARY) for i in range(60)]
    edges = [(f"n{i}", f"n{i + 1}") for i in range(59)]
    step = [[1 - 1e-4, 1e-4], [1e-4, 1 - 1e-4]]
    tables = {"n0": [1e-4, 1 - 1e-4]} | {f"n{i}": step for i in range(1, 60)}
    pair = zoo.create("bayesian_network", columns=columns, edges=edges, tables=tables)
    x = (torch.arange(60) % 2).float()[None]
    found = NetworkRow(pair.network, {}, torch.float32).log_prob(x)
    assert float(found) == pytest.approx(60 * math.log(1e-4), rel=1e-4)
    x[:, 1:-1] = torch.nan
    assert float(NetworkRow(pair.network, {}, torch.float32).log_prob(x)) == pytest.approx(
        float(query(pair, None, "n1", {"n0": "no", "n59": "yes"}).log_evidence), rel=1e-5
    )


# --- real nodes asked for -------------------------------------------------------------------------------------------


def test_real_answers_are_mixtures_of_conditional_normals():
    pair = made()
    spread(pair)
    values = truth(pair)
    posterior = inference.Posterior({name: value[None, None] for name, value in values.items()}, size=1)
    seen = {"w": 1003.0, "t": 999.0}
    tables = {name: table.numpy() for name, table in pair.tables(values).items()}
    weights, means, variances, codes = [], [], [], []
    for a, c in itertools.product(range(2), range(3)):
        mean, cov = gaussian_given(pair, values, {0: a, 1: c})  # of u, v, w, t
        o, y = [2, 3], np.array([1003.0, 999.0])
        gain = cov[1, o] @ np.linalg.inv(cov[np.ix_(o, o)])
        means.append(mean[1] + gain @ (y - mean[o]))
        variances.append(cov[1, 1] - gain @ cov[o, 1])
        weights.append(tables["a"][a] * tables["c"][a, c] * multivariate_normal(mean[o], cov[np.ix_(o, o)]).pdf(y))
        codes.append(c)
    p = np.array(weights) / sum(weights)
    answer = query(pair, posterior, ["v"], seen)
    middle = p @ means
    assert answer["v"] == pytest.approx(middle, rel=1e-10)
    assert float(answer.sd**2) == pytest.approx(p @ (variances + (means - middle) ** 2), rel=1e-8)
    assert float(answer.log_evidence) == pytest.approx(math.log(sum(weights)), abs=1e-8)
    of_c = [p[np.array(codes) == c].sum() for c in range(3)]
    np.testing.assert_allclose(query(pair, posterior, "c", seen).mean, of_c, rtol=0, atol=1e-10)


def test_setting_a_real_node_is_not_seeing_it():
    """z -> x -> y and z -> y, all linear: E[y | do(x)] is the slope alone, E[y | x] holds what x tells of z besides."""
    pair = made([("z", "real"), ("x", "real"), ("y", "real")], {"x": ["z"], "y": ["z", "x"]})
    one = torch.ones(1, dtype=torch.float64)
    values = {
        "variance_0": one, "coefficients_0": 0 * one[None],
        "variance_1": one, "coefficients_1": torch.tensor([[0.0, 2.0]]),
        "variance_2": one, "coefficients_2": torch.tensor([[1.0, 3.0, 0.5]]),
    }  # fmt: skip
    posterior = inference.Posterior({name: value.double()[None, None] for name, value in values.items()}, size=1)
    done, saw = query(pair, posterior, "y", do={"x": 2.0}), query(pair, posterior, "y", {"x": 2.0})
    assert done["y"] == pytest.approx(1 + 0.5 * 2)
    assert float(done.sd**2) == pytest.approx(1 + 9)
    assert saw["y"] == pytest.approx(1 + 0.5 * 2 + 3 * (2 * 2 / 5))
    assert float(saw.sd**2) == pytest.approx(1 + 9 / 5)
    assert query(pair, posterior, "z", do={"x": 2.0})["z"] == pytest.approx(0)
    # What is seen below an intervention still speaks of what is above it: y - 1 - x/2 = 3 z + noise.
    both = query(pair, posterior, "z", {"y": 5.0}, do={"x": 2.0})
    assert both["z"] == pytest.approx(3 * 3 / 10)
    assert float(both.log_evidence) == pytest.approx(multivariate_normal(2, 10).logpdf(5.0))


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


def test_a_table_in_the_users_words():
    table = pd.DataFrame({"rain": ["no", "yes", None, "yes"], "dose": [1.5, None, 2.5, 3.0]})
    pair = made([("rain", "binary", BINARY), ("dose", "real")], [("rain", "dose")])
    inference.fit(pair, table, steps=3, **QUICK)
    posterior = inference.draw(pair, table, 30)
    answer = query(pair, posterior, "rain", {"dose": 2.0})
    assert answer.draws.shape == (30, 2)
    low, high = answer.interval
    assert bool(((low <= answer.mean) & (answer.mean <= high)).all())
    assert "P(rain | dose=2.0)" in str(answer)
    assert "interval" in str(answer)
    assert "dose" in str(query(pair, posterior, "dose"))
    assert set(queries.marginals(pair, posterior, {"rain": "yes"})) == {"dose"}
    assert float(query(pair, None, "rain").mean.sum()) == pytest.approx(1)  # draws from the guide


def test_answers_are_averaged_over_the_draws():
    torch.manual_seed(1)
    pair = made([("a", "binary", BINARY), ("b", "binary", BINARY)], [("a", "b")])
    probs = torch.distributions.Dirichlet(torch.ones(2).double()).sample((2, 5, 3))  # (chain, draw, row, state)
    posterior = inference.Posterior({"probs_2": probs}, chains=2, size=5)
    answer = query(pair, posterior, "a", {"b": "yes"}, mass=0.5)
    prior, given = probs[..., 0, :].reshape(10, 2), probs[..., 1:, 1].reshape(10, 2)
    wanted = prior * given / (prior * given).sum(-1, keepdim=True)
    torch.testing.assert_close(answer.draws, wanted)
    torch.testing.assert_close(answer.mean, wanted.mean(0))
    torch.testing.assert_close(answer.interval[0], wanted.quantile(0.25, 0))
    assert answer["yes"] == pytest.approx(float(wanted[:, 1].mean()))


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


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (("tubb", {}), "no node 'tubb', did you mean 'tub'"),
        (("tub", {"xrai": "yes"}), "no node 'xrai', did you mean 'xray'"),
        (("tub", {"xray": "yess"}), "node 'xray' has no state 'yess', did you mean 'yes'.*states: yes, no"),
        (("tub", {"xray": None}), "node 'xray' has no state None"),
        (("tub", {"tub": "yes"}), "'tub' is asked for, and given: tub=yes"),
        ((["tub", "tub"], {}), "'tub' is asked for twice"),
        (([], {}), "ask for at least one"),
        (("asia", {"either": "no", "tub": "yes"}), "the evidence either=no, tub=yes has probability zero"),
        (("asia", {"either": "no", "tub": "yes", "lung": "no", "xray": "no"}), "either=no, tub=yes.* probability zero"),
    ],
)
def test_questions_that_have_no_answer(asia, question, words):
    with pytest.raises(ValueError, match=words):
        query(asia, None, *question)


def test_other_questions_that_have_no_answer(asia):
    with pytest.raises(ValueError, match="'tub' is observed and set"):
        query(asia, None, "lung", {"tub": "yes"}, do={"tub": "no"})
    with pytest.raises(ValueError, match=r"either=no, do.tub=yes. has probability zero"):
        query(asia, None, "lung", {"either": "no"}, do={"tub": "yes"})
    with pytest.raises(ValueError, match="a, c are discrete and u are real"):
        query(made(), None, ["a", "u", "c"])
    with pytest.raises(ValueError, match="tables behind 'probs_2' are not known"):
        made().answer({}, ["a"], {}, {})
    with pytest.raises(ValueError, match="node 'u': expected a value"):
        query(made(), None, "a", {"u": float("nan")})
    with pytest.raises(ValueError, match="gmm is no network"):
        query(zoo.create("gmm"), None, "a")
    with pytest.raises(ValueError, match="mass: expected a number between 0 and 1"):
        query(asia, None, "tub", mass=2)
    with pytest.raises(KeyError, match="'tub' has no state 'maybe'"):
        query(asia, None, "tub")["maybe"]


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


def test_sizes_are_bounded_and_named():
    columns = [(f"b{i}", "binary") for i in range(30)]
    with pytest.raises(ValueError, match=r"table of 'b29': 1,073,741,824 cells, at most"):
        made(columns, {"b29": [f"b{i}" for i in range(29)]})
    with pytest.raises(ValueError, match=r"real nodes x hang together .* 16,777,216 configurations"):
        made([*columns, ("x", "real")], {"x": [f"b{i}" for i in range(24)]})
    # A grid: each table is small, but summing out takes the joint table of a whole row of the grid.
    side = 24
    grid = [(f"g{i}_{j}", "binary") for i in range(side) for j in range(side)]
    arrows = {
        f"g{i}_{j}": [f"g{i - 1}_{j}"] * (i > 0) + [f"g{i}_{j - 1}"] * (j > 0) for i in range(side) for j in range(side)
    }
    pair = zoo.create("bayesian_network", columns=grid, edges=arrows)
    with pytest.raises(ValueError, match=r"summing out missing cells takes a factor over g.*configurations a row"):
        inference.fit(pair, pair.simulate(3)[0], steps=1, **QUICK)


def test_the_order_of_elimination_does_not_depend_on_the_number_of_rows(asia):
    """With 1e5 rows a careless order multiplies tables into one of all variables: terabytes."""
    star = made([("hub", "binary"), *((f"n{i}", "binary") for i in range(25))], [("hub", f"n{i}") for i in range(25)])
    for pair, values in ((asia, {}), (star, truth(star))):
        wide = row.width(pair.network)
        assert wide <= 8
        values = {name: value.expand(50, *value.shape) for name, value in values.items()}  # noqa: PLW2901
        some = row.terms(pair.network, values, pair.simulate(2)[0].x[None])
        many = [
            part._replace(value=part.value.expand(10**5, *part.value.shape[1:]) if part.labels[0] == -1 else part.value)
            for part in (f._replace(value=f.value[:1] if f.labels[0] == -1 else f.value) for f in some.factors)
        ]
        assert factors.plan_of(many).width == wide


def test_elimination_of_everything_against_one_einsum():
    generator = torch.Generator().manual_seed(0)
    labels = [(-2, 0, 1), (-1, 1, 2), (0, 3), (2, 3, 4), (-2, -1, 4), ()]
    sizes = {-2: 2, -1: 3, 0: 2, 1: 3, 2: 4, 3: 2, 4: 3}
    parts = [
        factors.Factor(torch.rand([sizes[i] for i in names], generator=generator).double(), names) for names in labels
    ]
    letters = ["".join("stabcde"[i + 2] for i in names) for names in labels]
    for output in ((), (3,), (4, 0)):
        wanted = torch.einsum(
            f"{','.join(letters)}->st{''.join('abcde'[i] for i in output)}", *(p.value for p in parts)
        )
        value, scale = factors.contract(parts, output)
        torch.testing.assert_close(value * scale.exp()[(..., *[None] * len(output))], wanted)


# --- the picture ----------------------------------------------------------------------------------------------------


def test_the_picture_shows_every_node_and_what_is_believed(asia):
    figure = network.network(asia, None, {"dysp": "yes"}, do={"lung": "no"})
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert set(asia.schema.names) < set(texts)
    assert {"= yes", "set to no", "86.1%"} < set(texts)
    pair = made()
    posterior = inference.prior(pair, 2, draws=20)
    texts = [text.get_text() for text in network.network(pair, posterior).axes[0].texts]
    assert sum("±" in text for text in texts) == 4
    with pytest.raises(ValueError, match="gmm is no network that can be drawn"):
        network.network(zoo.create("gmm"))


def test_the_layout_goes_down_without_overlap_and_crosses_little():
    edges = [(0, 1), (1, 2), (2, 3), (0, 3), (4, 3), (5, 6), (6, 3), (7, 2)]
    places, routes = layers.laid_out(8, edges, [1.0] * 8)
    for route in routes:
        assert [places[i].layer for i in route] == list(range(places[route[0]].layer, places[route[-1]].layer + 1))
    found = {}
    for place in places:
        found.setdefault(place.layer, []).append(place)
    for line in found.values():
        line.sort(key=lambda place: place.x)
        assert all(b.x - a.x >= (a.width + b.width) / 2 for a, b in itertools.pairwise(line))
    rows = [sorted((i for i, p in enumerate(places) if p.layer == layer), key=lambda i: places[i].x) for layer in found]
    assert layers._crossings(rows, places) == 0
