"""Normalised gradient fields: directions of edges, how well they agree, and the transpose of the gradient.

Differences are central, one-sided at borders and zero along one-sample axes. `frame` (3, 3), upper triangular, takes a
gradient per index (z, y, x) to one per mm along orthonormal axes, whatever the grid's directions: products and lengths
are then those in space.
"""

import numpy as np

from . import inline, kernel


@inline
def slopes(image, z, y, frame, row, gz, gy, gx):
    """The gradient along a row in 1 / mm, in the frame's axes; row (X + 2) is room."""
    Z, Y, X = image.shape
    T = gx.dtype.type
    za, zb, ya, yb = max(z - 1, 0), min(z + 1, Z - 1), max(y - 1, 0), min(y + 1, Y - 1)
    kz, ky, half = T(1.0 / max(zb - za, 1)), T(1.0 / max(yb - ya, 1)), T(0.5)
    zz, zy, zx = T(frame[0, 0]), T(frame[0, 1]), T(frame[0, 2])
    yy, yx, xx = T(frame[1, 1]), T(frame[1, 2]), T(frame[2, 2])
    for x in range(X):
        row[x + 1] = image[z, y, x]
    row[0], row[X + 1] = row[1], row[X]
    left, right = row[0:], row[2:]
    for x in range(X):
        gx[x] = half * (right[x] - left[x])
    if X > 1:
        gx[0] *= 2
        gx[X - 1] *= 2
    for x in range(X):
        a, b, c = kz * (image[zb, y, x] - image[za, y, x]), ky * (image[z, yb, x] - image[z, ya, x]), gx[x]
        gz[x] = zz * a + zy * b + zx * c
        gy[x] = yy * b + yx * c
        gx[x] = xx * c


@kernel
def lengths(z0, z1, slab, image, weight, frame, sums):
    """sums[slab] += (sum of w |gradient|, sum of w)."""
    _, Y, X = image.shape
    row = np.empty(X + 2, image.dtype)
    gz, gy, gx = np.empty(X, image.dtype), np.empty(X, image.dtype), np.empty(X, image.dtype)
    for z in range(z0, z1):
        for y in range(Y):
            slopes(image, z, y, frame, row, gz, gy, gx)
            s, n = 0.0, 0.0
            for x in range(X):
                w = np.float64(weight[z, y, x])
                s += w * np.float64(np.sqrt(gz[x] * gz[x] + gy[x] * gy[x] + gx[x] * gx[x]))
                n += w
            sums[slab, 0] += s
            sums[slab, 1] += n


@kernel
def directions(z0, z1, slab, image, frame, eta, out):
    """out (3, Z, Y, X) = gradient / sqrt(|gradient|^2 + eta^2), in the frame's axes."""
    _, Y, X = image.shape
    T = out.dtype.type
    square = T(eta * eta)
    row = np.empty(X + 2, out.dtype)
    gz, gy, gx = np.empty(X, out.dtype), np.empty(X, out.dtype), np.empty(X, out.dtype)
    for z in range(z0, z1):
        for y in range(Y):
            slopes(image, z, y, frame, row, gz, gy, gx)
            for x in range(X):
                a, b, c = gz[x], gy[x], gx[x]
                k = T(1) / np.sqrt(a * a + b * b + c * c + square)
                out[0, z, y, x] = k * a
                out[1, z, y, x] = k * b
                out[2, z, y, x] = k * c


@kernel
def agreement(z0, z1, slab, fixed, warped, weight, frame, eta, parts, sums):
    """How well edges agree, and what the transpose of the gradient makes the adjoint from.

    fixed (3, Z, Y, X) are the `directions` f of the fixed image, m is the gradient of the warped one,
    l = |m|^2 + eta^2, r = f m / sqrt(l); a sample counts with the least weight v of those that its differences read.
    parts[:3] = v (f - m (f m) / l) 2 (f m) / l, taken to differences along z, y, x; parts[3] = v |f|^2 / l.
    sums[slab] += (sum of v r^2, sum of v |f|^2): what agrees, and what could.
    """
    Z, Y, X = warped.shape
    T = parts.dtype.type
    square, half = T(eta * eta), T(0.5)
    zz, zy, zx = T(frame[0, 0]), T(frame[0, 1]), T(frame[0, 2])
    yy, yx, xx = T(frame[1, 1]), T(frame[1, 2]), T(frame[2, 2])
    row, thin = np.empty(X + 2, parts.dtype), np.empty(X + 2, parts.dtype)
    gz, gy, gx = np.empty(X, parts.dtype), np.empty(X, parts.dtype), np.empty(X, parts.dtype)
    for z in range(z0, z1):
        za, zb = max(z - 1, 0), min(z + 1, Z - 1)
        kz = T(1.0 / max(zb - za, 1))
        for y in range(Y):
            ya, yb = max(y - 1, 0), min(y + 1, Y - 1)
            ky = T(1.0 / max(yb - ya, 1))
            slopes(warped, z, y, frame, row, gz, gy, gx)
            for x in range(X):
                thin[x + 1] = weight[z, y, x]
            thin[0], thin[X + 1] = thin[1], thin[X]
            left, right = thin[0:], thin[2:]
            for x in range(X):
                v = min(min(weight[z, y, x], min(left[x], right[x])),
                        min(min(weight[za, y, x], weight[zb, y, x]), min(weight[z, ya, x], weight[z, yb, x])))
                f, g, h = fixed[0, z, y, x], fixed[1, z, y, x], fixed[2, z, y, x]
                a, b, c = gz[x], gy[x], gx[x]
                inverse = T(1) / (a * a + b * b + c * c + square)
                same = (f * a + g * b + h * c) * inverse
                full = f * f + g * g + h * h
                k = 2 * v * same
                a, b, c = k * (f - same * a), k * (g - same * b), k * (h - same * c)
                parts[0, z, y, x] = kz * zz * a
                parts[1, z, y, x] = ky * (zy * a + yy * b)
                parts[2, z, y, x] = half * (zx * a + yx * b + xx * c)
                parts[3, z, y, x] = v * full * inverse
                gz[x], gy[x] = v * same * same / inverse, v * full
            if X > 1:
                parts[2, z, y, 0] *= 2
                parts[2, z, y, X - 1] *= 2
            # a loop that also stores is compiled twice, and which version adds up depends on where the arrays lie
            s, n = 0.0, 0.0
            for x in range(X):
                s += np.float64(gz[x])
                n += np.float64(gy[x])
            sums[slab, 0] += s
            sums[slab, 1] += n


@kernel
def agreement_adjoint(z0, z1, slab, parts, frame, scale, stiffness, out, curvature):
    """out = scale * the transpose of the differences of parts[:3]; curvature = |scale| stiffness * its model.

    What a difference takes from i - 1 and i + 1, the transpose gives back to both; at borders, where differences are
    one-sided, the sample itself takes the place of the one that is not there, with the sign turned.
    The model is the diagonal of D^T B D with B = parts[3], as if all differences were central.
    """
    _, Z, Y, X = parts.shape
    T = out.dtype.type
    k = T(scale)
    whole = abs(scale) * stiffness / 4
    wz = T(whole * frame[0, 0] ** 2 if Z > 1 else 0.0)
    wy = T(whole * (frame[0, 1] ** 2 + frame[1, 1] ** 2) if Y > 1 else 0.0)
    wx = T(whole * (frame[0, 2] ** 2 + frame[1, 2] ** 2 + frame[2, 2] ** 2) if X > 1 else 0.0)
    row, wide = np.empty(X + 2, out.dtype), np.empty(X + 2, out.dtype)
    for z in range(z0, z1):
        za, zb = max(z - 1, 0), min(z + 1, Z - 1)
        sa, sb = T(1 if z > 0 else -1), T(1 if z < Z - 1 else -1)
        for y in range(Y):
            ya, yb = max(y - 1, 0), min(y + 1, Y - 1)
            ta, tb = T(1 if y > 0 else -1), T(1 if y < Y - 1 else -1)
            for x in range(X):
                row[x + 1] = parts[2, z, y, x]
                wide[x + 1] = parts[3, z, y, x]
            row[0], row[X + 1] = -row[1], -row[X]
            wide[0], wide[X + 1] = wide[1], wide[X]
            left, right, near, far = row[0:], row[2:], wide[0:], wide[2:]
            for x in range(X):
                out[z, y, x] = k * (sa * parts[0, za, y, x] - sb * parts[0, zb, y, x]
                                    + ta * parts[1, z, ya, x] - tb * parts[1, z, yb, x] + left[x] - right[x])
                curvature[z, y, x] = (wz * (parts[3, za, y, x] + parts[3, zb, y, x])
                                      + wy * (parts[3, z, ya, x] + parts[3, z, yb, x]) + wx * (near[x] + far[x]))
