"""Regularisers: the contract over the dictionary, null spaces, physical units, and the Gaussian in mm."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from classreg import check
from classreg.backend import SMALL, Workspace
from classreg.engine import check_needs
from classreg.errors import InputError, OptionError
from classreg.grid import Grid
from classreg.image import Image
from classreg.metrics import SSD
from classreg.objective import Objective
from classreg.optimisers import Adam, Greedy
from classreg.regularisers import (
    REGULARISERS,
    TV,
    Bending,
    Curvature,
    Diffusion,
    Elastic,
    Gaussian,
    Jacobian,
    Volume,
    is_energy,
    smooths,
)
from classreg.stencil import smooth as smoothed
from classreg.transforms import BSpline, Dense, Velocity

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
    return regulariser(theta, getattr(model, regulariser.reads)(theta, grid))[0]


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

    for regulariser in (Diffusion(), Bending(), Curvature(), Elastic(), TV(), Jacobian()):
        assert energy(regulariser, grid, carrier, constant) == pytest.approx(0, abs=1e-12)
    for regulariser in (Bending(), Curvature()):
        assert energy(regulariser, grid, carrier, affine) == pytest.approx(0, abs=1e-12)
    for regulariser in (Diffusion(), Elastic(), TV()):
        assert energy(regulariser, grid, carrier, affine) > 1e-2


@DIMENSIONS
@CARRIERS
@pytest.mark.parametrize("weighted", [False, True])
def test_elastic_energy_is_that_of_the_strain_in_world_axes(ndim, carrier, weighted):
    """An infinitesimal rotation costs nothing, a given strain what it must; also on a sheared grid."""
    rng = np.random.default_rng(0)
    skew = rng.standard_normal((ndim, ndim))
    linear = rng.standard_normal((ndim, ndim))
    strain = (linear + linear.T) / 2
    expected = 0.7 * np.sum(strain**2) + 0.4 / 2 * np.trace(linear) ** 2
    straight = oblique(ndim)
    sheared = straight.affine.copy()
    sheared[:-1, 0] += 0.4 * sheared[:-1, 1]
    for grid in (straight, Grid(straight.shape, sheared)):
        where = Image(np.ones(grid.shape), grid) if weighted else None
        part = Elastic(1.0, shear=0.7, dilation=0.4, where=where)
        assert energy(part, grid, carrier, lambda x: x @ (skew - skew.T)) == pytest.approx(0, abs=1e-10)
        assert energy(part, grid, carrier, lambda x: x @ linear.T) == pytest.approx(expected)


@DIMENSIONS
@pytest.mark.parametrize("carrier", ["lattice", "dense"])
@pytest.mark.parametrize("part", [Elastic(), Elastic(dilation=3.0), Curvature()])
def test_quadratic_energies_are_never_negative(part, carrier, ndim):
    """The smallest eigenvalue of the quadratic form on a small grid."""
    grid = Grid(tuple(range(4, 4 + ndim)), oblique(ndim).affine)
    model = BSpline(grid, 3.0, np.eye(ndim + 1)) if carrier == "lattice" else Dense(grid, np.eye(ndim + 1))
    theta = model.refine(model.identity(), grid).astype(float)
    grams, columns = model.grams(theta, grid), []
    for k in range(theta.size):
        unit = np.zeros(theta.size)
        unit[k] = 1
        columns.append(part(unit.reshape(theta.shape), grams)[1].ravel().copy())
    values = np.linalg.eigvalsh((np.array(columns) + np.array(columns).T) / 2)
    assert values[0] > -1e-9 * values[-1]
    free = {Curvature: ndim * 2**ndim, Elastic: ndim * (ndim + 1) // 2}[type(part)]
    if carrier == "dense":  # multilinear fields; shifts and turns
        assert np.sum(values < 1e-9 * values[-1]) == free


@DIMENSIONS
@CARRIERS
def test_curvature_is_the_squared_laplacian(ndim, carrier):
    """Of s_0^2 + 2 s_1^2 on an oblique grid (2 + 4)^2 / 2, of s_0^2 - s_1^2 nothing."""
    for fine in (1, 2):
        grid = oblique(ndim, fine)

        def parabola(x, b, g=grid):
            s = along_axis(g, 0, x) ** 2 + b * along_axis(g, 1, x) ** 2
            return 0.01 * s[..., None] * np.eye(ndim)[0]

        # a dense field has the second difference across a border left out there
        lost = 0 if carrier == "lattice" else 2.2 / min(grid.shape)
        found = energy(Curvature(), grid, carrier, lambda x: parabola(x, 2))
        assert 18e-4 * (1 - 2 * lost) <= found <= 18e-4 * (1 + 1e-9)
        assert -1e-12 <= energy(Curvature(), grid, carrier, lambda x: parabola(x, -1)) <= 18e-4 * lost + 1e-12
        assert energy(Bending(), grid, carrier, lambda x: parabola(x, -1)) > 3e-4


@DIMENSIONS
@CARRIERS
def test_known_values_of_tv_and_jacobian(ndim, carrier):
    linear = 0.1 * np.random.default_rng(1).standard_normal((ndim, ndim))
    grid = oblique(ndim)
    size = np.sqrt(np.sum(linear**2) + 0.05**2) - 0.05
    assert energy(TV(2.0, smoothing=0.05), grid, carrier, lambda x: x @ linear.T) == pytest.approx(2 * size)
    change = np.log(np.linalg.det(np.eye(ndim) + linear))
    assert energy(Jacobian(3.0), grid, carrier, lambda x: x @ linear.T) == pytest.approx(1.5 * change**2)
    folded = -1.2 * np.outer(np.eye(ndim)[0], np.eye(ndim)[0])
    assert energy(Jacobian(), grid, carrier, lambda x: x @ folded) == np.inf


@DIMENSIONS
@CARRIERS
@pytest.mark.parametrize("make", [Diffusion, Bending, Curvature, Elastic, TV, Jacobian])
def test_an_energy_counts_where_it_is_told_to(ndim, carrier, make):
    """Weights of 1 change next to nothing, those of 0 take all; in between the gradient is right."""
    grid = oblique(ndim)
    model, theta = (lattice if carrier == "lattice" else dense)(grid, lambda x: 0.5 * np.cos(x[..., ::-1] / 6.0))

    def of(where):
        part = make(weight=2.0, where=None if where is None else Image(where, grid))
        return part, part(theta, getattr(model, part.reads)(theta, grid))

    _, (plain, _) = of(None)
    _, (ones, _) = of(np.ones(grid.shape))
    assert ones == pytest.approx(plain, rel=0.2)
    assert of(np.zeros(grid.shape))[1][0] == 0
    half = np.zeros(grid.shape)
    half[..., : grid.shape[-1] // 2] = 1
    part, (value, gradient) = of(half)
    assert 0 < value < ones and value + of(1 - half)[1][0] == pytest.approx(ones, rel=1e-4)
    slope = np.sum(gradient * (step := np.random.default_rng(0).standard_normal(theta.shape)))
    read = getattr(model, part.reads)(theta, grid)
    differences = (part(theta + 1e-5 * step, read)[0] - part(theta - 1e-5 * step, read)[0]) / 2e-5
    assert slope == pytest.approx(differences, rel=1e-5)


def test_where_is_checked():
    grid = oblique(2)
    for array, message in ((-np.ones(grid.shape), "negative"), (np.full(grid.shape, np.nan), "not finite"),
                           (np.ones((2, *grid.shape)), "2 channels")):
        with pytest.raises(InputError, match=message):
            Diffusion(where=Image(array, grid))


@DIMENSIONS
@CARRIERS
@pytest.mark.parametrize("regulariser", [Diffusion, Bending, Curvature, Elastic])
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
@pytest.mark.parametrize("regulariser", [Diffusion, Bending, Curvature, Elastic])
def test_lattice_and_dense_field_agree(ndim, regulariser):
    """The energy of a spline is that of its samples, but for the differences."""
    grid = oblique(ndim, 4)
    model, theta = lattice(grid, lambda x: np.cos(x[..., ::-1] / 6.0), spacing=6.0)
    exact = regulariser()(theta, model.grams(theta, grid))[0]
    field = model.forward(theta, grid)[0].field.reshape(ndim, *grid.shape3)
    sampled = regulariser()(field, Dense(grid, np.eye(ndim + 1)).grams(field, grid))[0]
    assert sampled == pytest.approx(exact, rel=0.08)


@DIMENSIONS
@pytest.mark.parametrize("regulariser", [Diffusion, Bending, Curvature, Elastic])
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


@pytest.mark.parametrize("make, message", [
    (lambda: Gaussian(-1), "gaussian: sigma must be a finite number from 0 to 1000, got -1"),
    (lambda: Gaussian(1e9), "gaussian: sigma must be .* got 1000000000.0"),
    (lambda: Gaussian(acts_on="force"), "gaussian: acts_on is one of displacement, velocity, update; got 'force'"),
    (lambda: Diffusion(sigma=np.inf), "diffusion: sigma must be a finite number of at least 0, got inf"),
    (lambda: TV(smoothing=0), "tv: smoothing must be a finite number above 0, got 0"),
    (lambda: Elastic(shear=-1), "elastic: shear must be a finite number of at least 0, got -1"),
])
def test_options_outside_their_range(make, message):
    with pytest.raises(OptionError, match=message):
        make()


# -- cosine filters, and what a part is used for ----------------------------------------------------------------

@DIMENSIONS
@pytest.mark.parametrize("make, power", [(Diffusion, 1), (Curvature, 2)])
def test_the_filter_solves_its_equation(make, power, ndim):
    """(1 + (s L)^p) out = field, L by differences with no slope across the border, s = (sigma h)^2 / 2."""
    grid = oblique(ndim)
    field = np.random.default_rng(0).standard_normal((ndim, *grid.shape3))
    out = make(sigma=1.7, acts_on="update").smooth(field, grid, np.empty_like(field))

    def minus_laplacian(u):
        total = np.zeros_like(u)
        for axis in range(4 - ndim, 4):
            rise = np.diff(u, axis=axis) / grid.spacing[axis - 4] ** 2
            pad = [(0, 0)] * 4
            pad[axis] = (1, 1)
            total -= np.diff(np.pad(rise, pad), axis=axis)
        return total

    again = out
    for _ in range(power):
        again = (1.7 * grid.resolution) ** 2 / 2 * minus_laplacian(again)
    assert out + again == pytest.approx(field, abs=1e-10)


@DIMENSIONS
def test_the_elastic_filter_damps_each_wave_by_its_kind(ndim):
    """1 / (1 + s mu k^2) of what shears, 1 / (1 + s (2 mu + lambda) k^2) of what is squeezed; a shift stays."""
    grid, sigma, mu, lam = oblique(ndim), 1.7, 0.8, 0.6
    axes = grid.affine[:-1, :-1] / grid.spacing
    part = Elastic(shear=mu, dilation=lam, sigma=sigma, acts_on="update")
    s = (sigma * grid.resolution) ** 2 / 2
    frequency = np.array([2, 4, 2])[-ndim:]  # even, so that a wave has no mean
    angle = [np.pi * f * (np.arange(n) + 0.5) / n for f, n in zip(frequency, grid.shape)]
    waves = np.stack([np.prod(np.meshgrid(*(np.sin(t) if a == c else np.cos(t) for a, t in enumerate(angle)),
                                          indexing="ij"), axis=0) for c in range(ndim)])
    k = 2 * np.sin(np.pi * frequency / (2 * np.array(grid.shape))) / grid.spacing
    across = np.linalg.svd(k[None])[2][1]  # at a right angle to k
    shift = np.arange(1.0, ndim + 1)
    for direction, stiffness in ((k, 2 * mu + lam), (across, mu)):
        field = np.einsum("ka,a...->k...", axes * direction, waves)
        wanted = field / (1 + s * stiffness * np.sum(k**2))
        field, wanted = ((a + shift.reshape(-1, *[1] * ndim)).reshape(ndim, *grid.shape3) for a in (field, wanted))
        assert part.smooth(field, grid, np.empty_like(field)) == pytest.approx(wanted, abs=1e-10)
    noise = np.random.default_rng(0).standard_normal((2, *field.shape))
    one, other = (part.smooth(a, grid, np.empty_like(a)) for a in noise)
    both = part.smooth(np.concatenate(noise), grid, np.empty((2 * ndim, *field.shape[1:])))
    assert np.array_equal(both, np.concatenate([one, other])), "of two images, each by itself"
    number = Diffusion(sigma=sigma * np.sqrt(mu)).smooth(noise[0, :1], grid, np.empty_like(noise[0, :1]))
    assert part.smooth(noise[0, :1], grid, np.empty_like(number)) == pytest.approx(number, abs=1e-12)


def test_the_elastic_filter_holds_what_crosses_the_border():
    grid = Grid.from_spacing((40, 30), spacing=2.0)
    field = np.zeros((2, *grid.shape3))
    field[0, 0, :, :15], field[0, 0, :, 15:] = 1, -1  # to the middle, along x
    out = Elastic(sigma=3.0).smooth(field, grid, np.empty_like(field))
    assert np.abs(out[0, 0, :, [0, -1]]).max() < 0.3 < np.abs(out[0]).max() and np.abs(out[1]).max() < 1e-12


@pytest.mark.parametrize("make", [Diffusion, Curvature, Elastic])
def test_the_filter_gives_the_same_bits_for_any_number_of_threads(make):
    grid = Grid.from_spacing((33, 36, 35), spacing=(2.0, 1.0, 1.5))
    assert grid.size > SMALL
    field = np.random.default_rng(0).standard_normal((3, *grid.shape)).astype(np.float32)
    found = set()
    for threads in (1, 2, 5):
        with Workspace(threads):
            found.add(make(sigma=2.0).smooth(field, grid, np.empty_like(field)).tobytes())
    assert len(found) == 1


def test_sigma_decides_between_an_energy_and_a_filter():
    for make in (Diffusion, Curvature, Elastic):
        assert is_energy(make()) and not smooths(make())
        assert smooths(make(sigma=1.0)) and not is_energy(make(sigma=1.0))
        with pytest.raises(OptionError, match="give the width of the filter, sigma"):
            make(acts_on="update")
        with pytest.raises(OptionError, match="leave out `where`, or sigma"):
            make(sigma=1.0, where=Image(np.ones((4, 4)), Grid.from_spacing((4, 4))))
        with pytest.raises(OptionError, match="acts_on is one of displacement, velocity, update; got 'force'"):
            make(acts_on="force")
    assert smooths(Gaussian()) and not is_energy(Gaussian()) and is_energy(Volume()) and not smooths(Volume())


def test_pairings_with_filters_and_energies():
    grid = oblique(2)
    field, velocity = Dense(grid, np.eye(3), compositive=True), Velocity(grid, np.eye(3))
    update = Curvature(sigma=1.0, acts_on="update")
    check_needs(Greedy(), field, SSD(), [update, Diffusion(sigma=0.5), Elastic(), Jacobian()])
    check_needs(Greedy(), velocity, SSD(), [update, Diffusion(sigma=0.5, acts_on="velocity"), Jacobian(),
                                            Elastic(acts_on="velocity")])
    for optimiser, model, part, message in (
            (Greedy(), field, Diffusion(acts_on="velocity"), "energy of the velocity, which Dense has not"),
            (Greedy(), field, Volume(), "keeps splines from folding; Dense is none: use jacobian"),
            (Greedy(), field, Diffusion(), "smooths the displacement"),
            (Adam(), Dense(grid, np.eye(3)), Diffusion(sigma=1.0), "Diffusion only smooths, which Adam never does")):
        with pytest.raises(OptionError, match=message):
            check_needs(optimiser, model, SSD(), [update, part] if optimiser.needs == {"smooth"} else [part])


@DIMENSIONS
@pytest.mark.parametrize("kind", ["greedy", "svf", "velocity"])
@pytest.mark.parametrize("make", [Diffusion, Bending, Curvature, Elastic, TV, Jacobian])
def test_energies_of_composed_fields_fall_along_their_gradient(make, kind, ndim):
    """The slope along a composed step, or along a step of the velocity whose energy it is."""
    if kind == "velocity" and make is Jacobian:
        pytest.skip("a velocity has no Jacobian determinant")
    fixed, moving = check.scene(ndim)
    grid, matrix = fixed.grid, np.eye(ndim + 1)
    model = Dense(grid, matrix, compositive=True) if kind == "greedy" else Velocity(grid, matrix)
    part = make(acts_on="velocity") if kind == "velocity" else make()
    theta = model.refine(model.identity(), grid).astype(float)
    points = grid.points().reshape(*grid.shape3, ndim)
    for k in range(ndim):
        theta[k] = (1.5 if kind == "greedy" else 0.3) * np.sin(points[..., (k + 1) % ndim] / 7 + k)
    step = np.stack([np.cos(points[..., k] / 6 - k) * np.sin(points[..., k - 1] / 8) for k in range(ndim)])

    def of(regularisers, t):
        return Objective(fixed, moving, model, SSD(), regularisers)(t)

    gradient = of([part], theta).gradient.copy() - of([], theta).gradient
    if kind == "svf":  # the first order of exp(v + w): along a step down, not across
        step = smoothed(gradient, [1.5] * 3, np.empty_like(gradient))
        step /= np.abs(step).max()
    slope = np.sum(gradient * step)
    name = type(part).__name__.lower()
    values = [of([part], model.retract(theta, h * step).copy()).terms[name] for h in (1e-3, -1e-3)]
    assert slope == pytest.approx((values[0] - values[1]) / 2e-3, rel=0.25 if kind == "svf" else 1e-2)


def test_a_level_that_would_begin_with_folds_is_mended():
    grid = oblique(3)
    rng = np.random.default_rng(0)
    for model in (BSpline(grid, 4.0, np.eye(4)), Dense(grid, np.eye(4))):
        theta = model.refine(model.identity(), grid) + 0.1
        middle = tuple(slice(n // 2, n // 2 + 2) for n in theta.shape[1:])
        theta[(slice(None), *middle)] += rng.choice([-9, 9], size=(3, 2, 2, 2)).astype(np.float32)
        part = Jacobian()
        assert part(theta, model.slopes(theta, grid))[0] == np.inf
        mended = part.mend(theta, model)
        assert np.isfinite(part(mended, model.slopes(mended, grid))[0])
        assert np.mean(np.abs(mended - theta) > 1e-6) < 0.8, "only near the folds"
        assert part.mend(mended, model) is mended
