"""Is the density of a model that of its simulations? Chains that begin at the truth, and so need not be long.

The truth behind simulated data is a draw of their posterior. A chain through it, as many steps before it as after it as
chance says, has it at any place with the same probability, and so at any rank: exactly, however slowly the chain moves,
as long as each step leaves the posterior as it is and can be turned round (Gandy & Scott 2020, "Unit testing for MCMC
and other Monte Carlo methods"; the joint test is that of Geweke 2004, "Getting it right"). No guide and no fit has a
part in it: what it finds is a fault of the model's code, of its density or of its draws. The step sizes and the metric
are the same for all simulations.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor

from inference.checking.refits import Fed, Refit
from inference.roads.evaluating import Evaluated
from inference.roads.gaussian import gaussian
from inference.running.checked import Checked
from inference.running.quiet import quietly
from inference.sampling import starts
from inference.sampling.chains import SamplingError
from inference.sampling.hamiltonian import Metric, leapfrog, stand, transition
from zoo.base import Batch

STEPS = 6  # of a trajectory
LENGTH = 0.6  # of a step, times P^(-1/4), where the posterior has unit scale


class Joint:
    """Chains through the latents behind simulated data.

    Args:
        given: the pair, whose constants stay, and data like those to come.
        draws: states of a chain besides the truth, L.
        seed: of what the metric is found by.
    """

    def __init__(self, given: Checked, draws: int, seed: int) -> None:
        wide = given.batch.to(dtype=torch.float64)
        pair = copy.deepcopy(given.pair).double()
        self.draws = draws
        self.potential = Fed(Checked(pair, wide, given.example.to(dtype=torch.float64), given.sites))
        self.density = Evaluated(self.potential)
        with warnings.catch_warnings(), quietly(seed, pair):
            warnings.simplefilter("ignore")
            self.metric = self._metric(seed)

    def _metric(self, seed: int) -> Metric:
        """Of a Gaussian near the first posterior, else that of the prior."""
        centre = starts.centre(self.potential, {})
        if self.potential.size <= 50:
            try:
                guide = gaussian(self.potential, centre, seed, self.density).guide
            except SamplingError:
                pass
            else:
                return Metric(guide.loc, torch.linalg.cholesky(guide.tril @ guide.tril.mT))
        return Metric(centre.double(), self.potential.prior(400).double().std(0).clamp(min=1e-6))

    def __call__(self, batch: Batch, truth: dict[str, Tensor], seed: int) -> Refit:
        """The other states of the chain through the truth, of global latents, (L, *event).

        Raises:
            SamplingError: the density is not finite at the truth.
        """
        potential, size = self.potential, self.potential.size
        with quietly(seed, potential.pair):
            potential.feed(batch.to(dtype=torch.float64))
            values = {block.name: truth[block.name].double()[None] for block in potential.blocks}
            z = self.metric.into(potential.free(values)).expand(2, size)  # one goes on, one goes back
            step = self._bound()
            state = stand(step, z, torch.zeros(2, 1, dtype=torch.float64))
            if not bool(state.log_density.isfinite().all()):
                raise SamplingError("the log density is not finite at latents that data were simulated from")
            after = int(torch.randint(self.draws + 1, ()))
            states = []
            for _ in range(max(after, self.draws - after)):
                length = LENGTH * size**-0.25 * float(torch.rand(())) * 2
                sizes = torch.full((2, 1), length, dtype=torch.float64)
                uniform = torch.rand(2, dtype=torch.float64).log()
                noise = torch.randn(2, size, dtype=torch.float64)
                state, _ = transition(step, state, noise, uniform, sizes, STEPS)
                states.append(state.z)
            both = torch.stack(states)  # (T, 2, P)
            chosen = torch.cat([both[:after, 0], both[: self.draws - after, 1]])
            found, _ = potential.constrain(self.metric.out(chosen))
        return Refit({name: value for name, value in found.items() if name not in potential.local}, "joint")

    def _bound(self) -> Any:
        """A leapfrog step by the graph that is there; where the density is not finite it leads nowhere."""
        plain = leapfrog(self.density)

        def step(*rest: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            found: tuple[Tensor, Tensor, Tensor, Tensor] = plain(self.metric.centre, self.metric.scale, *rest)
            return found

        return step
