"""What a method gives, as a transform; and transforms as the files that they are scored from.

    .tfm       linear
    .h5        B-splines, exact
    .nii.gz    everything else: phi(x) - x in mm on the fixed grid, float32

all of which ITK reads.

Must not import: metrics, optimisers, engine, faces.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from .. import api
from ..errors import InputError
from ..fitted import FittedTransform
from ..grid import Grid
from ..image import Image, real_numbers
from ..io.transforms import read_transform, write_transform
from ..mapping import Mapping
from ..planning import Plan
from ..result import Result
from ..transforms import BSpline

#: suffix -> format, see `classreg.io.transforms`
SAVED = {".tfm": "itk", ".h5": "itk", ".nii.gz": "displacement"}


def asked(call: Callable, fixed: Image, moving: Image, threads: int):
    """What a method gives for two images; a `Plan` is run."""
    found = call(fixed, moving)
    return api.register(fixed, moving, plan=found, threads=threads) if isinstance(found, Plan) else found


def as_transform(given, fixed: Image, moving: Image) -> FittedTransform:
    """The transform that a method gave.

    Parameters
    ----------
    given : FittedTransform, Result, Mapping or array
        From fixed to moving; a world matrix (d + 1, d + 1), or a displacement phi(x) - x in mm on the fixed grid,
        (d, *grid.shape), components x, y[, z].
    fixed, moving : Image

    Raises
    ------
    InputError
        If it is anything else, of another dimension, or not finite.
    """
    grid, d = fixed.grid, fixed.grid.ndim
    if isinstance(given, Result):
        given = given.transform
    if isinstance(given, FittedTransform):
        found = given
    elif isinstance(given, Mapping):
        found = FittedTransform.from_mapping(given, grid, moving.grid)
    else:
        array = real_numbers(given, "what the method gave")
        if array.shape not in ((d + 1, d + 1), (d, *grid.shape)):
            raise InputError(f"the method gave a {type(given).__name__} of shape {array.shape}; it must give a "
                             f"FittedTransform, a Result, a world matrix {(d + 1, d + 1)}, or a displacement in mm on "
                             f"the fixed grid {(d, *grid.shape)}")
        if not np.isfinite(array).all():
            raise InputError(f"{int((~np.isfinite(array)).sum())} of {array.size} numbers that the method gave are not "
                             "finite")
        if array.shape == (d + 1, d + 1):
            found = FittedTransform.from_matrix(array, grid, moving.grid)
        else:
            found = FittedTransform.from_mapping(Mapping(np.eye(d + 1), array.astype(np.float32), grid), grid,
                                                 moving.grid)
    if found.ndim != d:
        raise InputError(f"the method gave a {found.ndim}-D transform; the images are {d}-D")
    if not np.isfinite(found.theta).all():
        raise InputError(f"{int((~np.isfinite(found.theta)).sum())} parameters of the transform are not finite")
    return found


def save_transform(transform: FittedTransform, stem: Path) -> Path:
    """Write a transform beside others of its name; its path, which is the stem and a suffix."""
    suffix = ".tfm" if transform.linear else ".h5" if isinstance(transform.transform, BSpline) else ".nii.gz"
    path = stem.with_name(stem.name + suffix)
    write_transform(transform, path, format=SAVED[suffix])
    return path


def read_saved(path: Path, fixed: Grid, moving: Grid) -> FittedTransform:
    """What `save_transform` wrote."""
    suffix = next(suffix for suffix in SAVED if path.name.endswith(suffix))
    return read_transform(path, fixed, moving, format=SAVED[suffix])
