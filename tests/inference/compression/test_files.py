"""Text files come back byte for byte, whatever stands in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import inference
import zoo
from inference.compression.door import compressed
from inference.compression.files import TextTable

PLAIN = zoo.create("gmm", features=2)
CELL = (
    st.text("ab,;\"'\n\r 0é", max_size=5) | st.decimals(-99, 99, places=2).map(str) | st.sampled_from(["", "NA", "1"])
)


def goes_round(path, columns, delimiter=",", headed=True, pair=PLAIN, chunk=4096):
    made = compressed(pair, TextTable(path, columns, delimiter, headed), path.with_suffix(".zoo"), True, chunk)
    return inference.decompress(path.with_suffix(".zoo")) == path.read_bytes(), made


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=12), st.sampled_from([1, 3, 4096]), st.booleans())
def test_any_lines_come_back(tmp_path_factory, rows, chunk, ended):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    lines = ["1,2,3", *(",".join(row) for row in rows)]
    path.write_bytes(("a,b,c\n1,2,3\n" + "\n".join(lines) + "\n" * ended).encode())
    assert goes_round(path, "abc", chunk=chunk)[0]


LINES = {
    "as it should be": b"a,b\n1,x\n2,y\n",
    "no last end": b"a,b\n1,x\n2,y",
    "windows": b"a,b\r\n1,x\r\n2,y\r\n",
    "mixed ends": b"a,b\r\n1,x\r\n2,y\n3,z\r\n",
    "byte order mark": b"\xef\xbb\xbfa,b\n1,x\n",
    "latin": b"a,b\n1,caf\xe9\n2,y\n",
    "quoted all": b'"a","b"\n"1","x"\n"2","y, z"\n"3","q"\n',
    "texts quoted": b'"a","b"\n1,"x"\n2,"y ""z"""\n3,"q"\n',
    "an end of line in a cell": b'a,b\n1,"x\ny"\n2,z\n',
    "short and long rows": b"a,b\n1,x\n2\n3,y,z\n4,w\n",
    "blank lines and comments": b"# one\na,b\n\n1,x\n# two\n2,y\n\n\n",
    "nul": b"a,b\n1,x\0\n2,y\n",
    "decimals of all kinds": b"a,b\n1.50,1\n-0.0,2\n1e3,3\n007,4\n.5,5\n+1,6\n12345678901234567890,7\n 3,8\n-3.25,9\n",
    "missing of all kinds": b"a,b\n,NA\nNA,\n?,nan\n1,2\n,3\n,4\n",
    "one column": b"a\n1\n\n2\n",
}


@pytest.mark.parametrize("name", LINES)
def test_odd_files_come_back(name, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(LINES[name])
    assert goes_round(path, "a" if name == "one column" else "ab")[0]


def test_zeros_at_the_end_are_told_by_the_column(tmp_path):
    """All cells with two decimals, 3.60 and 4.00, cost no more than those that are cut, 3.6 and 4."""
    rng = np.random.default_rng(0)
    sizes = []
    for form in (lambda x: f"{x:.2f}", lambda x: f"{x:.2f}".rstrip("0").rstrip(".")):
        path = tmp_path / "a.csv"
        path.write_text("a\n" + "".join(form(x) + "\n" for x in rng.normal(3, 1, 2000)))
        right, made = goes_round(path, "a")
        assert right
        sizes.append(made.rates.chunks)
    assert sizes[0] <= 1.02 * sizes[1]


def test_one_number_with_more_decimals_does_not_make_the_others_dear(tmp_path):
    rng = np.random.default_rng(0)
    numbers = [f"{x:.1f}" for x in rng.normal(50, 9, 2000)]
    sizes = []
    for cells in (numbers, [*numbers, "3.14159265"]):
        path = tmp_path / "a.csv"
        path.write_text("\n".join(["a", *cells, ""]))
        right, made = goes_round(path, "a")
        assert right
        sizes.append(made.rates.file)
    assert sizes[1] < sizes[0] + 80


def test_a_file_without_rows_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1;2\n")
    with pytest.raises(ValueError, match="none of the first 2 lines is a row of 2 cells"):
        TextTable(path, "ab", ",", True)
