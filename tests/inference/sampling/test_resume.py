"""Chains that go on from a folder are the chains that were never broken off, to the last bit."""

from __future__ import annotations

import errno
import json
import os
import signal
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.running import checkpoints
from inference.sampling import course
from inference.sampling.writer import Draws
from zoo.state import packing

pytestmark = pytest.mark.filterwarnings("ignore:.*R-hat", "ignore:.*too few to tell", "ignore:.*transitions diverged")
FEW = {"draws": 24, "chains": 4, "max_warmup": 60, "progress": False, "compile": "graph"}


class Broken(Exception):
    """Ends a run where a test wants it to."""


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """A checkpoint at every opportunity, without waiting for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(course, "SECONDS", 1e-9)
    monkeypatch.setattr(checkpoints, "_SHARE", 1e9)


def regression():
    torch.manual_seed(0)
    pair = zoo.create("polynomial_regression", features=1, degree=2).double()
    x = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    return pair, zoo.Batch.of(x=x, y=(x[:, 0] * 2 + 0.1 * torch.sin(40 * x[:, 0])))


def sample(folder, **options):
    return inference.sample(*regression(), store=folder, **FEW | options)


SCHOOLS = (
    torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18], dtype=torch.float64),
    torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12], dtype=torch.float64),
)


def schools(sigma, y):
    mu = pyro.sample("mu", dist.Normal(torch.zeros((), dtype=torch.float64), 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(torch.tensor(5.0, dtype=torch.float64)))
    with pyro.plate("school", len(sigma)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def sample_schools(folder, **options):
    return inference.sample(zoo.program(schools), *SCHOOLS, store=folder, **FEW | options)


def breaking(monkeypatch, where, at):
    """A run ends with an error after so many windows of warm-up, or before so many draws."""
    count = [0]
    real = course.Course.warmed if where == "warm-up" else Draws.take

    def counted(self, *arguments):
        count[0] += 1
        if where == "warm-up":
            real(self, *arguments)
        if count[0] == at:
            raise Broken
        if where == "draws":
            real(self, *arguments)

    monkeypatch.setattr(*((course.Course, "warmed") if where == "warm-up" else (Draws, "take")), counted)


def broken_off(monkeypatch, run, folder, where="draws", at=20, **options):
    with monkeypatch.context() as patch:
        breaking(patch, where, at)
        with pytest.raises(Broken):
            run(folder, **options)


def told(found):
    """All that came of a run but its times, and the values bit by bit."""
    plain = {n: v for n, v in vars(found).items() if n not in ("draws", "stats", "seconds", "cpu")}
    values = {f"draws {name}": value.numpy().tobytes() for name, value in found.draws.items()}
    return plain | values | {f"stats {name}": value.numpy().tobytes() for name, value in found.stats.items()}


@pytest.mark.parametrize(("where", "at"), [("warm-up", 1), ("draws", 2), ("draws", 20)])
@pytest.mark.parametrize("run", [sample, pytest.param(sample_schools, marks=pytest.mark.slow)])
def test_chains_go_on_bit_for_bit(run, where, at, tmp_path, monkeypatch):
    whole = run(tmp_path / "whole")
    broken_off(monkeypatch, run, tmp_path / "run", where, at)
    torch.manual_seed(99)
    after = run(tmp_path / "run", resume=True)
    assert told(after) == told(whole)
    assert told(run(tmp_path / "run", resume=True)) == told(whole), "of a run that had ended nothing is done again"
    assert inference.reopen(tmp_path / "run").size == 24


@pytest.mark.slow
def test_looks_at_what_is_enough_go_on(tmp_path, monkeypatch):
    options = {"ess": 400, "draws": 300, "max_warmup": 400, "chains": 16}
    whole = sample_schools(tmp_path / "whole", **options)
    assert whole.size < 300
    broken_off(monkeypatch, sample_schools, tmp_path / "run", at=whole.size - 3, **options)
    assert told(sample_schools(tmp_path / "run", resume=True, **options)) == told(whole)


@pytest.mark.slow
def test_smaller_steps_are_gone_on_with(tmp_path, monkeypatch):
    """Of a run that dropped draws and took smaller steps, since a transition diverged: roads ask for that.

    Only chains that agreed after warm-up are given smaller steps: 16 do, and in steps that accept so few some diverge.
    """
    from inference.programs.outline import outline
    from inference.programs.sample import sampled
    from inference.running.deadline import Deadline
    from inference.running.quiet import quietly
    from inference.sampling.options import Run

    def run(folder, resume=False):
        wanted = Run(
            150, 16, "hmc", "auto", 1000, None, 1, 3, "graph", folder, False, None, (0.4, 0.99), resume=resume
        )  # fmt: skip
        with quietly(3):
            return sampled(outline(zoo.program(schools), SCHOOLS, {}), wanted, Deadline(None))

    whole = run(tmp_path / "whole")
    assert whole.target_accept == 0.99, "else nothing diverged or chains disagreed, and this tests nothing"
    with monkeypatch.context() as patch:
        real = Draws.take

        def take(self, points, stats):
            if self.count == 100:
                raise Broken
            real(self, points, stats)

        patch.setattr(Draws, "take", take)
        with pytest.raises(Broken):
            run(tmp_path / "run")
    assert told(run(tmp_path / "run", resume=True)) == told(whole)


@pytest.mark.parametrize("run", [sample, pytest.param(sample_schools, marks=pytest.mark.slow)])
def test_a_run_that_is_extended_equals_one_of_that_length(run, tmp_path):
    whole = run(tmp_path / "whole")
    run(tmp_path / "run", draws=18)
    assert told(run(tmp_path / "run", resume=True)) == told(whole)
    with pytest.raises(ValueError, match="draws: 24 of each chain are made already, and 20 were asked for"):
        run(tmp_path / "run", draws=20, resume=True)
    assert inference.reopen(tmp_path / "run").size == 24


def test_a_store_changes_no_more_than_last_digits(tmp_path):
    kept, plain = sample(tmp_path / "run"), inference.sample(*regression(), **FEW)
    for name, value in plain.draws.items():
        torch.testing.assert_close(kept[name], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_whole_draws_and_goes_on(number, tmp_path, monkeypatch):
    whole = sample(tmp_path / "whole")
    real = Draws.take

    def take(self, points, stats):
        real(self, points, stats)
        if self.count == 13:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    if number == signal.SIGTERM:
        signal.signal(number, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Draws, "take", take)
            with pytest.warns(UserWarning, match="interrupted: 13 of 24 draws"):
                found = sample(tmp_path / "run")
    finally:
        signal.signal(number, before)
    assert found.size == 13
    assert told(sample(tmp_path / "run", resume=True)) == told(whole)


def test_time_that_is_over_is_no_end(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        late = sample(tmp_path, max_seconds=1e-3)
    assert late.size == 1
    after = sample(tmp_path, resume=True)
    assert after.size == 24
    assert not any("of 24 draws" in note for note in after.notes)


def names(folder):
    return sorted(path.name for path in (folder / course.FOLDER).glob("*.json"))


def test_a_run_begins_where_nothing_is_there_and_does_not_go_on_unasked(tmp_path):
    whole = sample(tmp_path / "whole", resume=True)
    assert told(whole) == told(sample(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"holds draws already .*resume=True goes on"):
        sample(tmp_path / "whole")
    with pytest.raises(ValueError, match="resume: give store="):
        sample(None, resume=True)
    with pytest.raises(ValueError, match="resume: nuts"):
        sample(tmp_path / "x", resume=True, method="nuts")
    with pytest.raises(ValueError, match="resume: expected"):
        sample(tmp_path / "x", resume="yes")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1}, "of another run, seed: 0 there, 1 here"),
        ({"chains": 5}, "of another run, chains: 4 there, 5 here"),
        ({"thin": 2}, "of another run, thin: 1 there, 2 here"),
        ({"max_warmup": 50}, "of another run, max_warmup: 60 there, 50 here"),
    ],
)
def test_what_is_of_another_run_is_refused_by_name(options, words, tmp_path, monkeypatch):
    broken_off(monkeypatch, sample, tmp_path)
    before = names(tmp_path)
    with pytest.raises(inference.CheckpointError, match=words):
        sample(tmp_path, resume=True, **options)
    pair, data = regression()
    with pytest.raises(inference.CheckpointError, match="of another run, data: "):
        inference.sample(pair, data.but(y=data.y + 1), store=tmp_path, resume=True, **FEW)
    assert names(tmp_path) == before


def test_a_damaged_checkpoint_is_passed_over(tmp_path, monkeypatch):
    whole = sample(tmp_path / "whole")
    broken_off(monkeypatch, sample, tmp_path / "run")
    newest = tmp_path / "run" / course.FOLDER / names(tmp_path / "run")[-1]
    newest.with_suffix(".safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="going on from the checkpoint of step .*, which is whole"):
        assert told(sample(tmp_path / "run", resume=True)) == told(whole)


HOSTILE = {
    "no chains": lambda state: state.pop("chains"),
    "other chains": lambda state: state["chains"]["items"].update(z={"tensor": "/chains/centre"}),
    "a mode that is none": lambda state: state["chains"]["items"].update(mode="os.system"),
    "draws that are words": lambda state: state.update(drawing="all"),
    "no random numbers": lambda state: state["chains"]["items"].update(generator=None),
    "more draws than there are": lambda state: state["kept"]["items"].update(done=4000),
    "draws of nothing": lambda state: state["kept"]["items"].update(done="many"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_checkpoint_is_one_kind_of_error(case, tmp_path, monkeypatch):
    broken_off(monkeypatch, sample, tmp_path)
    for name in names(tmp_path):
        path = tmp_path / course.FOLDER / name
        record = json.loads(path.read_text())
        record.pop("checksum")
        HOSTILE[case](record["state"]["items"])
        path.write_bytes(packing.sealed(record))
    before = names(tmp_path)
    with pytest.raises(ValueError, match=r"checkpoint|draws|store"):
        sample(tmp_path, resume=True)
    assert names(tmp_path) == before
    assert inference.reopen(tmp_path).size > 15, "draws that were whole stay"


def test_a_disk_that_is_full_at_a_checkpoint_costs_a_warning(tmp_path, monkeypatch):
    whole = sample(tmp_path / "whole")

    def save(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packing, "save", save)
    with pytest.warns(UserWarning, match=r"No space left on device\); the run goes on, there is none yet"):
        found = sample(tmp_path / "run")
    assert told(found) == told(whole)
