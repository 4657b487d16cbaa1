"""The benchmarks of truth, each in a tiny form: what they estimate is right, and what they keep is kept."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import re
import threading
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional

import zoo
from tests.helpers.places import benchmark


@pytest.fixture(scope="module")
def density() -> ModuleType:
    return benchmark("density")


def _digits(settings):
    datasets = pytest.importorskip("sklearn.datasets")
    x = torch.from_numpy(datasets.load_digits().data > 7).float()
    return x[:300], x[300:320]


def _result(density, method, log_p, settings):
    return {"settings": density.wanted(method, settings), "log_p": log_p, "seconds": [1.0, 1.0], "parameters": 3}


class TestDensity:
    ARGUMENTS = ("--quick", "--only", "elbo,twin", "--epochs", "2")

    def test_a_tiny_run_is_kept_and_not_repeated(self, density, tmp_path, capsys, monkeypatch):
        arguments = [*self.ARGUMENTS, "--out", str(tmp_path / "kept.json")]

        found = density.main(arguments, load=_digits)

        assert set(found) == {"elbo", "twin"}
        for seeds in found.values():
            log_p = np.array(seeds[0]["log_p"])
            assert log_p.shape == (20,)
            assert np.isfinite(log_p).all()
            assert -log_p.mean() < 64 * math.log(2)  # knows more than a fair coin for each pixel
        shown = capsys.readouterr().out
        assert "| `gaussian_vae`, elbo |" in shown
        assert "elbo level with or below twin" in shown

        for name in ("ours", "peer"):
            monkeypatch.setattr(density, name, None)
        assert density.main(arguments, load=_digits) == found
        with pytest.raises(TypeError):  # other settings: fits that are missing
            density.main([*arguments, "--epochs", "1"], load=_digits)

    def test_the_rule(self, density):
        grey = torch.tensor([0.0, 127.0, 128.0, 255.0])
        assert density.binarised(grey).tolist() == [0.0, 0.0, 1.0, 1.0]

    def test_importance_sampling_of_the_twin_is_exact(self, density):
        torch.manual_seed(0)
        net = density.Twin(features=6, hidden=5, latent=1).double()
        for parameter in net.decoder.parameters():  # not the encoder: weights from a narrow one have no usable error
            parameter.data += torch.randn_like(parameter)
        x = torch.randint(2, (4, 6)).double()
        z = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None]
        logits = net.decoder(z)
        joint = (
            -functional.binary_cross_entropy_with_logits(
                logits[:, None].expand(-1, 4, 6), x.expand(len(z), 4, 6), reduction="none"
            ).sum(-1)
            - 0.5 * z.square()
            - 0.5 * math.log(2 * math.pi)
        )
        exact = joint.logsumexp(0) + math.log(24 / 20_000)

        runs = torch.stack([density.importance(net, x, 2_000, seed) for seed in range(40)]).detach()

        weights = (runs - exact).exp()  # unbiased: of mean one
        error = weights.std(0) / math.sqrt(len(runs))
        assert ((weights.mean(0) - 1).abs() < 4 * error).all()
        assert (error < 0.1).all()

    def test_loss_of_the_twin_is_minus_its_bound(self, density):
        torch.manual_seed(0)
        net = density.Twin(features=6, hidden=5, latent=2).double()
        x = torch.randint(2, (1, 6)).double()
        losses = torch.stack([net(x.expand(200, 6)) for _ in range(20)]).detach()
        single = -density.importance(net, x.expand(400, 6), particles=1, seed=1)
        error = math.hypot(float(losses.std()) / math.sqrt(20), float(single.std()) / math.sqrt(400))
        assert abs(float(losses.mean() - single.mean())) < 4 * error

    def test_differences_are_paired(self, density):
        settings = density.QUICK
        a, b = [-3.0, -5.0, -10.0], [-1.0, -4.0, -8.0]
        found = {
            "elbo": {0: _result(density, "elbo", a, settings), 1: _result(density, "elbo", a, settings)},
            "twin": {0: _result(density, "twin", b, settings)},
        }
        mean, rows, seeds = density.difference(found, "elbo", "twin")
        assert mean == pytest.approx(5 / 3)
        assert rows == pytest.approx(np.std([2, 1, 2], ddof=1) / math.sqrt(3))
        assert seeds == 0
        assert "NO (+1.67" in next(density.claims(found))

    def test_writers_at_once_lose_nothing(self, density, tmp_path):
        path = tmp_path / "kept.json"
        writers = [threading.Thread(target=density.store, args=(path, f"elbo/{i}", {"n": i})) for i in range(24)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert json.loads(path.read_text()) == {f"elbo/{i}": {"n": i} for i in range(24)}
        assert [p.name for p in tmp_path.iterdir()] == ["kept.json"]

    def test_without_pythae_it_says_so(self, density, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        density.main(["--quick", "--only", "pythae_vae", "--out", str(tmp_path / "kept.json")], load=_digits)
        assert "pythae is not installed" in capsys.readouterr().out

    def test_an_unknown_model_is_named(self, density, capsys):
        with pytest.raises(SystemExit):
            density.main(["--only", "elbow"], load=_digits)
        assert "elbow" in capsys.readouterr().err


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
        import zoo
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


class TestText:
    @pytest.fixture
    def script(self):
        return benchmark("text")

    def test_probabilities_of_the_ngram_sum_to_one(self, script):
        letters, train, before = "abcd", "abracadabra", "cabra"

        def bits(test):
            return script.ngram(train.replace("r", "c"), test, letters) * len(test)

        before = before.replace("r", "c")
        total = sum(2 ** (bits(before) - bits(before + letter)) for letter in letters)
        assert total == pytest.approx(1, abs=1e-12)

    def test_the_ngram_by_hand(self, script):
        # "aab": P(a) = (2 + 2 / 2) / (3 + 2) = 3 / 5; after a, one a and one b: (1 + 2 * 3 / 5) / (2 + 2) = 11 / 20
        assert script.ngram("aab", "aa", "ab", order=2) == pytest.approx(-math.log2(3 / 5 * 11 / 20) / 2)

    def test_a_tiny_run(self, script, monkeypatch, capsys):
        monkeypatch.setattr(script.text, "python_topics", lambda: 10 * script.text.sonnets())
        found = script.main(["--quick", "--hidden", "8"])
        letters = len(script.text.alphabet(script.text.sonnets()))
        assert 0 < found["5-gram"] < math.log2(letters)
        assert 0 < found["recurrent"] < math.log2(letters) + 1
        assert "bits per character" in capsys.readouterr().out


class TestSequences:
    @pytest.fixture
    def sequences(self):
        return benchmark("sequences")

    def test_a_part_of_a_score_is_read(self, sequences):
        from xml.etree import ElementTree

        note = "<note><pitch><step>{}</step>{}<octave>4</octave></pitch><duration>{}</duration></note>"
        score = "".join([
            "<part><attributes><divisions>2</divisions></attributes>",
            note.format("C", "", 2),
            "<note><rest/><duration>1</duration></note>",
            note.format("F", "<alter>1</alter>", 3),
            note.format("A", "", 3).replace("<note>", "<note><chord/>"),
            "<backup><duration>4</duration></backup>",
            note.format("E", "", 2).replace("<note>", "<note><grace/>"),
            note.format("E", "", 2),
            "</part>",
        ])  # fmt: skip
        found = sequences.part_of(ElementTree.fromstring(score))
        assert found == [(0.0, 1.0, 60), (1.5, 3.0, 66), (1.5, 3.0, 69), (1.0, 2.0, 64)]
        roll = sequences.roll_of([found])
        assert roll.shape == (3, 54)
        sounds = [{int(pitch) + sequences.LOW for pitch in row.nonzero()[0]} for row in roll]
        assert sounds == [{60}, {64}, {66, 69}]  # on the beat

    def test_years_are_not_shared(self, sequences):
        fit, validation, held_out = sequences.sunspots()
        assert fit.shape[1:] == validation.shape[1:] == held_out.shape[1:] == (11, 1)
        torch.testing.assert_close(fit[1, :-1], fit[0, 1:])
        values = [set(part.flatten().tolist()) for part in (fit, validation, held_out)]
        x = sequences.datasets.load("sunspots").x[0].float().sqrt()
        x = (x - x[:154].mean()) / x[:154].std()
        assert len(fit) + 10 == 154
        assert validation.flatten().tolist() == x[154:198].tolist()
        assert held_out.flatten().tolist() == x[198 : 198 + 110].tolist()
        assert values[0] == set(x[:154].tolist())

    def test_differences_are_paired(self, sequences):
        def fit(**scores):
            return {"scores": scores, "parameters": 3, "seconds": 1.0}

        runs = {
            "recurrent, small": [fit(exact=[-3.0, -5.0])],
            "recurrent, large": [fit(exact=[-2.0, -4.0])],
            "variational": [fit(ELBO=[-2.0, -1.0]), fit(ELBO=[-1.0, -2.0])],
        }
        shown = sequences.table(runs)
        assert "| exact | -3.000 ± 2.000 |  |" in shown
        assert "| ELBO | -1.500 ± 0.000 (-1.500, -1.500) | +1.500 ± 2.000 |" in shown

    def test_a_tiny_run_is_kept_and_not_repeated(self, sequences, tmp_path, monkeypatch, capsys):
        torch.manual_seed(0)
        x = torch.randn(12, 3, 1)
        data = {"chorales": lambda: None, "sunspots": lambda: (x[:6], x[6:9], x[9:])}
        monkeypatch.setattr(sequences, "HIDDEN", 4)
        arguments = ["--quick", "--only", "chorales,sunspots", "--out", str(tmp_path / "kept.json")]
        found = sequences.main(arguments, data)
        assert len(found) == 4
        for run in found.values():
            for values in run["scores"].values():
                assert len(values) == 3
                assert np.isfinite(values).all()
        monkeypatch.setattr(sequences, "fitted", None)
        assert sequences.main(arguments, data) == found
        shown = capsys.readouterr().out
        assert "chorales: music21 is not installed" in shown
        assert "| variational, filter |" in shown
        with pytest.raises(SystemExit):
            sequences.main(["--only", "moonspots"])


class TestSpeed:
    @pytest.fixture
    def speed(self):
        return benchmark("speed")

    def test_contenders_fit_the_same_model(self, speed):
        x = (torch.rand(64, 16, generator=torch.Generator().manual_seed(0)) < 0.3).float()
        batch, ends = zoo.Batch.of(x), {}
        contenders = {"Pyro": speed.plain_pyro(speed.vae(16, 16, 2), batch), "by hand": speed.by_hand(16, 16, 2)}
        for who, prepare in contenders.items():
            torch.manual_seed(0)
            step = prepare()
            losses = [float(step(batch)) for _ in range(500)]
            ends[who] = np.mean(losses[-100:]) / (64 if who == "Pyro" else 1)
        rate = float(x.mean())
        coins = -16 * (rate * math.log(rate) + (1 - rate) * math.log(1 - rate))  # nats a row of independent bits
        assert ends["Pyro"] == pytest.approx(ends["by hand"], rel=0.02)
        assert ends["Pyro"] == pytest.approx(coins, rel=0.05)

    def test_a_quick_run_tells_ratios_and_writes_nothing(self, speed, capsys):
        before = speed.README.read_text()
        speed.main(["--quick", "--only", "logistic"])
        shown = capsys.readouterr().out
        assert re.search(r"\| Pyro SVI \| [\d,]+ \| graph \d+\.\d{3} \|", shown)
        assert speed.README.read_text() == before

    def test_memory_of_one_contender(self, speed, capsys):
        speed.main(["--quick", "--alone", "VAE 16-16-2, B = 64|zoo, graph"])
        whole, added = map(float, capsys.readouterr().out.split())
        assert whole > 50
        assert 0 <= added < whole

    def test_a_table_is_written_between_its_marks(self, speed, tmp_path):
        file = tmp_path / "README.md"
        file.write_text("a\n<!-- steps -->\nold\n<!-- /steps -->\nb\n<!-- memory -->\n<!-- /memory -->\n")
        for _ in range(2):
            speed.write("steps", "new", file)
        assert file.read_text() == "a\n<!-- steps -->\nnew\n<!-- /steps -->\nb\n<!-- memory -->\n<!-- /memory -->\n"
        for mark in ("steps", "memory"):
            assert f"<!-- {mark} -->" in speed.README.read_text()


def test_hidden_markov_chains_agree_and_their_times_are_told(capsys):
    found = benchmark("markov").main(["--quick"])  # refuses methods whose log-likelihoods differ
    assert {work for work, _, _ in found} == {"score", "gradient"}
    assert "| score | 1 x 1,000 | zoo, float64 |" in capsys.readouterr().out


def test_mixtures_from_the_same_start_end_at_the_same_likelihood(capsys):
    pytest.importorskip("sklearn")
    ours, peer = benchmark("mixtures").main(["--quick", "--only", "start"])["start"][0]
    assert ours[2] == pytest.approx(peer[2], abs=0.05)
    assert "| zoo | " in capsys.readouterr().out
