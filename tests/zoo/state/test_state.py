"""A saved pair comes back bit for bit; a kill leaves one checkpoint; nothing else than what was saved is believed."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pickle
import random
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

import zoo
from inference.fitting.objective import choose
from tests.helpers.places import ROOT
from zoo import state
from zoo.base import Batch, ModelGuide, register
from zoo.settings import settings
from zoo.state import CONFIG, README, WEIGHTS, DamagedFile, files
from zoo.state.budget import Budget


@register("toy_state")
class Toy(ModelGuide):
    """A Gaussian whose mean is a network's view of one latent vector.

    A second paragraph that the card leaves out.
    """

    def __init__(
        self, features: int = 3, hidden: tuple[int, ...] = (4,), dropout: float = 0.5, guide: str = "normal"
    ) -> None:
        super().__init__(guide)
        sizes = (2, *hidden, features)
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.net = nn.Sequential(*layers, nn.Dropout(min(dropout, 0.9)))
        self.log_scale = nn.Parameter(torch.zeros(features))
        self.register_buffer("prior_scale", torch.ones(2))
        self.register_buffer("order", torch.arange(features))

    def model(self, batch: Batch) -> Tensor:
        code = pyro.sample("code", dist.Normal(0, self.prior_scale).to_event(1))  # (2,)
        with batch.plate():
            loc = self.net(code)[..., self.order]  # (D,)
            return pyro.sample("x", dist.Normal(loc, self.log_scale.exp()).to_event(1), obs=batch.x)


@register("toy_state_bare")
class Bare(ModelGuide):
    """A pair without a single tensor."""

    def __init__(self) -> None:
        super().__init__()

    def model(self, batch: Batch) -> Tensor:
        with batch.plate():
            return pyro.sample("x", dist.Bernoulli(0.5), obs=batch.x)


def made(name: str = "toy_state", seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any) -> ModelGuide:
    """A pair whose every parameter has moved away from where it was built."""
    torch.manual_seed(seed)
    pair = zoo.create(name, **config).to(dtype)
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    pair.card = {"data": {"name": "toy", "rows": 5}, "metrics": {"elbo": -1.25}, "seed": seed}
    return pair


def loss(pair: ModelGuide, batch: Batch) -> float:
    torch.manual_seed(1)
    # Pyro's estimator for this pair: its TraceEnum_ELBO mixes types where a masked site is float64
    return float(choose(pair, batch).pyro().loss(pair.model, pair.guide, batch))


def same(first: ModelGuide, second: ModelGuide) -> bool:
    """Whether two pairs hold the same bits, arguments and card."""
    a, b = first.state_dict(), second.state_dict()
    tensors = a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)
    return tensors and first.config == second.config and first.card == second.card


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


@pytest.mark.parametrize("guide", ["normal", "multivariate", "lowrank", "laplace", "delta"])
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
        f"import {__name__}",
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


# --- a kill at any moment ----------------------------------------------------------------------------------------


class Killed(BaseException):
    """What the process feels of SIGKILL."""


class Killer:
    """Kills the process at the k-th call that touches the disk; the dead do nothing more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, torn: bool) -> None:
        self.at, self.calls = at, 0
        fsync = os.fsync

        def cut(handle: int) -> None:
            if torn and self.calls == self.at - 1 and stat.S_ISREG(os.fstat(handle).st_mode):
                os.truncate(handle, os.fstat(handle).st_size // 2)
            self.guard(fsync)(handle)

        monkeypatch.setattr(os, "fsync", cut)
        open_path = Path.open

        def opened(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            file = open_path(path, mode, *args, **kwargs)  # a file opened for writing is empty before it is full
            if set(mode) & set("wxa"):
                try:
                    self.guard(lambda: None)()
                except Killed:
                    file.close()
                    raise
            return file

        monkeypatch.setattr(Path, "open", opened)
        for name in ("replace", "unlink"):
            monkeypatch.setattr(Path, name, self.guard(getattr(Path, name)))

    def guard(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls >= self.at:
                raise Killed
            return function(*args, **kwargs)

        return guarded


def killed_saves(folder: Path, pair: ModelGuide, torn: bool) -> Any:
    """Save `pair` again and again, killed one step later each time, until a save gets through."""
    for step in range(1, 100):
        with pytest.MonkeyPatch.context() as monkeypatch:
            Killer(monkeypatch, step, torn)
            try:
                pair.save(folder)
            except Killed:
                pass
            else:
                return
        yield step
    raise AssertionError("no save got through")


@pytest.mark.parametrize("torn", [False, True])
def test_killed_at_every_step(torn: bool, tmp_path: Path) -> None:
    # Each kill starts from a clean folder; the loader must find the old pair, then from some step on the new one.
    old, new = made(seed=0), made(seed=1, features=5)
    seen = []
    for step in killed_saves(tmp_path / "count", new, torn):
        folder = tmp_path / str(step)
        old.save(folder)
        with pytest.MonkeyPatch.context() as monkeypatch:
            Killer(monkeypatch, step, torn)
            with pytest.raises(Killed):
                new.save(folder)
        found = zoo.load(folder)
        assert same(found, old) or same(found, new)
        seen.append(same(found, new))
        third = made(seed=2)
        third.save(folder)
        assert same(zoo.load(folder), third)
        assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS, README}
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert {*seen} == {False, True}


@pytest.mark.parametrize("torn", [False, True])
def test_killed_over_and_over(torn: bool, tmp_path: Path) -> None:
    # One folder, killed saves piled on each other, back and forth between pairs, same weights under another card.
    pairs = [made(seed=0), made(seed=1, features=5), made(seed=0), made(seed=2)]
    pairs[2].card = {"seed": "another card"}
    rng = random.Random(0)
    current = pairs[0]
    current.save(tmp_path)
    for _ in range(20):
        pair = rng.choice(pairs)
        with pytest.MonkeyPatch.context() as monkeypatch:
            Killer(monkeypatch, rng.randint(1, 25), torn)
            try:
                pair.save(tmp_path)
            except Killed:
                found = zoo.load(tmp_path)
                assert same(found, current) or same(found, pair)
                current = pair if same(found, pair) else current
            else:
                current = pair
        assert same(zoo.load(tmp_path), current)


def test_killed_first_save_is_no_checkpoint(tmp_path: Path) -> None:
    pair, seen = made(), []
    for step in killed_saves(tmp_path / "count", pair, False):
        folder = tmp_path / str(step)
        with pytest.MonkeyPatch.context() as monkeypatch:
            Killer(monkeypatch, step, False)
            with pytest.raises(Killed):
                pair.save(folder)
        with suppress(DamagedFile):
            assert same(zoo.load(folder), pair)
            seen.append(True)
            continue
        seen.append(False)
    assert seen == sorted(seen)
    assert {*seen} == {False, True}


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = made()
    old.save(tmp_path)
    fsync, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 3:  # the weights
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        made(seed=1).save(tmp_path)
    assert same(zoo.load(tmp_path), old)
    assert not list(tmp_path.glob("*.part"))


def test_threads_save_and_load_side_by_side(tmp_path: Path) -> None:
    pairs = [made(seed=seed, features=3 + seed) for seed in range(3)]
    pairs[0].save(tmp_path)
    failures: list[BaseException] = []

    def work(pair: ModelGuide) -> None:
        try:
            for _ in range(10):
                state.save(pair, tmp_path)
                with files.locked(tmp_path, exclusive=False):
                    record = state._matching(tmp_path)
                assert record["config"]["features"] in (3, 4, 5)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(pair,)) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert any(same(zoo.load(tmp_path), pair) for pair in pairs)


@pytest.mark.slow
def test_sigkill(tmp_path: Path) -> None:
    script = tmp_path / "saver.py"
    script.write_text(
        f"import sys; sys.path[:0] = [{str(ROOT)!r}]\n"
        "from tests.zoo.state import test_state as t\n"
        "pairs = [t.made(seed=0), t.made(seed=1, features=5)]\n"
        f"pairs[0].save({str(tmp_path / 'run')!r}); print('ready', flush=True)\n"
        f"while True:\n    for pair in pairs: pair.save({str(tmp_path / 'run')!r})\n"
    )
    pairs, rng = [made(seed=0), made(seed=1, features=5)], random.Random(0)
    for _ in range(3):
        with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 0.2))
            process.send_signal(signal.SIGKILL)
        found = zoo.load(tmp_path / "run")
        assert any(same(found, pair) for pair in pairs)


# --- nothing else is believed ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a saved toy."""
    folder = made().save(tmp_path_factory.mktemp("saved"))
    return {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def sealed(record: dict[str, Any]) -> bytes:
    """A config as an attacker who knows the format would write it."""
    record = {key: value for key, value in record.items() if key != "checksum"}
    text = json.dumps(record, indent=2).encode() + b"\n"
    return json.dumps({**record, "checksum": hashlib.sha256(text).hexdigest()}, indent=2).encode() + b"\n"


def forged(saved: dict[str, bytes], weights: bytes | None = None, **changes: Any) -> dict[str, bytes]:
    """The files with some config entries changed, other weights perhaps, and all checksums made to fit."""
    weights = saved[WEIGHTS] if weights is None else weights
    entry = {WEIGHTS: {"size": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}}
    return {CONFIG: sealed({**json.loads(saved[CONFIG]), "files": entry, **changes}), WEIGHTS: weights}


def test_forging_as_such_works(saved: dict[str, bytes], tmp_path: Path) -> None:
    assert forged(saved) == saved
    assert zoo.load(put(tmp_path, forged(saved, card={"seed": 5}))).card == {"seed": 5}


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_any_flipped_bit_is_noticed(file: str, saved: dict[str, bytes], tmp_path: Path) -> None:
    rng = random.Random(0)
    put(tmp_path, saved)
    for position in range(len(saved[file])):
        flipped = bytearray(saved[file])
        flipped[position] ^= 1 << rng.randrange(8)
        (tmp_path / file).write_bytes(flipped)
        with pytest.raises(DamagedFile):
            state.load(tmp_path)


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_any_other_length_is_noticed(file: str, saved: dict[str, bytes], tmp_path: Path) -> None:
    put(tmp_path, saved)
    for content in [saved[file][:length] for length in range(0, len(saved[file]), 7)] + [
        saved[file] + tail for tail in (b"\0", b"\n", b" " * 1000)
    ]:
        (tmp_path / file).write_bytes(content)
        with pytest.raises(DamagedFile, match=str(tmp_path)):
            state.load(tmp_path)


def test_sizes_are_checked_before_reading(saved: dict[str, bytes], tmp_path: Path) -> None:
    # Sparse files of a terabyte: reading one would show.
    put(tmp_path, saved)
    for name, message in ((WEIGHTS, "expected .* bytes, got"), (CONFIG, "oversized")):
        os.truncate(tmp_path / name, 1 << 40)
        start = time.monotonic()
        with pytest.raises(DamagedFile, match=message):
            state.load(tmp_path)
        assert time.monotonic() - start < 1
        put(tmp_path, saved)


def test_missing_and_linked_files(saved: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="no such folder"):
        zoo.load(tmp_path / "none")
    for name in (CONFIG, WEIGHTS):
        folder = tmp_path / f"without_{name}"
        folder.mkdir()
        put(folder, {key: value for key, value in saved.items() if key != name})
        with pytest.raises(DamagedFile, match=f"no {name}"):
            zoo.load(folder)
        (tmp_path / name).write_bytes(saved[name])
        (folder / name).symlink_to(tmp_path / name)
        with pytest.raises(DamagedFile, match=f"{name}: a link"):
            zoo.load(folder)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(DamagedFile, match=f"{name}: no plain file"):
            zoo.load(folder)
        with pytest.raises(DamagedFile, match="it is a file"):
            zoo.load(tmp_path / name)
    whole = tmp_path / "whole"
    whole.mkdir()
    (tmp_path / "latest").symlink_to(put(whole, saved))
    assert zoo.load(tmp_path / "latest").config["features"] == 3  # a link to a folder is the user's own


def test_saving_replaces_links_and_leaves_their_ends(saved: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in (CONFIG, WEIGHTS, f"{WEIGHTS}.part"):
        (tmp_path / name).write_bytes(b"mine")
        (tmp_path / "run" / name).symlink_to(tmp_path / name)
    pair = made()
    assert same(zoo.load(pair.save(tmp_path / "run")), pair)
    assert {(tmp_path / name).read_bytes() for name in (CONFIG, WEIGHTS, f"{WEIGHTS}.part")} == {b"mine"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2, this version reads format 1"),
        ({"model": "toy_stat"}, f"unknown model 'toy_stat', did you mean.*{__name__}.Toy: import that module first"),
        ({"model": ["toy_state"]}, "'model': expected str"),
        ({"class": None}, "'class': expected str"),
        ({"config": {"featurs": 3}}, "no argument 'featurs', did you mean 'features'"),
        ({"config": {"features": 0}}, "expected at least 1"),
        ({"config": {"features": "3"}}, "expected a whole number"),
        ({"config": {"features": 5}}, "'log_scale': expected shape"),
        ({"config": {"hidden": [4, 4]}}, "missing: net.2"),
        ({"config": {"hidden": []}}, "not of this model: net.1"),
        ({"config": {"guide": "lowrank"}}, "missing"),
        ({"config": [1]}, "'config': expected dict"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"dtype": "float64"}, "expected type torch.float64, got torch.float32"),
        ({"training": 1}, "'training': expected bool"),
        ({"files": {}}, "expected one file"),
        ({"files": {"../outside.safetensors": {}}}, "expected one file"),
        ({"files": {WEIGHTS: 3}}, "expected one file"),
        ({"files": {WEIGHTS: {}}}, "expected None bytes"),
        ({"card": []}, "'card': expected dict"),
        ({"history": None}, "'history': expected trained, sampled, measured, got None"),
        ({"history": {"trained": True}}, "'history': expected trained, sampled, measured"),
        ({"history": {"trained": 1, "sampled": False, "measured": None}}, "'history': 'trained': got 1"),
        ({"history": {"trained": True, "sampled": False, "measured": 5}}, "'history': 'measured': got 5"),
        ({"config": {"hidden": [10**9]}}, "cannot build.*weights do not justify"),
        ({"config": {"features": 10**9}}, "cannot build.*weights do not justify"),
        ({"config": {"features": 10**40}}, "cannot build"),
        ({"config": {"hidden": [20_000] * 50}}, "cannot build.*weights do not justify"),
    ],
)
def test_forged_configs(changes: dict[str, Any], message: str, saved: dict[str, bytes], tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DamagedFile, match=f"(?s){message}") as caught:
        zoo.load(put(tmp_path, forged(saved, **changes)))
    assert str(tmp_path) in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2_000_000  # kB


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 900_000,
        b'{"format": NaN}',
        b'{"format": 1, "format": 1}',
        pickle.dumps({"format": 1}),
        b'{"format": 1}'.decode().encode("utf-16"),
    ],
)
def test_hostile_json(text: bytes, saved: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match=CONFIG):
        zoo.load(put(tmp_path, {**saved, CONFIG: text}))


def weights(change: Callable[[dict[str, Tensor]], Any], pair: ModelGuide | None = None) -> bytes:
    tensors = {name: value.clone() for name, value in (pair or made()).state_dict().items()}
    change(tensors)
    return to_safetensors(tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("log_scale"), "missing: log_scale"),
        (lambda t: t.update(extra=torch.ones(2)), "not of this model: extra"),
        (lambda t: t.update(log_scale=torch.ones(4)), r"'log_scale': expected shape \(3,\), got \(4,\)"),
        (lambda t: t.update(log_scale=torch.ones(3, 1)), r"'log_scale': expected shape"),
        (lambda t: t.update(log_scale=torch.ones(3).double()), "'log_scale': expected type"),
        (lambda t: t.update(order=torch.ones(3).int()), "'order': expected type torch.int64, got torch.int32"),
        (lambda t: t["log_scale"].fill_(float("inf")), "'log_scale' holds values that are not finite"),
        (lambda t: t.update(log_scale=torch.ones(1 << 24)), "'log_scale': expected shape"),
    ],
)
def test_forged_tensors(change: Any, message: str, saved: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match=message):
        zoo.load(put(tmp_path, forged(saved, weights(change))))


class Payload:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_nothing_is_ever_unpickled(saved: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "run").mkdir()
    torch.save(Payload(ran), tmp_path / "torch.pt")
    for content in (pickle.dumps(Payload(ran)), (tmp_path / "torch.pt").read_bytes()):
        with pytest.raises(DamagedFile, match="not a safetensors file"):
            zoo.load(put(tmp_path / "run", forged(saved, content)))
    assert not ran.exists()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    zoo.load(put(tmp_path / "run", saved))


def test_forged_safetensors_headers(saved: dict[str, bytes], tmp_path: Path) -> None:
    # With the checksums made to fit, a flip in the header or a lie in it is still refused, or changes nothing.
    rng, good = random.Random(0), zoo.load(put(tmp_path, saved))
    whole = saved[WEIGHTS]
    length = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:length])
    lies = []
    for key, value in {"data_offsets": [0, 1 << 40], "shape": [1 << 40], "dtype": "F99"}.items():
        lie = json.dumps({**header, "log_scale": {**header["log_scale"], key: value}}).encode()
        lies.append(len(lie).to_bytes(8, "little") + lie + whole[length:])
    lies += [(1 << size).to_bytes(8, "little") + whole[8:] for size in (0, 20, 40, 62)]
    for _ in range(60):
        flipped = bytearray(whole)
        flipped[rng.randrange(length)] ^= 1 << rng.randrange(8)
        lies.append(bytes(flipped))
    refused = 0
    for content in lies:
        try:
            found = state.load(put(tmp_path, forged(saved, content)))
        except DamagedFile:
            refused += 1
        else:
            assert {k: v.shape for k, v in found.state_dict().items()} == {
                k: v.shape for k, v in good.state_dict().items()
            }
    assert refused > len(lies) / 2


def test_budget() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for demand in (
        lambda: torch.empty(10**9),
        lambda: torch.eye(10**5),
        lambda: torch.arange(10**10),
        lambda: torch.ones(10**5)[:, None] * torch.ones(10**5),
        lambda: torch.ones(3).repeat(10**9),
        lambda: [torch.zeros(1000) for _ in range(1000)],
        lambda: torch.randn(10**9, generator=torch.Generator()),
        lambda: torch.linspace(0, 1, 10**9),
        lambda: torch.ones(3).new_zeros(10**9),
        lambda: dist.Normal(0.0, torch.ones(3)).expand([10**9, 3]).sample(),
        lambda: nn.Linear(10**5, 10**5),
    ):
        with pytest.raises(MemoryError, match="do not justify"), Budget(10**6):
            demand()
    with Budget(10**6) as budget:
        base = torch.ones(1000)
        for _ in range(1000):
            base.add_(1).view(10, 100).mT.expand(5, 100, 10)
        assert base.nonzero().shape == (1000, 1)
    assert 4000 <= budget.used < 50_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    with settings.using(build_operations=500), pytest.raises(MemoryError, match="500 operations"), Budget(10**6):
        nn.Sequential(*(nn.Linear(1, 1) for _ in range(1000)))


def test_building_stays_far_below_the_budget(tmp_path: Path) -> None:
    # The bound must never refuse an honest pair.
    for name in zoo.names():
        with Budget(1 << 30) as budget:
            zoo.create(name)
        assert budget.used < (1 << 30) / 8, name
        assert budget.operations < 20_000, name
