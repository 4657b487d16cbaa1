"""Networks as files, and rows of evidence, as a user types them."""

from __future__ import annotations

import gzip

import pandas as pd
import pytest

import inference
from inference.command.main import main
from tests.helpers.command import blank_pictures
from zoo.graphs.bayesian_network import BayesianNetwork
from zoo.parts.networks.bif import file


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """The chest clinic as a file, packed and not, and 200 patients of it, of whom a tenth had no X-ray."""
    folder = tmp_path_factory.mktemp("clinic")
    text = (file.EMBEDDED / "asia.bif").read_bytes()
    (folder / "clinic.bif").write_bytes(text)
    (folder / "clinic.bif.gz").write_bytes(gzip.compress(text))
    assert main(["sample", str(folder / "clinic.bif"), "-n", "200", "--out", str(folder / "all.csv")]) == 0
    frame = pd.read_csv(folder / "all.csv")
    frame.loc[::10, "xray"] = None
    frame.insert(0, "id", [f"p{i}" for i in range(200)])
    frame.to_csv(folder / "patients.csv", index=False)
    return folder, frame


@pytest.mark.parametrize("name", ["clinic.bif", "clinic.bif.gz"])
def test_a_file_is_asked(clinic, name, capsys):
    """A smoker who is short of breath; the number is pgmpy's and the full joint table's, see test_queries.py."""
    assert main(["query", str(clinic[0] / name), "bronc", "--given", "dysp=yes"]) == 0
    assert "P(bronc | dysp = yes)\n  yes: 0.8340\n" in capsys.readouterr().out
    assert main(["query", str(clinic[0] / name), "bronc", "--evidence", "dysp=yes"]) == 0
    assert "yes: 0.8340" in capsys.readouterr().out


def test_rows_of_a_file_are_asked(clinic, capsys):
    folder, frame = clinic
    out = folder / "lungs.csv"
    command = ["query", str(folder / "clinic.bif"), "lung", "--given", str(folder / "patients.csv")]
    assert main([*command, "--do", "smoke=yes", "--out", str(out), "--replace"]) == 0
    told = capsys.readouterr().out
    assert "left out: 'smoke', 'lung'" in told
    assert "no nodes are left out: 'id'" in told
    found = pd.read_csv(out)
    wanted = inference.query(
        BayesianNetwork.from_bif("asia"), None, "lung", frame.drop(columns=["id", "lung", "smoke"]), do={"smoke": "yes"}
    ).frame()
    pd.testing.assert_frame_equal(found, wanted)
    assert main(command) == 0
    assert "P(lung = yes)" in capsys.readouterr().out


def test_what_was_told_is_explained(clinic, capsys):
    folder, _ = clinic
    assert main(["explain", str(folder / "clinic.bif"), "--given", "dysp=yes", "--given", "asia=yes"]) == 0
    told = capsys.readouterr().out
    assert "most probable explanation | dysp = yes, asia = yes" in told
    assert "  bronc = yes\n" in told
    out = folder / "told.csv"
    given = str(folder / "patients.csv")
    assert main(["explain", str(folder / "clinic.bif"), "--given", given, "--out", str(out)]) == 0
    assert pd.read_csv(out)["probability"].between(0, 1).all()
    assert not pd.read_csv(out)["xray"].isna().any()


def test_a_file_is_described(clinic, capsys):
    assert main(["info", str(clinic[0] / "clinic.bif")]) == 0
    told = capsys.readouterr().out
    assert "8 nodes, 8 arrows" in told
    assert "dysp: binary (yes, no), given bronc, either" in told
    assert "P(dysp = yes | bronc = yes, either = no) = 0.8\n" in told


def test_the_tables_of_a_file_are_learned_anew(clinic, capsys):
    folder, frame = clinic
    frame.drop(columns="id").to_csv(folder / "table.csv", index=False)
    run = folder / "run"
    fit = ["fit", str(folder / "clinic.bif"), "--data", str(folder / "table.csv"), "--steps", "5", "--draws", "50"]
    with blank_pictures():
        assert main([*fit, "--out", str(run)]) == 0
    assert "probs_2[P(smoke = yes)]" in capsys.readouterr().out
    assert main(["info", str(run)]) == 0
    told = capsys.readouterr().out
    share = ((frame["smoke"] == "yes").sum() + 1) / 202  # Laplace's rule
    assert float(told.split("P(smoke = yes) = ")[1].split()[0]) == pytest.approx(share, abs=0.02)
    assert main(["query", str(run), "smoke"]) == 0
    assert "interval" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["query", "nosuch.bif", "lung"], "no file 'nosuch.bif'; embedded networks: asia"),
        (["query", "asia.bif", "lung", "--given", "none.csv"], "cannot read 'none.csv'"),
        (["query", "asia.bif", "lung", "--given", "a.csv", "--given", "b.csv"], "--given b.csv: one file holds all"),
        (["query", "asia.bif", "lung", "--given", "HERE/all.csv", "--given", "xray=no"], "has a column of that name"),
        (["query", "asia.bif", "lung", "--out", "o.csv"], "--out: takes the answers of the rows of a file"),
        (["explain", "asia.bif", "--given", "HERE/all.csv", "--out", "o.txt"], "expected a name that ends in .csv"),
        (["query", "asia.bif", "lung", "--given", "HERE/bad.csv"], "column 'xray', row 18: 'maybe' is none of its"),
        (["query", "HERE/broken.bif", "a"], "broken.bif': line 1: expected 'network', 'variable' or 'probability'"),
        (["query", "HERE/broken.bif.gz", "a"], "cannot read"),
        (["fit", "asia.bif", "--data", "HERE/patients.csv", "--out", "HERE/new"], "the table has 'id', which"),
    ],
)
def test_what_cannot_be_asked_is_one_line(clinic, words, error, capsys):
    folder, frame = clinic
    frame[["xray"]].assign(xray=["no"] * 17 + ["maybe"] + ["no"] * 182).to_csv(folder / "bad.csv", index=False)
    (folder / "broken.bif").write_text("hello { }")
    (folder / "broken.bif.gz").write_bytes(gzip.compress(b"network a { }")[:-5])
    assert main([word.replace("HERE", str(folder)) for word in words]) == 2
    told = capsys.readouterr().err
    assert error in told
    assert told.count("\n") == 1
