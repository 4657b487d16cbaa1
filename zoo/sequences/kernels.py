"""Forward-backward over one sequence after the other, in loops that numba compiles (Rabiner 1989, section V.A).

With start pi, transition matrix A and emission densities b_t(k), each relative to the step's largest,

    v_1 = pi b_1,   v_t = (v_{t-1} A) b_t,     log p(x) = log sum_k v_T(k) + log of all that was divided out,
    w_t = A (b_{t+1} w_{t+1}),   w_T = 1,      p(z_t = k | x) = v_t(k) w_t(k) / sum_i v_t(i) w_t(i)

Only ratios within a step matter, so v and w are divided by their sum whenever it becomes small: no step waits for a
division, and none takes a logarithm. A state whose share falls below `LOST` can only come back where a transition is
(nearly) impossible: elsewhere the others supply it with more. For chains that have such transitions `forward` reports
the sequences that lost one, and `exact` runs these in logs.

Everything here is plain Python over NumPy arrays, each function complete in itself; `zoo.sequences.native` makes it
fast. Start and transition are float64, and so is all that is worked out; emissions and their gradient may be float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LOST = 1e-100  # a state's share of a step, below which it counts as lost
POSSIBLE = 1e-150  # a probability below this is as good as zero
SMALL = 1e-50  # sums below this are divided out

Array = Any  # of NumPy


def differences(logs: Array, scaled: Array, peaks: Array) -> None:
    """Each step's emission log-probabilities less their largest, and these summed over the steps.

    Args:
        logs: emission log-probabilities, (E, T, K).
        scaled: out, (E, T, K).
        peaks: out, (E,).
    """
    T, K = logs.shape[1:]
    for e in range(len(logs)):
        total = 0.0
        for t in range(T):
            peak = float(logs[e, t, 0])
            for k in range(1, K):
                peak = max(peak, logs[e, t, k])
            if peak == -np.inf:
                peak = 0.0
            total += peak
            for k in range(K):
                scaled[e, t, k] = logs[e, t, k] - peak
        peaks[e] = total


def forward(  # noqa: C901 - compiled as a whole
    start: Array, transition: Array, logs: Array, scaled: Array, peaks: Array, rows: Array,
    filtered: Array, value: Array, lost: Array,
) -> None:  # fmt: skip
    """The log of the sum over paths of each sequence.

    Args:
        start: log-probabilities of the first state, (I, K).
        transition: log-probabilities, (M, K, K).
        logs: emission log-probabilities, (E, T, K).
        scaled: exp(logs - peak of the step), (E, T, K).
        peaks: summed over the steps, (E,).
        rows: which of these each sequence uses, (B, 3).
        filtered: out: v, proportional to p(z_t | x_1..x_t), (B, T, K); left alone when it holds no sequence.
        value: out, (B,).
        lost: out: whether the value misses paths, because a state was lost where it may matter, (B,).
    """
    T, K = scaled.shape[1:]
    blocks = (K + 3) // 4  # four sums at a time keep the processor's pipeline full
    A, summed, v = np.zeros((K, blocks, 4)), np.zeros((blocks, 4)), np.zeros(K)
    a = summed.reshape(4 * blocks)
    before, sparse, thin = -1, False, False  # sparse: some moves are nearly impossible; thin: and some only nearly
    for n in range(len(rows)):
        first, b, raw = start[rows[n, 0]], scaled[rows[n, 2]], logs[rows[n, 2]]
        if rows[n, 1] != before:
            before, sparse, thin = rows[n, 1], False, False
            for i in range(K):
                for j in range(K):
                    p = np.exp(transition[before, i, j])
                    A[i, j // 4, j % 4] = p
                    sparse |= p < POSSIBLE
                    thin |= p < POSSIBLE and transition[before, i, j] > -np.inf
        watch, lost[n] = sparse, thin
        for j in range(K):
            a[j] = np.exp(first[j])
            watch |= a[j] < POSSIBLE
            lost[n] |= a[j] < POSSIBLE and first[j] > -np.inf
        total, c = 0.0, 1.0
        for t in range(T):
            if t > 0:
                for q in range(blocks):
                    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
                    for i in range(K):
                        s0 += v[i] * A[i, q, 0]
                        s1 += v[i] * A[i, q, 1]
                        s2 += v[i] * A[i, q, 2]
                        s3 += v[i] * A[i, q, 3]
                    summed[q, 0], summed[q, 1], summed[q, 2], summed[q, 3] = s0, s1, s2, s3
            c = 0.0
            for j in range(K):
                v[j] = a[j] * b[t, j]
                c += v[j]
            if watch:
                for j in range(K):
                    lost[n] |= v[j] <= LOST * c and a[j] > 0 and raw[t, j] > -np.inf
            if len(filtered):
                for j in range(K):
                    filtered[n, t, j] = v[j]
            if c < SMALL:
                if c == 0:
                    if len(filtered):
                        filtered[n, t:] = 0.0
                    break
                total += np.log(c)
                for j in range(K):
                    v[j] /= c
                c = 1.0
        value[n] = total + np.log(c) + peaks[rows[n, 2]]


def backward(  # noqa: C901 - compiled as a whole
    grad: Array, transition: Array, scaled: Array, filtered: Array, value: Array, lost: Array, rows: Array,
    after: Array, grad_start: Array, grad_emission: Array,
) -> None:  # fmt: skip
    """Gradients by the logs of start and emissions, which are expected states, and what is left of expected moves.

    Args:
        grad: of the values, (B,).
        transition: log-probabilities, (M, K, K).
        scaled: as in `forward`, and so are `filtered`, `value`, `lost` and `rows`; sequences that lost states, or are
            impossible, are left out.
        after: out: what v_t(i) A(i, j) has to be multiplied by to give the moves expected at t, (B, T - 1, K).
        grad_start: out, added to, (I, K).
        grad_emission: out, added to, (E, T, K).
    """
    T, K = scaled.shape[1:]
    blocks = (K + 3) // 4
    A, summed, w = np.zeros((K, blocks, 4)), np.zeros((blocks, 4)), np.zeros(K)
    back = summed.reshape(4 * blocks)
    before = -1
    for n in range(len(rows)):
        if lost[n] or value[n] == -np.inf:
            after[n] = 0.0
            continue
        g, b, v, states = grad[n], scaled[rows[n, 2]], filtered[n], grad_emission[rows[n, 2]]
        if rows[n, 1] != before:
            before = rows[n, 1]
            for i in range(K):
                for j in range(K):
                    A[j, i // 4, i % 4] = np.exp(transition[before, i, j])
        for i in range(K):
            back[i] = 1.0
        for t in range(T - 1, -1, -1):
            if t < T - 1:
                for j in range(K):  # a state impossible so far takes no part, however well it explains the rest
                    w[j] = b[t + 1, j] * back[j] if v[t + 1, j] > 0 else 0.0
                for q in range(blocks):
                    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
                    for j in range(K):
                        s0 += w[j] * A[j, q, 0]
                        s1 += w[j] * A[j, q, 1]
                        s2 += w[j] * A[j, q, 2]
                        s3 += w[j] * A[j, q, 3]
                    summed[q, 0], summed[q, 1], summed[q, 2], summed[q, 3] = s0, s1, s2, s3
            c = 0.0
            for i in range(K):
                c += v[t, i] * back[i]
            r = g / c
            for i in range(K):
                states[t, i] += v[t, i] * back[i] * r
                if t < T - 1:
                    after[n, t, i] = w[i] * r
                if t == 0:
                    grad_start[rows[n, 0], i] += v[t, i] * back[i] * r
            if c < SMALL * SMALL:
                for i in range(K):
                    back[i] /= c


def exact(  # noqa: C901 - compiled as a whole
    lost: Array, gradients: bool, grad: Array, start: Array, transition: Array, logs: Array, rows: Array,
    value: Array, grad_start: Array, grad_transition: Array, grad_emission: Array,
) -> None:  # fmt: skip
    """The same for some sequences, in logs from beginning to end: slower, and loses nothing.

    Args:
        lost: the sequences wanted, (B,).
        gradients: whether to add to the gradients.
        grad: of the values, (B,).
        start: log-probabilities of the first state, (I, K).
        transition: log-probabilities, (M, K, K).
        logs: emission log-probabilities, (E, T, K).
        rows: which of these each sequence uses, (B, 3).
        value: out: log of the sum over paths, (B,).
        grad_start: out, as in `backward`, and so are `grad_transition` and `grad_emission`.
    """
    T, K = logs.shape[1:]
    ahead, back, after, terms = np.zeros((T, K)), np.zeros(K), np.zeros(K), np.zeros(K)
    for n in range(len(rows)):
        if not lost[n]:
            continue
        first, moves, b = start[rows[n, 0]], transition[rows[n, 1]], logs[rows[n, 2]]
        for t in range(T):
            for j in range(K):
                top, total = -np.inf, 0.0
                for i in range(K):
                    terms[i] = ahead[t - 1, i] + moves[i, j] if t > 0 else (first[j] if i == 0 else -np.inf)
                    top = max(top, terms[i])
                for i in range(K):
                    total += np.exp(terms[i] - top) if top > -np.inf else 0.0
                ahead[t, j] = (top + np.log(total) if total > 0 else -np.inf) + b[t, j]
        top, total = ahead[T - 1].max(), 0.0
        for i in range(K):
            total += np.exp(ahead[T - 1, i] - top) if top > -np.inf else 0.0
        value[n] = top + np.log(total) if total > 0 else -np.inf
        if not gradients or value[n] == -np.inf:
            continue
        back[:] = 0.0
        for t in range(T - 1, -1, -1):
            if t < T - 1:
                for j in range(K):
                    after[j] = b[t + 1, j] + back[j]
                for i in range(K):
                    top, total = -np.inf, 0.0
                    for j in range(K):
                        terms[j] = moves[i, j] + after[j]
                        top = max(top, terms[j])
                    for j in range(K):
                        part = np.exp(terms[j] - top) if top > -np.inf else 0.0
                        total += part
                        if part > 0 and ahead[t, i] > -np.inf:
                            grad_transition[rows[n, 1], i, j] += grad[n] * np.exp(ahead[t, i] + terms[j] - value[n])
                    back[i] = top + np.log(total) if total > 0 else -np.inf
            for i in range(K):
                grad_emission[rows[n, 2], t, i] += grad[n] * np.exp(ahead[t, i] + back[i] - value[n])
        for i in range(K):
            grad_start[rows[n, 0], i] += grad[n] * np.exp(ahead[0, i] + back[i] - value[n])
