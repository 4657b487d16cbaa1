"""Frames with dates as series, against pandas' own date ranges; what is no series is refused by row and date."""

from __future__ import annotations

import numpy as np
import pytest

import inference
import zoo
from inference.command.main import main
from inference.data.check import as_batch
from inference.data.series import understood
from zoo import Batch
from zoo.datasets.dated import read_dated
from zoo.notes import DataWarning

pandas = pytest.importorskip("pandas")
VALUES = np.random.default_rng(0).normal(size=(48, 3)).cumsum(0)
OFTEN = {
    "15min": "every 15 minutes", "h": "hourly", "D": "daily", "B": "on weekdays", "W": "weekly", "2W": "every 14 days",
    "MS": "monthly", "ME": "monthly", "BME": "monthly", "QS": "quarterly", "QE": "quarterly", "YS": "yearly",
    "YE-JUN": "yearly",
}  # fmt: skip


def autoregressive(**config):
    return zoo.create("autoregressive", order=1, **config).double()


def monthly(steps=48, start="1949-01-01"):
    return pandas.DataFrame({"flow": VALUES[:steps, 0]}, pandas.date_range(start, periods=steps, freq="MS"))


@pytest.mark.parametrize("freq", OFTEN)
@pytest.mark.parametrize("absent", [[], [5, 6, 20]])
def test_the_frequency_is_found_and_absent_rows_are_missing_steps(freq, absent):
    when = pandas.date_range("2020-01-31", periods=48, freq=freq)
    frame = pandas.DataFrame({"flow": VALUES[:, 0]}, when)
    wanted = VALUES[:, 0].copy()
    wanted[absent] = np.nan
    batch = as_batch(autoregressive(missing=3), frame.drop(index=when[absent]))
    np.testing.assert_array_equal(batch.x.numpy(), wanted[None])
    assert batch.when.often == OFTEN[freq]
    assert batch.when.dates(0, 48).equals(when)
    later = pandas.date_range("2020-01-31", periods=60, freq=freq)[48:]
    assert batch.when.ahead(0, 48, 12).equals(later)
    assert understood(batch).startswith(f"1 series of 48 steps, {OFTEN[freq]}, 20")
    assert ("3 steps missing" in understood(batch)) == bool(absent)


@pytest.mark.parametrize("freq", ["M", "Q", "Y", "D", "h"])
def test_periods_keep_their_own_frequency(freq):
    when = pandas.period_range("2001-01", periods=48, freq=freq)
    batch = as_batch(autoregressive(missing=1), pandas.Series(VALUES[:, 0], when).drop(when[7]))
    assert batch.when.ahead(0, 48, 3).equals(pandas.period_range("2001-01", periods=51, freq=freq)[48:])
    assert batch.x.isnan().nonzero().tolist() == [[0, 7]]


def test_days_of_a_zone_go_over_its_change_of_clocks():
    when = pandas.date_range("2021-03-01", periods=48, freq="D", tz="Europe/Vienna")
    batch = as_batch(autoregressive(), pandas.Series(VALUES[:, 0], when))
    assert batch.when.often == "daily"
    assert batch.when.dates(0, 48).equals(when)
    hours = pandas.date_range("2021-03-27", periods=48, freq="h", tz="Europe/Vienna")
    assert as_batch(autoregressive(), pandas.Series(VALUES[:, 0], hours)).when.dates(0, 48).equals(hours)


@pytest.mark.parametrize("form", ["%d.%m.%Y", "%m/%d/%Y", "%d %b %Y", "%Y/%m/%d", "%Y-%m-%dT%H:%M:%S"])
@pytest.mark.parametrize("start", ["2020-01-31", "2020-02-01"])
def test_texts_are_dates_in_the_one_order_that_reads_them_all(form, start, capfd):
    when = pandas.date_range(start, periods=48)
    batch = as_batch(autoregressive(), pandas.DataFrame({"day": when.strftime(form), "flow": VALUES[:, 0]}))
    assert batch.when.dates(0, 48).equals(when)
    assert capfd.readouterr().err == ""


def test_dots_put_days_first_and_slashes_the_order_that_is_regular():
    frame = monthly().assign(flow=VALUES[:, 0])
    dotted = frame.set_axis(frame.index.strftime("%d.%m.%Y"))
    for data in (dotted, dotted.rename_axis("m").reset_index()):
        assert as_batch(autoregressive(), data).when.dates(0, 48).equals(frame.index)
    slashed = frame.set_axis(frame.index.strftime("%d/%m/%Y"))
    with pytest.warns(
        DataWarning, match="the index: '01/01/1949' and so on were read with days before months.*monthly"
    ):
        assert as_batch(autoregressive(), slashed).when.dates(0, 48).equals(frame.index)


@pytest.mark.parametrize("form", ["{0}Q{1}", "{0}-Q{1}", "{0} q{1}", "Q{1} {0}", "Q{1}/{0}"])
def test_quarters_are_dates(form, tmp_path):
    wanted = pandas.period_range("2000Q1", periods=48, freq="Q")
    words = [form.format(date.year, date.quarter) for date in wanted]
    frame = pandas.DataFrame({"quarter": words, "flow": VALUES[:, 0]})
    frame.to_csv(tmp_path / "q.csv", index=False)
    for data in (frame, Batch.of(frame), read_dated(tmp_path / "q.csv")):
        batch = as_batch(autoregressive(), data)
        assert batch.when.dates(0, 48).equals(wanted)
        assert understood(batch) == "1 series of 48 steps, quarterly, 2000Q1 to 2011Q4"
    assert [str(date) for date in batch.when.ahead(0, 48, 2)] == ["2012Q1", "2012Q2"]


def test_rows_of_a_file_are_counted_from_1(tmp_path):
    for spoil, words in (("soon", "row 4: 'soon' is no date"), ("", "row 4: expected a date, got none")):
        frame = monthly().set_axis(monthly().index.strftime("%Y-%m")).rename_axis("m").reset_index()
        frame.replace("1949-04", spoil).to_csv(tmp_path / "m.csv", index=False)
        with pytest.raises(ValueError, match=f"column 'm', {words}"):
            as_batch(autoregressive(), read_dated(tmp_path / "m.csv"))


def test_rows_may_stand_in_any_order_and_years_are_dates():
    frame = monthly()
    mixed = frame.sample(frac=1, random_state=0)
    np.testing.assert_array_equal(as_batch(autoregressive(), mixed).x.numpy(), VALUES[None, :, 0])
    frame = pandas.DataFrame({"year": range(1871, 1919), "flow": VALUES[:, 0]})
    batch = as_batch(autoregressive(), frame)
    np.testing.assert_array_equal(batch.x.numpy(), VALUES[None, :, 0])
    assert [str(date) for date in batch.when.ahead(0, 48, 2)] == ["1919", "1920"]


def test_columns_side_by_side_are_series_from_their_first_step_to_their_last():
    frame = pandas.DataFrame(VALUES, pandas.date_range("2020-01-01", periods=48), columns=["a", "b", "c"])
    frame.loc[frame.index[:5], "b"] = np.nan
    frame.loc[frame.index[40:], "c"] = np.nan
    for data in (frame, Batch.of(frame)):
        batch = as_batch(autoregressive(), data)
        assert batch.when.names == ("a", "b", "c")
        assert batch.lengths.tolist() == [48, 43, 40]
        assert [str(start.date()) for start in batch.when.starts] == ["2020-01-01", "2020-01-06", "2020-01-01"]
        np.testing.assert_array_equal(batch.x[1, :43].numpy(), VALUES[5:, 1])
        assert str(batch.when.ahead(2, 40, 1)[0].date()) == "2020-02-10"
    few = batch.select(slice(1, 3))
    assert few.when.names == ("b", "c")
    together = as_batch(zoo.create("hmm", features=3).double(), frame[:40].fillna(0.0))
    np.testing.assert_array_equal(together.x.numpy(), frame[:40].fillna(0.0).to_numpy()[None])
    assert together.columns == ("a", "b", "c")


@pytest.mark.parametrize("form", ["texts", "numbers", "an index", "two features"])
def test_long_form_is_a_series_an_id(form):
    when = pandas.date_range("2020-01-31", periods=48, freq="ME")
    parts = {"1" if form == "numbers" else "north": (VALUES[:, 0], when), "2": (VALUES[:30, 1], when[18:])}
    frame = pandas.concat(
        [pandas.DataFrame({"id": name, "month": dates, "sold": sold}) for name, (sold, dates) in parts.items()]
    )
    if form == "numbers":
        frame["id"] = frame["id"].astype(int)
    if form == "an index":
        frame = frame.set_index(["id", "month"])
    if form == "two features":
        frame["price"] = frame["sold"] * 2
        batch = as_batch(zoo.create("hmm", features=2).double(), frame)
        np.testing.assert_array_equal(batch.x[1, :30, 1].numpy(), 2 * VALUES[:30, 1])
        with pytest.raises(ValueError, match="field 'x': one column of values is expected here, got 'sold', 'price'"):
            as_batch(autoregressive(), frame)
        return
    for data in (frame, Batch.of(frame)):
        batch = as_batch(autoregressive(), data)
        assert batch.when.names == tuple(parts)
        assert batch.lengths.tolist() == [48, 30]
        np.testing.assert_array_equal(batch.x[1, :30].numpy(), VALUES[:30, 1])
        assert batch.x[1, 30:].isnan().all()
        assert batch.when.ahead(1, 30, 1)[0] == pandas.Timestamp("2024-01-31")


def _moved(frame, row, days):
    when = frame.index.to_numpy().copy()
    when[row] += np.timedelta64(days, "D")
    return frame.set_axis(pandas.DatetimeIndex(when))


BAD = {
    "irregular months": (lambda f: _moved(f, 9, 1), "irregular: row 9, 1949-10-02 follows 1949-09-01, .* day 1 of a"),
    "irregular days": (
        lambda f: _moved(f.set_axis(pandas.date_range("2020-01-01", periods=48, freq="7D")), 20, 3),
        "irregular: row 20, 2020-05-23 follows 2020-05-13, where most steps are 7 days",
    ),
    "twice": (lambda f: pandas.concat([f, f[7:8]]), "two rows, 7 and 48, are of one date, 1949-08-01: keep one"),
    "two frequencies": (
        lambda f: f.set_axis(f.index[:24].append(pandas.date_range("1951-01-01", periods=24, freq="QS"))),
        "two frequencies: dates are monthly, and quarterly from row 24, 1951-01-01, to row 47, 1956-10-01; bring them",
    ),
    "missing": (
        lambda f: f.rename_axis("m").reset_index().assign(m=lambda g: g["m"].where(g.index != 3)),
        "column 'm', row 3: expected a date, got none",
    ),
    "either order": (
        lambda f: f[:12].set_axis(f.index[:12].strftime("%d/%m/%Y")),
        "the index: '01/01/1949' may be a day of either order; write dates as 2020-01-31",
    ),
    "no date": (
        lambda f: f.set_axis(f.index.strftime("%Y-%m")).rename_axis("m").reset_index().replace("1949-04", "n/a"),
        "column 'm', row 3: 'n/a' is no date, where others are; write it as 2020-01-31, or leave the row out",
    ),
    "one date": (lambda f: f[:1], "one date, 1949-01-01, tells no frequency"),
    "nothing known": (lambda f: f * np.nan, "series 'flow' has no value at all"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_dates_that_make_no_series_are_refused_by_row_and_date(fault):
    spoil, words = BAD[fault]
    frame = spoil(monthly())
    for data in (frame, Batch.of(frame)):
        with pytest.raises(ValueError, match=words):
            as_batch(autoregressive(missing=40), data)


def test_series_of_two_frequencies_are_refused_by_name():
    months, weeks = (pandas.date_range("2020-01-01", periods=24, freq=freq) for freq in ("MS", "7D"))
    frame = pandas.concat(
        [pandas.DataFrame({"id": name, "t": t, "v": VALUES[:24, 0]}) for name, t in (("a", months), ("b", weeks))]
    )
    with pytest.raises(ValueError, match="two frequencies: series 'a' monthly and 'b' weekly; give those of one"):
        as_batch(autoregressive(), frame)


def test_a_second_column_of_dates_is_left_out_aloud():
    frame = monthly().assign(paid=pandas.date_range("1950-01-01", periods=48))
    with pytest.warns(DataWarning, match="left out, since the index says when: column 'paid'"):
        batch = as_batch(autoregressive(), frame)
    np.testing.assert_array_equal(batch.x.numpy(), VALUES[None, :, 0])


def test_gaps_of_a_series_that_takes_none_are_refused_by_date():
    frame = monthly().drop(index="1950-03-01")
    with pytest.raises(
        ValueError,
        match=r"field 'x', row 0, step 14 \(flow, 1950-03\): expected a number .1 step missing: make .*missing=1",
    ):
        as_batch(autoregressive(), frame)


def test_a_pair_that_suits_the_data_takes_the_steps_that_are_absent(tmp_path, capsys):
    short = monthly().drop(index=monthly().index[[14, 30, 31]])
    said = []
    pair = inference.pair_for("autoregressive", short, order=1, tell=said.append)
    assert pair.config["missing"] == 3
    assert said == ["autoregressive: missing=3, since 3 steps are missing"]
    assert as_batch(pair, short).x.isnan().nonzero().tolist() == [[0, 14], [0, 30], [0, 31]]
    holes = monthly().assign(price=VALUES[:, 1])
    holes.loc["1950-03-01", "price"] = np.nan
    assert inference.pair_for("autoregressive", holes, order=1, tell=None).config["missing"] == 1
    assert inference.pair_for("autoregressive", short.to_numpy()[:, 0], order=1, tell=None).config["missing"] is None
    assert inference.pair_for("autoregressive", short, missing=5, tell=None).config["missing"] == 5
    short.rename_axis("month").to_csv(tmp_path / "short.csv")
    words = ["--data", str(tmp_path / "short.csv"), "--out", str(tmp_path / "run"), "--steps", "1", "--no-score"]
    assert main(["fit", "autoregressive", *words, "--set", "order=1"]) == 0
    assert "note: autoregressive: missing=3, since 3 steps are missing" in capsys.readouterr().out


def test_a_gap_among_the_first_steps_is_named_by_its_date():
    pair = zoo.create("autoregressive", order=1, seasonal=12, missing=2, steps=40).double()
    words = r"step 5 \(flow, 1949-06\): NaN among the first 12 steps, which .*: cut off the steps up to it"
    with pytest.raises(ValueError, match=words):
        inference.fit(pair, monthly().drop(index="1949-06-01"), steps=1, progress=False)
