"""Local affine motion: what the parameters mean, patches from coarse to fine, invertibility, neighbours."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.linalg import expm

from classreg.backend import Workspace
from classreg.errors import OptionError
from classreg.fitted import FittedTransform
from classreg.grid import Grid
from classreg.regularisers import Neighbours
from classreg.sampling import Points
from classreg.transforms import Polyaffine

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


def grid_of(ndim, fine=1):
    """Oblique, anisotropic, off-origin."""
    c, s = np.cos(0.3), np.sin(0.3)
    turn = np.eye(ndim)
    turn[:2, :2] = [[c, -s], [s, c]]
    shape, spacing = np.array((13, 34, 40)[-ndim:]) * fine, np.array((3.0, 1.0, 1.2)[-ndim:]) / fine
    return Grid.from_spacing(tuple(shape), spacing, (9.0, -3.0, 4.0)[:ndim], turn)


def model_of(ndim, cells=8, matrix=None, fine=1):
    """A model on the lattice of the finest level, and its parameters of the identity in float64."""
    grid = grid_of(ndim, fine)
    model = Polyaffine(grid, np.eye(ndim + 1) if matrix is None else matrix, cells=cells)
    return model, model.refine(model.identity(), grid).astype(np.float64)


def some_motion(theta, size=4.0, seed=0):
    return size * np.random.default_rng(seed).uniform(-1, 1, theta.shape)


def centres(model, theta):
    """World points of the patches' centres, (*lattice of d axes, d)."""
    d, cells = model.grid.ndim, model.cells_of(theta)[3 - model.grid.ndim:]
    index = [(np.arange(c + 2) - 0.5) / c * (n - 1) for c, n in zip(cells, model.grid.shape)]
    return model.grid.to_world(np.stack(np.meshgrid(*index, indexing="ij"), -1)).reshape(*theta.shape[4 - d:], d)


def affine_everywhere(model, theta, logarithm):
    """Parameters of v(x) = L (x - c; 1), patch by patch from their definition."""
    d, grid = model.grid.ndim, model.grid
    out, at = np.empty_like(theta), centres(model, theta)
    out[:d] = np.moveaxis((at - grid.centre) @ logarithm[:, :d].T + logarithm[:, d], -1, 0).reshape(out[:d].shape)
    for k, size in enumerate(model.patches(theta)):
        unit = grid.affine[:d, k] / grid.spacing[k]
        out[(k + 1) * d:(k + 2) * d] = (logarithm[:, :d] @ unit * size / 2).reshape(d, 1, 1, 1)
    return out


def quadratic_spline(t):
    t = np.abs(t)
    return np.where(t < 0.5, 0.75 - t**2, np.where(t < 1.5, (1.5 - t) ** 2 / 2, 0))


@DIMENSIONS
def test_velocity_is_the_blend_of_the_logarithms(ndim):
    model, theta = model_of(ndim, cells=4)
    theta, grid = some_motion(theta), model.grid
    logarithms = model.logarithms(theta).reshape(*theta.shape[4 - ndim:], ndim, ndim + 1)
    cells = model.cells_of(theta)[3 - ndim:]
    points = grid.points()
    away = np.concatenate([points - grid.centre, np.ones((*grid.shape, 1))], -1)
    expected, total = np.zeros(points.shape), np.zeros(grid.shape)
    for patch in product(*(range(c + 2) for c in cells)):
        w = np.ones(grid.shape)
        for axis, (p, c, n) in enumerate(zip(patch, cells, grid.shape)):
            along = quadratic_spline(np.arange(n) / (n - 1) * c - (p - 0.5))
            w = w * along.reshape([-1 if k == axis else 1 for k in range(ndim)])
        expected += w[..., None] * (away @ logarithms[patch].T)
        total += w
    assert total == pytest.approx(np.ones(grid.shape)), "a partition of unity"
    found = model.velocity(theta, grid).reshape(ndim, *grid.shape)
    assert np.abs(found).max() > 3
    assert found == pytest.approx(np.moveaxis(expected, -1, 0), abs=1e-10)


@DIMENSIONS
def test_one_logarithm_everywhere_is_an_affine_map(ndim):
    model, theta = model_of(ndim)
    rng = np.random.default_rng(0)
    logarithm = np.concatenate([0.15 * rng.standard_normal((ndim, ndim)), 2 * rng.standard_normal((ndim, 1))], 1)
    theta = affine_everywhere(model, theta, logarithm)
    assert model.logarithms(theta) == pytest.approx(np.broadcast_to(logarithm, (*theta.shape[1:], ndim, ndim + 1)))
    lifted = np.zeros((ndim + 1, ndim + 1))
    lifted[:ndim] = logarithm
    points = model.grid.centre + rng.uniform(-5, 5, (50, ndim))
    expected = points + ((points - model.grid.centre) @ (expm(lifted)[:ndim, :ndim] - np.eye(ndim)).T
                         + expm(lifted)[:ndim, ndim])
    assert np.abs(expected - points).max() > 1
    assert points + model.flow(theta, Points(points)).T == pytest.approx(expected, abs=2e-3)
    assert Neighbours()(theta, model.patches(theta))[0] == pytest.approx(0, abs=1e-20)


@DIMENSIONS
def test_the_way_back_is_the_transpose(ndim):
    model, theta = model_of(ndim)
    theta = some_motion(theta)
    field = np.random.default_rng(1).standard_normal((ndim, *model.grid.shape3))
    there, back = model.velocity(theta, model.grid), model.adjoint(field, theta.shape, model.grid)
    assert np.sum(there * field) == pytest.approx(np.sum(theta * back), rel=1e-12)


def test_patches_halve_from_level_to_level():
    grid = Grid.from_spacing((60, 150, 160), (2.5, 1.0, 1.0))
    model = Polyaffine(grid, np.eye(4), cells=8)
    found = [model.cells_of(model.refine(model.identity(), grid.coarsen(np.maximum(f / np.array([2.5, 1, 1]), 1))))
             for f in (32, 16, 8, 4, 2, 1)]
    assert found == [(1, 1, 1), (1, 1, 1), (2, 2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8)]
    thick = Polyaffine(Grid.from_spacing((9, 150, 160), (10.0, 1.0, 1.0)), np.eye(4), cells=8)
    assert thick.wanted(thick.grid) == (2, 8, 8), "no cell is shorter than four samples"


@DIMENSIONS
def test_points_find_their_way_back(ndim):
    matrix = np.eye(ndim + 1)
    matrix[0, 1], matrix[:ndim, ndim] = 0.1, 2.0
    model, theta = model_of(ndim, matrix=matrix)
    theta = some_motion(theta, 3.0).astype(np.float32)
    transform = FittedTransform("polyaffine", model, theta, model.grid, grid_of(ndim, 2))
    points = model.grid.to_world(np.random.default_rng(1).uniform(0, 1, (300, ndim)) * (np.array(model.grid.shape) - 1))
    there = transform.map_points(points)
    assert np.linalg.norm(there - points, axis=1).max() > 3
    inverse = transform.inverse()
    for back in (transform.map_points(there, "moving", "fixed"), inverse.map_points(there, "moving", "fixed")):
        assert np.abs(back - points).max() < 0.02
    assert inverse.residual["max"] < 0.1 and inverse.grid is transform.to_grid
    assert np.abs(inverse.inverse().map_points(points) - there).max() < 1e-3


@DIMENSIONS
def test_motions_of_a_patch_do_not_fold(ndim):
    """Noise whose sum with the identity, u = v, would fold."""
    model, theta = model_of(ndim, cells=4, fine=2)
    transform = FittedTransform("polyaffine", model, some_motion(theta, 8.0).astype(np.float32), model.grid)
    assert transform.jacobian_determinant().min() > 0
    added = FittedTransform("dense", *as_field(model, transform.theta), model.grid)
    assert added.jacobian_determinant().min() < 0


def as_field(model, theta):
    from classreg.transforms import Dense

    dense = Dense(model.grid, np.eye(model.grid.ndim + 1))
    return dense, dense.fit(model.velocity(theta, model.grid).copy(), model.grid)


def test_the_same_bits_for_any_number_of_threads():
    model, theta = model_of(3, fine=2)
    theta, found = some_motion(theta).astype(np.float32), set()
    force = np.random.default_rng(1).standard_normal((3, *model.grid.shape3)).astype(np.float32)
    for threads in (1, 2, 5):
        with Workspace(threads):
            v = model.velocity(theta, model.grid).tobytes()
            found.add(v + model.adjoint(force, theta.shape, model.grid).tobytes())
    assert len(found) == 1


def test_cells_are_at_least_one():
    with pytest.raises(OptionError, match="cells must be at least 1, got 0"):
        Polyaffine(grid_of(3), np.eye(4), cells=0)


# -- the regulariser -----------------------------------------------------------------------------------------

@DIMENSIONS
def test_neighbours_that_differ_by_a_shift(ndim):
    """b = a t_p along one axis: |a|^2 / h^2 / 2 whatever the resolution, and the mean over the pairs."""
    for fine, axis in product((1, 2), range(ndim)):
        model, theta = model_of(ndim, fine=fine)
        slope = np.arange(ndim) + 1.0
        index = np.arange(theta.shape[4 - ndim + axis]).reshape([-1 if k == axis else 1 for k in range(ndim)])
        theta[:ndim] = slope.reshape(-1, 1, 1, 1) * index.reshape((1,) * (3 - ndim) + index.shape)
        size = model.patches(theta)[axis]
        value, _ = Neighbours(2.0)(theta, model.patches(theta))
        assert value == pytest.approx(np.sum(slope**2) / size**2)


@DIMENSIONS
def test_neighbours_compares_velocities_over_the_cell_between(ndim):
    model, theta = model_of(ndim, cells=2)
    theta = some_motion(theta)
    logs, at = model.logarithms(theta), centres(model, theta)
    logs = logs.reshape(*at.shape[:-1], ndim, ndim + 1)
    nodes, weights = np.polynomial.legendre.leggauss(3)
    sizes, expected = model.patches(theta), 0.0
    axes = model.grid.affine[:ndim, :ndim] / model.grid.spacing
    for k in range(ndim):
        first, second = (np.moveaxis(logs, k, 0)[s] for s in (slice(None, -1), slice(1, None)))
        middle = (np.moveaxis(at, k, 0)[1:] + np.moveaxis(at, k, 0)[:-1]) / 2 - model.grid.centre
        total = 0.0
        for corner in product(range(3), repeat=ndim):
            x = middle + axes @ (nodes[list(corner)] * sizes / 2)
            x = np.concatenate([x, np.ones((*x.shape[:-1], 1))], -1)
            apart = np.einsum("...ij,...j->...i", second - first, x)
            total += np.prod(weights[list(corner)] / 2) * np.mean(np.sum(apart**2, -1))
        expected += total / sizes[k] ** 2 / 2
    assert Neighbours()(theta, sizes)[0] == pytest.approx(expected, rel=1e-9)
