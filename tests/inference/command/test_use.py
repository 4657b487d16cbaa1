"""What the `zoo` command does with a fitted model: files in, files out, and one line for whatever goes wrong."""

from __future__ import annotations

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch

import inference
import zoo
from inference.command.about import about_run
from inference.command.main import main
from inference.command.run_folder import table
from inference.posterior.draws import generate
from tests.helpers.command import blank_pictures, fails

ROWS = 80
CITIES = ("São Paulo, SP", 'The "Hague"', "Oslo")


def cells(path):
    """The cells of a .csv as they stand there: the header, and the rows."""
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    return head, rows


def write(path, head, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *rows])


def mixed():
    """A table of every kind of column, its numbers in odd spellings, with holes spelled in several ways."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=ROWS)
    grade = np.clip(np.round(3 + size), 1, 5).astype(int)
    columns = {
        "id": [f"patient {row}" for row in range(ROWS)],
        "city": rng.choice(CITIES, ROWS).tolist(),
        "visits": rng.negative_binomial(1, 1 / (1 + np.exp(1 + size))).tolist(),
        "income": [f"{value:.6e}" for value in np.exp(10 + 0.5 * size)],
        "change": [f"{value:+.2f}" for value in size + 0.3 * rng.normal(size=ROWS)],
        "smokes": np.where(rng.random(ROWS) < 0.5, "yes", "no").tolist(),
        "grade": [f"{value}.0" for value in grade],
    }
    rows = [[str(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
    for row in rows:
        for j in range(1, len(row)):
            if rng.random() < 0.12 and row.count("") + row.count("NA") + row.count("?") < 4:
                row[j] = str(rng.choice(["", "NA", "?"]))
    return list(columns), rows


HOLES = ("", "NA", "?")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a table, a fitted model of it, and some models of digits and flowers that are hardly fitted."""
    folder = tmp_path_factory.mktemp("runs")
    head, rows = mixed()
    write(folder / "table.csv", head, rows)
    few = ["--set", "hidden=8", "--set", "expert=4", "--steps", "30", "--draws", "5"]
    with blank_pictures():
        assert main(["fit", "naive_bayes_vae", "--data", f"{folder}/table.csv", *few, "--out", f"{folder}/table"]) == 0
    digits = zoo.datasets.load("digits").x[:30]
    np.save(folder / "digits.npy", digits.numpy())
    torch.manual_seed(0)
    zoo.create("gaussian_vae", likelihood="binomial", trials=16, hidden=(16,)).save(folder / "vae")
    zoo.create("gmm", features=4, components=3).save(folder / "gmm")
    return folder


@pytest.fixture(autouse=True)
def _here(runs, tmp_path, monkeypatch):
    """Runs and data lie in the current folder; what is written stays with the test."""
    for path in runs.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)


# Imputing ------------------------------------------------------------------------------------------------------------


def test_the_kinds_of_the_columns_are_those_of_the_table(runs):
    kinds = {column.name: column.kind for column in zoo.load(runs / "table").schema}
    assert kinds == {
        "id": "ignored",
        "city": "categorical",
        "visits": "count",
        "income": "positive",
        "change": "real",
        "smokes": "binary",
        "grade": "ordinal",
    }


def test_holes_are_filled_and_nothing_else_is_touched(tmp_path, capsys):
    words = ["--draws", "60", "--picture", "filled.png"]
    assert main(["impute", "table", "table.csv", "--out", "filled.csv", *words]) == 0
    head, rows = mixed()
    again, filled = cells(tmp_path / "filled.csv")
    assert again == head
    assert len(filled) == ROWS
    holes = [(i, j) for i, row in enumerate(rows) for j, cell in enumerate(row) if cell in HOLES]
    assert len(holes) > 30
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            assert (filled[i][j] == cell) == ((i, j) not in holes)
    for i, j in holes:
        known(head[j], filled[i][j])
    assert (tmp_path / "filled.png").stat().st_size > 20_000

    names, told = cells(tmp_path / "filled.uncertainty.csv")
    assert names == ["row", "column", "value", "low", "high", "probability", "ess"]
    assert [(int(line[0]) - 1, head.index(line[1])) for line in told] == holes
    for line, (i, j) in zip(told, holes, strict=True):
        row = dict(zip(names, line, strict=True))
        known(row["column"], row["value"])
        number = row["column"] not in ("city", "smokes")
        if number:
            assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
            assert float(row["value"]) == pytest.approx(float(filled[i][j]))
        else:
            assert row["low"] == row["high"] == ""
            assert row["value"] == filled[i][j]
        assert (row["probability"] != "") == (row["column"] in ("city", "smokes", "grade"))
        assert row["probability"] == "" or 0 < float(row["probability"]) <= 1
        assert 1 <= float(row["ess"]) <= 200

    printed = capsys.readouterr().out
    assert f"{len(holes)} cells filled in filled.csv" in printed
    for j, name in enumerate(head[1:], 1):
        assert f"  {name}: {sum(1 for hole in holes if hole[1] == j)} filled, " in printed


def test_copies_hold_draws_in_their_holes(tmp_path, capsys):
    words = ["--draws", "60", "--copies", "3", "--out", "filled.csv"]
    assert main(["impute", "table", "table.csv", *words]) == 0
    assert "draws in their missing cells: filled.1.csv to filled.3.csv" in capsys.readouterr().out
    head, rows = mixed()
    tables = [cells(tmp_path / f"filled.{k}.csv") for k in (1, 2, 3)]
    for names, copy in tables:
        assert names == head
        for i, row in enumerate(rows):
            for j, cell in enumerate(row):
                if cell in HOLES:
                    known(head[j], copy[i][j])
                else:
                    assert copy[i][j] == cell
    assert tables[0] != tables[1] != tables[2]
    assert "filled.1.csv' is there already" in fails(
        capsys, "impute", "table", "table.csv", *words[:-1], "filled.1.csv"
    )
    assert "--copies: expected at most --draws 60, got 61" in fails(
        capsys, "impute", "table", "table.csv", "--draws", "60", "--copies", "61", "--out", "other.csv"
    )


def known(column, text):
    """A filled cell is one that the column may hold."""
    if column == "city":
        assert text in CITIES
    elif column == "smokes":
        assert text in ("yes", "no")
    elif column == "grade":
        assert float(text) in range(1, 6)
    elif column == "visits":
        assert int(text) >= 0
    else:
        assert np.isfinite(float(text))
        assert float(text) == float(f"{float(text):.7g}")
        assert float(text) > 0 or column == "change"


def test_a_wider_mass_gives_wider_intervals(tmp_path):
    for mass in ("0.5", "0.9"):
        assert main(["impute", "table", "table.csv", "--mass", mass, "--out", f"{mass}.csv"]) == 0
    widths = []
    for mass in ("0.5", "0.9"):
        told = cells(tmp_path / f"{mass}.uncertainty.csv")[1]
        widths.append([float(line[4]) - float(line[3]) for line in told if line[1] in ("change", "income")])
    assert (np.array(widths[0]) < np.array(widths[1])).all()


def test_a_row_without_cells_cannot_be_fitted_but_imputed(tmp_path, capsys):
    head, rows = mixed()
    rows[5] = [rows[5][0], *[""] * (len(head) - 1)]
    write(tmp_path / "empty.csv", head, rows)
    line = fails(capsys, "fit", "naive_bayes_vae", "--data", "empty.csv", "--out", "run")
    assert "row 6: every cell is missing" in line
    assert not (tmp_path / "run").exists()
    assert main(["impute", "table", "empty.csv", "--draws", "20", "--out", "filled.csv"]) == 0
    filled = cells(tmp_path / "filled.csv")[1][5]
    assert filled[0] == rows[5][0]
    for name, cell in zip(head[1:], filled[1:], strict=True):
        known(name, cell)


def test_a_table_without_holes_comes_back_as_it_is(tmp_path, capsys):
    head, rows = mixed()
    full = [row for row in rows if not set(row) & set(HOLES)]
    write(tmp_path / "full.csv", head, full)
    assert main(["impute", "table", "full.csv", "--out", "filled.csv", "--picture", "none.png"]) == 0
    assert cells(tmp_path / "filled.csv") == (head, full)
    assert cells(tmp_path / "filled.uncertainty.csv")[1] == []
    printed = capsys.readouterr().out
    assert "nothing is missing" in printed
    assert not (tmp_path / "none.png").exists()


def test_semicolons_and_a_single_row(tmp_path):
    head, _ = mixed()
    with (tmp_path / "one.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=";").writerows([head, ["someone", "Oslo", "", "2", "", "no", "3"]])
    assert main(["impute", "table", "one.csv", "--draws", "20", "--out", "filled.csv"]) == 0
    (row,) = cells(tmp_path / "filled.csv")[1]
    assert (row[0], row[1], row[3], row[5], row[6]) == ("someone", "Oslo", "2", "no", "3")
    known("visits", row[2])
    known("change", row[4])


# The other commands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["table", "vae", "gmm"])
def test_samples_are_those_of_the_model(run, tmp_path):
    words = ["sample", run, "-n", "12", "--seed", "3", "--out", "new.csv"]
    picture = ["--picture", "new.png"] if run == "vae" else []
    assert main([*words, *picture]) == 0
    pair = zoo.load(run)
    expected = generate(pair, 12, seed=3)["x"].numpy()
    head, rows = cells(tmp_path / "new.csv")
    if pair.schema is None:
        assert head == [f"x_{i + 1}" for i in range(expected.shape[1])]
        np.testing.assert_allclose(np.array(rows, dtype=float), expected)
    else:
        assert tuple(head) == pair.schema.names
        np.testing.assert_allclose(pair.schema.encode(dict(zip(head, zip(*rows, strict=True), strict=True))), expected)
    if run == "vae":
        assert (tmp_path / "new.png").stat().st_size > 2_000
        assert main([*words, "--replace"]) == 0
        assert main([*words[:-1], "new.npy"]) == 0
        np.testing.assert_allclose(np.load("new.npy"), expected)


def test_codes_are_means_and_deviations(tmp_path, capsys):
    from inference.codes import encoding

    assert main(["encode", "vae", "digits.npy", "--out", "codes.csv", "--picture", "codes.png"]) == 0
    head, rows = cells(tmp_path / "codes.csv")
    known = encoding.encode(zoo.load("vae"), np.load("digits.npy"))
    assert head == ["z_0", "z_1", "z_0_sd", "z_1_sd"]
    expected = np.hstack([known.mean["z"].numpy(), known.sd["z"].numpy()])
    np.testing.assert_allclose(np.array(rows, dtype=float), expected, rtol=1e-6)
    assert (tmp_path / "codes.png").stat().st_size > 2_000
    assert "codes of 30 observations in codes.csv" in capsys.readouterr().out


def test_codes_of_a_mixture_are_the_probabilities_of_its_classes(tmp_path):
    assert main(["encode", "gmm", "iris", "--out", "codes.npy"]) == 0
    probabilities = np.load("codes.npy")
    assert probabilities.shape == (150, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


def test_a_collapsed_code_is_remarked_on_once(tmp_path, capsys, recwarn):
    pair = zoo.load("vae")
    with torch.no_grad():
        for parameter in pair.encoder.parameters():
            parameter.zero_()
    pair.save("collapsed")
    assert main(["encode", "collapsed", "digits.npy", "--out", "codes.csv"]) == 0
    printed = capsys.readouterr()
    assert "note: gaussian_vae: the code 'z' has collapsed" in printed.out
    assert printed.err == ""
    assert not [warning for warning in recwarn if "collapsed" in str(warning.message)]


@pytest.mark.parametrize(("run", "data"), [("vae", "digits.npy"), ("table", "table.csv")])
def test_reconstructions_are_written(run, data, tmp_path):
    from inference.codes import encoding

    picture = ["--picture", "again.svg"] if run == "vae" else []
    assert main(["reconstruct", run, data, "--out", "again.csv", *picture]) == 0
    head, rows = cells(tmp_path / "again.csv")
    pair = zoo.load(run)
    if run == "vae":
        expected = encoding.reconstruct(pair, np.load(data)).numpy()
        np.testing.assert_allclose(np.array(rows, dtype=float), expected, rtol=1e-5)
        assert (tmp_path / "again.svg").read_text().startswith("<?xml")
    else:
        assert tuple(head) == pair.schema.names
        assert len(rows) == ROWS


# What goes wrong -----------------------------------------------------------------------------------------------------


def edited(name, change):
    """A copy of the table with one thing changed."""
    head, rows = mixed()
    change(head, rows)
    write(name, head, rows)


def set_cell(row, column, text):
    def change(head, rows):
        rows[row][head.index(column)] = text

    return change


def with_unit(column):
    def change(head, rows):
        head.append(column)
        for i, row in enumerate(rows):
            row.append(f"{40 + i}.5 kg")

    return change


def rename(old, new):
    def change(head, rows):
        head[head.index(old)] = new

    return change


def empty(column):
    def change(head, rows):
        for row in rows:
            row[head.index(column)] = "NA"

    return change


def without(column):
    def change(head, rows):
        j = head.index(column)
        for row in (head, *rows):
            del row[j]

    return change


OUT = ["--out", "out.csv"]
FIT = ["fit", "naive_bayes_vae", "--out", "run", "--data"]
FAULTS = {  # what is changed in the table; arguments; what is said
    "unseen category": (
        set_cell(7, "city", "Osla"),
        ["impute", "table", "bad.csv", *OUT],
        ["column 'city', row 8", "'Osla' is none of its categories, did you mean 'Oslo'?"],
    ),
    "missing column": (
        without("income"),
        ["impute", "table", "bad.csv", *OUT],
        ["schema and table disagree", "the schema has 'income', which the table lacks"],
    ),
    "renamed column": (
        rename("income", "incomes"),
        ["impute", "table", "bad.csv", *OUT],
        ["the schema has 'income', did you mean 'incomes'?", "the table has 'incomes', which the schema lacks"],
    ),
    "text for a number": (
        set_cell(3, "change", "much"),
        ["impute", "table", "bad.csv", *OUT],
        ["row 4, column 'change': expected a number, as in 74 of 75 cells, got 'much'"],
    ),
    "negative count": (
        set_cell(2, "visits", "-1"),
        ["encode", "table", "bad.csv", *OUT],
        ["column 'visits', row 3: expected a whole number of at least 0, got -1"],
    ),
    "zero for a positive": (
        set_cell(2, "income", "0"),
        ["reconstruct", "table", "bad.csv", *OUT],
        ["column 'income', row 3: expected a number above 0, got 0"],
    ),
    "wrong suffix": (None, ["impute", "table", "table.csv", "--out", "out.txt"], [".csv or .npy"]),
    "wrong suffix of a picture": (None, ["sample", "vae", *OUT, "--picture", "out.gif"], ["--picture out.gif", ".png"]),
    "no suffix": (None, ["encode", "vae", "digits.npy", "--out", "out"], [".csv or .npy"]),
    "a file in the way": (None, ["sample", "vae", "--out", "there.csv"], ["'there.csv' is there already", "--replace"]),
    "the other file in the way": (
        None,
        ["impute", "table", "table.csv", "--out", "other.csv"],
        ["'other.uncertainty.csv' is there already"],
    ),
    "a picture in the way": (None, ["sample", "vae", *OUT, "--picture", "there.png"], ["'there.png' is there already"]),
    "no folder to write into": (None, ["sample", "vae", "--out", "deep/out.csv"], ["no folder 'deep'"]),
    "no run": (None, ["impute", "nothing", "table.csv", *OUT], ["nothing"]),
    "a folder that is no run": (None, ["sample", ".", *OUT], ["cannot load '.'"]),
    "no data": (None, ["impute", "table", "no.csv", *OUT], ["cannot read 'no.csv': no such file"]),
    "no table": (None, ["impute", "table", "table", *OUT], ["table"]),
    "table of another width": (None, ["encode", "vae", "iris", *OUT], ["expected shape (N, 64), got (150, 4)"]),
    "nothing to impute": (None, ["impute", "vae", "digits.npy", *OUT], ["no table that may have missing values"]),
    "no codes": (None, ["encode", "line", "faithful", *OUT], ["polynomial_regression"]),
    "words into numbers": (None, ["sample", "table", "--out", "out.npy"], ["category names do not fit into numbers"]),
    "mass of one": (None, ["impute", "table", "table.csv", *OUT, "--mass", "1"], ["--mass: expected a number between"]),
    "no draws": (None, ["impute", "table", "table.csv", *OUT, "--draws", "0"], ["--draws: expected a whole number"]),
    "no samples": (None, ["sample", "vae", *OUT, "-n", "none"], ["expected a whole number of at least 1"]),
    "unknown kind": (
        None,
        [*FIT, "table.csv", "--kind", "grade=ordnal"],
        ["column 'grade': kind 'ordnal' is unknown, did you mean 'ordinal'?"],
    ),
    "kind of an unknown column": (
        None,
        [*FIT, "table.csv", "--kind", "grad=ordinal"],
        ["no column 'grad', did you mean 'grade'?"],
    ),
    "kind without a column": (None, [*FIT, "table.csv", "--kind", "ordinal"], ["--kind ordinal: expected COLUMN=KIND"]),
    "kind that does not suit": (
        None,
        [*FIT, "table.csv", "--kind", "change=positive"],
        ["column 'change', row ", "expected a number above 0"],
    ),
    "kinds of no table": (
        None,
        ["fit", "gmm", "--out", "run", "--data", "iris", "--kind", "a=real"],
        ["--kind: gmm does not model the columns of a mixed table"],
    ),
    "numbers with a unit": (
        with_unit("weight"),
        [*FIT, "bad.csv"],
        [
            "column 'weight': expected numbers, got '40.5 kg' and the like in 80 of 80 cells",
            "--kind weight=categorical",
        ],
    ),
    "a column all missing": (empty("smokes"), [*FIT, "bad.csv"], ["column 'smokes': all 80 cells are missing"]),
    "a target of no use": (None, [*FIT, "table.csv", "--target", "city"], ["--target: naive_bayes_vae has no y"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_one_line(fault, tmp_path, capsys):
    change, arguments, expected = FAULTS[fault]
    if change is not None:
        edited(tmp_path / "bad.csv", change)
    for name in ("there.csv", "there.png", "other.uncertainty.csv"):
        (tmp_path / name).write_text("mine")
    if "line" in arguments:
        zoo.create("polynomial_regression").save(tmp_path / "line")
    before = {path.name for path in tmp_path.iterdir()}
    line = fails(capsys, *arguments)
    for words in expected:
        assert words in line
    assert {path.name for path in tmp_path.iterdir()} == before
    assert (tmp_path / "there.csv").read_text() == (tmp_path / "other.uncertainty.csv").read_text() == "mine"


def test_a_damaged_run_is_refused(tmp_path, capsys):
    shutil.copytree("vae", "broken")
    weights = tmp_path / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert "broken" in fails(capsys, "sample", "broken", *OUT)


def test_info_of_a_run_shows_what_was_taken_from_the_data(tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 2)) * 1e-3 + 5.0
    pair = zoo.create("gmm", scale=1e-4)
    inference.fit(pair, x, steps=1, progress=False, compile="off")
    lines = "\n".join(about_run(pair.save(tmp_path / "run")))
    centre = [float(f"{value:.6g}") for value in np.median(x.astype(np.float32), 0).astype(float)]
    found = json.loads(re.search(r"  loc: (.*)", lines)[1])
    assert found == pytest.approx(centre, rel=1e-5)
    assert "\n  scale: " not in lines, "what was given was not taken"


def test_latents_are_listed_as_the_model_writes_them():
    pair = zoo.create("gmm")
    batch = pair.simulate(30)[0]
    inference.fit(pair, batch, steps=1, progress=False, compile="off")
    posterior = inference.draw(pair, batch, 20)
    exported = inference.to_arviz(pair, posterior, batch)
    names = [name for name in pair.sites(batch) if name in posterior.globals]
    shown = [line.split("[")[0] for line in table(exported, names, 100)[1:]]
    assert list(dict.fromkeys(shown)) == ["weights", "locs", "scales", "correlations"]
