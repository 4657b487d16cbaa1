"""Text tables as spreadsheets of many lands write them, and files that declare more than they hold."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest

from zoo import datasets, settings
from zoo.datasets import Schema
from zoo.dates.cells import is_date
from zoo.notes import DataWarning

pandas = pytest.importorskip("pandas")


@pytest.fixture
def written(tmp_path):
    def write(text, name="table.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_decimal_commas_are_read_as_pandas_reads_them(written):
    path = written("a;b;c\n1,5;2;-0,25\n1.234,5;3;1e3\n;4;,5\n")
    wanted = pandas.read_csv(path, sep=";", decimal=",", thousands=".")
    np.testing.assert_array_equal(datasets.read(path).batch.x.numpy(), wanted.to_numpy(dtype=float))
    np.testing.assert_array_equal(datasets.table(path).to_numpy(dtype=float), wanted.to_numpy(dtype=float))


def test_a_decimal_point_stays_one_whatever_cuts_the_cells(written):
    path = written("a;b\n1.5;2\n2.25;3\n")
    assert datasets.read(path).batch.x.tolist() == [[1.5, 2.0], [2.25, 3.0]]


def test_texts_stand_beside_decimal_commas(written):
    frame = datasets.table(written("town;rain\nRome;0,5\nOslo;1,5\n"))
    assert frame["town"].tolist() == ["Rome", "Oslo"]
    assert frame["rain"].tolist() == [0.5, 1.5]


def test_a_header_of_years_is_kept_aloud_and_may_be_called_data(written):
    path = written("2019,2020,2021\n1,2,3\n4,5,6\n")
    for read in (datasets.read, datasets.table):
        with pytest.warns(DataWarning, match=r"the first row, 2019, 2020, 2021, was taken for names"):
            assert tuple(read(path).columns) == ("2019", "2020", "2021")
        assert tuple(read(path, header=False).columns) == ("column_1", "column_2", "column_3")
        assert tuple(read(path, header=True).columns) == ("2019", "2020", "2021")
    assert datasets.read(path, header=False).batch.size == 3
    with pytest.warns(DataWarning, match=r"2019, 2020"):
        assert datasets.table(written(",2019,2020\nIT,1,2\n")).iloc[0].tolist() == ["IT", 1, 2]
    for row in ("2019,2020,2022", "1,2,3", "2019.5,2020.5,2021.5"):  # no years in a row
        assert datasets.read(written(f"{row}\n1,2,3\n")).batch.size == 2
    assert datasets.read(written("2019\n2020\n2021\n")).batch.size == 3, "one column of years is data"


def test_header_is_asked_of_csv_only(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"header: a text table alone"):
        datasets.read(tmp_path / "a.npy", header=True)


@pytest.mark.parametrize("mark", ["-", "--", "—", "."])
def test_a_dash_among_numbers_is_missing_aloud(mark, written):
    path = written(f"a,b\n1,2\n{mark},3\n3,4\n5,{mark}\n")
    for read in (datasets.read, datasets.table):
        with pytest.warns(DataWarning, match=f"row 2, column 'a': '{mark}'.*missing, and 1 more such"):
            found = read(path)
    assert found.isna().to_numpy().tolist() == [[False, False], [True, False], [False, False], [False, True]]
    words = datasets.table(written(f"a,b\nyes,2\n{mark},3\nno,4\n"))  # a category, among texts
    assert words["a"].tolist() == ["yes", mark, "no"]


@pytest.mark.parametrize("cell", ["n/a", "NA", "", "null", "None", "#N/A", "?"])
def test_what_is_missing_everywhere_is_missing_here(cell, written):
    path = written(f"a,b\n1,2\n{cell},3\n3,4\n")
    assert np.isnan(datasets.read(path).batch.x[1, 0])
    assert datasets.table(path)["a"].isna().tolist() == [False, True, False]


def test_another_text_among_numbers_is_refused_by_row_and_column(written):
    rows = "\n".join(f"{i},{i}" for i in range(30))
    path = written(f'a,b\n{rows}\n"3,037",3\n')
    for read in (datasets.read, datasets.table):
        with pytest.raises(ValueError, match=r"row 31, column 'a': .*got '3,037': write it without marks of thousands"):
            read(path)
    assert datasets.table(path, kinds={"a": "categorical"})["a"].iloc[-1] == "3,037"
    few = datasets.table(written("a,b\n0,1\n1,1\n3+,1\n3+,1\n0,1\n2,1\n"))  # a category that comes back
    assert Schema.infer(few)[0].categories == ("0", "1", "2", "3+")


def test_columns_of_dates_are_left_out_of_numbers_aloud(written):
    path = written("day,flow,month\n2020-01-31,2,Jan 2020\n2020-02-29,3,Feb 2020\n")
    with pytest.warns(DataWarning, match=r"dates are no numbers: column 'day', 'month'"):
        table = datasets.read(path)
    assert table.columns == table.batch.columns == ("flow",)
    assert table.batch.x.tolist() == [[2.0], [3.0]]
    with pytest.raises(ValueError, match=r"row 2, column 'day': expected a date"):
        datasets.read(written("day,flow\n2020-01-31,2\nsoon,3\n"))
    with pytest.raises(ValueError, match=r"column 'day': expected numbers, got dates"):
        datasets.read(written("day\n2020-01-31\n"))


def test_a_schema_ignores_dates_aloud(written):
    days = pandas.date_range("2020-01-01", periods=5)
    path = written("when,v\n" + "\n".join(f"{day:%d.%m.%Y},{i}" for i, day in enumerate(days)))
    forms = [
        {"when": list(days), "v": [1.5] * 5},
        {"when": [*days[:4], None], "v": [1.5] * 5},
        {"when": [day.date() for day in days], "v": [1.5] * 5},
        pandas.DataFrame({"when": days, "v": 1.5}),
        datasets.table(path),
    ]
    for table in forms:
        with pytest.warns(DataWarning, match=r"column 'when' holds dates or times"):
            assert Schema.infer(table)[0].kind == "ignored"
        assert Schema.infer(table, when="categorical")[0].kind == "categorical", "if that is what is wanted"


@pytest.mark.parametrize("text", ["2020-01-31", "2020-01-31 12:30", "2020-01-31T12:30:00Z", "31/01/2020", "31.1.20",
                                  "2020-01", "Jan 2020", "1 March 2020", "12:30", "12:30:59.5"])  # fmt: skip
def test_dates(text):
    assert is_date(text)


@pytest.mark.parametrize("text", ["2020", "1.5", "1,234", "1000-25", "a-b", "Oslo", "", "5-1", "3:2:1:0", "May"])
def test_no_dates(text):
    assert not is_date(text)


# What is declared ----------------------------------------------------------------------------------------------------


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x=np.zeros((4000, 500)))
    assert path.stat().st_size < 20_000
    with (
        settings.using(file_bytes=1 << 20),
        pytest.raises(ValueError, match=r"declares contents of 16,000,\d\d\d bytes"),
    ):
        datasets.read(path)
    assert datasets.read(path).batch.size == 4000


def test_a_member_that_declares_more_than_it_holds_is_refused(tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 1000)})
    with zipfile.ZipFile(tmp_path / "lie.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", head.getvalue() + bytes(80))
    with pytest.raises(ValueError, match=r"'x.npy' declares an array of 8,000,000,000,000 bytes"):
        datasets.read(tmp_path / "lie.npz")


def test_a_gzipped_idx_file_that_unpacks_to_too_much_is_refused(tmp_path):
    with gzip.open(tmp_path / "images.gz", "wb") as file:
        file.write(struct.pack(">BBBBII", 0, 0, 8, 2, 4000, 4000) + bytes(4000 * 4000))
    with settings.using(file_bytes=1 << 20), pytest.raises(ValueError, match=r"declares contents of 16,000,000 bytes"):
        datasets.read_idx(tmp_path / "images.gz")


def test_a_parquet_file_of_too_many_rows_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    pandas.DataFrame({"a": np.zeros(300_000)}).to_parquet(tmp_path / "a.parquet")
    with settings.using(file_bytes=1 << 10):
        for read in (datasets.read, datasets.table):
            with pytest.raises(ValueError, match=r"declares contents of 2,400,000 bytes"):
                read(tmp_path / "a.parquet")


def test_dates_of_typed_files_are_left_out_aloud_too(written, tmp_path):
    pytest.importorskip("pyarrow")
    pandas.DataFrame({"day": pandas.date_range("2020-01-01", periods=3), "v": [1.0, 2.0, 3.0]}).to_parquet(
        tmp_path / "d.parquet"
    )
    path = written(
        "@relation r\n@attribute day date\n@attribute v numeric\n@data\n2020-01-01,1\n?,2\n2020-01-03,3\n", "d.arff"
    )
    for file in (tmp_path / "d.parquet", path):
        with pytest.warns(DataWarning, match=r"dates are no numbers: column 'day'"):
            assert datasets.read(file).batch.x.tolist() == [[1.0], [2.0], [3.0]]


def test_columns_that_say_what_they_hold_are_left_as_they_are(written):
    body = "1\n2\n2\n1\n-\nx"
    path = written(f"@relation r\n@attribute k {{1,2,-,x}}\n@data\n{body}\n", "k.arff")
    assert Schema.infer(datasets.table(path))[0].categories == ("1", "2", "-", "x")


@pytest.mark.parametrize("line", ["'age numeric", '"age numeric', "a'ge numeric", 'age" numeric', "'a' b numeric",
                                  "b {x,'y}", "b {x,y"])  # fmt: skip
def test_broken_quotes_of_an_arff_header_are_refused(line, written):
    path = written(f"@relation r\n@attribute {line}\n@data\n1\n", "a.arff")
    for read in (datasets.read, datasets.table):
        with pytest.raises(ValueError, match=r"attribute"):
            read(path)
