"""Expectation maximisation of Gaussian mixtures beside scikit-learn: time, iterations and likelihood, interleaved.

    python examples/benchmarks/mixtures.py [--quick] [--rounds N] [--only start,best]

Same start: full covariances, N = 100,000 rows of D = 16 features from K = 10 Gaussians, both programs from the same
hard responsibilities and with the same tolerance, 1e-3 in the mean log-likelihood (ours: log joint density) of a row.
Best start: the likelihood of rows held out after our default of 20 starts, most of which are dropped early, and after
ten of scikit-learn's, each with its own default tolerance.
The heavy-tailed mixture (Student, 4 degrees) and the digits (16 principal components) are in nobody's model class.

CPU seconds of one thread; medians over rounds, ratios within rounds. A round has its own data or its own split.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import sys
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch

from zoo import Batch
from zoo.mixtures.gmm import GMM

TOLERANCE = 1e-3
TARGET = 0.25


def simulated(rows, features, components, seed, heavy=False):
    """Rows of a mixture whose components overlap, each with a covariance of its own."""
    rng = np.random.default_rng(seed)
    means = rng.normal(scale=0.5, size=(components, features))
    maps = rng.normal(size=(components, features, features)) / np.sqrt(features) + np.eye(features) / 2
    component = rng.choice(components, size=rows, p=rng.dirichlet(np.full(components, 5.0)))
    noise = rng.normal(size=(rows, features))
    if heavy:
        noise /= np.sqrt(rng.chisquare(4, size=(rows, 1)) / 4)
    return means[component] + np.einsum("nij,nj->ni", maps[component], noise)


def digits(seed):
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    x = PCA(16, svd_solver="full").fit_transform(load_digits().data)
    return x[np.random.default_rng(seed).permutation(len(x))]


def log_likelihood(weights, means, covariances, x):
    """Mean log-likelihood of a row, by PyTorch's density, whoever fitted."""
    density = torch.distributions.MultivariateNormal(torch.as_tensor(means), torch.as_tensor(covariances))
    log_weights = torch.as_tensor(weights).log()
    parts = [density.log_prob(rows[:, None]) + log_weights for rows in torch.as_tensor(x).split(10_000)]
    return torch.cat(parts).logsumexp(-1).mean().item()


def ours(x, components, **options):
    """CPU seconds, iterations and parameters of one `maximise`."""
    pair = GMM(x.shape[1], components).double()
    x = torch.as_tensor(x)
    began = time.process_time()
    values, trace = pair.maximise(Batch(len(x), len(x), x), **options)
    seconds = time.process_time() - began
    factors = pair.factors(values)
    return seconds, len(trace), (values["weights"], values["locs"], factors @ factors.mT)


def scikit(x, components, responsibility=None, **options):
    """The same of scikit-learn, from responsibilities if they are given."""
    mixture = importlib.import_module("sklearn.mixture").GaussianMixture

    class Started(mixture):
        def _initialize_parameters(self, X, *arguments, **named):
            self._initialize(X, responsibility)

    estimator = (mixture if responsibility is None else Started)(components, covariance_type="full", **options)
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(x)
    seconds = time.process_time() - began
    return seconds, estimator.n_iter_, (estimator.weights_, estimator.means_, estimator.covariances_)


def same_start(rows, rounds):
    """Rows of the first table."""
    results = []
    for seed in range(rounds):
        x = simulated(rows, 16, 10, seed)
        centres = torch.as_tensor(x[np.random.default_rng(seed).choice(rows, 10, replace=False)])
        hard = torch.nn.functional.one_hot(torch.cdist(torch.as_tensor(x), centres).argmin(1), 10).double()
        pair = ours(x, 10, start=hard[None], tolerance=TOLERANCE, iterations=500)
        peer = scikit(x, 10, hard.numpy(), tol=TOLERANCE, max_iter=500)
        results.append([(s, n, log_likelihood(*found, x)) for s, n, found in (pair, peer)])
    table(["zoo", "scikit-learn"], results, f"same start, N = {rows:,}, D = 16, K = 10", "log-likelihood")
    ratios = [pair[0] / peer[0] for pair, peer in results]
    steps = [(pair[0] / pair[1]) / (peer[0] / peer[1]) for pair, peer in results]
    print(
        f"\nzoo / scikit-learn: {statistics.median(ratios):.3f} of the time ({min(ratios):.3f} to {max(ratios):.3f}; "
        f"target {TARGET}), {statistics.median(steps):.3f} of the time of an iteration\n"
    )
    return results


def best_start(name, make, components, rounds, test):
    """Rows of the second table: `make(seed)` gives rows, of which the last `test` are held out."""
    results = []
    for seed in range(rounds):
        x = make(seed)
        train, held_out = x[:-test], x[-test:]
        torch.manual_seed(seed)
        pair = ours(train, components)
        peer = scikit(train, components, n_init=10, random_state=seed, max_iter=500)
        results.append([(s, n, log_likelihood(*found, held_out)) for s, n, found in (pair, peer)])
    title = f"best start, {name}, N = {len(train):,}, D = {x.shape[1]}, K = {components}"
    table(["zoo", "scikit-learn"], results, title, "held-out log-likelihood")
    gains = [pair[2] - peer[2] for pair, peer in results]
    ratios = [pair[0] / peer[0] for pair, peer in results]
    print(
        f"\nzoo / scikit-learn: {statistics.median(ratios):.3f} of the time; held-out log-likelihood "
        f"{statistics.median(gains):+.4f} ({min(gains):+.4f} to {max(gains):+.4f})\n"
    )
    return results


def table(names, results, title, score):
    print(f"**{title}**, {len(results)} rounds\n\n| program | CPU s | iterations | {score} of a row |")
    print("| --- | --- | --- | --- |")
    for i, name in enumerate(names):
        seconds, iterations, value = (statistics.median(each[i][j] for each in results) for j in range(3))
        print(f"| {name} | {seconds:.2f} | {iterations:g} | {value:.4f} |", flush=True)


def versions():
    parts = [f"Python {platform.python_version()}"]
    parts += [f"{name} {importlib.import_module(name).__version__}" for name in ("torch", "numpy", "sklearn")]
    return ", ".join(parts)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows, one round")
    parser.add_argument("--rounds", type=int, help="of each comparison (default 5, or 1 when quick)")
    parser.add_argument("--only", default="start,best", help="start, best or both")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("sklearn") is None:
        print("scikit-learn is not installed: nothing to compare with (pip install scikit-learn)")
        return {}
    torch.set_num_threads(1)
    rounds = options.rounds or (1 if options.quick else 5)
    rows, few = (3_000, 2_000) if options.quick else (100_000, 20_000)
    print(f"{versions()}; 1 thread\n")
    found = {}
    if "start" in options.only:
        found["start"] = same_start(rows, rounds)
    if "best" in options.only:
        for title, make, components, test in [
            ("heavy tails", lambda seed: simulated(few, 8, 6, seed, heavy=True), 6, few // 4),
            ("digits", digits, 10, 500),
            ("simulated", lambda seed: simulated(rows, 16, 10, seed), 10, rows // 5),
        ]:
            found[title] = best_start(title, make, components, rounds, test)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
