"""The `zoo` command: what it prints, what it leaves behind, and one line for whatever goes wrong."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import inference
import zoo
from inference.command import exchange, fit, parser
from inference.command.main import main
from inference.data.check import check
from inference.fitting.held_out import split
from tests.helpers.command import FEW, FIT, fails


def write_csv(path, rows, header=""):
    np.savetxt(path, rows, delimiter=",", header=header, comments="", fmt="%.6g")


# What it says --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["list"], ["info"], ["fit"], ["demo"]])
def test_help_holds_an_example(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "example" in text
    assert f"zoo {' '.join(command)}".strip() in text


def test_examples_of_the_help_parse():
    import shlex

    for line in "\n".join(parser.EXAMPLES.values()).splitlines():
        if line.startswith("  zoo"):
            parser.parser().parse_args(shlex.split(line)[1:])


def test_list(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in zoo.names())
    assert "mixtures/" in text
    assert main(["list", "gaussian_*"]) == 0
    text = capsys.readouterr().out
    assert "gaussian_vae" in text
    assert "gmm" not in text
    assert main(["list", "--data"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in zoo.datasets.names())


@pytest.mark.parametrize("name", zoo.names())
def test_info(name, capsys):
    assert main(["info", name]) == 0
    text = capsys.readouterr().out
    card, arguments, graph = text.partition("\nArguments\n")[0], *text.partition("\nArguments\n")[2].split("\nGraph,")
    assert "~" in card or "\\sim" in card, "the joint density"
    pair = zoo.create(name)
    for key in pair.config:
        assert f"  {key}=" in arguments
    for site in pair.sites():
        assert f"{site} ~ " in graph
    assert "typing." not in text
    assert "Literal" not in text
    assert "this file" not in text, "which is not in sight"
    lines = arguments.splitlines()
    assert max(map(len, lines)) <= 140
    assert len(lines) <= 10 * len(pair.config), "a word, not a letter a line"


def test_info_tells_choices_defaults_and_meanings(capsys):
    main(["info", "gmm"])
    text = " ".join(capsys.readouterr().out.split())
    assert "covariance=full full | tied | diag | spherical" in text
    assert "components=2 whole number, at least 1 the number of components K" in text
    assert "x ~ MultivariateNormal 2 (feature) observed given locs, scales, correlations, component" in text


def test_info_of_a_model_with_other_arguments(capsys):
    main(["info", "gmm", "--set", "covariance=diag", "--set", "components=5"])
    text = capsys.readouterr().out
    assert "correlations ~" not in text
    assert "5×2 (component, feature)" in text


def test_a_graph_needs_graphviz(capsys, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "graphviz" in fails(capsys, "info", "gmm", "--graph", "gmm.png")


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
def test_a_graph_is_drawn(tmp_path):
    assert main(["info", "gmm", "--graph", "gmm.svg"]) == 0
    assert "locs" in (tmp_path / "gmm.svg").read_text()


# What it leaves behind -----------------------------------------------------------------------------------------------


def some_digits(path):
    digits = zoo.datasets.load("digits")
    np.savez(path, x=digits.x[:40].numpy(), y=digits.y[:40].numpy())


RUNS = {
    "gmm": (["--data", "iris", "--set", "components=3"], {"predictive", "posterior"}),
    "gmm in the plane": (["--data", "faithful"], {"predictive", "posterior", "density"}),
    "gaussian_vae": (
        ["--data", "some.npz", "--set", "likelihood=binomial", "--set", "trials=16", "--set", "hidden=32,16"],
        {"predictive", "latent_z", "samples", "reconstructions"},
    ),
    "gaussian_autoencoder": (["--data", "wine", "--double"], {"predictive", "latent_z"}),
    "hmm": (
        ["--data", "earthquakes", "--set", "emission=poisson", "--set", "states=3"],
        {"predictive", "posterior"},
    ),
    "polynomial_regression": (
        ["--data", "faithful", "--target", "waiting", "--validation", "0.2"],
        {"predictive", "posterior", "curve"},
    ),
    "polynomial_regression of many covariates": (
        ["--data", "diabetes", "--set", "degree=1"],
        {"predictive", "posterior"},
    ),
}


@pytest.mark.parametrize("case", RUNS)
def test_a_run_folder_is_complete_and_its_model_predicts_the_same(case, tmp_path, capsys):
    import xarray as xr

    some_digits(tmp_path / "some.npz")
    name, (words, pictures) = case.split()[0], RUNS[case]
    assert main(["fit", name, *words, *FEW, "--seed", "4", "--out", "run"]) == 0
    printed = capsys.readouterr().out
    folder = tmp_path / "run"
    found = {path.name for path in folder.iterdir()} - {exchange.CHECKPOINTS}
    assert found == {*exchange.FILES, "loss.png", *(f"{picture}.png" for picture in pictures)}
    assert not [path for path in folder.glob("*.png") if path.stat().st_size < 5_000]
    assert (folder / "summary.txt").read_text() in printed
    assert 'zoo.load("run")' in (folder / "README.md").read_text()

    metrics = json.loads((folder / "metrics.json").read_text())
    pair = zoo.load("run")
    assert metrics == pair.card["metrics"]
    options = parser.parser().parse_args(["fit", name, *words, "--out", "run"])
    data, _ = fit.fitting_pair(name, pair.config, *fit.load(options.data, options.target))[1], None
    if options.validation:  # what was held out is no part of the posterior
        data = split(check(pair, data), options.validation, 4)[0]
    posterior = inference.draw(pair, data, 20, seed=4)
    scores = inference.log_likelihood(pair, posterior, data, seed=4).flatten(0, 1).double().numpy()
    best = scores.max(0)
    again = float((best + np.log(np.exp(scores - best).mean(0))).mean())
    assert again == metrics["log_score_per_observation"], "not the same bit for bit"

    kept = xr.open_dataset(folder / "posterior.nc", group="posterior", engine="h5netcdf")
    if "sigma" in kept:  # the posterior of a regression is in the data's units; what was drawn stands free of them
        kept = xr.open_dataset(folder / "posterior.nc", group="unconstrained_posterior", engine="h5netcdf")
        posterior = {**posterior.draws, "variance": posterior["variance"].double().log()}
    for site in posterior if isinstance(posterior, dict) else posterior.globals:
        np.testing.assert_array_equal(kept[site].values, posterior[site].numpy())


@pytest.mark.usefixtures("blank")
def test_columns_are_named_in_the_posterior(tmp_path):
    import xarray as xr

    write_csv(tmp_path / "table.csv", np.random.default_rng(0).normal(size=(30, 2)), "height,weight")
    assert main(["fit", "gmm", "--data", "table.csv", *FEW, "--out", "run"]) == 0
    kept = xr.open_dataset(tmp_path / "run" / "posterior.nc", group="posterior", engine="h5netcdf")
    assert list(kept["locs"].coords["feature"].values) == ["height", "weight"]
    assert "locs[0, weight]" in (tmp_path / "run" / "summary.txt").read_text()


@pytest.mark.usefixtures("blank")
def test_draws_enough_give_a_leave_one_out_score_and_one_draw_gives_a_folder(tmp_path):
    for draws, scored in (("100", True), ("1", False)):
        words = ["--steps", "3", "--draws", draws, "--score-seconds", "600", "--out", draws]
        assert main(["fit", "polynomial_regression", "--data", "faithful", "--target", "waiting", *words]) == 0
        metrics = json.loads((tmp_path / draws / "metrics.json").read_text())
        assert ("elpd_loo_per_observation" in metrics) == scored
        if scored:
            assert metrics["elpd_loo_per_observation"] < metrics["log_score_per_observation"]


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize("suffix", ["csv", "npy"])
def test_a_column_of_numbers_is_one_sequence(suffix, tmp_path):
    counts = np.random.default_rng(0).poisson(5, (40, 1))
    if suffix == "csv":
        write_csv(tmp_path / "counts.csv", counts, "count")
    else:
        np.save(tmp_path / "counts.npy", counts[:, 0])
    words = ["--set", "emission=poisson", *FEW, "--out", "run"]
    assert main(["fit", "hmm", "--data", f"counts.{suffix}", *words]) == 0
    assert zoo.load("run").card["data"]["x"] == [1, 40]


@pytest.mark.usefixtures("blank")
def test_a_table_is_one_sequence_of_vectors(tmp_path):
    np.save(tmp_path / "walk.npy", np.random.default_rng(0).normal(size=(40, 3)))
    assert main(["fit", "hmm", "--data", "walk.npy", *FEW, "--out", "run"]) == 0
    pair = zoo.load("run")
    assert pair.config["features"] == 3
    assert pair.card["data"]["x"] == [1, 40, 3]


FAULTS = {
    "no command": ([], "required: COMMAND"),
    "unknown command": (["fitt"], "invalid choice: 'fitt'"),
    "unknown option": ([*FIT, "--epoch", "3"], "unrecognized arguments: --epoch"),
    "no number": ([*FIT, "--steps", "many"], "--steps: invalid int value: 'many'"),
    "no draws": ([*FIT, "--draws", "0"], "--draws: expected a whole number of at least 1"),
    "no data": (["fit", "gmm", "--out", "run"], "required: --data"),
    "unknown model": (["info", "gmmm"], "unknown model 'gmmm', did you mean 'gmm'?"),
    "unknown model to fit": (["fit", "hnm", "--data", "iris", "--out", "run"], "did you mean 'hmm'?"),
    "unknown pattern": (["list", "gan_*"], "no model matches 'gan_*'; known: autoregressive"),
    "unknown argument": ([*FIT, "--set", "component=3"], "no argument 'component', did you mean 'components'?"),
    "unknown choice": ([*FIT, "--set", "covariance=diagonal"], "got 'diagonal', did you mean 'diag'?"),
    "value out of range": ([*FIT, "--set", "components=0"], "argument 'components': expected at least 1, got 0"),
    "text for a number": ([*FIT, "--set", "components=three"], "expected a whole number, got 'three'"),
    "no equals": ([*FIT, "--set", "components"], "--set components: expected KEY=VALUE"),
    "set twice": ([*FIT, "--set", "components=2", "--set", "components=3"], "'components' is set twice"),
    "unknown data": (["fit", "gmm", "--data", "irsi", "--out", "run"], "unknown data set 'irsi', did you mean 'iris'?"),
    "missing file": (["fit", "gmm", "--data", "no.csv", "--out", "run"], "cannot read 'no.csv': no such file"),
    "damaged file": (["fit", "gmm", "--data", "damaged.npy", "--out", "run"], "damaged or not a NumPy file"),
    "no NumPy file": (["fit", "gmm", "--data", "noise.npy", "--out", "run"], "damaged or not a NumPy file"),
    "no text": (["fit", "gmm", "--data", "noise.csv", "--out", "run"], "not a text in UTF-8: byte 3 is 0x81"),
    "no story": (["fit", "recurrent", "--data", "noise.txt", "--out", "run"], "not a text in UTF-8: byte 3"),
    "word in a table": (["fit", "gmm", "--data", "word.csv", "--out", "run"], "row 2, column 'b': expected a number"),
    "missing value": (["fit", "gmm", "--data", "hole.csv", "--out", "run"], "row 2, column 'a': expected a number"),
    "huge value": (["fit", "gmm", "--data", "huge.csv", "--out", "run"], "rescale the data"),
    "wrong width": ([*FIT, "--set", "features=3"], "expected shape (N, 3), got (272, 2)"),
    "wrong support": (
        ["fit", "gaussian_vae", "--data", "iris", "--set", "likelihood=bernoulli", "--out", "run"],
        "expected 0 or 1, got 5.1",
    ),
    "a sequence for a table": (["fit", "gmm", "--data", "cube.npy", "--out", "run"], "got (3, 4, 2)"),
    "no response": (
        ["fit", "polynomial_regression", "--data", "faithful", "--out", "run"],
        "--target COLUMN picks one of eruptions, waiting",
    ),
    "unknown target": ([*FIT, "--target", "wating"], "no column 'wating', did you mean 'waiting'?"),
    "both lengths": ([*FIT, "--epochs", "3", "--steps", "3"], "give epochs or steps, not both"),
    "negative rate": ([*FIT, "--lr", "-1"], "lr: expected a finite number above 0"),
    "unknown device": ([*FIT, "--device", "gpu"], "--device gpu: not usable here"),
    "a file in the way": (["fit", "gmm", "--data", "iris", "--out", "word.csv"], "a file is in the way"),
    "a folder in the way": (["fit", "gmm", "--data", "iris", "--out", "full"], "not empty (notes.txt)"),
    "below a file": (["fit", "gmm", "--data", "iris", "--out", "word.csv/run"], "cannot be written"),
    "a name that is no text": (
        ["fit", "gmm", "--data", "iris", "--out", "run\udcff"],
        r"run\xff: the name is not UTF-8",
    ),
    "a picture of no kind": (["info", "gmm", "--graph", "gmm.txt"], ".png, .svg or .pdf"),
    "a demo on a file": (["demo", "--out", "word.csv"], "cannot be written"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_one_line(fault, tmp_path, capsys):
    (tmp_path / "damaged.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr'")
    for name in ("noise.npy", "noise.csv", "noise.txt"):
        (tmp_path / name).write_bytes(b"a,\x81\n1,2\n")
    (tmp_path / "word.csv").write_text("a,b\n1,2\n3,four\n")
    (tmp_path / "hole.csv").write_text("a,b\n1,2\n,4\n5,6\n")
    (tmp_path / "huge.csv").write_text("a,b\n1,2\n1e30,4\n5,6\n")
    np.save(tmp_path / "cube.npy", np.zeros((3, 4, 2)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    arguments, expected = FAULTS[fault]
    assert expected in fails(capsys, *arguments)
    assert not (tmp_path / "run").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize(("name", "noted"), [("gaussian_autoencoder", True), ("gmm", False)])
def test_columns_of_unlike_scale_are_remarked_on(name, noted, tmp_path, capsys):
    rng = np.random.default_rng(0)
    write_csv(tmp_path / "table.csv", rng.normal(size=(30, 3)) * [1, 0.01, 700], "ash,hue,proline")
    assert main(["fit", name, "--data", "table.csv", *FEW, "--out", "run"]) == 0
    assert ("(proline is widest)" in capsys.readouterr().out) == noted


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="unknown model 'gmmm'"):
        main(["info", "gmmm", "--debug"])


def test_an_unexpected_error_is_one_line_too(capsys, monkeypatch):
    monkeypatch.setattr(exchange, "check", lambda *_, **__: {}["key"])
    line = fails(capsys, *FIT)
    assert "internal error, KeyError: 'key'" in line
    assert "--debug" in line


def test_a_reader_that_stops_early_is_no_error(monkeypatch):
    def stop(_):
        raise BrokenPipeError

    monkeypatch.setattr("inference.command.about.overview", stop)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    assert main(["list"]) == 0
