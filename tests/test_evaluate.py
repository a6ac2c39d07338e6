"""Evaluation against cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from classreg.errors import InputError, OptionError
from classreg.evaluate import dice, folding, jacobian_determinant, landmark_errors, sd_log_jacobian, tre
from classreg.grid import Grid


def oblique(ndim, shape=None, shear=0.0):
    """An off-origin, anisotropic grid whose axes are rotated (and sheared, if asked)."""
    a, b = np.radians(25), np.radians(-40)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    if ndim == 3:
        turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(ndim + 1)
    affine[:ndim, :ndim] = (turn[:ndim, :ndim] * [1.0, 1.7, 3.0][:ndim])[:, ::-1]
    affine[0, :ndim] += shear * affine[1, :ndim]
    affine[:ndim, ndim] = [31.0, -57.0, 12.0][:ndim]
    return Grid(shape or ((19, 8, 7) if ndim == 3 else (37, 9)), affine)


def linear_field(matrix, grid):
    """u(x) = (M - I) x, so that x + u(x) = M x."""
    return np.moveaxis(grid.points() @ (np.asarray(matrix) - np.eye(grid.ndim)).T, -1, 0)


# -- overlap -------------------------------------------------------------------------------------------------

A = np.array([[0, 1, 1, 1], [2, 2, 0, 0]])
B = np.array([[0, 0, 1, 1], [2, 3, 3, 0]])


def test_dice_by_hand():
    assert dice(A, B) == {1: 2 * 2 / 5, 2: 2 * 1 / 3, 3: 0.0}
    assert dice(B, A) == dice(A, B)
    assert dice(A.astype(np.uint8), B.astype(float)) == dice(A, B)
    assert dice(A > 0, B > 0) == {1: 2 * 4 / 10}


def test_dice_scores_the_labels_asked_for_in_their_order():
    scores = dice(A, B, labels=[3, 1, 0])
    assert list(scores) == [3, 1, 0] and scores[0] == 2 * 2 / 6


@pytest.mark.parametrize("empty, score", [("nan", np.nan), ("one", 1.0), ("zero", 0.0)])
def test_dice_of_an_absent_label(empty, score):
    scores = dice(A, B, labels=[3, 9], empty=empty)
    assert np.array_equal(scores[9], score, equal_nan=True)
    assert scores[3] == 0.0  # absent from one map only: a miss under every rule


@pytest.mark.parametrize("a, b, message", [
    (A, B[:1], r"\(2, 4\) and \(1, 4\)"), (A, B + 0.5, "second label map"),
    (A * np.nan, B, "first label map"), (None, B, "first label map"),
])
def test_dice_refuses(a, b, message):
    with pytest.raises(InputError, match=message):
        dice(a, b)


def test_dice_refuses_an_unknown_rule():
    with pytest.raises(OptionError, match="did you mean 'zero'"):
        dice(A, B, empty="zeros")


# -- landmarks -----------------------------------------------------------------------------------------------

def test_landmark_errors_by_hand():
    true = np.array([[6.0, -4.0, 3.0], [0.0, 1.0, 2.0], [5.0, 5.0, 5.0]])
    offset = np.array([[2.0, -3.0, 6.0], [0.0, 0.0, 0.0], [-1.0, 2.0, 2.0]])
    assert np.allclose(landmark_errors(true + offset, true), [7.0, 0.0, 3.0])
    assert np.allclose(landmark_errors([[3.0, 4.0]], [[0.0, 0.0]]), [5.0])


def test_tre_by_hand():
    true = np.zeros((101, 2))
    mapped = np.stack([np.arange(101.0) ** 2, np.zeros(101)], 1)[::-1]
    assert tre(mapped, true) == pytest.approx(
        {"mean": 3350.0, "median": 2500.0, "p75": 5625.0, "p95": 9025.0, "max": 10000.0})


@pytest.mark.parametrize("mapped, true, message", [
    (np.zeros((3, 3)), np.zeros((4, 3)), r"\(3, 3\) mapped against \(4, 3\)"),
    (np.zeros((0, 3)), np.zeros((0, 3)), "n > 0"), (np.zeros(3), np.zeros(3), r"shape \(3,\)"),
    (np.zeros((2, 3)), [[0, 0, 0], [np.nan, 0, 0]], "1 of 2 landmarks .* row 1"),
])
def test_landmarks_refuse(mapped, true, message):
    with pytest.raises(InputError, match=message):
        tre(mapped, true)


# -- deformation ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("shear", [0.0, 0.4])
def test_jacobian_of_linear_maps_is_their_determinant_everywhere(ndim, shear):
    grid = oblique(ndim, shear=shear)
    general = np.array([[1.1, 0.3, -0.2], [-0.1, 0.8, 0.25], [0.15, -0.3, 1.3]])[:ndim, :ndim]
    halved, mirrored = np.diag([1.0, 0.5, 1.0][:ndim]), np.diag([-1.0, 1.0, 1.0][:ndim])
    for matrix, expected in ((np.eye(ndim), 1.0), (halved, 0.5), (mirrored, -1.0),
                             (general, np.linalg.det(general))):
        det = jacobian_determinant(linear_field(matrix, grid), grid)
        assert det.shape == grid.shape and det.dtype == np.float32
        assert np.allclose(det, expected, atol=1e-6)


def test_a_shift_changes_no_volume():
    grid = oblique(3)
    field = np.broadcast_to(np.array([6.0, -4.0, 3.0]).reshape(3, 1, 1, 1), (3, *grid.shape))
    assert np.allclose(jacobian_determinant(field, grid), 1.0)


def test_components_and_axes_are_not_swapped():
    """u_x grows along world y only: a shear, J = 1; grown along world x it is a stretch, J = 1.5."""
    grid = Grid.from_spacing((4, 5, 6), (3.0, 1.5, 1.0), origin=(7.0, 8.0, 9.0))
    x, y, _ = np.moveaxis(grid.points(), -1, 0)
    zero = np.zeros(grid.shape)
    assert np.allclose(jacobian_determinant(np.stack([0.5 * y, zero, zero]), grid), 1.0)
    assert np.allclose(jacobian_determinant(np.stack([0.5 * x, zero, zero]), grid), 1.5)
    assert np.allclose(jacobian_determinant(np.stack([0.5 * y, -0.5 * x, zero]), grid), 1.25)


@pytest.mark.parametrize("ndim", [2, 3])
def test_jacobian_follows_the_gradient_rule_over_slabs_and_borders(ndim):
    """Against np.gradient on the whole field; the first axis spans several slabs and ends in a short one."""
    grid = oblique(ndim, shape=(33, 6, 5)[:ndim])
    field = np.random.default_rng(3).normal(0, 0.5, (ndim, *grid.shape))
    slopes = np.stack(np.gradient(field, axis=tuple(range(1, ndim + 1))), -1)  # (component, *shape, axis)
    du_dx = np.moveaxis(slopes, 0, -2) @ np.linalg.inv(grid.affine[:-1, :-1])
    assert np.allclose(jacobian_determinant(field, grid), np.linalg.det(np.eye(ndim) + du_dx), atol=1e-5)
    assert np.allclose(jacobian_determinant(field.astype(np.float32), grid),
                       jacobian_determinant(field, grid), atol=1e-5)


def test_one_slice_contributes_no_derivative():
    """A one-slice volume in its own plane has the determinant of the 2-D grid."""
    flat = oblique(2)
    grid = Grid((1, *flat.shape), flat.affine3)
    u = linear_field([[1.2, 0.1], [0.3, 0.9]], flat)
    lifted = np.concatenate([u, 5.0 * u[:1]])[:, None]
    assert np.allclose(jacobian_determinant(lifted, grid)[0], jacobian_determinant(u, flat), atol=1e-6)
    assert np.allclose(jacobian_determinant(u, flat), 1.2 * 0.9 - 0.1 * 0.3, atol=1e-6)


def test_jacobian_refuses_a_field_of_another_layout():
    grid = oblique(3)
    with pytest.raises(InputError, match="world components first"):
        jacobian_determinant(np.zeros((*grid.shape, 3)), grid)


def test_folding_by_hand():
    det = np.array([[1.0, 0.0], [-0.5, 1e-9]])
    assert folding(det) == 50.0
    assert folding(det, mask=[[1, 1], [0, 1]]) == pytest.approx(100 / 3)
    grid = oblique(3)
    assert folding(jacobian_determinant(linear_field(np.diag([1.0, 1.0, -1.0]), grid), grid)) == 100.0


def test_sd_log_jacobian_by_hand():
    det = np.array([1.0, np.e, np.e, 1.0, -3.0])
    assert sd_log_jacobian(det, mask=det > 0) == pytest.approx(0.5)
    assert sd_log_jacobian(np.full(7, 2.0)) == 0.0
    assert sd_log_jacobian(np.array([-3.0, 1.0]), floor=np.exp(-4)) == pytest.approx(2.0)
    assert sd_log_jacobian(np.array([-3.0, 1.0])) == pytest.approx(-np.log(1e-3) / 2)


@pytest.mark.parametrize("measure", [folding, sd_log_jacobian])
def test_regularity_refuses_what_it_cannot_count(measure):
    with pytest.raises(InputError, match="1 of 3 .* not finite"):
        measure(np.array([1.0, np.nan, 2.0]))
    with pytest.raises(InputError, match="empty"):
        measure(np.ones(3), mask=np.zeros(3))
    with pytest.raises(InputError, match="one grid"):
        measure(np.ones(3), mask=np.ones(4))


def test_floor_must_be_positive():
    with pytest.raises(OptionError, match="floor is 0"):
        sd_log_jacobian(np.ones(3), floor=0)
