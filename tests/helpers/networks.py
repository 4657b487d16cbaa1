"""Networks of mixed columns, and their joint tables counted up."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from scipy.stats import multivariate_normal

import zoo

QUICK = {"progress": False, "device": "cpu"}
BINARY = ("no", "yes")


MIXED = [
    ("a", "binary", BINARY),
    ("c", "categorical", "xyz"),
    ("u", "real"),
    ("v", "real"),
    ("w", "real"),
    ("t", "real"),
]


ARROWS = {"c": ["a"], "u": ["a"], "v": ["c", "u"], "w": ["u", "v"], "t": ["c"]}


def made(columns=MIXED, edges=ARROWS, **config):
    return zoo.create("bayesian_network", columns=columns, edges=edges, **config).double()


def joint(pair):
    """The full joint table of a network of known tables, one dimension a node."""
    total, V = np.ones(()), len(pair.schema.used)
    for table in pair.network.tables:
        known = pair.network.known[table.column]
        letters = [chr(97 + i) for i in table.labels]
        everything = "".join(chr(97 + i) for i in range(V))
        ones = [np.ones(len(column.categories)) for column in pair.schema.used]
        text = f"{','.join(everything)},{''.join(letters)}->{everything}"
        total = total * np.einsum(text, *ones, known)
    return total


def conditional(table, asked, seen):
    """P(asked | seen) of a full joint table, by counting it up."""
    table = table[tuple(slice(seen[i], seen[i] + 1) if i in seen else slice(None) for i in range(table.ndim))]
    table = table.sum(tuple(i for i in range(table.ndim) if i not in asked))
    table = np.moveaxis(table, range(table.ndim), np.argsort(np.argsort(asked)).argsort()) if len(asked) > 1 else table
    return table / table.sum()


def truth(pair, seed=0):
    """One value of each global site."""
    torch.manual_seed(seed)
    values = pair.simulate(2)[1]
    return {name: value.clamp(min=0.2) if "variance" in name else value for name, value in values.items()}


def spread(pair, seed=1):
    """Data in odd units, so that centres and units matter."""
    x = pair.simulate(200)[0].x.clone()
    x[:, 2:] = 1000 + 5 * x[:, 2:]
    pair.network.standardise(x)
    return x


def gaussian_given(pair, values, codes):
    """Mean and covariance of the real nodes of `MIXED` at codes of a and c, by hand."""
    network, V = pair.network, len(pair.schema.used)
    weights, constant, variance = np.zeros((V, V)), np.zeros(V), np.zeros(V)
    centre = network.columns.centre.numpy()
    for node in network.equations:
        at = node.first
        for stride, switch in zip(itertools.accumulate([1] * len(node.switches)), node.switches, strict=True):
            assert stride == 1, "one switch at most in this network"
            at += codes[switch]
        terms = values[f"coefficients_{len(node.slopes)}"][at].numpy()
        variance[node.column] = values[f"variance_{len(node.slopes)}"][at]
        constant[node.column] = terms[0]
        for slope, parent in zip(terms[1:], node.slopes, strict=True):
            weights[node.column, parent] = slope
            constant[node.column] -= slope * centre[parent]
    real = [i for i, column in enumerate(pair.schema.used) if not column.categories]
    weights, constant, variance = weights[np.ix_(real, real)], constant[real], variance[real]
    inverse = np.linalg.inv(np.eye(len(real)) - weights)
    return inverse @ constant, inverse @ np.diag(variance) @ inverse.T


def log_density_by_hand(pair, values, x):
    """log p of one row, NaN where missing, by summing over all states and SciPy's multivariate normal."""
    tables = {name: table.numpy() for name, table in pair.tables(values).items()}
    seen = ~np.isnan(x[2:])
    total = 0.0
    for a, c in itertools.product(range(2), range(3)):
        if x[0] in (a, np.nan) or np.isnan(x[0]):
            if not (np.isnan(x[1]) or x[1] == c):
                continue
            weight = tables["a"][a] * tables["c"][a, c]
            mean, covariance = gaussian_given(pair, values, {0: a, 1: c})
            if seen.any():
                some = np.ix_(seen, seen)
                weight *= multivariate_normal(mean[seen], covariance[some]).pdf(x[2:][seen])
            total += weight
    return math.log(total)
