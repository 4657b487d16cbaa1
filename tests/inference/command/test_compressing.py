"""`zoo compress` and `zoo decompress`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import zoo
from inference.command.main import main
from tests.helpers.command import fails


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of a small table, and the table's file."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, 300)
    lines = [f"{x:.1f},{'ab'[k]},{c}" for x, k, c in zip(rng.normal(5 * z, 1), z, rng.poisson(3 + 9 * z), strict=True)]
    lines[4] = ",a,NA"
    (folder / "table.csv").write_text("\n".join(["size,kind,count", *lines, ""]))
    torch.manual_seed(0)
    columns = [("size", "real"), ("kind", "binary", ("a", "b")), ("count", "count")]
    zoo.create("naive_bayes", columns=columns).save(folder / "model")
    return folder


@pytest.mark.parametrize("inside", [True, False])
def test_a_table_goes_round(run, tmp_path, capsys, inside):
    made, back = tmp_path / "t.zoo", tmp_path / "back.csv"
    more = ["--with-model"] if inside else []
    assert main(["compress", str(run / "model"), str(run / "table.csv"), "--out", str(made), *more]) == 0
    said = capsys.readouterr().out
    assert "for 300 rows of 3 cells" in said
    assert "xz: " in said
    assert "note:" not in said
    more = [] if inside else ["--run", str(run / "model")]
    assert main(["decompress", str(made), "--out", str(back), *more]) == 0
    assert back.read_bytes() == (run / "table.csv").read_bytes()
    assert f"300 rows of {made} in {back}" in capsys.readouterr().out


def test_arrays_and_texts_go_round(tmp_path, capsys):
    zoo.create("gmm", features=2, covariance="diag").save(tmp_path / "gmm")
    zoo.create("recurrent", alphabet="ab\n", hidden=3).save(tmp_path / "poet")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(50, 2)).astype("f4"))
    (tmp_path / "x.txt").write_bytes("ab\r\nba ü\n".encode() * 9)
    for model, name in (("gmm", "x.npy"), ("poet", "x.txt")):
        made, path = tmp_path / "x.zoo", tmp_path / name
        before = path.read_bytes()
        assert main(["compress", str(tmp_path / model), str(path), "--out", str(made), "--replace"]) == 0
        assert main(["decompress", str(made), "--run", str(tmp_path / model), "--replace"]) == 0
        assert path.read_bytes() == before
    assert "recurrent has no codec of its own yet" in capsys.readouterr().out


def test_several_files_go_into_one_each(run, tmp_path, capsys):
    other = tmp_path / "other.csv"
    other.write_bytes((run / "table.csv").read_bytes() + b"1.5,b,3\n")
    out = tmp_path / "t.zoo"
    assert main(["compress", str(run / "model"), str(run / "table.csv"), str(other), "--out", str(out)]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.zoo")) == ["t.other.csv.zoo", "t.table.csv.zoo"]
    assert main(["decompress", str(tmp_path / "t.other.csv.zoo"), "--run", str(run / "model")]) == 0
    assert (tmp_path / "t.other.csv.csv").read_bytes() == other.read_bytes()
    capsys.readouterr()


def test_what_is_wrong_is_said_in_a_line(run, tmp_path, capsys):
    model, table, out = str(run / "model"), str(run / "table.csv"), tmp_path / "t.zoo"
    assert "expected a name that ends in .zoo" in fails(
        capsys, "compress", model, table, "--out", str(tmp_path / "t.csv")
    )
    assert "no file 'nothing.csv'" in fails(capsys, "compress", model, "nothing.csv", "--out", str(out))
    main(["compress", model, table, "--out", str(out)])
    assert "is there already; --replace" in fails(capsys, "compress", model, table, "--out", str(out))
    assert "it holds no model: give the naive_bayes" in fails(
        capsys, "decompress", str(out), "--out", str(tmp_path / "b.csv")
    )
    out.write_bytes(out.read_bytes()[:-1])
    assert "truncated or damaged" in fails(capsys, "decompress", str(out), "--run", model)
    assert not (tmp_path / "b.csv").exists()
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    told = fails(capsys, "compress", model, str(tmp_path / "x.parquet"), "--out", str(tmp_path / "x.zoo"))
    assert "expected a name that ends in .csv" in told
