"""Is a leapfrog step worth compiling? By the seconds that are still to come, against those that compiling takes.

Both are told by counting, not by a clock, so that the same seed gives the same bits on a busy machine too. A recorded
step takes so much for each operation, and so much for each number that it writes; compiling it so much for each
operation, and loading the compiler. The constants are of 19 programs of Pyro's documentation with 64 chains on one core
(the step is told within a third for 17 of them); Inductor's code took 0.22 to 1.0 of a step's time, 0.45 in the median.
"""

from __future__ import annotations

from contextlib import suppress

import torch

from inference.sampling.density import Density
from inference.sampling.number import Written
from zoo.settings import Settings, settings

OPERATION, NUMBER = 3.2e-6, 1.6e-9  # seconds of a step
LOADING, EACH = 3.0, 0.06  # seconds of compiling: at all, and for each operation
SAVED = 0.5  # of a step's time


class Worth:
    """What a leapfrog step of many chains costs, and what compiling it would.

    Args:
        potential: the density.
        chains: how many.

    Attributes:
        step: seconds of a recorded step.
        compiling: seconds of compiling it.
    """

    def __init__(self, potential: Density, chains: int) -> None:
        seen = Written()
        point = torch.zeros(1, potential.size, dtype=potential.dtype, device=potential.device)
        with suppress(ValueError, RuntimeError), seen:  # what is wrong there, the starts will tell
            potential.value_and_gradient(point)
        self.step = OPERATION * seen.operations + NUMBER * seen.numbers * chains
        self.compiling = LOADING + EACH * seen.operations

    def pays(self, steps: float) -> bool:
        """Whether so many steps more repay compiling, `settings.worth_compiling` being as it is by default.

        Another value of that makes compiling dearer or cheaper in proportion.
        """
        price = settings.worth_compiling / Settings.worth_compiling
        return SAVED * steps * self.step > price * self.compiling
