"""Every kernel against its definition in `kernels/reference`, and the same bits for any number of threads.

Positions are dyadic fractions, exact in float32: both sides agree on the cell even where it begins.
"""

from __future__ import annotations

import numpy as np
import pytest

from classreg.backend import SMALL, Workspace
from classreg.kernels import reference
from classreg.kernels.cpu import (
    dense,
    edges,
    filters,
    flow,
    histogram,
    histogram_pair,
    labels,
    local,
    points,
    pointwise,
    sample,
    sample_cubic,
)
from classreg.spline import band
from classreg.stencil import gaussian_taps

THREADS = (1, 2, 3, 7)
SHAPES = {2: (1, 190, 180), 3: (53, 26, 25)}
SOURCES = {2: (1, 150, 170), 3: (41, 23, 30)}
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32])
DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


def tolerance(dtype, scale=1.0):
    """Relative to the largest expected value."""
    return (1e-11 if dtype == np.float64 else 2e-5) * scale


class Scene:
    """An image of two channels, a mapping that leaves it on every side, and arrays on its samples."""

    def __init__(self, ndim, dtype, channels=2):
        rng = np.random.default_rng(ndim)
        self.ndim, self.shape, self.source = ndim, SHAPES[ndim], SOURCES[ndim]
        assert np.prod(self.shape) > SMALL, "smaller arrays never reach the thread pool"
        self.image = rng.standard_normal((channels, *self.source)).astype(dtype)
        self.matrix = np.zeros((3, 4))
        if ndim == 3:
            self.matrix[:] = [[0.75, 0.125, -0.0625, 2.25], [-0.125, 1.0, 0.25, -3.5],
                              [0.0625, -0.25, 1.125, 3.75]]
            self.push = np.array([[0.25, -0.125, 0.5], [0.0625, 1.5, 0.25], [1.25, 0.125, -0.25]])
        else:
            self.matrix[1:, 1:] = [[0.875, 0.125, -9.5], [-0.0625, 1.0, 5.25]]
            self.push = np.array([[0, 0, 0], [0.125, 1.5, 0], [1.25, -0.25, 0]])
        self.field = (rng.integers(-48, 48, (ndim, *self.shape)) / 16).astype(dtype)
        self.none = np.empty((ndim, 0, 0, 0), dtype)
        self.adjoint = rng.standard_normal((channels, *self.shape)).astype(dtype)
        self.weight = np.clip(rng.uniform(-0.3, 1.2, self.shape), 0, 1).astype(dtype)
        self.fixed, self.warped = smooth_noise(rng, self.shape, dtype), smooth_noise(rng, self.shape, dtype)
        self.warped += dtype(0.5) * self.fixed


def smooth_noise(rng, shape, dtype):
    """Noise of unit variance with neighbours that resemble each other."""
    out = rng.standard_normal(shape)
    for axis, n in enumerate(shape):
        if n > 1:
            out = out + np.roll(out, 1, axis) + np.roll(out, -1, axis)
    return (out / out.std()).astype(dtype)


def run(kernel, n, *args, outs, slab=16):
    """Outputs of a kernel, after checking that every number of threads leaves the same bits in them."""
    found = None
    for threads in THREADS:
        with Workspace(threads) as ws:
            results = [np.full_like(out, np.nan if out.dtype.kind == "f" else 99) for out in outs]
            ws.run(kernel, n, *args, *results, slab=slab)
        bits = [r.tobytes() for r in results]
        found = found or bits
        assert bits == found, f"{threads} threads give other bits than {THREADS[0]}"
    return results


def total(kernel, n, width, *args, slab=16):
    """A sum over slabs, the same bits for every number of threads."""
    found = []
    for threads in THREADS:
        with Workspace(threads) as ws:
            found.append(ws.total(kernel, n, width, *args, slab=slab))
    assert all(f.tobytes() == found[0].tobytes() for f in found)
    return found[0]


def close(found, expected, relative):
    scale = np.abs(expected).max()
    assert scale > 0, "nothing was compared"
    worst = np.abs(found - expected).max() / scale
    assert worst <= relative, f"differs by {worst:.2e} of the largest value, allowed {relative:.0e}"


# -- sampling ------------------------------------------------------------------------------------------------

@DTYPES
@DIMENSIONS
@pytest.mark.parametrize("with_field", [True, False])
def test_linear_warp_and_force(ndim, dtype, with_field):
    s = Scene(ndim, dtype)
    field = s.field if with_field else s.none
    args = (s.image, s.matrix, s.push, field)
    out = np.empty((2, *s.shape), dtype)
    warped, weight = run(sample.warp, s.shape[0], *args, outs=(out, out[0]))
    expected, inside = reference.warp(*args, s.shape)
    assert 0.3 < (inside == 1).mean() < 0.97 and ((inside > 0) & (inside < 1)).any(), "some samples leave"
    close(warped, expected, tolerance(dtype))
    close(weight, inside, tolerance(dtype))
    force, = run(sample.force, s.shape[0], *args, s.adjoint, outs=(np.empty((ndim, *s.shape), dtype),))
    close(force, reference.force(*args, s.adjoint), tolerance(dtype))


@DTYPES
@DIMENSIONS
def test_cubic_warp_and_force(ndim, dtype):
    s = Scene(ndim, dtype)
    args = (s.image, s.matrix, s.push, s.field)
    out = np.empty((2, *s.shape), dtype)
    warped, weight = run(sample_cubic.warp, s.shape[0], *args, outs=(out, out[0]))
    expected, inside = reference.warp(*args, s.shape, reference.cubic_taps)
    close(warped, expected, tolerance(dtype))
    close(weight, inside, tolerance(dtype))
    force, = run(sample_cubic.force, s.shape[0], *args, s.adjoint, outs=(np.empty((ndim, *s.shape), dtype),))
    close(force, reference.force(*args, s.adjoint, reference.cubic_taps), tolerance(dtype))


@pytest.mark.parametrize("taps", [reference.linear_taps, reference.cubic_taps])
def test_the_reference_slope_is_the_derivative_of_the_reference(taps):
    """Off the samples, where the linear interpolant has one; so the kernels' force is a derivative, too."""
    s = Scene(3, np.float64)
    matrix, h = s.matrix + [0, 0, 0, 1 / 64], 1e-6
    step = np.zeros((3, 4))
    for axis in range(3):
        step[:] = 0
        step[axis, 3] = h
        up, down = (reference.warp(s.image, matrix + e, s.push, s.none, s.shape, taps)[0]
                    for e in (step, -step))
        gradient = reference.image_gradient(s.image, matrix, s.push, s.none, s.shape, taps)[axis]
        close((up - down) / (2 * h), gradient, 1e-7)


@DTYPES
@DIMENSIONS
@pytest.mark.parametrize("adjoints", [1, 3])
def test_sums_of_a_linear_model(ndim, dtype, adjoints):
    s = Scene(ndim, dtype)
    stack = np.concatenate([s.adjoint * dtype(k + 1) + dtype(k) for k in range(adjoints)])
    found = total(sample.reduce, s.shape[0], 12 * adjoints, s.image, s.matrix, stack).reshape(adjoints, 3, 4)
    close(found, reference.reduce(s.image, s.matrix, stack), tolerance(dtype))


@DTYPES
@DIMENSIONS
def test_normal_matrix_of_a_linear_model(ndim, dtype):
    s = Scene(ndim, dtype)
    curvature = np.abs(s.adjoint)
    found = total(sample.normal, s.shape[0], 144, s.image, s.matrix, curvature).reshape(12, 12)
    close(found, reference.normal(s.image, s.matrix, curvature), tolerance(dtype))


@DTYPES
@DIMENSIONS
@pytest.mark.parametrize("curved", [False, True])
def test_stencil(ndim, dtype, curved):
    s = Scene(ndim, dtype)
    warped, to_world = s.adjoint[::-1].copy(), s.push.T.copy()
    curvature = np.abs(s.adjoint) if curved else np.empty((2, 0, 0, 0), dtype)
    slab = 8
    outs = (np.empty((ndim + curved, *s.shape), dtype), np.zeros((-(-s.shape[0] // slab), 2)))

    def kernel(z0, z1, k, *rest):
        rest[-1][k] = 0  # `run` fills outputs with NaN, sums begin at zero
        dense.stencil(z0, z1, k, *rest)

    found, sums = run(kernel, s.shape[0], warped, s.adjoint, curvature, to_world, outs=outs, slab=slab)
    expected = reference.stencil(warped, s.adjoint, curvature if curved else None, to_world, ndim)
    close(found[:ndim], expected[:ndim], tolerance(dtype))
    if curved:
        close(found[ndim], expected[ndim], tolerance(dtype))
        close(sums.sum(0), [expected[ndim].sum(), (expected[ndim] ** 2).sum()], tolerance(dtype))


@DTYPES
@DIMENSIONS
def test_newton(ndim, dtype):
    s = Scene(ndim, dtype)
    args = (s.field, s.weight, 0.25, 1.5)
    found, = run(dense.newton, s.shape[0], *args, outs=(np.empty_like(s.field),))
    close(found, reference.newton(*args), tolerance(dtype))
    assert np.sqrt((found**2).sum(0)).max() <= 1.5 * (1 + 1e-6)


@DTYPES
@DIMENSIONS
def test_tensor_and_its_product(ndim, dtype):
    s = Scene(ndim, dtype)
    shape = (ndim * (ndim + 1) // 2, *s.shape)
    found, = run(dense.tensor, s.shape[0], s.field, s.weight, True, outs=(np.empty(shape, dtype),))
    close(found, reference.tensor(s.field, s.weight), tolerance(dtype))
    twice = found.copy()
    dense.tensor(0, s.shape[0], 0, s.field, s.weight, False, twice)
    close(twice, 2 * found, tolerance(dtype))
    field = s.field[..., ::-1].copy()
    product, = run(dense.multiply, s.shape[0], found, field, outs=(np.empty_like(field),))
    close(product, reference.multiply(found, field), tolerance(dtype))
    dense.multiply(0, s.shape[0], 0, found, field, field)
    assert np.array_equal(field, product), "in place"


@DTYPES
@pytest.mark.parametrize("cells", [(0, 5, 7), (3, 1, 4), (20, 24, 18)])
def test_spline_at_points_and_back(dtype, cells):
    """Points inside and beyond the lattice; the last one is large enough for the pool."""
    ndim, rng = 3 if cells[0] else 2, np.random.default_rng(0)
    shape = tuple(n + 3 if n else 1 for n in cells)
    to_cells = np.array([[0.1, 0.02, 0.5, 1.0], [0.03, 0.6, -0.1, 2.0], [0.7, 0.1, 0.05, 3.0]])
    to_cells[0] *= cells[0] > 0
    world = rng.uniform(-2, 30, (300, ndim))
    theta, force = (rng.standard_normal((ndim, *n)).astype(dtype) for n in (shape, (300,)))
    assert np.prod(shape) * ndim > SMALL or cells[0] < 20
    args = (world, to_cells, np.array(cells))
    found, = run(points.spline, 300, theta, *args, outs=(np.empty((ndim, 300), dtype),))
    close(found, reference.spline(theta, *args), tolerance(dtype))
    back, = run(points.spline_back, ndim, force, *args, outs=(np.empty_like(theta),), slab=1)
    close(back, reference.spline_back(force, *args, shape), tolerance(dtype))


@DTYPES
@DIMENSIONS
def test_compose(ndim, dtype):
    s = Scene(ndim, dtype)
    field = s.field[..., ::-1].copy()
    found, = run(dense.compose, s.shape[0], field, s.field, s.push, outs=(np.empty_like(field),))
    close(found, reference.compose(field, s.field, s.push), tolerance(dtype))


@DTYPES
@DIMENSIONS
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_square_back(ndim, dtype, scale):
    """Also where motions reach over many slabs and out of the image."""
    s = Scene(ndim, dtype)
    adjoint = np.random.default_rng(1).standard_normal(s.field.shape).astype(dtype)
    push, expected = scale * s.push, reference.reach(s.field, scale * s.push)
    planes, = run(dense.reach, s.shape[0], s.field, push, outs=(np.empty((s.shape[0], 2), np.int64),))
    assert np.array_equal(planes, expected + [-1, 1]) or s.shape[0] == 1
    args = (s.field, push, planes, adjoint)
    found, = run(dense.square_back, s.shape[0], *args, outs=(np.full_like(s.field, np.nan),))
    close(found, reference.square_back(s.field, push, adjoint), tolerance(dtype, scale))


@DIMENSIONS
def test_square_back_is_the_transposed_derivative_of_squaring(ndim):
    s = Scene(ndim, np.float64)
    rng = np.random.default_rng(2)
    field = s.field + rng.uniform(0.1, 0.9, s.field.shape) / 16  # off the lattice, where the derivative jumps
    step, adjoint = rng.standard_normal((2, *field.shape))
    h = 1e-6
    there, here = (reference.compose(field + k * h * step, field + k * h * step, s.push) for k in (1, -1))
    slope = np.sum((there - here) / (2 * h) * adjoint)
    assert np.sum(reference.square_back(field, s.push, adjoint) * step) == pytest.approx(slope, rel=1e-5)


@DTYPES
@DIMENSIONS
@pytest.mark.parametrize("with_field", [True, False])
def test_flow(ndim, dtype, with_field):
    """Each row takes the steps that its fastest start needs; every count that there is is compared."""
    s = Scene(ndim, dtype)
    rows = np.linspace(0.2, 1, s.source[1])[:, None]
    velocity = np.stack([smooth_noise(np.random.default_rng(k), s.source, dtype) for k in range(ndim)]) * rows
    velocity = velocity.astype(dtype)
    lead, field = 0.5 * s.push, (s.field if with_field else s.none)
    push = s.push / 8
    start = reference.flow(velocity, s.matrix, lead, field, 0 * push, 1, s.shape)  # v where the paths begin
    speed = np.sqrt((np.einsum("ij,j...->i...", push[:, :ndim], start) ** 2).sum(0)).max(-1)
    pace = 3.5 / speed.max()
    steps = 1 + np.floor(pace * speed).astype(int)
    sure = np.abs(pace * speed - np.round(pace * speed)) > 1e-3
    assert sure.mean() > 0.9 and len(np.unique(steps)) > 1
    found, = run(flow.flow, s.shape[0], velocity, s.matrix, lead, field, push, pace,
                 outs=(np.empty((ndim, *s.shape), dtype),))
    for count in np.unique(steps):
        here = (steps == count) & sure
        expected = reference.flow(velocity, s.matrix, lead, field, push, count, s.shape)
        close(found[:, here], expected[:, here], tolerance(dtype, 20))


@DIMENSIONS
@pytest.mark.parametrize("kind", [np.int16, np.uint8])
def test_label_vote(ndim, kind):
    s = Scene(ndim, np.float32)
    s.matrix[:, 3] += 1e-3 * np.sqrt([2, 3, 5])  # no two labels weigh the same
    image = np.random.default_rng(5).integers(0, 6, s.source).astype(kind)
    args = (image, s.matrix, s.push, s.field)
    found, = run(labels.vote, s.shape[0], *args, kind(77), outs=(np.empty(s.shape, kind),))
    assert np.array_equal(found, reference.vote(*args, 77, s.shape))
    assert 0 < (found == 77).mean() < 0.7


# -- filters -------------------------------------------------------------------------------------------------

@DTYPES
@DIMENSIONS
@pytest.mark.parametrize("sigma", [(0.9, 2.3, 0.1), (3.0, 0.6, 17.0)])
def test_smooth(ndim, dtype, sigma):
    s = Scene(ndim, dtype)
    padded = [gaussian_taps(v, n > 1, dtype) for v, n in zip(sigma, s.shape)]
    plain = [k[:2 * int(k[-1]) + 1].astype(float) for k in padded]
    found, = run(filters.smooth, s.shape[0], s.adjoint, *padded, outs=(np.empty_like(s.adjoint),))
    close(found, reference.smooth(s.adjoint, plain), tolerance(dtype))


@pytest.mark.parametrize("sigma", [1.7, 40.0])
def test_smooth_takes_lopsided_taps_and_short_axes(sigma):
    src = np.random.default_rng(0).standard_normal((2, 3, 4, 2))
    taps = [np.array([0.5, 0.3, -0.1]), gaussian_taps(sigma, True, float), np.array([0.1, 0.2, 0.3, 0.15, 0.25])]
    plain = [taps[0], taps[1][:2 * int(taps[1][-1]) + 1], taps[2]]
    padded = [np.concatenate([taps[0], [0, 1]]), taps[1], np.concatenate([taps[2], [0, 0, 0, 2]])]
    out = np.empty_like(src)
    filters.smooth(0, 3, 0, src, *padded, out)
    close(out, reference.smooth(src, plain), 1e-12)


@DTYPES
@pytest.mark.parametrize("inner", [1, 7, 1700])
@pytest.mark.parametrize("taps", [1, 2, 5])
def test_band_and_its_adjoint(dtype, inner, taps):
    rng = np.random.default_rng(taps)
    n, m, outer = 31, 45, 1500 if inner == 1 else 3
    operator = band(rng.standard_normal((m, taps)), rng.integers(-3, n + 2, m), n)
    starts, weights = operator.starts, operator.weights.astype(dtype)
    turned = operator.transposed
    assert starts.min() == 0 and (starts + weights.shape[1]).max() == n, "the band must reach both ends"
    x = rng.standard_normal((outer, n, inner)).astype(dtype)
    y = rng.standard_normal((outer, m, inner)).astype(dtype)
    block = 512
    work = outer * -(-inner // block)
    applied, = run(filters.band, work, x, starts, weights, block, outs=(np.empty_like(y),), slab=2)
    back, = run(filters.band, work, y, turned.starts, turned.weights.astype(dtype), block, outs=(np.empty_like(x),),
                slab=2)
    if inner == 1:
        last, = run(filters.band_last, outer, x[..., 0], starts, weights, outs=(np.empty_like(y[..., 0]),), slab=2)
        close(last, applied[..., 0], tolerance(dtype))
    close(applied, reference.band(x, starts, weights), tolerance(dtype))
    close(back, reference.band_adjoint(y, starts, weights, n), tolerance(dtype))
    left, right = reference.dot(applied, y), reference.dot(x, back)
    lengths = np.sqrt(reference.dot(applied, applied) * reference.dot(y, y))
    assert abs(left - right) <= tolerance(dtype) * lengths


# -- pointwise -----------------------------------------------------------------------------------------------

@DTYPES
@DIMENSIONS
def test_moments_and_combine(ndim, dtype):
    s = Scene(ndim, dtype)
    args = (s.fixed, s.warped, s.weight)
    close(total(pointwise.moments, s.shape[0], 6, *args), reference.moments(*args), 1e-12)
    found, = run(pointwise.combine, s.shape[0], *args, 0.7, -1.3, 0.2, outs=(np.empty_like(s.fixed),))
    close(found, reference.combine(*args, 0.7, -1.3, 0.2), tolerance(dtype))


@DTYPES
def test_vector_operations(dtype):
    a, b = np.random.default_rng(1).standard_normal((2, 3 * SMALL + 5)).astype(dtype)
    found = total(pointwise.dot, a.size, 1, a, b, slab=1 << 12)
    assert found[0] == pytest.approx(reference.dot(a, b), rel=1e-12)
    out, = run(pointwise.add_scaled, a.size, a, 0.37, b, outs=(np.empty_like(a),), slab=1 << 12)
    close(out, reference.add_scaled(a, 0.37, b), tolerance(dtype))
    pointwise.add_scaled(0, a.size, 0, a, 0.37, b, a)
    assert np.array_equal(a, out), "add_scaled must work in place"


@DTYPES
@DIMENSIONS
def test_largest(ndim, dtype):
    s = Scene(ndim, dtype)
    s.field[:, -1, 3, 4] = 77
    peaks = np.zeros((-(-s.shape[0] // 16), 1))
    found, = run(pointwise.largest, s.shape[0], s.field, s.push, outs=(peaks,))
    assert found.max() == pytest.approx(reference.largest(s.field, s.push), rel=tolerance(dtype))


# -- metrics' kernels ----------------------------------------------------------------------------------------

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
    *parts, _, sums = run(kernel, shape[0], *args, *radii, eps, outs=[*outs[:3], none, outs[3]], slab=slab)
    both = [*outs[:3], np.empty((2, *shape), dtype), outs[3]]
    *again, other, sums_of_both = run(kernel, shape[0], *args, *radii, eps, outs=both, slab=slab)
    assert all(np.array_equal(a, b) for a, b in zip((*parts, sums), (*again, sums_of_both)))
    *expected, expected_sums = reference.correlation(*args, radii, float(eps))
    assert 0 < (expected[0] == 0).mean() < 0.5, "some samples have no weight, most have"
    scale = 1 if dtype == np.float64 else 30
    for found, wanted in zip(parts, expected):
        close(found, wanted, tolerance(dtype, scale))
    for found, wanted in zip(other, reference.correlation_other(*args, radii, float(eps))):
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
