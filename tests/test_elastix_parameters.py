"""Parameter files of elastix: what becomes of each key, what is refused, what is said; and the parts that they need."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import classreg
from classreg import cli, door
from classreg.baselines import BASELINES
from classreg.baselines.elastix import parameters_of, read_parameters
from classreg.baselines.elastix_keys import KEYS, KINDS
from classreg.baselines.elastix_rows import MAPS
from classreg.draws import SAMPLINGS
from classreg.engine import Control, run
from classreg.errors import FileError, InputError, OptionError
from classreg.grid import Grid
from classreg.image import Image
from classreg.io.elastix_text import parse
from classreg.metrics import SSD
from classreg.optimisers import ASGD
from classreg.planning import Plan
from classreg.pyramid import shrink
from classreg.regularisers import Bending
from classreg.sampling import Points
from classreg.schedule import Level
from classreg.transforms import BSpline, Linear

PAGE = Path(__file__).parents[1] / "docs" / "elastix.md"

#: a Python of another environment that has itk-elastix, to compare with the maps themselves
ELASTIX = os.environ.get("CLASSREG_ELASTIX")


def oblique(shape, spacing):
    turn = np.eye(len(shape))
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    return Grid.from_spacing(shape, spacing, (-30.0, 12.0, 55.0)[:len(shape)], turn)


def image(shape=(9, 96, 80), spacing=(10.0, 1.4, 1.2), seed=0):
    return Image(np.random.default_rng(seed).random(shape, np.float32), oblique(shape, spacing))


def plan(*maps, fixed=None, moving=None):
    fixed = fixed or image()
    return parameters_of(*maps)(fixed, moving or fixed)


def stage(values, k=0, **images):
    return plan(values, **images).stages[k]


SPLINE = {"Transform": ["BSplineTransform"], "NumberOfResolutions": [2]}


def test_the_default_maps_of_elastix_are_read_as_they_are_meant():
    fixed = image((60, 96, 80), (1.0, 1.4, 1.2))
    found = BASELINES["elastix-bspline"].plan(fixed, fixed)
    assert [s.name for s in found.stages] == [f"{kind} {k}" for kind in ("rigid", "affine", "bspline")
                                              for k in (1, 2, 3, 4)]
    assert found.init == "geometry" and found.search == "none"
    for k, s in enumerate(found.stages):
        assert s.metric == {"name": "mi", "bins": 32, "window": "box"}
        assert s.sampling == {"name": "random", "samples": 2048}
        assert s.optimiser == {"name": "asgd", "length": pytest.approx(1.3), "offset": 20.0, "noise": True}
        assert (s.order, s.tolerance) == (1, 0.0)
        (level,) = s.levels
        assert level.iterations == 256 and level.sigma == (4.0, 2.0, 1.0, 0.5)[k % 4]
        assert 1 <= level.factor <= max(1, level.sigma)
    assert [s.transform["spacing"] for s in found.stages[8:]] == pytest.approx([28.284, 20.0, 14.142, 10.0], abs=1e-3)
    assert all(s.regularisers == ({"name": "bending", "weight": 2.0},) for s in found.stages[8:])
    assert [s.transform["kind"] for s in found.stages[:8]] == ["rigid"] * 4 + ["affine"] * 4
    affine = BASELINES["elastix-affine"].plan(fixed, fixed)
    assert affine.stages == found.stages[:8] and affine.model == "affine"


@pytest.mark.skipif(not ELASTIX, reason="CLASSREG_ELASTIX, a Python that has itk-elastix, is not set")
def test_the_maps_are_those_of_elastix_itself():
    code = ("import itk, json; maps = {n: itk.ParameterObject.New().GetDefaultParameterMap(n, 4) for n in "
            f"{list(MAPS)!r}}}; print(json.dumps({{n: {{k: list(m[k]) for k in m}} for n, m in maps.items()}}))")
    real = json.loads(subprocess.run([ELASTIX, "-c", code], capture_output=True, check=True).stdout)
    assert {name: parse(text) for name, text in MAPS.items()} == real


def test_files_are_maps_in_their_order(tmp_path):
    paths = [tmp_path / f"{name} ü.txt" for name in ("rigid", "bspline")]
    for path, name in zip(paths, ("rigid", "bspline")):
        path.write_text("// of a laboratory\n" + MAPS[name], encoding="utf-8")
    found = read_parameters(paths)(image(), image())
    assert [s.transform["name"] for s in found.stages] == ["linear"] * 4 + ["bspline"] * 4
    assert found.init == "identity", "the map leaves it to the headers"
    assert read_parameters(paths[0])(image(), image()).model == "rigid"
    assert any(note.startswith(f"{paths[0]}: ") for note in found.notes)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(FileError, match="cannot be read as a parameter file"):
        read_parameters(tmp_path / "no.txt")
    (tmp_path / "cut.txt").write_text('(Transform "EulerTransform"\n')
    with pytest.raises(InputError, match=r"cut.txt, line 1"):
        read_parameters([tmp_path / "cut.txt"])
    with pytest.raises(OptionError, match="no parameter files"):
        read_parameters([])


@pytest.mark.parametrize("key, values, expected", [
    ("Transform", ["TranslationTransform"], ("transform", {"name": "linear", "kind": "translation"})),
    ("Transform", ["SimilarityTransform"], ("transform", {"name": "linear", "kind": "similarity"})),
    ("Transform", ["EulerTransform"], ("transform", {"kind": "rigid", "rotation": "euler"})),
    ("Metric", ["NormalizedMutualInformation"], ("metric", {"name": "nmi", "bins": 32, "window": "box"})),
    ("Metric", ["AdvancedMeanSquares"], ("metric", {"name": "ssd"})),
    ("Metric", ["AdvancedNormalizedCorrelation"], ("metric", {"name": "ncc"})),
    ("NumberOfHistogramBins", [60], ("metric", {"bins": 60})),
    ("FixedKernelBSplineOrder", [1], ("metric", {"window": "hat"})),
    ("Optimizer", ["QuasiNewtonLBFGS"], ("optimiser", {"name": "lbfgs", "memory": 5})),
    ("Optimizer", ["RegularStepGradientDescent"], ("optimiser", {"name": "descent"})),
    ("MaximumStepLength", ["0.5"], ("optimiser", {"length": 0.5})),
    ("MaximumStepLengthRatio", [2], ("optimiser", {"length": pytest.approx(2.6)})),
    ("SP_A", [50.0], ("optimiser", {"offset": 50.0})),
    ("NumberOfSpatialSamples", ["3000"], ("sampling", {"samples": 3000, "kept": True})),
], ids=str)
def test_what_becomes_of_a_key(key, values, expected):
    part, has = expected
    found = getattr(stage({"NumberOfResolutions": [1], key: values}), part)
    assert {name: found[name] for name in has} == has


def test_interpolation_seed_and_start():
    assert stage({"NumberOfResolutions": [1], "Interpolator": ["LinearInterpolator"]}).order == 1
    assert stage({"NumberOfResolutions": [1]}).order == 1, "elastix's default order is 1"
    assert stage({"NumberOfResolutions": [1], "BSplineInterpolationOrder": [3]}).order == 3
    assert stage({"ImageSampler": ["Full"]}).sampling is None
    assert plan({"RandomSeed": ["7"]}).seed == 7
    start = {"AutomaticTransformInitialization": ["true"]}
    assert plan({}).init == "identity" and plan(start).init == "geometry"
    assert plan(start | {"AutomaticTransformInitializationMethod": ["CenterOfGravity"]}).init == "mass"
    assert plan(start | SPLINE).init == "identity"


def test_values_may_differ_between_resolutions():
    found = plan({"NumberOfResolutions": ["3"], "MaximumNumberOfIterations": [10, 20, 30],
                  "NumberOfSpatialSamples": [100, 200, 300], "NumberOfHistogramBins": [16, 24, 32],
                  "NewSamplesEveryIteration": ["true", "true", "false"], "MaximumStepLength": [4, 2, 1]}).stages
    assert [s.levels[0].iterations for s in found] == [10, 20, 30]
    assert [s.sampling for s in found] == [{"name": "random", "samples": 100}, {"name": "random", "samples": 200},
                                           {"name": "random", "samples": 300, "kept": True}]
    assert [s.metric["bins"] for s in found] == [16, 24, 32]
    assert [s.optimiser["length"] for s in found] == [4.0, 2.0, 1.0]
    assert [s.levels[0].iterations for s in plan({"MaximumNumberOfIterations": [10]}).stages] == [10] * 3


def test_values_beyond_the_resolutions_do_not_count():
    found = plan({"NumberOfResolutions": [1], "MaximumNumberOfIterations": [10, 20],
                  "SigmoidInitialTime": ["0.0", 0, 0], "FixedKernelBSplineOrder": [0, 0],
                  "BSplineInterpolationOrder": [3, 3, 3],
                  "ImagePyramidSchedule": [2, 2, 1, 1, 1, 1], "NumberOfFixedHistogramBins": [24, 24],
                  "NumberOfMovingHistogramBins": [24]})
    (only,) = found.stages
    assert only.levels[0] == Level(1.0, 10, (0.5, 1.0, 1.0)) and only.order == 3 and only.metric["bins"] == 24
    (note,) = found.notes
    assert note.startswith("map 1: MaximumNumberOfIterations, ImagePyramidSchedule: more values than the 1 resolution")


def test_schedules_name_the_axes_x_y_z():
    for schedule, expected in (([4, 4, 1, 2, 2, 1], [(0.5, 2.0, 2.0), (0.5, 1.0, 1.0)]), ([4, 1], [2.0, 0.5])):
        found = plan({"NumberOfResolutions": [2], "ImagePyramidSchedule": schedule}).stages
        assert [s.levels[0].sigma for s in found] == expected
    lattice = SPLINE | {"FinalGridSpacingInVoxels": [10, 12, 1], "GridSpacingSchedule": [2, 3, 1, 1, 1, 1]}
    found = [s.transform["spacing"] for s in plan(lattice).stages]
    assert found == [pytest.approx([10.0, 50.4, 24.0]), pytest.approx([10.0, 16.8, 12.0])]
    found = [s.transform["spacing"] for s in plan(SPLINE | {"FinalGridSpacingInPhysicalUnits": [8]}).stages]
    assert found == [16.0, 8.0], "halved from resolution to resolution by default"
    assert plan(SPLINE).stages[1].transform["spacing"] == pytest.approx([160.0, 22.4, 19.2]), "16 voxels by default"


def test_pyramids_are_what_they_mean():
    def levels(kind, **more):
        values = {"NumberOfResolutions": [3], "FixedImagePyramid": [f"Fixed{kind}ImagePyramid"], **more}
        return [s.levels[0] for s in plan(values, fixed=image((90, 96, 80), (1.0, 1.0, 1.0))).stages]

    assert levels("Smoothing") == [Level(2.0, 500, 2.0), Level(1.0, 500, 1.0), Level(1.0, 500, 0.5)]
    full = {"ImageSampler": ["Full"]}
    assert levels("Smoothing", **full) == [Level(1.0, 500, 2.0), Level(1.0, 500, 1.0), Level(1.0, 500, 0.5)]
    assert levels("Recursive", **full) == [Level(4.0, 500, np.sqrt(5)), Level(2.0, 500, 1.0), Level(1.0, 500, 0.0)]
    uneven = {"NumberOfResolutions": [2], "ImagePyramidSchedule": [3, 2]}
    assert levels("Recursive", **full, **uneven) == [Level(3.0, 500, 1.5), Level(2.0, 500, 1.0)], "no whole ratio"
    assert levels("Shrinking") == [Level(4.0, 500), Level(2.0, 500), Level(1.0, 500)]


def test_several_metrics_are_weighed():
    both = {**SPLINE, "Metric": ["AdvancedMattesMutualInformation", "TransformBendingEnergyPenalty"]}
    assert stage(both).regularisers == ({"name": "bending", "weight": 2.0},), "1 over their number each by default"
    found = plan(both | {"Metric0Weight": [2, 4], "Metric1Weight": [3]}).stages
    assert [s.regularisers[0]["weight"] for s in found] == [3.0, 1.5]
    assert stage(both | {"Metric1Weight": [0]}).regularisers == ()
    linear = {**both, "Transform": ["AffineTransform"]}
    assert stage(linear).regularisers == () and any("zero for a affine" in n for n in plan(linear).notes)
    found = stage({"Metric": ["AdvancedMattesMutualInformation", "AdvancedNormalizedCorrelation"],
                   "Metric0Weight": [1], "Metric1Weight": [0.25]}).metric
    assert [(p["metric"]["name"], p["weight"]) for p in found["parts"]] == [("mi", 1.0), ("ncc", 0.25)]


def test_bending_is_that_of_elastix():
    """Mean over the image of the sum of all squared second derivatives, by finite differences of the map itself."""
    grid = oblique((24, 30), (1.1, 0.9))
    model, rng = BSpline(grid, 6.0, np.eye(3)), np.random.default_rng(1)
    theta = rng.normal(size=model.identity().shape)
    h = 1e-2
    inside = rng.uniform(0.02, 0.98, (4000, 2)) * (np.array(grid.shape) - 1)

    def u(index):
        return model.forward(theta, Points(grid.to_world(index)))[0].field

    step = h / grid.spacing
    terms = 0.0
    for a in range(2):
        for b in range(2):
            ea, eb = step * (np.arange(2) == a), step * (np.arange(2) == b)
            second = u(inside + ea + eb) - u(inside + ea - eb) - u(inside - ea + eb) + u(inside - ea - eb)
            terms += ((second / (4 * h * h))**2).sum(0).mean()
    value = Bending(2.0)(theta, model.grams(theta, grid))[0]
    assert value == pytest.approx(terms, rel=0.1)


def test_mean_squares_weigh_against_bending_in_the_units_of_the_image():
    both = {**SPLINE, "Metric": ["AdvancedMeanSquares", "TransformBendingEnergyPenalty"]}
    fixed = image()
    bright = fixed.with_array(10 * fixed.array + 3)
    few = [stage(both, fixed=f, moving=fixed).regularisers[0]["weight"] for f in (fixed, bright)]
    assert few[0] == pytest.approx(1 / fixed.array.var(), rel=0.02) and few[0] == pytest.approx(100 * few[1], rel=1e-3)


REFUSED = [
    ({"Metrik": ["x"]}, r"map 1: unknown parameter 'Metrik'; did you mean 'Metric'\?"),
    ({"numberofresolution": [3]}, "did you mean 'NumberOfResolutions'"),
    ({"Metric3Weight": [1], "Qzxw": [1]}, "unknown parameter 'Qzxw'. Those that are known"),
    ({"Transform": ["SplineKernelTransform"]}, "Transform 'SplineKernelTransform' is not supported; supported: Trans"),
    ({"Metric": ["AdvancedKappaStatistic"]}, "supported: AdvancedMattesMutualInformation"),
    ({"Optimizer": ["Simplex"]}, "supported: AdaptiveStochasticGradientDescent, QuasiNewtonLBFGS"),
    ({"ImageSampler": ["Grid"]}, "supported: RandomCoordinate, Random, RandomSparseMask, Full"),
    ({"Interpolator": ["NearestNeighborInterpolator"]}, "supported: LinearInterpolator"),
    ({"BSplineInterpolationOrder": [2]}, "BSplineInterpolationOrder '2' is not supported; supported: 1, 3"),
    ({"Registration": ["MultiInput"]}, "supported: MultiResolutionRegistration"),
    ({"FixedImagePyramid": ["OpenCLFixedGenericImagePyramid"]}, "supported: FixedSmoothingImagePyramid"),
    ({"AutomaticTransformInitializationMethod": ["Origins"]}, "supported: GeometricalCenter, CenterOfGravity"),
    ({"HowToCombineTransforms": ["Add"]}, r"'Add' is not supported \(a stage begins where .*\); supported: Compose"),
    ({"InitialTransformParametersFileName": ["a.txt"]}, "give the transform as `init`"),
    ({"AutomaticParameterEstimation": ["false"]}, "gains find themselves.*supported: true"),
    ({"UseDirectionCosines": ["false"]}, "headers count"),
    ({"SigmoidInitialTime": [3.5]}, "SigmoidInitialTime '3.5' is not supported"),
    ({"UseAllPixels": ["true"]}, "the sampler says which"),
    ({"NumberOfResolutions": [2.5]}, "NumberOfResolutions must be a whole number"),
    ({"NumberOfResolutions": [0]}, "NumberOfResolutions is 0"),
    ({"NumberOfResolutions": []}, "NumberOfResolutions has no value"),
    ({"MaximumNumberOfIterations": ["many"]}, "Iterations must be a whole number of at least 0, got 'many'"),
    ({"MaximumNumberOfIterations": [1, 2]}, "Iterations has 2 values; it takes 1 or 3, one per resolution"),
    ({"NewSamplesEveryIteration": ["yes"]}, "NewSamplesEveryIteration is true or false, got 'yes'"),
    ({"Transform": ["EulerTransform", "AffineTransform"]}, "Transform has 2 values; it takes 1"),
    ({"Metric": ["TransformBendingEnergyPenalty"]}, "compares no images"),
    ({"Metric": ["AdvancedMeanSquares", "TransformBendingEnergyPenalty"], "Registration":
      ["MultiResolutionRegistration"]}, "supported: MultiMetricMultiResolutionRegistration"),
    ({"MovingImagePyramid": ["MovingShrinkingImagePyramid"]}, "both pyramids must be of one kind"),
    ({"FixedImagePyramidSchedule": [4, 2, 1], "MovingImagePyramidSchedule": [2, 2, 1]}, "smoothed by one schedule"),
    (SPLINE | {"FinalGridSpacingInVoxels": [8], "FinalGridSpacingInPhysicalUnits": [8]}, "keep one"),
]


@pytest.mark.parametrize("values, message", REFUSED, ids=[next(reversed(v)) for v, _ in REFUSED])
def test_what_is_refused_when_it_is_read(values, message):
    with pytest.raises(OptionError, match=message):
        parameters_of(values)


def test_what_is_refused_for_a_pair():
    for values, message in [({"FixedImageDimension": [2]}, "FixedImageDimension is 2, the image is 3-D"),
                            ({"ImagePyramidSchedule": [4, 2]}, r"has 2 values; it takes 3 \(one per resolution\) or 9"),
                            ({"NumberOfSpatialSamples": [5]}, "from 64 to"),
                            ({"NumberOfMovingHistogramBins": [16]}, "as many bins; these are 32 and 16"),
                            ({"Metric0Weight": [0]}, "weights of all metrics that compare images are 0")]:
        with pytest.raises(OptionError, match=message):
            plan(values)
    with pytest.raises(OptionError, match="map 2: rigid after affine"):
        parameters_of({}, {"Transform": ["EulerTransform"]})


def test_what_is_done_in_another_way_is_said_and_nothing_else():
    said = plan({"WriteResultImage": ["true"], "ResultImageFormat": ["nii"], "ErodeMask": ["true"],
                 "NumberOfResolutions": [2]}).notes
    assert said == ("map 1: WriteResultImage, ResultImageFormat: only about output",
                    "map 1: ErodeMask: masks are taken as they are")
    assert plan({}).notes == ()
    other = {"ImageSampler": ["Random"], "Optimizer": ["QuasiNewtonLBFGS"], "Metric": ["AdvancedMeanSquares"],
             "FixedImagePyramid": ["FixedRecursiveImagePyramid"]}
    said = " ".join(plan(other).notes)
    for word in ("Random: ", "QuasiNewtonLBFGS: lbfgs", "AdvancedMeanSquares: ", "recursive pyramid"):
        assert word in said
    assert "cells along each axis" in plan(SPLINE).notes[0]
    begins = {"AutomaticTransformInitialization": ["true"], "AutomaticTransformInitializationMethod":
              ["CenterOfGravity"]}
    found = plan(begins, begins | {"RandomSeed": [3], "Metric1Weight": [2], "MaximumStepLength": [4],
                                   "Optimizer": ["RegularStepGradientDescent"]})
    assert "CenterOfGravity" in found.notes[0] and "CenterOfGravity" not in " ".join(found.notes[1:])
    for key in ("AutomaticTransformInitialization", "RandomSeed", "Metric1Weight", "MaximumStepLength"):
        assert any(note.startswith(f"map 2: {key}: ") for note in found.notes[1:]), key


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_known_by_its_default(key):
    spec = KEYS[key]
    assert spec.kind in KINDS and spec.says
    some = {"FixedImageDimension": 3, "MovingImageDimension": 3, "NumberOfSpatialSamples": 64}.get(
        key, 32 if key.endswith("Bins") else {bool: "true", int: 1, float: 1.0, str: "x"}.get(spec.values))
    values = [spec.values[0] if isinstance(spec.values, tuple) else some]
    kind = {} if key == "AutomaticTransformInitialization" else SPLINE  # of linear models only
    found = plan({**kind, key: 9 * values if key.endswith("Schedule") else values})
    assert Plan.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert any(key in note for note in found.notes) == (spec.kind in ("left", "output"))


def test_the_page_has_the_table_of_keys():
    text = PAGE.read_text(encoding="utf-8")
    for key, spec in KEYS.items():
        if spec.kind == "output":
            assert f"`{key}`" in text
            continue
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{key}` |")]
        values = ", ".join(f"`{v}`" for v in spec.values) if isinstance(spec.values, tuple) else ""
        assert values in row and spec.says in row, row


@pytest.fixture(scope="module")
def shifted():
    """A blob and the same moved by (3, -2) mm in x and y, on an oblique grid off the origin."""
    grid = oblique((48, 40), (1.5, 1.2))
    x, y = np.moveaxis(grid.points() - grid.centre, -1, 0)

    def blob(dx, dy):
        wide = np.exp(-((x - dx)**2 / 90 + (y - dy)**2 / 160))
        return (wide + 0.6 * np.exp(-((x - dx - 8)**2 + (y - dy + 9)**2) / 30)).astype(np.float32)

    return Image(blob(0, 0), grid), Image(blob(3, -2), grid)


def test_a_known_shift_is_found_by_two_maps(shifted):
    short = {"NumberOfResolutions": [2], "MaximumNumberOfIterations": [60], "NumberOfSpatialSamples": [512],
             "NewSamplesEveryIteration": ["true"]}
    found = parameters_of(short | {"Transform": ["TranslationTransform"]},
                          short | SPLINE | {"FinalGridSpacingInPhysicalUnits": [20], "Metric": [
                              "AdvancedNormalizedCorrelation", "TransformBendingEnergyPenalty"]})(*shifted)
    result = classreg.register(*shifted, plan=found)
    middle = shifted[0].grid.centre + np.array([[0, 0], [8, -9], [4.0, 3.0]])
    assert np.abs(result.transform.map_points(middle) - middle - (3, -2)).max() < 0.4
    assert [r.stage for r in result.history if r.iteration == 0] == ["translation 1", "translation 2", "bspline 1",
                                                                     "bspline 2"]


@pytest.mark.parametrize("optimiser", ["QuasiNewtonLBFGS", "RegularStepGradientDescent"])
def test_other_optimisers_find_it_at_samples_that_stay(optimiser, shifted):
    found = parameters_of({"Transform": ["TranslationTransform"], "Optimizer": [optimiser], "Metric":
                           ["AdvancedMeanSquares"], "NumberOfResolutions": [1], "MaximumNumberOfIterations": [30],
                           "NumberOfSpatialSamples": [800]})(*shifted)
    result = classreg.register(*shifted, plan=found)
    centre = shifted[0].grid.centre[None]
    assert np.abs(result.transform.map_points(centre) - centre - (3, -2)).max() < 0.2


def test_the_command_line_runs_files_in_their_order(monkeypatch, tmp_path, shifted):
    calls, names = [], ("rigid", "bspline")
    for name in names:
        (tmp_path / f"{name}.txt").write_text(MAPS[name])
    for image, name in zip(shifted, ("f.nii", "m.nii")):
        classreg.io.save_image(image, tmp_path / name)

    def stand_in(fixed, moving, **options):
        calls.append((fixed, moving, options))
        return SimpleNamespace(status="done", seconds=1.0, save=lambda folder: None, summary=dict)

    monkeypatch.setattr(classreg, "register", stand_in)
    files = [part for name in names for part in ("--parameters", str(tmp_path / f"{name}.txt"))]
    begin = ["register", str(tmp_path / "f.nii"), str(tmp_path / "m.nii"), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(cli.app, [*begin, *files, "--threads", "2"])
    assert done.exit_code == 0, done.output
    (fixed, moving, options), = calls
    assert np.allclose(fixed.array, shifted[0].array) and np.allclose(moving.array, shifted[1].array)
    assert options["threads"] == 2 and [s.name for s in options["plan"].stages] == [
        f"{name} {k}" for name in names for k in (1, 2, 3, 4)]
    for other in (["--model", "affine"], ["--baseline", "syn"]):
        done = CliRunner().invoke(cli.app, [*begin, *files, *other], env={"COLUMNS": "200"})
        assert done.exit_code == 2 and "cannot be changed" in done.output


# ------------------------------------------------------------------- parts that these plans need


def test_a_width_smooths_and_shrinks_no_mask():
    grid = oblique((33, 41), (1.0, 2.0))
    values = np.zeros(grid.shape, np.float32)
    values[16, 20] = 1
    weight = np.zeros(grid.shape, np.float32)
    weight[10:20, 10:30] = 1
    out = shrink(Image(values, grid, weight), grid.resolution, (2.0, 3.0))
    assert out.grid is grid or out.grid.same_as(grid)
    assert np.array_equal(out.weight, weight) and out.array.sum() == pytest.approx(1, abs=1e-5)
    for axis, sigma in enumerate((2.0, 3.0)):
        profile = out.array.sum(1 - axis)
        at = np.arange(len(profile)) - np.average(np.arange(len(profile)), weights=profile)
        assert np.sqrt(np.average(at**2, weights=profile)) == pytest.approx(sigma, rel=0.05)
    assert shrink(Image(values, grid), grid.resolution, 0.0).array is values
    coarse = shrink(Image(values, grid), 2 * grid.resolution, 2.0)
    assert coarse.grid.shape == shrink(Image(values, grid), 2 * grid.resolution).grid.shape


@pytest.mark.parametrize("sigma, right", [(2.0, True), ((1.0, 2.0, 0.5), True), (-1.0, False), ((1.0, 2.0), False),
                                          ("2", False), ((1.0, np.nan, 1.0), False)], ids=str)
def test_widths_of_levels_are_checked(sigma, right):
    found = plan({"NumberOfResolutions": [1]})
    changed = Plan("affine", "identity", (_with_sigma(found.stages[0], sigma),))
    if right:
        door.check_plan(changed, image().grid)
        assert Plan.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed
        assert "samples)" in str(changed)
    else:
        with pytest.raises(OptionError, match="sigma of a level is a number of samples of at least 0, or one per axis"):
            door.check_plan(changed, image().grid)


def _with_sigma(stage, sigma):
    return replace(stage, levels=(Level(1, 5, sigma),))


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_lattice_takes_the_shape_of_another(ndim):
    grid = oblique((20, 24, 28)[:ndim], (1.5, 1.0, 1.2)[:ndim])
    wide = BSpline(grid, 12.0, np.eye(ndim + 1))
    theta = np.random.default_rng(0).normal(size=wide.identity().shape).astype(np.float32)
    before = wide.forward(theta, grid)[0].field.copy()
    for spacing, left in ((6.0, 1e-4), (tuple(12.0 / k for k in (2, 4, 3))[:ndim], 1e-4), (8.5, 0.35)):
        other = BSpline(grid, spacing, np.eye(ndim + 1))
        after = other.forward(other.taken(theta, wide), grid)[0].field
        exact = all(n % o == 0 for n, o in zip(other.least_cells, wide.least_cells) if o)
        assert np.sqrt(np.mean((after - before)**2)) < (left if exact or left > 0.1 else 0.35) * before.std()


def test_a_lattice_may_have_one_spacing_per_axis():
    grid = oblique((9, 40, 50), (10.0, 1.5, 1.0))
    model = BSpline(grid, (20.0, 15.0, 7.0), np.eye(4))
    assert model.least_cells == (4, 4, 7) and (model.cell_size(model.least_cells) <= (20.0, 15.0, 7.0)).all()
    assert BSpline(grid, 8.0, np.eye(4)).least_cells == BSpline(grid, (8.0, 8.0, 8.0), np.eye(4)).least_cells
    found = plan(SPLINE)
    door.check_plan(found, image().grid)
    for wrong in ([1.0, 2.0], [1.0, 2.0, 0.0], "8"):
        bad = Plan("x", "identity", (_spaced(found.stages[0], wrong),))
        with pytest.raises(OptionError, match="a number of mm above 0, or one per axis of the image"):
            door.check_plan(bad, image().grid)


def _spaced(stage, spacing):
    return replace(stage, transform={"name": "bspline", "spacing": spacing})


@pytest.mark.parametrize("name", SAMPLINGS)
def test_samples_that_are_kept_are_drawn_once_per_level(name, shifted):
    fixed, moving = shifted
    model, seen = Linear(fixed.grid, "translation"), []

    class Watched(SSD):
        def take(self, values):
            seen.append(values.copy())
            super().take(values)

    for kept, sets in ((True, 1), (False, 2)):
        seen.clear()
        run("x", fixed, moving, model, Watched(), [], ASGD(), (Level(1, 5),), model.identity(), Control(),
            sampling=SAMPLINGS[name](200, kept=kept))
        assert (len(seen) == 1) == (sets == 1)


def test_steps_in_mm_and_shorter_ones_where_samples_are_noise(shifted):
    fixed, moving = shifted
    model = Linear(fixed.grid, "translation")

    def first(**options):
        control = Control()
        run("x", fixed, moving, model, SSD(), [], ASGD(**options), (Level(1, 1),), model.identity(), control,
            sampling=SAMPLINGS["random"](64))
        return control.history[-1].step

    assert first(length=0.6) == pytest.approx(first(step=0.5), rel=1e-6), "the level's resolution is 1.2 mm"
    quiet, noisy = first(length=0.6), first(length=0.6, noise=True)
    assert 0.1 * quiet < noisy < quiet
