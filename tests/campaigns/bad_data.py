"""The campaign "bad data": every pair, each field of its data spoilt in each way, given to every door.

`python -m tests.campaigns.bad_data` from the project's folder prints how many answers there were and which are wrong;
`--pair NAME` takes one pair, `--every K` each K-th corruption only. On one core the whole takes some minutes.

Each spoilt field of 40 simulated observations goes to `fit`, bare where it can and in a Batch, and to draw, predict,
log_likelihood and to_arviz of a pair that was fitted to good data. An answer is right where it is a ValueError of this
project's own, raised before step one, that names field, row and column; or where it is finite and the model saw the
numbers that the data say. All else is wrong: another exception, a message from below, NaN, other numbers. Harmless
layouts of the same numbers must give the same bits, bare and in a Batch.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

import inference
import zoo
from inference.data.check import check
from tests.campaigns.corruptions import FEW, LAYOUTS, LESS, Given, corruptions, lengths
from tests.campaigns.judging import Wrong, check_finite, check_meaning, judge
from tests.helpers.pairs import NAMES
from zoo.base import Batch, ModelGuide

ROWS = 40
QUICK: dict[str, Any] = {"progress": False, "compile": "off", "device": "cpu"}
DOORS = ("fit", "draw", "predict", "log_likelihood", "to_arviz")
REALS: dict[str, dict[str, Any]] = {  # pairs whose defaults take 0 and 1, or categories, on real numbers
    "bayesian_vae": {"likelihood": "gaussian"},
    "gaussian_vae": {"likelihood": "gaussian"},
    "masked_autoregressive": {"likelihood": "gaussian"},
    "recurrent": {"emission": "gaussian"},
}


@dataclass
class Result:
    """What came of it: answers counted by door, and the wrong ones in words."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[str, str]] = field(default_factory=list)

    def add(self, door: str, where: str, reason: str) -> None:
        """An answer; `reason` is empty where it was right."""
        self.counts[door] += 1
        if reason:
            self.wrong.append((door, f"{where}: {reason}"))

    def table(self) -> str:
        """A line a door, then one a wrong answer."""
        bad = Counter(door for door, _ in self.wrong)
        lines = [f"{'door':<16}{'cells':>7}{'wrong':>7}"]
        lines += [f"{door:<16}{count:>7}{bad[door]:>7}" for door, count in self.counts.items()]
        lines.append(f"{'all':<16}{self.counts.total():>7}{bad.total():>7}")
        return "\n".join(lines + [f"{door}, {what}" for door, what in self.wrong])


@dataclass
class Subject:
    """A pair, good data for it, the same pair after a fit to them, and draws of that."""

    name: str
    pair: ModelGuide
    good: Batch
    fitted: ModelGuide
    posterior: inference.Posterior

    @classmethod
    def of(cls, name: str, steps: int = 200, **config: Any) -> Subject:
        """Of a pair made anew."""
        torch.manual_seed(0)
        pair = zoo.create(name, **config)
        good = pair.simulate(ROWS)[0]
        fitted = copy.deepcopy(pair)
        inference.fit(fitted, good, steps=steps, progress=False, device="cpu", compile="graph")
        label = ", ".join([name, *config.values()])
        return cls(label, pair, good, fitted, inference.draw(fitted, good, 5))

    def fields(self) -> Iterator[tuple[str, Given]]:
        """Each field, spoilt in each way."""
        for name, value in self.good.fields().items():
            array = value.numpy()
            if name == "lengths":
                yield from ((name, given) for given in lengths(array, self.good.x.shape[1]))
            else:
                row = 3 if self.good.lengths is None else int(self.good.lengths.argmax())
                steps = array.ndim == 2 and self.good.lengths is not None
                yield from ((name, given) for given in corruptions(array, row, steps, self.table(name)))

    def columns(self, name: str) -> tuple[str, ...] | None:
        """What the pair calls the columns of a field."""
        return self.pair.schema.names if self.pair.schema is not None and name == "x" else None

    def table(self, name: str) -> Callable[[np.ndarray], Any] | None:
        """Makes columns in the user's words of a field's numbers."""
        return self.pair.schema.decode if self.columns(name) else None

    def draws(self, data: Any) -> inference.Posterior:
        """Draws of the fitted pair: local latents have to be of these rows."""
        return inference.draw(self.fitted, data, 5) if self.posterior.local else self.posterior

    def data(self, name: str, value: Any) -> Callable[[bool], Any]:
        """The data with that field so, bare where asked for and possible, else as a Batch."""
        rows = FEW.get(value.name) if isinstance(value, Given) else None
        given = value.value if isinstance(value, Given) else value
        fields = {key: (other[:rows] if rows else other).numpy() for key, other in self.good.fields().items()}
        fields[name] = given

        def made(bare: bool) -> Any:
            if not bare or "lengths" in fields:
                return Batch.of(**fields)
            return fields["x"] if list(fields) == ["x"] else (fields["x"], fields["y"])

        return made


def bad(subject: Subject, result: Result, every: int = 1) -> None:
    """Each spoilt field to each door."""
    for i, (name, given) in enumerate(subject.fields()):
        if i % every:
            continue
        if given.name == LESS and len(subject.good.fields()) == 1:
            continue
        data = subject.data(name, given)
        columns = subject.columns(name)
        begun: list[int] = []
        for door in DOORS:
            call = partial(globals()[f"_{door}"], subject, data, name, given, begun)
            begun.clear()
            reason = judge(call, given, name, columns, begun)
            result.add(door, f"{subject.name}, {name}, {given.name}", reason)


def _see(pair: ModelGuide, data: Any, name: str, given: Given, complete: bool = True) -> None:
    check_meaning(getattr(check(pair, data, complete=complete).batch, name), given)


def _fit(subject: Subject, data: Callable[[bool], Any], name: str, given: Given, begun: list[int]) -> None:
    pair, bare = copy.deepcopy(subject.pair), data(True)
    finite = {key for key, value in pair.state_dict().items() if value.isfinite().all()}
    if not given.words:
        _see(pair, data(False), name, given)
    _see(pair, bare, name, given)
    fit = inference.fit(pair, bare, steps=3, callbacks=[lambda *step: begun.append(1)], **QUICK)
    begun.clear()
    check_finite({"losses": fit.losses}, "fit")
    check_finite({key: value for key, value in pair.state_dict().items() if key in finite}, "after the fit")
    posterior = inference.draw(pair, bare, 3)
    check_finite(posterior.draws, "after the fit, draw")
    check_finite(inference.predict(pair, posterior, bare), "after the fit, predict")


def _draw(subject: Subject, data: Callable[[bool], Any], name: str, given: Given, begun: list[int]) -> None:
    bare = data(True)
    _see(subject.fitted, bare, name, given)
    posterior = inference.draw(subject.fitted, bare, 5)
    check_finite(posterior.draws, "draw")
    _check_densities(subject, bare, posterior.stats, "draw")


def _predict(subject: Subject, data: Callable[[bool], Any], name: str, given: Given, begun: list[int]) -> None:
    bare = data(True)
    _see(subject.fitted, bare, name, given, complete=False)
    check_finite(inference.predict(subject.fitted, subject.draws(bare), bare), "predict")


def _log_likelihood(subject: Subject, data: Callable[[bool], Any], name: str, given: Given, begun: list[int]) -> None:
    bare = data(True)
    _see(subject.fitted, bare, name, given)
    scores = inference.log_likelihood(subject.fitted, subject.posterior, bare, particles=5)
    _check_densities(subject, bare, {"score": scores}, "log_likelihood")


def _to_arviz(subject: Subject, data: Callable[[bool], Any], name: str, given: Given, begun: list[int]) -> None:
    bare = data(True)
    idata = inference.to_arviz(subject.fitted, subject.draws(bare), bare, predictive=2)
    for group in idata.groups():
        values = {str(key): value.values for key, value in idata[group].data_vars.items()}
        if group not in ("observed_data", "constant_data"):
            finite = _check_densities if group in ("log_likelihood", "sample_stats") else _check_values
            finite(subject, bare, values, group)
        elif name in values:  # past the end of a series nothing is kept
            over = np.isnan(values[name]) & (_over(bare, values[name].shape) if name == "x" else False)
            seen = values[name] if given.meaning is None else np.where(over, given.meaning, values[name])
            check_meaning(torch.from_numpy(seen.astype(values[name].dtype)), given)


def _check_values(subject: Subject, data: Any, values: dict[str, Any], what: str) -> None:
    check_finite(_within(values, data), what)


def _check_densities(subject: Subject, data: Any, values: dict[str, Any], what: str) -> None:
    try:
        check_finite(values, what)
    except Wrong:
        if any(np.isnan(np.asarray(value)).any() for value in values.values()) or not _beyond(subject, data):
            raise


def _beyond(subject: Subject, data: Any) -> bool:
    """Whether the log density, worked out in double precision, is too low for single: minus infinity is right then."""
    pair, draws = copy.deepcopy(subject.fitted).double(), subject.posterior.draws
    posterior = replace(subject.posterior, draws={name: value.double() for name, value in draws.items()})
    scores = inference.log_likelihood(pair, posterior, data, particles=5)
    return bool(scores.isfinite().all()) and float(scores.sum(-1).min()) < float(np.finfo(np.float32).min)


def _over(data: Any, shape: tuple[int, ...]) -> Any:
    """Which cells of series of this shape, (N, T, …), lie past the end."""
    if not isinstance(data, Batch) or data.lengths is None:
        return False
    over = np.arange(shape[1]) >= np.asarray(data.lengths, dtype=float)[:, None]
    return over.reshape(*over.shape, *[1] * (len(shape) - 2))


def _within(values: dict[str, Any], data: Any) -> dict[str, Any]:
    """Predicted series, (chain, draw, N, T, …), without the steps past their ends, which are NaN."""
    if "x" not in values or values["x"].ndim < 4:
        return values
    return {**values, "x": np.where(_over(data, values["x"].shape[2:]), 0, values["x"])}


def harmless(subject: Subject, result: Result) -> None:
    """Each layout of the same numbers, through both doors: the same bits after two steps."""
    wanted = _trained(subject, subject.good)
    for layout, make in LAYOUTS.items():
        fields = {name: make(value.numpy()) for name, value in subject.good.fields().items()}
        before = {name: value.copy() for name, value in fields.items()}
        doors = {"Batch.of": lambda fields=fields: Batch.of(**fields)}
        if "lengths" not in fields or bool((subject.good.lengths == subject.good.x.shape[1]).all()):
            doors["bare"] = lambda fields=fields: (fields["x"], fields["y"]) if "y" in fields else fields["x"]
        for door, data in doors.items():
            try:
                found = _trained(subject, data())
                same = all(torch.equal(found[key], value) for key, value in wanted.items())
                kept = all(np.array_equal(fields[key], value) for key, value in before.items())
                reason = "" if same and kept else "other bits" if kept else "the array was written to"
            except Exception as error:  # none may be raised
                reason = f"{type(error).__name__}: {str(error)[:160]}"
            result.add("same bits", f"{subject.name}, {layout}, {door}", reason)


def _trained(subject: Subject, data: Any) -> dict[str, torch.Tensor]:
    pair = copy.deepcopy(subject.pair)
    inference.fit(pair, data, steps=2, **QUICK)
    return pair.state_dict()


def campaign(names: list[str], every: int = 1, steps: int = 200, report: Callable[[str], None] = str) -> Result:
    """All of it, for these pairs."""
    result = Result()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of data as odd as these there is much to say
        for name in names:
            for config in ({}, REALS[name]) if name in REALS else ({},):
                began, before, seen = time.perf_counter(), result.counts.total(), len(result.wrong)
                subject = Subject.of(name, steps, **config)
                bad(subject, result, every)
                harmless(subject, result)
                cells = result.counts.total() - before
                report(f"{subject.name}: {cells} cells, {time.perf_counter() - began:.0f} s")
                for door, what in result.wrong[seen:]:
                    report(f"  {door}: {what}")
    return result


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main(given: list[str] | None = None) -> int:
    """Run it and print the table; 1 where an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--pair", choices=NAMES, action="append", help="this one only (may be given again)")
    parser.add_argument("--every", type=int, default=1, help="each so many corruptions one")
    options = parser.parse_args(given)
    torch.set_num_threads(1)
    result = campaign(options.pair or NAMES, options.every, report=_say)
    _say(result.table())
    return int(bool(result.wrong))


if __name__ == "__main__":
    sys.exit(main())
