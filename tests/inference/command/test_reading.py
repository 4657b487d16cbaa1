"""How the command reads series and tables out of files, and what it says of it; the numbers against least squares."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import inference
import zoo
from inference.command.main import main
from tests.helpers.command import FEW, fails

pytestmark = pytest.mark.usefixtures("blank")


def walk(steps=120, seed=3):
    rng = np.random.default_rng(seed)
    z = np.zeros(steps)
    for t in range(1, steps):
        z[t] = 0.8 * z[t - 1] + rng.normal()
    return z


def slope(z):
    """The coefficient of AR(1) with intercept by ordinary least squares, and its standard error."""
    X = np.c_[np.ones(len(z) - 1), z[:-1]]
    beta, rest = np.linalg.lstsq(X, z[1:], rcond=None)[:2]
    return beta[1], float(np.sqrt(rest[0] / (len(z) - 3) * np.linalg.inv(X.T @ X)[1, 1]))


FORMS = {
    "a target": ("t,value", lambda t, v: f"{t},{v:.9g}", ["--target", "value"]),
    "one column": ("value", lambda t, v: f"{v:.9g}", []),
    "dates": ("day,value", lambda t, v: f"{np.datetime64('2020-01-01') + t},{v:.9g}", []),
    "decimal commas": ("value;t", lambda t, v: f"{v:.9g};{t}".replace(".", ","), ["--target", "value"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_series_is_modelled_and_not_its_time(form, tmp_path, capsys):
    """A4: the posterior is that of the values, whose coefficient least squares tells; the forecast is of one series."""
    head, line, words = FORMS[form]
    z = walk()
    (tmp_path / "s.csv").write_text("\n".join([head, *(line(t, v) for t, v in enumerate(z))]) + "\n")
    options = ["--set", "order=1", "--double", "--steps", "1", "--draws", "20", "--out", "run"]
    assert main(["fit", "autoregressive", "--data", "s.csv", *words, *options]) == 0
    said = capsys.readouterr().out
    assert "1 series of 120 steps" in said
    if words:
        assert "models value alone, and leaves out t; --set inputs=1" in said
    if form == "dates":
        assert "1 series of 120 steps, daily, 2020-01-01 to 2020-04-29" in said
    pair = zoo.load("run")
    drawn = inference.draw(pair, z, draws=4000, seed=1)["coefficients"].flatten()
    wanted, error = slope(z)
    # The prior of the coefficient, sd 5 in units of the noise, moves the mean by less than a fiftieth of its error.
    assert float(drawn.mean()) == pytest.approx(wanted, abs=error / 50 + 4 * error / 4000**0.5)
    assert float(drawn.std()) == pytest.approx(error, rel=0.1)
    assert main(["forecast", "run", "s.csv", "--horizon", "3", "--out", "next.csv"]) == 0
    with (tmp_path / "next.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert len({row["series"] for row in rows}) == 1
    assert [row.get("date") for row in rows] == (
        ["2020-04-30", "2020-05-01", "2020-05-02"] if form == "dates" else [None] * 3
    )


def test_columns_are_series_on_the_command_line_as_in_python(tmp_path, capsys):
    frame = np.stack([walk(40, seed) for seed in range(3)], 1)
    np.savetxt(tmp_path / "w.csv", frame, delimiter=",", header="a,b,c", comments="")
    assert main(["fit", "autoregressive", "--data", "w.csv", *FEW, "--out", "run"]) == 0
    assert "3 series of 40 steps;" in capsys.readouterr().out
    assert zoo.load("run").card["data"]["x"] == [3, 40]
    assert main(["fit", "hmm", "--data", "w.csv", *FEW, "--out", "states"]) == 0
    assert "1 series of 40 steps of 3 features" in capsys.readouterr().out


def test_a_target_that_no_site_reads_is_refused(tmp_path, capsys):
    np.savetxt(tmp_path / "w.csv", np.eye(9)[:, :3] + 0.5, delimiter=",", header="a,b,c", comments="")
    assert "--target: gmm has no y" in fails(capsys, "fit", "gmm", "--data", "w.csv", "--target", "a", "--out", "run")


def test_names_of_columns_are_checked_when_a_run_is_used(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 2))
    for name, head in (("a", "height,weight"), ("swapped", "weight,height"), ("other", "height,age")):
        np.savetxt(tmp_path / f"{name}.csv", rows, delimiter=",", header=head, comments="")
    words = ["--set", "latent=1", "--set", "hidden=4"]
    assert (
        main(["fit", "gaussian_vae", "--data", "a.csv", "--set", "likelihood=gaussian", *words, *FEW, "--out", "r"])
        == 0
    )
    assert main(["encode", "r", "a.csv", "--out", "codes.csv"]) == 0
    assert "in another order" in fails(capsys, "encode", "r", "swapped.csv", "--out", "2.csv")
    assert "missing: weight; not among them: age" in fails(capsys, "encode", "r", "other.csv", "--out", "2.csv")


def test_a_category_that_was_not_seen_may_be_missing(tmp_path, capsys):
    lines = [f"{'Rome' if i % 2 else 'Oslo'},{i % 7}.5" for i in range(30)]
    (tmp_path / "t.csv").write_text("\n".join(["town,rain", *lines]))
    (tmp_path / "new.csv").write_text("town,rain\nBern,2.5\nRome,")
    assert main(["fit", "naive_bayes_vae", "--data", "t.csv", "--set", "latent=1", *FEW, "--out", "run"]) == 0
    line = fails(capsys, "impute", "run", "new.csv", "--out", "f.csv")
    assert "'Bern' is none of its categories" in line
    assert main(["impute", "run", "new.csv", "--unknown", "missing", "--out", "f.csv"]) == 0
    with (tmp_path / "f.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["town"] in ("Rome", "Oslo")
    assert rows[0]["rain"] == "2.5"
    assert float(rows[1]["rain"]) > 0


def test_a_header_may_be_said_to_be_one(tmp_path, capsys):
    (tmp_path / "y.csv").write_text("2019,2020\n" + "\n".join(f"{i}.5,{i % 3}" for i in range(12)))
    for header, rows in ((["--header", "no"], 13), ([], 12)):
        assert main(["fit", "gmm", "--data", "y.csv", *header, *FEW, "--out", f"run{rows}"]) == 0
        said = capsys.readouterr().out
        assert f"{rows} observations" in said
        assert ("note: 'y.csv': the first row, 2019, 2020" in said) == (not header)
    assert "--header: expected yes or no" in fails(
        capsys, "fit", "gmm", "--data", "y.csv", "--header", "x", "--out", "r"
    )


def test_a_txt_is_a_text_or_a_table_whichever_it_holds(tmp_path, capsys):
    """One that models texts takes lines of numbers for a table, and says so; one that does not reads tables alone."""
    np.savetxt(tmp_path / "walk.txt", np.arange(40) % 8, fmt="%d", header="value", comments="")
    (tmp_path / "story.txt").write_bytes("Über 7 Brücken\nmußt du gehn\n".encode("cp1252"))
    fit = ["--steps", "1", "--no-score", "--set", "hidden=4", "--out"]
    assert main(["fit", "recurrent", "--data", "walk.txt", *fit, "table"]) == 0
    assert "'walk.txt' holds lines of numbers: it was read as a table" in capsys.readouterr().out
    assert zoo.load("table").alphabet is None
    assert zoo.load("table").card["data"]["x"] == [1, 40]
    assert main(["fit", "recurrent", "--data", "story.txt", *fit, "story"]) == 0
    assert "read as Windows-1252, where it is 'Ü'" in capsys.readouterr().out
    assert set("Übrückenmußt7") <= set(zoo.load("story").alphabet)
    assert "gmm does not model text" in fails(capsys, "fit", "gmm", "--data", "story.txt", "--out", "run")
