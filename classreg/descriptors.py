"""Self-similarity descriptors (MIND-SSC): what a place looks like by its own neighbours, whatever the contrast.

For the pairs (a, b) of neighbours of a sample that lie on different axes, D is the mean over a patch of the squared
difference of I(. + a) and I(. + b), over channels summed, and the descriptor is exp(-(D - least D) / V), V the mean of
D over the pairs, clamped. With a weight, pairs count with the product of both weights, so nothing outside a mask is
read.
Sources: Heinrich et al., Medical Image Analysis 2012, doi:10.1016/j.media.2012.05.008; MICCAI 2013,
doi:10.1007/978-3-642-40811-3_24.

Must not import: anything above floor 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .backend import workspace
from .kernels.cpu import descriptors as kernels

#: V is clamped to these multiples of its mean
CLAMP = (1e-3, 1e3)


@dataclass(frozen=True, eq=False)
class Patch:
    """What is compared: `pairs` (C, 2, 3) of index offsets, patches of 2 `radius` + 1 samples per axis, (3,).

    Beyond the border its samples are repeated, so that along a one-sample axis a neighbour is the sample itself.
    """

    pairs: np.ndarray
    radius: np.ndarray

    @classmethod
    def of(cls, axes, dilation, radius) -> Patch:
        """All pairs of neighbours `dilation` (3,) samples away on different ones of `axes`: 12 in space, 4 in a plane.

        They follow the order of `axes`, on each the neighbour ahead first; a negative dilation looks ahead backwards.

        Examples
        --------
        >>> len(Patch.of((0, 1, 2), (1, 1, 1), (1, 1, 1)).pairs)
        12
        """
        ends = [(axis, sign * dilation[axis] * np.eye(3, dtype=int)[axis]) for axis in axes for sign in (1, -1)]
        found = [(a, b) for k, (p, a) in enumerate(ends) for q, b in ends[k + 1:] if p != q]
        return cls(np.array(found, np.int64).reshape(-1, 2, 3), np.array(radius, np.int64))

    @property
    def margin(self) -> np.ndarray:
        """How far a patch reaches, (3,) samples."""
        return self.radius + np.abs(self.pairs).max((0, 1), initial=0)

    @property
    def first(self) -> np.ndarray:
        """`pairs` from the first sample of a patch, in an array padded by `margin`: at least 0."""
        return self.pairs + (self.margin - self.radius)


def describe(data: np.ndarray, patch: Patch, weight: np.ndarray | None = None) -> np.ndarray:
    """Descriptors of (channels, z, y, x) data where `weight` (z, y, x) counts, (pairs, z, y, x).

    The part of a pair whose patches lie outside the weight altogether is the same for all images.
    """
    out = np.empty((len(patch.pairs), *data.shape[1:]), data.dtype)
    room = np.empty_like(out) if weight is not None else None
    there = None if weight is None else padded(weight, patch)
    for k, channel in enumerate(data):
        part = out if k == 0 else np.empty_like(out)
        distances(padded(channel, patch), there, patch, part, room)
        if k:
            out += part
    low, high = limits(out)
    workspace().run(kernels.descriptors, out.shape[1], low, high, out)
    return out


def limits(distance: np.ndarray) -> tuple[float, float]:
    """Least and greatest V, from all distances that count."""
    mean = max(float(distance.mean(dtype=np.float64, where=distance >= 0)), 1e-12)
    return CLAMP[0] * mean, CLAMP[1] * mean


def padded(array: np.ndarray, patch: Patch, out: np.ndarray | None = None) -> np.ndarray:
    """An array (z, y, x) with the patch's margin around it, into `out` if given."""
    out = np.empty(np.array(array.shape) + 2 * patch.margin, array.dtype) if out is None else out
    workspace().run(kernels.pad, len(out), array, patch.margin, out)
    return out


def distances(image: np.ndarray, weight: np.ndarray | None, patch: Patch, out: np.ndarray, count) -> None:
    """D of a padded image into `out` (pairs, z, y, x); with a padded weight, -1 where none counts, and `count`."""
    ws, n = workspace(), out.shape[1]
    if weight is None:
        ws.run(kernels.distances, n, image, patch.first, patch.radius, out)
    else:
        ws.run(kernels.weighted_distances, n, image, weight, patch.first, patch.radius, out, count)
