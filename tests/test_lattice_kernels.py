"""Kernels of control lattices and of Jacobian determinants against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from test_kernels import DIMENSIONS, DTYPES, close, run, tolerance, total

from classreg.backend import Workspace
from classreg.kernels import reference
from classreg.kernels.cpu import folds, lattice
from classreg.spline import basis
from classreg.transforms.folds import LANES, least_determinants

SHAPES = {2: (1, 70, 70), 3: (12, 13, 30)}


def frame_of(ndim):
    """Unit vectors of axes that are neither upright nor at right angles."""
    frame = np.eye(ndim) + 0.2 * np.random.default_rng(0).standard_normal((ndim, ndim))
    return frame / np.sqrt((frame**2).sum(0))


@DTYPES
@DIMENSIONS
def test_gram_matrices(ndim, dtype):
    rng = np.random.default_rng(ndim)
    theta = rng.standard_normal((ndim, *SHAPES[ndim])).astype(dtype)
    gz, gy, gx = (rng.standard_normal((count, 7, n)).astype(dtype) for count, n in zip((2, 3, 2), SHAPES[ndim]))
    for g in (gz, gy, gx):  # diagonals end where the matrix does
        i, t = np.meshgrid(np.arange(g.shape[2]), np.arange(7))
        g[:, (i + t < 3) | (i + t - 3 >= g.shape[2])] = 0
    terms = np.array([(0, 0, 0, 0, 0), (0, 1, 1, 2, 1), (1, 0, 1, 1, 0), (1, 1, 0, 2, 1), (1, 1, 1, 0, 1)])
    factors = rng.standard_normal(len(terms)).astype(dtype)
    work, outs = ndim * SHAPES[ndim][0], (np.empty((2, *theta.shape), dtype),)
    planes, = run(lattice.gram_planes, work, theta, gy, gx, terms, factors, outs=outs, slab=1)
    close(planes, reference.gram_planes(theta, gy, gx, terms, factors, 2), tolerance(dtype))
    expected, inner = reference.gram_sum(theta, planes, gz)

    def kernel(k0, k1, slab, *rest):
        rest[-1][slab] = 0  # `run` fills outputs with NaN, sums begin at zero
        lattice.gram_sum(k0, k1, slab, *rest)

    found, sums = run(kernel, work, theta, planes, gz, outs=(np.empty_like(theta), np.zeros((work, 1))), slab=1)
    close(found, expected, tolerance(dtype))
    assert sums.sum() == pytest.approx(inner, rel=tolerance(dtype, 10))


@DTYPES
@DIMENSIONS
def test_the_barrier_and_its_way_back(ndim, dtype):
    rng, (Z, Y, X), taps = np.random.default_rng(ndim), SHAPES[ndim], 4 if ndim == 3 else 1
    P, frame = 7 if ndim == 3 else 1, frame_of(ndim)
    starts = np.sort(rng.integers(0, P - taps + 1, Z))
    value, slope = rng.uniform(0.5, 1, (2, Z, taps)).astype(dtype)
    parts = ({2: 0.3, 3: 0.07}[ndim] * rng.standard_normal((3, ndim, P, Y, X))).astype(dtype)
    parts[:, :, :, Y // 2:] *= dtype(0.05)  # rows where nothing is low
    below, least, scale = 0.7, -2.0, 0.3
    along = (starts, value, slope)
    expected, rows, pushed = reference.volume(parts, *along, frame, below, least, scale)
    assert 0.2 < rows.mean() < 0.8
    force, active = np.zeros((3, ndim, Z, Y, X), dtype), np.zeros((Z, Y), np.bool_)
    sums = total(lattice.volume, Z, 2, parts, *along, frame, below, least, scale, active, force, slab=1)
    assert sums[0] == pytest.approx(expected, rel=tolerance(dtype, 10)) and sums[1] == rows.sum()
    assert np.array_equal(active, rows)
    close(force[:, :, active], pushed[:, :, active], tolerance(dtype, 10))
    back, = run(lattice.volume_back, P, force, active, *along, outs=(np.zeros_like(parts),), slab=1)
    close(back[3 - ndim:], reference.volume_back(force, active, *along, P)[3 - ndim:], tolerance(dtype))


@DIMENSIONS
def test_bounds_of_determinants(ndim):
    """With the matrices that `least_determinants` gives it, of which the definition takes others, too."""
    rng, sizes = np.random.default_rng(ndim), np.array([3.0, 2.5, 4.0])[:ndim]
    boxes = 0.5 * rng.standard_normal((3 * LANES, ndim, *(4,) * ndim))
    lanes = boxes.reshape(3, LANES, ndim, -1, 4, 4).transpose(0, 2, 3, 4, 5, 1)
    n, one = 3 * ndim, np.ones((1, 1))
    t = np.linspace(0, 1, n)
    bernstein = np.linalg.inv(np.stack([np.polynomial.Polynomial.fromroots([0] * k + [1] * (n - 1 - k))(t) * (
        (-1) ** (n - 1 - k)) for k in range(n)], 1))  # without binomials, which scale each row
    bernstein /= bernstein.sum(1, keepdims=True)
    nodes = (basis(t), basis(t, 1), bernstein)
    expected = reference.least(lanes, *(nodes if ndim == 3 else (one, one, one)), *nodes, sizes, frame_of(ndim))
    close(least_determinants(boxes, sizes, frame_of(ndim)).reshape(3, LANES), expected, 1e-8)


@DTYPES
@DIMENSIONS
def test_folds_between_samples_are_counted(ndim, dtype):
    rng, spacing, frame = np.random.default_rng(ndim), np.array([3.0, 1.5, 2.0]), frame_of(ndim)
    field = (1.2 * rng.standard_normal((ndim, *SHAPES[ndim]))).astype(dtype)
    expected = reference.count(field, frame, spacing, 0.05)
    assert 0.05 < expected / field[0].size < 0.5
    for threads in (1, 3):
        with Workspace(threads) as ws:
            assert ws.total(folds.count, len(field[0]), 1, field, frame, spacing, 0.05, slab=4)[0] == expected
