"""Loops over the independent Gaussian features of each step; `zoo.parts.chains.gaussian` says what they work out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zoo.parts.chains import native

Array = Any  # of NumPy
SOME = 64  # steps taken at a time, innermost, so that the processor does several at once


def log_density(  # noqa: C901 - compiled as a whole
    loc: Array, scale: Array, x: Array, lengths: Array, rows: Array, out: Array
) -> None:
    """log p(x_t | k); NaN is missing. Compiled by `native`.

    Args:
        loc: (P, K, D), float64 like all others.
        scale: (P, K, D).
        x: (X, T, D).
        lengths: how many steps count, (B,).
        rows: which of these each sequence uses, (B, at least 2).
        out: (B, T, K), zero past the end.
    """
    _, K, D = loc.shape
    there, known, holes, total = np.zeros((D, SOME)), np.zeros((D, SOME)), np.zeros(D), np.zeros(SOME)
    rate, constant, before = np.zeros((K, D)), np.zeros((K, D)), -1
    for n in range(len(rows)):
        m, end = loc[rows[n, 0]], lengths[n]
        if rows[n, 0] != before:
            before = rows[n, 0]
            for k in range(K):
                for d in range(D):
                    rate[k, d] = math.sqrt(0.5) / scale[before, k, d]
                    constant[k, d] = -np.log(scale[before, k, d]) - 0.5 * np.log(2 * math.pi)
        out[n, end:] = 0.0
        for begin in range(0, end, SOME):
            here, part = x[rows[n, 1], begin : min(begin + SOME, end)], out[n, begin : min(begin + SOME, end)]
            for d in range(D):
                data, mask, count = known[d], there[d], 0
                for u in range(len(here)):
                    value = here[u, d]
                    missing = np.isnan(value)
                    data[u], mask[u] = 0.0 if missing else value, 0.0 if missing else 1.0
                    count += missing
                holes[d] = count
            for k in range(K):
                total[:] = 0.0
                base = 0.0
                for d in range(D):
                    middle, r, c, data, mask = m[k, d], rate[k, d], constant[k, d], known[d], there[d]
                    if holes[d] == 0:
                        base += c
                        for u in range(len(here)):
                            z = (data[u] - middle) * r
                            total[u] -= z * z
                    else:
                        for u in range(len(here)):
                            z = (data[u] - middle) * r
                            total[u] += mask[u] * (c - z * z)
                for u in range(len(here)):
                    part[u, k] = base + total[u]


@native.reordered
def gradient(
    grad: Array, loc: Array, scale: Array, x: Array, lengths: Array, rows: Array, by_loc: Array, by_scale: Array
) -> None:
    """Gradients by loc and scale, (B, K, D), given that by `out`, (B, T, K); the rest as in `log_density`."""
    _, K, D = loc.shape
    there, known, weight = np.zeros((D, SOME)), np.zeros((D, SOME)), np.zeros((K, SOME))
    for n in range(len(rows)):
        m, s, end = loc[rows[n, 0]], scale[rows[n, 0]], lengths[n]
        by_loc[n], by_scale[n] = 0.0, 0.0
        for begin in range(0, end, SOME):
            here, part = x[rows[n, 1], begin : min(begin + SOME, end)], grad[n, begin : min(begin + SOME, end)]
            for d in range(D):
                data, mask = known[d], there[d]
                for u in range(len(here)):
                    value = here[u, d]
                    missing = np.isnan(value)
                    data[u], mask[u] = 0.0 if missing else value, 0.0 if missing else 1.0
            for k in range(K):
                for u in range(len(here)):
                    weight[k, u] = part[u, k]
            for k in range(K):
                w = weight[k]
                for d in range(D):
                    middle, r, data, mask = m[k, d], 1 / s[k, d], known[d], there[d]
                    first, second, whole = 0.0, 0.0, 0.0
                    for u in range(len(here)):
                        g, z = mask[u] * w[u], data[u] - middle
                        whole += g
                        first += g * z
                        second += g * z * z
                    by_loc[n, k, d] += first * r * r
                    by_scale[n, k, d] += (second * r * r - whole) * r
