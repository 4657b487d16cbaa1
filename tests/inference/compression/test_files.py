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

NAMES = 400  # bits of the line of names, which is written out
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


def sizes_of(tmp_path, columns):
    """Bytes of chunks of files of one column each, which all come back."""
    found = []
    for cells in columns:
        path = tmp_path / "a.csv"
        path.write_text("\n".join(["a", *cells, ""]))
        right, made = goes_round(path, "a")
        assert right
        found.append(made.rates)
    return found


def test_few_numbers_that_occur_again_are_a_list(tmp_path):
    """Six ages, as a survey has them, take their entropy, whatever lies between them."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, 6, 3000)
    ages = np.array(["17.5", "22", "27", "32", "37", "42"])[places]
    odd = np.array(["0.1111111119389534", "1e-07", "3.23076915740966", "57.599990844726562", "2", "1234567.891"])[
        places
    ]
    for rates in sizes_of(tmp_path, [ages, odd]):
        assert rates.chunks * 8 == pytest.approx(3000 * np.log2(6), rel=0.01, abs=NAMES)


def test_floats_of_many_digits_take_their_bits(tmp_path):
    rng = np.random.default_rng(0)
    cells = [repr(x) for x in rng.normal(size=1000).tolist()]
    (rates,) = sizes_of(tmp_path, [[*cells, "NA", "x", "inf", "1E5", "-0.0", "NA"]])
    # 52 bits of a mantissa, and log2 of the density of its exponent and sign: some 54 in all, of 160 as text.
    assert rates.chunks < 1000 * 58 / 8
    assert rates.raw > 1000 * 18


def test_a_list_of_numbers_is_known_to_the_model(tmp_path):
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, 2000)
    size = np.clip(np.round(rng.normal(20 + 30 * z, 4) / 5) * 5, 5, 70).astype(int)
    (tmp_path / "a.csv").write_text("size,kind\n" + "".join(f"{s},{'ab'[k]}\n" for s, k in zip(size, z, strict=True)))
    columns = [("size", "real"), ("kind", "binary", ("a", "b"))]
    pair = zoo.create("bayesian_network", columns=columns, edges=[("kind", "size")]).double()
    inference.fit(pair, table_of(size, z), steps=5, progress=False, compile="off")
    right, made = goes_round(tmp_path / "a.csv", ["size", "kind"], pair=pair)
    assert right
    assert made.coded == "model"
    apart = 2000 * (1 + np.mean([entropy(size[z == k]) for k in (0, 1)]))
    assert made.rates.chunks * 8 == pytest.approx(apart, rel=0.02, abs=NAMES)


def entropy(values):
    """Bits of each of some values by how often they occur."""
    share = np.unique(values, return_counts=True)[1] / len(values)
    return -(share * np.log2(share)).sum()


def table_of(size, z):
    """The table in memory."""
    return {"size": size.tolist(), "kind": ["ab"[k] for k in z]}
