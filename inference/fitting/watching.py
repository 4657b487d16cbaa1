"""What a fit tells while it runs: reports, to whoever wants them.

A logger is any callable that takes a `Report`; two that write files are here. Loss, step size and time are known at
every step; the terms of the bound are worked out anew for a report, with draws of their own, so that steps keep their
speed and a fit that is watched is the fit that is not.

    bound per observation = sum of likelihood - sum of kl
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.fitting.objective import Objective
from inference.running import pieces
from inference.running.densities import run
from inference.running.quiet import quietly
from inference.running.width import width
from zoo.base import Batch, ModelGuide

_PARTICLES = 8  # behind the terms of a report


@dataclass(frozen=True)
class Report:
    """How a fit stands at a step.

    step: counted from 1. loss: minus the bound per observation, as the step saw it, in nats.
    likelihood: by observed site, the expected log likelihood per observation in nats; sites whose discrete latents were
        summed out together are one entry, `x+y`. kl: by latent site, its Kullback-Leibler divergence from the prior per
        observation in nats, of a global latent shared out among all; `globals` is that of global latents drawn as one.
    validation: minus the held-out bound per observation when it was last worked out; None before, or without such rows.
    learning_rate: the step size of Adam. seconds: since the fit began.
    """

    step: int
    loss: float
    likelihood: Mapping[str, float]
    kl: Mapping[str, float]
    validation: float | None
    learning_rate: float
    seconds: float

    def numbers(self) -> dict[str, float | None]:
        """All of it as named numbers; terms of the bound as `likelihood[x]` and `kl[z]`."""
        terms = {f"likelihood[{name}]": value for name, value in self.likelihood.items()}
        terms |= {f"kl[{name}]": value for name, value in self.kl.items()}
        known = {"loss": self.loss, "validation": self.validation, "learning_rate": self.learning_rate}
        return {"step": self.step, **known, "seconds": self.seconds, **terms}


Logger = Callable[[Report], "bool | None"]


class CSVLogger:
    """Writes a line a report into a file, which is whole after each of them.

        >>> import inference, zoo
        >>> data = zoo.datasets.load("faithful")
        >>> log = inference.CSVLogger("course.csv")  # doctest: +SKIP
        >>> inference.fit(zoo.create("gmm", features=2), data, loggers=[log], log_every=10)  # doctest: +SKIP

    Args:
        path: of the file to write.
        replace: write over a file that is there.
        resume: go on with a file that is there, of a fit that goes on: its lines stay up to the first step that is
            told now.

    Raises:
        ValueError: the file is there already, or its folder is not; of one to go on with, it is no such file.
    """

    def __init__(self, path: str | os.PathLike[str], replace: bool = False, resume: bool = False) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise ValueError(f"no folder '{self.path.parent}' to write '{self.path.name}' into")
        self._before = self._lines() if resume and self.path.is_file() else []
        if self.path.is_dir() or (self.path.exists() and not (replace or self._before)):
            raise ValueError(f"'{self.path}' is there already; replace=True (--replace) writes over it")
        self._columns: list[str] | None = None

    def _lines(self) -> list[list[str]]:
        """What stands in the file; a line that a kill cut short is none."""
        text = self.path.read_text(encoding="utf-8")
        lines = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))
        if lines and (lines[0][:2] != ["step", "loss"] or not all(line[0].isdigit() for line in lines[1:])):
            raise ValueError(f"'{self.path}' is no course of a fit to go on with")
        return lines

    def __call__(self, report: Report) -> None:
        """Append the report; the first one writes the names of the columns above it."""
        found = report.numbers()
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        first = self._columns is None
        if self._columns is None:
            self._columns = self._before[0] if self._before else list(found)
            writer.writerow(self._columns)
            writer.writerows(line for line in self._before[1:] if int(line[0]) < report.step)
        writer.writerow("" if (value := found.get(name)) is None else f"{value:.9g}" for name in self._columns)
        with self.path.open("w" if first else "a", newline="", encoding="utf-8") as file:
            file.write(text.getvalue())


class TensorBoardLogger:
    """Writes reports as scalars for TensorBoard: `tensorboard --logdir FOLDER` shows them.

    Args:
        folder: where the events go; runs side by side want folders of their own.

    Raises:
        ValueError: TensorBoard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError("TensorBoardLogger needs tensorboard: pip install 'pyro-zoo[tensorboard]'") from error
        self._writer: Any = SummaryWriter(os.fspath(folder))

    def __call__(self, report: Report) -> None:
        """Write the report's numbers at its step."""
        for name, value in report.numbers().items():
            if name != "step" and value is not None:
                self._writer.add_scalar(name.replace("[", "/").removesuffix("]"), value, report.step)
        self._writer.flush()


class Watch:
    """Reports to loggers at the first step, then every so many, and at the last.

    Args:
        loggers: whom to tell.
        every: steps between two reports.
        began: when the fit did, by `time.perf_counter`.
    """

    def __init__(self, loggers: Sequence[Logger], every: int, began: float) -> None:
        self.loggers, self.every, self.began = loggers, every, began

    @property
    def spent(self) -> float:
        """Seconds since the fit began."""
        return time.perf_counter() - self.began

    def due(self, step: int, last: bool) -> bool:
        """Whether the loggers want to hear of this step, counted from 0."""
        return bool(self.loggers) and (last or step == 0 or (step + 1) % self.every == 0)

    def tell(
        self,
        pair: ModelGuide,
        objective: Objective,
        batch: Batch,
        step: int,
        loss: float,
        rate: float,
        validation: float | None,
    ) -> bool:
        """Tell all loggers how the fit stands; True when one of them wants it to stop."""
        likelihood, kl = terms(pair, objective, batch, step)
        report = Report(step + 1, loss, likelihood, kl, validation, rate, self.spent)
        return any([logger(report) for logger in self.loggers])  # noqa: C419 - tell every one


def terms(
    pair: ModelGuide, objective: Objective, batch: Batch, seed: int, particles: int = _PARTICLES
) -> tuple[dict[str, float], dict[str, float]]:
    """The terms of the ELBO on these rows, per observation: log likelihoods by observed site, divergences by latent.

    Divergences in closed form where the objective takes them so, else means over draws of the guide.

    Args:
        pair: the pair.
        objective: of the fit.
        batch: B of N observations; divergences of global latents count 1/N to each.
        seed: of the draws.
        particles: their number.
    """
    likelihood: dict[str, float] = {}
    kl: dict[str, float] = {}
    globals_: dict[str, float] = {}
    latents = pair.sites()
    with quietly(seed, pair):
        for _, piece in pieces.chunks(batch, pieces.rows_at_once(batch, width(pair, batch), particles)):
            found = run(pair, piece, particles, analytic=objective.estimator == "mean_field")
            share = piece.size / batch.size
            for name, value in found.sites.items():
                likelihood[name] = likelihood.get(name, 0.0) + float(value.mean(0).sum()) / batch.size
            for name, value in found.local_kl.items():
                kl[name] = kl.get(name, 0.0) + float(value.mean(0).sum()) / batch.size
            for name, value in found.global_kl.items():
                globals_[name] = globals_.get(name, 0.0) + share * float(value.mean()) / batch.total
    own = [name for name in globals_ if name in latents]
    if len(own) < len(globals_):  # drawn together, as part of one vector, whose density is that of all
        globals_ = {own[0] if len(own) == 1 else "globals": sum(globals_.values())}
    return likelihood, kl | globals_
