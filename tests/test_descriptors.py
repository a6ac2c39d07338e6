"""Kernels of self-similarity descriptors against their definitions, there and back."""

from __future__ import annotations

import numpy as np
from test_kernels import DIMENSIONS, DTYPES, Scene, close, run, tolerance

from classreg.descriptors import Patch
from classreg.kernels import reference
from classreg.kernels.cpu import descriptors


@DTYPES
@DIMENSIONS
def test_descriptors_and_their_way_back(ndim, dtype):
    s = Scene(ndim, dtype)
    patch = Patch.of(range(3 - ndim, 3), (1, 2, 1), np.array([1, 1, 2]) * (np.array(s.shape) > 1))
    assert len(patch.pairs) == (12 if ndim == 3 else 4)
    weight = s.weight.copy()
    weight[..., :9, :9] = 0
    wide = np.array(s.shape) + 2 * patch.margin
    image, there = (run(descriptors.pad, wide[0], a, patch.margin, outs=(np.empty(wide, dtype),))[0]
                    for a in (s.fixed, weight))
    assert np.array_equal(image, reference.pad(s.fixed, patch.margin))
    shape, geometry = (len(patch.pairs), *s.shape), (patch.first, patch.radius)
    plain, = run(descriptors.distances, s.shape[0], image, *geometry, outs=(np.empty(shape, dtype),))
    close(plain, reference.distances(image, *geometry, s.shape), tolerance(dtype))
    distance, count = run(descriptors.weighted_distances, s.shape[0], image, there, *geometry,
                          outs=(np.empty(shape, dtype), np.empty(shape, dtype)))
    expected, expected_count = reference.weighted_distances(image, there, *geometry, s.shape)
    assert (expected < 0).any() and (expected >= 0).any(), "some pairs lie outside the weight"
    close(distance, expected, tolerance(dtype, 10))
    close(count, expected_count, tolerance(dtype))
    low, high = 0.6 * plain.mean(), 1.6 * plain.mean()

    def changed(kernel, start):
        def begun(z0, z1, k, *rest):
            rest[-1][..., z0:z1, :, :] = start[..., z0:z1, :, :]
            kernel(z0, z1, k, *rest)

        return begun

    own, = run(changed(descriptors.descriptors, distance), s.shape[0], low, high, outs=(distance,))
    close(own, reference.descriptors(distance, low, high), tolerance(dtype, 10))
    other = own[..., ::-1].copy()

    def mismatch(z0, z1, k, *rest):
        rest[-3][:, z0:z1], rest[-1][k] = distance[:, z0:z1], 0
        descriptors.mismatch(z0, z1, k, *rest)

    args = (other, weight, low, high, 0.3, 0.5, count)
    slope, bend, sums = run(mismatch, s.shape[0], *args, outs=(distance, weight, np.zeros((9, 1))), slab=8)
    wanted, curvature, square = reference.mismatch(*args, distance)
    close(slope, wanted, tolerance(dtype, 30))
    close(bend, curvature, tolerance(dtype, 30))
    close(np.nansum(sums), square, tolerance(dtype, 10))
    args = (image, there, *geometry, slope)
    turned = np.empty((len(patch.pairs), *(np.array(s.shape) + 2 * patch.radius)), dtype)
    turned, = run(descriptors.spread, turned.shape[1], *args, outs=(turned,))
    close(turned, reference.spread(*args), tolerance(dtype, 10))
    back, = run(changed(descriptors.collect, np.zeros(s.shape)), s.shape[0], turned, patch.first, patch.margin,
                outs=(s.fixed,))
    close(back, reference.collect(turned, patch.first, patch.margin, s.shape), tolerance(dtype, 10))
