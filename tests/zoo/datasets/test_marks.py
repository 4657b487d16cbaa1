"""Texts that look like categories and are numbers: refused or read, never modelled as one category a row."""

from __future__ import annotations

import warnings
from decimal import Decimal

import numpy as np
import pytest

from zoo import datasets
from zoo.datasets import Column, Schema
from zoo.notes import DataWarning
from zoo.schema.marks import is_marked

pandas = pytest.importorskip("pandas")


@pytest.fixture
def written(tmp_path):
    def write(text, name="table.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def german(*rows):
    return "umsatz;b\n" + "\n".join(rows) + "\n"


# A decimal comma in one column says what a point is in another --------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "aloud"),
    [
        (("55.868;3,449", "54.769;1,235"), True),  # as spreadsheets format them: no cell alone can tell
        (("1.048;0,765", "262;1,787"), True),  # 262 has no mark, and 0,765 is no thousand
        (("55.868;3,4", "1.234.567;2,25"), False),  # 1.234.567 is no decimal number
        (("55.868,5;3,4", "54.769;2,25"), False),
        (("-55.868;3,4", "+54.769;2,25"), True),
    ],
)
@pytest.mark.parametrize("read", [datasets.read, datasets.table])
def test_points_of_thousands_are_read_as_pandas_reads_them_when_told(rows, aloud, read, written):
    path = written(german(*rows))
    wanted = pandas.read_csv(path, sep=";", decimal=",", thousands=".").to_numpy(dtype=float)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = read(path)
    numbers = found.batch.x.numpy() if read is datasets.read else found.to_numpy(dtype=float)
    np.testing.assert_array_equal(numbers, wanted)
    assert [str(note.message)[:45] for note in told] == ["column 'umsatz': points were read as marks of"] * aloud


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("lat;b\n48.1375;3,449\n48.2082;1,235\n52.5200;2,000\n", "b"),  # 48.1375 is a decimal number for certain
        ("lat;b\n48.1375;3,4\n48.208;1,2\n52.52;2,5\n1;2,5\n", "lat"),  # so its column is no column of thousands
        ("lat\tb\n48.137\t3,449\n48.208\t1,235\n", "lat"),  # either may be either
    ],
)
def test_two_decimal_marks_in_a_file_are_refused_by_column(text, column, written):
    path = written(text)
    for read in (datasets.read, datasets.table):
        with pytest.raises(ValueError, match=f"column '{column}': expected (a )?numbers?, (as in .*)?got"):
            read(path)
    with pytest.raises(ValueError, match=r"one decimal mark throughout.*--kind (lat|b)=categorical"):
        datasets.table(path)


# Numbers with a mark --------------------------------------------------------------------------------------------------

MARKED = ["{}.2%", "€{}.23", "${},234.50", "{}.2 kg", "{}.2kg", "{} kg/m2", "{},709", "{} 709", "{}\u202f709", "{}'227",
          "{}_227", "{}.1D+01", "<{}.5", "EUR {}.10", "{},5", "1.{}2.345,00 €"]  # fmt: skip
CODES = ["00054", "541", "A12", "12 Main Street", "10-20", "12:30", "2020-01-01", "1.2.3", "120/80", "12ab34f", "", "-",
         "192.168.1.1", "(3)", "#5", "3+", "five"]  # fmt: skip


@pytest.mark.parametrize("form", MARKED)
def test_numbers_with_a_mark_are_no_categories(form, written):
    cells = [form.format(i) for i in range(10, 40)]
    path = written("a,b\n" + "\n".join(f'"{cell}",{i}.5' for i, cell in enumerate(cells)))
    with pytest.raises(ValueError, match=r"table.csv': column 'a': expected numbers, got .* in 30 of 30 cells"):
        datasets.table(path)
    for table in (pandas.DataFrame({"a": cells}), {"a": [*cells, None]}):
        with pytest.raises(ValueError, match=r"column 'a': expected numbers, got .*--kind a=categorical"):
            Schema.infer(table)
    assert datasets.table(path, kinds={"a": "categorical"})["a"].tolist() == cells
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Schema.infer({"a": cells}, a="categorical")[0].kind == "categorical"
        doses = Schema.infer({"a": cells[:3] * 5})[0]  # few that come back are levels
    assert doses.categories == tuple(sorted(cells[:3]))


@pytest.mark.parametrize("text", CODES)
def test_codes_and_words_are_no_numbers_with_a_mark(text):
    assert not is_marked(text)


def test_texts_that_differ_in_every_row_and_begin_with_digits_are_told():
    cells = [f"{i} Main Street" for i in range(10, 40)]
    with pytest.warns(DataWarning, match=r"column 'a': 30 of 30 texts are distinct and most begin with a digit"):
        assert Schema.infer({"a": cells})[0].kind == "categorical"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Schema.infer({"a": [cell[::-1] for cell in cells]})
        Schema.infer({"a": cells[:5] * 6})


# Codes, blanks and what no kind takes ---------------------------------------------------------------------------------


def test_whole_numbers_that_begin_with_a_zero_are_codes(written):
    path = written("zip,n\n00054,1\n10115,2\n,3\n00054,4\n")
    with pytest.warns(DataWarning, match=r"column 'zip': whole numbers that begin with a zero, as 00054"):
        frame = datasets.table(path)
    pandas.testing.assert_series_equal(frame["zip"], pandas.read_csv(path, dtype={"zip": str})["zip"])
    assert frame["n"].tolist() == [1, 2, 3, 4]
    schema = Schema.infer(frame)
    assert schema[0].categories == ("00054", "10115")
    later = datasets.table(written("zip,n\n10115,1\n", "later.csv"), kinds={"zip": "categorical"})
    assert schema.encode(later)[0, 0] == 1, "without a zero in the file, its codes read as numbers"
    assert datasets.table(path, kinds={"zip": "count"})["zip"].tolist()[1] == 10115
    decimals = datasets.table(written("a\n00.5\n012\n3.25\n"))
    assert decimals["a"].tolist() == [0.5, 12, 3.25]
    with pytest.warns(DataWarning, match=r"column 'column_1'.*zero, as 01"):
        assert datasets.table(written("01,1.5\n12,2.5\n"))["column_1"].tolist() == ["01", "12"]


def test_texts_of_digits_are_found_again_as_numbers():
    column = Column.of(("grade", "categorical", ("0", "1", "3+")))
    assert column.encode(["1", 1, 0.0, "3+", None])[:4].tolist() == [1, 1, 0, 2]
    with pytest.raises(ValueError, match=r"row 0: 3 is none of its categories"):
        column.encode([3])


def test_blanks_around_a_category_are_no_part_of_it(written):
    path = written('town,n\nrome ,1\n rome,2\n" rome ",3\noslo\t,4\nNA ,5\n')
    frame = datasets.table(path)
    assert frame["town"].tolist()[:4] == ["rome", "rome", "rome", "oslo"]
    assert frame["town"].isna().tolist() == [False] * 4 + [True]
    assert datasets.table(path, text=True)["town"][0] == "rome ", "texts stay as they stand there"
    numbers = datasets.table(written("a,b\n1.5 ,1\nNA ,2\n 2.5,3\n"))["a"]
    np.testing.assert_array_equal(numbers.to_numpy(dtype=float), [1.5, np.nan, 2.5])


@pytest.mark.parametrize(
    ("cells", "what"),
    [
        (pandas.period_range("2020-01", periods=4, freq="M"), "dates or times"),
        ([1 + 2j, 2j, 3, None], "complex numbers"),
        (np.ones(4) * 1j, "complex numbers"),
        ([[1, 2], [3], [], None], "lists"),
        ([(1, 2)] * 4, "lists"),
        ([{"a": 1}] * 4, "lists"),
    ],
)
def test_what_no_kind_takes_is_ignored_aloud(cells, what):
    for table in ({"a": list(cells), "b": [1, 2, 3, 4]}, pandas.DataFrame({"a": pandas.Series(list(cells)), "b": 1.5})):
        with pytest.warns(DataWarning, match=f"column 'a' holds {what}"):
            assert Schema.infer(table)[0].kind == "ignored"
    assert Schema.infer({"a": [Decimal("1.5"), Decimal("2.5")]})[0].kind == "positive"
