"""Time runs down the rows of frames, at every door; nothing that was given goes unseen; names are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inference
import zoo
import zoo.notes
from inference.data.check import as_batch
from tests.helpers.pairs import NAMES
from zoo import Batch

QUIET = {"progress": False, "compile": "off"}
WIDE = np.random.default_rng(0).normal(size=(40, 3)).cumsum(0)


def autoregressive(**config):
    return zoo.create("autoregressive", **config).double()


def frames():
    pandas, polars, arrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    days = pandas.date_range("2020-01-01", periods=40)
    named = dict(zip("abc", WIDE.T, strict=True))
    return {
        "an index of dates": pandas.DataFrame(WIDE, index=days, columns=list("abc")),
        "plain": pandas.DataFrame(named),
        "polars": polars.DataFrame(named),
        "arrow": arrow.table(named),
    }


def test_a_frame_of_columns_is_a_series_each_and_an_array_a_series_a_row():
    wanted = torch.from_numpy(WIDE.T.copy())
    for told, frame in frames().items():
        batch = as_batch(autoregressive(), frame)
        assert torch.equal(batch.x, wanted), told
        assert batch.lengths.tolist() == [40] * 3
        assert torch.equal(as_batch(autoregressive(), Batch.of(frame)).x, wanted), "the other door"
    assert torch.equal(as_batch(autoregressive(), wanted.numpy()).x, wanted)


@pytest.mark.parametrize("features", [1, 3])
def test_a_frame_is_one_series_of_vectors_where_a_step_is_a_vector(features):
    for frame in frames().values():
        batch = as_batch(zoo.create("hmm", features=features).double(), frame)
        wanted = WIDE[None] if features == 3 else WIDE.T[..., None]
        np.testing.assert_array_equal(batch.x.numpy(), wanted)
    np.testing.assert_array_equal(as_batch(zoo.create("hmm", features=3).double(), WIDE).x.numpy(), WIDE[None])


def test_one_series_may_be_given_as_it_stands():
    series = frames()["plain"]["a"]
    forms = [WIDE[:, 0], torch.from_numpy(WIDE[:, 0]), series, series.to_frame(), WIDE[:, 0].tolist(), WIDE[None, :, 0]]
    for form in forms:
        for data in (form, Batch.of(form)):
            batch = as_batch(autoregressive(), data)
            np.testing.assert_array_equal(batch.x.numpy(), WIDE[None, :, 0])
    given = as_batch(autoregressive(inputs=2), Batch.of(WIDE[:, 1:], WIDE[:, 0]))
    np.testing.assert_array_equal(given.x.numpy(), WIDE[None, :, 1:])
    np.testing.assert_array_equal(given.y.numpy(), WIDE[None, :, 0])


@pytest.mark.parametrize(
    ("name", "config"), [("hmm", {}), ("variational_autoregressive", {"features": 1}), ("autoregressive", {})]
)
def test_an_array_is_a_series_a_row_for_every_pair_of_one_feature(name, config):
    pair, rows = zoo.create(name, **config).double(), WIDE.T.copy()
    wanted = rows if name == "autoregressive" else rows[..., None]
    for form in (rows, torch.from_numpy(rows), rows.tolist()):
        for data in (form, Batch.of(form), Batch.of(form, lengths=[40, 40, 40])):
            batch = as_batch(pair, data)
            np.testing.assert_array_equal(batch.x.numpy(), wanted)
            assert batch.lengths.tolist() == [40] * 3
    padded = np.where(np.arange(40) < np.array([[40], [12], [7]]), rows, np.nan)
    batch = as_batch(pair, Batch.of(padded, lengths=[40, 12, 7]))
    assert batch.lengths.tolist() == [40, 12, 7]
    np.testing.assert_array_equal(batch.x.numpy().reshape(3, 40), padded)
    some = Batch.of(rows).but(total=50)  # a minibatch keeps the size of its whole
    assert as_batch(pair, some).total == 50
    lake = zoo.datasets.load("lakehuron")
    np.testing.assert_array_equal(as_batch(pair, lake).x.numpy().reshape(1, -1), lake.x.numpy())
    for data in (lambda: [[1.0, 2.0, 3.0], [1.0, 2.0]], lambda: Batch.of([[1.0, 2.0, 3.0], [1.0, 2.0]])):
        with pytest.raises(ValueError, match=r"rows of equal length, got list; pad .*lengths=…"):
            as_batch(pair, data())


def test_columns_of_dates_say_when():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    days = pandas.date_range("2020-01-01", periods=40)
    for frame in (
        pandas.DataFrame({"day": days, "flow": WIDE[:, 0]}),
        pandas.DataFrame({"day": days.date, "flow": WIDE[:, 0]}),
        pandas.DataFrame({"day": days.to_period("D"), "flow": WIDE[:, 0]}),
        polars.DataFrame({"day": days.to_list(), "flow": WIDE[:, 0]}),
        pandas.DataFrame({"day": days.strftime("%Y-%m-%d"), "flow": WIDE[:, 0]}),
        pandas.DataFrame({"day": days.strftime("%Y-%m-%d").astype("object"), "flow": WIDE[:, 0]}),
        pandas.DataFrame({"day": days.strftime("%d/%m/%Y %H:%M"), "flow": WIDE[:, 0]}),
        pytest.importorskip("pyarrow").table({"day": days.strftime("%Y-%m-%d").to_list(), "flow": WIDE[:, 0]}),
        pandas.Series(WIDE[:, 0], days, name="flow"),
        pandas.Series(WIDE[:, 0], days.strftime("%Y-%m-%d"), name="flow"),
    ):
        for data in (frame, Batch.of(frame)):
            batch = as_batch(autoregressive(), data)
            np.testing.assert_array_equal(batch.x.numpy(), WIDE[None, :, 0])
            assert batch.when.names == ("flow",)
            assert list(batch.when.dates(0, 40).astype("str")) == list(days.strftime("%Y-%m-%d"))
    for data in (polars.DataFrame({"day": days.to_list(), "flow": WIDE[:, 0]}),):
        for door in (data, Batch.of(data)):
            with pytest.raises(ValueError, match=r"column 'day': expected numbers, got dates"):
                as_batch(zoo.create("gmm"), door)
    inputs = pandas.DataFrame({"day": days.strftime("%Y-%m-%d"), "rain": WIDE[:, 1], "snow": WIDE[:, 2]})
    for data in ((inputs, WIDE[:, 0]), Batch.of(inputs, WIDE[:, 0]), (WIDE[:, 1:], pandas.Series(WIDE[:, 0], days))):
        batch = as_batch(autoregressive(inputs=2), data)
        np.testing.assert_array_equal(batch.x.numpy(), WIDE[None, :, 1:])
        np.testing.assert_array_equal(batch.y.numpy(), WIDE[None, :, 0])
        assert batch.when.words(0, 40) == "daily, 2020-01-01 to 2020-02-09"
    for words in (["2020-01-01", "high"] * 20, ["1"] * 39 + ["one"], [None] * 40):
        frame = pandas.DataFrame({"day": words, "flow": WIDE[:, 0]})
        with pytest.raises(ValueError, match=r"expected a number"):
            as_batch(autoregressive(), frame)


def test_what_was_understood_is_said():
    pair = autoregressive()
    assert "on 3 series of 40 steps, loss" in repr(inference.fit(pair, frames()["plain"], steps=1, **QUIET))
    hmm = zoo.create("hmm", features=3)
    assert "on 1 series of 40 steps of 3 features" in repr(inference.fit(hmm, WIDE, steps=1, **QUIET))
    assert "series" not in repr(inference.fit(zoo.create("gmm"), WIDE[:, :2], steps=1, **QUIET))


def test_hints_of_series_lead_right():
    holed = WIDE[:, 0].copy()
    holed[20] = np.nan
    with pytest.raises(ValueError, match=r"row 0, step 20: expected a number \(1 step missing: make .*missing=1"):
        as_batch(autoregressive(), holed)
    assert as_batch(autoregressive(missing=1), holed).x.isnan().sum() == 1
    with pytest.raises(ValueError, match=r"is a table \(T, D\): time runs down its rows"):
        as_batch(zoo.create("hmm", features=3), holed)
    with pytest.raises(ValueError, match=r"expected a whole number, got .12.; give 12, without the list$"):
        zoo.create("autoregressive", seasonal=[12])


@pytest.mark.parametrize("name", NAMES)
def test_a_field_that_no_site_reads_is_refused(name):
    pair = zoo.create(name)
    example = pair.simulate(4)[0]
    for field, value in {"y": torch.arange(4.0), "lengths": torch.ones(4, dtype=torch.long)}.items():
        if getattr(example, field) is None:
            with pytest.raises(ValueError, match=f"field '{field}': {name} reads .* alone and would not see it"):
                as_batch(pair, example.but(**{field: value}))
            spare = as_batch(pair, example.but(**{field: value}, spare=(field,)))
            assert getattr(spare, field) is None
    if example.y is None:
        with pytest.raises(ValueError, match=r"field 'y'"):
            as_batch(pair, (example.x, torch.arange(4.0)))


def test_labels_of_known_data_sets_are_left_aside():
    assert zoo.datasets.load("iris").y is not None
    assert as_batch(zoo.create("gmm", features=4), zoo.datasets.load("iris")).y is None


# Names of columns ----------------------------------------------------------------------------------------------------


def plane(names=("a", "b")):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(WIDE[:, :2], columns=list(names))


@pytest.fixture(scope="module")
def named():
    pair = zoo.create("gmm")
    inference.fit(pair, plane(), steps=1, **QUIET)
    return pair


SWAPPED = r"fitted to the columns a, b; these are in another order \(column 0 is 'b', expected 'a'\)"


def test_names_are_kept_and_checked(named, tmp_path):
    """As scikit-learn does: the same model there refuses the same frames."""
    mixture = pytest.importorskip("sklearn.mixture").GaussianMixture(2, random_state=0).fit(plane())
    named.save(tmp_path / "pair")
    for pair in (named, zoo.load(tmp_path / "pair")):
        for names, wrong in ((("b", "a"), SWAPPED), (("a", "c"), "missing: b; not among them: c")):
            with pytest.raises(ValueError, match=r"feature names"):
                mixture.score(plane(names))
            for data in (plane(names), Batch.of(plane(names))):
                with pytest.raises(ValueError, match=wrong):
                    as_batch(pair, data)
        for data in (plane(), plane().to_numpy(), plane((0, 1))):
            assert as_batch(pair, data).size == 40


def test_two_columns_of_one_name_are_refused():
    for data in (plane(("a", "a")), Batch.of(plane(("a", "a")))):
        with pytest.raises(ValueError, match=r"two columns called 'a'"):
            as_batch(zoo.create("gmm"), data)


def test_covariates_keep_their_names_and_a_failed_fit_keeps_none():
    pair = zoo.create("polynomial_regression", features=1).double()
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"steps"):
        inference.fit(pair, pandas.DataFrame({"a": WIDE[:, 0]}), WIDE[:, 1], steps=0, **QUIET)
    frame = pandas.DataFrame({"height": WIDE[:, 0]})
    inference.fit(pair, frame, WIDE[:, 1], steps=1, **QUIET)
    with pytest.raises(ValueError, match=r"missing: height; not among them: depth"):
        inference.prior(pair, frame.rename(columns={"height": "depth"}), 3)


def test_rows_held_out_have_the_same_names():
    pair = zoo.create("gmm")
    with pytest.raises(ValueError, match=r"gmm is fitted to the columns a, b; these are in another order"):
        inference.fit(pair, plane(), validation=plane(("b", "a")), steps=1, **QUIET)
