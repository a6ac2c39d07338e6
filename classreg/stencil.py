"""Gaussian smoothing of (C, Z, Y, X) arrays, and the few vector operations that optimisers need.

Some (`dot`, `add_scaled`, `total`) also take arrays of other libraries, CuPy's for one, that answer to NumPy's
functions by its protocols (NEP 13 and 18), and sum in an order of their own. All else optimisers do by such functions.

Must not import: anything above floor 0.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .backend import slab_of, workspace
from .kernels.cpu import filters, pointwise

#: below this many samples a Gaussian is the identity
NARROW = 0.2


@lru_cache(maxsize=64)  # asked for at every iteration
def gaussian_taps(sigma: float, long: bool = True, dtype=np.float32) -> np.ndarray:
    """Taps of a Gaussian in the layout of `filters.smooth`; the identity on one-sample axes and for a tiny sigma."""
    radius = int(np.ceil(2.5 * sigma)) if sigma > NARROW and long else 0
    k = np.exp(-0.5 * (np.arange(radius + 1) / max(sigma, NARROW)) ** 2)
    k /= 2 * k.sum() - k[0]
    return np.concatenate([k, np.zeros(-radius % 3 if radius else 3)]).astype(dtype)


def smooth(array: np.ndarray, sigma, out: np.ndarray) -> np.ndarray:
    """`array` (C, Z, Y, X) filtered by a Gaussian of `sigma` (3,) samples into `out`, edge samples repeated outside."""
    kz, ky, kx = (gaussian_taps(float(s), n > 1, array.dtype) for s, n in zip(sigma, array.shape[1:]))
    workspace().run(filters.smooth, array.shape[1], array, kz, ky, kx, out)
    return out


def dot(a: np.ndarray, b: np.ndarray) -> float:
    """Inner product in float64, slab by slab: the same bits for any number of threads."""
    if not isinstance(a, np.ndarray):
        return float(np.sum(np.multiply(a, b, dtype=np.float64)))
    a, b = a.reshape(-1), b.reshape(-1)
    return float(workspace().total(pointwise.dot, a.size, 1, a, b, slab=1 << 18)[0])


def add_scaled(a: np.ndarray, s: float, b: np.ndarray, out: np.ndarray) -> np.ndarray:
    """out = a + s b; `out` may be `a` or `b`."""
    if not isinstance(a, np.ndarray):
        return np.add(a, b * b.dtype.type(s), out=out)
    workspace().run(pointwise.add_scaled, a.size, a.reshape(-1), float(s), b.reshape(-1), out.reshape(-1), slab=1 << 18)
    return out


def total(array: np.ndarray) -> float:
    """Sum in float64, slab by slab."""
    if not isinstance(array, np.ndarray):
        return float(np.sum(array, dtype=np.float64))
    return float(workspace().total(pointwise.total, array.size, 1, array.reshape(-1), slab=1 << 18)[0])


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of |a - b| in float64, slab by slab."""
    a, b = a.reshape(-1), b.reshape(-1)
    return float(workspace().total(pointwise.apart, a.size, 1, a, b, slab=1 << 18)[0])


def peak(field: np.ndarray, scale: np.ndarray) -> float:
    """Largest length of scale . u over a (d, Z, Y, X) field; `scale` (3, 3), e.g. mm to samples."""
    slab = slab_of(field.shape[1])
    peaks = np.zeros((-(-field.shape[1] // slab), 1))
    workspace().run(pointwise.largest, field.shape[1], field, np.ascontiguousarray(scale, float), peaks, slab=slab)
    return float(np.sqrt(peaks.max()))
