"""Every kernel against its definition in `kernels/reference`, and the same bits for any number of threads.

Positions are dyadic fractions, exact in float32: both sides agree on the cell even where it begins.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest

from classreg.backend import SMALL, Workspace
from classreg.kernels import reference
from classreg.kernels.cpu import (
    dense,
    filters,
    flow,
    labels,
    points,
    pointwise,
    sample,
    sample_cubic,
)
from classreg.kernels.cpu.fetching import LARGE
from classreg.spline import band
from classreg.stencil import gaussian_taps
from classreg.warmup import kernels

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


#: kernels that do what another does: on other orders of interpolation, other layouts
SAME = {"sample_cubic.warp": "warp", "sample_cubic.force": "force", "filters.band_last": "band"}


def test_every_kernel_has_a_definition_and_a_name_of_its_own():
    """Of two kernels or definitions with one name, one would stand in for the other unnoticed."""
    own = [name.split(".")[1] for name, _ in kernels() if name not in SAME]
    assert len(own) > 80 and [name for name in set(own) if own.count(name) > 1] == []
    files = [import_module(f"{reference.__name__}.{found.name}") for found in iter_modules(reference.__path__)]
    defined = [name for file in files for name, value in vars(file).items()
               if getattr(value, "__module__", "") == file.__name__ and not name.startswith("_")]
    assert [name for name in set(defined) if defined.count(name) > 1] == []
    assert {*own, *SAME.values()} - set(defined) == set()


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
def test_what_is_fetched_ahead_of_a_large_image(dtype):
    """Rows that do not fill a block, some samples beyond the image: the same values, and nothing else is touched."""
    s = Scene(3, dtype)
    shape, source = (2, 7, 9), (181, 160, 150)
    image = np.random.default_rng(1).random((1, *source), dtype)
    assert image.size > LARGE
    matrix = s.matrix * 20
    matrix[:, 3] = 12.0, 3.5, 20.25
    field = np.ascontiguousarray(s.field[:, :2, :7, :9])
    args = (image, matrix, s.push, field)
    out = np.empty((1, *shape), dtype)
    warped, weight = run(sample.warp, 2, *args, outs=(out, out[0]))
    expected, inside = reference.warp(*args, shape)
    assert 0.2 < inside.mean() < 0.9
    close(warped, expected, tolerance(dtype))
    close(weight, inside, tolerance(dtype))
    adjoint = np.ascontiguousarray(s.adjoint[:1, :2, :7, :9])
    force, = run(sample.force, 2, *args, adjoint, outs=(np.empty((3, *shape), dtype),))
    close(force, reference.force(*args, adjoint), tolerance(dtype))


def mirrored(image):
    """As `Image.coefficients` hands images to the cubic kernels."""
    return np.pad(image, [(0, 0), *((int(n > 1),) * 2 for n in image.shape[1:])], mode="reflect")


@DTYPES
@DIMENSIONS
def test_cubic_warp_and_force(ndim, dtype):
    s = Scene(ndim, dtype)
    args = (s.image, s.matrix, s.push, s.field)
    ours = mirrored(s.image), *args[1:]
    out = np.empty((2, *s.shape), dtype)
    warped, weight = run(sample_cubic.warp, s.shape[0], *ours, outs=(out, out[0]))
    expected, inside = reference.warp(*args, s.shape, reference.cubic_taps)
    close(warped, expected, tolerance(dtype))
    close(weight, inside, tolerance(dtype))
    force, = run(sample_cubic.force, s.shape[0], *ours, s.adjoint, outs=(np.empty((ndim, *s.shape), dtype),))
    close(force, reference.force(*args, s.adjoint, reference.cubic_taps), tolerance(dtype))


@DTYPES
@pytest.mark.parametrize("source", [(2, 3, 4), (1, 2, 5), (2, 1, 1), (3, 5, 1)])
def test_cubic_along_axes_of_few_samples(dtype, source):
    s = Scene(3, dtype)
    image = np.random.default_rng(2).standard_normal((2, *source)).astype(dtype)
    args = s.matrix / 8, s.push / 8, s.field
    out = np.empty((2, *s.shape), dtype)
    warped, weight = run(sample_cubic.warp, s.shape[0], mirrored(image), *args, outs=(out, out[0]))
    expected, inside = reference.warp(image, *args, s.shape, reference.cubic_taps)
    close(warped, expected, tolerance(dtype))
    close(weight, inside, tolerance(dtype))


@DTYPES
@DIMENSIONS
def test_moments_of_a_force(ndim, dtype):
    s = Scene(ndim, dtype)
    found = total(sample.force_moments, s.shape[0], 4 * ndim, s.field).reshape(ndim, 4)
    close(found, reference.force_moments(s.field), tolerance(dtype))


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
    halves = [gaussian_taps(v, n > 1, dtype) for v, n in zip(sigma, s.shape)]
    found, = run(filters.smooth, s.shape[0], s.adjoint, *halves, outs=(np.empty_like(s.adjoint),))
    close(found, reference.smooth(s.adjoint, [whole(k) for k in halves]), tolerance(dtype))


def whole(half):
    """All taps of a symmetric kernel, from the middle one and those to one side."""
    return np.concatenate([half[:0:-1], half]).astype(float)


@pytest.mark.parametrize("sigma", [1.7, 40.0])
def test_smooth_takes_any_taps_and_short_axes(sigma):
    src = np.random.default_rng(0).standard_normal((2, 3, 4, 2))
    halves = [np.array([0.5, 0.3, -0.1, 0]), gaussian_taps(sigma, True, float), np.array([0.1, 0.2, 0.3, 0.15])]
    out = np.empty_like(src)
    filters.smooth(0, 3, 0, src, *halves, out)
    close(out, reference.smooth(src, [whole(k) for k in halves]), 1e-12)


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
    assert total(pointwise.total, a.size, 1, a, slab=1 << 12)[0] == pytest.approx(reference.total(a), rel=1e-9)
    found = total(pointwise.apart, a.size, 1, a, b, slab=1 << 12)
    assert found[0] == pytest.approx(reference.apart(a, b), rel=1e-6 if dtype == np.float32 else 1e-12)
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
