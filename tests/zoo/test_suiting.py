"""What is read off data for the arguments of a pair: families, widths, kinds of columns; and what is not."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

import inference
import zoo
from inference.data.check import as_batch
from inference.data.series import understood
from inference.data.suited import adaptable
from tests.helpers.pairs import NAMES
from zoo.base import Batch, registered
from zoo.config import hints
from zoo.suiting import content

RNG = np.random.default_rng(0)
REAL, BINARY = RNG.random((30, 4)), RNG.integers(0, 2, (30, 4))
COUNT, BYTE = RNG.integers(0, 8, (30, 4)), RNG.integers(0, 256, (30, 4)).astype(np.uint8)
COUNT[0, 0] = 7


@pytest.mark.parametrize(
    ("cells", "kind", "most"),
    [
        (REAL, "real", 0),
        (-COUNT, "real", 0),
        (BINARY, "binary", 1),
        (BINARY.astype(bool), "binary", 1),
        (np.where(BINARY == 1, np.nan, 1.0), "binary", 1),
        (COUNT, "count", 7),
        (COUNT.astype(float), "count", 7),
        (COUNT.astype(np.uint8), "byte", 255),
        (BYTE, "byte", 255),
        (np.array([[0.0, 255.0]]), "byte", 255),
        (np.array([[0.0, 1000.0]]), "count", 1000),
        (np.array([[np.nan, np.nan]]), "real", 0),
        (np.array([[0.5, np.inf]]), "real", 0),
    ],
)
def test_what_cells_are(cells, kind, most):
    found = content(Batch.of(cells).x)
    assert (found.kind, found.most) == (kind, most)


CHOICES = {
    "gaussian_vae": ["gaussian", "bernoulli", ("binomial", {"trials": 7}), ("beta_binomial", {"trials": 255})],
    "bayesian_vae": ["gaussian", "bernoulli", ("binomial", {"trials": 7}), ("binomial", {"trials": 255})],
    "neural_autoencoder": ["gaussian", "bernoulli", "gaussian", "gaussian"],
    "masked_autoregressive": [
        "gaussian", "bernoulli", ("categorical", {"categories": 8}), ("categorical", {"categories": 256}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_the_family_of_a_cell_follows_from_the_cells(name):
    for cells, wanted in zip((REAL, BINARY, COUNT, BYTE), CHOICES[name], strict=True):
        said = []
        pair = inference.pair_for(name, cells, tell=said.append)
        family, more = (wanted, {}) if isinstance(wanted, str) else wanted
        assert {"features": 4, "likelihood": family, **more}.items() <= pair.config.items()
        assert f"likelihood='{family}'" in said[0]
        assert str(content(Batch.of(cells).x)) in said[0]
        inference.log_likelihood(pair, inference.draw(pair, cells, draws=1), cells)  # they are in its support


SERIES = {
    "hmm": ["gaussian", ("categorical", {"categories": 2}), "poisson", "gaussian"],
    "recurrent": ["gaussian", "bernoulli", ("categorical", {"categories": 8}), ("categorical", {"categories": 256})],
    "variational_autoregressive": ["gaussian", "bernoulli", "gaussian", "gaussian"],
}


@pytest.mark.parametrize("name", SERIES)
def test_the_emission_of_a_step_follows_from_the_steps(name):
    for cells, wanted in zip((REAL, BINARY, COUNT, BYTE), SERIES[name], strict=True):
        rows = Batch.of(cells, lengths=[4] * 30)
        pair = inference.pair_for(name, rows, tell=None)
        family, more = (wanted, {}) if isinstance(wanted, str) else wanted
        assert {"emission": family, "features": 1, **more}.items() <= pair.config.items()
        assert understood(as_batch(pair, rows)) == "30 series of 4 steps"
        table = inference.pair_for(name, cells, tell=None)  # time runs down the rows of a table
        assert table.config["features"] == 4
        assert table.config["emission"] == ("bernoulli" if family != "gaussian" and name != "hmm" and cells is BINARY
                                            else "gaussian")  # fmt: skip


def test_what_is_given_stays_and_auto_is_what_is_left_out():
    given = {"likelihood": "binomial", "trials": 20, "latent": 1}
    assert given.items() <= inference.pair_for("gaussian_vae", COUNT, tell=None, **given).config.items()
    found = inference.pair_for("gaussian_vae", COUNT, tell=None, likelihood="beta_binomial", trials="auto")
    assert found.config["trials"] == 7
    assert inference.pair_for("gaussian_vae", REAL, tell=None, likelihood="auto").config["likelihood"] == "gaussian"
    assert inference.pair_for("gaussian_vae", 1000 * COUNT, tell=None).config["likelihood"] == "gaussian"
    assert inference.pair_for("gaussian_vae", REAL[:, :1], tell=None).config["latent"] == 1
    assert inference.pair_for("gaussian_autoencoder", RNG.random((9, 8)), tell=None, latent=7).config["latent"] == 7
    assert inference.pair_for("autoregressive", REAL[:, :2], tell=None).config["order"] == 1


def test_columns_of_a_matrix_and_of_a_frame():
    pd = pytest.importorskip("pandas")
    kinds = [column.kind for column in inference.pair_for("naive_bayes", BINARY, tell=None).schema]
    assert kinds == ["binary"] * 4
    level = np.stack([COUNT[:, 0], 5 + BINARY[:, 0]], 1)  # the second varies less than a count would
    assert [column.kind for column in inference.pair_for("naive_bayes", level, tell=None).schema] == ["count", "real"]
    assert [c.kind for c in inference.pair_for("bayesian_network", COUNT, tell=None).schema] == ["real"] * 4
    frame = pd.DataFrame({"town": ["Rome", "Oslo", "Bern"] * 10, "rain": REAL[:, 0], "sick": ["no", "yes"] * 15})
    pair = inference.pair_for("naive_bayes", frame, target="sick", tell=None)
    assert [(column.name, column.kind) for column in pair.schema] == [("town", "categorical"), ("rain", "positive")]
    assert pair.target.categories == ("no", "yes")
    assert as_batch(pair, frame).y is not None


def test_a_network_over_the_words_of_a_frame_and_what_its_arrows_get_wrong():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"smokes": ["yes", "no"] * 10 + ["no"] * 5, "coughs": ["yes"] * 12 + ["no"] * 13})
    frame["age"] = np.arange(20, 45)
    said = []
    pair = inference.pair_for("bayesian_network", frame, edges=[("smokes", "coughs")], tell=said.append)
    assert [(column.name, column.kind) for column in pair.schema] == [
        ("smokes", "binary"), ("coughs", "binary"), ("age", "real"),
    ]  # fmt: skip
    assert said[0].startswith("bayesian_network: columns=(2 binary, 1 real)")
    batch = as_batch(pair, frame)
    pair.measure(batch)
    pair.initial(batch)  # exact: no cell is missing
    count = pd.crosstab(frame["smokes"], frame["coughs"]).loc["yes"] + 1.0  # the prior's rows
    table = inference.tables(pair, inference.draw(pair, frame, draws=4000))
    wanted = float(count["yes"] / count.sum())
    found = table.loc["P(coughs = yes | smokes = yes)"]
    assert abs(found["estimate"] - wanted) < 4 * found["sd"] / 4000**0.5
    for edges, words in (
        ([("smokes", "coughs"), ("coughs", "smokes")], "cycle"),
        ([("smoke", "coughs")], "'smoke'.*did you mean 'smokes'"),
    ):
        with pytest.raises(ValueError, match=words):
            inference.pair_for("bayesian_network", frame, edges=edges, tell=None)


def test_the_line_that_is_said_and_silence(capsys):
    inference.pair_for("gaussian_vae", REAL)
    wanted = "gaussian_vae: features=4, likelihood='gaussian', since cells are real numbers\n"
    assert capsys.readouterr().out == wanted
    inference.pair_for("gaussian_vae", REAL, tell=None)
    inference.pair_for("gmm", REAL)  # its width is no choice
    assert capsys.readouterr().out == ""


def test_the_seed_makes_the_pair_and_the_caller_keeps_the_random_state():
    before = torch.random.get_rng_state()
    one, same, other = (inference.pair_for("gaussian_vae", REAL, seed=seed, tell=None) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    first = "encoder.0.weight"
    assert torch.equal(one.state_dict()[first], same.state_dict()[first])
    assert not torch.equal(one.state_dict()[first], other.state_dict()[first])
    assert inference.pair_for("gmm", REAL, dtype=torch.float64).dtype == torch.float64


def test_what_was_chosen_is_saved(tmp_path):
    pair = inference.pair_for("gaussian_vae", COUNT, tell=None)
    pair.save(tmp_path / "pair")
    assert zoo.load(tmp_path / "pair").config == pair.config


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: inference.pair_for("gaussian_vea", REAL), "did you mean 'gaussian_vae'"),
        (lambda: inference.pair_for("gaussian_vae", REAL, latents=1), "no argument 'latents', did you mean 'latent'"),
        (lambda: inference.pair_for("gmm", "some text"), "gmm does not model text"),
        (lambda: inference.pair_for("gmm", [["a"]]), "field 'x', row 0, column 0: expected a number, got 'a'"),
        (lambda: inference.pair_for("gmm", REAL, target="a"), "gmm has no target"),
        (lambda: inference.pair_for("naive_bayes", {"a": [1.5, 2]}, target="b"), "no column 'b'"),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("name", NAMES)
def test_a_class_reads_off_no_more_than_it_says(name):
    cls = registered(name)
    assert set(cls.adapts) <= set(hints(cls.__init__))
    for cells in (REAL, BINARY, COUNT, BYTE):
        for data in (Batch.of(cells), Batch.of(cells, lengths=[4] * 30), Batch.of(cells, BINARY[:, 0])):
            found = cls.suits(data, {})
            assert set(found.arguments) <= set(adaptable(cls))
            fixed = dict.fromkeys(inspect.signature(cls).parameters, "given")
            assert not cls.suits(data, fixed).arguments
