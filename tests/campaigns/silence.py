"""Silence: of data that a pair simulates itself, how often does `inference.check` see a fault that is not there?

    python -m tests.campaigns.silence                  # 200 data sets of every pair: hours, most of them chains
    python -m tests.campaigns.silence gmm hmm -n 20    # some pairs, fewer data sets
    python -m tests.campaigns.silence --seconds 60     # as many data sets of each pair as that time lets begin

Each data set has 60 rows, is inferred by `inference.infer` at the defaults within half a minute, and judged; those that
`infer` does not trust say so themselves, and are only counted. P-values count at 0.01: so many alarms are right.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from dataclasses import dataclass, field

import torch

import inference
import zoo
from inference.data.check import check
from inference.data.learnable import check_learnable

REPEATS, ROWS, LEVEL = 200, 60, 0.01
BUDGET = 30.0  # seconds of `infer`
ALARMS = ("LOO-PIT", "PIT", "calibration", "rootogram", "prior predictive", "coverage", "bound", "scale", "divergences")


@dataclass
class Silence:
    """Of one pair: data sets judged and not trusted, findings counted, and those that were alarms."""

    name: str
    judged: int = 0
    untrusted: int = 0
    counted: int = 0
    alarms: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> bool:
        """Whether there are more alarms than four standard errors, and one, above the level."""
        expected = LEVEL * self.counted
        return len(self.alarms) > expected + 4 * expected**0.5 + 1

    def __str__(self) -> str:
        told = f"{self.name}: {self.judged} judged, {self.untrusted} not trusted; {len(self.alarms)} of {self.counted}"
        return f"{told} findings are alarms{': ' if self.alarms else ''}{', '.join(self.alarms)}"


def silence(name: str, repeats: int = REPEATS, seconds: float | None = None) -> Silence:
    """Judge so many data sets of a pair, or those that can be begun in so many CPU seconds."""
    found, began = Silence(name), time.process_time()
    for repeat in range(repeats):
        if seconds is not None and time.process_time() - began > seconds:
            break
        torch.manual_seed(repeat)
        pair = zoo.create(name, dtype=torch.float64)
        data, _ = pair.simulate(ROWS)
        try:
            check_learnable(check(pair, data))
        except ValueError:  # one class in all rows, say
            continue
        posterior = inference.infer(pair, data, budget=BUDGET, seed=repeat, progress=False)
        if not posterior.trusted and posterior.road != "points":
            found.untrusted += 1
            continue
        found.judged += 1
        for finding in inference.check(pair, data, posterior, seed=repeat):
            if finding.name.startswith(ALARMS):
                found.counted += 1
                if finding.state in ("look", "wrong"):
                    found.alarms.append(f"{finding.name} ({repeat})")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each pair; 1 where one of them raises too many alarms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="*", default=zoo.names())
    parser.add_argument("-n", "--repeats", type=int, default=REPEATS)
    parser.add_argument("--seconds", type=float)
    asked = parser.parse_args(arguments)
    wrong = False
    for name in asked.pairs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = silence(name, asked.repeats, asked.seconds)
        print(found, flush=True)
        wrong |= found.wrong
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
