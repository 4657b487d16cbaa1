"""What stands above the header of a text table, what cuts its cells, and lines that end with a delimiter."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest

from zoo import datasets
from zoo.notes import DataWarning

pytest.importorskip("pandas")
WANTED = [[0.5, 1.25], [1.5, 2.25], [2.5, 3.25]]


@pytest.fixture(params=[datasets.read, datasets.table], ids=["read", "table"])
def read(request, tmp_path):
    """Columns and numbers of a text, read in either way."""

    def reading(text, **options):
        (tmp_path / "t.csv").write_bytes(text.encode())
        found = request.param(tmp_path / "t.csv", **options)
        numbers = found.batch.x.numpy() if request.param is datasets.read else found.to_numpy(dtype=float)
        return tuple(found.columns), numbers.tolist()

    return reading


def rows(mark=",", decimal=".", end="\n"):
    return end.join(mark.join(f"{cell}".replace(".", decimal) for cell in row) for row in WANTED) + end


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\na;b\n" + rows(";", ","),
        'sep=;\r\na;b\r\n' + rows(";", ".", "\r\n"),
        "\ufeff\"sep=,\"\na,b\n" + rows(),
        "sep=|\na|b\n" + rows("|"),
        "sep=\t\na\tb\n" + rows("\t"),
        "a|b\n" + rows("|", ","),
    ],
)  # fmt: skip
def test_the_mark_that_a_spreadsheet_names_and_bars_cut_cells(text, read):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(text) == (("a", "b"), WANTED)


def test_a_mark_that_is_no_delimiter_is_refused(read):
    with pytest.raises(ValueError, match=r"the first line says that '-' cuts the cells"):
        read("sep=-\na-b\n1-2\n")


@pytest.mark.parametrize("above", ["# made by hand\n", "# made by hand, in May\n", "# one\n# two, three\n"])
def test_comments_above_the_header_are_left_out_aloud(above, read):
    for header, names in (("a,b\n", ("a", "b")), ("", ("column_1", "column_2"))):
        with pytest.warns(DataWarning, match=r"comment above the table were left out, as '# (made|one)"):
            assert read(above + header + rows(), header=bool(header)) == (names, WANTED)
    with pytest.warns(DataWarning, match=r"comment above"):
        assert read(above + "a,b\n" + rows()) == (("a", "b"), WANTED)


def test_a_header_that_numpy_wrote_as_a_comment_is_one(read):
    text = io.StringIO()
    np.savetxt(text, WANTED, delimiter=",", header="a,b", fmt="%.2f")
    assert read(text.getvalue()) == (("# a", "b"), WANTED)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Sales 2020\na,b\n" + rows(), r"row 1: expected 1 cells, got 2; the first line, 'Sales 2020', was taken for"),
        ("Sales 2020\na;b\n" + rows(";"), r"'Sales 2020', was taken for the header of one column, .* cut by ';'"),
        ("a b c\n" + rows(" "), r"'a b c', was taken for the header of one column, .* cut by blanks"),
        ("a,b\n" + rows().replace("\n", ",\n"), r"row 1: .* the row ends with ',', and the header does not"),
    ],
)
def test_titles_and_odd_rows_are_refused_by_what_they_are(text, words, read):
    with pytest.raises(ValueError, match=words):
        read(text)


def test_an_empty_last_column_is_left_out_aloud(read):
    for header, names in (("a,b,\n", ("a", "b")), ("", ("column_1", "column_2"))):
        with pytest.warns(DataWarning, match=r"each line ends with ',': the empty last column was left out"):
            assert read(header + rows().replace("\n", ",\n")) == (names, WANTED)
