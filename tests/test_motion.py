"""Motion within a time series: found, corrected, saved."""

from __future__ import annotations

import numpy as np
import pytest
from group_scenes import CENTRE, anatomy, disagreement, rigid, rigid_group

import classreg
from classreg import Grid, Image
from classreg.errors import InputError


def series_of(ndim: int, frames: int = 6):
    """One anatomy that moves, under a signal that rises and falls; and how it moved."""
    grid = rigid_group(ndim, same=True)[0][0].grid
    out, matrices = [], []
    for t in range(frames):
        turns = (4 * np.sin(t),) if ndim == 2 else (2 * np.sin(t), -1.5, 3 * np.cos(t))
        matrices.append(rigid(turns, np.array([3 * np.cos(t), 2 * np.sin(2 * t), 1.0])[:ndim], ndim))
        back = np.linalg.inv(matrices[-1])
        values = anatomy(grid.points() @ back[:ndim, :ndim].T + back[:ndim, ndim])
        out.append((1 + 0.5 * np.sin(t)) * values + 0.05 * t * values**2)
    return Image(np.stack(out).astype(np.float32), grid), matrices


@pytest.mark.parametrize("ndim", [2, 3])
def test_frames_are_aligned_under_a_changing_signal(ndim):
    series, matrices = series_of(ndim, 6 if ndim == 2 else 4)
    motion = classreg.correct_motion(series)
    assert disagreement(motion.group, matrices) < 0.1 * series.grid.resolution
    assert motion.corrected.array.shape == series.array.shape and motion.corrected.grid is series.grid
    truth = [rigid_parameters(m, series.grid) for m in matrices]
    difference = motion.parameters - truth
    assert np.abs(difference - difference.mean(0)).max() < 0.35, "up to what all frames have in common"
    points = CENTRE[:ndim] + np.random.default_rng(0).uniform(-20, 20, (300, ndim))
    moved = [points @ m[:ndim, :ndim].T + m[:ndim, ndim] for m in matrices]
    walked = [np.sqrt(((b - a) ** 2).sum(-1)).mean() for a, b in zip(moved, moved[1:])]
    assert motion.steps[1:] == pytest.approx(walked, rel=0.25) and motion.steps[0] == 0
    assert motion.summary()["mean step from frame to frame (mm)"][1] == pytest.approx(motion.steps[1:].mean())


def rigid_parameters(matrix, grid: Grid):
    """Shift of the centre and rotation vector in degrees, worked out apart."""
    d, c = grid.ndim, grid.centre
    shift = matrix[:d, :d] @ c + matrix[:d, d] - c
    skew = np.degrees([matrix[1, 0]] if d == 2 else [matrix[2, 1], matrix[0, 2], matrix[1, 0]])
    return np.concatenate([shift, skew])  # turns are small


def test_a_frame_may_hold_still():
    series, _ = series_of(2, 3)
    motion = classreg.correct_motion(series, method="variance", gauge=1, iterations=1, levels=[2])
    assert not motion.parameters[1].any() and np.abs(motion.parameters[0]).max() > 0


def test_a_series_needs_frames():
    with pytest.raises(InputError, match="at least two frames"):
        classreg.correct_motion(np.zeros((8, 9, 1)))


def test_a_corrected_series_is_saved_with_its_table(tmp_path):
    series, _ = series_of(3, 3)
    motion = classreg.correct_motion(series, method="variance", model="translation", levels=[2], gauge=1)
    motion.save(tmp_path / "out")
    corrected = classreg.io.load(tmp_path / "out" / "corrected.nii.gz", channels="last")
    assert corrected.array.shape == series.array.shape and corrected.grid.same_as(series.grid, 1e-3)
    rows = (tmp_path / "out" / "motion.csv").read_text().splitlines()
    assert rows[0] == "frame,shift_x_mm,shift_y_mm,shift_z_mm,turn_x_deg,turn_y_deg,turn_z_deg,step_mm"
    assert len(rows) == 4 and [float(v) for v in rows[2].split(",")[1:7]] == [0] * 6
