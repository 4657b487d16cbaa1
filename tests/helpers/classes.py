"""Naive Bayes pairs over tables made up, with and without their classes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.stats
import torch

import zoo
from inference.data.check import as_batch
from zoo import Batch

QUICK = {"progress": False, "device": "cpu"}
LOCS, SCALES, MEANS = np.array([-1.0, 0.0, 1.5]), np.array([0.7, 0.5, 1.0]), np.array([1.0, 4.0, 10.0])
PROBS = np.array([[0.9, 0.8, 0.9, 0.1, 0.2, 0.8], [0.2, 0.2, 0.7, 0.8, 0.9, 0.1], [0.3, 0.9, 0.1, 0.2, 0.8, 0.2]])
MIXED = ["real", "count", *["binary"] * 6]


def simulated(rows, seed, shares=(0.5, 0.3, 0.2)):
    """Rows of `MIXED` columns, their classes, and the log joint density of row and class under the truth, (N, 3)."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, size=rows, p=shares)
    real, count = rng.normal(LOCS[y], SCALES[y]), rng.poisson(MEANS[y])
    x = np.column_stack([real, count, rng.random((rows, 6)) < PROBS[y]]).astype(float)
    joint = np.log(shares) + scipy.stats.norm.logpdf(real[:, None], LOCS, SCALES)
    joint = joint + scipy.stats.poisson.logpmf(count[:, None], MEANS)
    joint = joint + scipy.stats.bernoulli.logpmf(x[:, None, 2:], PROBS).sum(-1)
    return x, y, joint


def frame():
    return pd.DataFrame(
        {
            "age": [31.0, 45.5, None, 28.0, 61.2, 39.9],
            "visits": [0, 3, 11, 1, 7, 2],
            "smokes": ["no", "yes", "yes", None, "yes", "no"],
            "ill": ["well", "sick", "sick", "well", None, "well"],
        }
    )


COLUMNS = [("age", "real"), ("visits", "count"), ("smokes", "binary", ("no", "yes"))]
ILL = ("ill", "binary", ("sick", "well"))


def made(columns, target=2, dtype=torch.float64, **config):
    return zoo.create("naive_bayes", columns=columns, target=target, **config).to(dtype)


def batch_of(x, y=None):
    return Batch.of(torch.as_tensor(x), None if y is None else torch.as_tensor(y))


def started(pair, x, y=None, seed=0):
    """The pair with its guide at the closed-form start."""
    torch.manual_seed(seed)
    pair.initial(as_batch(pair, batch_of(x, y)))
    return pair
