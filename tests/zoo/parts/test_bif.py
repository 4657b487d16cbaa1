"""Networks as text: what is read, what is written back to the last digit, and what is refused by line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo.parts.networks.bif import file
from zoo.parts.networks.graph import Edge, Edges, Graph

TWO = """
network "two nodes" { property version 1 ; }
variable rain { type discrete [2] { no, yes }; property position = (10, 20) ; }   // a comment
variable "wet grass" { type discrete[3] {dry "quite damp" wet}; }
/* probability ( rain ) { table 1, 0; } */
probability(rain) { table 0.8 0.2; }
probability ( "wet grass" | rain ) { property x ; default 0.5, 0.25, 0.25; (yes) 1e-1, 0.2, .7; }
"""


def test_what_is_read():
    found = file.parse(TWO)
    assert found.name == "two nodes"
    assert [tuple(column) for column in found.columns] == [
        ("rain", "binary", ("no", "yes")),
        ("wet grass", "categorical", ("dry", "quite damp", "wet")),
    ]
    assert found.edges == (Edge("rain", "wet grass"),)
    assert found.tables == {"rain": [0.8, 0.2], "wet grass": [[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]}


def test_a_flat_table_has_the_child_first_and_the_last_parent_fastest():
    """The dog problem of the format's own specification (Cozman 1998)."""
    names = {"out": ("true", "false"), "bowel": ("true", "false"), "family": ("true", "false")}
    text = "".join(f"variable {n} {{ type discrete [2] {{ {', '.join(s)} }}; }}\n" for n, s in names.items())
    text += "probability (bowel) { table 0.01 0.99; } probability (family) { table 0.15 0.85; }"
    text += "probability (out | bowel family) { table 0.99 0.97 0.9 0.3 0.01 0.03 0.1 0.7; }"
    table = np.array(file.parse(text).tables["out"])
    assert table[0, 1].tolist() == [0.97, 0.03]
    assert table[1, 0].tolist() == [0.9, 0.1]


def same(one, other):
    return (one.name, one.columns, one.edges, one.tables) == (other.name, other.columns, other.edges, other.tables)


@pytest.mark.parametrize("text", [TWO, (file.EMBEDDED / "asia.bif").read_text()], ids=["two", "asia"])
def test_written_and_read_again(text):
    found = file.parse(text)
    assert same(file.parse(file.write(found)), found)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=12, max_size=12), st.text("ab_ {}|,;()/", min_size=1, max_size=6))
def test_any_number_survives_to_the_last_digit_and_any_name(numbers, name):
    columns = [(name, "binary", ("no", "yes")), ("child", "categorical", ("x", "y y", "{z}"))]
    tables = {name: numbers[:2], "child": [numbers[2:5], numbers[5:8]]}
    network = file.BIF("n", file.Schema.of(columns), Edges.of([(name, "child")]), tables)
    assert same(file.parse(file.write(network)), network)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("table 0.8 0.2", "table 0.8", "line 6: probability of 'rain': expected 2 numbers, got 1"),
        ("table 0.8 0.2", "table 0.8 0,1 0.1", "line 6: probability of 'rain': expected 2 numbers, got 4"),
        ("table 0.8 0.2", "table 0.8 some", "line 6: .* expected a number, got 'some'"),
        ("table 0.8 0.2", "table 1.8 0.2", "line 6: .* from 0 to 1, got 1.8"),
        ("table 0.8 0.2", "table nan 0.2", "line 6: .* from 0 to 1, got nan"),
        ("(yes)", "(yess)", "line 7: .*'rain' has no state 'yess', did you mean 'yes'"),
        ("(yes)", "(yes, no)", r"line 7: .*1 parents, but \(yes, no\)"),
        ("default 0.5, 0.25, 0.25;", "", "line 7: .*no entry for rain=no"),
        ("| rain", "| rein", "line 7: no variable 'rein', did you mean 'rain'"),
        ("| rain", "| rain, rain", "line 7: .*'rain' is there twice"),
        ("| rain", "rain", r"line 7: .*expected '\|' or '\)', got 'rain'"),
        ("[2]", "[3]", "line 3: variable 'rain': 3 states announced, 2 found"),
        ("{ no, yes }", "{ no, no }", "line 3: .*state 'no' is there twice"),
        ("type discrete [2]", "type real [2]", "line 3: .*expected type discrete, got 'real'"),
        ("variable rain", "variable rain rain", "line 3: expected '{', got 'rain'"),
        ("probability(rain) { table 0.8 0.2; }", "", "variable 'rain' has no probability block"),
        ("probability(rain) { table 0.8 0.2; }", "node rain", "line 6: expected 'network', 'variable' or"),
        ('"wet grass" |', '"wet grass |', "line 7: cannot read"),
        (".7; }", ".7; ", "line 7: expected .*, but the text ends"),
    ],
)
def test_what_is_refused_by_line(old, new, words):
    assert old in TWO
    with pytest.raises(ValueError, match=words):
        file.parse(TWO.replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "network x { }", "{", '"', "variable"])
def test_texts_that_are_no_network(text):
    with pytest.raises(ValueError, match=r"line 1|no variable"):
        file.parse(text)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(TWO) - 1), st.text("{}()[]|,;\"' x1/*\n", max_size=3), st.integers(0, 9))
def test_a_damaged_text_gives_a_network_or_a_value_error(at, put, cut):
    try:
        found = file.parse(TWO[:at] + put + TWO[at + cut :])
    except ValueError:
        return
    assert found.tables.keys() == {column.name for column in found.columns}


def test_huge_tables_are_refused_before_they_are_made(tmp_path):
    names = [f"n{i}" for i in range(40)]
    text = "".join(f"variable {name} {{ type discrete [2] {{ a, b }}; }}\n" for name in names)
    with pytest.raises(ValueError, match=r"line 41: probability of 'n0': tables of 1,099,511,627,776 cells"):
        file.parse(text + f"probability ( n0 | {', '.join(names[1:])} ) {{ }}")
    path = tmp_path / "big.bif"
    path.write_text(TWO)
    with zoo.settings.using(bif_bytes=10), pytest.raises(ValueError, match=r"big.bif': holds more than 10 bytes"):
        file.read(path)


def test_files_that_are_not_there_or_no_text(tmp_path):
    with pytest.raises(ValueError, match=r"no file '.*none.bif'; embedded networks: asia"):
        file.read(tmp_path / "none.bif")
    (tmp_path / "bytes.bif").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="no text in UTF-8"):
        file.read(tmp_path / "bytes.bif")


# --- the graph ------------------------------------------------------------------------------------------------------


def test_parents_come_first_and_in_the_order_of_their_arrows():
    graph = Graph("abcd", Edges.of([("c", "a"), ("d", "a"), ("b", "d")]))
    assert graph.parents[0] == (2, 3)
    assert [graph.names[node] for node in graph.order] == ["b", "c", "d", "a"]
    assert graph.ancestors([3]) == {1, 3}
    assert graph.ancestors([0], cut=[3]) == {0, 2, 3}
    assert graph.components([0, 1, 2]) == [[1], [2, 0]]


def test_arrows_come_as_pairs_or_as_a_mapping():
    wanted = (Edge("a", "c"), Edge("b", "c"))
    assert Edges.of([("a", "c"), ["b", "c"]]) == wanted
    assert Edges.of({"c": ["a", "b"]}) == wanted


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ([("a", "b"), ("b", "c"), ("c", "a")], "cycle: a -> b -> c -> a"),
        ([("d", "a"), ("b", "c"), ("c", "b")], "cycle: b -> c -> b"),
        ([("a", "bb")], r"arrow a -> bb: no node 'bb', did you mean 'b'\?; nodes: a, b, c, d"),
        ([("a", "a")], "'a' cannot be its own parent"),
        ([("a", "b"), ("a", "b")], "the arrow a -> b is there twice"),
        (["ab"], r"expected a \(parent, child\) pair"),
        ("ab", r"expected \(parent, child\) pairs"),
        ({"b": "a"}, "list of the parents of 'b'"),
    ],
)
def test_graphs_that_are_none(edges, words):
    with pytest.raises(ValueError, match=words):
        Graph("abcd", Edges.of(edges))
