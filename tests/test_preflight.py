"""The checks at the door: every refusal names its numbers, and what is in order passes."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import numpy as np
import pytest

import classreg.preflight as preflight
from classreg import memory
from classreg.errors import GeometryError, InputError, OptionError
from classreg.grid import Grid
from classreg.image import Image
from classreg.preflight import (
    Finding,
    check_image,
    check_levels,
    check_pair,
    inspect_pair,
    overlap,
)

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


def grid_of(shape, spacing=None, shift=0.0) -> Grid:
    """Oblique, anisotropic and off-origin."""
    d = len(shape)
    spacing = (3.0, 1.2, 0.8)[-d:] if spacing is None else spacing
    origin = np.array([-31.0, 47.0, 12.0])[:d] + shift
    return Grid.from_spacing(shape, spacing, origin, TURN[:d, :d])


def image_of(shape, *, channels=None, dtype=np.float32, weight=None, seed=0, **where) -> Image:
    full = shape if channels is None else (channels, *shape)
    array = (1000 * np.random.default_rng(seed).normal(size=full)).astype(dtype)
    return Image(array, grid_of(shape, **where), weight)


def found(findings, code) -> list[Finding]:
    return [finding for finding in findings if finding.code == code]


SHAPES = [(13, 17), (7, 12, 15)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64, ">f4"])
def test_ordinary_images_pass(shape, dtype):
    check_image(image_of(shape, dtype=dtype), "fixed")
    check_image(image_of(shape, dtype=dtype, channels=3), "fixed")
    check_image(image_of((1, 12, 15), dtype=dtype), "fixed")


@pytest.mark.parametrize("shape", SHAPES)
def test_nan_and_infinity_are_counted_and_located(shape):
    image = image_of(shape)
    array = image.array.copy()
    array[-2, -3] = np.nan
    array[-1, -1] = -np.inf
    nans = int(np.isnan(array).sum())
    infinite = int(np.isinf(array).sum())
    first = (shape[0] - 2, shape[1] - 3, 0)[: len(shape)]
    with pytest.raises(InputError, match="moving image has") as error:
        check_image(image.with_array(array), "moving")
    text = str(error.value)
    assert f"{nans + infinite} values" in text and f"({nans} NaN, {infinite} infinite)" in text
    assert f"array index {first}" in text and "nan_to_num" in text


def test_a_mask_does_not_excuse_nan():
    image = image_of((9, 11), weight=np.ones((9, 11)))
    array, weight = image.array.copy(), image.weight.copy()
    array[0, 0], weight[0, 0] = np.nan, 0
    with pytest.raises(InputError, match=r"1 values .*\(0, 0\)"):
        check_image(Image(array, image.grid, weight), "fixed")


def test_constant_image_names_its_value():
    grid = grid_of((9, 11))
    with pytest.raises(InputError, match=r"fixed image is constant \(value -7\.5\)"):
        check_image(Image(np.full((9, 11), -7.5), grid), "fixed")
    with pytest.raises(InputError, match=r"constant \(value 2, 5\)"):
        check_image(Image(np.stack([np.full((9, 11), 2), np.full((9, 11), 5)]), grid), "fixed")


def test_constant_is_judged_where_the_mask_counts():
    array = np.zeros((9, 11))
    array[:3] = 4
    inside = np.zeros((9, 11))
    inside[:3] = 1
    with pytest.raises(InputError, match=r"constant inside its mask \(value 4\).*widen"):
        check_image(Image(array, grid_of((9, 11)), inside), "fixed")
    inside[3] = 0.2
    check_image(Image(array, grid_of((9, 11)), inside), "fixed")


def test_constant_in_float32_is_constant():
    array = 1e9 + np.arange(99.0).reshape(9, 11) * 1e-3
    with pytest.raises(InputError, match="constant"):
        check_image(Image(array, grid_of((9, 11))), "fixed")


def test_one_channel_that_varies_is_enough():
    array = np.zeros((2, 9, 11))
    array[1] = np.arange(99).reshape(9, 11)
    check_image(Image(array, grid_of((9, 11))), "fixed")


def test_beyond_float32():
    array = np.arange(99.0).reshape(9, 11)
    array[4, 4] = -1e300
    with pytest.raises(InputError, match=r"1e\+300.*divide"):
        check_image(Image(array, grid_of((9, 11))), "moving")


@pytest.mark.parametrize("shape", [(2, 2), (3, 1), (2, 3, 2)])
def test_too_few_voxels(shape):
    with pytest.raises(InputError, match=f"only {' x '.join(map(str, shape))} voxels.*at least 4"):
        check_image(image_of(shape), "fixed")


def test_a_mask_of_few_voxels():
    weight = np.zeros((7, 12, 15))
    weight.ravel()[5:34] = 0.5
    with pytest.raises(InputError, match="moving mask covers only 29 of 1260 voxels; at least 30"):
        check_image(image_of((7, 12, 15), weight=weight), "moving")
    weight.ravel()[34] = 0.1
    check_image(image_of((7, 12, 15), weight=weight), "moving")


def test_dimensions_must_agree():
    with pytest.raises(InputError, match=r"fixed image is 2-D \(13 x 17\).*moving image 3-D \(7 x 12 x 15\)"):
        check_pair(image_of((13, 17)), image_of((7, 12, 15)))


def test_channels_must_agree():
    with pytest.raises(InputError, match="fixed image has 3 channels and the moving image 1"):
        check_pair(image_of((13, 17), channels=3), image_of((13, 17)))


@pytest.mark.parametrize("shape", SHAPES)
def test_overlap_counts_only_where_the_start_is_given(shape):
    fixed, moving = image_of(shape), image_of(shape, shift=812.0)
    d = len(shape)
    check_pair(fixed, moving)
    with pytest.raises(GeometryError) as error:
        check_pair(fixed, moving, needs_overlap=True)
    text = str(error.value)
    assert f"centres {812 * np.sqrt(d):.1f} mm apart" in text and 'init="geometry"' in text
    extent = " x ".join(f"{length:.4g}" for length in fixed.grid.extent)
    assert f"fixed extent {extent} mm" in text and f"moving extent {extent} mm" in text
    right, wrong = np.eye(d + 1), np.eye(d + 1)
    right[:d, d], wrong[:d, d] = 811.0, -811.0
    check_pair(fixed, moving, initial=right)
    with pytest.raises(GeometryError, match="under the initial transform"):
        check_pair(fixed, moving, initial=wrong)


def test_a_small_moving_image_between_the_sampled_points_overlaps():
    fixed = image_of((200, 200), spacing=(1.0, 1.0))
    corner = fixed.grid.to_world([86, 86])
    moving = Image(np.arange(16.0).reshape(4, 4), Grid.from_spacing((4, 4), 1.0, corner, TURN[:2, :2]))
    assert overlap(fixed.grid, moving.grid) == 0
    check_pair(fixed, moving, needs_overlap=True)


@pytest.mark.parametrize("matrix, match", [(np.eye(4), r"shape \(3, 3\), not \(4, 4\)"),
                                           (np.diag([1.0, 0.0, 1.0]), "cannot be inverted"),
                                           (np.full((3, 3), np.nan), "cannot be inverted")])
def test_initial_matrix(matrix, match):
    with pytest.raises(GeometryError, match=match):
        check_pair(image_of((13, 17)), image_of((13, 17)), initial=matrix)


@pytest.mark.parametrize("shape", [(40, 60), (8, 20, 30)])
def test_masks_must_meet(shape):
    left, right = np.zeros(shape), np.zeros(shape)
    left[..., :10], right[..., -10:] = 1, 1
    fixed, moving = image_of(shape, weight=left), image_of(shape, weight=right)
    check_pair(fixed, moving)
    n = int(left.sum())
    with pytest.raises(InputError, match=rf"fixed mask \({n} voxels\).*moving mask \({n} voxels\) never"):
        check_pair(fixed, moving, needs_overlap=True)
    check_pair(fixed, image_of(shape, weight=np.maximum(left, right)), needs_overlap=True)
    shift = np.eye(len(shape) + 1)
    along = np.eye(len(shape))[-1]
    shift[:-1, -1] = fixed.grid.to_world(along * (shape[-1] - 15)) - fixed.grid.to_world(0 * along)
    check_pair(fixed, moving, initial=shift)


def test_levels_that_fit_pass():
    check_levels(grid_of((9, 64, 80)), [8, 2, 1.5, 1])
    check_levels(grid_of((3, 64, 80)), [8, 1])  # an axis of few samples is not what makes a level too small
    check_levels(grid_of((9, 64, 80), spacing=(10, 1, 1)), [16, 1])  # thick slices are coarse already


@pytest.mark.parametrize("factors, number, axis, left, full, largest", [
    ([16, 1], 1, 0, 3, 9, 11), ([40], 1, 0, 1, 9, 11), ([30, 20, 12], 1, 0, 2, 9, 11)])
def test_levels_too_coarse(factors, number, axis, left, full, largest):
    grid = grid_of((9, 64, 80))
    with pytest.raises(OptionError) as error:
        check_levels(grid, factors)
    text = str(error.value)
    assert f"level {number} of {len(factors)}" in text
    assert f"leaves {left} of {full} samples along axis {axis}" in text
    assert "at least 4" in text and f"at most {largest}" in text
    check_levels(grid, [largest])
    with pytest.raises(OptionError):
        check_levels(grid, [largest + 1])


def test_levels_keep_as_many_as_asked():
    grid = grid_of((64, 80))
    check_levels(grid, [8], least=8)
    with pytest.raises(OptionError, match="at least 9"):
        check_levels(grid, [10], least=9)


@pytest.mark.parametrize("factor", [0, -2, 0.5, np.nan, np.inf, (1, 2), "2", 3])
def test_factors_are_falling_numbers_of_at_least_one(factor):
    with pytest.raises(OptionError, match="level 2 has the factor"):
        check_levels(grid_of((9, 64, 80)), [1, factor])


@pytest.mark.parametrize("levels", ["4,2,1", 4, None])
def test_levels_are_a_sequence(levels):
    with pytest.raises(OptionError, match="such as"):
        check_levels(grid_of((9, 64, 80)), levels)


def test_no_levels():
    with pytest.raises(OptionError, match="at least one"):
        check_levels(grid_of((9, 64, 80)), [])


@pytest.mark.parametrize("shape", [(10, 40), (10, 12, 40)])
def test_overlap_is_the_share_of_fixed_samples(shape):
    fixed = grid_of(shape)
    step = fixed.to_world(np.eye(len(shape))[-1]) - fixed.to_world(np.zeros(len(shape)))
    affine = fixed.affine.copy()
    affine[:-1, -1] += 10 * step
    moved = Grid(shape, affine)
    assert overlap(fixed, fixed) == 1
    assert overlap(fixed, moved) == pytest.approx(0.75, abs=0.03)
    assert overlap(moved, fixed) == pytest.approx(0.75, abs=0.03)
    matrix = np.eye(len(shape) + 1)
    matrix[:-1, -1] = 10 * step
    assert overlap(fixed, moved, matrix) == 1
    assert overlap(fixed, moved, np.linalg.inv(matrix)) == pytest.approx(0.5, abs=0.03)


def test_one_slice_has_no_outside_along_the_slice_axis():
    slices = grid_of((1, 20, 30))
    matrix = np.eye(4)
    matrix[2, 3] = 40
    assert overlap(slices, slices, matrix) == 1
    matrix[:2, 3] = 400
    assert overlap(slices, slices, matrix) == 0


def test_a_sound_pair_has_only_notes():
    fixed, moving = image_of((12, 40, 50)), image_of((12, 40, 50), shift=2.0, seed=1)
    findings = inspect_pair(fixed, moving)
    assert {finding.level for finding in findings} == {"note"}
    text = " ".join(finding.message for finding in findings)
    assert "12 x 40 x 50 voxels" in text and "extent 36 x 48 x 40 mm" in text
    assert "spacing 3 x 1.2 x 0.8 mm" in text
    assert f"the centres are {2 * np.sqrt(3):.1f} mm apart" in text and "bspline" in text
    index = moving.grid.to_index(fixed.grid.points())
    inside = ((index >= -0.5) & (index <= np.array(moving.grid.shape) - 0.5)).all(-1).mean()
    assert float(found(findings, "overlap")[0].message.split()[0]) == pytest.approx(100 * inside, abs=4)


def test_the_gravest_comes_first_and_all_errors_are_listed():
    array = image_of((30, 40)).array.copy()
    array[3, 5] = np.nan
    grid = grid_of((30, 40))
    findings = inspect_pair(Image(array, grid), Image(np.full((2, 30, 40), 3.0), grid))
    assert [finding.code for finding in findings if finding.level == "error"] == [
        "fixed image", "moving image", "pair"]
    assert [finding.level for finding in findings[:3]] == ["error"] * 3
    for finding, word in zip(findings, ("1 NaN", "constant", "channels")):
        assert word in finding.message
    low = np.nanmin(array)
    assert f"from {low:g}" in found(findings, "fixed values")[0].message


def test_different_dimensions_are_an_error_without_a_comparison():
    findings = inspect_pair(image_of((30, 40)), image_of((8, 30, 40)))
    assert findings[0].level == "error" and "2-D" in findings[0].message
    assert not found(findings, "overlap") and not found(findings, "extent")


def test_no_overlap_is_a_warning_since_registration_begins_at_the_centres():
    findings = inspect_pair(image_of((30, 40)), image_of((30, 40), shift=500.0))
    assert findings[0].level == "warning" and "do not overlap" in findings[0].message


def test_extents():
    fixed = image_of((30, 40, 50), spacing=(1.0, 1.0, 1.0))
    permuted = Image(np.random.default_rng(3).normal(size=(50, 30, 40)), Grid.from_spacing((50, 30, 40), 1.3))
    assert found(inspect_pair(fixed, permuted), "extent")[0].level == "note"
    longer = image_of((30, 40, 50), spacing=(1.0, 1.0, 1.7))
    warning = found(inspect_pair(fixed, longer), "extent")[0]
    assert warning.level == "warning" and "1.7" in warning.message and "micrometres" not in warning.message
    micro = image_of((30, 40, 50), spacing=(1e3, 1e3, 1e3))
    for pair in ((fixed, micro), (micro, fixed)):
        warning = found(inspect_pair(*pair), "extent")[0]
        assert warning.level == "warning" and "micrometres" in warning.message and "1e+03" in warning.message


def test_one_outlier_is_a_warning_and_negative_values_are_not():
    image = image_of((40, 50))
    for end in (1e9, -1e9):
        array = image.array.copy()
        array[7, 9] = end
        findings = inspect_pair(image.with_array(array), image.with_array(image.array - 33792))
        assert f"{end:g}" in found(findings, "fixed outlier")[0].message
        assert not found(findings, "moving outlier")
        weight = np.ones((40, 50))
        weight[7, 9] = 0
        assert not found(inspect_pair(Image(array, image.grid, weight), image), "fixed outlier")


def test_label_maps_are_recognised():
    labels = Image(np.random.default_rng(0).integers(0, 7, (40, 50)).astype(np.int16), grid_of((40, 50)))
    picture = image_of((40, 50), dtype=np.uint8)
    findings = inspect_pair(picture, labels)
    assert not found(findings, "fixed labels")
    assert found(findings, "moving labels")[0].level == "warning"
    assert "7 distinct" in found(findings, "moving labels")[0].message
    halves = labels.with_array(labels.array / 2)
    assert not found(inspect_pair(picture, halves), "moving labels")


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="the system does not tell its memory")
def test_more_memory_than_the_machine_has(monkeypatch):
    image = image_of((40, 50))
    assert found(inspect_pair(image, image), "memory")[0].level == "note"
    monkeypatch.setattr(memory, "resident", lambda: 10**18)
    warning = found(inspect_pair(image, image), "memory")[0]
    assert warning.level == "warning" and "1000000000.00 GB" in warning.message


def test_unknown_model():
    image = image_of((40, 50))
    with pytest.raises(OptionError, match="did you mean 'affine'"):
        inspect_pair(image, image, "afine")


def test_layer():
    tree = ast.parse(Path(preflight.__file__).read_text(encoding="utf-8"))
    inner = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level}
    assert inner == {"errors", "grid", "image", "memory"}
