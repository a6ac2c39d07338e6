"""Plots of deformations: lines, arrows, determinants and curl; and plots of saved results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from plot_scenes import arrays, brain, history, made, oblique, rotation
from typer.testing import CliRunner

from classreg import plot
from classreg.cli import app
from classreg.engine import Record
from classreg.errors import FileError, InputError, OptionError
from classreg.fitted import FittedTransform
from classreg.grid import Grid
from classreg.image import Image
from classreg.io import save_image
from classreg.jacobian import jacobian_determinant
from classreg.mapping import Mapping
from classreg.planning import Plan
from classreg.plot import saved
from classreg.result import Result


def screen(figure):
    """Middle of every panel's first grid line, (column, row) in mm."""
    return np.array([ax.collections[0].get_segments()[0].mean(0) for ax in figure.axes])


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
@pytest.mark.parametrize("order", [(2, 1, 0), (0, 2, 1)])
def test_deformed_grid_moves_lines_by_the_displacement_in_mm(order, signs):
    grid = oblique(order, signs)
    still = screen(plot.deformed_grid(np.zeros((3, *grid.shape)), grid))
    # 5 mm to the (oblique) left, 3 to the back, 2 to the head
    world = rotation(3) @ np.array([5.0, 3.0, 2.0])
    moved = screen(plot.deformed_grid(np.broadcast_to(world[:, None, None, None], (3, *grid.shape)), grid))
    assert moved - still == pytest.approx(np.array([[5, 3], [5, -2], [3, -2]]))


def test_deformed_grid_lines_start_at_the_samples_and_bend():
    grid = Grid.from_spacing((30, 40), (2.0, 1.5), origin=(4, -9))
    displacement = np.zeros((2, 30, 40))
    displacement[0, 15, 20] = 4.0
    ax, = plot.deformed_grid(displacement, grid).axes
    segments = ax.collections[0].get_segments()
    assert segments[0][0] == pytest.approx([0.75, 1.0])
    points = np.concatenate(segments)
    at = [20.5 * 1.5 + 4, 15.5 * 2]
    assert np.isclose(points, at).all(-1).any()
    with pytest.raises(InputError, match="components first"):
        plot.deformed_grid(np.zeros((30, 40, 2)), grid)


def test_jacobian_is_white_at_one_and_marks_folds():
    grid = oblique(signs=(-1, 1, -1))
    det = np.ones(grid.shape)
    det[:, :12] = 2.0  # front half grows
    index = (4, 18, 21)
    det[index] = -0.1
    figure = plot.jacobian(det, grid, at=index)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255

    def colour(ax, column, row):
        x, y = ax.transData.transform((column, row))
        return pixels[pixels.shape[0] - 1 - int(y), int(x)]

    axial = figure.axes[0]
    column, row = (28 - 21 - 0.5) * 1.0, 18.5 * 1.5  # x runs to the patient's right: flipped on the screen
    assert colour(axial, column, row) == pytest.approx(to_rgb(plot.FOLD), abs=0.02)
    assert colour(axial, 5, 30) == pytest.approx((1, 1, 1), abs=0.06)
    red, green, blue = colour(axial, 5, 5)
    assert red > blue + 0.2 and red > green + 0.2
    assert axial.images[0].norm(2.0) + axial.images[0].norm(0.5) == pytest.approx(1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["folded"]
    assert not plot.jacobian(np.ones(grid.shape), grid).legends
    with pytest.raises(InputError, match="does not fit"):
        plot.jacobian(np.ones((3, 4, 5)), grid)


@pytest.mark.parametrize("order, signs", [((2, 1, 0), (1, 1, 1)), ((0, 2, 1), (-1, 1, -1))])
def test_arrows_point_where_the_motion_goes(order, signs):
    grid = oblique(order, signs)
    world = rotation(3) @ np.array([5.0, 3.0, 2.0])  # to the (oblique) left, back and head
    field = np.broadcast_to(world[:, None, None, None], (3, *grid.shape))
    figure = plot.quiver(field, grid, stretch=1)
    for ax, towards in zip(figure.axes, ([5, 3], [5, -2], [3, -2])):
        arrows = ax.collections[0]
        assert arrows.scale == 1 and arrows.angles == arrows.scale_units == "xy"  # the tip is at x + u
        assert np.stack([arrows.U, arrows.V], -1) == pytest.approx(np.tile(towards, (arrows.N, 1)))
        assert np.asarray(arrows.get_array()) == pytest.approx(np.sqrt(38))  # its colour the whole length
        step = next(p.step for p in plot.planes(grid) if p.name == ax.get_title())
        assert (arrows.XY / step[::-1] - 0.5) % 1 == pytest.approx(0, abs=1e-9)  # they start at samples
    with pytest.raises(InputError, match="both need one grid"):
        plot.quiver(field, grid, image=brain(oblique(order, [-s for s in signs])))
    ax = plot.quiver(field * 0.01, grid).axes
    assert ax[0].collections[0].scale == 1 / 50 and "50 times as long" in ax[-1].get_ylabel()


def test_of_a_transform_the_linear_part_is_drawn_where_asked_for():
    result = made(angle=0.1)
    grid, u = result.fixed.grid, result.transform.mapping().field
    alone, whole = plot.quiver(result, stretch=1), plot.quiver(result, stretch=1, linear=True)
    assert [len(ax.images) for ax in alone.axes[:3]] == [1, 1, 1]  # over the fixed image
    assert alone.axes[0].collections[0].U.max() == pytest.approx(4, abs=0.2)
    field = plot.quiver(result.transform.displacement(), grid, stretch=1, at=plot.centre(result.fixed))
    assert whole.axes[1].collections[0].U == pytest.approx(field.axes[1].collections[0].U)
    assert plot.curl(result).axes[0].images[0].get_array().max() < 0.3
    linear = arrays(plot.curl(result.transform.displacement() - u, grid))[0]
    assert linear == pytest.approx(0.2, abs=0.03)  # a turn by 0.1 about z, and what A does to u
    matrix = FittedTransform.from_matrix(result.transform.matrix, grid)
    assert arrays(plot.curl(matrix))[0] == pytest.approx(2 * np.sin(0.1), abs=1e-4)
    still = plot.deformed_grid(result).axes[0].collections[0].get_segments()[0]
    moved = plot.deformed_grid(result, linear=True).axes[0].collections[0].get_segments()[0]
    assert np.abs(moved - still).max() > 2


def test_jacobian_of_a_result_is_its_determinant_and_a_mask_hides_the_rest():
    result = made()
    det = jacobian_determinant(result.transform.mapping().field, result.fixed.grid)
    at = [10, 12, 14]
    image = plot.jacobian(result, at=at).axes[0].images[0]
    plane = plot.planes(result.fixed.grid, at)[0]
    assert np.ma.allclose(image.get_array(), plane.cut(det)) and image.get_array().count() == 24 * 28
    assert image.norm.vmin * image.norm.vmax == pytest.approx(1)
    mask = np.zeros(det.shape)
    mask[8:12, 10:14, 12:16] = 1
    part = plot.jacobian(result, mask=mask).axes[0].images[0]
    assert part.get_array().count() == 16
    assert part.norm.vmax == pytest.approx(2 ** max(0.1, np.percentile(np.abs(np.log2(det[mask > 0])), 99.9)))
    norm = plot.jacobian(result, limit=4).axes[0].images[0].norm
    assert (norm.vmin, norm.vmax) == (0.25, 4)
    with pytest.raises(OptionError, match="above 1"):
        plot.jacobian(result, limit=1)
    with pytest.raises(InputError, match="mask has shape"):
        plot.jacobian(result, mask=mask[1:])


def test_a_map_with_folds_goes_through_the_worst():
    det = np.ones((9, 10, 11))
    det[2, 3, 4], det[7, 7, 7] = -0.5, -0.1
    figure = plot.jacobian(det)
    assert [len(ax.images) for ax in figure.axes[:3]] == [2, 2, 2]  # each with folds marked
    folds = figure.axes[0].images[1].get_array()
    assert folds.count() == 1 and not folds.mask[3, 4]
    hidden = plot.jacobian(det, mask=det > 0)
    assert not hidden.legends and [len(ax.images) for ax in hidden.axes[:3]] == [1, 1, 1]


def test_curl_of_a_turn_is_twice_its_angle():
    for grid in (oblique(), oblique((0, 1), (1, -1), shape=(20, 30), spacing=(2.0, 1.0))):
        x, y = np.moveaxis(grid.points(), -1, 0)[:2]
        turn = np.stack([-0.1 * y, 0.1 * x, 0 * x][:grid.ndim])
        for shown in arrays(plot.curl(turn, grid)):
            assert shown == pytest.approx(0.2)
    assert plot.curl(turn, grid, limit=0.5).axes[0].images[0].get_clim() == (0, 0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved result in 2-D on an oblique grid, with the fixed image and labels of both sides beside it."""
    folder = tmp_path_factory.mktemp("saved")
    grid = oblique((1, 0), (1, -1), shape=(40, 50), spacing=(2.0, 1.5))
    moving = Grid.from_spacing((50, 60), 2.0, origin=grid.centre - 50)
    points = grid.points() - grid.centre
    u = 4 * np.exp(-(points**2).sum(-1) / 200) * np.ones((2, 1, 1))
    transform = FittedTransform.from_mapping(Mapping(np.eye(3), u.astype(np.float32), grid), grid, moving)
    records = [Record(levels=2, iterations=6, **record) for record in history()]
    result = Result(transform, brain(grid), brain(moving), records, "done", Plan("dense", "given", ()), np.eye(3), 1.0)
    result.save(folder / "out")
    for name, image in (("fixed", brain(grid)), ("moving", brain(moving))):
        save_image(image, folder / f"{name}.nii.gz")
        save_image(image.with_array((image.array > 0).astype(np.uint8)), folder / f"{name}_labels.nii.gz")
    return folder, result


def test_a_saved_result_is_drawn_as_the_result_is(folder):
    folder, result = folder
    for name in ("checkerboard", "overlay", "difference", "jacobian", "curl"):
        drawn = arrays(saved.draw(name, folder / "out", folder / "fixed.nii.gz"))
        for one, other in zip(drawn, arrays(getattr(plot, name)(result))):
            assert one == pytest.approx(other, abs=1e-3 * (np.ptp(other) + 1e-9))
    arrows = [f.axes[0].collections[0] for f in (saved.draw("quiver", folder / "out"), plot.quiver(result))]
    assert arrows[0].U == pytest.approx(arrows[1].U, abs=1e-4) and arrows[0].U.max() > 2
    assert len(saved.draw("convergence", folder / "out").axes) == 4
    ax, = saved.draw("contour", folder / "out", folder / "fixed.nii.gz", labels=folder / "fixed_labels.nii.gz",
                     moving_labels=folder / "moving_labels.nii.gz").axes
    assert len(ax.collections) == 2


@pytest.mark.parametrize("count", [2, 3])
def test_channels_of_a_saved_result(folder, tmp_path, count):
    result = folder[1]
    fixed, moving = (Image(np.stack([image.array] * count), image.grid) for image in (result.fixed, result.moving))
    result = replace(result, fixed=fixed, moving=moving)
    result.save(tmp_path)
    for one, other in zip(arrays(saved.draw("overlay", tmp_path, fixed)), arrays(plot.overlay(result))):
        assert np.abs(one.astype(int) - other).max() <= 1


@pytest.mark.parametrize("text", ["5", "null", "[]", "{", '{"history": [], "fixed_grid": {}}', '{"history": 5}'])
def test_a_folder_whose_result_is_damaged(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    for kind in ("convergence", "jacobian"):
        with pytest.raises(FileError, match="holds no result that can be drawn"):
            saved.draw(kind, tmp_path)


def test_command_line_draws_and_says_what_is_missing(folder):
    folder, _ = folder
    out, fixed, run = folder / "out", folder / "fixed.nii.gz", CliRunner().invoke

    done = run(app, ["plot", "deformed-grid", str(out), "-o", str(folder / "new" / "grid.svg")])
    assert done.exit_code == 0 and "<svg" in (folder / "new" / "grid.svg").read_text(encoding="utf-8")
    done = run(app, ["plot", "overlay", str(out), str(fixed), "-o", str(folder / "overlay.png")])
    assert done.exit_code == 0 and imread(folder / "overlay.png").shape[0] > 300
    for line, message in ((["overlay", out], "needs the fixed image"), (["overlai", out, fixed], "did you mean"),
                          (["contour", out, fixed], "--labels"), (["jacobian", folder], "holds no result"),
                          (["curl", out, "--labels", fixed], "no use for labels"),
                          (["jacobian", out, "--plane", "axial"], "no axial plane")):
        done = run(app, ["plot", *map(str, line), "-o", str(folder / "none.png")])
        assert done.exit_code == 1 and message in done.output, line
        assert not (folder / "none.png").exists()
    done = run(app, ["plot", "jacobian", str(out), "-o", str(folder / "none.doc")])
    assert done.exit_code == 1 and ".png, .pdf, .svg" in done.output
