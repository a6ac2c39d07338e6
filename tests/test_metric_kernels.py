"""The kernels of metrics against their definitions in `kernels/reference`; see `test_kernels` for the scene."""

from __future__ import annotations

import numpy as np
import pytest
from test_kernels import DIMENSIONS, DTYPES, Scene, close, run, tolerance, total

from classreg.kernels import reference
from classreg.kernels.cpu import edges, histogram, histogram_pair, local, pointwise


@DTYPES
@DIMENSIONS
@pytest.mark.parametrize("radii", [(1, 4, 2), (0, 1, 6), (3, 40, 2)])
def test_local_correlation(ndim, dtype, radii):
    s = Scene(ndim, dtype)
    radii = (0, *radii[1:]) if ndim == 2 else radii
    s.fixed[:, :9] = 0.25  # flat windows
    args, shape, slab = (s.fixed, s.warped, s.weight), s.shape, 8
    eps = dtype(1e-3)
    outs = [np.empty(shape, dtype)] * 3 + [np.zeros((-(-shape[0] // slab), 2))]

    def kernel(z0, z1, k, *rest):
        rest[-1][k] = 0  # `run` fills outputs with NaN, sums begin at zero
        local.correlation(z0, z1, k, *rest)

    none = np.empty((2, 0, 0, 0), dtype)
    *parts, _, sums = run(kernel, shape[0], *args, *radii, eps, 0.5, outs=[*outs[:3], none, outs[3]], slab=slab)
    both = [*outs[:3], np.empty((2, *shape), dtype), outs[3]]
    *again, other, sums_of_both = run(kernel, shape[0], *args, *radii, eps, 0.5, outs=both, slab=slab)
    assert all(np.array_equal(a, b) for a, b in zip((*parts, sums), (*again, sums_of_both)))
    *expected, expected_sums = reference.correlation(*args, radii, float(eps), 0.5)
    assert 0 < (expected[0] == 0).mean() < 0.5, "some samples have no weight, most have"
    scale = 1 if dtype == np.float64 else 30
    for found, wanted in zip(parts, expected):
        close(found, wanted, tolerance(dtype, scale))
    for found, wanted in zip(other, reference.correlation_other(*args, radii, float(eps), 0.5)):
        close(found, wanted, tolerance(dtype, scale))
    close(sums.sum(0), expected_sums, tolerance(dtype))
    out, curvature = run(local.correlation_adjoint, shape[0], *args, *radii, -0.01, *parts,
                         outs=(np.empty(shape, dtype), np.empty(shape, dtype)), slab=slab)
    close(out, reference.correlation_adjoint(*args, radii, -0.01, *parts), tolerance(dtype))
    close(curvature, reference.correlation_curvature(s.weight, radii, -0.01, parts[1]), tolerance(dtype, 2))
    assert curvature.min() >= -1e-6 * curvature.max()


FRAME = np.array([[0.9, 0.1, -0.2], [0, 1.3, 0.15], [0, 0, 0.7]])


def summing(kernel):
    """A kernel whose last output are sums, which begin at zero (`run` fills outputs with NaN)."""
    def begun(z0, z1, k, *rest):
        rest[-1][k] = 0
        kernel(z0, z1, k, *rest)

    return begun


@DTYPES
@DIMENSIONS
def test_edges_and_their_agreement(ndim, dtype):
    s, slab = Scene(ndim, dtype), 8
    sums = np.zeros((-(-s.shape[0] // slab), 2))
    close(total(edges.lengths, s.shape[0], 2, s.fixed, s.weight, FRAME), reference.lengths(s.fixed, s.weight, FRAME),
          tolerance(dtype))
    directions, = run(edges.directions, s.shape[0], s.fixed, FRAME, 0.4, outs=(np.empty((3, *s.shape), dtype),))
    close(directions, reference.directions(s.fixed, FRAME, 0.4), tolerance(dtype))
    args = (directions, s.warped, s.weight, FRAME, 0.3)
    parts, found = run(summing(edges.agreement), s.shape[0], *args, outs=(np.empty((4, *s.shape), dtype), sums),
                       slab=slab)
    expected, expected_sums = reference.agreement(*args)
    assert 0 < (expected[3] == 0).mean() < 1
    close(found.sum(0), expected_sums, tolerance(dtype))
    for k in range(4):
        if s.shape[k % 3] > 1 or k == 3:
            close(parts[k], expected[k], tolerance(dtype))
    args = (parts, FRAME, -0.7, 1.5)
    out, curvature = run(edges.agreement_adjoint, s.shape[0], *args, outs=(s.fixed, s.fixed), slab=slab)
    wanted = reference.agreement_adjoint(*args)
    close(out, wanted[0], tolerance(dtype))
    close(curvature, wanted[1], tolerance(dtype))


@DTYPES
@DIMENSIONS
def test_residuals(ndim, dtype):
    s = Scene(ndim, dtype)
    args = (s.adjoint, s.adjoint[::-1].copy(), s.weight, 0.3)
    out, sums = run(summing(pointwise.residuals), s.shape[0], *args, outs=(s.adjoint, np.zeros((9, 1))), slab=8)
    expected, expected_sum = reference.residuals(*args)
    close(out, expected, tolerance(dtype))
    close(np.nansum(sums), expected_sum, tolerance(dtype))


@DTYPES
@DIMENSIONS
@pytest.mark.parametrize("rows", [1, 2])
def test_joint_histogram_and_its_adjoint(ndim, dtype, rows):
    s = Scene(ndim, dtype)
    bins, slab = 20, 4
    origin, scale = np.array([9.3, 8.2]), np.array([2.1, 2.6])  # some samples beyond either end
    if rows == 1:  # halfway between two bins a box may fall into either
        halfway = np.abs(np.mod(origin[0] + scale[0] * s.fixed, 1) - 0.5) < 1e-4
        s.fixed[halfway] += dtype(1e-3)
    args = (s.fixed, s.warped, s.weight, origin, scale, rows)
    tables = np.zeros((-(-s.shape[0] // slab), bins, bins))

    def kernel(z0, z1, k, *rest):
        rest[-1][k] = 0
        histogram.joint(z0, z1, k, *rest)

    found, = run(kernel, s.shape[0], *args, outs=(tables,), slab=slab)
    table = found.sum(0)
    close(table, reference.joint(*args, bins), tolerance(dtype))
    assert table.sum() == pytest.approx(s.weight.sum(dtype=float), rel=1e-6), "a window's weights sum to one"
    xi = origin[1] + scale[1] * s.warped
    assert (xi < 1).any() and (xi > bins - 2).any(), "the scene must reach beyond the table"
    score = np.random.default_rng(2).standard_normal((bins, bins))
    out, = run(histogram.joint_adjoint, s.shape[0], *args, score, outs=(np.empty(s.shape, dtype),), slab=slab)
    close(out, reference.joint_adjoint(*args, score), tolerance(dtype))


@DTYPES
@DIMENSIONS
def test_look_up(ndim, dtype):
    s = Scene(ndim, dtype)
    table = np.random.default_rng(3).standard_normal(20)
    args = (s.warped, s.weight, 9.3, 4.1, table)
    found, = run(histogram.look_up, s.shape[0], *args, outs=(np.empty(s.shape, dtype),))
    close(found, reference.look_up(*args), tolerance(dtype))


def test_joint_adjoint_is_the_derivative_of_the_histogram():
    rng = np.random.default_rng(3)
    fixed, warped, step = rng.standard_normal((3, 1, 4, 5))
    weight, origin, scale = np.full((1, 4, 5), 0.7), np.array([8.0, 8.5]), np.array([1.9, 1.4])
    score = rng.standard_normal((18, 18))
    h = 1e-5
    for rows in (1, 2):
        up, down = (np.sum(score * reference.joint(fixed, warped + e * step, weight, origin, scale, rows, 18))
                    for e in (h, -h))
        slope = np.sum(step * reference.joint_adjoint(fixed, warped, weight, origin, scale, rows, score))
        assert (up - down) / (2 * h) == pytest.approx(slope, rel=1e-7)


@DTYPES
@DIMENSIONS
def test_conditional_means_and_their_adjoint(ndim, dtype):
    s = Scene(ndim, dtype)
    bins, slab = 20, 4
    args = (s.fixed, s.warped, s.weight, 9.3, 2.1)
    tables = np.zeros((-(-s.shape[0] // slab), 2, bins))

    def kernel(z0, z1, k, *rest):
        rest[-1][k] = 0
        histogram.conditional(z0, z1, k, *rest)

    found, = run(kernel, s.shape[0], *args, outs=(tables,), slab=slab)
    for row, expected in zip(found.sum(0), reference.conditional(*args, bins)):
        close(row, expected, tolerance(dtype))
    table = np.random.default_rng(2).standard_normal(bins)
    out, = run(histogram.conditional_adjoint, s.shape[0], *args, table, -0.7, outs=(np.empty(s.shape, dtype),))
    close(out, reference.conditional_adjoint(*args, table, -0.7), tolerance(dtype))


@DTYPES
@DIMENSIONS
def test_charbonnier(ndim, dtype):
    s = Scene(ndim, dtype)
    args = (s.fixed, s.warped, s.weight, 0.2)
    for found, expected in zip(total(pointwise.charbonnier, s.shape[0], 2, *args), reference.charbonnier(*args)):
        assert found == pytest.approx(expected, rel=1e-6 if dtype == np.float32 else 1e-12)
    for name in ("charbonnier_adjoint", "charbonnier_curvature"):
        out, = run(getattr(pointwise, name), s.shape[0], *args, 0.03, outs=(np.empty(s.shape, dtype),))
        close(out, getattr(reference, name)(*args, 0.03), tolerance(dtype))


@DTYPES
@DIMENSIONS
def test_joint_histogram_of_a_pair_and_its_adjoints(ndim, dtype):
    s = Scene(ndim, dtype)
    bins, origin, scale = 20, np.array([9.0, 8.5]), np.array([2.5, 3.0])
    args = (s.fixed, s.warped, s.weight, origin, scale)
    tables = np.empty((-(-s.shape[0] // 16), bins, bins))

    def kernel(z0, z1, k, *rest):
        rest[-1][k] = 0
        histogram_pair.joint_pair(z0, z1, k, *rest)

    found, = run(kernel, s.shape[0], *args, outs=(tables,))
    close(found.sum(0), reference.joint_pair(*args, bins), tolerance(dtype))
    score = np.random.default_rng(4).standard_normal((bins, bins))
    outs = np.empty(s.shape, dtype), np.empty(s.shape, dtype)
    adjoints = run(histogram_pair.joint_pair_adjoint, s.shape[0], *args, score, outs=outs)
    for found, expected in zip(adjoints, reference.joint_pair_adjoint(*args, score)):
        close(found, expected, tolerance(dtype, 10))
        assert 0 < (expected == 0).mean() < 0.5
