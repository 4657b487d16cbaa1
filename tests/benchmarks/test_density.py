"""The benchmark of density in a tiny form: what it estimates is right, and what it keeps is kept."""

from __future__ import annotations

import importlib.util
import json
import math
import threading
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.helpers.places import benchmark


@pytest.fixture(scope="module")
def density() -> ModuleType:
    return benchmark("density")


def _digits(settings):
    datasets = pytest.importorskip("sklearn.datasets")
    x = torch.from_numpy(datasets.load_digits().data > 7).float()
    return x[:300], x[300:320]


def _result(density, method, log_p, settings):
    return {"settings": density.wanted(method, settings), "log_p": log_p, "seconds": [1.0, 1.0], "parameters": 3}


class TestDensity:
    ARGUMENTS = ("--quick", "--only", "elbo,twin", "--epochs", "2")

    def test_a_tiny_run_is_kept_and_not_repeated(self, density, tmp_path, capsys, monkeypatch):
        arguments = [*self.ARGUMENTS, "--out", str(tmp_path / "kept.json")]

        found = density.main(arguments, load=_digits)

        assert set(found) == {"elbo", "twin"}
        for seeds in found.values():
            log_p = np.array(seeds[0]["log_p"])
            assert log_p.shape == (20,)
            assert np.isfinite(log_p).all()
            assert -log_p.mean() < 64 * math.log(2)  # knows more than a fair coin for each pixel
        shown = capsys.readouterr().out
        assert "| `gaussian_vae`, elbo |" in shown
        assert "elbo level with or below twin" in shown

        for name in ("ours", "peer"):
            monkeypatch.setattr(density, name, None)
        assert density.main(arguments, load=_digits) == found
        with pytest.raises(TypeError):  # other settings: fits that are missing
            density.main([*arguments, "--epochs", "1"], load=_digits)

    def test_the_rule(self, density):
        grey = torch.tensor([0.0, 127.0, 128.0, 255.0])
        assert density.binarised(grey).tolist() == [0.0, 0.0, 1.0, 1.0]

    def test_importance_sampling_of_the_twin_is_exact(self, density):
        torch.manual_seed(0)
        net = density.Twin(features=6, hidden=5, latent=1).double()
        for parameter in net.decoder.parameters():  # not the encoder: weights from a narrow one have no usable error
            parameter.data += torch.randn_like(parameter)
        x = torch.randint(2, (4, 6)).double()
        z = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None]
        logits = net.decoder(z)
        joint = (
            -functional.binary_cross_entropy_with_logits(
                logits[:, None].expand(-1, 4, 6), x.expand(len(z), 4, 6), reduction="none"
            ).sum(-1)
            - 0.5 * z.square()
            - 0.5 * math.log(2 * math.pi)
        )
        exact = joint.logsumexp(0) + math.log(24 / 20_000)

        runs = torch.stack([density.importance(net, x, 2_000, seed) for seed in range(40)]).detach()

        weights = (runs - exact).exp()  # unbiased: of mean one
        error = weights.std(0) / math.sqrt(len(runs))
        assert ((weights.mean(0) - 1).abs() < 4 * error).all()
        assert (error < 0.1).all()

    def test_loss_of_the_twin_is_minus_its_bound(self, density):
        torch.manual_seed(0)
        net = density.Twin(features=6, hidden=5, latent=2).double()
        x = torch.randint(2, (1, 6)).double()
        losses = torch.stack([net(x.expand(200, 6)) for _ in range(20)]).detach()
        single = -density.importance(net, x.expand(400, 6), particles=1, seed=1)
        error = math.hypot(float(losses.std()) / math.sqrt(20), float(single.std()) / math.sqrt(400))
        assert abs(float(losses.mean() - single.mean())) < 4 * error

    def test_differences_are_paired(self, density):
        settings = density.QUICK
        a, b = [-3.0, -5.0, -10.0], [-1.0, -4.0, -8.0]
        found = {
            "elbo": {0: _result(density, "elbo", a, settings), 1: _result(density, "elbo", a, settings)},
            "twin": {0: _result(density, "twin", b, settings)},
        }
        mean, rows, seeds = density.difference(found, "elbo", "twin")
        assert mean == pytest.approx(5 / 3)
        assert rows == pytest.approx(np.std([2, 1, 2], ddof=1) / math.sqrt(3))
        assert seeds == 0
        assert "NO (+1.67" in next(density.claims(found))

    def test_writers_at_once_lose_nothing(self, density, tmp_path):
        path = tmp_path / "kept.json"
        writers = [threading.Thread(target=density.store, args=(path, f"elbo/{i}", {"n": i})) for i in range(24)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert json.loads(path.read_text()) == {f"elbo/{i}": {"n": i} for i in range(24)}
        assert [p.name for p in tmp_path.iterdir()] == ["kept.json"]

    def test_without_pythae_it_says_so(self, density, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        density.main(["--quick", "--only", "pythae_vae", "--out", str(tmp_path / "kept.json")], load=_digits)
        assert "pythae is not installed" in capsys.readouterr().out

    def test_an_unknown_model_is_named(self, density, capsys):
        with pytest.raises(SystemExit):
            density.main(["--only", "elbow"], load=_digits)
        assert "elbow" in capsys.readouterr().err
