"""Surface measures against cases worked by hand, against recorded numbers of public packages, and on sheared grids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from classreg.errors import InputError, OptionError
from classreg.evaluate import asd, assd, hausdorff, hd95, surface_dice, surface_distances, surface_scores
from classreg.evaluate.surfaces import SurfaceDistances
from classreg.evaluate.surfels import areas, codes
from classreg.grid import Grid


def blobs(seed, shape, spacing):
    """Two masks, each a union of three ellipsoids drawn at random; they touch the border of the image."""
    rng = np.random.default_rng(seed)
    extent = np.multiply(shape, spacing)
    at = np.stack(np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, spacing)], indexing="ij"), -1)
    masks = []
    for _ in range(2):
        mask = np.zeros(shape, bool)
        for _ in range(3):
            centre, radii = rng.uniform(0.3, 0.7, len(shape)) * extent, rng.uniform(0.12, 0.4, len(shape)) * extent
            mask |= (((at - centre) / radii) ** 2).sum(-1) < 1
        masks.append(mask)
    return masks


SHAPES = {0: ((14, 22, 27), (3.0, 1.0, 1.7)), 1: ((33, 40), (2.0, 0.8)), 2: ((19, 18, 24), (0.9, 2.2, 1.3))}

# surface-distance 0.1 (DeepMind): HD, HD95, both mean distances, surface Dice at 1 and 2.5 mm, both areas
SURFACE_DISTANCE = {
    0: (12.737739202856996, 9.0, 2.075510963548502, 3.2633645952799624, 0.33420161846365765, 0.4850442380533677,
        2495.9366473880455, 3154.3668421354396),
    1: (6.053098380168622, 5.6, 2.6233846190643177, 2.3561557553615655, 0.31370122089160735, 0.5217670252558577,
        142.8382413770293, 125.73010953132169),
    2: (5.2, 3.125699921617557, 1.0557488570451896, 1.025857190184093, 0.6127794756844208, 0.871736122243472,
        1725.6541053513056, 1736.792237549404),
}

# MedPy 0.5.2: hd, hd95, asd of a to b, of b to a, assd
MEDPY = {
    0: (12.737739202856996, 8.01498596380555, 2.287502909959066, 4.042794780038822, 3.1639264969000025),
    1: (6.053098380168622, 5.6, 2.7880880813052564, 2.506489265220348, 2.6571118877773916),
    2: (5.277309920783504, 3.4058772731852804, 1.3949549637505039, 1.3759355091272192, 1.3853261521970341),
}


@pytest.mark.parametrize("seed", SHAPES)
def test_surfels_as_deepmind_measures_them(seed):
    shape, spacing = SHAPES[seed]
    a, b = blobs(seed, shape, spacing)
    s, back = (surface_distances(*pair, Grid.from_spacing(shape, spacing)) for pair in ((a, b), (b, a)))
    found = (hausdorff(s), hd95(s), asd(s), asd(back), surface_dice(s, 1.0), surface_dice(s, 2.5), s.area_a.sum(),
             s.area_b.sum())
    assert found == pytest.approx(SURFACE_DISTANCE[seed], rel=1e-12)
    assert assd(s, "mean") == pytest.approx(sum(SURFACE_DISTANCE[seed][2:4]) / 2)


@pytest.mark.parametrize("seed", SHAPES)
def test_voxels_as_medpy_measures_them(seed):
    shape, spacing = SHAPES[seed]
    a, b = blobs(seed, shape, spacing)
    s, back = (surface_distances(*pair, Grid.from_spacing(shape, spacing), "voxel") for pair in ((a, b), (b, a)))
    assert (hausdorff(s), hd95(s, "pooled"), asd(s), asd(back), assd(s)) == pytest.approx(MEDPY[seed], rel=1e-12)


def test_disjoint_labels_as_simpleitk_measures_them():
    """Its filter takes all voxels, not those on the surface, which is the same where the labels do not meet."""
    rng, spacing = np.random.default_rng(4), (3.0, 1.5, 1.0)
    a, b = np.zeros((2, 12, 16, 20), np.uint8)
    a[2:9, 2:7, 3:9], b[3:8, 9:14, 6:17] = rng.integers(0, 2, (7, 5, 6)), rng.integers(0, 2, (5, 5, 11))
    images = [sitk.GetImageFromArray(m) for m in (a, b)]
    for image in images:
        image.SetSpacing(spacing[::-1])
    theirs = sitk.HausdorffDistanceImageFilter()
    theirs.Execute(*images)
    s = surface_distances(a, b, Grid.from_spacing(a.shape, spacing), "voxel")
    assert hausdorff(s) == pytest.approx(theirs.GetHausdorffDistance())


def test_shift_by_slices_is_in_mm_unless_voxels_are_asked_for():
    a = np.zeros((20, 16, 16), bool)
    a[4:12, 4:12, 4:12] = True
    b, grid = np.roll(a, 3, axis=0), Grid.from_spacing(a.shape, (5.0, 1.0, 1.0))
    assert hausdorff(surface_distances(a, b, grid)) == pytest.approx(15.0)
    assert hausdorff(surface_distances(a, b, grid, unit="voxel")) == pytest.approx(3.0)


def test_box_by_hand():
    """Corner cells of a box hold a triangle, edge cells a slanted strip, faces a square."""
    box = np.ones((4, 5, 3), bool)
    table = areas(np.eye(3))
    corner, edge, n = np.sqrt(3) / 8, np.sqrt(0.5), np.array([4, 5, 3]) - 1
    faces = 2 * (n[0] * n[1] + n[1] * n[2] + n[0] * n[2])
    assert table[codes(box)].sum() == pytest.approx(faces + 4 * n.sum() * edge + 8 * corner)
    square = np.ones((4, 6), bool)
    assert areas(np.eye(2))[codes(square)].sum() == pytest.approx(2 * (3 + 5) + 4 * np.sqrt(0.5))


def test_areas_do_not_depend_on_which_side_is_inside_nor_on_the_cell_in_space():
    rng = np.random.default_rng(0)
    linear = rng.normal(size=(3, 3))
    table = areas(linear)
    assert np.allclose(table, table[::-1]) and table[0] == 0 == table[255] and (table[1:255] > 0).all()
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert np.allclose(areas(turn @ linear), table)
    assert np.allclose(areas(2 * linear), 4 * table)


def test_area_of_a_ball_comes_near_and_that_of_a_plane_is_exact_on_a_sheared_grid():
    affine = np.eye(4)
    affine[:3, :3] = [[0.2, 0.3, 1.0], [0.1, 1.2, 0.2], [1.5, 0.0, 0.1]]
    affine[:3, 3] = [40, -20, 7]
    grid = Grid((24, 28, 36), affine)
    ball = ((grid.points() - grid.centre) ** 2).sum(-1) < 10**2
    assert areas(grid.affine[:3, :3])[codes(ball)].sum() == pytest.approx(4 * np.pi * 100, rel=0.12)
    half = np.arange(24)[:, None, None] * np.ones(grid.shape) < 9
    inner = codes(half)[9, 1:-1, 1:-1]  # between the last slice inside and the first outside
    cell = np.sqrt((np.cross(affine[:3, 1], affine[:3, 2]) ** 2).sum())
    assert np.allclose(areas(grid.affine[:3, :3])[inner], cell)


@pytest.mark.parametrize("elements", ["surfel", "voxel"])
def test_distances_on_a_sheared_grid_are_those_in_the_world(elements):
    """One voxel against another: the distance of the nearest pieces, found by trying all pairs."""
    affine = np.eye(4)
    affine[:3, :3] = [[0.9, 0.4, 1.0], [0.1, 1.2, 0.2], [1.5, 0.0, 0.1]]
    grid = Grid((8, 9, 10), affine)
    a, b = np.zeros((2, *grid.shape), bool)
    a[2, 3, 4] = b[5, 4, 7] = True
    s = surface_distances(a, b, grid, elements)
    pieces = np.argwhere(np.ones((2, 2, 2))) - 0.5 if elements == "surfel" else np.zeros((1, 3))
    world = [grid.to_world(np.array(at) + pieces) for at in ((2, 3, 4), (5, 4, 7))]
    gap = np.sqrt(((world[0][:, None] - world[1]) ** 2).sum(-1))
    assert np.allclose(s.a_to_b, np.sort(gap.min(1))) and np.allclose(s.b_to_a, np.sort(gap.min(0)))


def test_turned_and_moved_grids_change_nothing_and_a_slice_is_a_contour():
    shape, spacing = SHAPES[2]
    a, b = blobs(2, shape, spacing)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    plain = surface_scores(a, b, Grid.from_spacing(shape, spacing))["scores"][1]
    turned = surface_scores(a, b, Grid.from_spacing(shape, spacing, origin=(50, 3, 9), direction=turn))["scores"][1]
    assert turned == pytest.approx(plain)
    shape, spacing = SHAPES[1]
    a, b = blobs(1, shape, spacing)
    flat = surface_scores(a, b, Grid.from_spacing(shape, spacing))["scores"]
    slice_ = surface_scores(a[None], b[None], Grid.from_spacing((1, *shape), (9.0, *spacing)))["scores"]
    assert slice_[1] == pytest.approx(flat[1])


def test_quantiles_and_means_by_hand():
    """A: area 94 at 0, 5 at 1, 1 at 8; B: 90 at 0 and 10 at 4. Of all 200, 184 are at 0, 189 up to 1, 199 up to 4."""
    s = SurfaceDistances(np.array([0, 1, 8.0]), np.array([0, 4.0]), np.array([94, 5, 1.0]), np.array([90, 10.0]),
                         "surfel", "mm")
    assert hausdorff(s) == 8.0
    assert hd95(s) == 4.0  # 1 from A, 4 from B
    assert hd95(s, "pooled") == 4.0
    assert asd(s) == 0.13 and assd(s) == 53 / 200 and assd(s, "mean") == (0.13 + 0.4) / 2
    assert surface_dice(s, 1.0) == 189 / 200 and surface_dice(s, 3.9) == 189 / 200 and surface_dice(s, 4.0) == 199 / 200
    rare = replace(s, area_b=np.array([196, 4.0]))
    assert hd95(rare) == 1.0 and hd95(rare, "pooled") == 0.0  # 1 from A; 290 of 300 are at 0
    ones = np.ones(11)
    plain = SurfaceDistances(np.arange(11.0), 0 * ones, ones, ones, "voxel", "mm")
    assert hd95(plain) == 9.5 and hd95(plain, "pooled") == pytest.approx(8.95)  # place 19.95 of 0 to 21


def test_empty_labels():
    full, none = np.ones((5, 6)), np.zeros((5, 6))
    grid = Grid.from_spacing((5, 6))
    for elements in ("surfel", "voxel"):
        one = [surface_distances(*pair, grid, elements) for pair in ((full, none), (none, full))]
        for s in one:
            assert [f(s) for f in (hausdorff, hd95, asd, assd)] == [np.inf] * 4 and surface_dice(s, 1.0) == 0.0
            assert hd95(s, "pooled") == assd(s, "mean") == np.inf
        both = surface_distances(none, none, grid, elements)
        assert np.isnan([f(both) for f in (hausdorff, hd95, asd, assd)] + [surface_dice(both, 1.0)]).all()
    same = surface_distances(full, full, grid)
    assert hausdorff(same) == assd(same) == 0.0 and surface_dice(same, 0.0) == 1.0


def test_scores_per_label_say_what_they_are():
    a, b = np.zeros((2, 12, 12, 12), int)
    a[1:5, 1:5, 1:5], b[1:5, 1:5, 3:7] = 1, 1
    a[7:11, 7:11, 7:11] = b[7:11, 7:11, 7:11] = 2
    out = surface_scores(a, b, Grid.from_spacing(a.shape, (1, 1, 2.0)), tolerance=0.5, elements="voxel")
    assert list(out["scores"]) == [1, 2]
    assert out["scores"][1]["hd"] == 4.0 and out["scores"][2]["hd"] == 0.0 and out["scores"][2]["surface_dice"] == 1.0
    assert out["convention"]["unit"] == "mm" and out["convention"]["weights"] == "none"
    assert list(surface_scores(a, b, Grid.from_spacing(a.shape), labels=[2])["scores"]) == [2]


def test_refusals():
    a = np.ones((4, 5))
    grid = Grid.from_spacing(a.shape)
    with pytest.raises(OptionError, match="surface elements 'surfels'; did you mean 'surfel'"):
        surface_distances(a, a, grid, "surfels")
    with pytest.raises(OptionError, match="unit"):
        surface_distances(a, a, grid, unit="pixel")
    with pytest.raises(InputError, match=r"second mask has shape \(4, 4\)"):
        surface_distances(a, a[:, :4], grid)
    with pytest.raises(InputError, match="two axes need more than one sample"):
        surface_distances(a[None, :1], a[None, :1], Grid.from_spacing((1, 1, 5)))
    s = surface_distances(a, a, grid)
    for refused in (lambda: hd95(s, "mean"), lambda: assd(s, "max"), lambda: surface_dice(s, -1.0),
                    lambda: surface_scores(a, a, grid, tolerance=0)):
        with pytest.raises(OptionError):
            refused()
