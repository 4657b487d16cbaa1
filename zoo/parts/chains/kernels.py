"""Forward-backward over one sequence after the other, in loops that numba compiles (Rabiner 1989, section V.A).

With start pi, transition matrix A and emission densities b_t(k), each relative to the step's largest,

    v_1 = pi b_1,   v_t = (v_{t-1} A) b_t,     log p(x) = log sum_k v_T(k) + log of all that was divided out,
    w_t = A (b_{t+1} w_{t+1}),   w_T = 1,      p(z_t = k | x) = v_t(k) w_t(k) / sum_i v_t(i) w_t(i)

Only ratios within a step matter, so v and w are divided by their sum whenever it becomes small: no step waits for a
division, and none takes a logarithm. A state whose share falls below `LOST` can only come back where a transition is
(nearly) impossible: elsewhere the others supply it with more. For chains that have such transitions `forward` reports
the sequences that lost one, and `exact` runs these in logs. Where no transition is, `zoo.parts.chains.two_ways` does
both recursions at once.

Everything here is plain Python over float64 arrays of NumPy, each function complete in itself;
`zoo.parts.chains.native` makes it fast. States stand in lanes of four, L = K rounded up, so that the processor takes
four at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LOST = 1e-100  # a state's share of a step, below which it counts as lost
POSSIBLE = 1e-150  # a probability below this is as good as zero
SMALL = 1e-50  # sums below this are divided out
LOWEST = -700.0  # a finite log-probability below this, relative to the largest of its step, counts as this
Array = Any  # of NumPy


def differences(logs: Array, scaled: Array, peaks: Array) -> None:
    """Each step's emission log-probabilities less their largest, and these summed over the steps.

    Args:
        logs: emission log-probabilities, (E, T, K).
        scaled: out, (E, T, L); finite ones are at least `LOWEST`, and lanes without a state -inf.
        peaks: out, (E,).
    """
    T, K = logs.shape[1:]
    for e in range(len(logs)):
        total = 0.0
        for t in range(T):
            row, out = logs[e, t], scaled[e, t]
            peak = row[0]
            for k in range(1, K):
                peak = max(peak, row[k])
            if peak == -np.inf:
                peak = 0.0
            total += peak
            for k in range(K):
                apart = row[k] - peak
                out[k] = LOWEST if -np.inf < apart < LOWEST else apart
            for k in range(K, len(out)):
                out[k] = -np.inf
        peaks[e] = total


def forward(  # noqa: C901, PLR0915 - compiled as a whole
    start: Array, transition: Array, scaled: Array, peaks: Array, lengths: Array, rows: Array,
    filtered: Array, value: Array, lost: Array,
) -> None:  # fmt: skip
    """The log of the sum over paths of each sequence.

    Args:
        start: log-probabilities of the first state, (I, K).
        transition: log-probabilities, (M, K, K).
        scaled: emission probabilities relative to the largest of each step, (E, T, L), zero in lanes without a state.
        peaks: logs of these largest, summed over the steps, (E,).
        lengths: how many steps count, (E,).
        rows: which of these each sequence uses, (B, 3).
        filtered: out: v, proportional to p(z_t | x_1..x_t), (B, T, K), zero past the end; left alone when it holds no
            sequence.
        value: out, (B,).
        lost: out: whether the value misses paths, because a state was lost where it may matter, (B,).
    """
    K, L = transition.shape[1], scaled.shape[2]
    A, a, v = np.zeros((L // 4, L, 4)), np.zeros(L), np.zeros(L)
    before, sparse, thin = -1, False, False  # sparse: some moves are nearly impossible; thin: and some only nearly
    for n in range(len(rows)):
        first, b, end = start[rows[n, 0]], scaled[rows[n, 2]], lengths[rows[n, 2]]
        if rows[n, 1] != before:
            before, sparse, thin = rows[n, 1], False, False
            for i in range(K):
                for j in range(K):
                    p = np.exp(transition[before, i, j])
                    A[j // 4, i, j % 4] = p
                    sparse |= p < POSSIBLE
                    thin |= p < POSSIBLE and transition[before, i, j] > -np.inf
        watch, lost[n] = sparse, thin
        for j in range(K):
            a[j] = np.exp(first[j])
            watch |= a[j] < POSSIBLE
            lost[n] |= a[j] < POSSIBLE and first[j] > -np.inf
        if len(filtered):
            filtered[n, end:] = 0.0
        total, c = 0.0, 1.0
        for t in range(end):
            now = b[t]
            if t > 0:
                for q in range(L // 4):
                    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
                    r0, r1, r2, r3 = 0.0, 0.0, 0.0, 0.0
                    for i in range(L // 2):  # two halves, none of which waits for the other
                        s0 += v[i] * A[q, i, 0]
                        s1 += v[i] * A[q, i, 1]
                        s2 += v[i] * A[q, i, 2]
                        s3 += v[i] * A[q, i, 3]
                        r0 += v[L // 2 + i] * A[q, L // 2 + i, 0]
                        r1 += v[L // 2 + i] * A[q, L // 2 + i, 1]
                        r2 += v[L // 2 + i] * A[q, L // 2 + i, 2]
                        r3 += v[L // 2 + i] * A[q, L // 2 + i, 3]
                    j = 4 * q
                    a[j], a[j + 1], a[j + 2], a[j + 3] = s0 + r0, s1 + r1, s2 + r2, s3 + r3
            c = 0.0
            for q in range(L // 4):
                j = 4 * q
                s0, s1, s2, s3 = a[j] * now[j], a[j + 1] * now[j + 1], a[j + 2] * now[j + 2], a[j + 3] * now[j + 3]
                v[j], v[j + 1], v[j + 2], v[j + 3] = s0, s1, s2, s3
                c += (s0 + s1) + (s2 + s3)
            if watch:
                for j in range(K):
                    if a[j] > 0 and now[j] > 0:
                        lost[n] |= v[j] <= LOST * c or now[j] < LOST**3
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
    transition: Array, scaled: Array, lengths: Array, filtered: Array, value: Array, lost: Array, rows: Array,
    after: Array, states: Array,
) -> None:  # fmt: skip
    """The states expected at each step, and what is left of the moves expected.

    Args:
        transition: log-probabilities, (M, K, K).
        scaled: as in `forward`, and so are `lengths`, `filtered`, `value`, `lost` and `rows`; sequences that lost
            states, or are impossible, are left out.
        after: out: what v_t(i) A(i, j) has to be multiplied by to give the moves expected at t, (B, T - 1, K).
        states: out: p(z_t | x), (B, T, K).
    """
    K = transition.shape[1]
    A, back, carried, w = np.zeros((K, K)), np.zeros(K), np.zeros(K), np.zeros(K)
    before = -1
    for n in range(len(rows)):
        after[n], states[n] = 0.0, 0.0
        if lost[n] or value[n] == -np.inf:
            continue
        b, v, end = scaled[rows[n, 2]], filtered[n], lengths[rows[n, 2]]
        if rows[n, 1] != before:
            before = rows[n, 1]
            for i in range(K):
                for j in range(K):
                    A[j, i] = np.exp(transition[before, i, j])
        back[:] = 1.0
        for t in range(end - 1, -1, -1):
            if t < end - 1:
                back[:] = 0.0
                for j in range(K):  # a state impossible so far takes no part, however well it explains the rest
                    w[j] = b[t + 1, j] * carried[j] if v[t + 1, j] > 0 else 0.0
                    for i in range(K):
                        back[i] += w[j] * A[j, i]
            c = 0.0
            for i in range(K):
                c += v[t, i] * back[i]
            for i in range(K):
                states[n, t, i] = v[t, i] * back[i] / c
                if t < end - 1:
                    after[n, t, i] = w[i] / c
            shrink = c if c < SMALL * SMALL else 1.0
            for i in range(K):
                carried[i] = back[i] / shrink


def exact(  # noqa: C901 - compiled as a whole
    lost: Array, start: Array, transition: Array, logs: Array, lengths: Array, rows: Array,
    value: Array, states: Array, moves: Array,
) -> None:  # fmt: skip
    """The same for some sequences, in logs from beginning to end: slower, and loses nothing.

    Args:
        lost: the sequences wanted, (B,).
        start: log-probabilities of the first state, (I, K).
        transition: log-probabilities, (M, K, K).
        logs: emission log-probabilities, (E, T, K).
        lengths: how many steps count, (E,).
        rows: which of these each sequence uses, (B, 3).
        value: out: log of the sum over paths, (B,).
        states: out: p(z_t | x), (B, T, K); it and `moves` are left alone when they hold no sequence.
        moves: out: those expected from state to state, (B, K, K).
    """
    T, K = logs.shape[1:]
    ahead, back, after, terms = np.zeros((T, K)), np.zeros(K), np.zeros(K), np.zeros(K)
    for n in range(len(rows)):
        if not lost[n]:
            continue
        first, A, b, end = start[rows[n, 0]], transition[rows[n, 1]], logs[rows[n, 2]], lengths[rows[n, 2]]
        for t in range(end):
            for j in range(K):
                top, total = -np.inf, 0.0
                for i in range(K):
                    terms[i] = ahead[t - 1, i] + A[i, j] if t > 0 else (first[j] if i == 0 else -np.inf)
                    top = max(top, terms[i])
                for i in range(K):
                    total += np.exp(terms[i] - top) if top > -np.inf else 0.0
                ahead[t, j] = (top + np.log(total) if total > 0 else -np.inf) + b[t, j]
        top, total = ahead[end - 1].max(), 0.0
        for i in range(K):
            total += np.exp(ahead[end - 1, i] - top) if top > -np.inf else 0.0
        value[n] = top + np.log(total) if total > 0 else -np.inf
        if not len(states):
            continue
        states[n], moves[n] = 0.0, 0.0
        if value[n] == -np.inf:
            continue
        back[:] = 0.0
        for t in range(end - 1, -1, -1):
            if t < end - 1:
                for j in range(K):
                    after[j] = b[t + 1, j] + back[j]
                for i in range(K):
                    top, total = -np.inf, 0.0
                    for j in range(K):
                        terms[j] = A[i, j] + after[j]
                        top = max(top, terms[j])
                    for j in range(K):
                        part = np.exp(terms[j] - top) if top > -np.inf else 0.0
                        total += part
                        if part > 0 and ahead[t, i] > -np.inf:
                            moves[n, i, j] += np.exp(ahead[t, i] + terms[j] - value[n])
                    back[i] = top + np.log(total) if total > 0 else -np.inf
            for i in range(K):
                states[n, t, i] = np.exp(ahead[t, i] + back[i] - value[n])
