"""Deformation measures against cases worked by hand, published cases, brute force, and a copy of nobody's code."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from scipy.ndimage import correlate1d

from classreg.errors import InputError, OptionError
from classreg.evaluate import (
    bending_energy,
    curl_magnitude,
    dice,
    digital_folding,
    field_rmse,
    folding,
    folding_share,
    inverse_consistency,
    jacobian_determinant,
    learn2reg,
    one_sided_determinant,
    sd_jacobian,
    sd_log_jacobian,
    transform_rmse,
)
from classreg.fitted import FittedTransform
from classreg.grid import Grid
from classreg.mapping import Mapping


def oblique(shape, shear=0.3):
    """An off-origin, anisotropic, turned and sheared grid."""
    d = len(shape)
    a, b = np.radians(25), np.radians(-40)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    if d == 3:
        turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(d + 1)
    affine[:d, :d] = (turn[:d, :d] * [1.0, 1.7, 3.0][:d])[:, ::-1]
    affine[0, :d] += shear * affine[1, :d]
    affine[:d, d] = [31.0, -57.0, 12.0][:d]
    return Grid(shape, affine)


def in_world(index_field, grid):
    """A displacement in samples, components along the array axes, as one in mm."""
    return np.einsum("ij,j...->i...", grid.affine[:-1, :-1], np.asarray(index_field, float))


def at_points(function, grid):
    """A displacement (d, *shape) from a function of world points (..., d)."""
    return np.moveaxis(function(grid.points()), -1, 0)


# -- digital folding -----------------------------------------------------------------------------------------

def test_published_case():
    """Liu et al.'s test: of 3 x 3 samples the middle one goes to (0, 2)."""
    for grid in (Grid.from_spacing((3, 3)), oblique((3, 3))):
        w = np.zeros((2, 3, 3))
        w[:, 1, 1] = [-1, 1]
        u = in_world(w, grid)
        expected = {(1, 1): [[1, 0, 1], [2, 1, 1], [1, 1, 1]], (1, -1): [[1, 0, 1], [1, 3, 0], [1, 1, 1]],
                    (-1, 1): [[1, 1, 1], [2, -1, 1], [1, 2, 1]], (-1, -1): [[1, 1, 1], [1, 1, 0], [1, 2, 1]]}
        for signs, values in expected.items():
            assert np.allclose(one_sided_determinant(u, grid, signs), values)
        found = digital_folding(u, grid)
        assert found["ndv"] == pytest.approx(1 / 4) and found["ndv_mm"] == pytest.approx(grid.voxel_volume / 4)
        assert found["ndv_percent"] == pytest.approx(100 / 36)
    assert digital_folding(u, grid, mask=np.eye(3))["ndv_percent"] == pytest.approx(100 / 12)
    assert digital_folding(u, grid, mask=np.arange(9).reshape(3, 3) != 4)["ndv"] == pytest.approx(0, abs=1e-12)


def volume(vertices):
    return np.linalg.det([v - vertices[0] for v in vertices[1:]]) / 6


def test_tetrahedra_of_a_cube_by_brute_force():
    """NDV of inner samples: a sample owns the eight tetrahedra along the axes and the two along diagonals."""
    grid = oblique((4, 5, 6))
    w = np.random.default_rng(1).normal(0, 0.6, (3, *grid.shape))
    w[:, [0, -1]] = w[:, :, [0, -1]] = w[:, :, :, [0, -1]] = 0
    at = np.moveaxis(np.indices(grid.shape) + w, 0, -1)
    inner, total, folded = np.zeros(grid.shape, bool), 0.0, 0
    inner[1:-1, 1:-1, 1:-1] = True
    for i in np.argwhere(inner):
        volumes = []
        for s in product((1, -1), repeat=3):
            ends = [at[tuple(i + np.array(s) * e)] for e in np.eye(3, dtype=int)]
            volumes.append(np.prod(s) * volume([at[tuple(i)], *ends]))
        for sign in (1, -1):
            ends = [i + sign * np.array(e) for e in ((1, 1, 0), (0, 1, 1), (1, 0, 1))]
            still = volume([i.astype(float), *map(np.asarray, ends)])
            volumes.append(np.sign(still) * volume([at[tuple(i)], *(at[tuple(e)] for e in ends)]))
        total += sum(-v for v in volumes if v < 0) / 2
        folded += min(volumes) <= 0
    found = digital_folding(in_world(w, grid), grid, inner)
    assert total > 0.5 and found["ndv"] == pytest.approx(total)
    assert found["folding"] == pytest.approx(100 * folded / inner.sum())
    assert found["ndv_percent"] == pytest.approx(100 * total / inner.sum())


def test_slabs_do_not_show():
    grid = oblique((37, 4, 5))
    u = np.random.default_rng(5).normal(0, 1.0, (3, *grid.shape))
    whole = digital_folding(u, grid)
    turned = Grid(grid.shape[::-1], grid.affine[:, [2, 1, 0, 3]])
    other = digital_folding(u.transpose(0, 3, 2, 1), turned)
    for key in ("ndv", "folding"):
        assert whole[key] == pytest.approx(other[key])


def test_central_differences_miss_what_the_others_see():
    """One sample is moved by 5 of them: central differences at it do not read it."""
    grid = oblique((9, 9, 9))
    w = np.zeros((3, *grid.shape))
    w[2, 4, 4, 4] = 5.0
    u, at = in_world(w, grid), np.zeros(grid.shape)
    at[4, 4, 4] = 1
    assert folding_share(u, grid, "central", at) == 0.0
    assert folding_share(u, grid, "forward", at) == folding_share(u, grid, "digital", at) == 100.0
    assert folding_share(u, grid, "backward", at) == 0.0  # 1 + 5 there
    assert folding_share(u, grid) == folding(jacobian_determinant(u, grid))


@pytest.mark.parametrize("ndim", [2, 3])
def test_linear_maps(ndim):
    """Away from the border, where u is repeated, all determinants of a linear map are its own."""
    grid = oblique((7, 6, 5)[:ndim])
    matrix = np.array([[1.1, 0.3, -0.2], [-0.1, 0.8, 0.25], [0.15, -0.3, 1.3]])[:ndim, :ndim]
    inside = np.zeros(grid.shape)
    inside[(slice(1, -1),) * ndim] = 1
    for m in (matrix, np.diag([-1.0] + [1.0] * (ndim - 1))):
        u = at_points(lambda x, m=m: x @ (m - np.eye(ndim)).T, grid)
        for signs in product((1, -1), repeat=ndim):
            assert np.allclose(one_sided_determinant(u, grid, signs)[inside > 0], np.linalg.det(m))
        folds = np.linalg.det(m) < 0
        assert all(folding_share(u, grid, s, inside) == 100 * folds for s in ("central", "forward", "backward",
                                                                             "digital"))
        assert digital_folding(u, grid, inside)["ndv_percent"] == pytest.approx(100 * folds)


def test_digital_refuses():
    grid, u = Grid.from_spacing((4, 5)), np.zeros((2, 4, 5))
    with pytest.raises(OptionError, match="did you mean 'central'"):
        folding_share(u, grid, "centre")
    with pytest.raises(OptionError, match="signs are"):
        one_sided_determinant(u, grid, (1, 0))
    with pytest.raises(InputError, match="world components first"):
        digital_folding(u[:, :3], grid)
    with pytest.raises(InputError, match="1 of 40 components .* not finite"):
        digital_folding(np.where(np.arange(40).reshape(u.shape) == 7, np.nan, u), grid)
    with pytest.raises(InputError, match="mask is empty"):
        digital_folding(u, grid, np.zeros((4, 5)))


def test_sd_of_j_is_not_sd_of_log_j():
    det = np.array([0.5, 1.5, 1.0, 1.0])
    assert sd_jacobian(det) == pytest.approx(np.sqrt(0.125))
    assert sd_jacobian(det, mask=[1, 1, 0, 0]) == 0.5
    assert sd_log_jacobian(det, mask=[1, 1, 0, 0]) == pytest.approx(np.log(3) / 2)


# -- fields and transforms -----------------------------------------------------------------------------------

def test_field_rmse_by_hand():
    a, b = np.zeros((3, 2, 2, 1)), np.zeros((3, 2, 2, 1))
    b[:, 0, 0, 0], b[:, 1, 1, 0] = (2, 3, 6), (0, 0, 1)
    assert field_rmse(a, b) == pytest.approx(np.sqrt(50 / 4))
    assert field_rmse(a, b, mask=np.array([[[0], [1]], [[1], [1]]])) == pytest.approx(np.sqrt(1 / 3))
    with pytest.raises(InputError, match="of one grid"):
        field_rmse(a, b[:2])
    with pytest.raises(InputError, match="1 samples .* not finite"):
        field_rmse(a, np.where(b == 6, np.nan, b))


@pytest.mark.parametrize("ndim", [2, 3])
def test_transforms_beside_each_other(ndim):
    grid = oblique((6, 7, 8)[:ndim])
    first, second = np.eye(ndim + 1), np.eye(ndim + 1)
    first[:ndim, ndim], second[0, 0] = [3.0, -4.0, 12.0][:ndim], 1.1
    length = {2: 5.0, 3: 13.0}[ndim]
    fitted = FittedTransform.from_matrix(first, grid, grid)
    assert transform_rmse(fitted, Mapping(np.eye(ndim + 1)), grid) == pytest.approx(length)
    assert transform_rmse(fitted, lambda x: x, grid.points().reshape(-1, ndim)) == pytest.approx(length)
    stretched = transform_rmse(Mapping(second), Mapping(np.eye(ndim + 1)), grid)
    assert stretched == pytest.approx(0.1 * np.sqrt((grid.points()[..., 0] ** 2).mean()))
    field = np.broadcast_to(np.reshape([3.0, -4.0, 12.0][:ndim], (-1,) + (1,) * ndim), (ndim, *grid.shape))
    assert transform_rmse(fitted, Mapping(np.eye(ndim + 1), np.array(field, np.float32), grid), grid) < 1e-5


def test_inverse_consistency_by_hand():
    """Forward by (6, -4, 3), back by (-6, 4, -1): all points are 2 mm off along z."""
    grid = Grid.from_spacing((5, 6, 7), (2.0, 1.0, 0.5), origin=(9, 8, 7))
    forward, backward = np.eye(4), np.eye(4)
    forward[:3, 3], backward[:3, 3] = (6, -4, 3), (-6, 4, -1)
    there, back = FittedTransform.from_matrix(forward, grid, grid), Mapping(backward)
    mm = inverse_consistency(there, back, grid)
    assert [mm[k] for k in ("mean", "p99", "max", "n")] == pytest.approx([2.0, 2.0, 2.0, 210])
    voxel = inverse_consistency(there, back, grid, unit="voxel")
    assert voxel["mean"] == pytest.approx(1.0) and voxel["convention"]["unit"] == "voxel"
    exact = there.inverse()
    assert exact.frm == "moving" and inverse_consistency(there, exact, grid)["max"] < 1e-9
    one = inverse_consistency(there, lambda x: x + [0, 0, -3.0], grid.points().reshape(-1, 3)[:9],
                              mask=[0] * 8 + [1])
    assert one["n"] == 1 and one["max"] == pytest.approx(np.sqrt(36 + 16))


def test_inverse_consistency_refuses():
    points = np.zeros((2, 3))
    with pytest.raises(InputError, match="needs a grid"):
        inverse_consistency(lambda x: x, lambda x: x, points, unit="voxel")
    with pytest.raises(OptionError, match="unit"):
        inverse_consistency(lambda x: x, lambda x: x, points, unit="pixel")
    with pytest.raises(InputError, match="not finite"):
        inverse_consistency(lambda x: x * np.nan, lambda x: x, points)
    with pytest.raises(InputError, match="n > 0"):
        transform_rmse(lambda x: x, lambda x: x, points[:0])


def test_curl_of_linear_fields():
    for ndim in (2, 3):
        grid = oblique((5, 6, 7)[:ndim])
        m = np.array([[0.1, -0.3, 0.2], [0.5, 0.2, -0.1], [0.4, 0.6, 0.3]])[:ndim, :ndim]
        axial = [m[1, 0] - m[0, 1]] if ndim == 2 else [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]]
        found = curl_magnitude(at_points(lambda x, m=m: x @ m.T, grid), grid)
        assert found.shape == grid.shape and np.allclose(found, np.sqrt(np.sum(np.square(axial))))
        assert np.allclose(curl_magnitude(at_points(lambda x, m=m: x @ (m + m.T), grid), grid), 0)


def test_bending_of_quadratic_fields():
    """u_k = x^T Q_k x / 2 has the second derivatives Q_k everywhere."""
    for ndim in (2, 3):
        grid = oblique((5, 6, 7)[:ndim])
        q = np.random.default_rng(2).normal(size=(ndim, ndim, ndim))
        q = (q + q.transpose(0, 2, 1)) / 2
        u = at_points(lambda x, q=q: np.einsum("...i,kij,...j->...k", x, q, x) / 2, grid)
        affine = at_points(lambda x: 3 * x[..., ::-1] + 2, grid)
        assert bending_energy(u + affine, grid) == pytest.approx((q**2).sum())
        assert bending_energy(affine, grid) == pytest.approx(0, abs=1e-18)
        inside = np.zeros(grid.shape)
        inside[2, 2] = 1
        assert bending_energy(u, grid, inside) == pytest.approx((q**2).sum())


def test_bending_of_a_slice_and_its_refusals():
    flat = oblique((5, 6))
    u = at_points(lambda x: x**2, flat)
    lifted = np.concatenate([u, u[:1]])[:, None]
    lifted[2] = 0
    assert bending_energy(lifted, Grid((1, 5, 6), flat.affine3)) == pytest.approx(bending_energy(u, flat)) == 8.0
    with pytest.raises(OptionError, match="three samples along an axis"):
        bending_energy(np.zeros((2, 2, 6)), Grid.from_spacing((2, 6)))
    border = np.ones((5, 6))
    border[1:-1, 1:-1] = 0
    with pytest.raises(InputError, match="no inner sample"):
        bending_energy(u, flat, border)


# -- Learn2Reg -----------------------------------------------------------------------------------------------

def script_determinants(disp):
    """J as the script's description has it, by the sum over permutations of central differences in voxels."""
    d = [[correlate1d(disp[..., i], [-0.5, 0, 0.5], axis=j, mode="constant")[2:-2, 2:-2, 2:-2] + (i == j)
          for j in range(3)] for i in range(3)]
    return sum(np.linalg.det(np.eye(3)[list(p)]) * d[0][p[0]] * d[1][p[1]] * d[2][p[2]] for p in permutations(range(3)))


@pytest.fixture
def disp():
    return np.random.default_rng(3).normal(0, 0.7, (9, 10, 11, 3))


def test_sdlogj_bug_for_bug_and_corrected(disp):
    det = script_determinants(disp)
    found = learn2reg.sd_log_jacobian(disp)
    assert (det <= 0).mean() > 0.05
    assert found["sdlogj"] == pytest.approx(np.log((det + 3).clip(1e-9, 1e9)).std())
    assert found["corrected"] == pytest.approx(np.log(det.clip(1e-9, 1e9)).std())
    assert found["sdlogj"] < 0.2 * found["corrected"]
    mask = np.zeros(disp.shape[:3])
    mask[3:6, 3:7, :8] = 1
    under = mask[2:-2, 2:-2, 2:-2] > 0
    assert learn2reg.sd_log_jacobian(disp, mask)["sdlogj"] == pytest.approx(np.log((det + 3).clip(1e-9))[under].std())
    counts = learn2reg.foldings(disp)
    assert counts["num_foldings"] == 0 and counts["corrected"] == (det <= 0).sum() > 0


def test_sdlogj_corrected_is_the_plain_measure_on_the_inner_voxels(disp):
    grid = oblique(disp.shape[:3], shear=0)
    u = in_world(np.moveaxis(disp, -1, 0), grid)
    assert np.allclose(learn2reg.voxel_field(u, grid), disp)
    inner = np.zeros(grid.shape)
    inner[2:-2, 2:-2, 2:-2] = 1
    plain = sd_log_jacobian(jacobian_determinant(u, grid), inner, floor=1e-9)
    assert learn2reg.sd_log_jacobian(disp)["corrected"] == pytest.approx(plain, rel=1e-3)
    mirrored = disp.transpose(2, 1, 0, 3)[..., ::-1]
    assert learn2reg.sd_log_jacobian(mirrored)["sdlogj"] == pytest.approx(learn2reg.sd_log_jacobian(disp)["sdlogj"])


def test_tre_reads_zeros_outside_and_uses_the_moving_spacing():
    """A ramp on 11 voxels: exact inside by cubic splines; beyond the last voxel centre nothing moves."""
    disp = np.zeros((11, 6, 6, 3))
    disp[..., 0] = np.arange(11.0)[:, None, None]
    fixed, spacing = np.array([[10.0, 2, 2], [10.4, 2, 2], [3.0, 1, 4]]), (2.0, 1.0, 0.5)
    moving = fixed + [[10.0, 3, 4], [10.4, 0, 0], [3.0, 0, 2]]
    assert np.allclose(learn2reg.tre(fixed, moving, disp, spacing), [np.sqrt(9 + 4), 20.8, 1.0])
    with pytest.raises(InputError, match="both need"):
        learn2reg.tre(fixed, moving[:2], disp, spacing)


def test_labels_that_either_original_lacks_are_skipped():
    fixed, moving, warped = np.zeros((3, 6, 6, 6), int)
    fixed[1:3], moving[1:3], warped[2:4] = 1, 1, 1   # overlaps by half
    fixed[4], warped[4] = 2, 2                       # the moving map lacks label 2
    moving[4] = 3                                    # the fixed map lacks label 3
    fixed[5], moving[5] = 4, 4                       # the warp loses label 4
    found = learn2reg.dice(fixed, moving, warped, [1, 2, 3, 4])
    assert found == {1: 0.5, 2: pytest.approx(np.nan, nan_ok=True), 3: pytest.approx(np.nan, nan_ok=True), 4: 0.0}
    assert dice(warped, fixed)[2] == 1.0
    far = learn2reg.hd95(fixed, moving, warped, [1, 2, 4])
    assert far[1] == 1.0 and np.isnan(far[2]) and far[4] == np.inf


def test_labels_are_warped_by_nearest_neighbour_with_zeros_outside():
    moving = np.arange(1, 1 + 5 * 4 * 3).reshape(5, 4, 3)
    disp = np.zeros((5, 4, 3, 3))
    disp[..., 0] = 1.4
    warped = learn2reg.warp_labels(moving, disp)
    assert np.array_equal(warped[:3], moving[1:4]) and (warped[3:] == 0)[1].all()


def test_learn2reg_refuses(disp):
    with pytest.raises(InputError, match="more than 4 voxels"):
        learn2reg.sd_log_jacobian(disp[:4])
    with pytest.raises(InputError, match="empty inside the border"):
        learn2reg.foldings(disp, np.eye(10)[:9, :, None] * (np.arange(11) < 2))
    with pytest.raises(InputError, match="one grid"):
        learn2reg.sd_log_jacobian(disp, np.ones((9, 10)))
    with pytest.raises(InputError, match="2-D"):
        learn2reg.voxel_field(np.zeros((2, 5, 5)), Grid.from_spacing((5, 5)))
