"""Self-similarity descriptors (MIND), and the way back through them.

Inner loops run along x, whole rows at a time; offsets are unsigned, since an index that might be negative keeps a loop
from using vector registers. What an offset reaches is there: the arrays it goes into are padded. Distances of which no
sample counts are -1, and their descriptors `UNKNOWN`.
"""

import numpy as np

from . import kernel

#: the descriptor of a pair whose patches lie outside a mask: that of a distance one mean above the least
UNKNOWN = np.exp(-1.0)


@kernel
def pad(z0, z1, slab, image, margin, out):
    """out = image with `margin` (3,) more samples on each side, those of the border."""
    Z, Y, X = image.shape
    for z in range(z0, z1):
        k = min(max(z - margin[0], 0), Z - 1)
        for y in range(out.shape[1]):
            j = min(max(y - margin[1], 0), Y - 1)
            for x in range(margin[2]):
                out[z, y, x] = image[k, j, 0]
                out[z, y, margin[2] + X + x] = image[k, j, X - 1]
            for x in range(X):
                out[z, y, margin[2] + x] = image[k, j, x]


@kernel
def distances(z0, z1, slab, image, pairs, radius, out):
    """out[c] = mean over a box of the squared difference of two neighbours of each sample.

    `image` is padded by `radius` plus the reach of the neighbours; pairs (C, 2, 3) are offsets into it, at least 0,
    for the box's first sample; the box has 2 radius + 1 samples per axis.
    """
    C, Z, Y, X = out.shape
    T = out.dtype.type
    nz, ny, nx = 2 * radius[0] + 1, 2 * radius[1] + 1, 2 * radius[2] + 1
    share = T(1) / T(nz * ny * nx)
    wide = np.uint64(X + nx - 1)
    row = np.empty(X + nx - 1, out.dtype)
    for c in range(C):
        ax, bx = np.uint64(pairs[c, 0, 2]), np.uint64(pairs[c, 1, 2])
        for z in range(z0, z1):
            for y in range(Y):
                for x in range(wide):
                    row[x] = 0
                for k in range(nz):
                    az, bz = z + k + pairs[c, 0, 0], z + k + pairs[c, 1, 0]
                    for j in range(ny):
                        ay, by = y + j + pairs[c, 0, 1], y + j + pairs[c, 1, 1]
                        for x in range(wide):
                            t = image[az, ay, x + ax] - image[bz, by, x + bx]
                            row[x] += t * t
                for x in range(X):
                    total = row[x]
                    for i in range(1, nx):
                        total += row[x + i]
                    out[c, z, y, x] = share * total


@kernel
def weighted_distances(z0, z1, slab, image, weight, pairs, radius, out, count):
    """The same where samples have a weight, padded as the image: pairs count with the product of both weights.

    out = the mean of what counts, -1 where nothing does; count = the sum of the products.
    """
    C, Z, Y, X = out.shape
    T = out.dtype.type
    nz, ny, nx = 2 * radius[0] + 1, 2 * radius[1] + 1, 2 * radius[2] + 1
    wide = np.uint64(X + nx - 1)
    plane = np.empty((2, Y + ny - 1, X + nx - 1), out.dtype)
    ring = np.empty((2, nz, Y, X + nx - 1), out.dtype)  # of the last nz planes, sums along y
    row, seen = np.empty(X + nx - 1, out.dtype), np.empty(X + nx - 1, out.dtype)
    for c in range(C):
        ax, bx = np.uint64(pairs[c, 0, 2]), np.uint64(pairs[c, 1, 2])
        for p in range(z0, z1 + nz - 1):
            az, bz, at = p + pairs[c, 0, 0], p + pairs[c, 1, 0], p % nz
            for j in range(Y + ny - 1):
                ay, by = j + pairs[c, 0, 1], j + pairs[c, 1, 1]
                for x in range(wide):
                    t = image[az, ay, x + ax] - image[bz, by, x + bx]
                    w = weight[az, ay, x + ax] * weight[bz, by, x + bx]
                    plane[0, j, x] = w * t * t
                    plane[1, j, x] = w
            for y in range(Y):
                for x in range(wide):
                    ring[0, at, y, x] = plane[0, y, x]
                    ring[1, at, y, x] = plane[1, y, x]
                for j in range(1, ny):
                    for x in range(wide):
                        ring[0, at, y, x] += plane[0, y + j, x]
                        ring[1, at, y, x] += plane[1, y + j, x]
            z = p - nz + 1
            if z < z0:
                continue
            for y in range(Y):
                for x in range(wide):
                    row[x] = 0
                    seen[x] = 0
                for k in range(nz):
                    at = (z + k) % nz
                    for x in range(wide):
                        row[x] += ring[0, at, y, x]
                        seen[x] += ring[1, at, y, x]
                for x in range(X):
                    total, n = row[x], seen[x]
                    for i in range(1, nx):
                        total += row[x + i]
                        n += seen[x + i]
                    out[c, z, y, x] = total / n if n > 0 else T(-1)
                    count[c, z, y, x] = n


@kernel
def descriptors(z0, z1, slab, low, high, out):
    """out[c] = exp(-(D[c] - least D) / V), in place; V the mean of D over c, clamped to low..high."""
    C, _, Y, X = out.shape
    T = out.dtype.type
    least, mean, known = np.empty(X, out.dtype), np.empty(X, out.dtype), np.empty(X, out.dtype)
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                least[x], mean[x], known[x] = T(np.inf), 0, 0
            for c in range(C):
                for x in range(X):
                    d = out[c, z, y, x]
                    there = T(1) if d >= 0 else T(0)
                    least[x] = min(least[x], d) if d >= 0 else least[x]
                    mean[x] += there * d
                    known[x] += there
            for x in range(X):
                mean[x] = T(-1) / min(max(mean[x] / max(known[x], T(1)), T(low)), T(high))
            for c in range(C):
                for x in range(X):
                    d = out[c, z, y, x]
                    out[c, z, y, x] = np.exp(mean[x] * (d - least[x])) if d >= 0 else T(UNKNOWN)


@kernel
def mismatch(z0, z1, slab, fixed, weight, low, high, scale, stiffness, count, distance, curvature, sums):
    """Sum of squared differences of descriptors, and its derivative by the sums that distances are means of.

    fixed (C, Z, Y, X) are descriptors m', `distance` holds the moving image's D and receives the derivative: with
    f = (D - least D) / V, m = exp(-f) and q = scale w (m - m') m, it is  (-q + share (sum of f q) + sum of q at the
    least) / (V count),  share = 1 / (number of D that count), or 0 where V is clamped.
    sums[slab] += sum of w (m - m')^2.
    curvature = scale stiffness w times the sum of 8 m^2 D / (V^2 count): what one sample changes of descriptors with V
    held, if all around resembles it, for in each patch it is part of two differences, of about the mean size.
    """
    C, _, Y, X = distance.shape
    T = distance.dtype.type
    q, first = np.empty((C, X), distance.dtype), np.empty(X, np.int32)
    least, V, known = np.empty(X, distance.dtype), np.empty(X, distance.dtype), np.empty(X, distance.dtype)
    square, slope = np.empty(X, distance.dtype), np.empty(X, distance.dtype)
    at, bend = np.empty(X, distance.dtype), np.empty(X, distance.dtype)
    f, own = np.empty(X, distance.dtype), np.empty(X, distance.dtype)
    lo, hi, scaled, share = T(low), T(high), T(scale), T(8 * scale * stiffness)
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                least[x], first[x], V[x], known[x] = T(np.inf), -1, 0, 0
                square[x], slope[x], at[x], bend[x] = 0, 0, 0, 0
            for c in range(C):
                for x in range(X):
                    d = distance[c, z, y, x]
                    there, less = T(1) if d >= 0 else T(0), d >= 0 and d < least[x]
                    least[x], first[x] = d if less else least[x], c if less else first[x]
                    V[x] += there * d
                    known[x] += there
            for x in range(X):
                V[x] /= max(known[x], T(1))
                known[x] = T(1) / max(known[x], T(1)) if lo < V[x] < hi else T(0)  # from here on, the share
                V[x] = T(1) / min(max(V[x], lo), hi)  # and one over V
            for c in range(C):
                for x in range(X):
                    d = distance[c, z, y, x]
                    f[x] = (d - least[x]) * V[x] if d >= 0 else T(0)
                for x in range(X):  # alone, since it keeps a loop from using vector registers
                    own[x] = np.exp(-f[x])
                for x in range(X):
                    d, n, m = distance[c, z, y, x], count[c, z, y, x], own[x]
                    t = m - fixed[c, z, y, x] if d >= 0 else T(0)
                    square[x] += t * t
                    p = scaled * weight[z, y, x] * t * m
                    q[c, x] = p
                    slope[x] += f[x] * p
                    at[x] += p
                    bend[x] += m * m * d / n if n > 0 else T(0)
            for c in range(C):
                for x in range(X):
                    n = count[c, z, y, x]
                    mine = slope[x] * known[x] - q[c, x] + (at[x] if c == first[x] else T(0))
                    distance[c, z, y, x] = mine * V[x] / n if n > 0 else T(0)
            for x in range(X):
                square[x] *= weight[z, y, x]
                curvature[z, y, x] = share * weight[z, y, x] * bend[x] * V[x] * V[x]
            # a loop that also stores is compiled twice, and which version adds up depends on where the arrays lie
            s = 0.0
            for x in range(X):
                s += np.float64(square[x])
            sums[slab, 0] += s


@kernel
def spread(z0, z1, slab, image, weight, pairs, radius, slope, out):
    """out[c] (padded by `radius`) = 2 w (I(first) - I(second)) times the sum of slope over the box: the derivative of a
    sum over `weighted_distances` by the differences at each position; w the product of weights."""
    C, Z, Y, X = slope.shape
    _, _, H, W = out.shape
    T = out.dtype.type
    nz, ny, nx = 2 * radius[0] + 1, 2 * radius[1] + 1, 2 * radius[2] + 1
    plane = np.empty((Y, X), out.dtype)
    row = np.zeros(X + 2 * (nx - 1), out.dtype)
    lead, wide = nx - 1, np.uint64(W)
    for c in range(C):
        ax, bx = np.uint64(pairs[c, 0, 2]), np.uint64(pairs[c, 1, 2])
        for z in range(z0, z1):
            az, bz = z + pairs[c, 0, 0], z + pairs[c, 1, 0]
            plane[:] = 0
            for k in range(max(z - nz + 1, 0), min(z + 1, Z)):
                for y in range(Y):
                    for x in range(X):
                        plane[y, x] += slope[c, k, y, x]
            for y in range(H):
                ay, by = y + pairs[c, 0, 1], y + pairs[c, 1, 1]
                row[:] = 0
                for j in range(max(y - ny + 1, 0), min(y + 1, Y)):
                    for x in range(X):
                        row[lead + x] += plane[j, x]
                for x in range(wide):
                    total = row[x]
                    for i in range(1, nx):
                        total += row[x + i]
                    w = weight[az, ay, x + ax] * weight[bz, by, x + bx]
                    out[c, z, y, x] = T(2) * w * (image[az, ay, x + ax] - image[bz, by, x + bx]) * total


@kernel
def collect(z0, z1, slab, spread, pairs, margin, out):
    """out += what `spread` (C, H, W, L) says of each sample: as first of a pair added, as second taken away.

    Samples of the padding stand for those of the border.
    """
    C, D, H, W = spread.shape
    Z, Y, X = out.shape
    row = np.empty(X + 2 * margin[2], out.dtype)
    for z in range(z0, z1):
        ka, kb = z + margin[0] if z > 0 else 0, z + margin[0] + 1 if z < Z - 1 else Z + 2 * margin[0]
        for y in range(Y):
            ja, jb = y + margin[1] if y > 0 else 0, y + margin[1] + 1 if y < Y - 1 else Y + 2 * margin[1]
            row[:] = 0
            for k in range(ka, kb):
                for j in range(ja, jb):
                    for c in range(C):
                        for end in range(2):
                            p, q, s = k - pairs[c, end, 0], j - pairs[c, end, 1], pairs[c, end, 2]
                            if 0 <= p < D and 0 <= q < H:
                                if end == 0:
                                    for x in range(W):
                                        row[x + s] += spread[c, p, q, x]
                                else:
                                    for x in range(W):
                                        row[x + s] -= spread[c, p, q, x]
            for x in range(margin[2]):
                out[z, y, 0] += row[x]
                out[z, y, X - 1] += row[margin[2] + X + x]
            for x in range(X):
                out[z, y, x] += row[margin[2] + x]
