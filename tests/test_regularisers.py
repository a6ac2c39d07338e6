"""Regularisers: the contract over the dictionary, null spaces, physical units, and the Gaussian in mm."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from classreg import check
from classreg.errors import OptionError
from classreg.grid import Grid
from classreg.regularisers import REGULARISERS, Bending, Diffusion, Gaussian
from classreg.transforms import BSpline, Dense

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
CARRIERS = pytest.mark.parametrize("carrier", ["lattice", "dense"])


def oblique(ndim, fine=1.0):
    """An oblique, anisotropic, off-origin grid, or a finer one over the same samples' extent."""
    grid = check.scene(ndim)[0].grid
    shape = tuple(int(round((n - 1) * fine)) + 1 for n in grid.shape)
    affine = grid.affine.copy()
    affine[:-1, :-1] /= fine
    return Grid(shape, affine)


def along_axis(grid, axis, points):
    """Position in mm along an array axis of the grid, from its first sample."""
    return grid.to_index(points)[..., axis] * grid.spacing[axis]


def lattice(grid, function, spacing=4.0):
    """The B-spline whose control points have values of `function(world points)`, (..., d) -> (..., d)."""
    model = BSpline(grid, spacing, np.eye(grid.ndim + 1))
    index = [(np.arange(c + 3) - 1) * (n - 1) / c if c else np.zeros(1)
             for c, n in zip(model.least_cells, grid.shape3)]
    index = np.stack(np.meshgrid(*index, indexing="ij"), -1)[..., 3 - grid.ndim:]
    return model, np.ascontiguousarray(np.moveaxis(function(grid.to_world(index)), -1, 0))


def dense(grid, function):
    """The sampled field."""
    field = np.moveaxis(function(grid.points()), -1, 0).reshape(-1, *grid.shape3)
    return Dense(grid, np.eye(grid.ndim + 1)), np.ascontiguousarray(field)


def energy(regulariser, grid, carrier, function):
    model, theta = (lattice if carrier == "lattice" else dense)(grid, function)
    return regulariser(theta, model.grams(theta, grid))[0]


@pytest.mark.parametrize("name", REGULARISERS)
def test_contract(name):
    check.regulariser(REGULARISERS[name])


@pytest.mark.parametrize("broken, message", [
    (dict(__call__=lambda self, theta, grams: (0.5 * np.sum(theta**2), theta)), "energy of a constant"),
    (dict(__call__=lambda self, theta, grams: (np.sum(np.diff(theta) ** 2), 0 * theta)), "a slope of 0"),
    (dict(smooth=lambda self, field, grid, out: np.multiply(field, 0.9, out=out)), "changes a constant"),
    (dict(smooth=lambda self, field, grid, out: np.multiply(field, 1.0, out=out)), "took the variance"),
    (dict(acts_on="force", smooth=None), "acts_on is 'force'"),
    ({}, "neither an energy nor `smooth`"),
])
def test_the_contract_check_refuses_a_broken_regulariser(broken, message):
    with pytest.raises(AssertionError, match=message):
        check.regulariser(type("Broken", (), {"acts_on": "displacement", **broken}))


# -- null spaces ---------------------------------------------------------------------------------------------

@DIMENSIONS
@CARRIERS
def test_what_costs_nothing(ndim, carrier):
    grid = oblique(ndim)
    linear, shift = np.random.default_rng(0).standard_normal((ndim, ndim)), np.array([3.0, -7.0, 2.0])[:ndim]

    def constant(x):
        return np.broadcast_to(shift, x.shape)

    def affine(x):
        return (x - grid.centre) @ linear.T + shift

    for regulariser in (Diffusion(), Bending()):
        assert energy(regulariser, grid, carrier, constant) == pytest.approx(0, abs=1e-12)
    assert energy(Bending(), grid, carrier, affine) == pytest.approx(0, abs=1e-12)
    assert energy(Diffusion(), grid, carrier, affine) > 1e-2


@DIMENSIONS
@CARRIERS
@pytest.mark.parametrize("regulariser", [Diffusion, Bending])
def test_the_gradient_is_that_of_a_quadratic_form(regulariser, carrier, ndim):
    """value = <theta, gradient> / 2, gradient linear and symmetric."""
    grid = oblique(ndim)
    model, theta = (lattice if carrier == "lattice" else dense)(grid, lambda x: np.sin(x / 5))
    other = np.random.default_rng(0).standard_normal(theta.shape)
    grams = model.grams(theta, grid)
    value, gradient = regulariser(1.7)(theta, grams)
    _, there = regulariser(1.7)(other, grams)
    assert value == pytest.approx(0.5 * np.sum(theta * gradient), rel=1e-10)
    assert np.sum(theta * there) == pytest.approx(np.sum(other * gradient), rel=1e-9)
    assert regulariser(1.7)(2 * theta, grams)[0] == pytest.approx(4 * value)
    assert regulariser(3.4)(theta, grams)[0] == pytest.approx(2 * value)


# -- physical units ------------------------------------------------------------------------------------------

@DIMENSIONS
@CARRIERS
def test_bending_energy_of_a_parabola(ndim, carrier):
    """u = a s^2 e: 1/2 (2 a)^2 |e|^2 in 1 / mm^2, s along each axis of an oblique grid, at any resolution."""
    direction = np.array([0.6, -1.1, 0.3])[:ndim]
    a = 0.013
    for axis in range(ndim):
        for fine in (1, 2):
            grid = oblique(ndim, fine)

            def parabola(x, g=grid, k=axis):
                return a * along_axis(g, k, x)[..., None] ** 2 * direction

            found = energy(Bending(), grid, carrier, parabola)
            lost = 0 if carrier == "lattice" else 2.5 / grid.shape[axis]  # no second difference at the border
            expected = 2 * a**2 * np.sum(direction**2)
            assert expected * (1 - lost) - 1e-9 <= found <= expected * (1 + 1e-9)


@DIMENSIONS
@CARRIERS
def test_bending_energy_of_a_twist_counts_the_mixed_derivative_twice(ndim, carrier):
    a = 0.021
    for fine in (1, 2):
        grid = oblique(ndim, fine)

        def twist(x, g=grid):
            return a * (along_axis(g, 0, x) * along_axis(g, 1, x))[..., None] * np.eye(ndim)[0]

        found = energy(Bending(), grid, carrier, twist)
        lost = 0 if carrier == "lattice" else 1.1 / grid.shape[0] + 1.1 / grid.shape[1]
        assert a**2 * (1 - lost) - 1e-9 <= found <= a**2 * (1 + 1e-9)


@DIMENSIONS
@CARRIERS
def test_diffusion_energy_of_an_affine_field(ndim, carrier):
    """1/2 |grad u|^2, whatever the grid's rotation, spacing and resolution."""
    linear = 0.1 * np.random.default_rng(1).standard_normal((ndim, ndim))
    expected = 0.5 * np.sum(linear**2)
    for fine in (1, 2):
        grid = oblique(ndim, fine)
        found = energy(Diffusion(), grid, carrier, lambda x: x @ linear.T)
        lost = 0 if carrier == "lattice" else 1.1 / min(grid.shape)
        assert expected * (1 - lost) - 1e-9 <= found <= expected * (1 + 1e-9)


@DIMENSIONS
@pytest.mark.parametrize("regulariser", [Diffusion, Bending])
def test_lattice_and_dense_field_agree(ndim, regulariser):
    """The energy of a spline is that of its samples, but for the differences."""
    grid = oblique(ndim, 4)
    model, theta = lattice(grid, lambda x: np.cos(x[..., ::-1] / 6.0), spacing=6.0)
    exact = regulariser()(theta, model.grams(theta, grid))[0]
    field = model.forward(theta, grid)[0].field.reshape(ndim, *grid.shape3)
    sampled = regulariser()(field, Dense(grid, np.eye(ndim + 1)).grams(field, grid))[0]
    assert sampled == pytest.approx(exact, rel=0.08)


@DIMENSIONS
@pytest.mark.parametrize("regulariser", [Diffusion, Bending])
def test_refining_a_lattice_keeps_its_energy(ndim, regulariser):
    grid = oblique(ndim)
    model = BSpline(grid, 3.0, np.eye(ndim + 1), doublings=1)
    theta = np.random.default_rng(0).standard_normal(model.identity().shape)
    before = regulariser()(theta, model.grams(theta, grid))[0]
    fine = model.refine(theta, grid)
    assert fine.shape != theta.shape
    assert regulariser()(fine, model.grams(fine, grid))[0] == pytest.approx(before, rel=1e-10)


# -- Gaussian ------------------------------------------------------------------------------------------------

@DIMENSIONS
@pytest.mark.parametrize("sigma", [0.8, 1.7, 6.0])
def test_gaussian_is_isotropic_in_mm(ndim, sigma):
    grid = oblique(ndim)
    field = np.random.default_rng(0).standard_normal((ndim, *grid.shape3))
    expected = field
    for axis in range(ndim):
        width = sigma * grid.resolution / grid.spacing[axis]
        expected = gaussian_filter1d(expected, width, axis=axis + 4 - ndim, mode="nearest",
                                     radius=int(np.ceil(2.5 * width)))
    found = Gaussian(sigma).smooth(field, grid, np.empty_like(field))
    assert found == pytest.approx(expected, abs=1e-12)
    assert np.var(found) < 0.6 * np.var(field)


def test_gaussian_spreads_a_point_by_sigma():
    grid = Grid.from_spacing((25, 61, 41), spacing=(2.5, 1.0, 1.5), origin=(5, 6, 7))
    field = np.zeros((1, *grid.shape))
    field[0, 12, 30, 20] = 1
    out = Gaussian(3.0).smooth(field, grid, np.empty_like(field))[0]
    off = grid.points() - grid.to_world([12, 30, 20])
    assert out.sum() == pytest.approx(1)
    spread = np.sqrt([np.sum(out * off[..., k] ** 2) for k in range(3)])
    assert spread == pytest.approx([3.0, 3.0, 3.0], rel=0.06), "cut at 2.5 sigma"


def test_gaussian_refuses_a_negative_sigma():
    with pytest.raises(OptionError, match="sigma must be at least 0, got -1"):
        Gaussian(-1)
