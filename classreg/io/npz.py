"""Displacement fields as NumPy archives, complete in themselves:

    displacement    phi(x) - x in mm, (d, z, y, x) float32, in 2-D (d, y, x); components along world x, y, z (LPS)
    affine          array index (z, y, x) to world LPS mm, (d + 1, d + 1); where it is missing, the fixed grid is meant

Archives are read without pickle: an object array is refused.

Must not import: SimpleITK, nibabel, metrics, the engine, cli.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from ..errors import FileError, InputError
from ..fitted import FittedTransform
from ..grid import Grid
from ..mapping import Mapping
from .atomic import atomic_path
from .files import GZIP_RATIO, check_declared, reason

SUFFIXES = (".npz",)
KEY = "displacement"


def read(path: Path, fixed: Grid, moving: Grid | None = None) -> FittedTransform:
    """The field on its own grid."""
    found, d = arrays(path, KEY), fixed.ndim
    field = found[KEY]
    if field.ndim != d + 1 or len(field) != d or field.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {field.dtype} of shape {field.shape}; for {d}-D images numbers of shape "
                         f"({d}, {'z, ' if d == 3 else ''}y, x) are needed")
    if "affine" in found:
        try:
            grid = Grid(field.shape[1:], found["affine"])
        except (ValueError, TypeError) as error:
            raise InputError(f"the affine in {path} cannot be used: {error}") from error
    elif field.shape[1:] == fixed.shape:
        grid = fixed
    else:
        raise InputError(f"{path} has no affine, and its shape {field.shape[1:]} is not that of the fixed grid, "
                         f"{fixed.shape}")
    return FittedTransform.from_mapping(Mapping(np.eye(d + 1), field.astype(np.float32), grid), fixed)


def write(transform: FittedTransform, path: Path) -> None:
    """The total displacement on the grid that the transform was fitted on."""
    grid = transform.transform.grid
    save(path, displacement=transform.displacement(grid), affine=grid.affine)


def recognise(path: Path) -> bool:
    """By the name of the array."""
    return KEY in names(path)


def names(path: Path) -> set[str]:
    """What the arrays of an archive are called."""
    with _opened(path) as found:
        return {name.removesuffix(".npy") for name in found.namelist()}


def arrays(path: Path, needed: str) -> dict[str, np.ndarray]:
    """All arrays of an archive, among them the one that is needed."""
    with _opened(path) as found:
        check_declared(sum(info.file_size for info in found.infolist()), path, GZIP_RATIO)
    if needed not in names(path):
        raise InputError(f"{path} holds no array {needed!r} but {', '.join(sorted(names(path))) or 'nothing'}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged file, or one that would run code
        raise FileError(f"cannot read {path}, which is truncated, damaged or no plain array: {reason(error)}"
                        ) from error


def save(path: Path, **named: np.ndarray) -> None:
    """Write an archive, compressed."""
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **named)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise FileError(f"cannot read {path} as a NumPy archive, it is truncated or of another kind: {reason(error)}"
                        ) from error
