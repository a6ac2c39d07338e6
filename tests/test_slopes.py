"""Kernels of slopes against their definition, and their derivatives; differences of dense fields."""

from __future__ import annotations

import numpy as np
import pytest

from classreg import check
from classreg.backend import Workspace
from classreg.kernels import reference
from classreg.kernels.cpu import dense, filters, slopes
from classreg.transforms import BSpline, Dense

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])

METRIC = np.array([[1.2, 0.1, 0], [0.1, 0.9, -0.2], [0, -0.2, 1.1]])
CASES = {"quadratic": (0.3, 0.7, 0.4), "variation": (1.3, 0.05), "volume_change": (0.8,), "rigidity": (METRIC, 1.7)}


def scene(ndim, dtype, seed=0):
    """Slopes at some points, weights with zeros among them, and an oblique push."""
    rng = np.random.default_rng(seed)
    shape = (5, 6, 7) if ndim == 3 else (1, 9, 7)
    s = np.zeros((3, ndim, *shape), dtype)
    s[3 - ndim:] = rng.normal(scale=0.15, size=(ndim, ndim, *shape))
    where = np.clip(rng.uniform(-0.3, 1, shape), 0, 1).astype(dtype)
    push = np.zeros((3, 3))
    push[3 - ndim:, :ndim] = np.linalg.qr(rng.normal(size=(ndim, ndim)))[0] + 0.1 * rng.normal(size=(ndim, ndim))
    return s, where, push


@DTYPES
@pytest.mark.parametrize("shape", [(3, 5, 6, 7), (3, 1, 6, 4), (2, 1, 5, 6)])
def test_damp_elastic(shape, dtype):
    rng = np.random.default_rng(0)
    waves = rng.normal(size=shape).astype(dtype)
    numbers = [np.arange(n + 1) * 0.7 / n if n > 1 else np.zeros(1) for n in shape[1:]]
    out, args = waves.copy(), (*numbers, 1.3, 2.1)
    with Workspace(3) as ws:
        ws.run(filters.damp_elastic, len(numbers[0]), out, *args, slab=2)
    assert out == pytest.approx(reference.damp_elastic(waves, *args), rel=1e-5, abs=1e-5)
    matrix, offset = rng.normal(size=(shape[0], shape[0])), rng.normal(size=shape[0])
    with Workspace(3) as ws:
        ws.run(filters.rotate, shape[1], waves, matrix, offset, out, slab=2)
    assert out == pytest.approx(reference.rotate(waves, matrix, offset), rel=1e-4, abs=1e-5)


@DIMENSIONS
@DTYPES
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_energies_of_slopes(name, weighted, dtype, ndim):
    s, where, push = scene(ndim, dtype)
    used, scale, options = where if weighted else np.ones_like(where), 0.37, CASES[name]

    def density(x):
        return np.sum(used * getattr(reference, name)(reference.world_slopes(x, push), *options))

    left = s.copy()
    with Workspace(3) as ws:
        total = ws.total(getattr(slopes, name), s.shape[2], 1, left, where if weighted else where[:0, :0, :0], push,
                         *options, scale)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    assert total[0] == pytest.approx(density(s), rel=tolerance)
    rng, s = np.random.default_rng(1), s.astype(float)
    for _ in range(5):
        step = np.zeros_like(s)
        step[3 - ndim:] = rng.normal(size=s[3 - ndim:].shape)
        slope = (density(s + 1e-5 * step) - density(s - 1e-5 * step)) / 2e-5
        assert np.sum(left * step) / scale == pytest.approx(slope, rel=2e-4, abs=1e-5)


def test_a_fold_is_infinite_only_where_it_counts():
    s, where, push = np.zeros((3, 3, 2, 3, 4)), np.ones((2, 3, 4)), np.eye(3)[::-1].copy()
    s[0, 2, 1, 2, 3] = -2.0  # du_z / dz
    for w in (1.0, 0.0):
        where[1, 2, 3] = w
        with Workspace(1) as ws:
            total = ws.total(slopes.volume_change, 2, 1, s.copy(), where, push, 1.0, 1.0)
        assert total[0] == (np.inf if w else 0.0)


@DIMENSIONS
@DTYPES
def test_turn(ndim, dtype):
    rng = np.random.default_rng(0)
    shape = (5, 6, 7) if ndim == 3 else (1, 6, 7)
    field, gradient = rng.normal(size=(2, ndim, *shape)).astype(dtype)
    to_world = rng.normal(size=(3, 3))
    if ndim == 2:
        to_world[2] = to_world[:, 0] = 0
    out = np.empty_like(field)
    with Workspace(3) as ws:
        ws.run(dense.turn, shape[0], field, gradient, to_world, out)
    assert out == pytest.approx(reference.turn(field, gradient, to_world), rel=1e-4, abs=1e-5)


@DTYPES
@pytest.mark.parametrize("power", [1, 2])
def test_damp(power, dtype):
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(5, 6, 7)).astype(dtype)
    rates = [rng.uniform(0, 3, n) for n in waves.shape]
    out = waves.copy()
    with Workspace(3) as ws:
        ws.run(filters.damp, 5, out, *rates, power)
    assert out == pytest.approx(reference.damp(waves, *rates, power), rel=1e-5)


@DIMENSIONS
@pytest.mark.parametrize("carrier", ["lattice", "dense"])
def test_slopes_of_an_affine_field_are_its_matrix_everywhere(carrier, ndim):
    """In world axes, on an oblique grid, up to the border; and no second derivative."""
    grid = check.scene(ndim)[0].grid
    linear = np.random.default_rng(0).normal(size=(ndim, ndim))
    if carrier == "dense":
        model = Dense(grid, np.eye(ndim + 1))
        points = grid.points()
    else:
        model = BSpline(grid, 4.0, np.eye(ndim + 1))
        index = [(np.arange(c + 3) - 1) * (n - 1) / c if c else np.zeros(1)
                 for c, n in zip(model.least_cells, grid.shape3)]
        points = grid.to_world(np.stack(np.meshgrid(*index, indexing="ij"), -1)[..., 3 - ndim:])
    theta = np.moveaxis(points @ linear.T, -1, 0)
    theta = np.ascontiguousarray(theta.reshape(ndim, *([1] * (3 - ndim)), *theta.shape[1:][-ndim:]))
    operator = model.slopes(theta, grid)
    full = np.zeros((3, ndim, *operator.points.shape3))
    full[3 - ndim:] = operator(theta)
    assert reference.world_slopes(full, operator.push) == pytest.approx(
        np.broadcast_to(linear, (*operator.points.shape3, ndim, ndim)), abs=1e-9)
    value, gradient = operator.laplacian(theta, 1.0, np.ones(operator.points.shape3))
    assert value == pytest.approx(0, abs=1e-18)
    assert gradient == pytest.approx(np.zeros_like(theta), abs=1e-9)
    inside = operator.points.to_index(grid.corners())
    assert inside.min() >= -1e-9 and (inside.max(0) <= np.array(operator.points.shape) - 1 + 1e-9).all()
