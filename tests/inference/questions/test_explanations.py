"""The most probable explanation against the full joint table, and of mixed nodes by trying every state."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

import inference
import zoo
from inference.questions.explanations import explain
from tests.helpers.networks import BINARY, gaussian_given, joint, log_density_by_hand, made, spread, truth
from tests.inference.questions.test_queries import bif_of_pgmpy
from zoo.graphs.bayesian_network import BayesianNetwork


def by_hand(pair, seen):
    """The largest entry of the joint table where it agrees with the evidence, and its share of all of these."""
    table, names = joint(pair), pair.schema.names
    states = [column.categories for column in pair.schema]
    mask = np.ones_like(table)
    for name, value in seen.items():
        i = names.index(name)
        keep = np.zeros(len(states[i]))
        keep[states[i].index(value)] = 1
        mask = mask * keep.reshape([-1 if j == i else 1 for j in range(len(names))])
    best = np.unravel_index((table * mask).argmax(), table.shape)
    return {name: states[i][best[i]] for i, name in enumerate(names)}, (table * mask).max() / (table * mask).sum()


def test_asia_against_the_full_joint_table(asia):
    rng, names = np.random.default_rng(0), asia.schema.names
    torch.manual_seed(0)
    frame = pd.DataFrame(asia.schema.decode(asia.simulate(30)[0].x.numpy()))
    keep = rng.random(frame.shape) < 0.4
    frame = frame.where(keep, None)
    many = explain(asia, frame)
    for row in range(len(frame)):
        seen = {name: frame.loc[row, name] for i, name in enumerate(names) if keep[row, i]}
        wanted, share = by_hand(asia, seen)
        one = explain(asia, given=seen)
        assert seen | one.values == wanted
        assert one.probability == pytest.approx(share, abs=1e-12)
        assert many.loc[row, list(names)].to_dict() == wanted
        assert many.loc[row, "probability"] == pytest.approx(share, abs=1e-12)


def test_the_best_states_together_are_not_the_best_of_each():
    """P(a = 0) = 0.4 and b follows a = 1 evenly: a = 1 is likelier alone, a = 0 with b = 0 together."""
    columns = [("a", "binary", (0, 1)), ("b", "binary", (0, 1))]
    pair = zoo.create(
        "bayesian_network",
        columns=columns,
        edges=[("a", "b")],
        tables={"a": [0.4, 0.6], "b": [[0.95, 0.05], [0.5, 0.5]]},
    )
    found = explain(pair)
    assert found.values == {"a": 0, "b": 0}
    assert found.probability == pytest.approx(0.38)
    assert "a = 0" in str(found)
    assert "probability 0.3800" in str(found)
    # after an intervention a is not explained but set
    assert explain(pair, do={"a": 1}).probability == pytest.approx(0.5)
    assert set(explain(pair, do={"a": 1}).values) == {"b"}


def test_mixed_nodes_by_trying_every_state():
    pair = made()
    spread(pair)
    values = truth(pair)
    posterior = inference.Posterior({name: value[None, None] for name, value in values.items()}, size=1)
    seen = {"w": 1003.0, "t": 999.0}
    scores = {}
    for a, c in itertools.product(range(2), range(3)):
        row = np.array([a, c, np.nan, np.nan, 1003.0, 999.0])
        scores[BINARY[a], "xyz"[c]] = math.exp(log_density_by_hand(pair, values, row))
    best = max(scores, key=scores.get)
    found = explain(pair, seen, posterior)
    assert (found["a"], found["c"]) == best
    assert found.probability == pytest.approx(scores[best] / sum(scores.values()), rel=1e-8)
    mean, cov = gaussian_given(pair, values, {0: BINARY.index(best[0]), 1: "xyz".index(best[1])})
    gain = cov[:2, 2:] @ np.linalg.inv(cov[2:, 2:])
    wanted = mean[:2] + gain @ (np.array([1003.0, 999.0]) - mean[2:])
    assert [found["u"], found["v"]] == pytest.approx(wanted.tolist(), rel=1e-9)


def test_real_nodes_alone_are_told_as_their_means():
    """E[z | x = 2] where x = 2 z + noise: 2 * 2 / (4 + 1)."""
    pair = made([("z", "real"), ("x", "real")], {"x": ["z"]})
    one = torch.ones(1, dtype=torch.float64)
    values = {"variance_0": one, "coefficients_0": 0 * one[None], "variance_1": one}
    values["coefficients_1"] = torch.tensor([[0.0, 2.0]]).double()
    posterior = inference.Posterior({name: value[None, None] for name, value in values.items()}, size=1)
    found = explain(pair, {"x": 2.0}, posterior)
    assert found["z"] == pytest.approx(0.8)
    assert found.probability == pytest.approx(1)


def test_uncertain_tables_are_explained_under_their_mean():
    pair = made([("a", "binary", BINARY), ("b", "binary", BINARY)], [("a", "b")])
    torch.manual_seed(1)
    probs = torch.distributions.Dirichlet(torch.ones(2).double()).sample((1, 9, 3))
    posterior = inference.Posterior({"probs_2": probs}, size=9)
    mean = probs[0].mean(0)  # rows: a, b | a = no, b | a = yes
    both = mean[0, :, None] * mean[1:]
    best = np.unravel_index(int(both.argmax()), (2, 2))
    found = explain(pair, None, posterior, mass=0.5)
    assert found.values == {"a": BINARY[best[0]], "b": BINARY[best[1]]}
    wanted = probs[0, :, 0, best[0]] * probs[0, :, 1 + best[0], best[1]]
    torch.testing.assert_close(found.draws, wanted)
    assert found.interval == pytest.approx(wanted.quantile(torch.tensor([0.25, 0.75]).double()).tolist())
    assert "50% interval" in str(found)


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ({"xrai": "yes"}, "no node 'xrai', did you mean 'xray'"),
        ({"either": "no", "tub": "yes"}, "^the evidence either=no, tub=yes has probability zero"),
        ({"xray": "yess"}, "node 'xray' has no state 'yess', did you mean 'yes'"),
        (pd.DataFrame({"xray": ["yes", "maybe"]}), "column 'xray', row 1: 'maybe' is none of its categories"),
        (3, "evidence: expected a dict"),
    ],
)
def test_what_cannot_be_explained(asia, evidence, words):
    with pytest.raises(ValueError, match=words):
        explain(asia, evidence)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_alarm_against_pgmpy(tmp_path):
    """Forty rows of alarm with about one cell in five missing; more, and pgmpy counts up their joint table."""
    path = bif_of_pgmpy("alarm", tmp_path)
    from pgmpy.inference import VariableElimination
    from pgmpy.readwrite import BIFReader

    pair, peer = BayesianNetwork.from_bif(path), VariableElimination(BIFReader(str(path)).get_model())
    torch.manual_seed(0)
    x = pair.simulate(40)[0].x
    x[torch.rand(x.shape) < 0.2] = torch.nan
    frame = pd.DataFrame(pair.schema.decode(x.numpy()))
    found = explain(pair, frame)
    for row in range(40):
        seen = {name: value for name, value in frame.iloc[row].items() if value is not None}
        hidden = [name for name in pair.schema.names if name not in seen]
        wanted = peer.map_query(hidden, evidence=seen, show_progress=False)
        assert found.loc[row, hidden].to_dict() == wanted
