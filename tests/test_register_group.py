"""Registration of groups: what comes in, what is found, and what comes back."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from group_scenes import CENTRE, disagreement, rigid, rigid_group
from scipy.linalg import logm

import classreg
from classreg import Grid, Image, Level, Plan
from classreg.errors import ClassregError, FileError, GeometryError, InputError, OptionError
from classreg.group import models
from classreg.group.space import common_grid
from classreg.objective import GroupObjective
from classreg.regularisers import Diffusion
from classreg.transforms.stack import centred_matrices

DATA = Path(os.environ.get("CLASSREG_DATA", "")) / "groups" / "brain-t1-t2-pd"

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


def mean_log(matrices):
    return np.abs(sum(logm(m) for m in matrices) / len(matrices)).max()


def bits(result):
    return [t.displacement().tobytes() for t in result.transforms]


# -- what is found ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("ndim", "method", "contrasts"), [
    (2, "variance", (0,)), (2, "ape", (0, 1, 2)), (2, "xcoreg", (0, 1, 2)), (3, "xcoreg", (0, 1, 2))])
def test_rigid_motions_are_found_across_grids_and_contrasts(ndim, method, contrasts):
    images, matrices = rigid_group(ndim, contrasts=contrasts)
    result = classreg.register_group(images, model="rigid", method=method, init="identity")
    voxel = result.grid.resolution
    assert disagreement(result, matrices) < 0.12 * voxel
    assert mean_log([t.matrix for t in result.transforms]) < 1e-9, "the common space stays where it is"
    for transform, image in zip(result.transforms, images):
        linear = transform.matrix[:ndim, :ndim]
        assert linear @ linear.T == pytest.approx(np.eye(ndim), abs=1e-9)
        assert transform.grid is result.grid and transform.to_grid is image.grid
    for i in range(3):
        for j in range(3):
            pair = result.pairwise(i, j)
            assert (pair.frm, pair.to) == (f"image_{i + 1}", f"image_{j + 1}")
            both = result.pairwise(j, i).matrix @ pair.matrix
            assert both == pytest.approx(np.eye(ndim + 1), abs=1e-9)
            assert result.pairwise(1, j).matrix @ result.pairwise(i, 1).matrix == pytest.approx(pair.matrix, abs=1e-9)


@pytest.mark.parametrize("method", ["xcoreg", "cte"])
def test_gauss_newton_aligns_contrasts(method):
    images, matrices = rigid_group(2, contrasts=(0, 1, 2) if method == "xcoreg" else (0, 1, 1))
    result = classreg.register_group(images, model="rigid", method=method, init="identity", optimiser="gauss_newton")
    assert disagreement(result, matrices) < 0.1 * result.grid.resolution


def test_an_affine_group_keeps_its_volume():
    images, _ = rigid_group(2)
    result = classreg.register_group(images, model="affine", method="variance", init="identity", iterations=5)
    assert abs(sum(np.log(np.linalg.det(t.matrix[:2, :2])) for t in result.transforms)) < 1e-9
    assert [r.stage for r in result.history][0] == "rigid" and result.transforms[0].model == "affine"


@pytest.mark.parametrize("model", ["bspline", "dense", "greedy", "svf"])
def test_a_deformable_group_keeps_its_gauge_and_its_images_agree(model):
    images, matrices = rigid_group(2, same=True, size=0.5)
    plan = classreg.plan_group(images, model=model, method="variance", init="identity", iterations=20)
    result = classreg.register_group(images, plan=replace(plan, stages=plan.stages[-1:]))
    mean = sum(t.theta for t in result.transforms) / 3
    assert np.abs(mean).max() < 1e-5 * max(np.abs(t.theta).max() for t in result.transforms)
    assert mean_log([t.matrix for t in result.transforms]) < 1e-9
    start = replace(result, transforms=tuple(classreg.FittedTransform.from_matrix(
        np.eye(3), result.grid, frm="common", to=name) for name in result.names))
    assert disagreement(result, matrices) < 0.4 * disagreement(start, matrices)
    assert result.summary()["folded voxels (%)"][1] == 0
    points = CENTRE[:2] + np.random.default_rng(0).uniform(-15, 15, (50, 2))
    there = result.pairwise("image_1", "image_2").map_points(points, "image_1", "image_2")
    back = result.pairwise("image_2", "image_1").map_points(there, "image_2", "image_1")
    assert np.abs(back - points).max() < 0.1 * result.grid.resolution


def test_weights_are_those_of_the_motion_between_two_images():
    """An energy of all images is the mean over pairs of that of their difference."""
    images, _ = rigid_group(2)
    plan = classreg.plan_group(images, model="dense", method="variance", init="identity")
    grid, eye = images[0].grid, [np.eye(3)] * 3
    stack, metric, energies, _ = models.build_stage(plan.stages[-1], grid, eye)
    theta = stack.refine(stack.identity(), grid)
    theta = stack.retract(theta, np.random.default_rng(0).standard_normal(theta.shape).astype(np.float32))
    e = GroupObjective([image.with_array(image.array.astype(np.float32)) for image in images], grid, stack, metric,
                       energies)(theta)
    one, parts = Diffusion(plan.stages[-1].regularisers[0]["weight"]), stack.parts(theta)
    pairs = [one(parts[i] - parts[j], stack.models[0].grams(parts[0], grid))[0] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert e.terms["diffusion"] == pytest.approx(np.mean(pairs), rel=1e-4)


def test_one_image_may_hold_the_common_space():
    images, matrices = rigid_group(2)
    result = classreg.register_group(images, model="rigid", method="variance", gauge="b", names=["a", "b", "c"],
                                     init="identity")
    assert result.transforms[1].matrix == pytest.approx(np.eye(3), abs=1e-12)
    assert result.grid.same_as(images[1].grid) and result.plan.gauge == "b"
    assert disagreement(result, matrices) < 0.12 * result.grid.resolution
    still = classreg.register_group(images, model="bspline", method="variance", gauge=1, iterations=1)
    assert not still.transforms[1].displacement().any() and still.transforms[0].displacement().any()


def test_the_order_of_the_images_makes_no_difference():
    images, _ = rigid_group(2, contrasts=(0, 1, 2))
    more = dict(model="bspline", method="ape", iterations=2)
    one = classreg.register_group(images, **more)
    other = classreg.register_group([images[k] for k in (2, 0, 1)], **more)
    assert bits(one) == [bits(other)[k] for k in (1, 2, 0)]
    assert other.images[0] is images[2] and one.grid.same_as(other.grid, 1e-9)


@pytest.mark.parametrize("model", ["rigid", "bspline", "greedy", "svf"])
def test_the_same_bits_for_any_number_of_threads(model):
    images, _ = rigid_group(3)
    fine = Grid.from_spacing((40, 40, 40), 1.5)
    fine = Grid(fine.shape, np.vstack([np.column_stack([fine.affine[:3, :3], CENTRE - 29]), fine.affine[3:]]))
    plan = classreg.plan_group(images, model=model, method="ape", init="identity", reference=fine, iterations=1)
    plan = replace(plan, stages=(replace(plan.stages[-1], levels=(Level(1, 2),)),))
    found = [bits(classreg.register_group(images, plan=plan, reference=fine, threads=n)) for n in (1, 2)]
    assert found[0] == found[1]


def test_what_an_image_does_not_show_does_not_count():
    """Half an image, whether its grid ends there or a mask says so, is aligned by the half that is there."""
    images, matrices = rigid_group(2, same=True, size=0.5)
    whole = images[0]
    short = Image(whole.array[:, :30].copy(), Grid((whole.grid.shape[0], 30), whole.grid.affine))
    hidden = np.ones(whole.grid.shape, np.float32)
    hidden[:, 30:] = 0
    wild = whole.array.copy()
    wild[:, 30:] = 7.0
    for first, mask in ((short, None), (whole.with_array(wild), hidden)):
        result = classreg.register_group([first, *images[1:]], model="rigid", method="variance", init="identity",
                                         masks=[mask, None, None])
        assert disagreement(result, matrices) < 0.15 * result.grid.resolution
        assert result.grid.shape[1] > 45, "the common space is not cut down to what all images show"


# -- where it begins -------------------------------------------------------------------------------------------------

def moved_in_header(image, matrix):
    return Image(image.array, Grid(image.grid.shape, matrix @ image.grid.affine))


@DIMENSIONS
def test_images_that_lie_apart_are_first_brought_to_the_best_connected_one(ndim):
    images, matrices = rigid_group(ndim, contrasts=(0, 1, 2), size=0.3)
    far = rigid((50.0,) if ndim == 2 else (0.0, 0.0, 35.0), 400 * np.eye(ndim)[0], ndim)
    images[2], matrices[2] = moved_in_header(images[2], far), far @ matrices[2]
    result = classreg.register_group(images, model="rigid", method="ape")
    assert "pairwise" in result.plan.notes[0] and "the headers place" in result.plan.notes[0]
    assert disagreement(result, matrices) < 0.2 * result.grid.resolution
    assert mean_log([t.matrix for t in result.transforms]) < 1e-9
    with pytest.raises(GeometryError, match="image_3 overlaps with none"):
        classreg.register_group(images, model="rigid", method="ape", init="identity")


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="CLASSREG_DATA does not hold groups/brain-t1-t2-pd")
def test_three_contrasts_of_a_brain_turned_far_apart():
    """The middle slices of T1, T2 and PD templates, turned and shifted against each other in their headers."""
    mats = [rigid((angle,), np.array(shift), 2) for angle, shift in ((40, (30, -25)), (-35, (-20, 38)), (5, (12, 20)))]
    images = []
    for name, matrix in zip(("t1", "t2", "pd"), mats):
        volume = classreg.io.load(DATA / f"{name}.nii.gz")
        k, affine = volume.grid.shape[0] // 2, np.eye(3)
        affine[:2, :2], affine[:2, 2] = volume.grid.affine[:2, 1:3], volume.grid.to_world([k, 0, 0])[:2]
        images.append(Image(volume.array[k].astype(np.float32), Grid(volume.grid.shape[1:], matrix @ affine)))
    result = classreg.register_group(images, model="rigid")
    assert "pairwise" in result.plan.notes[0] and disagreement(result, mats) < 0.5
    assert mean_log([t.matrix for t in result.transforms]) < 1e-9


def test_a_start_may_be_given():
    images, matrices = rigid_group(2)
    result = classreg.register_group(images, model="rigid", method="variance", init=matrices, iterations=0)
    assert result.plan.init == "matrices" and disagreement(result, matrices) < 1e-9
    assert mean_log(result.initial) < 1e-9
    again = classreg.register_group(images, plan=result.plan, init=result.transforms)
    for one, other in zip(result.transforms, again.transforms):
        assert one.matrix == pytest.approx(other.matrix, abs=1e-9)
    with pytest.raises(OptionError, match="began from given matrices"):
        classreg.register_group(images, plan=result.plan)


def test_matrices_are_centred_by_one_map_for_all():
    rng = np.random.default_rng(3)
    for ndim in (2, 3):
        wide = [rigid(rng.uniform(-75, 75, 1 if ndim == 2 else 3), rng.uniform(-90, 90, ndim), ndim) for _ in range(5)]
        wide[0] = wide[0] @ np.diag([1.3, *[0.9] * (ndim - 1), 1.0])
        for still in (None, 3):
            out = centred_matrices(wide, still)
            between = [np.linalg.inv(a) @ b for a, b in zip(wide, out)]
            assert all(b == pytest.approx(between[0], abs=1e-9) for b in between)
            assert mean_log(out) < 1e-9 if still is None else np.array_equal(out[3], np.eye(ndim + 1))


def test_matrices_in_any_direction_are_centred_and_keep_to_each_other():
    """Turns of all sizes about all axes, where the nearest way to a mean is not always one."""
    rng = np.random.default_rng(0)
    for _ in range(15):
        wide = [rigid(180 * rng.standard_normal(3), rng.uniform(-40, 40, 3), 3) for _ in range(5)]
        out = centred_matrices(wide)
        assert mean_log(out) < 1e-4
        for a, b in zip(wide, out):
            assert b @ np.linalg.inv(out[0]) == pytest.approx(a @ np.linalg.inv(wide[0]), abs=1e-8)
    turned = np.diag([-1.0, -1.0, 1.0])
    with pytest.raises(InputError, match="turns by 180 degrees"):
        centred_matrices([np.eye(3), turned])


# -- the common space ------------------------------------------------------------------------------------------------

def test_the_common_grid_prefers_no_image():
    images, _ = rigid_group(3)
    grids, eye = [image.grid for image in images], [np.eye(4)] * 3
    one, other = common_grid(grids, eye), common_grid(grids[::-1], eye)
    assert one.same_as(other, 1e-9)
    assert one.voxel_volume == pytest.approx(np.prod([g.voxel_volume for g in grids]) ** (1 / 3))
    assert common_grid([grids[0]] * 3, eye) is grids[0]
    shift = np.eye(4)
    shift[:3, 3] = 10, -20, 30
    moved = common_grid([Grid(g.shape, shift @ g.affine) for g in grids], [shift] * 3)
    assert moved.same_as(one, 1e-9)


def test_the_common_grid_reaches_as_far_as_two_images():
    def line(start, end):
        return Grid.from_spacing((20, end - start), origin=(start, 0.0))

    found = common_grid([line(0, 50), line(20, 80), line(40, 200)], [np.eye(3)] * 3)
    ends = found.corners()[:, 0]
    assert (ends.min(), ends.max()) == pytest.approx((20, 79))
    slices = [Grid.from_spacing((1, 30, 30), (9, 2, 2)), Grid.from_spacing((12, 30, 30), (4, 2, 2))]
    assert common_grid(slices, [np.eye(4)] * 2).spacing[0] == pytest.approx(4)


# -- plans, history, results -----------------------------------------------------------------------------------------

def test_plans_round_trip_and_give_the_same_bits():
    images, _ = rigid_group(2)
    plan = classreg.plan_group(images, model="svf", method={"name": "ape", "metric": "ncc"}, iterations=[2, 1, 1][:2],
                               levels=[2, 1], seed=3)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert [s.name for s in plan.stages] == ["rigid", "affine", "svf"] and plan.seed == 3
    assert "gauge = mean" in str(plan) and plan.notes
    result = classreg.register_group(images, plan=plan)
    straight = classreg.register_group(images, model="svf", method={"name": "ape", "metric": "ncc"}, iterations=[2, 1],
                                       levels=[2, 1], seed=3)
    assert bits(result) == bits(straight) and result.plan == plan


def test_it_stops_when_told():
    images, _ = rigid_group(2)
    result = classreg.register_group(images, model="bspline", method="variance", callback=lambda r: r.iteration == 1)
    assert "stopped by the callback" in result.status and len(result.history) == 2
    assert len(result) == 3 and result.transforms[0].model == "bspline"
    assert "time limit" in classreg.register_group(images, model="rigid", method="variance", time_limit=1e-6).status


def test_classes_of_the_common_space_come_back_and_are_saved(tmp_path):
    """From the last level as they are; from a coarser one at full resolution."""
    images, _ = rigid_group(2, contrasts=(0, 1, 2))
    more = dict(model="rigid", method={"name": "xcoreg", "classes": 3}, init="identity", iterations=3)
    found = [classreg.register_group(images, levels=levels, **more) for levels in ([1], [2])]
    for result in found:
        assert result.classes.shape == (3, *result.grid.shape)
        assert np.allclose(result.classes.sum(0), 1, atol=1e-3) and set(np.unique(result.labels.array)) == {1, 2, 3}
    found[0].save(tmp_path)
    saved = classreg.io.load(tmp_path / "classes.nii.gz")
    assert np.array_equal(saved.array, found[0].labels.array) and saved.grid.same_as(found[0].grid)
    assert "Classes" in (tmp_path / "report.html").read_text(encoding="utf-8")
    two = [image.with_array((image.array > 0.3).astype(np.uint8)) for image in images]
    with pytest.raises(InputError, match="2 different intensities, of which 3 classes cannot be made"):
        classreg.register_group(two, **more)


def test_labels_and_templates_lie_in_the_common_space():
    images, _ = rigid_group(2)
    result = classreg.register_group(images, model="rigid", method="variance", init="identity")
    labels = [(image.array > 0.4).astype(np.uint8) for image in images]
    warped = result.apply(labels, interpolation="label")
    a, b = (w.array.astype(bool) for w in warped[:2])
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.93
    assert result.template.grid is result.grid and result.template.array.dtype == np.float32
    assert len(result.warped) == 3 and result.classes is result.labels is None
    sharper, blurred = (np.std([w.array for w in stack], 0).mean() for stack in (result.warped, result.before))
    assert sharper < 0.5 * blurred
    with pytest.raises(InputError, match="2 images were given for a group of 3"):
        result.apply(labels[:2])


# -- what is refused -------------------------------------------------------------------------------------------------

def ramp(*shape, **more):
    return Image(np.arange(float(np.prod(shape))).reshape(shape), Grid.from_spacing(shape, **more))


@pytest.mark.parametrize(("images", "more", "kind", "words"), [
    ([], {}, InputError, "at least two images, this one has 0"),
    ([ramp(9, 9)], {}, InputError, "at least two images, this one has 1"),
    ("a.nii", {}, InputError, "a list of images"),
    ([ramp(9, 9), ramp(9, 9, 9)], {}, InputError, "image_1 is 2-D and image_2 3-D"),
    ([ramp(9, 9), Image(np.zeros((2, 9, 9)) + np.arange(9), ramp(9, 9).grid)], {}, InputError, "channels"),
    ([ramp(9, 9), Image(np.ones((9, 9)), ramp(9, 9).grid)], {}, InputError, "image_2 image is constant"),
    ([ramp(9, 9), ramp(9, 9, origin=(500.0, 0.0))], {"init": "identity"}, GeometryError, "overlaps with none"),
    ([ramp(9, 9), ramp(9, 9)], {"masks": [None]}, InputError, "one entry per image"),
    ([ramp(9, 9), ramp(9, 9)], {"names": ["a"]}, OptionError, "1 names were given for 2"),
    ([ramp(9, 9), ramp(9, 9)], {"names": ["a", "a"]}, OptionError, "given twice"),
    ([ramp(9, 9), ramp(9, 9)], {"names": ["a", "../b"]}, OptionError, "name of files"),
    ([ramp(9, 9), ramp(9, 9)], {"names": ["a", "common"]}, OptionError, "stands for the common space"),
    ([ramp(9, 9), ramp(9, 9)], {"gauge": "c"}, OptionError, "gauge"),
    ([ramp(9, 9), ramp(9, 9)], {"gauge": 2}, OptionError, "gauge"),
    ([ramp(9, 9), ramp(9, 9)], {"model": "symmetric"}, OptionError, "model of a group"),
    ([ramp(9, 9), ramp(9, 9)], {"method": "varianc"}, OptionError, "variance"),
    ([ramp(9, 9), ramp(9, 9)], {"method": 3}, OptionError, "method must be a name"),
    ([ramp(9, 9), ramp(9, 9)], {"init": "pairwis"}, OptionError, "pairwise"),
    ([ramp(9, 9), ramp(9, 9)], {"init": [np.eye(3)]}, OptionError, "one world matrix"),
    ([ramp(9, 9), ramp(9, 9)], {"init": [np.eye(3), np.zeros((3, 3))]}, OptionError, "invertible"),
    ([ramp(9, 9), ramp(9, 9)], {"seed": -1}, OptionError, "seed"),
    ([ramp(9, 9), ramp(9, 9)], {"optimiser": "gauss_newton", "model": "bspline"}, OptionError, "lbfgs"),
    ([ramp(9, 9), ramp(9, 9)], {"optimiser": "newton_cg"}, OptionError, "lbfgs"),
    ([ramp(9, 9), ramp(9, 9)], {"optimiser": "gauss_newton", "model": "rigid", "method": "pca"}, OptionError,
     "a curvature"),
    ([ramp(9, 9), ramp(9, 9)], {"reference": Grid.from_spacing((9, 9, 9))}, InputError, "the reference is 3-D"),
    ([ramp(9, 9), ramp(9, 9)], {"plan": Plan("rigid", "auto", ())}, OptionError, "the plan of a pair"),
    ([ramp(9, 9), ramp(9, 9)], {"plan": Plan("rigid", "auto", (), gauge="mean", matching=True)}, OptionError,
     "matching"),
])
def test_what_cannot_be_registered_is_refused_before_it_begins(images, more, kind, words):
    def never(record):
        raise AssertionError("an iteration was run")

    with pytest.raises(ClassregError, match=words) as found:
        classreg.register_group(images, **{"model": "rigid", "method": "variance", "init": "identity",
                                           "callback": never, **more})
    assert isinstance(found.value, kind)


# -- the folder ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("model", ["rigid", "svf"])
def test_a_result_is_saved_and_read_back(model, tmp_path):
    images, _ = rigid_group(2)
    names = ["t1", "t2", "pd"]
    result = classreg.register_group(images, model=model, method="variance", names=names, iterations=1, levels=[2])
    result.save(tmp_path / "out")
    files = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file())
    suffix = ".tfm" if model == "rigid" else ".h5"
    assert files == sorted(["report.html", "result.json", "template.nii.gz",
                            *(f"transforms/{n}{s}" for n in names for s in {suffix, suffix.replace("h5", "npz")}),
                            *(f"warped/{n}.nii.gz" for n in names)])
    points = result.grid.points().reshape(-1, 2)[::37]
    for name, transform in zip(names, result.transforms):
        again = classreg.io.read_transform(tmp_path / "out" / "transforms" / f"{name}{suffix}", result.grid)
        here = transform.map_points(points, "common", name)
        assert again.map_points(points) == pytest.approx(here, abs=1e-3)
        if model == "svf":
            again = classreg.io.read_transform(tmp_path / "out" / "transforms" / f"{name}.npz", result.grid)
            assert np.array_equal(again.map_points(points), here)
    saved = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert Plan.from_dict(saved["plan"]) == result.plan and saved["names"] == names
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for words in ("Template", "Stack", "Convergence", "t1", "pd after registration"):
        assert words in page


def test_a_folder_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    from classreg.group import save

    images, _ = rigid_group(2)
    more = dict(method="variance", iterations=0, levels=[2], init="identity")
    first = classreg.register_group(images, model="rigid", **more)
    first.save(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    second = classreg.register_group(images, model="svf", **more)
    with monkeypatch.context() as patch:
        patch.setattr(save, "write_group_report", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(FileError, match="disk full"):
            second.save(tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    second.save(tmp_path)
    assert sorted(p.name for p in (tmp_path / "transforms").iterdir()) == [f"image_{k}.{end}" for k in (1, 2, 3)
                                                                               for end in ("h5", "npz")]


def test_the_command_line_registers_a_group(tmp_path):
    from typer.testing import CliRunner

    from classreg import cli, io

    images, _ = rigid_group(2)
    paths = [str(tmp_path / f"{name}.nii.gz") for name in "abc"]
    for path, image in zip(paths, images):
        io.save_image(image, path)
    out = tmp_path / "out"
    more = ["--method", "variance", "--model", "rigid", "--init", "identity", "--levels", "2", "--names", "a,b,c"]
    done = CliRunner().invoke(cli.app, ["group", *paths, *more, "--gauge", "b", "-o", str(out)])
    assert done.exit_code == 0 and "rigid of 3 images" in done.stdout
    assert json.loads((out / "result.json").read_text(encoding="utf-8"))["plan"]["gauge"] == "b"
    assert CliRunner().invoke(cli.app, ["group", paths[0], "-o", str(out)]).exit_code == 1


def test_pairs_within_a_method_take_the_metric_options_of_the_model():
    images, _ = rigid_group(2)
    for model, options in (("greedy", {"flat": 0.08}), ("svf", {"flat": 0.08}), ("bspline", {"radius": 2.0})):
        for method in ({"name": "ape", "metric": "lncc"}, {"name": "low_rank", "metric": {"name": "lncc"}}):
            plan = classreg.plan_group(images, model=model, method=method)
            assert plan.stages[-1].metric["metric"] == {"name": "lncc", **options}
            assert plan.stages[0].metric == method
    own = {"name": "ape", "metric": {"name": "lncc", "flat": 0.5}}
    assert classreg.plan_group(images, model="greedy", method=own).stages[-1].metric == own
