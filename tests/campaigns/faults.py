"""Faults in a fit: what is not finite is skipped and said, or an error of one line; no broken result is called good.

    python tests/campaigns/faults.py    # 24 faults; a table

Gradients that are NaN at one step, at every other one, in all; step sizes of 1e3 and 1e30; a likelihood of minus
infinity; callbacks that raise; each with plain Pyro and as a graph. A cell is right where

- parameters stay finite, whatever comes, and the pair is left in evaluation mode;
- steps that were not applied are counted in the repr, the card and one warning, and are an error (`NonFiniteError`, one
  line) where they are more than half;
- a loss that ends far above its start is not called "all steps done";
- what a callback raises arrives as it is, but for an interrupt, which ends the fit.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import pyro  # noqa: E402
import pyro.distributions as dist  # noqa: E402
import torch  # noqa: E402

import inference  # noqa: E402
import zoo  # noqa: E402
from zoo.base import Batch, ModelGuide  # noqa: E402

MODES = ("off", "graph")


@dataclass(frozen=True)
class Cell:
    """One fault, and what is wrong with what came of it."""

    fault: str
    mode: str
    wrong: str


class Worth(dist.Normal):
    """A normal whose log density is `worth` more."""

    def __init__(self, loc: Any, scale: Any, worth: Any, **options: Any) -> None:
        super().__init__(loc, scale, **options)
        self.worth = worth

    def expand(self, batch_shape: Any, _instance: Any = None) -> Worth:
        return Worth(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.worth)

    def log_prob(self, value: Any) -> Any:
        return super().log_prob(value) + self.worth


class Poisoned(ModelGuide):
    """A normal mean whose gradient is NaN while `flag` is 0, and whose likelihood is `worth` a row more."""

    def __init__(self) -> None:
        super().__init__()
        for name, value in (("zero", 0.0), ("flag", 1.0), ("worth", 0.0)):
            self.register_buffer(name, torch.tensor(value))

    def model(self, batch: Batch) -> Any:
        loc = pyro.sample("loc", dist.Normal(self.zero, 2.0))
        # The square root has the slope 1/0 at 0, and 0 times infinity is NaN: the value stays what it is.
        mean = loc + 0 * ((self.flag * loc) ** 2).sqrt()
        with batch.plate():
            return pyro.sample("x", Worth(mean, 1.0, self.worth), obs=batch.x)


def poison(name: str, value: float, at: Callable[[int], bool]) -> Callable[[int, float, ModelGuide], None]:
    """A callback that sets a buffer of the pair for the steps that follow, where `at` says so, and else unsets it."""

    def callback(step: int, _: float, pair: ModelGuide) -> None:
        buffer = pair.get_buffer(name)
        buffer.fill_(value if at(step + 1) else float(name == "flag"))

    return callback


def fitted(mode: str, steps: int, **options: Any) -> tuple[Any, ModelGuide, list[str], BaseException | None]:
    """A fit of `Poisoned`: what it returned, the pair, the warnings, the error."""
    torch.manual_seed(0)
    pair = options.pop("pair", None) or Poisoned()
    x = options.pop("x", torch.randn(40, generator=torch.Generator().manual_seed(0)) + 1)
    first = options.pop("first", None)
    if first is not None:
        first(-1, 0.0, pair)
    found, error = None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = inference.fit(pair, x, steps=steps, compile=mode, progress=False, device="cpu", **options)  # type: ignore[arg-type]
        except BaseException as raised:
            error = raised
    return found, pair, [str(one.message) for one in caught], error


def sound(pair: ModelGuide) -> str:
    """What is wrong with a pair after a fit, whatever came of that."""
    if not all(bool(value.isfinite().all()) for value in pair.parameters()):
        return "a parameter is not finite"
    return "the pair is left in training mode" if pair.training else ""


def skipped(mode: str, steps: int, at: Callable[[int], bool]) -> str:
    """Gradients that are NaN at these steps: counted, and an error where they are most."""
    change = poison("flag", 0.0, at)
    found, pair, said, error = fitted(mode, steps, callbacks=[change], first=change)
    count = sum(map(at, range(steps)))
    if wrong := sound(pair):
        return wrong
    if 2 * count > steps:
        return refused(error)
    if error is not None:
        return f"{type(error).__name__}: {error}"
    words = f"{count} of {steps} steps skipped"
    places = {"repr": repr(found), "warning": " ".join(said)}
    missing = [name for name, text in places.items() if words not in text]
    missing += ["card"] if pair.card["fit"].get("skipped_steps") != count else []
    if missing:
        return f"{words}: not in {', '.join(missing)}"
    return "" if len(said) == 1 else f"{len(said)} warnings"


def refused(error: BaseException | None) -> str:
    """What is wrong with an error that should be one line of ours."""
    if error is None:
        return "no error, though most steps failed"
    if not isinstance(error, inference.NonFiniteError):
        return f"{type(error).__name__}: {str(error).splitlines()[0]:.60}"
    return "" if "\n" not in str(error) else "more than one line"


def large_steps(mode: str, lr: float, name: str | None = None) -> str:
    """A step size that no fit survives: an error, or a loss that is said to have gone away."""
    more: dict[str, Any] = {}
    if name == "gaussian_vae":
        more = {"pair": zoo.create(name, features=64, hidden=(16,), likelihood="gaussian"), "x": torch.randn(40, 64)}
    if name == "gmm":
        more = {"pair": zoo.create(name, features=2), "x": zoo.datasets.load("faithful").x}
    found, pair, _, error = fitted(mode, 60, lr=lr, **more)
    if wrong := sound(pair):
        return wrong
    if error is not None:
        return refused(error)
    good = [loss for loss in found.losses.tolist() if math.isfinite(loss)]
    away = good[-1] > 10 * max(1.0, abs(good[0]))
    return (
        f"loss from {good[0]:.4g} to {good[-1]:.4g}, {found.reason!r}"
        if away and "diverged" not in found.reason
        else ""
    )


def hopeless(mode: str, steps: int) -> str:
    """A likelihood of minus infinity at every step."""
    change = poison("worth", -torch.inf, lambda _: True)
    _, pair, _, error = fitted(mode, steps, callbacks=[change], first=change)
    return sound(pair) or refused(error)


class Unlike(Exception):
    """What only a callback raises."""


def raising(mode: str, kind: type[BaseException]) -> str:
    """A callback that raises at the fourth step."""

    def callback(step: int, _: float, __: ModelGuide) -> None:
        if step == 3:
            raise kind("mine")

    found, pair, _, error = fitted(mode, 60, callbacks=[callback])
    if wrong := sound(pair):
        return wrong
    if kind is KeyboardInterrupt:
        return "" if found is not None and found.reason == "interrupted" else f"{error!r}"
    if pair.fitted:
        return "a fit that raised counts as one"
    return "" if type(error) is kind and str(error) == "mine" else f"{error!r}"


FAULTS: dict[str, Callable[[str], str]] = {
    "gradient NaN at step 0": lambda mode: skipped(mode, 60, lambda step: step == 0),
    "gradient NaN at step 30": lambda mode: skipped(mode, 60, lambda step: step == 30),
    "gradient NaN at every other step": lambda mode: skipped(mode, 60, lambda step: step % 2 == 1),
    "gradient NaN in 44 of 49 steps": lambda mode: skipped(mode, 49, lambda step: step % 10 != 0),
    "gradient NaN in all of 60": lambda mode: skipped(mode, 60, lambda _: True),
    "gradient NaN in all of 5": lambda mode: skipped(mode, 5, lambda _: True),
    "step size 1e3, gaussian_vae": lambda mode: large_steps(mode, 1e3, "gaussian_vae"),
    "step size 1e3, gmm": lambda mode: large_steps(mode, 1e3, "gmm"),
    "step size 1e30": lambda mode: large_steps(mode, 1e30),
    "likelihood minus infinity": lambda mode: hopeless(mode, 60),
    "callback raises": lambda mode: raising(mode, Unlike),
    "callback interrupts": lambda mode: raising(mode, KeyboardInterrupt),
}


def campaign(faults: Sequence[str] = tuple(FAULTS), modes: Sequence[str] = MODES) -> list[Cell]:
    """All cells of these faults."""
    return [Cell(fault, mode, FAULTS[fault](mode)) for fault in faults for mode in modes]


def told(cells: Sequence[Cell]) -> str:
    """A table: each fault and whether each way is right, and the wrong ones by line."""
    lines = [f"{'fault':<36} " + " ".join(f"{mode:>6}" for mode in MODES)]
    for fault in dict.fromkeys(cell.fault for cell in cells):
        mine = {cell.mode: "wrong" if cell.wrong else "right" for cell in cells if cell.fault == fault}
        lines.append(f"{fault:<36} " + " ".join(f"{mine.get(mode, ''):>6}" for mode in MODES))
    lines.append(f"{len(cells)} cells, {sum(bool(cell.wrong) for cell in cells)} wrong")
    lines += [f"  {cell.fault}, {cell.mode}: {cell.wrong}" for cell in cells if cell.wrong]
    return "\n".join(lines)


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    torch.set_num_threads(1)
    found = campaign()
    print(told(found))
    sys.exit(any(cell.wrong for cell in found))
