"""Posteriors of one pair given one set of data after the other, all of the same shape: what is recorded is kept.

On the Gaussian road the graph of the log density takes the data as arguments, so that it is recorded once for all
simulations. Other roads begin anew each time, from a copy of the pair as it was. Whether that graph is tried at all is
told by the road of the first simulation, so that none depends on which came before it, or in which process.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from inference.fitting.fit import fit
from inference.posterior.draws import draw
from inference.posterior.latents import Posterior
from inference.roads.evaluating import Evaluated
from inference.roads.infer import infer
from inference.roads.roads import by_gaussian
from inference.running.checked import Checked
from inference.running.quiet import quietly
from inference.sampling import starts
from inference.sampling.potential import Potential
from inference.sampling.sample import sample
from zoo.base import Batch, ModelGuide

Road = Literal["infer", "fit", "sample"]


@dataclass(frozen=True)
class Refit:
    """Draws of one posterior.

    Args:
        draws: global latents by site, (S, *event), in random order.
        road: that they came by.
    """

    draws: dict[str, Tensor]
    road: str


class Fed(Potential):
    """The log density of a pair whose data are what it holds, `held`, and may change.

    Args:
        given: the pair and the first data.
    """

    @property
    def held(self) -> tuple[Tensor, ...]:
        """The data, field by field."""
        return tuple(self.batch.fields().values())

    def feed(self, batch: Batch) -> None:
        """Take other data, of the same shapes."""
        self.batch = batch

    def value_and_gradient(self, points: Tensor, *held: Tensor) -> tuple[Tensor, Tensor]:
        """The log density given data, and its gradient: (S, P) -> (S,), (S, P)."""
        kept = self.batch
        try:
            if held:
                self.batch = kept.but(**dict(zip(kept.fields(), held, strict=True)))
            return super().value_and_gradient(points)
        finally:
            self.batch = kept


class Refits:
    """Draws of the globals' posterior, of one set of data after the other.

    Args:
        given: the pair, whose constants stay, and data like those to come.
        road: `infer`, `fit`, or `sample`.
        draws: of each posterior, S.
        options: of `inference.fit` or `inference.sample`.
    """

    def __init__(self, given: Checked, road: Road, draws: int, options: dict[str, Any]) -> None:
        self.given, self.road, self.draws, self.options = given, road, draws, options
        self._density: Evaluated | None = None
        self.gaussian = False  # whether the first went that road

    def __call__(self, batch: Batch, seed: int) -> Refit:
        """The posterior of these data.

        Raises:
            SamplingError, NonFiniteError, ValueError: there are no draws.
        """
        if self.gaussian and (found := self._again(batch, seed)) is not None:
            return found
        pair = copy.deepcopy(self.given.pair)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = self._anew(pair, batch, seed)
        road = str(getattr(made, "road", self.road))
        return self._picked(made, seed, road)

    def _anew(self, pair: ModelGuide, batch: Batch, seed: int) -> Posterior:
        if self.road == "fit":
            fit(pair, batch, seed=seed, progress=False, **self.options)
            return draw(pair, batch, self.draws, stats=False, seed=seed)
        if self.road == "sample":
            return sample(pair, batch, seed=seed, progress=False, **self.options)
        return infer(pair, batch, draws=max(self.draws, 25), seed=seed, progress=False)

    def _again(self, batch: Batch, seed: int) -> Refit | None:
        """By the Gaussian road, by the graph that is there; None where its evidence does not hold."""
        with warnings.catch_warnings(), quietly(seed, self.given.pair):
            warnings.simplefilter("ignore")
            wide = batch.to(dtype=torch.float64)
            if self._density is None:
                pair = copy.deepcopy(self.given.pair).double()
                self._density = Evaluated(Fed(Checked(pair, wide, self.given.example, self.given.sites)))
            potential: Any = self._density.potential
            potential.feed(wide)
            centre = starts.centre(potential, potential.pair.initial(wide))
            made = by_gaussian(potential, centre, self.draws, seed, self._density)
        if made is None or not all(ground.holds for ground in made[0].grounds):
            return None
        return self._picked(made[0], seed, "Gaussian")

    def _picked(self, made: Posterior, seed: int, road: str) -> Refit:
        """So many draws, of all chains and far from each other."""
        total = made.chains * made.size
        picked = np.linspace(0, total - 1, min(self.draws, total)).round().astype(int)
        order = torch.as_tensor(np.random.default_rng(seed).permutation(picked))
        across = {n: v.transpose(0, 1).flatten(0, 1) for n, v in made.draws.items() if n in made.globals}
        known = self.given.sites
        return Refit({n: v[order] for n, v in across.items() if n in known and not known[n].observed}, road)
