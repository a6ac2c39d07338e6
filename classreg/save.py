"""A finished registration as files in a folder, each whole or not at all.

    warped.nii.gz                  the moving image on the fixed grid
    transform.tfm | transform.h5   the transform as ITK reads it: linear | deformable
    displacement.nii.gz            phi(x) - x in mm, as ANTs reads it
    velocity.npz                   of models that have one: the transform with its exact inverse
    result.json                    plan, history, figures, status, matrices, versions; no file names
    report.html                    the pictures and the curves

May import anything below; nothing imports it but a lazy call of `Result.save`.
"""

from __future__ import annotations

import json
import math
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np

from . import __version__
from .io import save_image
from .io.atomic import atomic_path, writable_folder
from .io.transforms import write_transform
from .report import write_report
from .result import Result

LIBRARIES = ("numpy", "scipy", "numba", "SimpleITK")
TRANSFORMS = ("transform.tfm", "transform.h5")
VELOCITY = "velocity.npz"


def save(result: Result, folder: str | os.PathLike) -> None:
    """Write a result into a folder, which is made if it is not there; files of a former result are replaced.

    Parameters
    ----------
    result : Result
        Of any model, 2-D or 3-D.
    folder : path
        Where to write.

    Raises
    ------
    FileError
        If the folder cannot be made or written, before anything else is done; or if a file cannot be
        completed.

    Examples
    --------
    >>> import tempfile, classreg, classreg.datasets
    >>> pair = classreg.datasets.head_phantom(8.0, ndim=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(classreg.register(pair.fixed, pair.moving, model="rigid"), folder)
    ...     sorted(os.listdir(folder))
    ['displacement.nii.gz', 'report.html', 'result.json', 'transform.tfm', 'warped.nii.gz']
    """
    folder = writable_folder(folder)
    name, former = TRANSFORMS if result.transform.linear else TRANSFORMS[::-1]
    save_image(result.warped, folder / "warped.nii.gz")
    write_transform(result.transform, folder / name)
    (folder / former).unlink(missing_ok=True)  # of another model: it would contradict the rest
    write_transform(result.transform, folder / "displacement.nii.gz", format="displacement")
    if result.transform.flows:
        write_transform(result.transform, folder / VELOCITY, format="velocity")
    else:
        (folder / VELOCITY).unlink(missing_ok=True)
    with atomic_path(folder / "result.json") as temporary:
        text = json.dumps(plain(describe(result)), indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    write_report(folder / "report.html", fixed=result.fixed, before=result.before, after=result.warped,
                 displacement=result.transform.displacement(), jacobian=result.jacobian,
                 history=[asdict(record) for record in result.history], figures=result.summary(),
                 plan=str(result.plan), status=result.status, title=f"Registration: {result.plan.model}",
                 notes=result.plan.notes, deformation=result.transform.on(result.fixed.grid).field)


def describe(result: Result) -> dict[str, Any]:
    """What `result.json` says, before numbers that JSON lacks become null."""
    grid = result.fixed.grid
    return {
        "status": result.status,
        "model": result.transform.model,
        "figures": {name: {"before": a, "after": b} for name, (a, b) in result.summary().items()},
        "convention": "world is LPS mm, fixed to moving: phi(x) = A (x + u(x)), A the final matrix; grids "
                      "are in array order, (z, y, x) or (y, x)",
        "initial_matrix": result.initial,
        "final_matrix": result.transform.matrix,
        "fixed_grid": {"shape": grid.shape, "affine": grid.affine},
        "plan": result.plan.to_dict(),
        "history": [asdict(record) for record in result.history],
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of this package, of Python and of the libraries that numbers come from."""
    return {"classreg": __version__, "python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def plain(value: Any) -> Any:
    """Arrays as lists, numbers as Python's, those that are not finite as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
