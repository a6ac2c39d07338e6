"""Bands and one-dimensional B-splines against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter1d

from classreg.backend import Workspace
from classreg.spline import (
    Band,
    band,
    basis,
    difference_gram,
    gaussian_band,
    linear_band,
    points_of,
    refine_band,
    spline_band,
    spline_gram,
)

CELLS = pytest.mark.parametrize("cells", [1, 2, 5, 12])
DERIVATIVES = pytest.mark.parametrize("derivative", [0, 1, 2])


def spline(coefficients, cells, derivative=0):
    """The lattice's spline by scipy: knots at -3..cells + 3, control point k centred at k - 1."""
    s = BSpline(np.arange(-3, cells + 4), coefficients, 3)
    return s.derivative(derivative) if derivative else s


def coefficients(cells):
    return np.random.default_rng(cells).standard_normal(points_of(cells))


def integral(function, cells):
    """Over 0..cells, exact for polynomials of degree 7 on each cell."""
    t, w = np.polynomial.legendre.leggauss(4)
    at = np.arange(cells)[:, None] + (t + 1) / 2
    return float(np.sum(function(at) * w / 2))


# -- bands ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2])
def test_a_band_is_its_matrix_along_any_axis(axis, dtype):
    rng = np.random.default_rng(0)
    shape = [3, 5, 4, 6]
    n, m = shape[axis], 7
    operator = band(rng.standard_normal((m, 3)), rng.integers(-2, n + 1, m), n)
    x = rng.standard_normal(shape).astype(dtype)
    x = x.transpose(0, 2, 1, 3).copy().transpose(0, 2, 1, 3)  # any memory order will do
    y = operator.apply(x, axis)
    assert y.dtype == dtype and operator.matrix().shape == (m, n)
    expected = np.moveaxis(np.tensordot(operator.matrix(), x, axes=(1, axis)), 0, axis)
    assert y == pytest.approx(expected, abs=1e-5 if dtype == np.float32 else 1e-12)
    other = rng.standard_normal(y.shape).astype(dtype)
    back = operator.adjoint(other, axis)
    assert back.shape == x.shape
    left, right = np.sum(y * other, dtype=float), np.sum(x * back, dtype=float)
    assert left == pytest.approx(right, rel=1e-4 if dtype == np.float32 else 1e-10)


def test_a_band_writes_into_a_named_buffer():
    operator = linear_band(np.array([0.5, 1.25]), 3)
    with Workspace(1) as ws:
        out = operator.apply(np.array([[1.0, 3.0, 7.0]]), 1, "some name")
        assert out is ws.buffer("some name", (1, 2), np.float64)
        assert out == pytest.approx(np.array([[2.0, 4.0]]))


def test_what_reaches_outside_is_folded_to_the_edge():
    operator = band(np.array([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [1.0, 2.0, 4.0]]), np.array([-2, 1, 3]), 4)
    assert operator.matrix() == pytest.approx(np.array([[7.0, 0, 0, 0], [0, 1, 2, 4], [0, 0, 0, 7]]))
    short = band(np.array([[1.0, 2.0, 4.0, 8.0]]), np.array([-1]), 2)
    assert short.matrix() == pytest.approx(np.array([[3.0, 12.0]]))
    assert (short.starts + short.weights.shape[1] <= 2).all()


# -- B-splines -----------------------------------------------------------------------------------------------

@DERIVATIVES
def test_basis(derivative):
    t = np.linspace(0, 1, 11)
    rows = basis(t, derivative)
    assert rows.shape == (11, 4)
    for k in range(4):
        one = np.zeros(4)
        one[k] = 1
        assert rows[:, k] == pytest.approx(spline(one, 1, derivative)(t))
    assert rows.sum(-1) == pytest.approx(float(derivative == 0))


@CELLS
def test_a_lattice_is_evaluated_as_by_scipy(cells):
    c = coefficients(cells)
    t = np.linspace(0, cells, 37)
    assert spline_band(t, cells).apply(c, 0) == pytest.approx(spline(c, cells)(t))


@CELLS
def test_subdivision_is_exact(cells):
    c = coefficients(cells)
    fine = refine_band(cells).apply(c, 0)
    assert len(fine) == points_of(2 * cells)
    t = np.linspace(0, cells, 53)
    assert spline(fine, 2 * cells)(2 * t) == pytest.approx(spline(c, cells)(t))


@CELLS
@DERIVATIVES
def test_gram_matrix_integrates_the_squared_derivative(cells, derivative):
    """The mean over the lattice, with cells of 2.5 mm, in mm^(-2 r)."""
    c = coefficients(cells)
    gram = spline_gram(cells, 2.5, derivative)
    expected = integral(lambda t: (spline(c, cells, derivative)(t) / 2.5**derivative) ** 2, cells) / cells
    assert c @ gram.apply(c, 0) == pytest.approx(expected)
    assert gram.matrix() == pytest.approx(gram.matrix().T)


@DERIVATIVES
def test_a_one_sample_axis_has_one_control_point(derivative):
    assert points_of(0) == 1
    one = np.array([[2.0, -3.0]])
    for operator in (spline_band(np.zeros(1), 0), refine_band(0)):
        assert operator.apply(one, 0) == pytest.approx(one)
    assert spline_gram(0, 1.0, derivative).matrix() == pytest.approx(float(derivative == 0))


# -- samples -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [3, 4, 9])
@pytest.mark.parametrize("derivative", [1, 2])
def test_difference_gram_is_the_mean_squared_difference(n, derivative):
    c = coefficients(n)[:n]
    gram = difference_gram(n, 2.5, derivative)
    expected = np.mean((np.diff(c, derivative) / 2.5**derivative) ** 2)
    found = c @ gram.apply(c, 0)
    lost = derivative / n  # the mean may be over n samples or over n - r differences
    assert expected * (1 - lost) - 1e-12 <= found <= expected + 1e-12
    assert gram.matrix() == pytest.approx(gram.matrix().T)


def test_difference_gram_of_short_axes():
    assert difference_gram(5, 2.5, 0).matrix() == pytest.approx(np.diag([0.125, 0.25, 0.25, 0.25, 0.125]))
    assert difference_gram(1, 2.5, 0).matrix() == pytest.approx(1.0)
    for n, derivative in ((1, 1), (1, 2), (2, 2)):
        assert not difference_gram(n, 2.5, derivative).matrix().any()


def test_linear_band_is_linear_interpolation_clamped():
    values = coefficients(6)[:8]
    at = np.array([-3.0, 0.0, 0.3, 2.0, 6.75, 7.0, 7.4, 30.0])
    assert linear_band(at, 8).apply(values, 0) == pytest.approx(np.interp(at, np.arange(8), values))
    assert linear_band(at, 1).apply(values[:1], 0) == pytest.approx(values[0])


@pytest.mark.parametrize("sigma", [0.5, 1.3, 4.0])
def test_gaussian_band(sigma):
    n = 15
    values = coefficients(n)[:n]
    radius = int(np.ceil(2.5 * sigma + 0.5))
    found = gaussian_band(np.arange(n), n, sigma).apply(values, 0)
    assert found == pytest.approx(gaussian_filter1d(values, sigma, mode="nearest", radius=radius))
    at = np.array([0.0, 3.5, 7.25, 14.0])
    rows = gaussian_band(at, n, sigma).matrix()
    assert rows.sum(1) == pytest.approx(1)
    tap = np.arange(-60, 80)
    for row, position in zip(rows, at):
        weights = np.exp(-0.5 * ((tap - position) / sigma) ** 2)
        weights[np.abs(tap - np.round(position)) > radius] = 0
        expected = np.bincount(np.clip(tap, 0, n - 1), weights / weights.sum(), n)
        assert row == pytest.approx(expected)


def test_gaussian_band_of_no_width_is_linear_interpolation():
    at = np.array([0.25, 3.0, 4.5])
    assert gaussian_band(at, 6, 0.0).matrix() == pytest.approx(linear_band(at, 6).matrix())


def test_a_band_keeps_what_it_was_given():
    operator = Band(np.array([0, 1]), np.array([[0.5, 0.5], [0.25, 0.75]]), 3)
    assert operator.matrix() == pytest.approx(np.array([[0.5, 0.5, 0], [0, 0.25, 0.75]]))


@CELLS
@DERIVATIVES
def test_diagonals_of_a_gram_matrix(cells, derivative):
    gram = spline_gram(cells, 1.7, derivative)
    n = points_of(cells)
    full = np.zeros((n, n + 6))
    for i in range(n):
        full[i, i:i + 7] = gram.diagonals[:, i]
    assert full[:, 3:-3] == pytest.approx(gram.matrix(), abs=1e-15)
    assert not full[:, :3].any() and not full[:, -3:].any(), "nothing reaches outside"


def test_the_transposed_band_of_a_band_that_skips_samples():
    operator = band(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0, 6]), 9)
    assert operator.transposed.matrix() == pytest.approx(operator.matrix().T)
