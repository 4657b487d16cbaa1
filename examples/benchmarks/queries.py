"""Time of an exact query: ours against pgmpy's variable elimination, interleaved, and whether they agree.

    python examples/benchmarks/queries.py [NETWORK ...] [--folder FOLDER WITH .bif FILES]

The questions: the marginal of every node (thirty of them at most), and 20 conditionals of one node given one to four
others, drawn at random. Each is asked by both in turn, for some rounds; a time is the median over questions of the
median over rounds, CPU time of one thread. `first` is the first time that a question is asked, when the order of
elimination is still to be found. Then 1,000 rows that the network makes are asked at once, as a frame, about one node
given four others, and given all others, three in ten cells missing; beside it 50 of these rows one at a time, each
asked before. Networks come with pgmpy 1.0, from `--folder`, or (asia) with us; without pgmpy its
columns stay empty.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import logging
import platform
import statistics
import tempfile
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import opt_einsum
import pandas as pd
import torch

from inference.questions.queries import query
from zoo.graphs.bayesian_network import BayesianNetwork
from zoo.parts.networks import factors

NETWORKS = ("asia", "child", "alarm", "insurance", "hailfinder", "win95pts")
ROUNDS, CONDITIONALS, MARGINALS = 7, 20, 30
ROWS, HOLES = 1000, 0.3


def find(name, folder, scratch):
    """The path of a network's file, or None."""
    if folder is not None and (folder / f"{name}.bif").exists():
        return folder / f"{name}.bif"
    found = importlib.util.find_spec("pgmpy")
    packed = Path(found.origin).parent / f"utils/example_models/{name}.bif.gz" if found and found.origin else None
    if packed is not None and packed.exists():
        (scratch / f"{name}.bif").write_bytes(gzip.decompress(packed.read_bytes()))
        return scratch / f"{name}.bif"
    return "asia" if name == "asia" else None


def questions(pair, seed=0):
    """(variable, evidence) pairs that have an answer."""
    rng = np.random.default_rng(seed)
    states = {column.name: column.categories for column in pair.schema}
    asked = [(str(name), {}) for name in rng.permutation(list(states))[:MARGINALS]]
    number = len(asked) + CONDITIONALS
    while len(asked) < number:
        node, *given = map(str, rng.permutation(list(states))[: rng.integers(2, 6)])
        evidence = {other: states[other][rng.integers(len(states[other]))] for other in given}
        try:
            query(pair, None, node, evidence)
        except ValueError:  # of probability zero
            continue
        asked.append((node, evidence))
    return asked


def timed(function):
    began = time.thread_time()
    result = function()
    return 1e3 * (time.thread_time() - began), result


def peer_of(path):
    """A function that asks pgmpy, or None."""
    if importlib.util.find_spec("pgmpy") is None or path == "asia":
        return None
    from pgmpy.inference import VariableElimination
    from pgmpy.readwrite import BIFReader

    model = BIFReader(str(path)).get_model()
    for table in model.get_cpds():
        table.normalize()  # as ours are: published rows are off one by a millionth
    elimination = VariableElimination(model)
    return lambda node, evidence: elimination.query([node], evidence=evidence, show_progress=False)


def compare(path, rounds):
    """Milliseconds of ours again, ours at first, the peer's; the largest difference of a probability."""
    pair, peer = BayesianNetwork.from_bif(path), peer_of(path)
    rows, error = [], 0.0
    for node, evidence in questions(pair):
        factors.plan.cache_clear()
        first, answer = timed(lambda node=node, evidence=evidence: query(pair, None, node, evidence))
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(timed(lambda node=node, evidence=evidence: query(pair, None, node, evidence))[0])
            if peer is not None:
                theirs.append(timed(lambda node=node, evidence=evidence: peer(node, evidence)))
        if theirs:
            told = theirs[0][1]
            wanted = [told.get_value(**{node: state}) for state in answer.states[0]]
            error = max(error, float(np.abs(answer.mean.numpy() - wanted).max()))
        peers = statistics.median(t for t, _ in theirs) if theirs else float("nan")
        rows.append((statistics.median(ours), first, peers))
    return [statistics.median(column) for column in zip(*rows, strict=True)], error, pair, len(rows), peer is not None


def many(pair, seen, rounds, rows=ROWS, seed=0):
    """Milliseconds a row of a frame, and of one question at a time; the largest difference of a probability."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    node, *others = map(str, rng.permutation(list(pair.schema.names)))
    frame = pd.DataFrame(pair.schema.decode(pair.simulate(rows)[0].x.numpy()))[others[:seen]]
    frame = frame.mask(rng.random(frame.shape) < HOLES)
    query(pair, None, node, frame)
    times, answers = zip(*(timed(lambda: query(pair, None, node, frame)) for _ in range(rounds)), strict=True)
    alone, error = [], 0.0
    for row in range(0, rows, max(1, rows // 50)):
        evidence = {name: cell for name, cell in frame.iloc[row].items() if not pd.isna(cell)}
        query(pair, None, node, evidence)
        taken, answer = timed(lambda evidence=evidence: query(pair, None, node, evidence))
        alone.append(taken)
        error = max(error, float((answer.mean - answers[0].mean[row]).abs().max()))
    return statistics.median(times) / rows, statistics.median(alone), error


def main(arguments=None):
    """Print the tables; returns the largest difference between the two programs, and between one row and many."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    try:
        peer = f"pgmpy {version('pgmpy')}"
    except PackageNotFoundError:
        peer = "no pgmpy"
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, opt_einsum {opt_einsum.__version__}, {peer}; "
        f"{platform.machine()}, one thread, CPU milliseconds, median of {options.rounds} rounds\n"
    )
    print("| network | nodes | cells | questions | ours | ours, first | pgmpy | pgmpy / ours | largest difference |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    worst = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.networks:
            path = find(name, options.folder, Path(scratch))
            if path is None:
                print(f"| {name} | not found: give --folder, or install pgmpy 1.0 | | | | | | | |")
                continue
            (again, first, other), error, pair, count, asked = compare(path, options.rounds)
            cells = sum(table.size for table in pair.network.known.values())
            beside = f"{other:.2f} | {other / again:.1f} | {error:.1e}" if asked else " | | "
            print(
                f"| {name} | {len(pair.schema)} | {cells:,} | {count} | {again:.2f} | {first:.2f} | {beside} |",
                flush=True,
            )
            worst = max(worst, error)
        print(f"\n| network | evidence | {ROWS:,} rows, a row | one question | many / one | largest difference |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for name in options.networks:
            path = find(name, options.folder, Path(scratch))
            pair = BayesianNetwork.from_bif(path) if path is not None else None
            for seen in (4, len(pair.schema) - 1) if pair is not None else ():
                row, one, error = many(pair, seen, options.rounds)
                print(f"| {name} | {seen} nodes | {row:.3f} | {one:.2f} | {row / one:.3f} | {error:.1e} |", flush=True)
                worst = max(worst, error)
    return worst


if __name__ == "__main__":
    main()
