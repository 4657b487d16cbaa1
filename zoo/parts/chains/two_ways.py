"""Forward-backward with both recursions in one loop, for chains in which every move is possible.

As in `zoo.parts.chains.kernels`, but one recursion starts at the beginning and one at the end of a sequence: each waits
for its own last step, and the processor works on one while the other waits. With u_t = v_{t-1} A, u_1 = pi,

    v_t = u_t b_t,    w_t = (A w_{t+1}) b_t,    w_T = b_T,    p(z_t = k | x) = u_t(k) w_t(k) / z_t,
    sum_t p(z_{t-1} = i, z_t = j | x) = A(i, j) sum_t v_{t-1}(i) w_t(j) / z_t,    z_t = sum_k u_t(k) w_t(k)

No state can be lost for good here, and so none is watched.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SMALL = 1e-50  # sums below this are divided out
SOME = 64  # steps summed up at a time, in the nearest cache
Array = Any  # of NumPy


def expected(  # noqa: C901, PLR0915 - compiled as a whole
    start: Array, transition: Array, scaled: Array, peaks: Array, lengths: Array, rows: Array,
    value: Array, states: Array, moves: Array,
) -> None:  # fmt: skip
    """The log of the sum over paths of each sequence, and the states and moves expected.

    Args:
        start, transition, scaled, peaks, lengths, rows, value: as in `kernels.forward`.
        states: out: p(z_t | x), (B, T, L), zero past the end; u in between.
        moves: out: those expected from state to state, (B, K, K).
    """
    T, L = scaled.shape[1:]
    K, half, blocks = transition.shape[1], L // 2, L // 4
    A, B = np.zeros((blocks, L, 4)), np.zeros((blocks, L, 4))
    v, w, pairs, before = np.empty((T, L)), np.empty((T, L)), np.zeros((L, L)), -1
    for n in range(len(rows)):
        if rows[n, 1] != before:
            before = rows[n, 1]
            for i in range(K):
                for j in range(K):
                    p = np.exp(transition[before, i, j])
                    A[j // 4, i, j % 4], B[i // 4, j, i % 4] = p, p
        b, ahead, end = scaled[rows[n, 2]], states[n], lengths[rows[n, 2]]
        total, c = 0.0, 0.0
        for j in range(L):
            ahead[0, j] = np.exp(start[rows[n, 0], j]) if j < K else 0.0
            v[0, j] = ahead[0, j] * b[0, j]
            w[end - 1, j] = b[end - 1, j]
            c += v[0, j]
        impossible = c == 0
        for t in range(1, end):
            c, d = 0.0, 0.0
            x, now, at, vt = v[t - 1], b[t], ahead[t], v[t]
            y, then, wt = w[end - t], b[end - 1 - t], w[end - 1 - t]
            for q in range(blocks):
                s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
                p0, p1, p2, p3 = 0.0, 0.0, 0.0, 0.0
                r0, r1, r2, r3 = 0.0, 0.0, 0.0, 0.0
                o0, o1, o2, o3 = 0.0, 0.0, 0.0, 0.0
                for i in range(half):
                    s0 += x[i] * A[q, i, 0]
                    s1 += x[i] * A[q, i, 1]
                    s2 += x[i] * A[q, i, 2]
                    s3 += x[i] * A[q, i, 3]
                    p0 += x[half + i] * A[q, half + i, 0]
                    p1 += x[half + i] * A[q, half + i, 1]
                    p2 += x[half + i] * A[q, half + i, 2]
                    p3 += x[half + i] * A[q, half + i, 3]
                    r0 += y[i] * B[q, i, 0]
                    r1 += y[i] * B[q, i, 1]
                    r2 += y[i] * B[q, i, 2]
                    r3 += y[i] * B[q, i, 3]
                    o0 += y[half + i] * B[q, half + i, 0]
                    o1 += y[half + i] * B[q, half + i, 1]
                    o2 += y[half + i] * B[q, half + i, 2]
                    o3 += y[half + i] * B[q, half + i, 3]
                j = 4 * q
                s0, s1, s2, s3 = s0 + p0, s1 + p1, s2 + p2, s3 + p3
                at[j], at[j + 1], at[j + 2], at[j + 3] = s0, s1, s2, s3
                s0, s1, s2, s3 = s0 * now[j], s1 * now[j + 1], s2 * now[j + 2], s3 * now[j + 3]
                vt[j], vt[j + 1], vt[j + 2], vt[j + 3] = s0, s1, s2, s3
                r0, r1, r2, r3 = r0 + o0, r1 + o1, r2 + o2, r3 + o3
                r0, r1, r2, r3 = r0 * then[j], r1 * then[j + 1], r2 * then[j + 2], r3 * then[j + 3]
                wt[j], wt[j + 1], wt[j + 2], wt[j + 3] = r0, r1, r2, r3
                c += (s0 + s1) + (s2 + s3)
                d += (r0 + r1) + (r2 + r3)
            if min(c, d) < SMALL:
                if min(c, d) == 0:
                    impossible = True
                    break
                total += np.log(c)
                for j in range(K):
                    vt[j] /= c
                    wt[j] /= d
                c = 1.0
        value[n] = -np.inf if impossible else total + np.log(c) + peaks[rows[n, 2]]
        ahead[0 if impossible else end :], moves[n], pairs[:] = 0.0, 0.0, 0.0
        if impossible:
            continue
        for begin in range(0, end, SOME):
            some, skip = min(begin + SOME, end), 1 if begin == 0 else 0  # no move leads to the first step
            u, z = ahead[begin:some], w[begin:some]
            for t in range(len(u)):
                c = 0.0
                for q in range(blocks):
                    j = 4 * q
                    s0, s1, s2, s3 = u[t, j], u[t, j + 1], u[t, j + 2], u[t, j + 3]
                    s0, s1, s2, s3 = s0 * z[t, j], s1 * z[t, j + 1], s2 * z[t, j + 2], s3 * z[t, j + 3]
                    u[t, j], u[t, j + 1], u[t, j + 2], u[t, j + 3] = s0, s1, s2, s3
                    c += (s0 + s1) + (s2 + s3)
                c = 1 / c
                for q in range(blocks):
                    j = 4 * q
                    s0, s1, s2, s3 = z[t, j] * c, z[t, j + 1] * c, z[t, j + 2] * c, z[t, j + 3] * c
                    z[t, j], z[t, j + 1], z[t, j + 2], z[t, j + 3] = s0, s1, s2, s3
                    s0, s1, s2, s3 = u[t, j] * c, u[t, j + 1] * c, u[t, j + 2] * c, u[t, j + 3] * c
                    u[t, j], u[t, j + 1], u[t, j + 2], u[t, j + 3] = s0, s1, s2, s3
            x, y = v[begin + skip - 1 : some - 1], w[begin + skip : some]
            for q in range(blocks):
                j = 4 * q
                for i in range(0, L, 4):  # four by four, kept in registers
                    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
                    p0, p1, p2, p3 = 0.0, 0.0, 0.0, 0.0
                    r0, r1, r2, r3 = 0.0, 0.0, 0.0, 0.0
                    o0, o1, o2, o3 = 0.0, 0.0, 0.0, 0.0
                    for t in range(len(y)):
                        y0, y1, y2, y3 = y[t, j], y[t, j + 1], y[t, j + 2], y[t, j + 3]
                        a = x[t, i]
                        s0, s1, s2, s3 = s0 + a * y0, s1 + a * y1, s2 + a * y2, s3 + a * y3
                        a = x[t, i + 1]
                        p0, p1, p2, p3 = p0 + a * y0, p1 + a * y1, p2 + a * y2, p3 + a * y3
                        a = x[t, i + 2]
                        r0, r1, r2, r3 = r0 + a * y0, r1 + a * y1, r2 + a * y2, r3 + a * y3
                        a = x[t, i + 3]
                        o0, o1, o2, o3 = o0 + a * y0, o1 + a * y1, o2 + a * y2, o3 + a * y3
                    for a, s in enumerate(((s0, s1, s2, s3), (p0, p1, p2, p3), (r0, r1, r2, r3), (o0, o1, o2, o3))):
                        for k in range(4):
                            pairs[i + a, j + k] += s[k]
        for i in range(K):
            for j in range(K):
                moves[n, i, j] = pairs[i, j] * A[j // 4, i, j % 4]
