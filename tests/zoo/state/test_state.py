"""A saved pair comes back bit for bit, whatever its tensors, its guide and its card."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import zoo
from tests.helpers.saving import Toy, loss, made, same
from zoo.state import CONFIG, README, WEIGHTS

# --- what is saved comes back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("model", zoo.names())
def test_round_trip(model: str, dtype: torch.dtype, tmp_path: Path) -> None:
    pair = made(model, dtype=dtype).eval()
    batch = pair.simulate(5)[0]
    assert pair.save(tmp_path / "new" / "run") == tmp_path / "new" / "run"
    torch.manual_seed(7)
    before = torch.get_rng_state()
    again = zoo.load(str(tmp_path / "new" / "run"))
    assert torch.equal(before, torch.get_rng_state())
    assert type(again) is type(pair)
    assert same(pair, again)
    assert again.dtype == pair.dtype
    assert not again.training
    assert loss(pair, batch) == loss(again, batch)


@pytest.mark.parametrize("guide", ["normal", "multivariate", "lowrank", "flow", "laplace", "delta"])
def test_every_guide_round_trips(guide: str, tmp_path: Path) -> None:
    pair = made(guide=guide)
    if guide == "laplace":
        pair.auto.curve(torch.eye(2) * 3)
    batch = pair.simulate(5)[0]
    again = zoo.load(pair.save(tmp_path))
    assert same(pair, again)
    assert again.training
    assert loss(pair, batch) == loss(again, batch)
    again.save(tmp_path / "twice")
    assert (tmp_path / "twice" / WEIGHTS).read_bytes() == (tmp_path / WEIGHTS).read_bytes()


def test_odd_tensors_round_trip(tmp_path: Path) -> None:
    pair = made(features=4, hidden=(4, 4))
    with torch.no_grad():
        pair.net[1].weight = nn.Parameter(torch.randn(4, 4).T)  # not contiguous
        pair.net[2].weight = nn.Parameter(torch.randn(8, 4)[::2])
        pair.prior_scale = torch.ones(1).expand(2)
    assert same(pair, zoo.load(pair.save(tmp_path)))
    half = made().half()
    assert same(half, zoo.load(half.save(tmp_path)))


def test_card_in_the_types_of_json(tmp_path: Path) -> None:
    pair = made()
    pair.card = {
        "metrics": {"nan": float("nan"), "inf": [float("-inf"), 1.5], "tensor": torch.tensor([1, 2]), 3: None},
        "seed": 2**70,
        "text": 'é \ud800 "quoted" \n',
        "pair": (True, {}),
    }
    again = zoo.load(pair.save(tmp_path))
    assert again.card == {
        "metrics": {"nan": None, "inf": [None, 1.5], "tensor": [1, 2], "3": None},
        "seed": 2**70,
        "text": 'é \ud800 "quoted" \n',
        "pair": [True, {}],
    }
    assert same(again, zoo.load(again.save(tmp_path)))


def test_files(tmp_path: Path) -> None:
    (tmp_path / "plot.png").write_bytes(b"mine")
    pair = made()
    pair.card["versions"] = {"torch": torch.__version__}  # as `fit` writes them
    pair.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG, WEIGHTS, README, "plot.png"}
    record = json.loads((tmp_path / CONFIG).read_text())
    assert record["model"] == "toy_state"
    assert record["config"] == {"features": 3, "hidden": [4], "dropout": 0.5, "guide": "normal"}
    assert record["files"][WEIGHTS]["sha256"] == hashlib.sha256((tmp_path / WEIGHTS).read_bytes()).hexdigest()
    text = (tmp_path / README).read_text()
    for part in (
        "A Gaussian whose mean",
        "zoo.load",
        f"import {Toy.__module__}",
        "elbo: -1.25",
        torch.__version__,
        "Licence",
    ):
        assert part in text
    assert "second paragraph" not in text
    assert text.count("## Versions") == 1
    (tmp_path / README).write_text("my own words")
    made(seed=1).save(tmp_path)
    assert (tmp_path / README).read_text() == "my own words"


def test_save_refuses(tmp_path: Path) -> None:
    good = made()
    good.save(tmp_path)

    class Unregistered(Toy):
        """Has its parent's name only."""

    bad, odd, long, hot = made(), made(), made(), made()
    with torch.no_grad():
        bad.log_scale[1] = float("nan")
    odd.card = {"metrics": {"model": object()}}
    long.card = {"log": "x" * (1 << 20)}
    hot.config["dropout"] = float("inf")
    for pair, message in [
        (Unregistered(), "register it first"),
        (bad, "parameter 'log_scale' holds values that are not finite"),
        (odd, "card 'metrics' 'model'.*cannot be written as JSON"),
        (long, "shorten the card"),
        (hot, "argument 'dropout'"),
    ]:
        with pytest.raises(ValueError, match=message):
            pair.save(tmp_path)
        assert same(good, zoo.load(tmp_path))
    for taken in (tmp_path / CONFIG, tmp_path / CONFIG / "below"):
        with pytest.raises(ValueError, match="it is a file"):
            good.save(taken)
