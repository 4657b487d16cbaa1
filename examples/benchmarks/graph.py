"""Time of one fitting step: the traced graph against plain Pyro, interleaved, for every pair in its default shape.

    python examples/benchmarks/graph.py

One step is loss and every gradient at N = 128 observations of the pair's own making; medians of 15 rounds of 20 steps,
one thread. Tracing is not in the time, and is shown beside it.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time

import pyro
import torch

import zoo
from inference.fitting.objective import choose
from inference.fitting.step import Stepper

ROWS, ROUNDS, STEPS = 128, 15, 20


def timed(stepper, batch, weight, steps):
    began = time.process_time()
    for _ in range(steps):
        stepper(batch, weight)
    return (time.process_time() - began) / steps


def compare(name, rounds, steps):
    torch.manual_seed(0)
    pair = zoo.create(name)
    batch, _ = pair.simulate(ROWS)
    weight = torch.ones(())
    steppers = [Stepper(pair, choose(pair, batch), mode, fallback=False) for mode in ("graph", "off")]
    for stepper in steppers:
        stepper(batch, weight)
    # Interleaved, so that a drift of the machine's speed hits both alike.
    times = [[timed(stepper, batch, weight, steps) for stepper in steppers] for _ in range(rounds)]
    graph, plain = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(row[1] / row[0] for row in times)
    return graph, plain, ratio, steppers[0].trace_seconds


def main(rounds=ROUNDS, steps=STEPS):
    """Print the table; returns the smallest ratio of plain Pyro's time to the graph's."""
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, pyro {pyro.__version__}, python {platform.python_version()}, 1 thread")
    print("| pair | graph, ms CPU a step | plain Pyro | ratio | tracing, s |\n| --- | --- | --- | --- | --- |")
    ratios = []
    for name in zoo.names():
        graph, plain, ratio, tracing = compare(name, rounds, steps)
        ratios.append(ratio)
        print(f"| `{name}` | {1e3 * graph:.2f} | {1e3 * plain:.2f} | {ratio:.1f} | {tracing:.1f} |", flush=True)
    return min(ratios)


if __name__ == "__main__":
    sys.exit(main() <= 0)
