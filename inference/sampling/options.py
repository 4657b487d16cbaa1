"""What `sample` can be asked for, checked once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from inference.compiling.compiled import Mode
from inference.compiling.fallback import choose_mode
from inference.running.words import check_bool, check_count, check_number, told
from inference.sampling.adaptation import ACCEPTANCE
from inference.sampling.density import Density
from zoo.state.memory import check_room

CHECKED = 100  # transitions of the first window of warm-up that may be the last; each further one is twice as long
Start = Literal["auto", "prior", "jitter", "guide"]
Compile = Literal["auto", "inductor", "graph", "off"]
Method = Literal["hmc", "nuts"]


@dataclass(frozen=True)
class Run:
    """What `sample` is asked for, checked; see there.

    Args:
        targets: acceptances that steps are tuned to: each further one is for draws of which none may diverge.
        least: draws of all chains together before which `ess` is not looked at.
        resigns: whether to end where `draws` will by far not reach `ess`.
        resume: go on with the draws of the folder.
        sized: whether there are fewer chains where the density is large; see `inference.sampling.number`.

    Raises:
        ValueError: an option out of range, or a folder that cannot be written into or holds draws already.
    """

    draws: int
    chains: int
    method: Method
    start: Start
    max_warmup: int
    max_seconds: float | None
    thin: int
    seed: int
    compile: Compile
    store: str | Path | None
    progress: bool
    ess: int | None = None
    targets: tuple[float, ...] = (ACCEPTANCE,)
    least: int = 1
    resigns: bool = False
    sized: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        check_bool("progress", self.progress)
        self._check_resume()
        for name in ("draws", "chains", "max_warmup", "thin"):
            check_count(name, getattr(self, name), 1)
        if self.ess is not None:
            check_count("ess", self.ess, 1)
            if self.method == "nuts":
                raise ValueError(
                    "ess: nuts makes the draws it is asked for; method='hmc' can stop when they are enough"
                )
        for target in self.targets:
            check_number("target_accept", target)
            if not 0 < target < 1:
                raise ValueError(f"target_accept: expected a number between 0 and 1, got {target!r}")
        if self.method == "nuts" and self.targets != (ACCEPTANCE,):
            raise ValueError("target_accept: nuts, a reference, keeps Pyro's own; method='hmc' takes another")
        if self.max_seconds is not None:
            check_number("max_seconds", self.max_seconds)
            if self.method == "nuts":
                raise ValueError("max_seconds: nuts cannot be stopped between its draws; method='hmc' can")
        if not isinstance(self.store, (str, os.PathLike, type(None))):
            raise ValueError(f"store: expected the path of a folder, got {told(self.store)}")
        for name, options in (("method", Method), ("start", Start), ("compile", Compile)):
            if getattr(self, name) not in get_args(options):
                got = getattr(self, name)
                raise ValueError(f"{name}: expected one of {', '.join(get_args(options))}, got {got!r}")

    def _check_resume(self) -> None:
        check_bool("resume", self.resume)
        if self.resume and self.store is None:
            raise ValueError("resume: give store=, the folder to go on in")
        if self.resume and self.method == "nuts":
            raise ValueError("resume: nuts, a reference, cannot go on; method='hmc' can")

    @property
    def folder(self) -> Path | None:
        """Where draws are written."""
        return None if self.store is None else Path(self.store)

    def check_room(self, potential: Density) -> None:
        """Refuse chains, or draws of them, that memory does not hold."""
        each = potential.size * potential.dtype.itemsize
        check_room("chains", self.chains, self.chains * each)
        draws = self.draws if self.store is None else 1
        check_room("draws", draws, self.chains * draws * each)

    @property
    def mode(self) -> Mode:
        """How the leapfrog step is to run, to begin with."""
        runs = None if self.max_seconds else 3 * (self.draws * self.thin + 2 * CHECKED)
        return choose_mode(self.compile, runs, compiles=torch.cuda.is_available())[0]
