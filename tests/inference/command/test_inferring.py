"""`zoo fit` takes the road by itself, and its run is used as any other, whether it keeps a guide or draws."""

from __future__ import annotations

import csv
import json

import pytest
import torch

import inference
import zoo
from inference.command import inferring
from inference.command.main import main
from inference.command.parser import parser
from inference.data.check import check
from inference.roads import infer as roads
from tests.helpers.command import FEW, fails
from zoo import held

pytestmark = pytest.mark.usefixtures("blank")
FIT = ["fit", "gmm", "--data", "faithful", "--set", "components=2"]
# Of mclust 6 (Scrucca et al. 2016), `densityMclust(faithful, G = 2, modelNames = "VVV")`: shares and means.
SHARES, MEANS = (0.6441, 0.3559), ((4.2897, 79.9681), (2.0364, 54.4785))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two components, by the road."""
    out = tmp_path_factory.mktemp("inferred") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out.parent)
        assert main([*FIT, "--double", "--draws", "200", "--score-seconds", "600", "--out", "run"]) == 0
    return out


def column(path, name):
    with path.open() as file:
        return torch.tensor([float(line[name]) for line in csv.DictReader(file)], dtype=torch.float64)


def test_the_run_keeps_the_draws_of_the_road(run):
    pair, metrics = zoo.load(run), json.loads((run / "metrics.json").read_text())
    assert (metrics["road"], metrics["trusted"]) == ("Gaussian", True)
    assert held.of(pair).method == "psis"
    posterior = inference.draw(pair, zoo.datasets.load("faithful"), 1000)
    means, shares = posterior["locs"].mean((0, 1)), posterior["weights"].mean((0, 1))
    order = shares.argsort(descending=True)
    spread = posterior["locs"].std((0, 1))[order]
    assert ((means[order] - torch.tensor(MEANS)).abs() < 0.5 * spread).all()  # the prior moves them by less
    assert shares[order] == pytest.approx(SHARES, abs=0.015)
    assert "trust it: Gaussian road" in (run / "summary.txt").read_text()


def test_commands_work_on_it(run, tmp_path, capsys):
    folder = str(run)
    assert main(["sample", folder, "-n", "2000", "--out", "new.csv"]) == 0
    data = zoo.datasets.load("faithful").x
    for name, values in zip(("x_1", "x_2"), data.T, strict=True):
        new = column(tmp_path / "new.csv", name)
        assert abs(float(new.mean() - values.mean())) < 4 * float(values.std()) * (1 / 2000 + 1 / 272) ** 0.5
    assert main(["encode", folder, "faithful", "--out", "codes.csv"]) == 0
    first = column(tmp_path / "codes.csv", "component_0") > 0.5
    long = data[:, 0] > 3  # two kinds of eruption, as every textbook has them
    assert max(float((first == long).float().mean()), float((first != long).float().mean())) > 0.98
    assert main(["anomaly", folder, "faithful", "--out", "strange.csv"]) == 0
    capsys.readouterr()
    assert main(["check", folder, "--no-run"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("gmm: trust\n")
    assert "effective share" in told
    assert "R-hat" not in told
    assert main(["score", folder, "faithful"]) == 0


def test_an_option_of_a_fit_asks_for_a_fit(capsys):
    assert main([*FIT, *FEW, "--out", "steps"]) == 0
    assert "Fit(3 steps" in capsys.readouterr().out
    assert main([*FIT, "--method", "em", "--no-score", "--out", "em"]) == 0
    assert "expectation-maximisation has converged" in capsys.readouterr().out
    for name in ("steps", "em"):
        assert held.of(zoo.load(name)) is None
        assert "road" not in zoo.load(name).card["fit"]


def test_what_the_roads_do_not_suit_is_fitted(capsys):
    vae = ["fit", "gaussian_vae", "--data", "iris", "--set", "likelihood=gaussian", "--set", "latent=1", "--out", "vae"]
    line = fails(capsys, *vae, "--method", "infer")
    assert "--method infer: gaussian_vae has latents of single observations" in line
    line = fails(capsys, "fit", "masked_autoregressive", "--data", "iris", "--method", "infer", "--out", "made")
    assert "has no latents but its parameters" in line


def test_more_latents_than_a_gaussian_takes_and_rows_than_chains_read_go_by_the_variational_road(capsys, monkeypatch):
    monkeypatch.setattr(roads, "LARGEST", 2)
    monkeypatch.setattr(roads, "READ", 1)
    words = ["--set", "features=2", "--no-score", "--double", "--out", "steps"]
    assert main(["fit", "gmm", "--data", "faithful", "--set", "components=1", *words]) == 0
    said = capsys.readouterr().out
    assert "variational road" in said
    assert "Fit(" not in said
    pair = zoo.load("steps")
    assert pair.card["fit"]["road"] == "variational"
    assert (held.of(pair) is not None) == pair.card["fit"]["trusted"]


def test_a_forest_is_fitted_and_it_is_said_how_chains_are_asked_for(capsys):
    options = parser().parse_args(["fit", "random_forest", "--data", "faithful", "--out", "forest"])
    pair = zoo.create("random_forest", features=1)
    given = check(pair, pair.simulate(20)[0])
    assert inferring.inferred(given, options) is None
    assert "latents, which its own guide takes in steps; --method infer goes on" in capsys.readouterr().out


def test_options_that_contradict_are_refused(capsys):
    line = fails(capsys, *FIT, "--method", "infer", "--steps", "3", "--out", "run")
    assert "--method infer: takes no --steps, which is an option of a fit" in line
    line = fails(capsys, *FIT, "--budget", "3", "--set", "guide=normal", "--out", "run")
    assert "--budget: is one of --method infer, and --set guide asks for a fit" in line


def test_a_closed_form_stays_the_guide(capsys):
    words = ["--target", "waiting", "--no-score", "--double", "--out", "line"]
    assert main(["fit", "polynomial_regression", "--data", "faithful", *words]) == 0
    assert "trust it: exact road" in capsys.readouterr().out
    pair = zoo.load("line")
    assert held.of(pair) is None
    assert main(["check", "line", "--no-run"]) == 0
    assert "all weights are equal" in capsys.readouterr().out
