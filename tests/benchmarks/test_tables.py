"""The benchmarks of tables, each in a tiny form: imputation, strangers, regression, networks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

import zoo
from tests.helpers.places import benchmark


class TestImputation:
    @pytest.fixture
    def imputation(self):
        pytest.importorskip("sklearn")
        return benchmark("imputation")

    @pytest.fixture
    def table(self):
        from zoo.schema.schema import Schema

        schema = Schema.of(["real", ("colour", "categorical", "abc")])
        x = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 1.0], [6.0, 0.0], [8.0, 2.0]])
        removed = np.zeros_like(x, dtype=bool)
        removed[[0, 4], [0, 1]] = True
        return schema, x, removed

    def test_errors_are_those_counted_by_hand(self, imputation, table):
        schema, x, removed = table
        filled = x.copy()
        assert imputation.error(schema, x, filled, removed) == 0
        filled[0, 0] = 4.0  # the deviation of the column is sqrt(8)
        assert imputation.error(schema, x, filled, removed) == pytest.approx((4 / math.sqrt(8) + 0) / 2)
        filled[4, 1] = 0.0  # always guessing the commonest is wrong in 2 of 5
        assert imputation.error(schema, x, filled, removed) == pytest.approx((4 / math.sqrt(8) + 1 / 0.4) / 2)
        filled[1, 1] = 2.0  # a cell that was never removed does not count
        assert imputation.error(schema, x, filled, removed) == pytest.approx((4 / math.sqrt(8) + 1 / 0.4) / 2)

    def test_the_matrix_for_scikit_learn_goes_there_and_back(self, imputation, table):
        schema, x, removed = table
        holed = np.where(removed, np.nan, x)
        design = imputation.Design(schema, holed)
        assert design.matrix.shape == (5, 4)
        assert np.isnan(design.matrix).sum() == 1 + 3
        matrix = design.matrix.copy()
        matrix[0, 0], matrix[4, 1:] = 0.0, [0.2, 0.1, 0.7]
        filled = design.back(matrix, holed)
        assert filled[0, 0] == pytest.approx(np.nanmean(holed[:, 0]))
        assert filled[4, 1] == 2
        np.testing.assert_array_equal(filled[~removed], x[~removed])

    @pytest.mark.slow
    def test_a_tiny_run_is_kept_and_not_repeated(self, imputation, tmp_path, monkeypatch, capsys):
        arguments = ["--quick", "--out", str(tmp_path / "kept.json")]
        found = imputation.main(arguments)
        assert len(found) == 2
        for run in found.values():
            assert 0 < run["naive_bayes_vae"] < 1.2
            assert run["mean/mode"] == pytest.approx(1, abs=0.1)
        monkeypatch.setattr(imputation, "piece", None)
        assert imputation.main(arguments) == found
        assert "| diabetes | 20% |" in capsys.readouterr().out


class TestStrangers:
    @pytest.fixture
    def strangers(self):
        return benchmark("strangers")

    def test_area_counts_pairs_and_halves_ties(self, strangers):
        usual, strange = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0, -1.0])
        assert strangers.auroc(usual, strange) == pytest.approx((1.5 + 2 + 0) / 6)
        assert strangers.auroc(strange, usual) == pytest.approx(1 - 3.5 / 6)

    def test_rows_learnt_usual_and_strange_share_none(self, strangers):
        for name in ("digits, upside down", "digits 0-4 against 5-9"):
            learnt, usual, strange = strangers.CASES[name].data(0)
            rows = {tuple(row) for row in learnt.tolist()}
            assert not any(tuple(row) in rows for row in usual.tolist())
            assert len(strange) >= 190
        again = strangers.upside_down(strangers.upside_down(learnt))
        assert torch.equal(again, learnt)

    def test_a_tiny_run_is_kept_and_not_repeated(self, strangers, tmp_path, monkeypatch, capsys):
        arguments = ["--quick", "--only", "digits, faint", "--out", str(tmp_path / "kept.json")]
        found = strangers.main(arguments)
        (areas,) = found.values()
        assert areas.keys() == set(strangers.SCORES)
        assert all(0 <= value <= 1 for value in areas.values())
        monkeypatch.setattr(strangers, "run", None)
        assert strangers.main(arguments) == found
        assert "| digits, faint |" in capsys.readouterr().out
        with pytest.raises(SystemExit):
            strangers.main(["--only", "digits, feint"])


class TestRegression:
    @pytest.fixture
    def regression(self):
        pytest.importorskip("sklearn")
        return benchmark("regression")

    def test_scores_are_those_counted_by_hand(self, regression):
        found = regression.gaussian(np.array([0.0, 1.0]), 2.0, np.array([0.0, 4.5]))
        density = 1 / (2 * math.sqrt(2 * math.pi))
        np.testing.assert_allclose(found["log"], [math.log(density), math.log(density) - 1.75**2 / 2])
        assert found["error"].tolist() == [0, -3.5]
        assert found["inside"].tolist() == [True, False]  # 1.75 deviations are more than 1.645
        found = regression.categorical(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
        np.testing.assert_allclose(found["log"], np.log([0.9, 0.4]))
        assert found["error"].tolist() == [False, True]
        runs = [{"rows": 2, "squares": 16.0, "log": [0.0, 2.0], "inside": 1, "seconds": 1.0}] * 2
        total = regression.score(runs)
        assert (total["rows"], total["error"], total["log"], total["inside"]) == (4, 8, 1, 0.5)
        assert total["log_error"] == pytest.approx(math.sqrt(4 / 3) / 2)

    def test_leaves_are_smoothed_by_one_row(self, regression):
        from sklearn.tree import DecisionTreeClassifier

        x, y = np.array([[0.0], [0.0], [0.0], [1.0]]), np.array([0, 0, 1, 1])
        probs = regression.smoothed(DecisionTreeClassifier(max_depth=1).fit(x, y), np.array([[0.0], [1.0]]), 2)
        np.testing.assert_allclose(probs, [[2.5 / 4, 1.5 / 4], [0.5 / 2, 1.5 / 2]])

    def test_a_tiny_run_is_kept_and_not_repeated(self, regression, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(regression, "DRAWS", 50)
        arguments = ["--quick", "--methods", "decision_tree,svc,svm", "--out", str(tmp_path / "kept.json")]
        found = regression.main(arguments)
        assert len(found) == 2 * (1 + 2)  # machines take classes only, trees all but iris
        rows = {"diabetes decision_tree": 442, "iris svc": 150, "iris svm": 150}
        for name, count in rows.items():
            runs = [run for key, run in found.items() if key.startswith(f"{name} ")]
            assert sum(run["rows"] for run in runs) == count == sum(len(run["log"]) for run in runs)
        wrong = [run["squares"] / run["rows"] for key, run in found.items() if key.startswith("iris svm")]
        assert max(wrong) < 0.2
        monkeypatch.setattr(regression, "piece", None)
        assert regression.main(arguments) == found
        shown = capsys.readouterr().out
        assert "| diabetes | decision_tree |" in shown
        assert "| iris | svm |" in shown
        with pytest.raises(SystemExit):
            regression.main(["--only", "vine"])


class TestQueries:
    @pytest.fixture
    def queries(self):
        return benchmark("queries")

    def test_a_tiny_run(self, queries, capsys):
        assert queries.main(["asia", "nowhere", "--rounds", "1"]) < 1e-9
        shown = capsys.readouterr().out
        assert "| asia | 8 | 36 | 28 |" in shown
        assert "| nowhere | not found" in shown

    def test_questions_have_answers_and_are_the_same_each_time(self, queries):
        asia = queries.BayesianNetwork.from_bif("asia")
        asked = queries.questions(asia)
        assert asked == queries.questions(asia)
        assert sum(bool(evidence) for _, evidence in asked) == queries.CONDITIONALS
        assert all(node not in evidence for node, evidence in asked)

    @pytest.mark.parametrize("network", ["asia", "chain"])
    def test_numpy_and_torch_answer_alike(self, queries, network, monkeypatch):
        """Small questions are answered by NumPy, and large ones by torch."""
        import inference
        from zoo.parts.networks import query

        if network == "asia":
            pair, posterior = queries.BayesianNetwork.from_bif("asia"), None
        else:  # so long that products are rescaled on the way, with tables that are learned
            names = [f"n{i}" for i in range(40)]
            columns = [(name, "categorical", "abc") for name in names]
            pair = zoo.create("bayesian_network", columns=columns, edges=list(itertools.pairwise(names)))
            posterior = inference.prior(pair, 1, draws=7)
        asked = queries.questions(pair)
        found = {}
        for most in (0, 1 << 12):
            monkeypatch.setattr(query, "SMALL", most)
            found[most] = [queries.query(pair, posterior, *question) for question in asked]
        for slow, quick in zip(*found.values(), strict=True):
            torch.testing.assert_close(quick.draws, slow.draws, rtol=1e-12, atol=1e-15)
            torch.testing.assert_close(quick.log_evidence, slow.log_evidence, rtol=1e-9, atol=1e-12)
