"""Files of tables: ARFF and CSV with their categories, holes and damage."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.helpers.tables import mixed
from zoo.datasets.tables import table
from zoo.schema.column import plain
from zoo.schema.schema import Schema

NAN = float("nan")

ARFF = """% a comment
@relation people
@attribute age numeric
@attribute 'home town' {Ulm, 'New York', Bonn}
@attribute smokes {no, yes}
@attribute visits integer

@data
31, Ulm, no, 0
?, 'New York', ?, 3
54.5, ?, yes, 12
"""


def test_an_arff_file_is_read_with_its_categories_in_order(tmp_path):
    path = tmp_path / "people.arff"
    path.write_text(ARFF)
    frame = table(path)
    schema = Schema.infer(frame, visits="count")
    assert schema[1] == ("home town", "categorical", ("Ulm", "New York", "Bonn"))
    assert [column.kind for column in schema] == ["positive", "categorical", "binary", "count"]
    np.testing.assert_array_equal(schema.encode(frame), [[31, 0, 0, 0], [NAN, 1, NAN, 3], [54.5, NAN, 1, 12]])


def test_arff_takes_quotes_escapes_texts_and_any_case(tmp_path):
    path = tmp_path / "odd.arff"
    path.write_text(
        "@RELATION odd\n@ATTRIBUTE 'it\\'s' STRING\n@Attribute when DATE 'yyyy'\n"
        "@attribute kind{\"a,b\",'it\\'s', c} % said so\n@DATA\n'x, y',2020,\"a,b\"\n"
        "\n% more\n?,2021,'it\\'s'\nz , ? ,c\n"
    )
    frame = table(path)
    assert list(frame.columns) == ["it's", "when", "kind"]
    assert frame["kind"].tolist() == ["a,b", "it's", "c"]
    assert [plain(cell) for cell in frame["it's"]] == ["x, y", None, "z"]
    assert [plain(cell) for cell in frame["when"]] == ["2020", "2021", None]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_csv_file_is_read_with_its_holes(tmp_path, mark):
    path = tmp_path / "people.csv"
    lines = ["age,town,visits,member", "31,Ulm,0,True", "?,,3,False", 'NA,"Köln, am Rhein",12,', "54.5,Ulm,1,True"]
    text = "\n".join(lines)
    if mark != ",":
        text = "\n".join(line.replace(", am", " am").replace(",", mark) for line in lines)
    path.write_text("\ufeff" + text, encoding="utf-8")
    frame = table(path)
    schema = Schema.infer(frame)
    assert [column.kind for column in schema] == ["positive", "binary", "count", "binary"]
    wanted = [[31, 1, 0, 1], [NAN, NAN, 3, 0], [NAN, 0, 12, NAN], [54.5, 1, 1, 1]]
    np.testing.assert_array_equal(schema.encode(frame), wanted)


def test_a_csv_file_without_a_header_and_other_formats(tmp_path):
    (tmp_path / "a.csv").write_text("1,2.5\n3,4\n")
    assert list(table(tmp_path / "a.csv").columns) == ["column_1", "column_2"]
    assert table(tmp_path / "a.csv").shape == (2, 2)
    assert table(tmp_path / "a.csv", text=True).iloc[0].tolist() == ["1", "2.5"]
    np.save(tmp_path / "b.npy", np.eye(3))
    assert table(tmp_path / "b.npy").shape == (3, 3)
    frame = pd.DataFrame(mixed())
    frame.to_parquet(tmp_path / "c.parquet")
    schema = Schema.infer(frame)
    np.testing.assert_array_equal(schema.encode(table(tmp_path / "c.parquet")), schema.encode(frame))
    frame.to_csv(tmp_path / "d.csv", index=False)
    assert Schema.infer(table(tmp_path / "d.csv")) == schema
    np.testing.assert_array_equal(schema.encode(table(tmp_path / "d.csv")), schema.encode(frame))


def test_a_single_column_keeps_its_missing_rows(tmp_path):
    frame = pd.DataFrame({"age": [1.5, None, 2.5]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    pd.testing.assert_frame_equal(table(tmp_path / "a.csv"), frame)


DAMAGED = {
    "short.csv": (b"a,b\n1,2\n3\n", "row 2: expected 2 cells, got 1"),
    "empty.csv": (b"", "empty"),
    "header.csv": (b"a,b\n", "no rows"),
    "twice.csv": (b"a,a\n1,2\n", "two columns called 'a'"),
    "binary.csv": (b"\xff\xfe\x00\x01\n", "not a text in UTF-16"),
    "empty.arff": (b"", "no @data"),
    "nothing.arff": (b"@relation r\n@data\n1\n", "row 1: expected 0 cells, got 1"),
    "columns.arff": (b"@relation r\n@data\n", "no @attribute"),
    "csv.arff": (b"a,b\n1,2\n", "a header line is 'a,b'"),
    "kind.arff": (b"@relation r\n@attribute a numbr\n@data\n", "attribute 'a': expected numeric.*got 'numbr'"),
    "name.arff": (b"@relation r\n@attribute a\n@data\n", "attribute line is '@attribute a'"),
    "twice.arff": (b"@attribute a real\n@attribute a real\n@data\n1,2\n", "two columns called 'a'"),
    "quotes.arff": (b"@attribute a {x,'y}\n@data\nx\n", "attribute 'a': quotes that do not end"),
    "beside.arff": (b"@attribute a {x,'y'}\n@data\n'y' x\n", "row 1: quotes that do not end, or text beside"),
    "sparse.arff": (b"@attribute a real\n@data\n{0 1}\n", "row 1: sparse"),
    "header.arff": (b"@relation r\n@attribute a numeric\n@data\n", "no rows"),
    "short.arff": (
        b"@relation r\n@attribute a numeric\n@attribute b numeric\n@data\n1,2\n3\n",
        "row 2: expected 2 cells, got 1",
    ),
    "unknown.arff": (
        b"@relation r\n@attribute a {x,y}\n@data\nz\n",
        "row 1, column 'a': 'z' is none of its categories: x, y",
    ),
    "word.arff": (
        b"@relation r\n@attribute a numeric\n@data\nword\n",
        "row 1, column 'a': expected a number, got 'word'",
    ),
    "noise.arff": (bytes(range(256)), ""),
    "noise.parquet": (b"PAR1 nothing of the kind", "parquet"),
    "noise.npy": (b"\x93NUMPY nothing", ""),
    "file.xls": (b"", r"expected a file ending in \.csv, \.tsv"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused_by_path(tmp_path, name):
    content, words = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"(?s)cannot read '.*{name}'.*{words}"):
        table(tmp_path / name)


def test_absent_files_and_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        table(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="it is not a file"):
        table(tmp_path / "folder.csv")
