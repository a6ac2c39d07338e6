"""A finished registration of a group as files in a folder: all of them, or none.

    transforms/NAME.tfm | NAME.h5   common space to image, as ITK reads it: linear | deformable
    transforms/NAME.npz             of models that have one: the velocity, with its exact inverse
    warped/NAME.nii.gz              the image on the common grid
    template.nii.gz                 the mean of the warped images, normalised
    classes.nii.gz                  the likeliest class, 1, 2, ..., of methods that tell classes apart
    result.json                     plan, history, figures, status, matrices, versions; no file names
    report.html                     the pictures and the curves

NAME is what the image was called with `names=`, image_1, image_2, ... by default.

May import anything below; nothing imports it but a lazy call of `GroupResult.save`.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..fitted import FittedTransform
from ..io import save_image
from ..io.atomic import whole_folder
from ..io.transforms import write_transform
from ..report_group import write_group_report
from ..save import plain, versions
from .result import GroupResult, mean_image

FOLDERS = ("transforms", "warped")

#: files of a former result that this one may not have
FORMER = ("classes.nii.gz", *(f"transforms/*{suffix}" for suffix in (".tfm", ".h5", ".npz")), "warped/*.nii.gz")


def save(result: GroupResult, folder: str | os.PathLike) -> None:
    """Write a result into a folder, which is made if it is not there; files of a former result are replaced.

    Everything is written into a folder beside the files first and moved to its place when all is complete.

    Raises
    ------
    FileError
        If the folder cannot be made or written, before anything else is done; or if a file cannot be completed.
    """
    with whole_folder(folder, FORMER) as whole:
        _write(result, whole)


def _write(result: GroupResult, folder: Path) -> None:
    for name in FOLDERS:
        (folder / name).mkdir()
    for name, transform, warped in zip(result.names, result.transforms, result.warped):
        write_transform(transform, folder / "transforms" / f"{name}{'.tfm' if transform.linear else '.h5'}")
        if transform.flows:
            write_transform(transform, folder / "transforms" / f"{name}.npz", format="velocity")
        save_image(warped, folder / "warped" / f"{name}.nii.gz")
    save_image(result.template, folder / "template.nii.gz")
    if result.labels is not None:
        save_image(result.labels, folder / "classes.nii.gz")
    text = json.dumps(plain(describe(result)), indent=1, allow_nan=False)
    (folder / "result.json").write_text(text + "\n", encoding="utf-8")
    still = [FittedTransform.from_matrix(np.eye(result.grid.ndim + 1), result.grid)] * len(result)
    write_group_report(
        folder / "report.html", names=result.names, before=result.before, after=result.warped,
        templates=(mean_image(result.images, still, result.grid), result.template), classes=result.labels,
        history=[asdict(record) for record in result.history], figures=result.summary(), each=_each(result),
        plan=str(result.plan), status=result.status, title=f"Registration of {len(result)} images: {result.plan.model}",
        notes=result.plan.notes)


def _each(result: GroupResult) -> list[tuple]:
    rows = []
    for name, transform in zip(result.names, result.transforms):
        motion = np.sqrt((transform.displacement() ** 2).sum(0))
        rows.append((name, float(motion.mean()), float(motion.max()), float(transform.jacobian_determinant().min())))
    return rows


def describe(result: GroupResult) -> dict[str, Any]:
    """What `result.json` says, before numbers that JSON lacks become null."""
    return {
        "status": result.status,
        "model": result.plan.model,
        "names": result.names,
        "figures": {name: {"before": a, "after": b} for name, (a, b) in result.summary().items()},
        "convention": "world is LPS mm, common space to each image: phi(x) = A (x + u(x)), A the final matrix; grids "
                      "are in array order, (z, y, x) or (y, x)",
        "initial_matrices": result.initial,
        "final_matrices": [transform.matrix for transform in result.transforms],
        "common_grid": {"shape": result.grid.shape, "affine": result.grid.affine},
        "plan": result.plan.to_dict(),
        "history": [asdict(record) for record in result.history],
        "versions": versions(),
    }
