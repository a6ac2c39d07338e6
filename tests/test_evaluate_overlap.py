"""Overlap measures against cases worked by hand, SimpleITK, and warps whose effect is known."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from classreg.errors import InputError, OptionError
from classreg.evaluate import (
    dice,
    false_negatives,
    false_positives,
    jaccard,
    mean_over_labels,
    pooled_overlap,
    target_overlap,
    volume_similarity,
    warped_overlap,
)
from classreg.evaluate.overlap import OVERLAPS
from classreg.fitted import FittedTransform
from classreg.grid import Grid
from classreg.image import Image

S = np.array([[1, 1, 1, 2, 2, 0], [0, 1, 3, 3, 0, 0]])
T = np.array([[1, 1, 0, 2, 0, 0], [1, 1, 2, 2, 0, 4]])


def test_by_hand():
    """Label 1: s = 4, t = 4, b = 3; label 2: 2, 3, 1; label 3 only in S, label 4 only in T."""
    nan = pytest.approx(np.nan, nan_ok=True)
    assert dice(S, T) == {1: 3 / 4, 2: 2 / 5, 3: 0.0, 4: 0.0}
    assert jaccard(S, T) == {1: 3 / 5, 2: 1 / 4, 3: 0.0, 4: 0.0}
    assert target_overlap(S, T) == {1: 3 / 4, 2: 1 / 3, 3: nan, 4: 0.0}
    assert volume_similarity(S, T) == {1: 0.0, 2: -2 / 5, 3: 2.0, 4: -2.0}
    assert false_negatives(S, T) == {1: 1 / 4, 2: 2 / 3, 3: nan, 4: 1.0}
    assert false_positives(S, T) == {1: 1 / 4, 2: 1 / 2, 3: 1.0, 4: nan}


def test_pooled_by_hand():
    """Sums over labels 1 to 4: s = 8, t = 8, b = 4."""
    assert pooled_overlap("target_overlap", S, T) == 4 / 8
    assert pooled_overlap("dice", S, T) == 8 / 16
    assert pooled_overlap("jaccard", S, T) == 4 / 12
    assert pooled_overlap("volume_similarity", S, T, labels=[2]) == -2 / 5
    assert np.isnan(pooled_overlap("dice", S, T, labels=[9]))
    assert mean_over_labels(target_overlap(S, T)) == pytest.approx((3 / 4 + 1 / 3 + 0) / 3)
    assert np.isnan(mean_over_labels(dice(S, T, labels=[9])))


def test_as_simpleitk_measures_random_maps():
    rng = np.random.default_rng(2)
    s, t = rng.integers(0, 5, (2, 9, 11, 7)).astype(np.uint8)
    theirs = sitk.LabelOverlapMeasuresImageFilter()
    theirs.Execute(sitk.GetImageFromArray(s), sitk.GetImageFromArray(t))  # source, target
    for label in range(1, 5):
        assert dice(s, t)[label] == pytest.approx(theirs.GetDiceCoefficient(label))
        assert jaccard(s, t)[label] == pytest.approx(theirs.GetJaccardCoefficient(label))
        assert volume_similarity(s, t)[label] == pytest.approx(theirs.GetVolumeSimilarity(label))
        assert false_negatives(s, t)[label] == pytest.approx(theirs.GetFalseNegativeError(label))
        assert target_overlap(s, t)[label] == pytest.approx(1 - theirs.GetFalseNegativeError(label))
    assert pooled_overlap("dice", s, t) == pytest.approx(theirs.GetDiceCoefficient())
    assert pooled_overlap("false_negatives", s, t) == pytest.approx(theirs.GetFalseNegativeError())


def test_jaccard_follows_from_dice():
    for label, score in dice(S, T).items():
        assert jaccard(S, T)[label] == pytest.approx(score / (2 - score))


@pytest.mark.parametrize("measure", [jaccard, target_overlap])
def test_rule_for_labels_in_neither_map(measure):
    assert measure(S, T, [9], "one") == {9: 1.0} and measure(S, T, [9], "zero") == {9: 0.0}
    assert np.isnan(measure(S, T, [9])[9])


def test_refusals():
    with pytest.raises(OptionError, match="did you mean 'jaccard'"):
        pooled_overlap("jacard", S, T)
    with pytest.raises(InputError, match="overlap needs one grid"):
        target_overlap(S, T[:1])


# -- warping and scoring -------------------------------------------------------------------------------------

def shift(grid, offset):
    matrix = np.eye(grid.ndim + 1)
    matrix[:-1, -1] = offset
    return FittedTransform.from_matrix(matrix, grid, grid)


def shells(shape=(24, 24, 24)):
    """Nine thin shells, one label each, on a grid with a turn and anisotropic samples."""
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
    grid = Grid.from_spacing(shape, (1.4, 1.0, 1.2), origin=(5, -9, 30), direction=turn)
    radius = np.sqrt(((grid.points() - grid.centre) ** 2).sum(-1))
    return Image(np.clip(np.floor(radius - 1), 0, 9).astype(np.uint8) * (radius < 11), grid)


def test_whole_voxel_shift_is_undone_exactly_in_the_right_direction():
    """The fixed map is the moving one taken three voxels along x, one along z: phi(x) = x - that step."""
    moving = shells()
    array = np.zeros_like(moving.array)
    array[1:, :, 3:] = moving.array[:-1, :, :-3]
    fixed = Image(array, moving.grid)
    step = moving.grid.affine[:3, :3] @ [1, 0, 3]
    inside = range(1, 8)  # shells that are not cut by the border
    for interpolation in ("label", "nearest"):
        right = warped_overlap(shift(moving.grid, -step), moving, fixed, interpolation=interpolation, labels=inside)
        wrong = warped_overlap(shift(moving.grid, step), moving, fixed, interpolation=interpolation, labels=inside)
        assert right["mean"] == 1.0 and wrong["mean"] < 0.3


def test_interpolation_is_said_and_matters_for_thin_structures():
    moving = shells()
    half = shift(moving.grid, moving.grid.affine[:3, :3] @ [0.4, 0.4, 0.4])
    voted = warped_overlap(half, moving, moving)
    nearest = warped_overlap(half, moving, moving, interpolation="nearest")
    assert voted["convention"]["interpolation"] == "one-hot linear weights, the heaviest label wins"
    assert nearest["convention"]["interpolation"] == "nearest neighbour"
    assert nearest["mean"] == 1.0  # within half a voxel, nothing moves: nearest hides the shift
    assert 0.3 < voted["mean"] < 1.0


def test_a_label_that_the_warp_loses_counts_as_missed():
    moving, away = shells(), shift(shells().grid, [500.0, 0, 0])
    lost = warped_overlap(away, moving, Image(np.zeros_like(moving.array), moving.grid))
    assert set(lost["scores"]) == set(np.unique(moving.array)) - {0} and lost["skipped"] == list(lost["scores"])
    assert np.isnan(lost["mean"])
    kept = warped_overlap(away, moving, moving)
    assert kept["mean"] == 0.0 and kept["skipped"] == []
    assert warped_overlap(away, moving, moving, measure="false_negatives")["mean"] == 1.0


def test_warped_overlap_refuses():
    moving = shells()
    still = shift(moving.grid, [0, 0, 0])
    with pytest.raises(OptionError, match="interpolation of labels 'linear'"):
        warped_overlap(still, moving, moving, interpolation="linear")
    with pytest.raises(InputError, match="one channel"):
        warped_overlap(still, Image(np.stack([moving.array] * 2), moving.grid), moving)
    assert set(OVERLAPS) == {"dice", "jaccard", "target_overlap", "volume_similarity", "false_negatives",
                             "false_positives"}
