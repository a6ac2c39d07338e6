"""Lattices of other tools as classreg's: against the definition of a cubic B-spline, on any grid."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import map_coordinates
from test_itk import GRIDS, close, inside, itk_map, random_spline, samples, turn, volume_grid, world_matrix

from classreg.errors import InputError
from classreg.grid import Grid
from classreg.io import lattice, read_transform
from classreg.transforms import BSpline


def around(grid, cells, shift=0.3, spin=None):
    """A lattice that holds a grid, its points where nothing of the grid's lies."""
    d = grid.ndim
    affine, shape = grid.affine.copy(), np.array(cells) + (8 if spin is None else 24)
    affine[:d, :d] *= (np.array(grid.shape) - 1) / cells
    affine[:d, :d] = (np.eye(d) if spin is None else spin) @ affine[:d, :d]
    affine[:d, d] = grid.centre + shift - affine[:d, :d] @ ((shape - 1) / 2)
    return Grid(tuple(shape), affine)


def coefficients(points, seed=0):
    return np.random.default_rng(seed).standard_normal((points.ndim, *points.shape))


def by_definition(points, u, matrix, world):
    """A (x + sum over k of B(index - k) u_k)."""
    index = points.to_index(world).T
    moved = world + np.stack([map_coordinates(c, index, order=3, prefilter=False) for c in u], -1)
    return moved @ matrix[:-1, :-1].T + matrix[:-1, -1]


@pytest.mark.parametrize("key", ["oblique", "anisotropic", "2-D", "2-D flipped", "sheared"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_lattice_stays_a_spline_that_is_exact_on_any_grid(key, turned):
    grid = volume_grid("sheared") if key == "sheared" else GRIDS[key]
    d = grid.ndim
    points = around(grid, (3, 4, 2)[:d], spin=turn(d) if turned else None)
    u, matrix = coefficients(points), world_matrix(grid)
    found = lattice.spline(points, u, matrix, grid)
    close(found.map_points(inside(grid)), by_definition(points, u, matrix, inside(grid)), 1e-5)
    other = Grid(tuple(n + 3 for n in grid.shape), np.vstack([
        np.column_stack([turn(d) @ grid.affine[:d, :d] * 0.6, grid.centre - 2]), np.eye(d + 1)[d]]))
    fine = Grid(tuple(2 * n - 1 for n in grid.shape), grid.affine @ np.diag([0.5] * d + [1]))
    for at in (grid, fine, other):
        moved = np.moveaxis(found.displacement(at), 0, -1).reshape(-1, d) + samples(at)
        close(moved, found.map_points(samples(at)), 1e-5)


@pytest.mark.parametrize("key", ["oblique", "2-D flipped"])
def test_a_spline_of_itk_stays_one_where_its_lattice_holds_the_image(tmp_path, key):
    grid, d = GRIDS[key], GRIDS[key].ndim
    points = around(grid, (3, 4, 2)[:d], spin=turn(d))
    found = sitk.BSplineTransform(d, 3)
    axes = (points.affine[:d, :d] / points.spacing)[:, ::-1]
    found.SetFixedParameters([*map(float, points.shape[::-1]), *points.affine[:d, d], *points.spacing[::-1],
                              *axes.ravel()])
    found.SetParameters(coefficients(points).ravel().tolist())
    sitk.WriteTransform(found, str(tmp_path / "a.h5"))
    read = read_transform(tmp_path / "a.h5", grid)
    assert isinstance(read.transform, BSpline)
    close(read.map_points(inside(grid)), itk_map(found, inside(grid)), 1e-5)


@pytest.mark.parametrize("key", ["oblique", "2-D", "one slice"])
@pytest.mark.parametrize("before, after", [(1, 1), (0, 1), (3, 2)])
def test_an_exported_lattice_comes_back_as_it_was(key, before, after):
    grid = Grid((1, 9, 7), volume_grid("oblique").affine) if key == "one slice" else GRIDS[key]
    transform = random_spline(grid)
    points, u = lattice.exported(transform, before, after)
    again = lattice.spline(points, u, transform.matrix, grid)
    assert again.transform.grid is grid
    np.testing.assert_array_equal(again.theta, transform.theta)
    close(by_definition(points, u, transform.matrix, samples(grid)), transform.map_points(samples(grid)), 1e-5)


def test_a_lattice_that_does_not_hold_the_image_is_none_until_it_is_widened():
    grid = GRIDS["oblique"]
    points = Grid((5, 4, 6), around(grid, (3, 4, 2)).affine)
    u = coefficients(points)
    assert not lattice.holds(points, grid) and lattice.spline(points, u, np.eye(4), grid) is None
    wide, more = lattice.widened(points, u, grid)
    assert lattice.holds(wide, grid)
    found = lattice.spline(wide, more, np.eye(4), grid)
    index = np.random.default_rng(0).uniform(1, np.array(points.shape) - 2.001, (50, 3))
    close(found.map_points(points.to_world(index)), by_definition(points, u, np.eye(4), points.to_world(index)), 1e-5)
    same, unchanged = lattice.widened(wide, more, grid)
    assert same.shape == wide.shape and unchanged.shape == more.shape
    away = grid.affine.copy()
    away[0, 3] += 900
    with pytest.raises(InputError, match="lie elsewhere"):
        lattice.widened(points, u, Grid(grid.shape, away))
