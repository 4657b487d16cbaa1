"""Time of a hidden Markov model's log-likelihood and of its gradient, beside hmmlearn and dynamax, interleaved.

    python examples/benchmarks/markov.py            # --quick: a few rounds

K = 8 states, D = 4 Gaussian features with diagonal covariance, whole models with their emission densities: 200
sequences of 100 steps, and one of 10,000. Gradients are by all parameters; beside them stands one EM step of hmmlearn.
CPU time of the process, one thread, compiling and tracing left out; the median of the rounds, and of their ratios.
hmmlearn computes in float64, dynamax in float32; of `zoo` both are shown, called as they are and as a traced graph.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import statistics
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
import pyro.distributions as dist
import torch

from inference.compiling.compiled import Traced
from zoo.parts.chains import native
from zoo.parts.chains.chain import HiddenMarkovChain

K, D = 8, 4
SHAPES = ((200, 100), (1, 10_000))
TARGETS = {"score": {"hmmlearn": 0.25, "dynamax": 1.1}, "gradient": {"hmmlearn": 0.25, "dynamax": 0.6}}


def problem(sequences, steps):
    """Parameters, all float64, and data (N, T, D) drawn from them."""
    torch.manual_seed(0)
    parameters = {
        "initial": torch.full((K,), 1 / K),
        "transition": (torch.ones(K, K) + 10 * torch.eye(K)) / (K + 10),
        "locs": 3 * torch.randn(K, D),
        "scales": 0.5 + torch.rand(K, D),
    }
    parameters = {name: value.double() for name, value in parameters.items()}
    return parameters, chain(steps, **parameters).expand((sequences,)).sample()


def chain(steps, initial, transition, locs, scales):
    emission = dist.Normal(locs, scales, validate_args=False).to_event(1)
    return HiddenMarkovChain(initial.log(), transition.log(), emission, steps, validate_args=False)


def ours(parameters, x, dtype, traced):
    """Score and gradient of this project."""
    steps = x.shape[1]
    x = x.to(dtype)
    parameters = {name: value.to(dtype) for name, value in parameters.items()}

    def score(parameters, x):
        return chain(steps, **parameters).log_prob(x).sum()

    def gradient(parameters, x):
        leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
        value = score(leaves, x)
        return value.detach(), torch.autograd.grad(value, list(leaves.values()))

    def quietly(parameters, x):
        with torch.no_grad():
            return score(parameters, x)

    calls = (Traced(quietly), Traced(gradient)) if traced else (quietly, gradient)
    return {
        "score": lambda: float(calls[0](parameters, x)),
        "gradient": lambda: float(calls[1](parameters, x)[0]),
    }


def hmmlearn(parameters, x):
    """Score, and one EM step in place of the gradient."""
    hmm = importlib.import_module("hmmlearn.hmm")
    lengths, rows = [x.shape[1]] * len(x), x.flatten(0, 1).numpy()

    def model():
        made = hmm.GaussianHMM(K, covariance_type="diag", implementation="scaling", n_iter=1, init_params="")
        made.startprob_, made.transmat_ = parameters["initial"].numpy(), parameters["transition"].numpy()
        made.means_, made.covars_ = parameters["locs"].numpy(), parameters["scales"].square().numpy()
        return made

    scored = model()
    return {
        "score": lambda: scored.score(rows, lengths),
        "gradient": lambda: model().fit(rows, lengths).monitor_.history[-1],
    }


def dynamax(parameters, x):
    """Score and gradient under jit, in float32."""
    jax = importlib.import_module("jax")
    model = importlib.import_module("dynamax.hidden_markov_model").DiagonalGaussianHMM(K, D)
    given = {name: jax.numpy.asarray(value.numpy(), dtype=np.float32) for name, value in parameters.items()}
    start, _ = model.initialize(
        initial_probs=given["initial"],
        transition_matrix=given["transition"],
        emission_means=given["locs"],
        emission_scale_diags=given["scales"],
    )
    data = jax.numpy.asarray(x.numpy(), dtype=np.float32)

    def total(params):
        return jax.vmap(lambda sequence: model.marginal_log_prob(params, sequence))(data).sum()

    score, gradient = jax.jit(total), jax.jit(jax.value_and_grad(total))
    return {
        "score": lambda: float(score(start)),
        "gradient": lambda: float(jax.block_until_ready(gradient(start))[0]),
    }


def methods(parameters, x):
    """What can be run here: name -> {work: function that gives the log-likelihood}."""
    found = {
        f"zoo, {name}{', traced' if traced else ''}": ours(parameters, x, dtype, traced)
        for name, dtype in (("float64", torch.float64), ("float32", torch.float32))
        for traced in (False, True)
    }
    for name, peer in (("hmmlearn", hmmlearn), ("dynamax", dynamax)):
        try:
            found[name] = peer(parameters, x)
        except ImportError as error:
            print(f"missing: {name} ({error})")
    return found


def timed(function, repeat):
    began = time.process_time()
    for _ in range(repeat):
        function()
    return (time.process_time() - began) / repeat


def compare(found, work, rounds, repeat):
    """Seconds of each method by round, interleaved, after two calls that compile; all must agree."""
    values = [function() for _ in range(2) for function in (found[name][work] for name in found)]
    np.testing.assert_allclose(values, values[0], rtol=1e-4)
    times = {name: [] for name in found}
    for _ in range(rounds):
        for name in found:
            times[name].append(timed(found[name][work], repeat))
    return times


def versions():
    parts = [f"Python {platform.python_version()}"]
    for name in ("torch", "numba", "numpy", "hmmlearn", "jax", "dynamax"):
        try:
            parts.append(f"{name} {importlib.import_module(name).__version__}")
        except ImportError:
            parts.append(f"{name} missing")
    return ", ".join(parts)


def main(arguments=None):
    """Print the table; returns {(work, N, T): {method: ratio to hmmlearn, or None}}."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few rounds of smaller data")
    quick = parser.parse_args(arguments).quick
    torch.set_num_threads(1)
    rounds, repeat = (3, 1) if quick else (21, 10)
    print(f"{versions()}; 1 thread; compiled loops: {'yes' if native.available() else 'no numba'}")
    print("| work | N x T | method | ms CPU | of hmmlearn | of dynamax |\n| --- | --- | --- | --- | --- | --- |")
    result = {}
    for sequences, steps in ((20, 100), (1, 1000)) if quick else SHAPES:
        found = methods(*problem(sequences, steps))
        for work, targets in TARGETS.items():
            times = compare(found, work, rounds, repeat)
            ratios = {
                name: {
                    peer: statistics.median(a / b for a, b in zip(times[name], times[peer], strict=True))
                    for peer in targets
                    if peer in times
                }
                for name in times
            }
            for name, column in times.items():
                cells = [f"{ratios[name][peer]:.2f}" if peer in ratios[name] else "" for peer in targets]
                label = {"gradient": "EM step"}.get(work, work) if name == "hmmlearn" else work
                row = [label, f"{sequences} x {steps:,}", name, f"{1e3 * statistics.median(column):.2f}", *cells]
                print(f"| {' | '.join(row)} |", flush=True)
            result[work, sequences, steps] = ratios
    goals = "; ".join(f"{work}: {', '.join(f'{v} of {k}' for k, v in goal.items())}" for work, goal in TARGETS.items())
    print(f"\nAimed at, at most: {goals}.")
    return result


if __name__ == "__main__":
    sys.exit(not main())
