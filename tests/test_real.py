"""Registrations of real images with the defaults, for those who have them (CLASSREG_DATA)."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import classreg
from classreg.evaluate import dice, folding, inverse_consistency, tre
from classreg.io import load

DATA = os.environ.get("CLASSREG_DATA")
pytestmark = [pytest.mark.data, pytest.mark.slow,
              pytest.mark.skipif(not DATA, reason="CLASSREG_DATA, the folder of real images, is not set")]


def case(name):
    return Path(DATA) / "pairs" / name


def points(path):
    return np.genfromtxt(path, delimiter=",", comments="x")


@pytest.mark.parametrize("model", ["rigid", "affine"])
@pytest.mark.parametrize("name", ["BrainProtonDensitySliceShifted13x17y", "BrainProtonDensitySliceR10X13Y17",
                                  "BrainProtonDensitySliceRotated10"])
def test_slices_with_a_known_motion(name, model):
    truth = json.loads((case("slices-itk") / "case.json").read_text())["truth"][name]
    fixed = load(case("slices-itk") / "BrainProtonDensitySliceBorder20.nii.gz")
    matrix = classreg.register(fixed, case("slices-itk") / f"{name}.nii.gz", model=model).transform.matrix
    centre = fixed.grid.centre
    shift = matrix[:2, :2] @ centre + matrix[:2, 2] - centre
    assert np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])) == pytest.approx(truth["rotation_deg"], abs=0.05)
    assert shift == pytest.approx(truth.get("shift_px") or truth["shift_px_about_grid_centre"], abs=0.05)


# worst figures that may come out: Dice at least, landmark error (mm) at most
LABELLED = [("heart-cine", "polyaffine", 0.79), ("lung-h1", "polyaffine", 0.85),
            ("heart-cine", "bspline", 0.80), ("heart-cine", "greedy", 0.75), ("heart-cine", "svf", 0.75),
            ("lung-h1", "bspline", 0.86), ("lung-h1", "greedy", 0.87), ("lung-h1", "svf", 0.87)]
MARKED = [("liver-mr-a", "polyaffine", 1.7),
          ("liver-mr-a", "bspline", 1.6), ("liver-mr-a", "greedy", 1.9), ("liver-mr-b", "bspline", 1.6),
          ("liver-mr-b", "svf", 1.9), ("lung-ct", "greedy", 2.3)]


@pytest.mark.parametrize("name, model, least", LABELLED)
def test_labels_overlap(name, model, least):
    folder = case(name)
    result = classreg.register(folder / "fixed.nii.gz", folder / "moving.nii.gz", model=model)
    warped = classreg.apply(result, folder / "moving_labels.nii.gz", folder / "fixed.nii.gz", interpolation="nearest")
    overlap = dice(load(folder / "fixed_labels.nii.gz").array, warped.array)
    assert np.mean(list(overlap.values())) > least
    if model != "bspline":
        assert folding(result.jacobian) == 0


@pytest.mark.parametrize("name, model, most", MARKED)
def test_landmarks_meet(name, model, most):
    folder = case(name)
    result = classreg.register(folder / "fixed.nii.gz", folder / "moving.nii.gz", model=model)
    mapped = result.transform.map_points(points(folder / "fixed_points.csv"))
    assert tre(mapped, points(folder / "moving_points.csv"))["mean"] < most
    if model != "bspline":
        assert folding(result.jacobian) == 0


def test_hands_meet_from_far_apart():
    result = classreg.register(case("hands") / "fixed.jpg", case("hands") / "moving.jpg", model="greedy")
    before, after = result.summary()["correlation"]
    assert after > 0.97 > before and folding(result.jacobian) == 0


@pytest.mark.parametrize("metric", ["nmi", "cr", "composite", {"name": "mi", "window": "box"}], ids=str)
def test_contrasts_meet_after_a_known_motion(metric):
    """T1 and T2 templates in one space, the second one moved by its header."""
    folder = Path(DATA) / "groups" / "brain-t1-t2-pd"
    fixed, moving = load(folder / "t1.nii.gz"), load(folder / "t2.nii.gz")
    motion = np.eye(4)
    motion[:3, :3] = [[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]  # 16 degrees about the world's origin
    motion[:3, 3] = 8, -6, 10
    moving = replace(moving, grid=replace(moving.grid, affine=motion @ moving.grid.affine))
    matrix = classreg.register(fixed, moving, model="rigid", metric=metric).transform.matrix
    brain = fixed.grid.points()[fixed.array > fixed.array.mean()]
    apart = brain @ (matrix - motion)[:3, :3].T + (matrix - motion)[:3, 3]
    assert np.linalg.norm(apart, axis=1).mean() < 1.3  # the templates themselves agree to about 0.5 mm


def test_different_contrasts_and_grids():
    folder = case("brain-t1-epi")
    result = classreg.register(folder / "fixed.nii.gz", folder / "moving.nii.gz", model="rigid")
    assert any("different" in note for note in result.plan.notes)
    again = classreg.register(folder / "moving.nii.gz", folder / "fixed.nii.gz", model="rigid")
    there_and_back = again.transform.matrix @ result.transform.matrix
    corners = load(folder / "fixed.nii.gz").grid.corners()
    moved = corners @ there_and_back[:3, :3].T + there_and_back[:3, 3] - corners
    assert np.linalg.norm(moved, axis=1).max() < 2.0


def test_a_symmetric_pair_comes_back_to_where_it_began():
    """Exchanged images give the inverse, in the whole brain, and overlap no less than the one-sided model reaches."""
    folder = case("brain-oasis")
    ends = [folder / "fixed.nii.gz", folder / "moving.nii.gz"]
    labels = load(folder / "fixed_labels.nii.gz")

    def overlap(result):
        moved = classreg.apply(result, folder / "moving_labels.nii.gz", ends[0], interpolation="label")
        return np.mean(list(dice(labels.array, moved.array).values()))

    forward = classreg.register(*ends, model="symmetric")
    backward = classreg.register(*reversed(ends), model="symmetric")
    for back in (backward.transform, forward.transform.inverse()):
        apart = inverse_consistency(forward.transform, back, labels.grid, labels.array > 0, unit="voxel")
        assert apart["mean"] < 0.05 and apart["p99"] < 0.1
    assert folding(forward.jacobian) == 0
    assert overlap(forward) >= overlap(classreg.register(*ends, model="svf"))
