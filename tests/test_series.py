"""Time series: files with a time axis, motion that is known, what couples frames in time, and what is saved."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from group_scenes import CENTRE, anatomy, rigid

import classreg
from classreg import FittedTransform, Grid, Image, Plan, Series, plot
from classreg.backend import Workspace
from classreg.errors import ClassregError, FileError, InputError, OptionError
from classreg.io.series import load_series, save_series
from classreg.metrics.group import PCA
from classreg.metrics.group.low_rank import LowRank
from classreg.regularisers import Temporal
from classreg.series.motion import motion_of
from classreg.series.plane import flat, plane_of, raised
from classreg.transforms.linear import exp_rotation

DATA = os.environ.get("CLASSREG_DATA")


def oblique(shape, spacing, turn=(10.0, -20.0, 30.0)):
    """A grid about `CENTRE` of the anatomy: tilted, one axis flipped."""
    d = len(shape)
    tilt = exp_rotation(np.radians(turn if d == 3 else turn[-1:]), d) @ np.diag([-1.0] + [1.0] * (d - 1))
    affine = Grid.from_spacing(shape, spacing, direction=tilt).affine.copy()
    grid = Grid(shape, affine)
    affine[:d, d] += CENTRE[:d] - grid.centre + 1.5
    return Grid(shape, affine)


def moving_series(grid, count=6, size=1.0, gain=None, seed=1):
    """Frames of the anatomy, each after a turn and a shift of its own; and the matrices that take anatomy to frame."""
    rng, d, frames, matrices = np.random.default_rng(seed), grid.ndim, [], []
    for k in range(count):
        turn = size * rng.uniform(-5, 5, 1 if d == 2 else 3)
        matrices.append(rigid(turn, size * rng.uniform(-4, 4, d), d))
        back = np.linalg.inv(matrices[-1])
        values = anatomy(grid.points() @ back[:d, :d].T + back[:d, d])
        frames.append(values if gain is None else gain(values, k))
    return Series(np.stack(frames).astype(np.float32), grid, 0.5, 2.0), matrices


def left(result, matrices):
    """Root mean square in mm of what is left of the motion, in the anatomy about its centre."""
    grid = result.series.grid
    d, points = grid.ndim, grid.points().reshape(-1, grid.ndim)
    points = points[((points - CENTRE[:d]) ** 2).sum(-1) < 20**2]
    found = []
    for transform, matrix in zip(result.transforms, matrices):
        back = np.linalg.inv(matrix)
        found.append(transform.map_points(points, transform.frm, transform.to) @ back[:d, :d].T + back[:d, d])
    found = np.stack(found) - np.mean(found, 0)
    return float(np.sqrt((found**2).sum(-1).mean()))


@pytest.fixture(scope="module")
def corrected():
    """A series in the plane and its correction, for all who look at a result."""
    series, matrices = moving_series(oblique((40, 46), (1.6, 1.3)))
    return classreg.register_series(series), matrices


# -- files -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("unit", "step", "seconds"), [("sec", 2.5, 2.5), ("msec", 800.0, 0.8), ("usec", 5e4, 0.05),
                                                       ("unknown", 3.0, 3.0), ("hz", 3.0, None), ("sec", 0.0, None)])
def test_the_time_of_a_file_is_read_in_seconds(tmp_path, unit, step, seconds):
    series = Series(np.arange(4 * 60, dtype=np.int16).reshape(4, 3, 4, 5), oblique((3, 4, 5), (4.0, 2.0, 1.5)))
    image = Image(series.array, series.grid).to_nibabel()
    image.header.set_xyzt_units("mm", unit)
    image.header.set_zooms((*image.header.get_zooms()[:3], step))
    nib.save(image, tmp_path / "a.nii.gz")
    for source in (tmp_path / "a.nii.gz", nib.load(tmp_path / "a.nii.gz")):
        found = load_series(source)
        assert found.interval == (None if seconds is None else pytest.approx(seconds))
        assert np.array_equal(found.array, series.array) and found.grid.same_as(series.grid)
    assert load_series(tmp_path / "a.nii.gz", interval=9.0).times.tolist() == [0, 9, 18, 27]


def test_a_series_is_written_where_other_readers_find_it(tmp_path):
    import SimpleITK as sitk

    series, _ = moving_series(oblique((5, 6, 7), (3.0, 2.0, 1.0)), count=3)
    save_series(series, tmp_path / "a.nii.gz")
    again = load_series(tmp_path / "a.nii.gz")
    assert np.array_equal(again.array, series.array) and again.array.dtype == np.float32
    assert again.grid.same_as(series.grid) and (again.interval, again.begin) == (0.5, 2.0)
    other = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert other.GetSize() == (7, 6, 5, 3) and other.GetSpacing()[3] == pytest.approx(0.5)
    index = (6, 1, 2, 1)
    world = other.TransformIndexToPhysicalPoint(index)
    assert world[:3] == pytest.approx(series.grid.to_world(index[2::-1]), abs=1e-4)
    assert other[index] == pytest.approx(float(series.array[1, 2, 1, 6]))
    assert load_series(other).grid.same_as(series.grid) and load_series(other).begin == pytest.approx(2.0)
    flat_series = Series(np.arange(24.0).reshape(2, 3, 4), Grid.from_spacing((3, 4), (2.0, 1.5)))
    save_series(flat_series, tmp_path / "flat.nii")
    found = load_series(tmp_path / "flat.nii")
    assert found.grid.shape == (1, 3, 4) and found.interval is None and np.array_equal(found.array[:, 0],
                                                                                       flat_series.array)
    with pytest.raises(FileError, match=r"use one of \.nii, \.nii\.gz"):
        save_series(series, tmp_path / "a.mha")


def test_frames_may_come_one_by_one_and_be_cut_out(tmp_path):
    series, _ = moving_series(oblique((8, 9), (1.0, 2.0)), count=5)
    for k, frame in enumerate(series.frames):
        classreg.io.save_image(frame, tmp_path / f"{k}.nii")
    found = load_series([tmp_path / f"{k}.nii" for k in range(5)], interval=0.5)
    assert np.array_equal(found.array, series.array) and found.grid.same_as(series.grid)
    assert len(series[1:5:2]) == 2 and series[1:5:2].times.tolist() == [2.5, 3.5]


@pytest.mark.parametrize(("source", "words"), [
    (np.zeros((4, 4)), "series is .time, y, x. or .time, z, y, x."),
    (np.zeros((0, 4, 4)), "no frames"),
    ([], "holds no frames"),
    ([np.zeros((4, 4)), np.zeros((4, 5))], "frame 1 lies on another grid"),
    ([Image(np.zeros((4, 4)), Grid.from_spacing((4, 4)), np.ones((4, 4)))] * 2, "frame 0 has a mask of its own"),
    (Image(np.zeros((4, 4, 4)), Grid.from_spacing((4, 4, 4))), "is one image"),
    (nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), "no time axis: its shape is .4, 4, 4."),
    (nib.Nifti1Image(np.zeros((4, 4, 4, 1), np.float32), np.eye(4)), "no time axis"),
    (nib.Nifti1Image(np.zeros((4, 4, 4, 1, 3), np.float32), np.eye(4)), "fifth axis holds vectors"),
    (7, "cannot use a int as a series"),
])
def test_what_is_no_series_is_refused(source, words):
    with pytest.raises(InputError, match=f"^series: .*{words}"):
        load_series(source)


# -- what is found ---------------------------------------------------------------------------------------------------

def test_the_motion_of_frames_is_found(corrected):
    result, matrices = corrected
    still = replace(result, group=replace(result.group, transforms=tuple(
        FittedTransform.from_matrix(np.eye(3), result.series.grid, result.series.grid, frm="common", to=name)
        for name in result.group.names)))
    assert left(still, matrices) > 2.5
    assert left(result, matrices) < 0.05
    figures = result.summary()
    before, after = figures["median temporal signal to noise"]
    assert after > 10 * before
    assert result.tsnr().array[result.seen].mean() > 5 * result.tsnr(result.series).array[result.seen].mean()
    assert result.corrected.times.tolist() == result.series.times.tolist()
    assert all(stage.order == 3 for stage in result.plan.stages)


@pytest.mark.parametrize("method", ["xcoreg", "total_correlation", {"name": "pca", "components": 2}])
def test_motion_is_found_while_the_contrast_changes(method):
    """Two factors: signals that recover and cross zero, as those of an inversion, at two rates."""
    def recovery(values, k):
        return (1 - 2 * np.exp(-0.6 * k)) * values + (1 - 2 * np.exp(-0.25 * k)) * values**2

    series, matrices = moving_series(oblique((40, 46), (1.6, 1.3)), count=8, gain=recovery)
    result = classreg.register_series(series, method=method)
    assert left(result, matrices) < 0.05


def test_a_slice_moves_in_its_plane_wherever_that_lies():
    grid = oblique((1, 40, 46), (6.0, 1.6, 1.3))
    plane = plane_of(grid)
    flat_grid = flat(Image(np.zeros(grid.shape), grid)).grid
    assert flat_grid.spacing == pytest.approx([1.6, 1.3])
    index = np.array([[3.0, 5.0], [20.0, 11.0]])
    world = grid.to_world(np.column_stack([np.zeros(2), index]))
    ours = flat_grid.to_world(index)
    assert (plane @ np.column_stack([ours, np.zeros(2), np.ones(2)]).T)[:3].T == pytest.approx(world)
    d, frames, truth = 2, [], []
    centre = flat_grid.centre
    for turn, shift in ((4.0, (2.0, -1.0)), (-3.0, (-3.0, 0.5)), (0.0, (0.5, 2.5)), (1.0, (1.0, 1.0))):
        matrix = np.eye(3)
        matrix[:d, :d] = exp_rotation(np.radians([turn]), 2)
        matrix[:d, d] = centre - matrix[:d, :d] @ centre + shift
        back = np.linalg.inv(matrix)
        points = flat_grid.points() @ back[:d, :d].T + back[:d, d]
        frames.append(anatomy(points - centre + CENTRE[:2])[None])
        truth.append(matrix)
    series = Series(np.stack(frames).astype(np.float32), grid)
    result = classreg.register_series(series, method="variance", reference="first")
    assert result.group.grid.ndim == 2 and result.corrected.grid is grid
    assert result.transforms[0].matrix == pytest.approx(np.eye(4), abs=1e-9)
    want = truth[2] @ np.linalg.inv(truth[0])
    lifted = np.eye(4)
    lifted[:2, :2], lifted[:2, 3] = want[:2, :2], want[:2, 2]
    points = np.column_stack([index, np.zeros(2), np.ones(2)])
    there = (plane @ lifted @ np.linalg.inv(plane) @ (plane @ points.T))[:3].T
    assert result.transforms[2].map_points((plane @ points.T)[:3].T, "common", "frame_002") == pytest.approx(
        there, abs=0.08)
    assert set(result.motion) >= {"x_mm", "y_mm", "turn_deg"}
    assert result.corrected.array.std(0).mean() < 0.25 * series.array.std(0).mean()


def test_a_deformation_of_a_plane_is_raised_with_it():
    grid = oblique((1, 20, 24), (6.0, 1.6, 1.3))
    small = flat(Image(np.zeros(grid.shape), grid)).grid
    field = 0.1 * np.random.default_rng(0).standard_normal((2, *small.shape)).astype(np.float32)
    matrix = np.array([[1.0, 0.02, 0.5], [-0.02, 1.0, -0.3], [0, 0, 1]])
    from classreg.mapping import Mapping

    two = FittedTransform.from_mapping(Mapping(matrix, field, small), small, small, frm="common", to="frame_000")
    three, plane = raised(two, grid), plane_of(grid)
    index = np.array([[4.0, 7.0], [12.0, 3.0]])
    there = two.map_points(small.to_world(index), "common", "frame_000")
    world = three.map_points(grid.to_world(np.column_stack([np.zeros(2), index])), "common", "frame_000")
    assert world == pytest.approx((plane @ np.column_stack([there, np.zeros(2), np.ones(2)]).T)[:3].T, abs=1e-4)


def test_volumes_move_in_space():
    series, matrices = moving_series(oblique((14, 20, 22), (3.2, 2.6, 2.4)), count=3, size=0.7)
    result = classreg.register_series(series, reference=1, levels=[1])
    assert result.plan.gauge == "frame_001" and left(result, matrices) < 0.2
    assert result.motion["largest_mm"][1] == pytest.approx(0, abs=1e-9)


def test_the_table_of_motion_says_what_moved():
    """Turns about world axes, shifts of the middle, and Power's displacement."""
    grid = oblique((9, 10, 11), (3.0, 2.0, 2.0))
    turns, shifts = np.radians([[0, 0, 0], [2, 0, 0], [2, 0, -1.5]]), np.array([[0, 0, 0], [1, -2, 0.5], [1, 1, 0.5]])
    matrices = []
    for turn, shift in zip(turns, shifts):
        m = np.eye(4)
        m[:3, :3] = exp_rotation(turn, 3)
        m[:3, 3] = grid.centre - m[:3, :3] @ grid.centre + shift
        matrices.append(FittedTransform.from_matrix(m, grid, grid, frm="common", to="frame"))
    table = motion_of(matrices, np.array([0.0, 2.0, 4.0]))
    assert np.stack([table[f"{a}_mm"] for a in "xyz"], 1) == pytest.approx(shifts, abs=1e-9)
    assert np.stack([table[f"{a}_deg"] for a in "xyz"], 1) == pytest.approx(np.degrees(turns), abs=1e-9)
    assert table["fd_mm"] == pytest.approx([0, 3.5 + 50 * np.radians(2), 3 + 50 * np.radians(1.5)])
    assert table["time_s"].tolist() == [0, 2, 4] and table["step_mm"][0] == 0
    assert table["largest_mm"][1] > np.linalg.norm(shifts[1])


# -- in time ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(5, 6), (5, 2, 1, 4, 3)])
def test_the_coupling_in_time_is_its_definition_and_has_its_gradient(shape):
    rng = np.random.default_rng(0)
    parts, step = rng.standard_normal(shape), rng.standard_normal(shape)
    with Workspace(2):
        energy = Temporal(0.7)
        value, gradient = energy(parts)
        gradient = gradient.copy()
        per = np.diff(parts, axis=0) ** 2
        want = per.sum(1).mean() if len(shape) == 2 else per.sum(1).mean()
        assert value == pytest.approx(0.7 * want, rel=1e-12)
        for h in (1e-3, 1e-5):
            slope = (energy(parts + h * step)[0] - energy(parts - h * step)[0]) / (2 * h)
            assert slope == pytest.approx((gradient * step).sum(), rel=1e-7)


def test_reconstructions_refine_what_is_near():
    """After a rigid stage by another method; the deformation of the last stage is held by a plan."""
    series, matrices = moving_series(oblique((40, 46), (1.6, 1.3)), count=6, size=0.15)
    result = classreg.register_series(series, method={"name": "low_rank", "components": 1}, levels=[1])
    assert left(result, matrices) < 0.05


@pytest.mark.parametrize("model", ["translation", "bspline"])
def test_coupled_frames_move_alike(model):
    series, _ = moving_series(oblique((30, 32), (2.0, 2.0)), count=5, size=0.6)
    more = dict(model=model, iterations=5, levels=[1])
    plan = classreg.plan_series(series, temporal=3.0, **more)
    assert plan.stages[-1].regularisers[-1] == {"name": "temporal", "weight": pytest.approx(3 / 4)}
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    free, tied = (classreg.register_series(series, temporal=weight, **more) for weight in (0.0, 3.0))
    assert tied.motion["step_mm"].max() < 0.6 * free.motion["step_mm"].max()
    assert tied.plan == plan and "temporal" in tied.history[-1].terms
    again = classreg.register_series(series, plan=plan, threads=1)
    assert [t.displacement().tobytes() for t in again.transforms] == [t.displacement().tobytes()
                                                                      for t in tied.transforms]


def test_the_order_of_images_counts_only_where_they_are_coupled():
    series, _ = moving_series(oblique((24, 26), (2.0, 2.0)), count=4, size=0.6)
    order = [2, 0, 3, 1]
    more = dict(model="translation", method="variance", init="identity", iterations=5)
    for temporal in (0.0, 3.0):
        one = classreg.register_group(series.frames, temporal=temporal, **more)
        other = classreg.register_group([series.frames[k] for k in order], temporal=temporal, **more)
        same = [np.array_equal(one.transforms[k].matrix, t.matrix) for k, t in zip(order, other.transforms)]
        assert all(same) if temporal == 0 else not any(same)


def test_reconstructions_hold_what_few_components_say_and_their_number_grows():
    rng = np.random.default_rng(0)
    parts = rng.standard_normal((2, 1, 3, 12, 10))
    curves = rng.standard_normal((6, 2))
    stack = np.einsum("ij,j...->i...", curves, parts) + 0.3
    weights, grid = np.ones((6, 3, 12, 10)), Grid.from_spacing((3, 12, 10))
    metric, values = LowRank(components=2, rounds=2), []
    metric.prepare(list(stack), grid)
    for _ in range(4):
        metric.refresh(stack, weights)
        values.append(metric(stack, weights)[0])
    assert values[0] > 0.01 and values[3] < 1e-9
    noisy = stack + 0.2 * rng.standard_normal(stack.shape)
    noisy = (noisy - noisy.mean((1, 2, 3, 4), keepdims=True)) / noisy.std((1, 2, 3, 4), keepdims=True)
    whole, pca = LowRank(components=1), PCA(components=1)
    for part in (whole, pca):
        part.prepare(list(noisy), grid)
        part.refresh(noisy, weights)
    assert whole(noisy, weights)[0] == pytest.approx(pca(noisy, weights)[0] * 5 / 12, rel=1e-9)


# -- what is refused -------------------------------------------------------------------------------------------------

def three(change=None):
    array = np.random.default_rng(0).standard_normal((3, 10, 12))
    if change is not None:
        array[1] = change
    return array


@pytest.mark.parametrize(("source", "more", "kind", "words"), [
    (three()[:1], {}, InputError, "at least two frames, this one has 1"),
    (three(2.0), {}, InputError, "frame_001 image is constant"),
    (three(np.nan), {}, InputError, "frame_001 image has 120 values that are not finite"),
    (three(), {"reference": 3}, OptionError, "number of a frame from 0 to 2"),
    (three(), {"reference": "frist"}, OptionError, "first"),
    (three(), {"temporal": -1}, OptionError, "temporal is the weight"),
    (three(), {"temporal": True}, OptionError, "temporal is the weight"),
    (three(), {"interval": 0}, OptionError, "interval must be a number of seconds above 0"),
    (three(), {"interval": "2"}, OptionError, "interval must be a number of seconds above 0"),
    (three(), {"interval": True}, OptionError, "interval must be a number of seconds above 0"),
    (three(), {"mask": np.ones((4, 4))}, InputError, "mask has shape .4, 4."),
    (three(), {"mask": np.zeros((10, 12))}, InputError, "mask is empty"),
    (three(), {"model": "symmetric"}, OptionError, "model of a group"),
    (three(), {"method": "pca3"}, OptionError, "pca2"),
    (three(), {"method": {"name": "low_rank", "metric": "mi"}}, OptionError, "metric of low_rank"),
    (three(), {"method": {"name": "low_rank", "components": 0}}, OptionError, "components"),
    ("no-such-file.nii.gz", {}, FileError, "no-such-file"),
])
def test_what_cannot_be_corrected_is_refused_before_it_begins(source, more, kind, words):
    def never(record):
        raise AssertionError("an iteration was run")

    with pytest.raises(ClassregError, match=words) as found:
        classreg.register_series(source, callback=never, **more)
    assert isinstance(found.value, kind)


def test_a_volume_is_told_from_a_series_on_disk(tmp_path):
    classreg.io.save_image(Image(np.ones((4, 5, 6)), Grid.from_spacing((4, 5, 6))), tmp_path / "a.nii.gz")
    classreg.io.save_image(Image(np.ones((4, 5, 6)), Grid.from_spacing((4, 5, 6))), tmp_path / "a.mha")
    for name in ("a.nii.gz", "a.mha"):
        with pytest.raises(InputError, match="has no time axis: its shape is .6, 5, 4."):
            classreg.register_series(tmp_path / name)


# -- what comes out --------------------------------------------------------------------------------------------------

def test_labels_of_frames_follow(corrected):
    result, _ = corrected
    labels = (result.series.array > 0.6).astype(np.uint8)
    moved = result.apply(labels)
    assert moved.array.dtype == np.uint8
    agree = [(moved.array[k] == moved.array[0])[result.seen].mean() for k in range(1, 6)]
    assert min(agree) > 0.97 > max((labels[k] == labels[0])[result.seen].mean() for k in range(1, 6))
    with pytest.raises(InputError, match="5 frames were given for a series of 6"):
        result.apply(labels[:5])


def test_a_result_is_saved_as_a_series_a_table_and_pictures(corrected, tmp_path):
    result, _ = corrected
    folder = tmp_path / "out"
    result.save(folder)
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert names == sorted(["corrected.nii.gz", "mean.nii.gz", "motion.csv", "motion.png", "profile.png", "report.html",
                            "result.json", "tsnr.nii.gz", *(f"transforms/frame_{k:03d}.tfm" for k in range(6))])
    saved = load_series(folder / "corrected.nii.gz")
    assert np.array_equal(saved.array[:, 0], result.corrected.array)
    assert (saved.interval, saved.begin) == (0.5, 2.0)
    with open(folder / "motion.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(result.motion) and [row["frame"] for row in rows] == list("012345")
    assert [float(row["x_mm"]) for row in rows] == pytest.approx(result.motion["x_mm"], rel=1e-4)
    said = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert Plan.from_dict(said["plan"]) == result.plan and said["interval_s"] == 0.5
    assert said["motion"]["fd_mm"] == pytest.approx(result.motion["fd_mm"])
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(words in page for words in ("Motion", "Profile", "Deviation over time, after", "turn deg"))
    read = classreg.io.read_transform(folder / "transforms" / "frame_002.tfm", result.series.grid)
    assert read.matrix == pytest.approx(result.transforms[2].matrix, abs=1e-6)


def test_a_folder_of_a_series_is_written_whole_or_not_at_all(corrected, tmp_path, monkeypatch):
    from classreg.series import save

    def full(*args, **more):
        raise OSError("disk full")

    monkeypatch.setattr(save, "write_series_report", full)
    with pytest.raises(FileError, match="disk full"):
        corrected[0].save(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_motion_and_profile_are_drawn(corrected):
    result, _ = corrected
    axes = plot.motion(result).axes
    assert [ax.get_ylabel() for ax in axes] == ["translation (mm)", "rotation (degrees)", "step (mm)"]
    assert axes[0].lines[1].get_ydata() == pytest.approx(result.motion["y_mm"])
    assert axes[2].get_xlabel() == "time (s)"
    before, after = plot.profile(result, axis=1, at=(20, 0)).axes
    assert np.array_equal(before.images[0].get_array(), result.series.array[:, 20].T)
    assert np.array_equal(after.images[0].get_array(), result.corrected.array[:, 20].T)
    assert before.images[0].get_extent() == pytest.approx([1.75, 4.75, 46 * 1.3, 0])
    assert len(plot.profile((result.series, result.corrected)).axes) == 2
    with pytest.raises(InputError, match="SeriesResult"):
        plot.motion(3)
    with pytest.raises(OptionError, match="axis"):
        plot.profile(result, axis=2)
    with pytest.raises(OptionError, match="array index"):
        plot.profile(result, at=(50, 0))


def test_the_command_line_corrects_a_series(tmp_path):
    from typer.testing import CliRunner

    from classreg import cli

    series, _ = moving_series(oblique((1, 24, 26), (5.0, 2.0, 2.0)), count=3, size=0.5)
    save_series(series, tmp_path / "a.nii.gz")
    out = tmp_path / "out"
    more = ["--model", "translation", "--method", "variance", "--levels", "2", "--reference", "-1"]
    done = CliRunner().invoke(cli.app, ["motion", str(tmp_path / "a.nii.gz"), *more, "-o", str(out)])
    assert done.exit_code == 0 and "translation of 3 frames" in done.stdout, done.output
    assert json.loads((out / "result.json").read_text(encoding="utf-8"))["plan"]["gauge"] == "frame_002"
    found = nib.load(out / "corrected.nii.gz")
    assert found.shape == (26, 24, 1, 3) and found.header.get_xyzt_units() == ("mm", "sec")
    assert found.header.get_zooms()[3] == 0.5
    assert np.abs(found.affine - nib.load(tmp_path / "a.nii.gz").affine).max() < 1e-5
    classreg.io.save_image(series.frames[0], tmp_path / "one.nii.gz")
    done = CliRunner().invoke(cli.app, ["motion", str(tmp_path / "one.nii.gz"), "-o", str(out)])
    assert done.exit_code == 1 and "no time axis" in done.output


# -- real ------------------------------------------------------------------------------------------------------------

@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="CLASSREG_DATA, the folder of real images, is not set")
def test_shifts_that_are_added_to_a_real_series_are_found():
    """Perfusion of a brain, four frames: whole voxels and fractions, against what is found without them."""
    series = load_series(Path(DATA) / "series" / "series-niivue" / "pcasl.nii.gz")[:4]
    shifts, frames = np.random.default_rng(0).uniform(-4, 4, (4, 3)), []
    for shift, frame in zip(shifts, series.frames):
        matrix = np.eye(4)
        matrix[:3, 3] = -shift
        frames.append(classreg.apply(matrix, frame, frame, interpolation="cubic").array)
    own, found = (classreg.register_series(s, model="translation", levels=[2])
                  for s in (series, series.with_array(np.stack(frames))))
    motion = [np.stack([r.motion[f"{axis}_mm"] for axis in "xyz"], 1) for r in (own, found)]
    rest = (motion[1] - motion[0]) - (shifts - shifts.mean(0))
    assert np.sqrt((rest**2).sum(1).mean()) < 0.3  # of voxels of 3 x 3 x 6 mm
    before, after = found.summary()["median temporal signal to noise"]
    assert after > 3 * before
