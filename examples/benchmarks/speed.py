"""CPU time of one step of `inference.fit`, beside Pyro's SVI, a PyTorch loop written by hand and NumPyro, interleaved.

    python examples/benchmarks/speed.py [--only NAME] [--rounds R] [--quick] [--memory]

A step is all that a fit does for it: take the minibatch, loss, gradients, Adam. One thread, medians over rounds; in
every round each contender runs in turn. What is spent before the first step (recording, compiling, jit) is shown by
itself. Missing peers are reported as missing. Images are Fashion-MNIST where it is found, else random bits.

With `--memory`: the most that a process holds while it takes some steps, each contender in a process of its own.
A whole run (neither `--only` nor `--quick`) writes its table into examples/benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.infer import SVI
from pyro.optim import Adam
from torch import nn

import inference
import zoo
from inference.fitting.objective import choose
from zoo import datasets
from zoo.base import Batch, ModelGuide

WARM = 20  # steps before the clock starts
MODES = ("inductor", "graph")
README = Path(__file__).parent / "README.md"


class LogisticRegression(ModelGuide):
    """y_n ~ Bernoulli(sigmoid(x_n w + b)),  w, b ~ Normal(0, 1), as a user would write it."""

    def __init__(self, features: int = 20) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(features))

    def model(self, batch):
        w = pyro.sample("w", dist.Normal(self.zero, 1.0).to_event(1))
        b = pyro.sample("b", dist.Normal(self.zero[0], 1.0))
        with batch.plate():
            return pyro.sample("y", dist.Bernoulli(logits=(batch.x * w).sum(-1) + b), obs=batch.y)

    def inputs(self, n):
        return Batch(n, n, x=torch.randn(n, len(self.zero)).to(self.zero))


# ---------------------------------------------------------------- contenders: (steps) -> CPU seconds a step, and before


def ours(make, data, batch_size, mode):
    def run(steps):
        torch.manual_seed(0)
        pair, times = make(), [time.process_time()]

        def clock(step, loss, pair):
            if step in (WARM - 1, WARM + steps - 1):
                times.append(time.process_time())

        options = {"compile": mode, "device": "cpu", "progress": False, "initialise": False}
        inference.fit(
            pair, data, steps=WARM + steps, batch_size=batch_size, lr=1e-3, average=0, callbacks=[clock], **options
        )
        return (times[2] - times[1]) / steps, times[1] - times[0]

    return run


def minibatches(data, batch_size):
    """Endless shuffled minibatches, as everybody takes them."""
    if batch_size == data.size:
        while True:
            yield data
    while True:
        for rows in torch.randperm(data.size).split(batch_size):
            if len(rows) == batch_size:
                yield data.select(rows)


def stepwise(prepare, data, batch_size):
    """A contender of which `prepare()` gives the function of one minibatch."""

    def run(steps):
        began = time.process_time()
        torch.manual_seed(0)
        step, batches = prepare(), minibatches(data, batch_size)
        for _ in range(WARM):
            last = step(next(batches))
        float(last)
        warm = time.process_time()
        for _ in range(steps):
            last = step(next(batches))
        float(last)
        return (time.process_time() - warm) / steps, warm - began

    return run


def plain_pyro(make, data):
    def prepare():
        pair = make()
        objective = choose(pair, data.select(slice(0, 2)))
        return SVI(pair.model, pair.guide, Adam({"lr": 1e-3}), objective.pyro()).step

    return prepare


def by_hand(features, hidden, latent):
    """The VAE as one writes it in PyTorch, with the closed-form KL divergence and fused Adam."""

    def prepare():
        encoder = nn.Sequential(nn.Linear(features, hidden), nn.SiLU(), nn.Linear(hidden, 2 * latent))
        decoder = nn.Sequential(nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, features))
        optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)

        def step(batch):
            loc, log_scale = encoder(batch.x).chunk(2, -1)
            scale = log_scale.exp()
            logits = decoder(loc + scale * torch.randn_like(loc))
            misfit = F.binary_cross_entropy_with_logits(logits, batch.x, reduction="sum")
            kl = 0.5 * (loc.square() + scale.square() - 2 * log_scale - 1).sum()
            loss = (misfit + kl) / batch.size
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            return loss.detach()

        return step

    return prepare


def numpyro_vae(features, hidden, latent):
    def prepare():
        import jax
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as npd
        from numpyro import infer

        def dense(name, x, outputs):
            inputs = x.shape[-1]
            key = jax.random.PRNGKey(len(name))
            w = numpyro.param(f"{name}.w", jax.random.normal(key, (inputs, outputs)) / math.sqrt(inputs))
            return x @ w + numpyro.param(f"{name}.b", jnp.zeros(outputs))

        def model(x):
            with numpyro.plate("data", len(x)):
                z = numpyro.sample("z", npd.Normal(0, 1).expand((len(x), latent)).to_event(1))
                logits = dense("decode2", jax.nn.silu(dense("decode1", z, hidden)), features)
                numpyro.sample("x", npd.Bernoulli(logits=logits).to_event(1), obs=x)

        def guide(x):
            loc, log_scale = jnp.split(dense("encode2", jax.nn.silu(dense("encode1", x, hidden)), 2 * latent), 2, -1)
            with numpyro.plate("data", len(x)):
                numpyro.sample("z", npd.Normal(loc, jnp.exp(log_scale)).to_event(1))

        svi = infer.SVI(model, guide, numpyro.optim.Adam(1e-3), infer.TraceMeanField_ELBO())
        state, update = None, jax.jit(svi.update, donate_argnums=0)

        def step(batch):
            nonlocal state
            x = jnp.asarray(batch.x.numpy())
            state = svi.init(jax.random.PRNGKey(0), x) if state is None else state
            state, loss = update(state, x)
            return loss

        return step

    return prepare if importlib.util.find_spec("numpyro") else None


# ---------------------------------------------------------------- the work


def images(rows, real):
    try:
        if not real:
            raise FileNotFoundError
        x = (datasets.load("fashion_mnist").x[:rows].flatten(1) > 127).float()
        return Batch.of(x), "Fashion-MNIST"
    except (FileNotFoundError, ValueError, OSError):
        return Batch.of((torch.rand(rows, 784) < 0.3).float()), "random bits"


def vae(features, hidden, latent):
    return lambda: zoo.create(
        "gaussian_vae", features=features, hidden=(hidden,), latent=latent, likelihood="bernoulli"
    )


def works(quick, real=True):
    """name: (steps a round, {contender: run}); `real` images, or few of random bits, which take no room."""
    torch.manual_seed(0)
    found = {}
    regression = LogisticRegression().simulate(200)[0]
    tiny = Batch.of((torch.rand(64, 16) < 0.3).float())
    for name, make, data in (
        ("logistic regression, N = 200, D = 20", LogisticRegression, regression),
        ("VAE 16-16-2, B = 64", vae(16, 16, 2), tiny),
    ):
        runs = {f"zoo, {mode}": ours(make, data, data.size, mode) for mode in MODES}
        runs["Pyro SVI"] = stepwise(plain_pyro(make, data), data, data.size)
        found[name] = 10 if quick else 400, runs
    pictures, source = images(400 if quick else 20_000 if real else 2048, real)
    for size in (128,) if quick else (128, 1024):
        make = vae(784, 400, 20)
        runs = {f"zoo, {mode}": ours(make, pictures, size, mode) for mode in MODES}
        runs["Pyro SVI"] = stepwise(plain_pyro(make, pictures), pictures, size)
        runs["PyTorch by hand"] = stepwise(by_hand(784, 400, 20), pictures, size)
        other = numpyro_vae(784, 400, 20)
        runs["NumPyro SVI, jit"] = other and stepwise(other, pictures, size)
        found[f"VAE 784-400-20, {source}, B = {size}"] = 3 if quick else (150 if size == 128 else 40), runs
    return found


def versions():
    names = ["torch", "pyro-ppl", "numpyro", "jax"]
    from importlib import metadata

    told = []
    for name in names:
        try:
            told.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            told.append(f"{name} missing")
    return ", ".join([*told, f"Python {platform.python_version()}", "1 thread"])


def compare(name, steps, runs, rounds, modes):
    """Rows of the table of times."""
    runs = {who: run for who, run in runs.items() if not who.startswith("zoo") or who.split(", ")[1] in modes}
    times = {who: [] for who, run in runs.items() if run}
    for _ in range(rounds):
        for who, found in times.items():
            found.append(runs[who](steps))
    for who in runs:
        if who not in times:
            yield name, who, "missing", "", ""
            continue
        each = statistics.median(t for t, _ in times[who])
        ratios = {
            ours: statistics.median(a[0] / b[0] for a, b in zip(times[ours], times[who], strict=True))
            for ours in times
            if ours.startswith("zoo") and ours != who and not who.startswith("zoo")
        }
        told = ", ".join(f"{ours.split(', ')[1]} {ratio:.3f}" for ours, ratio in ratios.items())
        yield name, who, f"{1e6 * each:,.0f}", told, f"{times[who][0][1]:.1f}"


def footprint(name, runs, modes, quick):
    """Rows of the table of memory: the peak of a process that takes a few steps, and what they added to it."""
    peaks = {}
    for who, run in runs.items():
        if run and (not who.startswith("zoo") or who.split(", ")[1] in modes):
            command = [sys.executable, __file__, "--alone", f"{name}|{who}", *["--quick"] * quick]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks[who] = [float(number) for number in done.stdout.split()[-2:]]
    for who, (whole, added) in peaks.items():
        ratios = [
            f"{ours.split(', ')[1]} {peaks[ours][0] / whole:.2f}"
            for ours in peaks
            if ours.startswith("zoo") and not who.startswith("zoo")
        ]
        yield name, who, f"{whole:,.0f}", f"{added:,.0f}", ", ".join(ratios)


def alone(name, who, quick):
    """What `footprint` runs in a process of its own; prints MiB."""

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    run, before = works(quick, real=False)[name][1][who], peak()
    run(3)
    print(peak(), peak() - before)


def table(heads, rows):
    """Prints each row as it comes, and gives all of them."""
    lines = []
    for row in itertools.chain((heads, ["---"] * len(heads)), rows):
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def write(mark, text, file=README):
    """Put a table between the marks `<!-- mark -->` and `<!-- /mark -->`."""
    old = file.read_text()
    begin, end = (old.index(f"<!-- {slash}{mark} -->") for slash in ("", "/"))
    file.write_text(f"{old[:begin]}<!-- {mark} -->\n{text}\n{old[end:]}")


TIME = ["work", "who", "CPU µs a step", "zoo's time in that of this one", "before the first step, CPU s"]
MEMORY = ["work", "who", "peak, MiB", "of which steps", "zoo's peak in that of this one"]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="work whose name contains this")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a few steps, without the compiler")
    parser.add_argument("--memory", action="store_true", help="memory in place of time")
    parser.add_argument("--alone", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if arguments.alone:
        return alone(*arguments.alone.split("|"), arguments.quick)
    modes = MODES[1:] if arguments.quick else MODES
    rounds = 1 if arguments.quick else arguments.rounds
    found = works(arguments.quick, real=not arguments.memory)
    chosen = {name: work for name, work in found.items() if arguments.only in name}
    print(versions())
    if arguments.memory:
        heads, rows = MEMORY, (footprint(name, runs, modes, arguments.quick) for name, (_, runs) in chosen.items())
    else:
        heads, rows = TIME, (compare(name, *work, rounds, modes) for name, work in chosen.items())
    text = table(heads, itertools.chain.from_iterable(rows))
    if not arguments.only and not arguments.quick:
        write("memory" if arguments.memory else "steps", f"{versions()}\n\n{text}")


if __name__ == "__main__":
    main()
