"""The phantom's truth is true: the two scans agree through the map, and through no other."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from classreg.datasets import LABELS, head_phantom
from classreg.errors import InputError, OptionError
from classreg.evaluate import dice, folding, jacobian_determinant
from classreg.grid import Grid

DIMENSIONS = (2, 3)


@functools.cache
def clean(ndim, **options):
    """A pair without noise and bias."""
    return head_phantom(3.0 if ndim == 3 else 2.0, ndim=ndim, noise=0, bias=0, **options)


def pull(image, world, order):
    """`image` at world points (*shape, d), and where these lie inside it."""
    index = image.grid.to_index(world)
    inside = ((index >= 0) & (index <= np.array(image.grid.shape) - 1)).all(-1)
    where = np.moveaxis(index, -1, 0)
    return map_coordinates(image.array.astype(float), where, order=order, mode="nearest"), inside


def similarity(pair, through):
    warped, inside = pull(pair.moving, through(pair.fixed.grid.points()), order=1)
    return np.corrcoef(warped[inside], pair.fixed.array[inside])[0, 1]


@pytest.mark.parametrize("ndim", DIMENSIONS)
def test_moving_is_fixed_through_the_true_map_and_through_no_other(ndim):
    pair = clean(ndim)
    linear = pair.matrix[:-1]
    assert similarity(pair, pair.true_map) > 0.985
    assert similarity(pair, lambda x: x) < 0.8
    assert similarity(pair, pair.true_map.inverse) < 0.8
    assert similarity(pair, lambda x: x @ linear[:, :-1].T + linear[:, -1]) < 0.97  # the bumps count, too


def test_the_truth_is_exact_where_nothing_is_interpolated():
    """With a linear map, a fixed scan on the moving grid pulled back is the moving scan, voxel by voxel."""
    pair = clean(3, deformation=0.0)
    grid = Grid(pair.moving.grid.shape, np.linalg.inv(pair.matrix) @ pair.moving.grid.affine)
    back = head_phantom(8.0, noise=0, bias=0, deformation=0.0, grid=grid).fixed
    # not equal: the blur follows the spacing of the fixed grid, which differs a little here
    assert np.corrcoef(back.array.ravel(), pair.moving.array.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("ndim", DIMENSIONS)
def test_labels_agree_through_the_true_map(ndim):
    pair = clean(ndim)
    world = pair.fixed.grid.points()
    fixed = pair.fixed_labels.array

    def overlaps(through, group):
        warped, inside = pull(pair.moving_labels, through(world), order=0)
        return dice(group(fixed[inside]), group(warped[inside]))

    for shell in ("background", "skull", "csf"):
        assert overlaps(pair.true_map, lambda a, code=LABELS[shell]: a > code)[1] > 0.9
    nuclei = [code for name, code in LABELS.items() if name.startswith(("left", "right"))]
    true, wrong = (overlaps(through, lambda a: a) for through in (pair.true_map, pair.true_map.inverse))
    assert min(true[code] for code in nuclei) > 0.7
    assert np.mean([wrong[code] for code in nuclei]) < 0.3


@pytest.mark.parametrize("ndim", DIMENSIONS)
def test_landmarks_lie_in_the_brain_of_both_scans_and_correspond(ndim):
    pair = clean(ndim)
    assert pair.fixed_points.shape == pair.moving_points.shape == (60, ndim)
    assert np.array_equal(pair.true_map(pair.fixed_points), pair.moving_points)
    assert np.abs(pair.moving_points - pair.fixed_points).max() > 5
    for points, labels in ((pair.fixed_points, pair.fixed_labels), (pair.moving_points, pair.moving_labels)):
        found, inside = pull(labels, points, order=0)
        assert inside.all()
        assert (found >= LABELS["grey matter"]).mean() > 0.9  # fluid only within half a voxel


@pytest.mark.parametrize("ndim", DIMENSIONS)
@pytest.mark.parametrize("deformation", [6.0, 12.0])
def test_map_inverts_and_never_folds(ndim, deformation):
    pair = head_phantom(8.0, ndim=ndim, deformation=deformation)
    world = pair.fixed.grid.points()
    assert np.abs(pair.true_map.inverse(pair.true_map(world)) - world).max() < 1e-4
    assert np.abs(pair.true_map(pair.true_map.inverse(world)) - world).max() < 1e-4
    fine = Grid.from_spacing((60,) * ndim, 4.0, origin=[-106.0, -136.0, -88.0][:ndim])
    u = pair.true_map.displacement(fine.points())
    assert 0.9 * deformation < np.sqrt((u**2).sum(-1)).max() < 1.05 * deformation
    det = jacobian_determinant(np.moveaxis(u, -1, 0), fine)
    assert folding(det) == 0 and det.min() > 0.1
    analytic = np.linalg.det(np.eye(ndim) + pair.true_map.gradient(fine.points()))
    assert np.abs(det - analytic).max() < 0.02


@pytest.mark.parametrize("ndim", DIMENSIONS)
@pytest.mark.parametrize("kind", ["identity", "translation", "rigid", "similarity", "affine"])
def test_linear_part_is_what_it_says(ndim, kind):
    pair = head_phantom(8.0, ndim=ndim, linear=kind, deformation=0.0)
    part = pair.matrix[:-1, :-1]
    gram = part.T @ part
    assert np.allclose(pair.true_map(pair.fixed_points), pair.fixed_points @ part.T + pair.matrix[:-1, -1])
    assert np.linalg.det(part) > 0
    assert np.allclose(part, np.eye(ndim)) == (kind in ("identity", "translation"))
    assert np.allclose(gram, np.eye(ndim)) == (kind in ("identity", "translation", "rigid"))
    assert np.allclose(gram, gram[0, 0] * np.eye(ndim)) == (kind != "affine")
    head = np.array([12.0, -18.0, 30.0][:ndim])
    shift = [0.0] * 3 if kind == "identity" else [6.0, -4.0, 3.0]
    assert np.allclose(pair.true_map(head[None])[0] - head, shift[:ndim])


@pytest.mark.parametrize("ndim", DIMENSIONS)
def test_grids_are_general_and_differ(ndim):
    pair = clean(ndim)
    for grid in (pair.fixed.grid, pair.moving.grid):
        direction = grid.affine[:-1, :-1] / grid.spacing
        assert np.allclose(direction.T @ direction, np.eye(ndim))
        assert ((np.abs(direction) > 0.02) & (np.abs(direction) < 0.999)).sum() >= ndim**2 - 1  # oblique
        assert np.ptp(grid.spacing) > 0.1 and np.abs(grid.centre).min() > 5
        assert (pair.fixed_labels.grid is pair.fixed.grid) and (pair.moving_labels.grid is pair.moving.grid)
    assert not pair.fixed.grid.same_as(pair.moving.grid)
    assert not np.allclose(pair.fixed.grid.spacing, pair.moving.grid.spacing)


def test_two_dimensions_are_a_plane_of_the_same_anatomy():
    flat = clean(2)
    inside = head_phantom(8.0, noise=0, bias=0, grid=_plane(flat.fixed.grid)).fixed
    assert np.corrcoef(flat.fixed.array.ravel(), inside.array.ravel())[0, 1] > 0.995


def _plane(grid):
    """The 2-D phantom's plane as a one-slice 3-D grid."""
    affine = grid.affine3.copy()
    affine[:3, 0] = [0, 0, 2.0]
    affine[2, 3] = 30.0 + 9.0
    return Grid((1, *grid.shape), affine)


@pytest.mark.parametrize("ndim", DIMENSIONS)
def test_seed_decides_everything(ndim):
    first, again, other = (head_phantom(8.0, ndim=ndim, seed=seed) for seed in (1, 1, 2))
    for name in ("fixed", "moving", "fixed_labels", "moving_labels"):
        assert np.array_equal(getattr(first, name).array, getattr(again, name).array)
        assert not np.array_equal(getattr(first, name).array, getattr(other, name).array)
    assert first.fixed.array.dtype == first.moving.array.dtype == np.float32
    assert np.array_equal(first.moving_points, again.moving_points)
    assert not np.array_equal(first.fixed_points, other.fixed_points)


def test_contrasts_share_labels_and_order_the_tissues_as_scanners_do():
    pairs = {name: clean(2, modality=name) for name in ("t1", "t2", "ct")}
    labels = pairs["t1"].fixed_labels.array

    def median(name, tissue):
        assert np.array_equal(pairs[name].fixed_labels.array, labels)
        return np.median(pairs[name].fixed.array[labels == LABELS[tissue]])

    assert median("t1", "ventricles") < median("t1", "grey matter") < median("t1", "white matter")
    assert median("t2", "ventricles") > median("t2", "grey matter") > median("t2", "white matter")
    assert median("ct", "skull") > 500 and abs(median("ct", "white matter")) < 100
    assert median("ct", "background") == -1000
    mixed = clean(2, modality="t1", moving_modality="t2")
    assert np.array_equal(mixed.fixed.array, pairs["t1"].fixed.array)
    assert np.array_equal(mixed.moving.array, pairs["t2"].moving.array)


def test_noise_and_bias_are_of_the_size_asked_for_and_independent():
    silent = clean(2)
    noisy = head_phantom(2.0, ndim=2, noise=0.03, bias=0)
    left, right = (getattr(noisy, name).array - getattr(silent, name).array for name in ("fixed", "moving"))
    brain = silent.fixed_labels.array == LABELS["white matter"]
    assert abs(left[brain].std() - 30) < 3
    n = min(left.size, right.size)
    assert abs(np.corrcoef(left.ravel()[:n], right.ravel()[:n])[0, 1]) < 0.1
    biased = head_phantom(2.0, ndim=2, noise=0, bias=0.3)
    ratio = np.log(biased.fixed.array[brain] / silent.fixed.array[brain])
    assert 0.05 < np.ptp(ratio) and np.abs(ratio).max() <= 0.3 + 1e-5


def test_an_own_grid_is_used():
    grid = Grid.from_spacing((5, 30, 25), (20.0, 7.0, 7.0), origin=[-70.0, -110.0, -20.0])
    pair = head_phantom(8.0, grid=grid)
    assert pair.fixed.grid is grid and pair.fixed_labels.array.max() > LABELS["csf"]


@pytest.mark.parametrize("options, message", [
    ({"modality": "t3"}, "unknown modality 't3'; did you mean"),
    ({"moving_modality": "mr"}, "unknown modality"),
    ({"linear": "rigit"}, "did you mean 'rigid'"), ({"ndim": 4}, "2 or 3"), ({"spacing": 0.0}, "0.5 to 20"),
    ({"deformation": -1.0}, "deformation is -1.0"), ({"noise": np.nan}, "noise is nan"),
    ({"deformation": 80.0}, "might fold"), ({"seed": -1}, "seed is -1"),
])
def test_bad_options_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        head_phantom(**{"spacing": 8.0, **options})


def test_the_largest_deformation_named_in_the_refusal_is_accepted():
    with pytest.raises(OptionError) as refusal:
        head_phantom(8.0, deformation=80.0)
    limit = float(str(refusal.value).split()[-2])
    assert 10 < limit < 80
    head_phantom(8.0, deformation=limit)


def test_a_grid_of_another_dimension_is_refused():
    with pytest.raises(InputError, match="2 dimensions but ndim is 3"):
        head_phantom(8.0, grid=Grid.from_spacing((4, 5)))
