"""Evidence as rows of a frame: each row against the same question asked alone, and against the joint table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import inference
from inference.questions.queries import marginals, query
from tests.helpers.networks import BINARY, conditional, joint, made, spread, truth
from zoo.parts.networks import many
from zoo.settings import settings


def cells(pair, count, holes, seed=0, without=()):
    """Rows that the model makes, as a frame in the user's words, some cells missing."""
    torch.manual_seed(seed)
    x = pair.simulate(count)[0].x
    x[torch.rand(x.shape) < holes] = torch.nan
    return pd.DataFrame(pair.schema.decode(x.cpu().numpy())).astype(object).drop(columns=list(without))


def alone(frame, row):
    return {name: value for name, value in frame.iloc[row].items() if not pd.isna(value)}


@pytest.mark.parametrize("holes", [0.0, 0.4])
def test_rows_of_asia_against_the_full_joint_table(asia, holes):
    table, names = joint(asia), asia.schema.names
    frame = cells(asia, 60, holes, without=["lung", "dysp"])
    found = query(asia, None, ["lung", "dysp"], frame)
    assert len(found) == 60
    asked = [names.index("lung"), names.index("dysp")]
    for row in range(60):
        seen = {names.index(n): asia.schema[names.index(n)].categories.index(v) for n, v in alone(frame, row).items()}
        np.testing.assert_allclose(found.mean[row], conditional(table, asked, seen), rtol=0, atol=1e-12)
        mass = table[tuple(seen.get(i, slice(None)) for i in range(8))].sum()
        assert float(found.log_evidence[0, row]) == pytest.approx(np.log(mass), abs=1e-12)


@pytest.fixture(scope="module")
def mixed():
    """Three draws of the tables and equations of a mixed network, and rows of it with and without holes."""
    pair = made()
    spread(pair)
    draws = [truth(pair, seed) for seed in range(3)]
    values = {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]}
    posterior = inference.Posterior({name: value[None] for name, value in values.items()}, size=3)
    return pair, posterior, pd.concat([cells(pair, 5, 0.0), cells(pair, 6, 0.4, seed=1)], ignore_index=True)


@pytest.mark.parametrize(
    ("variables", "do"),
    [("a", {}), ("a", {"v": 990.0}), ("c", {"t": 1001.0}), ("u", {"c": "y"}), ("u", {}), (["w", "t"], {"a": "yes"})],
)
def test_rows_of_mixed_nodes_equal_one_question_at_a_time(mixed, variables, do, monkeypatch):
    monkeypatch.setattr(many, "FEW", 4)
    pair, posterior, frame = mixed
    frame = frame.drop(columns=[*variables, *do])
    found = query(pair, posterior, variables, frame, do=do)
    for row in range(len(frame)):
        wanted = query(pair, posterior, variables, alone(frame, row), do=do)
        torch.testing.assert_close(found.draws[:, row], wanted.draws, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found.log_evidence[:, row], wanted.log_evidence, rtol=1e-10, atol=1e-10)
        if wanted.sd is not None:
            torch.testing.assert_close(found.sd[:, row], wanted.sd, rtol=1e-8, atol=1e-10)


def test_pieces_of_memory_and_of_draws_change_nothing(asia):
    pair = made([("a", "binary", BINARY), ("b", "binary", BINARY), ("c", "categorical", "xyz")], {"c": ["a", "b"]})
    torch.manual_seed(3)
    values = {f"probs_{C}": pair.simulate(2)[1][f"probs_{C}"] for C in (2, 3)}
    posterior = inference.Posterior(
        {n: torch.distributions.Dirichlet(torch.ones_like(v)).sample((1, 7)) for n, v in values.items()}, size=7
    )
    frame = pd.DataFrame({"c": list("xyzxy") * 8, "a": ["yes", None] * 20})
    whole = query(pair, posterior, "b", frame)
    with settings.using(memory=5):
        pieces = query(pair, posterior, "b", frame)
    torch.testing.assert_close(pieces.draws, whole.draws)
    for row in (0, 1, 2):
        torch.testing.assert_close(query(pair, posterior, "b", alone(frame, row)).draws, whole.draws[:, row])
    # A factor that would be too large for rows of many holes is cut out row by row.
    with settings.using(network_question=4):
        torch.testing.assert_close(query(pair, posterior, "b", frame).draws, whole.draws)
    lanes = [len(rows) for rows, _ in many.groups(asia.network, {}, torch.full((5, 8), torch.nan).double(), [0], {})]
    assert lanes == [5]


def test_the_answers_are_a_frame_with_names_and_index(asia):
    frame = pd.DataFrame({"smoke": ["no", None], "xray": ["yes", "yes"]}, index=["Ann", "Bob"])
    found = query(asia, None, "lung", given=frame)
    table = found.frame()
    assert list(table.index) == ["Ann", "Bob"]
    assert list(table.columns) == ["P(lung = yes)", "P(lung = no)"]
    assert table.loc["Bob", "P(lung = yes)"] == pytest.approx(query(asia, None, "lung", {"xray": "yes"})["yes"])
    assert "P(lung = yes)" in str(found)
    by_lists = query(asia, None, "lung", {"smoke": ["no", None], "xray": ["yes", "yes"]})
    by_dicts = query(asia, None, "lung", [{"smoke": "no", "xray": "yes"}, {"xray": "yes"}])
    assert torch.equal(by_lists.mean, found.mean)
    assert torch.equal(by_dicts.mean, found.mean)
    both = query(asia, None, ["lung", "tub"], frame).frame()
    assert "P(lung = yes, tub = no)" in both.columns
    assert both.sum(axis=1).to_numpy() == pytest.approx(1)
    every = marginals(asia, None, frame)
    assert set(every) == set(asia.schema.names) - {"smoke", "xray"}
    assert torch.equal(every["lung"].mean, found.mean)


def test_intervals_and_deviations_of_rows_are_those_of_one(mixed):
    pair, posterior, frame = mixed
    frame = frame.drop(columns=["u", "a"])
    real = query(pair, posterior, "u", frame, mass=0.8)
    one = query(pair, posterior, "u", alone(frame, 1), mass=0.8)
    torch.testing.assert_close(torch.stack(real.interval)[:, 1], torch.stack(one.interval), rtol=1e-9, atol=1e-9)
    told = float(str(one).partition(", sd ")[2].split()[0])
    assert real.frame().loc[1, "u sd"] == pytest.approx(told, rel=1e-3)
    assert list(real.frame().columns) == ["u", "u 10%", "u 90%", "u sd"]


def test_given_and_evidence_are_one_argument(asia):
    seen = {"dysp": "yes"}
    assert query(asia, None, "bronc", given=seen)["yes"] == query(asia, None, "bronc", seen)["yes"]
    assert marginals(asia, given=seen)["bronc"]["yes"] == query(asia, None, "bronc", seen)["yes"]
    with pytest.raises(ValueError, match="evidence and given are two names of one argument"):
        query(asia, None, "bronc", seen, given=seen)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({"xray": ["yes"] * 17 + ["maybe"]}, "column 'xray', row 17: 'maybe' is none of its categories.*yes, no"),
        ({"xrai": ["yes"]}, "evidence: column 'xrai' is no node, did you mean 'xray'"),
        ({"lung": ["yes"], "xray": ["no"]}, "'lung' is asked for, and given: lung, xray"),
        ({"tub": ["no", "yes"], "either": ["no", "no"]}, "row 1: the evidence tub=yes, either=no has probability zero"),
        ({"xray": []}, "the table has no rows"),
    ],
)
def test_rows_that_cannot_be(asia, frame, words):
    with pytest.raises(ValueError, match=words):
        query(asia, None, "lung", pd.DataFrame(frame))


def test_an_ignored_column_is_no_evidence():
    pair = made([("id", "ignored"), ("a", "binary", BINARY), ("b", "binary", BINARY)], [("a", "b")])
    posterior = inference.draw(pair, pair.simulate(5)[0], 3, stats=False)
    frame = pd.DataFrame({"id": ["p1", "p2"], "a": ["yes", "no"]})
    assert len(query(pair, posterior, "b", frame)) == 2
    assert torch.equal(query(pair, posterior, "b", frame.iloc[0]).mean, query(pair, posterior, "b", {"a": "yes"}).mean)
