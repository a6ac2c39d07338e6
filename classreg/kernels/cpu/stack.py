"""Stacks of images that all move, sample by sample: how far they spread.

`stack` is (N, C, Z, Y, X), `weights` (N, Z, Y, X). W is the sum of the weights at a sample, the mean that of the
intensities with these weights. Worked row by row, in vector registers; sums have loops of their own.
"""

import numpy as np

from . import inline, kernel


@inline
def weighed(weights, z, y, count):
    """Of a row: the sum of the weights."""
    N, _, _, X = weights.shape
    for x in range(X):
        count[x] = 0
    for j in range(N):
        for x in range(X):
            count[x] += weights[j, z, y, x]


@inline
def averaged(stack, weights, c, z, y, count, mean):
    """Of a row: the weighted mean over the images of a channel; 0 where none has a weight."""
    N, _, _, _, X = stack.shape
    for x in range(X):
        mean[x] = 0
    for j in range(N):
        for x in range(X):
            mean[x] += weights[j, z, y, x] * stack[j, c, z, y, x]
    for x in range(X):
        mean[x] = mean[x] / count[x] if count[x] > 0 else mean[x]


@kernel
def dispersion(z0, z1, slab, stack, weights, sums):
    """sums[slab] += sums of w_j (u_j - mean)^2 over images and channels, and of W - sum w_j^2 / W."""
    N, C, _, Y, X = stack.shape
    count, mean = np.empty(X, stack.dtype), np.empty(X, stack.dtype)
    row, free = np.empty(X, stack.dtype), np.empty(X, stack.dtype)
    for z in range(z0, z1):
        for y in range(Y):
            weighed(weights, z, y, count)
            for x in range(X):
                row[x], free[x] = 0, 0
            for j in range(N):
                for x in range(X):
                    free[x] += weights[j, z, y, x] * weights[j, z, y, x]
            for x in range(X):
                free[x] = count[x] - free[x] / count[x] if count[x] > 0 else free[x]
            for c in range(C):
                averaged(stack, weights, c, z, y, count, mean)
                for j in range(N):
                    for x in range(X):
                        r = stack[j, c, z, y, x] - mean[x]
                        row[x] += weights[j, z, y, x] * r * r
            s, n = 0.0, 0.0
            for x in range(X):
                s += np.float64(row[x])
                n += np.float64(free[x])
            sums[slab, 0] += s
            sums[slab, 1] += n


@kernel
def dispersion_adjoint(z0, z1, slab, stack, weights, scale, out):
    """out = scale * w_j (u_j - mean)."""
    N, C, _, Y, X = stack.shape
    count, mean = np.empty(X, stack.dtype), np.empty(X, stack.dtype)
    k = out.dtype.type(scale)
    for z in range(z0, z1):
        for y in range(Y):
            weighed(weights, z, y, count)
            for c in range(C):
                averaged(stack, weights, c, z, y, count, mean)
                for j in range(N):
                    for x in range(X):
                        out[j, c, z, y, x] = k * weights[j, z, y, x] * (stack[j, c, z, y, x] - mean[x])


@kernel
def company(z0, z1, slab, weights, out):
    """out_j = w_j (W - w_j) / (N - 1): the weight of an image where others are seen too; 0 where it is alone."""
    N, _, Y, X = weights.shape
    count = np.empty(X, weights.dtype)
    share = weights.dtype.type(1 / (N - 1))
    for z in range(z0, z1):
        for y in range(Y):
            weighed(weights, z, y, count)
            for j in range(N):
                for x in range(X):
                    out[j, z, y, x] = weights[j, z, y, x] * (count[x] - weights[j, z, y, x]) * share


@inline
def kernel_sums(stack, weights, z, y, over, total):
    """Of a row: total_i = sum over j of w_j exp(-|u_i - u_j|^2 / (2 sigma^2)), with over = 1 / (2 sigma^2)."""
    N, C, _, _, X = stack.shape
    T = total.dtype.type
    near = np.empty(X, stack.dtype)
    for i in range(N):
        for x in range(X):
            total[i, x] = weights[i, z, y, x]
        for j in range(i):
            for x in range(X):
                near[x] = 0
            for c in range(C):
                for x in range(X):
                    r = stack[i, c, z, y, x] - stack[j, c, z, y, x]
                    near[x] -= r * r
            for x in range(X):
                k = np.exp(T(over) * near[x])
                total[i, x] += weights[j, z, y, x] * k
                total[j, x] += weights[i, z, y, x] * k


@kernel
def surprise(z0, z1, slab, stack, weights, lone, over, out):
    """out = sum over i of c_i log(W / q_i), q_i the `kernel_sums` and c_i = lone[i], (Z, Y, X)."""
    N, _, _, Y, X = stack.shape
    count, total = np.empty(X, stack.dtype), np.empty((N, X), stack.dtype)
    for z in range(z0, z1):
        for y in range(Y):
            weighed(weights, z, y, count)
            kernel_sums(stack, weights, z, y, over, total)
            for x in range(X):
                out[z, y, x] = 0
            for i in range(N):
                for x in range(X):
                    if lone[i, z, y, x] > 0:
                        out[z, y, x] += lone[i, z, y, x] * np.log(count[x] / total[i, x])


@kernel
def surprise_adjoint(z0, z1, slab, stack, weights, lone, over, scale, out):
    """out_i = scale * sum over j of exp(-over |u_i - u_j|^2) (u_i - u_j) (c_i w_j / q_i + c_j w_i / q_j)."""
    N, C, _, Y, X = stack.shape
    T = out.dtype.type
    total, near = np.empty((N, X), stack.dtype), np.empty(X, stack.dtype)
    for z in range(z0, z1):
        for y in range(Y):
            kernel_sums(stack, weights, z, y, over, total)
            for i in range(N):
                for x in range(X):
                    total[i, x] = lone[i, z, y, x] / total[i, x] if lone[i, z, y, x] > 0 else T(0)
                for c in range(C):
                    for x in range(X):
                        out[i, c, z, y, x] = 0
            for i in range(N):
                for j in range(i):
                    for x in range(X):
                        near[x] = 0
                    for c in range(C):
                        for x in range(X):
                            r = stack[i, c, z, y, x] - stack[j, c, z, y, x]
                            near[x] -= r * r
                    for x in range(X):
                        both = total[i, x] * weights[j, z, y, x] + total[j, x] * weights[i, z, y, x]
                        near[x] = T(scale) * np.exp(T(over) * near[x]) * both
                    for c in range(C):
                        for x in range(X):
                            k = near[x] * (stack[i, c, z, y, x] - stack[j, c, z, y, x])
                            out[i, c, z, y, x] += k
                            out[j, c, z, y, x] -= k
