"""Single simulations of a calibration: each follows from its number and the seed alone, in whichever process that is.

Latents come from the prior, and the posterior is that of the data simulated from them. Or, where data have been seen,
from a posterior given these, and the posterior is then that of both sets of data together: it is right where right
draws are, near what was seen (Säilynoja, Schmitt, Bürkner & Vehtari 2025, "Posterior SBC: simulation-based calibration
checking conditional on data").
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, Literal

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from inference.checking.joint import Joint
from inference.checking.refits import Refits, Road
from inference.posterior.latents import Posterior
from inference.posterior.likelihood import scores
from inference.running.checked import Checked
from inference.running.quiet import quietly
from inference.sampling.chains import SamplingError
from inference.sampling.store import evenly
from zoo.base import Batch, ModelGuide, sample_sites

COLUMNS = 12  # numbers of each latent that are ranked, at most
LIKELIHOOD = "log likelihood"


@dataclass(frozen=True)
class Made:
    """What one simulation gave: ranks by quantity, the mean of its data and the road taken; or why it gave none."""

    ranks: dict[str, int] = field(default_factory=dict)
    level: float = 0.0
    road: str = ""
    failed: str = ""


class Simulations:
    """Simulation i of a pair, as often as it is asked for.

    Args:
        pair: with its constants, which stay.
        template: data like those to simulate, without what is observed.
        like: checked data of the kind that posteriors are made of, simulated with what was seen.
        road, draws, options: of `Refits` or `Joint`.
        seed: of them all.
        seen: data that latents are drawn given, and which are part of all posteriors; None: from the prior.
        latents: draws given these, by site, (S, *event).
    """

    def __init__(
        self, pair: ModelGuide, template: Batch, like: Checked, road: Road | Literal["joint"], draws: int,
        options: dict[str, Any], seed: int, seen: Batch | None = None, latents: dict[str, Tensor] | None = None,
    ) -> None:  # fmt: skip
        self.pair, self.template, self.like, self.seed = pair, template, like, seed
        self.road, self.draws, self.options = road, draws, options
        self.seen, self.latents = seen, latents or {}
        self._maker: Joint | Refits | None = None
        self.gaussian: bool | None = None  # what the first simulation tells

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maker": None}  # a graph stays where it was recorded

    def simulated(self, i: int) -> tuple[Batch, dict[str, Tensor]]:
        """Data of simulation i, alone, and the latents behind them."""
        with quietly(self._seed(i), self.pair):
            fixed = {}
            if self.latents:
                count = len(next(iter(self.latents.values())))
                fixed = {name: value[i * 7919 % count] for name, value in self.latents.items()}  # far from each other
            return simulated(self.pair, self.template, fixed)

    def __call__(self, i: int) -> Made:
        """Make simulation i."""
        seed = self._seed(i)
        data, truth = self.simulated(i)
        whole = data if self.seen is None else joined(self.seen, data)
        try:
            maker = self._made_by()
            found = maker(whole, seed) if isinstance(maker, Refits) else maker(whole, truth, seed)
            ranks = _ranked(self.like.but(whole), found.draws, truth, seed)
        except (SamplingError, ValueError, RuntimeError) as error:
            return Made(failed=str(error).splitlines()[0])
        return Made(ranks, _level(data, self.like), found.road)

    def _seed(self, i: int) -> int:
        return (self.seed + i) % 2**63

    def _made_by(self) -> Joint | Refits:
        if self._maker is None:
            if self.road == "joint":
                self._maker = Joint(self.like, self.draws, self.seed)
            else:
                self._maker = Refits(self.like, self.road, self.draws, self.options)
        if isinstance(self._maker, Refits):
            self._maker.gaussian = bool(self.gaussian)
        return self._maker

    def all_of(self, numbers: Iterable[int], workers: int) -> Iterator[tuple[int, Made]]:
        """Simulations as they are done, in order where there is one process.

        Args:
            numbers: which; the first of all, 0, before the others, which its road tells about.
            workers: processes; 1 is this one.

        Raises:
            RuntimeError: a process died.
        """
        todo = list(numbers)
        if todo and todo[0] == 0:
            made = self(0)
            self.learn(made.road)
            yield todo.pop(0), made
        if workers == 1 or len(todo) < 2:
            for i in todo:
                yield i, self(i)
            return
        whole = pickle.dumps((self, torch.get_num_threads(), torch.get_default_dtype()))
        parts = [todo[k::workers] for k in range(min(workers, len(todo)))]
        with ProcessPoolExecutor(len(parts), get_context("spawn"), _begin, (whole,)) as pool:
            waiting = {pool.submit(_one, i): i for i in todo}
            try:
                for done in as_completed(waiting):
                    yield waiting[done], done.result()
            except BrokenProcessPool as error:
                raise RuntimeError(
                    "workers: a process ended before its simulations were done. A script that uses several has its "
                    "calls under `if __name__ == '__main__':`; else take workers=1, or fewer if memory is short"
                ) from error
            finally:
                for one in waiting:
                    one.cancel()

    def learn(self, road: str) -> None:
        """Note the road of the first simulation."""
        self.gaussian = road == "Gaussian"


_OWN: dict[str, Simulations] = {}  # of a process that makes some


def _begin(whole: bytes) -> None:
    """Take over what all simulations share."""
    os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    _OWN["all"], threads, dtype = pickle.loads(whole)  # noqa: S301 - made a moment ago by the process that began this
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)


def _one(i: int) -> Made:
    return _OWN["all"](i)


def joined(first: Batch, second: Batch) -> Batch:
    """Rows of both."""
    one, other = first.fields(), second.fields()
    size = first.size + second.size
    rows: dict[str, Any] = {name: torch.cat([value, other[name].to(value)]) for name, value in one.items()}
    return Batch(size, size, **rows)


def simulated(
    pair: ModelGuide, template: Batch, fixed: dict[str, Tensor] | None = None
) -> tuple[Batch, dict[str, Tensor]]:
    """Data like a batch that lacks them, and the latents behind them, by site; some of them given."""
    model = poutine.condition(pair.model, data=fixed) if fixed else pair.model
    sites = sample_sites(poutine.trace(model).get_trace(template))
    values = {name: site["value"] for name, site in sites.items() if not site["is_observed"] or name in (fixed or {})}
    made = {name: values.pop(name) for name in ("x", "y") if name in values}
    return template.but(**made), values


def _ranked(given: Checked, draws: dict[str, Tensor], truth: dict[str, Tensor], seed: int) -> dict[str, int]:
    """Ranks of true latents and of their log likelihood among draws, (S, ...); among ties by chance."""
    generator = np.random.default_rng(seed)
    both = {n: torch.cat([truth[n].detach()[None].to(v), v]) for n, v in draws.items() if n in given.globals}
    size = len(next(iter(both.values())))
    of = scores(given, Posterior({n: v[None] for n, v in both.items()}, size=size), seed=seed)[0].double().sum(-1)
    columns = {LIKELIHOOD: of}
    for name, value in both.items():
        flat = value.double().reshape(size, -1)
        for i in evenly(flat.shape[1], COLUMNS).tolist():
            columns[name if flat.shape[1] == 1 else f"{name}[{i}]"] = flat[:, i]
    return {name: rank(value.cpu().numpy(), generator) for name, value in columns.items() if _moves(value)}


def rank(values: np.ndarray[Any, Any], generator: np.random.Generator) -> int:
    """The rank of the first of S + 1 numbers among the others, from 0 to S; among equal ones by chance."""
    first, rest = values[0], values[1:]
    return int((rest < first).sum()) + int(generator.integers(0, int((rest == first).sum()) + 1))


def _moves(value: Tensor) -> bool:
    return bool(value.isfinite().all()) and bool((value[1:] != value[1]).any())


def _level(batch: Batch, given: Checked) -> float:
    """How high the data lie: their mean."""
    fields = batch.fields()
    return float(torch.stack([fields[n].double().nanmean() for n in given.observed if n in fields]).mean())
