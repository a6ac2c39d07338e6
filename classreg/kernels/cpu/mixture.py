"""Mixtures of Gaussians of the intensities that images have at a sample, some of which may be missing.

The M = N C intensities of a sample have weights w, each channel that of its image. An intensity of weight w is taken as
observed with a noise of variance 1 / w - 1: none at 1, without end at 0, where it drops out. With s = sqrt(w), the
residual r = u - mu and A = s Sigma s + 1 - w (s and w as diagonal matrices), up to constants of the weights,

    log N(u) = - 1/2 log det A - 1/2 (s r)^T A^-1 (s r),     d log N / du = - s A^-1 s r.

`means` is (K, M), `covariances` and their `inverses` (K, M, M), `starts` log pi_k, `halves` 1/2 log det Sigma_k.
Samples without any weight count for nothing. Functions without a slab are called by the kernels, not inlined into them:
they are long, and compiling them thrice would take minutes.
"""

import numpy as np

from . import kernel


@kernel
def factorised(a):
    """Lower Cholesky factor in place of a, and half its log determinant."""
    half = 0.0
    for i in range(len(a)):
        for j in range(i + 1):
            v = a[i, j]
            for k in range(j):
                v -= a[i, k] * a[j, k]
            if i == j:
                a[i, i] = np.sqrt(max(v, 1e-12))
                half += np.log(a[i, i])
            else:
                a[i, j] = v / a[j, j]
    return half


@kernel
def solved(a, b):
    """b becomes the solution of L L^T x = b, L the lower triangle of a."""
    n = len(a)
    for i in range(n):
        v = b[i]
        for k in range(i):
            v -= a[i, k] * b[k]
        b[i] = v / a[i, i]
    for i in range(n - 1, -1, -1):
        v = b[i]
        for k in range(i + 1, n):
            v -= a[k, i] * b[k]
        b[i] = v / a[i, i]


@kernel
def fetch(stack, weights, z, y, x, u, s):
    """The intensities of a sample and the roots of their weights; whether any has a weight, and all have 1."""
    N, C, _, _, _ = stack.shape
    seen, complete = False, True
    for j in range(N):
        w = np.float64(weights[j, z, y, x])
        seen = seen or w > 0
        complete = complete and w == 1
        for c in range(C):
            u[j * C + c], s[j * C + c] = stack[j, c, z, y, x], np.sqrt(w)
    return seen, complete


@kernel
def given(u, s, complete, mean, covariance, inverse, half, a, g):
    """log N of a class; g becomes s A^-1 s r, and a the factor of A where the sample is incomplete."""
    M, log = len(u), 0.0
    if complete:
        for i in range(M):
            g[i] = 0.0
            for j in range(M):
                g[i] += inverse[i, j] * (u[j] - mean[j])
        for i in range(M):
            log -= 0.5 * g[i] * (u[i] - mean[i])
        return log - half
    for i in range(M):
        g[i] = s[i] * (u[i] - mean[i])
        for j in range(i + 1):
            a[i, j] = s[i] * covariance[i, j] * s[j]
        a[i, i] += 1 - s[i] * s[i]
    log = -factorised(a)
    solved(a, g)
    for i in range(M):
        g[i] *= s[i]
        log -= 0.5 * g[i] * (u[i] - mean[i])
    return log


@kernel
def shared(logs):
    """Logs of a sum's terms become their shares; the log of the sum."""
    most, total = logs[0], 0.0
    for k in range(1, len(logs)):
        most = max(most, logs[k])
    for k in range(len(logs)):
        logs[k] = np.exp(logs[k] - most)
        total += logs[k]
    for k in range(len(logs)):
        logs[k] /= total
    return most + np.log(total)


@kernel
def mixture_adjoint(z0, z1, slab, stack, weights, means, covariances, inverses, starts, halves, scale, log, out):
    """log = log likelihood of each sample, (Z, Y, X);  out = scale * its derivative by the intensities."""
    N, C, _, Y, X = stack.shape
    K, M = means.shape
    u, s, logs = np.empty(M), np.empty(M), np.empty(K)
    g, a = np.empty((K, M)), np.empty((M, M))
    T = out.dtype.type
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                seen, complete = fetch(stack, weights, z, y, x, u, s)
                log[z, y, x] = 0
                for j in range(N):
                    for c in range(C):
                        out[j, c, z, y, x] = 0
                if not seen:
                    continue
                for k in range(K):
                    logs[k] = starts[k] + given(u, s, complete, means[k], covariances[k], inverses[k], halves[k], a,
                                                g[k])
                log[z, y, x] = T(shared(logs))
                for j in range(N):
                    for c in range(C):
                        v = 0.0
                        for k in range(K):
                            v -= logs[k] * g[k, j * C + c]
                        out[j, c, z, y, x] = T(scale * v)


@kernel
def mixture_curvature(z0, z1, slab, stack, weights, means, covariances, inverses, starts, halves, scale, out):
    """out_i = scale * sum over classes of their shares times the larger of H_ii and N / (2 (N - 1)) sum_j |H_ij|,
    H = s A^-1 s.
    """
    N, C, _, Y, X = stack.shape
    K, M = means.shape
    u, s, logs, g = np.empty(M), np.empty(M), np.empty(K), np.empty(M)
    a, b, h = np.empty((M, M)), np.empty(M), np.empty((K, M))
    T = out.dtype.type
    most = N / (2.0 * (N - 1.0))
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                seen, complete = fetch(stack, weights, z, y, x, u, s)
                for j in range(N):
                    for c in range(C):
                        out[j, c, z, y, x] = 0
                if not seen:
                    continue
                for k in range(K):
                    logs[k] = starts[k] + given(u, s, complete, means[k], covariances[k], inverses[k], halves[k], a, g)
                    for i in range(M):
                        if complete:
                            for j in range(M):
                                b[j] = inverses[k, j, i]
                        else:
                            for j in range(M):
                                b[j] = 0.0
                            b[i] = s[i]
                            solved(a, b)
                        own, all_of_it = abs(s[i] * b[i]), 0.0
                        for j in range(M):
                            all_of_it += abs(s[j] * b[j])
                        h[k, i] = max(own, most * all_of_it)
                shared(logs)
                for j in range(N):
                    for c in range(C):
                        v = 0.0
                        for k in range(K):
                            v += logs[k] * h[k, j * C + c]
                        out[j, c, z, y, x] = T(scale * v)


@kernel
def mixture_moments(z0, z1, slab, stack, weights, means, covariances, inverses, starts, halves, sums):
    """sums[slab] += log likelihood, then for each class its shares p, p v and p (v v^T + V), with v and V the mean and
    covariance of the intensities as they are expected given what is observed: u and 0 where all is.
    """
    K, M = means.shape
    _, _, _, Y, X = stack.shape
    u, s, logs = np.empty(M), np.empty(M), np.empty(K)
    g, a, b, v = np.empty((K, M)), np.empty((M, M)), np.empty(M), np.empty(M)
    width = 1 + M + M * M
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                seen, complete = fetch(stack, weights, z, y, x, u, s)
                if not seen:
                    continue
                for k in range(K):
                    logs[k] = starts[k] + given(u, s, complete, means[k], covariances[k], inverses[k], halves[k], a,
                                                g[k])
                sums[slab, 0] += shared(logs)
                for k in range(K):
                    p, at = logs[k], 1 + k * width
                    for i in range(M):
                        v[i] = u[i]
                    if not complete:
                        given(u, s, complete, means[k], covariances[k], inverses[k], halves[k], a, b)
                        for i in range(M):
                            v[i] = means[k, i]
                            for j in range(M):
                                v[i] += covariances[k, i, j] * g[k, j]
                    sums[slab, at] += p
                    for i in range(M):
                        sums[slab, at + 1 + i] += p * v[i]
                        for j in range(M):
                            sums[slab, at + 1 + M + i * M + j] += p * v[i] * v[j]
                    if not complete:
                        for i in range(M):  # Sigma - Sigma s A^-1 s Sigma
                            for j in range(M):
                                b[j] = s[j] * covariances[k, j, i]
                            solved(a, b)
                            for j in range(M):
                                left = covariances[k, i, j]
                                for m in range(M):
                                    left -= b[m] * s[m] * covariances[k, m, j]
                                sums[slab, at + 1 + M + i * M + j] += p * left
