"""Products of images with each other, and linear combinations of them, channel by channel.

`stack` is (N, C, Z, Y, X), `weight` (Z, Y, X). Sums are taken in float64, in loops of their own.
"""

import numpy as np

from . import kernel


@kernel
def together(z0, z1, slab, weights, out):
    """out = the product of the weights of all images."""
    N, _, Y, X = weights.shape
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                out[z, y, x] = weights[0, z, y, x]
            for j in range(1, N):
                for x in range(X):
                    out[z, y, x] *= weights[j, z, y, x]


@kernel
def sizes(z0, z1, slab, stack, c, weight, sums):
    """sums[slab] += weighted sums of 1, of u_1 .. u_N, and of their squares; of channel c."""
    N, _, _, Y, X = stack.shape
    for z in range(z0, z1):
        for y in range(Y):
            n = 0.0
            for x in range(X):
                n += np.float64(weight[z, y, x])
            sums[slab, 0] += n
            for j in range(N):
                s, q = 0.0, 0.0
                for x in range(X):
                    u = np.float64(stack[j, c, z, y, x])
                    w = np.float64(weight[z, y, x]) * u
                    s += w
                    q += w * u
                sums[slab, 1 + j] += s
                sums[slab, 1 + N + j] += q


@kernel
def gram(z0, z1, slab, stack, c, weight, sums):
    """sums[slab] += weighted sums of 1, of u_1 .. u_N, and of u_i u_j for j <= i, row by row; of channel c."""
    N, _, _, Y, X = stack.shape
    row = np.empty(X)
    for z in range(z0, z1):
        for y in range(Y):
            n = 0.0
            for x in range(X):
                n += np.float64(weight[z, y, x])
            sums[slab, 0] += n
            k = 1 + N
            for i in range(N):
                for x in range(X):
                    row[x] = np.float64(weight[z, y, x]) * np.float64(stack[i, c, z, y, x])
                s = 0.0
                for x in range(X):
                    s += row[x]
                sums[slab, 1 + i] += s
                for j in range(i + 1):
                    s = 0.0
                    for x in range(X):
                        s += row[x] * np.float64(stack[j, c, z, y, x])
                    sums[slab, k + j] += s
                k += i + 1


@kernel
def mix(z0, z1, slab, stack, c, weight, matrix, offset, out):
    """out_i = weight * (sum over j of matrix[i, j] u_j + offset[i]) in channel c."""
    N, _, _, Y, X = stack.shape
    T = out.dtype.type
    row = np.empty(X, out.dtype)
    for z in range(z0, z1):
        for y in range(Y):
            for i in range(N):
                for x in range(X):
                    row[x] = T(offset[i])
                for j in range(N):
                    k = T(matrix[i, j])
                    for x in range(X):
                        row[x] += k * stack[j, c, z, y, x]
                for x in range(X):
                    out[i, c, z, y, x] = weight[z, y, x] * row[x]


@kernel
def project(z0, z1, slab, stack, c, matrix, offset, out):
    """out_i = sum over j of matrix[i, j] u_j + offset[i], (m, Z, Y, X), of channel c."""
    N, _, _, Y, X = stack.shape
    T = out.dtype.type
    for z in range(z0, z1):
        for y in range(Y):
            for i in range(len(out)):
                for x in range(X):
                    out[i, z, y, x] = T(offset[i])
                for j in range(N):
                    k = T(matrix[i, j])
                    for x in range(X):
                        out[i, z, y, x] += k * stack[j, c, z, y, x]


@kernel
def products(z0, z1, slab, scores, stack, c, weight, sums):
    """sums[slab, i * N + j] += weighted sums of scores_i u_j of channel c; `scores` is (m, Z, Y, X)."""
    N, _, _, Y, X = stack.shape
    row = np.empty(X)
    for z in range(z0, z1):
        for y in range(Y):
            for i in range(len(scores)):
                for x in range(X):
                    row[x] = np.float64(weight[z, y, x]) * np.float64(scores[i, z, y, x])
                for j in range(N):
                    s = 0.0
                    for x in range(X):
                        s += row[x] * np.float64(stack[j, c, z, y, x])
                    sums[slab, i * N + j] += s


@kernel
def unproject(z0, z1, slab, scores, stack, c, weight, matrix, own, offset, out):
    """out_j = weight * (sum over i of matrix[j, i] scores_i + own[j] u_j + offset[j]) in channel c."""
    N, _, _, Y, X = stack.shape
    T = out.dtype.type
    row = np.empty(X, out.dtype)
    for z in range(z0, z1):
        for y in range(Y):
            for j in range(N):
                a, b = T(own[j]), T(offset[j])
                for x in range(X):
                    row[x] = a * stack[j, c, z, y, x] + b
                for i in range(len(scores)):
                    k = T(matrix[j, i])
                    for x in range(X):
                        row[x] += k * scores[i, z, y, x]
                for x in range(X):
                    out[j, c, z, y, x] = weight[z, y, x] * row[x]


@kernel
def template(z0, z1, slab, stack, c, weights, slope, offset, size, ridge, out, share):
    """share = (1 + ridge) / (ridge + sum w_j size_j),  out = share * sum of w_j (slope_j u_j + offset_j); channel c."""
    N, _, _, Y, X = stack.shape
    T = out.dtype.type
    k = T(ridge)
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                out[z, y, x], share[z, y, x] = 0, k
            for j in range(N):
                a, b, s = T(slope[j]), T(offset[j]), T(size[j])
                for x in range(X):
                    w = weights[j, z, y, x]
                    out[z, y, x] += w * (a * stack[j, c, z, y, x] + b)
                    share[z, y, x] += w * s
            for x in range(X):
                share[z, y, x] = (T(1) + k) / share[z, y, x]
                out[z, y, x] *= share[z, y, x]


@kernel
def add_template(z0, z1, slab, adjoint, share, c, weights, slope, out):
    """out_j += adjoint * share * w_j slope_j in channel c: the way back through `template`."""
    N, _, _, Y, X = out.shape
    T = out.dtype.type
    for z in range(z0, z1):
        for y in range(Y):
            for j in range(N):
                a = T(slope[j])
                for x in range(X):
                    out[j, c, z, y, x] += a * adjoint[z, y, x] * share[z, y, x] * weights[j, z, y, x]
