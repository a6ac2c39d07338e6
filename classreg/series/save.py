"""A corrected series as files in a folder: all of them, or none.

    corrected.nii.gz                the series without its motion: 4-D, times in seconds
    motion.csv, motion.png          translations, rotations and displacements of each frame
    profile.png                     a line of the image by time, before and after
    mean.nii.gz, tsnr.nii.gz        of the corrected series: mean over time, and that by the deviation
    transforms/frame_NNN.tfm | .h5  common space to frame, as ITK reads it: linear | deformable
    result.json                     plan, history, figures, status, matrices, versions; no file names
    report.html                     the pictures and the curves

May import anything below; nothing imports it but a lazy call of `SeriesResult.save`.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .. import plot
from ..group.save import describe as describe_group
from ..image import Image
from ..io import save_image
from ..io.atomic import whole_folder
from ..io.series import save_series
from ..io.transforms import write_transform
from ..plot.saved import write as write_figure
from ..report_series import write_series_report
from ..save import plain
from .motion import write_motion
from .result import SeriesResult

#: files of a former result that this one may not have
FORMER = ("transforms/frame_*.tfm", "transforms/frame_*.h5")


def save(result: SeriesResult, folder: str | os.PathLike) -> None:
    """Write a result into a folder, which is made if it is not there; files of a former result are replaced.

    Everything is written into a folder beside the files first and moved to its place when all is complete.

    Raises
    ------
    FileError
        If the folder cannot be made or written, before anything else is done; or if a file cannot be completed.
    """
    with whole_folder(folder, FORMER) as whole:
        _write(result, whole)


def _write(result: SeriesResult, folder: Path) -> None:
    (folder / "transforms").mkdir()
    for transform in result.transforms:
        write_transform(transform, folder / "transforms" / f"{transform.to}{'.tfm' if transform.linear else '.h5'}")
    save_series(result.corrected, folder / "corrected.nii.gz")
    mean = result.corrected.array.mean(0, dtype=np.float64).astype(np.float32)
    save_image(Image(mean, result.series.grid), folder / "mean.nii.gz")
    save_image(result.tsnr(), folder / "tsnr.nii.gz")
    write_motion(result.motion, folder / "motion.csv")
    figures = {"motion": plot.motion(result), "profile": plot.profile(result)}
    for name, figure in figures.items():
        write_figure(figure, folder / f"{name}.png")
    text = json.dumps(plain(describe(result)), indent=1, allow_nan=False)
    (folder / "result.json").write_text(text + "\n", encoding="utf-8")
    write_series_report(folder / "report.html", series=(result.series, result.corrected), figures=figures,
                        summary=result.summary(), motion=result.motion,
                        history=[asdict(record) for record in result.history], plan=str(result.plan),
                        status=result.status, notes=result.plan.notes,
                        title=f"Motion correction of {len(result)} frames: {result.plan.model}")


def describe(result: SeriesResult) -> dict[str, Any]:
    """What `result.json` says, before numbers that JSON lacks become null."""
    said = describe_group(result.group)
    said["status"] = result.status
    said["figures"] = {name: {"before": a, "after": b} for name, (a, b) in result.summary().items()}
    said["final_matrices"] = [transform.matrix for transform in result.transforms]
    said["common_grid"] = {"shape": result.series.grid.shape, "affine": result.series.grid.affine}
    said["interval_s"], said["motion"] = result.series.interval, result.motion
    return said
