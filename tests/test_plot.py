"""Plots of images and numbers: where things lie on the screen, what colours and boxes mean, what is refused."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from plot_scenes import arrays, blob, brain, history, made, oblique, rotation

from classreg import plot
from classreg.errors import InputError, OptionError
from classreg.fitted import FittedTransform
from classreg.grid import Grid
from classreg.image import Image
from classreg.plot.canvas import round_below
from classreg.result import Result


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, 1, -1), (-1, 1, -1)])
def test_left_is_right_front_and_head_are_up(order, signs):
    grid, index = oblique(order, signs), [0, 0, 0]
    for world, towards in enumerate((1, -1, 1)):  # a point of the patient's left, front and head
        axis, n = order[world], grid.shape[order[world]]
        index[axis] = round(n * (0.75 if towards * signs[world] > 0 else 0.25))
    image = blob(grid, index)
    views = plot.planes(grid, at=index)
    assert [plane.name for plane in views] == ["axial", "coronal", "sagittal"]
    for plane in views:
        shown = plot.picture(image, plane, (0, 100))
        (row, column), (rows, columns) = np.argwhere(shown == 255).mean(0), shown.shape
        assert row < 0.4 * rows, plane.name
        if plane.name == "sagittal":
            assert column < 0.4 * columns  # faces left
            assert plane.edges == ("S", "P", "I", "A")
        else:
            assert column > 0.6 * columns
            assert (plane.edges[1], plane.edges[3]) == ("L", "R")
    assert views[0].edges[0] == "A" and views[1].edges[0] == "S"


@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_two_dimensions_have_one_plane_with_x_right_and_y_down(order, signs):
    grid = oblique(order, signs, shape=(20, 30), spacing=(2.0, 1.0))
    index = [round((0.75 if signs[order.index(axis)] > 0 else 0.25) * n) for axis, n in enumerate(grid.shape)]
    plane, = plot.planes(grid)
    row, column = np.argwhere(plot.picture(blob(grid, index), plane, (0, 100)) == 255).mean(0)
    rows, columns = (20, 30) if order == (1, 0) else (30, 20)
    assert row > 0.6 * rows and column > 0.6 * columns
    assert plane.size == pytest.approx((40.0, 30.0) if order == (1, 0) else (30.0, 40.0))
    assert plane.edges == ("",) * 4


def test_slices_are_the_middle_ones_unless_given_and_none_is_thin():
    grid = oblique()
    assert {plane.axis: plane.index for plane in plot.planes(grid)} == {0: 10, 1: 12, 2: 14}
    for at in ((20, 0, 0), (0, -1, 0), (1, 2)):
        with pytest.raises(OptionError, match="at="):
            plot.planes(grid, at)
    assert [p.name for p in plot.planes(oblique(shape=(1, 24, 28)))] == ["axial"]
    assert len(plot.planes(oblique(shape=(1, 1, 28)))) == 1


def test_window_ignores_outliers_and_nan():
    grid = Grid.from_spacing((50, 60))
    array = np.random.default_rng(0).uniform(10, 20, grid.shape)
    array[3, 4], array[5, 6], array[7, 8] = 1e6, -1e6, np.nan
    low, high = plot.window(Image(array, grid))
    assert 10 <= low < 10.5 and 19.5 < high <= 20


def test_window_of_little_to_see():
    grid = Grid.from_spacing((200, 210))
    assert plot.window(Image(np.full(grid.shape, 7.0), grid)) == (7.0, 8.0)
    assert plot.window(Image(np.full(grid.shape, np.nan), grid)) == (0.0, 1.0)
    dot = np.zeros(grid.shape)
    dot[101, 33] = 9
    assert plot.window(Image(dot, grid)) == (0.0, 9.0)
    dark = np.full((3, *grid.shape), 40, np.uint8)
    assert plot.window(Image(dark, grid)) == (0.0, 255.0)  # colours are kept
    assert plot.window(Image(dark / np.float32(255), grid)) == (0.0, 1.0)


def test_first_of_several_channels_is_shown_and_nan_is_black():
    grid = Grid.from_spacing((4, 5))
    array = np.stack([np.full((4, 5), 10.0), np.full((4, 5), 90.0)])
    array[0, 1, 2] = np.nan
    shown = plot.picture(Image(array, grid), plot.planes(grid)[0], (0, 20))
    assert shown[1, 2] == 0 and np.unique(shown).tolist() == [0, 128]


def test_panels_keep_millimetres_square():
    grid = oblique()  # z, y, x: 60 x 36 x 28 mm
    figure = plot.slices(brain(grid))
    figure.canvas.draw()
    axial, coronal, sagittal = figure.axes
    assert axial.images[0].get_extent() == pytest.approx([0, 28, 36, 0])
    assert coronal.images[0].get_extent() == pytest.approx([0, 28, 60, 0])
    assert sagittal.images[0].get_extent() == pytest.approx([0, 36, 60, 0])
    scales = []
    for ax in figure.axes:
        box, (left, right, bottom, top) = ax.get_window_extent(), ax.images[0].get_extent()
        scales += [box.width / (right - left), box.height / (bottom - top)]
    assert np.ptp(scales) < 0.02 * np.mean(scales)


def test_slices_of_a_colour_image_are_rgb():
    grid = Grid.from_spacing((10, 12), (2.0, 1.0), origin=(5, -3))
    array = np.zeros((3, 10, 12), np.uint8)
    array[0, 2, 3], array[2, 7, 8] = 200, 100
    shown = plot.slices(Image(array, grid)).axes[0].images[0].get_array()
    assert shown.shape == (10, 12, 3)
    assert shown[2, 3].tolist() == [200, 0, 0] and shown[7, 8].tolist() == [0, 0, 100]


def test_checkerboard_squares_are_equal_in_mm():
    grid = Grid.from_spacing((16, 64), (4.0, 1.0), origin=(9, 8))  # 64 x 64 mm: squares of 8 mm
    ramp = np.tile(np.linspace(-1, 1, 64), (16, 1))
    shown = plot.checkerboard(Image(ramp, grid), Image(-ramp, grid)).axes[0].images[0].get_array().astype(int)
    moving = (np.arange(16)[:, None] // 2 + np.arange(64) // 8) % 2 == 1
    assert np.array_equal(shown > 127, moving ^ (ramp > 0))


def test_checkerboard_of_grey_and_colour():
    grid = Grid.from_spacing((16, 16), 1.0)
    colour = np.zeros((3, 16, 16), np.uint8)
    colour[1] = 250
    ramp = np.arange(256.0).reshape(16, 16)
    shown = plot.checkerboard(Image(ramp, grid), Image(colour, grid)).axes[0].images[0].get_array()
    assert shown[0, 2].tolist() == [0, 250, 0]
    assert len(set(shown[8, 8].tolist())) == 1  # grey


def test_overlay_is_grey_where_aligned_and_coloured_where_not():
    grid = oblique()
    same = plot.overlay(brain(grid), brain(grid)).axes[0].images[0].get_array()
    apart = plot.overlay(brain(grid), brain(grid, 9.0), at=(10, 12, 14)).axes[0].images[0].get_array().astype(int)
    assert np.ptp(same, axis=-1).max() == 0
    fixed, moving = (plot.picture(brain(grid, shift), plot.planes(grid)[0], (0, 100)) for shift in (0.0, 9.0))
    assert (apart[(fixed == 255) & (moving == 0)] @ [1, 0, -1] > 100).all()  # only the fixed: orange
    assert (apart[(fixed == 0) & (moving == 255)] @ [-1, 0, 1] > 100).all()  # only the moving: blue
    assert ((fixed == 255) & (moving == 0)).any() and ((fixed == 0) & (moving == 255)).any()
    for draw in (plot.overlay, plot.checkerboard):
        with pytest.raises(InputError, match="27"):
            draw(brain(grid), brain(oblique(shape=(20, 24, 27))))


def test_convergence_has_a_panel_per_level_with_its_values():
    records = history()
    records[3]["value"] = np.nan
    axes = plot.convergence(records).axes
    assert [ax.get_title(loc="left") for ax in axes] == [
        "affine, level 0", "affine, level 1", "bspline, level 0", "bspline, level 1"]
    x, y = axes[1].lines[0].get_data()
    assert list(x) == list(range(6)) and y == pytest.approx([1 / (2 + i) for i in range(6)])
    plot.convergence([dict(stage="$x_{$", level=0, iteration=0, value=1.0)]).canvas.draw()  # no formula
    with pytest.raises(InputError, match="empty"):
        plot.convergence([])


def test_no_global_matplotlib_state():
    code = "import sys, classreg.plot, classreg.report; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_steps_between_markers_are_millimetres_of_the_patient():
    for order, signs in (((2, 1, 0), (-1, 1, 1)), ((0, 2, 1), (1, -1, -1))):
        grid = oblique(order, signs, shape=(24, 26, 30))
        ends = grid.centre + np.array([[-5.0, -6, -4], [4, 5, 6]]) @ rotation(3).T
        array, (a, b) = np.zeros(grid.shape, np.float32), np.rint(grid.to_index(ends)).astype(int)
        figure_axes = {p.name: p.axis for p in plot.planes(grid)}
        truth = (grid.to_world(b) - grid.to_world(a)) @ rotation(3)  # to the left, back and head
        for name, step in (("axial", truth[[0, 1]]), ("coronal", truth[[0, 2]] * [1, -1]),
                           ("sagittal", truth[[1, 2]] * [1, -1])):
            array[:] = 0
            array[tuple(a)] = 1
            array[tuple(np.where(np.arange(3) == figure_axes[name], a, b))] = 2
            ax, = plot.slices(Image(array, grid), at=a, plane=name).axes
            shown, (_, width, height, _) = ax.images[0].get_array(), ax.images[0].get_extent()
            first, second = ((np.argwhere(shown == grey)[0, ::-1] + 0.5) * [width, height] / shown.shape[::-1]
                             for grey in (128, 255))
            assert second - first == pytest.approx(step)


def test_letters_say_where_the_patient_is_two_where_an_axis_lies_between():
    def letters(degrees):
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        direction = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        grid = Grid.from_spacing((8, 9, 10), (3, 1, 1), origin=(5, 6, 7), direction=direction)
        return {p.name: p.edges for p in plot.planes(grid)}

    assert letters(14)["axial"] == ("A", "L", "P", "R")
    assert letters(30)["axial"] == ("AL", "LP", "PR", "RA")
    assert letters(30)["coronal"] == ("S", "LP", "I", "RA")
    texts = {text.get_text() for text in plot.slices(np.eye(9)[None] * np.ones((8, 1, 1))).axes[0].texts}
    assert texts == {"A", "L", "P", "R", "2 mm"}
    assert [text.get_text() for text in plot.slices(np.eye(9)).axes[0].texts] == ["2 mm"]


@pytest.mark.parametrize("spacing", [0.03, 1.0, 7.3])
def test_scale_bar_is_as_long_as_it_says(spacing):
    ax, = plot.slices(np.eye(40, 60), spacing=spacing).axes
    bar, = (line for line in ax.lines if line.get_gid() == "scale")
    length = np.ptp(bar.get_xdata())
    assert f"{length:g} mm" in [text.get_text() for text in ax.texts]
    assert 0.25 * 60 * spacing / 2.5 <= length <= 0.25 * 60 * spacing and length == pytest.approx(round_below(length))


def test_slices_go_through_the_middle_of_what_is_shown_or_of_the_mask():
    grid = oblique()
    image = blob(grid, (4, 18, 21))
    assert plot.centre(image) == [4, 18, 21]
    mask = np.zeros(grid.shape)
    mask[12:15, 2:5, 3:6] = 1
    assert plot.centre(Image(image.array + 7, grid, mask)) == [13, 3, 4]
    assert plot.centre(Image(np.ones(grid.shape), grid)) == [10, 12, 14]
    wide = np.zeros((3, 700))  # of which every sixth column is read
    wide[1, 500:509] = 1
    assert plot.centre(Image(wide, Grid.from_spacing(wide.shape)))[1] == pytest.approx(504, abs=3)
    assert all(shown.max() == 255 for shown in arrays(plot.slices(image)))
    assert plot.difference(image, image, mask=mask).axes[0].images[0].get_array().count() == 9
    labels = np.zeros(grid.shape, int)
    labels[3, 20, 2] = 5
    assert all(ax.collections for ax in plot.contour(image, labels).axes)  # seen in all three


def test_drawing_on_axes_of_a_figure_of_ones_own():
    grid = oblique()
    figure = Figure()
    axes = figure.subplots(1, 4)
    assert plot.overlay(brain(grid), brain(grid, 4.0), ax=axes[0]) is figure
    plot.checkerboard(brain(grid), brain(grid, 4.0), ax=axes[1:])
    plot.jacobian(np.ones(grid.shape), grid, ax=axes[0], plane="sagittal")
    assert [len(ax.images) for ax in axes] == [2, 1, 1, 1]
    assert axes[0].images[0].get_extent() == pytest.approx([0, 28, 36, 0])  # axial, then sagittal
    assert axes[0].images[1].get_extent() == pytest.approx([0, 36, 60, 0])
    for options, message in ((dict(ax=axes), "4 axes for 3 planes"), (dict(plane="axal"), "did you mean 'axial'")):
        with pytest.raises(OptionError, match=message):
            plot.slices(brain(grid), **options)
    with pytest.raises(OptionError, match="no axial plane"):
        plot.slices(np.eye(4), plane="axial")


def test_a_result_is_drawn_as_its_images_are():
    result = made(oblique((0, 2, 1), shape=(22, 26, 30)))
    for draw in (plot.checkerboard, plot.overlay, plot.difference):
        for one, other in zip(arrays(draw(result)), arrays(draw(result.fixed, result.warped))):
            assert np.array_equal(one, other)
    with pytest.raises(InputError, match="give it alone"):
        plot.overlay(result, result.warped)
    with pytest.raises(InputError, match="nothing to compare"):
        plot.overlay(result.fixed)
    with pytest.raises(InputError, match=".fixed, .moving, .before, .warped"):
        plot.slices(result)


def test_images_of_one_shape_on_different_grids_are_refused():
    other = oblique(signs=(-1, 1, 1))
    with pytest.raises(InputError, match="different grids"):
        plot.overlay(brain(oblique()), brain(other))
    with pytest.raises(InputError, match="different grids"):
        plot.contour(brain(oblique()), Image(np.ones(other.shape, int), other))


def test_one_channel_is_shown_where_it_is_named():
    array = np.zeros((3, 8, 9))
    array[2, 4, 5] = 1
    shown = plot.slices(np.moveaxis(array, 0, -1)[..., 2], channel=0).axes[0].images[0].get_array()
    image = Image(array, Grid.from_spacing((8, 9)))
    assert np.array_equal(plot.slices(image, channel=2).axes[0].images[0].get_array(), shown)
    assert plot.slices(image).axes[0].images[0].get_array().shape == (8, 9, 3)
    with pytest.raises(OptionError, match="has 3; count from 0"):
        plot.slices(image, channel=3)


def test_difference_is_warped_minus_fixed_red_where_brighter():
    fixed, warped = np.zeros((6, 8)), np.zeros((6, 8))
    warped[1, 2], warped[3, 4], warped[5, 5] = 4.0, -2.0, np.nan
    image = plot.difference(fixed, warped, limit=4.0).axes[0].images[0]
    assert image.get_array()[1, 2] == 4 and image.get_array()[3, 4] == -2 and image.get_array().mask[5, 5]
    assert image.get_clim() == (-4, 4)
    red, blue = image.cmap(image.norm(4.0)), image.cmap(image.norm(-4.0))
    assert red[0] > red[2] + 0.2 and blue[2] > blue[0] + 0.2 and min(image.cmap(image.norm(0.0))[:3]) > 0.95
    colour = Image(np.stack([warped] * 3) * [[[3]], [[0]], [[0]]], Grid.from_spacing((6, 8)))
    assert plot.difference(colour.with_array(colour.array * 0), colour).axes[0].images[0].get_array()[1, 2] == 4
    with pytest.raises(OptionError, match="limit is 0"):
        plot.difference(fixed, warped, limit=0)


def test_outline_runs_along_the_edge_of_the_label_in_mm():
    grid = oblique((1, 0), (1, -1), shape=(20, 30), spacing=(2.0, 1.5))  # y runs up: flipped
    labels = np.zeros(grid.shape, int)
    labels[4:9, 20:30] = 3  # touches the border on the right
    labels[14, 5] = 7
    ax, = plot.contour(Image(np.ones(grid.shape), grid), labels).axes
    big, small = (np.concatenate([p.vertices for p in c.get_paths()]) for c in ax.collections)
    assert big.min(0) == pytest.approx([30, 22]) and big.max(0) == pytest.approx([45, 32])
    assert small.min(0) == pytest.approx([7.5, 10]) and small.max(0) == pytest.approx([9, 12])
    assert len(plot.contour(Image(np.ones(grid.shape), grid), labels, only=[7]).axes[0].collections) == 1
    with pytest.raises(InputError, match=r"none of the labels \[4\]"):
        plot.contour(np.ones(grid.shape), labels, only=[4])


def test_moving_labels_of_a_result_are_pulled_back():
    grid = Grid.from_spacing((20, 30), 2.0, origin=(3, 4))
    labels, moved = np.zeros((2, 20, 30), int)
    labels[5:9, 6:12], moved[5:9, 10:16] = 1, 1
    shift = FittedTransform.from_matrix([[1, 0, 8], [0, 1, 0], [0, 0, 1]], grid, grid)
    image = Image(np.ones(grid.shape), grid)
    result = Result(shift, image, image, [], "", None, np.eye(3), 1.0)
    for other in (moved, Image(moved, grid)):
        ax, = plot.contour(result, labels, other).axes
        first, second = (c.get_paths()[0].vertices for c in ax.collections)
        assert first == pytest.approx(second) and len(first) > 8
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["fixed", "warped"]
    apart = plot.contour(image, labels, moved).axes[0].collections
    assert (apart[1].get_paths()[0].vertices - apart[0].get_paths()[0].vertices).mean(0) == pytest.approx([8, 0])


def test_boxes_hold_the_middle_half_and_dots_every_case():
    values = {"none": [1.0, 2, 3, 4, 5, 100], "affine": [2.0, np.nan, 4.0], "bspline": [7.0]}
    ax, = plot.boxes(values, measure="TRE, mm").axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["none", "affine (1 missing)", "bspline"]
    assert ax.get_xlabel() == "TRE, mm" and ax.yaxis_inverted()
    first = ax.patches[0]
    assert (first.get_x(), first.get_x() + first.get_width()) == tuple(np.percentile(values["none"], (25, 75)))
    whiskers, median = ax.collections[0].get_segments(), ax.collections[1].get_segments()
    assert whiskers[0][:, 0].tolist() == [1, 2.25] and whiskers[1][:, 0].tolist() == [4.75, 5]  # 100 is outside
    assert median[0][0, 0] == 3.5
    assert [sorted(line.get_xdata()) for line in ax.lines] == [[1, 2, 3, 4, 5, 100], [2, 4], [7]]


def test_boxes_per_label_stand_in_groups_of_methods():
    values = {"none": {"a": [1, 2], "b": [3, np.nan]}, "affine": {"a": [4, 5], "b": [np.inf], "c": [6.0]}}
    ax, = plot.boxes(values).axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b (2 missing)", "c"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["none", "affine"]
    rows = [(set(line.get_xdata()), line.get_ydata().mean()) for line in ax.lines]
    assert [row for row, _ in rows] == [{1, 2}, {4, 5}, {3}, {6}]
    assert np.diff([place for _, place in rows]).min() > 0.5
    assert plot.boxes(values, ax=ax) is ax.figure
    for wrong, message in (({}, "at least one method"), ({"a": [1], "b": {"c": [1]}}, "all of them"),
                           ({"a": ["x"]}, "no real numbers")):
        with pytest.raises(InputError, match=message):
            plot.boxes(wrong)


def test_convergence_of_a_result_on_one_axes_is_end_to_end():
    result = made()
    assert len(plot.convergence(result).axes) == len(plot.convergence(result.history).axes) == 4
    ax = Figure().subplots()
    plot.convergence(result, ax=ax)
    curves = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 6]
    assert np.concatenate(curves).tolist() == list(range(24))
    heights = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 6]
    assert all((h[0], h[-1]) == (1, 0) and (np.diff(h) < 0).all() for h in heights)  # as the values of each level fall
    plot.convergence([dict(stage="rigid", level=1, iteration=0, value=value) for value in (np.nan, 2.0, 2.0)], ax=ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["affine", "bspline", "rigid"]
    with pytest.raises(InputError, match="must be a matplotlib Axes"):
        plot.convergence(result, ax=[ax])
