"""Rows in messages: from 0 in Python, where they index; from 1 in a command's, as in the files that it writes."""

from __future__ import annotations

import threading

import pytest

import inference
from inference.command.main import main
from zoo.datasets.tables import table
from zoo.rows import counted_from, nth

HOMES = {
    "a category": ("town,wage\nUlm,1\nUlm,2\nBonn,3\nBonn,4\nUlm,5\n", "row {}: missing"),
    "a formula": ("age,wage\n1,1\n2,2\n3,3\n4,4\n5,5\n", "row {}: missing"),
}


def test_only_the_block_counts_from_1_and_only_its_thread():
    seen = []
    with counted_from(1):
        worker = threading.Thread(target=lambda: seen.append(nth(4)))
        worker.start()
        worker.join()
        seen.append(nth(4))
    assert [*seen, nth(4)] == [4, 5, 4]


@pytest.mark.parametrize("kind", HOMES)
def test_the_row_of_a_file_is_counted_from_1_and_that_of_a_frame_indexes_it(kind, tmp_path, capsys):
    text, words = HOMES[kind]
    lines = text.splitlines()
    name = lines[0].split(",")[0]
    lines[3] = "," + lines[3].split(",")[1]  # the third row below the header
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=f"column '{name}', {words.format(2)}") as error:
        inference.pair_for("polynomial_regression", table(tmp_path / "t.csv"), formula=f"wage ~ {name}")
    assert "row 2" in str(error.value)
    fit = ["fit", "polynomial_regression", "--data", str(tmp_path / "t.csv"), "--formula", f"wage ~ {name}"]
    assert main([*fit, "--out", str(tmp_path / "run")]) == 2
    assert f"column '{name}', {words.format(3)}" in capsys.readouterr().err


def test_lines_of_explanations_are_counted_from_1(tmp_path, capsys):
    (tmp_path / "cases.csv").write_text("smoke,dysp\nyes,no\nno,yes\n")
    assert main(["explain", "asia.bif", "--given", str(tmp_path / "cases.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["1", "2"]
