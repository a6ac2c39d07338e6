"""Measures of a group against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from classreg.errors import InputError, OptionError
from classreg.evaluate import group_errors, group_folding, group_overlap, group_surfaces, warping_index
from classreg.grid import Grid
from classreg.mapping import Mapping

TURN = np.array([[0.8, -0.6], [0.6, 0.8]])
GRID = Grid.from_spacing((7, 9), (3.0, 1.5), (20.0, -11.0), TURN)


def moved(*t):
    return lambda x: x + np.array(t)


def still(x):
    return x


def constant(t, grid=GRID):
    return np.broadcast_to(np.reshape(t, (-1, *[1] * grid.ndim)), (grid.ndim, *grid.shape)).copy()


def test_errors_by_hand_and_free_of_the_gauge():
    """Residuals 0, (3, 4) and (-3, -4) mm: 0, 5, 5 from their mean, and 5, 5, 10 from each other."""
    found = group_errors([still, moved(3, 4), moved(-3, -4)], [still] * 3, GRID)
    assert found["gre"] == pytest.approx(10 / 3) and found["pairwise"] == pytest.approx(20 / 3)
    assert found["per_image"] == pytest.approx([0, 5, 5]) and found["n"] == 63
    both = group_errors([moved(1, 2), moved(4, 6), moved(-2, -2)], [moved(10, 0)] * 3, GRID)
    assert both["gre"] == pytest.approx(10 / 3) and both["pairwise"] == pytest.approx(20 / 3)


def test_errors_of_what_undoes_the_motion_are_zero_in_any_common_space():
    rng, common = np.random.default_rng(0), np.eye(3)
    common[:2] += 0.1 * rng.standard_normal((2, 3))
    initial = [np.vstack([np.eye(2, 3) + 0.2 * rng.standard_normal((2, 3)), [0, 0, 1]]) for _ in range(3)]
    found = group_errors([Mapping(np.linalg.inv(m) @ common) for m in initial], [Mapping(m) for m in initial], GRID)
    assert found["gre"] == pytest.approx(0, abs=1e-12) and found["pairwise"] == pytest.approx(0, abs=1e-12)


def test_errors_count_only_under_the_mask():
    mask = np.zeros(GRID.shape)
    mask[0, :2] = 1
    at = GRID.points()[0, :2]
    one = group_errors([lambda x: 2 * x, still], [still, still], GRID, mask)
    assert one["n"] == 2
    assert one["pairwise"] == pytest.approx(np.sqrt((at**2).sum(-1)).mean())
    assert one["gre"] == pytest.approx(one["pairwise"] / 2)
    with pytest.raises(InputError, match="one for each image"):
        group_errors([still], [still, still], GRID)
    with pytest.raises(InputError, match="two or more"):
        group_errors([still], [still], GRID)


def test_warping_index_by_hand():
    """Moved by (4, 0) and (-2, 0) mm, found to be (-3, 0) and (0, 0): residuals (1, 0) and (-2, 0), less (-0.5, 0)."""
    found = warping_index([constant([-3, 0]), constant([0, 0])], [constant([4, 0]), constant([-2, 0])], GRID, unit="mm")
    assert found["per_image"] == pytest.approx([1.5, 1.5]) and found["gwi"] == pytest.approx(1.5)
    assert found["per_image_before"] == pytest.approx([3, 3]) and found["before"] == pytest.approx(3)
    along = TURN @ [0.0, 1.0]  # along the first axis of the array, whose spacing is 3 mm
    found = warping_index([constant(6 * along), constant([0, 0])], [constant([0, 0])] * 2, GRID)
    assert found["per_image"] == pytest.approx([1, 1]), "voxels"
    found = warping_index([constant(6 * along), constant([0, 0])], [constant([0, 0])] * 2, GRID, unit="mm")
    assert found["per_image"] == pytest.approx([3, 3])


def test_warping_index_looks_up_the_initial_field_where_points_went():
    """One image moved by v = x_1 / 2 along x_1, x_1 from the first sample; u = 2 mm there: r = 2 + (x_1 + 2) / 2."""
    grid = Grid.from_spacing((2, 6), (1.0, 1.0))
    x = grid.points()[..., 0]
    v = np.stack([x / 2, 0 * x])
    found = warping_index([constant([2, 0], grid), constant([0, 0], grid)], [v, 0 * v], grid, unit="mm")
    r = 2 + np.minimum(np.arange(6) + 2, 5) / 2  # the last value is kept beyond the border
    assert found["per_image"] == pytest.approx([np.sqrt(np.mean((r / 2) ** 2))] * 2)


def test_warping_index_moves_the_mask():
    """The mask holds sample 4; moved by two samples it holds sample 2, and what the field does there counts."""
    grid = Grid.from_spacing((1, 6), (1.0, 1.0))
    u = np.zeros((2, 1, 6))
    u[0, 0] = [2, 2, 2, 0, 0, 0]
    mask = np.zeros((1, 6))
    mask[0, 4] = 1
    zero = np.zeros_like(u)
    found = warping_index([u, zero], [zero, zero], grid, [mask, np.ones((1, 6))], unit="mm")
    assert found["per_image"][0] == pytest.approx(np.sqrt((1 + 0) / 2))  # samples 2 (moved by 2) and 4 (still)
    with pytest.raises(InputError, match="mask 0 is empty once it is moved"):
        warping_index([constant([9, 0], grid), zero], [zero, zero], grid, [mask, mask])
    with pytest.raises(OptionError, match="unit"):
        warping_index([zero, zero], [zero, zero], grid, unit="pixels")
    with pytest.raises(InputError, match="one for each image"):
        warping_index([zero, zero], [zero], grid)


def test_overlap_of_a_group_is_the_mean_over_pairs():
    maps = [np.array([[1, 1, 2, 0]]), np.array([[1, 0, 2, 0]]), np.array([[1, 1, 0, 0]])]
    found = group_overlap(maps)
    # label 1: 2/3, 1, 2/3; label 2: 1, 0, 0
    assert found["scores"] == pytest.approx({1: 7 / 9, 2: 1 / 3}) and found["mean"] == pytest.approx(5 / 9)
    assert found["per_pair"] == pytest.approx({(0, 1): 5 / 6, (0, 2): 0.5, (1, 2): 1 / 3})
    assert group_overlap(maps, [2, 1])["scores"] == found["scores"]
    assert np.isnan(group_overlap(maps, [7])["scores"][7])
    for wrong in (maps[:1], [maps[0], maps[1][:, :2]]):
        with pytest.raises(InputError, match="two or more on one grid"):
            group_overlap(wrong)


def test_surfaces_of_a_group_are_the_mean_over_pairs():
    """Squares of voxel elements, shifted by one and three samples of 2 mm along x."""
    grid = Grid.from_spacing((9, 12), (1.0, 2.0))
    maps = np.zeros((3, 9, 12), int)
    for k, shift in enumerate((0, 1, 3)):
        maps[k, 2:7, 2 + shift] = 1  # a line: each of its voxels is surface, and the nearest lies straight across
    maps[0, 0, 0] = 5
    found = group_surfaces(maps, grid, elements="voxel")
    assert found["scores"][1] == pytest.approx((2 + 6 + 4) / 3)
    assert np.isnan(found["scores"][5]) and found["missing"] == 2 and found["mean"] == found["scores"][1]


def test_folding_of_a_group():
    x = GRID.points() - GRID.centre
    flipped = np.moveaxis(-2 * x * [1, 0], -1, 0)  # x -> -x
    found = group_folding([flipped, 0 * flipped], GRID)
    assert found["per_image"] == [100.0, 0.0] and found["mean"] == 50.0 and found["max"] == 100.0
    with pytest.raises(InputError, match="no field"):
        group_folding([], GRID)
