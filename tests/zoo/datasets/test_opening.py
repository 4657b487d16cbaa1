"""Files as people have them are read as what they hold: gzipped, in old encodings, cut by blanks, or of images."""

from __future__ import annotations

import gzip
import io
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers.files import idx
from zoo import datasets
from zoo.datasets import opening
from zoo.datasets.opening import whole_text
from zoo.notes import DataWarning
from zoo.settings import settings

TABLE = "größe,ort\n1.5,Köln\n2.5,Ulm\n3.5,Köln\n"
MATRIX = np.random.default_rng(0).normal(size=(30, 3)).round(4)


def saved(path: Path, **options) -> Path:
    """NumPy's own text file of the matrix."""
    np.savetxt(path, MATRIX, fmt="%.4f", **options)
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_text_is_read_in_its_encoding(code: str, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / f"t.csv{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(TABLE.encode(code)) if packed else TABLE.encode(code))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        frame = datasets.table(path)
    pd.testing.assert_frame_equal(frame, pd.read_csv(io.StringIO(TABLE)))
    assert len(told) == (code == "cp1252")
    if told:
        assert "byte 3 is no UTF-8, so the file was read as Windows-1252, where it is 'ö'" in str(told[0].message)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n1,\x81\n", "not a text in UTF-8: byte 7 is 0x81"),  # Windows-1252 has no such letter
        (b"a,b\n\xce,\x07\n", "not a text in UTF-8: byte 5 is 0xce"),
        ("a,b\n1,2\n".encode("utf-16")[:-1], "not a text in UTF-16: byte 17 is 0x0a"),
        (gzip.compress(b"a,b\n" * 99)[:-9], "a damaged gzip file"),
        (gzip.compress(gzip.compress(b"a,b\n1,2\n")), "not a text in UTF-8: byte 2 is 0x8b"),
    ],
    ids=["letter", "control", "half a letter", "cut gzip", "gzip twice"],  # packed bytes hold the time
)
def test_what_is_no_text_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    for reader in (datasets.read, datasets.table):
        with pytest.raises(ValueError, match=f"cannot read '.*t.csv': {words}"):
            reader(tmp_path / "t.csv")


def test_where_a_letter_is_cut_between_two_pieces_does_not_matter(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(opening, "_PIECE", 3)
    text = "ab€\u00e9\U0001f9aa" * 9
    (tmp_path / "t.txt").write_text(text, "utf-8")
    assert whole_text(tmp_path / "t.txt") == text
    (tmp_path / "u.txt").write_bytes(text.encode() + b"\x81")
    with pytest.raises(ValueError, match=f"byte {len(text.encode()) + 1} is 0x81"):
        whole_text(tmp_path / "u.txt")


@pytest.mark.parametrize("name", ["t.csv.gz", "t.npy.gz", "t.arff.gz", "t.txt.gz"])
def test_a_small_file_that_unpacks_to_too_much_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"1,2\n" * 3_000_000))  # 12 kB
    with settings.using(file_bytes=1 << 20), pytest.raises(ValueError, match=r"unpacks to more than 2,097,152 bytes"):
        datasets.read(tmp_path / name)


@pytest.mark.parametrize("name", ["t.dat", "t.txt", "t.csv", "t.data.gz"])
@pytest.mark.parametrize("header", ["", "depth mass age"])
@pytest.mark.parametrize("gap", [" ", "   "])
def test_a_table_cut_by_blanks(name: str, header: str, gap: str, tmp_path: Path) -> None:
    path = saved(tmp_path / name, delimiter=gap, header=header)
    read = datasets.read(path)
    np.testing.assert_array_equal(read.batch.x, np.loadtxt(path))
    assert read.columns == (tuple(header.split()) or ("column_1", "column_2", "column_3"))
    np.testing.assert_array_equal(datasets.table(path), MATRIX)


def test_a_file_of_fixed_width_begins_its_lines_with_blanks(tmp_path: Path) -> None:
    frame = pd.DataFrame(MATRIX, columns=["a", "b", "c"])
    (tmp_path / "t.dat").write_text(frame.to_string(index=False))
    pd.testing.assert_frame_equal(datasets.table(tmp_path / "t.dat"), frame)
    (tmp_path / "r.dat").write_text(frame.to_string())  # and with names of rows, as R writes tables
    with pytest.warns(DataWarning, match="a cell less than the rows"):
        pd.testing.assert_frame_equal(datasets.table(tmp_path / "r.dat"), frame)
    with pytest.warns(DataWarning, match="a cell less than the rows"):
        np.testing.assert_array_equal(datasets.read(tmp_path / "r.dat").batch.x, MATRIX)


def test_quotes_keep_their_blanks(tmp_path: Path) -> None:
    cars = '18.0   8   307.0\t"chevrolet malibu"\n15.0   8   350.0\t"buick skylark 320"\n'  # as the UCI has it
    (tmp_path / "t.data").write_text(cars)
    wanted = [[18.0, 8, 307.0, "chevrolet malibu"], [15.0, 8, 350.0, "buick skylark 320"]]
    assert datasets.table(tmp_path / "t.data", header=False).to_numpy().tolist() == wanted
    (tmp_path / "t.txt").write_text("town people\n'Ulm' 3\n\"New York\" 8\n")
    assert datasets.table(tmp_path / "t.txt")["town"].tolist() == ["'Ulm'", "New York"]


NOT_BLANKS = {
    "city.csv": ("city\nNew York\nLos Angeles\nSan Francisco\n", ["city"]),
    "tab.tsv": ("city\tn\nNew York\t3\nLos Angeles\t4\n", ["city", "n"]),
    "time.csv": ("time,n\n2020-01-01 12:00,3\n2020-01-01 13:00,4\n", ["time", "n"]),
    "phone.csv": ("phone,n\n030 1234,3\n030 1235,4\n", ["phone", "n"]),
    "comma.txt": ("1,5 2,5\n2,5 3,0\n", ["column_1", "column_2"]),  # this one is: its commas are decimal
}


@pytest.mark.parametrize("name", NOT_BLANKS)
def test_blanks_cut_cells_only_where_nothing_else_can(name: str, tmp_path: Path) -> None:
    content, columns = NOT_BLANKS[name]
    (tmp_path / name).write_text(content)
    assert list(datasets.table(tmp_path / name)) == columns


def test_a_title_above_numbers_cut_by_blanks_is_asked_to_go(tmp_path: Path) -> None:
    (tmp_path / "t.dat").write_text("Measured in my own cellar\n1 2 3\n4 5 6\n")
    with pytest.raises(ValueError, match="seem cut by blanks: leave out titles and notes"):
        datasets.read(tmp_path / "t.dat")


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte.gz", "train-images.idx3-ubyte", "new.idx"])
def test_idx_files_are_read_by_their_names(name: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4)).astype("u1")
    (tmp_path / name).write_bytes(gzip.compress(idx(images)) if name.endswith("gz") else idx(images))
    np.testing.assert_array_equal(datasets.load(tmp_path / name).x, images)


ARCHIVES = [
    (("images",), {"x": "images"}),
    (("data", "labels"), {"x": "data", "y": "labels"}),
    (("X", "target"), {"x": "X", "y": "target"}),
    (("x", "labels"), {"x": "x", "y": "labels"}),
    (("labels",), {"x": "labels"}),
    (("pixels", "y"), {"x": "pixels", "y": "y"}),
]


@pytest.mark.parametrize(("names", "fields"), ARCHIVES)
def test_an_archive_of_one_array_or_of_one_with_labels(names: tuple[str], fields: dict, tmp_path: Path) -> None:
    values = {name: np.arange(12 * (i + 1)).reshape(4, -1, 3)[:, 0, : 3 - 2 * i] for i, name in enumerate(names)}
    np.savez(tmp_path / "t.npz", **values)
    found = datasets.load(tmp_path / "t.npz").fields()
    assert set(found) == set(fields)
    for field, name in fields.items():
        np.testing.assert_array_equal(found[field], values[name])


@pytest.mark.parametrize("names", [("x", "lenghts"), ("images", "labels", "y"), ("a", "b", "c")])
def test_an_archive_whose_arrays_may_be_anything_is_refused_with_their_names(names: tuple, tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **{name: np.eye(3) for name in names})
    with pytest.raises(ValueError, match=f"no batch field '.*this one holds {', '.join(names)}"):
        datasets.load(tmp_path / "t.npz")


def test_a_packed_array_and_what_is_packed_already(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", MATRIX)
    (tmp_path / "u.npy.gz").write_bytes(gzip.compress((tmp_path / "t.npy").read_bytes()))
    np.testing.assert_array_equal(datasets.load(tmp_path / "u.npy.gz").x, MATRIX)
    np.savez(tmp_path / "t.npz", x=MATRIX)
    (tmp_path / "t.npz.gz").write_bytes(gzip.compress((tmp_path / "t.npz").read_bytes()))
    with pytest.raises(ValueError, match="packed already; gunzip it"):
        datasets.load(tmp_path / "t.npz.gz")
