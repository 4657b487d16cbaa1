"""Threads of one process: every public call beside every other, each as it comes alone.

    python -m tests.campaigns.threads

Each cell runs two kinds of work in two threads each, at once, and compares every result bit by bit with that of the
same call alone; then 200 mixed calls in 8 threads, with plain Pyro training in the main thread.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal

import inference
import zoo
from zoo.base import Batch
from zoo.threads.randomness import apart

Work = Callable[[], Any]


def bits(result: Any) -> list[bytes]:
    """The numbers of a result, to the last bit."""
    if isinstance(result, torch.Tensor):
        return [result.detach().numpy().tobytes()]
    if isinstance(result, np.ndarray):
        return [result.tobytes()]
    if isinstance(result, dict):
        return [part for name in sorted(result) for part in bits(result[name])]
    if isinstance(result, (tuple, list)):
        return [part for value in result for part in bits(value)]
    return [repr(result).encode()]


def kinds(folder: Path) -> dict[str, Work]:
    """The kinds of work, each a function of nothing with a result that can be compared."""
    faithful = Batch.of(zoo.datasets.load("faithful").x[:40])
    torch.manual_seed(0)
    mixture, x = zoo.create("gmm", features=2), torch.randn(60, 3)
    inference.fit(mixture, faithful, steps=60, compile="off")
    vae = zoo.create("gaussian_vae", features=3, latent=2, likelihood="gaussian")
    inference.fit(vae, x, steps=60, compile="off")
    series = zoo.create("autoregressive", order=1)
    walk = torch.randn(1, 80).cumsum(-1) / 10
    inference.fit(series, walk, steps=60, compile="off")
    mixture.save(folder / "gmm")
    given = inference.draw(mixture, faithful, 10)
    travelled = inference.draw(series, walk, 10)
    torch.manual_seed(1)

    def fit(mode: str) -> Any:
        pair = zoo.load(folder / "gmm")
        return inference.fit(pair, faithful, steps=10, seed=5, compile=mode).losses, pair.state_dict()

    def read() -> Any:
        posterior = inference.draw(mixture, faithful, 10, seed=3)
        return (
            dict(posterior.draws),
            inference.log_likelihood(mixture, posterior, faithful),
            inference.predict(mixture, posterior, faithful, seed=4),
        )

    def codes() -> Any:
        return inference.encode(vae, x, seed=2).mean, inference.reconstruct(vae, x, seed=2)

    def load() -> Any:
        return zoo.load(folder / "gmm").state_dict()

    def create() -> Any:
        with apart(0):  # without a seed it draws from torch's one generator, as plain Pyro here does
            return zoo.create("neural_autoencoder", features=3, latent=2).state_dict()

    def sample() -> Any:
        found = inference.sample(zoo.load(folder / "gmm"), faithful, 5, chains=2, max_warmup=10, seed=1)
        return dict(found.draws)

    def forecast() -> Any:
        return inference.forecast(series, travelled, walk, 5, seed=7)

    def exported() -> Any:
        found = inference.to_arviz(mixture, given, faithful)
        group = found["posterior"]
        return {str(name): np.asarray(group[name]) for name in group.data_vars}

    def estimated() -> Any:
        estimator = inference.Estimator("gmm", components=2, steps=10, random_state=0)
        return estimator.fit(faithful.x.numpy()).predict(faithful.x.numpy())

    def in_a_loop() -> Any:
        async def main() -> Any:
            return await asyncio.to_thread(partial(fit, "graph"))

        return asyncio.run(main())

    return {
        "fit, graph": partial(fit, "graph"),
        "fit, plain": partial(fit, "off"),
        "draw, score, predict": read,
        "encode, reconstruct": codes,
        "load": load,
        "create": create,
        "sample": sample,
        "forecast": forecast,
        "to_arviz": exported,
        "Estimator": estimated,
        "asyncio": in_a_loop,
    }


def plain_svi(steps: int, seed: int) -> Iterator[float]:
    """Losses of a user's own program under plain Pyro, drawn from torch's generator."""
    data = torch.linspace(-1, 1, 20)

    def model() -> None:
        loc = pyro.sample("loc", dist.Normal(0.0, 10.0))
        with pyro.plate("data", 20):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=data)

    pyro.clear_param_store()
    torch.manual_seed(seed)
    svi = SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(steps):
        yield svi.step()


def together(works: list[Work]) -> list[Any]:
    """Results, or the errors, of works begun in a thread each at the same moment."""
    gate = threading.Barrier(len(works))

    def begin(work: Work) -> Any:
        gate.wait()
        try:
            return work()
        except BaseException as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(begin, works))


def wrong(name: str, result: Any, alone: list[bytes]) -> str:
    """What is wrong with a result beside the others', or nothing."""
    if isinstance(result, BaseException):
        return f"{name}: {type(result).__name__}: {str(result)[:100]}"
    return "" if bits(result) == alone else f"{name}: other bits than alone"


def cells(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each pair of kinds, and what was wrong."""
    works = kinds(folder)
    alone = {name: bits(work()) for name, work in works.items()}
    for one, other in itertools.combinations_with_replacement(works, 2):
        names = [one, other, one, other]
        found = together([works[name] for name in names])
        told = (wrong(name, result, alone[name]) for name, result in zip(names, found, strict=True))
        yield f"{one} | {other}", [line for line in told if line]


def soak(folder: Path, calls: int = 200, threads: int = 8) -> list[str]:
    """Mixed calls in many threads beside plain Pyro training in this one: what was wrong."""
    works = kinds(folder)
    alone = {name: bits(work()) for name, work in works.items()}
    losses = list(plain_svi(300, 11))
    order = np.random.default_rng(0).permutation([list(works)[i % len(works)] for i in range(calls)]).tolist()
    told: list[str] = []

    def call(name: str) -> str:
        try:
            return wrong(name, works[name](), alone[name])
        except BaseException as error:
            return wrong(name, error, [])

    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(call, name) for name in order]
        rounds = 0
        while rounds == 0 or not all(future.done() for future in waiting):
            try:
                if list(plain_svi(300, 11)) != losses:
                    told.append("plain SVI: other losses than alone")
                if "AutoNormal.locs.loc" not in pyro.get_param_store():
                    told.append("plain SVI: its parameters are gone")
            except BaseException as error:
                told.append(wrong("plain SVI", error, []))
            rounds += 1
        told += [line for future in waiting if (line := future.result())]
    return told


def main() -> int:
    """Print the table; the number of wrong cells."""
    bad = total = 0
    with tempfile.TemporaryDirectory() as name:
        for cell, told in cells(Path(name)):
            total += 1
            bad += bool(told)
            for line in told:
                print(f"  {cell}: {line}", flush=True)
        told = soak(Path(name))
        print("\n".join(f"  soak: {line}" for line in told))
    print(f"threads: {bad} of {total} pairs of kinds wrong; soak of 200 calls in 8 threads: {len(told)} wrong")
    return bad + len(told)


if __name__ == "__main__":
    sys.exit(main() > 0)
