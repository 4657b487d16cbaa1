"""Answers of a network against the full joint table, pgmpy, do-calculus and conditional normals."""

from __future__ import annotations

import gzip
import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal, norm

import inference
import zoo
from inference.questions import queries
from inference.questions.queries import Answer, query
from tests.helpers.networks import BINARY, QUICK, conditional, gaussian_given, joint, made, spread, truth
from zoo.graphs.bayesian_network import BayesianNetwork


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

    model = BIFReader(str(path)).get_model()
    for table in model.get_cpds():
        table.normalize()  # published rows of alarm are off one by a millionth
    pair, peer = BayesianNetwork.from_bif(path), VariableElimination(model)
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
        np.testing.assert_allclose(query(pair, None, node, evidence).mean, wanted, rtol=0, atol=1e-14)


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


def test_a_table_in_the_users_words():
    table = pd.DataFrame({"rain": ["no", "yes", None, "yes"], "dose": [1.5, None, 2.5, 3.0]})
    pair = made([("rain", "binary", BINARY), ("dose", "real")], [("rain", "dose")])
    inference.fit(pair, table, steps=3, **QUICK)
    posterior = inference.draw(pair, table, 30)
    answer = query(pair, posterior, "rain", {"dose": 2.0})
    assert answer.draws.shape == (30, 2)
    low, high = answer.interval
    assert bool(((low <= answer.mean) & (answer.mean <= high)).all())
    assert "P(rain | dose = 2.0)" in str(answer)
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


@pytest.mark.parametrize("mass", [0.9, 0.5, 0.13])
def test_both_ends_of_an_interval_are_quantiles_of_the_draws(mass):
    """Of NumPy, for each state of one variable, of two together, and of real ones; the words give the same numbers."""
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.ones(6), 40).reshape(40, 2, 3)
    states, real = (("no", "yes"), ("a", "b", "c")), rng.gamma(2.0, size=(40, 2))
    zero = torch.zeros(40)
    both = Answer(("u", "v"), states, "", torch.from_numpy(table), None, zero, mass)
    one = Answer(("u",), states[:1], "", torch.from_numpy(table.sum(2)), None, zero, mass)
    normal = Answer(("w", "t"), (), "", torch.from_numpy(real), torch.ones(40, 2).double(), zero, mass)
    for answer, draws in ((both, table), (one, table.sum(2)), (normal, real)):
        wanted = np.quantile(draws, [(1 - mass) / 2, (1 + mass) / 2], axis=0)
        np.testing.assert_allclose(torch.stack(answer.interval), wanted, rtol=1e-12)
    low, high = np.quantile(table.sum(2)[:, 1], [(1 - mass) / 2, (1 + mass) / 2])
    assert f"yes: {table.sum(2)[:, 1].mean():.4f}  [{low:.4f}, {high:.4f}, {mass:.0%} interval]" in str(one)


def test_the_sd_of_a_real_answer_is_that_of_the_mixture_over_the_draws():
    """Each draw is a normal: the second moment of all is the mean of theirs (SciPy), the first that of the means."""
    rng = np.random.default_rng(1)
    means, sds = rng.normal(3.0, 2.0, (50, 2)), rng.gamma(3.0, size=(50, 2))
    answer = Answer(("w", "t"), (), "", torch.from_numpy(means), torch.from_numpy(sds), torch.zeros(50), 0.9)
    lines = str(answer).splitlines()
    for q, line in enumerate(lines):
        told = float(line.partition(", sd ")[2].split()[0])
        second = norm(means[:, q], sds[:, q]).moment(2).mean()
        assert told == pytest.approx((second - means[:, q].mean() ** 2) ** 0.5, rel=1e-3)


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


def test_a_row_of_a_frame_is_evidence(asia):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"smoke": ["no", "yes"], "xray": ["no", None]})
    for row, evidence in ((0, {"smoke": "no", "xray": "no"}), (1, {"smoke": "yes"})):
        wanted = query(asia, None, "lung", evidence)
        assert torch.equal(query(asia, None, "lung", frame.iloc[row]).mean, wanted.mean)
    with pytest.raises(ValueError, match="evidence: expected a dict of values by the name of a node, or a frame of r"):
        query(asia, None, "lung", "smoke=no")
