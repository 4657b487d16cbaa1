"""C chains that walk on a pair's log density together: where they stand, under which metric, and one transition.

The leapfrog step is traced, compiled or plain Pyro, whichever works (`inference.compiling.fallback`); the algorithm is
that of `inference.sampling.hamiltonian`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from inference.compiling.compiled import Mode
from inference.compiling.fallback import Fallback, Fastest, choose_mode
from inference.running.deadline import Deadline
from inference.sampling.adaptation import ACCEPTANCE
from inference.sampling.density import Density
from inference.sampling.hamiltonian import Metric, Move, State, leapfrog, stand, transition
from inference.sampling.worth import Worth
from zoo.settings import settings

DENSE = 100  # most numbers that get a full covariance
STUCK = (
    "every chain diverges or stands still, however short its steps: the log density or its gradient is not smooth or "
    "not finite around the start. Look for a scale that may go to zero, use pair.double(), rescale the data, or start "
    "elsewhere (start='prior' or 'guide')"
)


class SamplingError(ValueError):
    """No chain can move, or none can start; the message says where and what to do."""


class Chains:
    """What warm-up and drawing share.

    Args:
        potential: what they walk on.
        number: of chains, C.
        seed: of momenta and acceptance.
        mode: how the leapfrog step runs.
        fallback: whether to go on in a slower mode where that one cannot be.
        deadline: when to stop at the latest.
    """

    state: State
    metric: Metric
    step: Callable[..., Any]  # one leapfrog step under that metric

    def __init__(
        self,
        potential: Density,
        number: int,
        seed: int,
        mode: Mode,
        fallback: bool,
        deadline: Deadline | None = None,
    ) -> None:
        self.potential, self.number, self.deadline = potential, number, deadline or Deadline()
        self.device = potential.device
        self.generator = torch.Generator(self.device).manual_seed(int(seed))
        self.fallback = Fallback(potential.name, "sampling", mode, fallback)
        self.leap = Fastest(leapfrog(potential.value_and_gradient, len(potential.held)), self.fallback)
        self.index = 0  # of the next trajectory
        self.target = ACCEPTANCE  # acceptance that steps are tuned to
        self.worth: Worth | None = None  # where it may be compiled, if that pays
        self.ahead = 0  # transitions that follow warm-up for certain
        self.moved = 0  # chains that started again elsewhere
        self.notes = list[str]()
        self.seconds = dict.fromkeys(("compile", "warmup", "draws"), 0.0)
        self.cpu = dict(self.seconds)

    @property
    def mode(self) -> Mode:
        """How the leapfrog step runs now."""
        return self.fallback.mode

    def stand(self, points: Tensor, metric: Metric) -> None:
        """Put the chains at free latents (C, P) under a metric: a step of no length.

        Raises:
            TraceError, CompileError: the mode was asked for, and cannot be.
        """
        self.metric = metric
        began, known = clock(), self.leap.seconds
        self.step = self.leap.bind(metric.centre, metric.scale, *self.potential.held)
        self.state = stand(self.step, metric.into(points), points.new_zeros(len(points), 1))
        if self.leap.seconds != known:
            self.spent("compile", began)

    def weigh(self, transitions: float, steps: float) -> None:
        """Compile the leapfrog step from here on if so many transitions to come, of so many steps, repay it."""
        if self.worth is None or self.mode != "graph" or not self.worth.pays(transitions * steps):
            return
        self.worth = None
        runs = max(settings.worth_compiling, settings.worth_recording)
        if choose_mode("auto", runs)[0] == "inductor":  # there is a compiler
            self.fallback.mode = "inductor"
            began = clock()
            none = torch.zeros_like(self.state.z)
            self.step(self.state.z, none, none, none[:, :1])
            self.spent("compile", began)

    def spent(self, what: str, began: tuple[float, float]) -> None:
        """Count the time since `began`."""
        now = clock()
        self.seconds[what] += now[0] - began[0]
        self.cpu[what] += now[1] - began[1]

    def move(self, size: Tensor, steps: int) -> Move:
        """One transition of all chains, of so many steps of sizes (C, 1)."""
        z = self.state.z
        noise = torch.randn(z.shape, dtype=z.dtype, device=self.device, generator=self.generator)
        log_uniform = torch.rand(len(z), dtype=z.dtype, device=self.device, generator=self.generator).log()
        self.state, move = transition(self.step, self.state, noise, log_uniform, size, steps)
        return move

    def sizes(self, size: float) -> Tensor:
        """One step size for all chains, (C, 1)."""
        return torch.full((self.number, 1), size, dtype=self.state.z.dtype, device=self.device)

    def first_size(self) -> Tensor:
        """Step sizes at which the chains accept one step, (C,).

        Raises:
            SamplingError: no chain does, however short the step.
        """
        state, size = self.state, self.sizes(1.0)
        for _ in range(60):
            move = self.move(size, 1)
            self.state = state
            refused = move.acceptance.unsqueeze(-1) < 0.5
            if not bool(refused.any()):
                break
            size = torch.where(refused, size / 2, size)
        if bool((size < 2.0**-50).all()):
            raise SamplingError(STUCK)
        return size.squeeze(-1)

    def points(self) -> Tensor:
        """Free latents where the chains stand, (C, P)."""
        return self.metric.out(self.state.z)


def unit(centre: Tensor, spread: Tensor, chains: int) -> Metric:
    """The metric of so much spread, each (P,): diagonal, or full where it has few numbers for so many chains."""
    dense = len(centre) <= min(DENSE, 25 * chains)
    return Metric(centre.contiguous(), spread.diag_embed() if dense else spread.contiguous())


def clock() -> tuple[float, float]:
    """Seconds on the wall and of this process."""
    return time.perf_counter(), time.process_time()
