"""Displacements as the Learn2Reg challenge holds them: in voxels, component k along axis k, from fixed to moving.

    moving voxel = fixed voxel + d(fixed voxel):  phi(x) = M (F^-1 x + d),  F and M from voxels (x, y, z) to world

so that the moving grid is needed, and headers of the files count for nothing: the fixed grid does.

    .nii, .nii.gz    (x, y, z, 3), float32, as `displacement-voxel` but without a grid of its own
    .npz             key arr_0, (3, x / 2, y / 2, z / 2), float16: half resolution, or (3, x, y, z)

Half resolution is brought to the full one as the challenge's script does, `scipy.ndimage.zoom(d, 2, order=2)`: first
and last samples fall together. Written, it is sampled there; what it cannot hold is lost, and float16 rounds to 1/128
voxel between 8 and 16 voxels.

Source: MDL-UzL/L2R, evaluation; Hering et al., IEEE TMI 42 (2023), doi:10.1109/TMI.2022.3213983.

Must not import: SimpleITK, metrics, the engine, cli. nibabel is imported on first use.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import zoom

from ..errors import InputError, OptionError
from ..fitted import FittedTransform
from ..grid import Grid
from . import matrices, npz, vectors
from .files import suffix_of

SUFFIXES = (*vectors.SUFFIXES, ".npz")
KEY = "arr_0"


def read(path: Path, fixed: Grid, moving: Grid | None) -> FittedTransform:
    """The field on the fixed grid."""
    q = vectors.pixel(matrices.need_moving(moving, path, "Learn2Reg"))
    if fixed.ndim == 2:
        raise InputError(f"{path}: Learn2Reg's fields are volumes, the image is 2-D")
    if suffix_of(path) == ".npz":
        field = npz.arrays(path, KEY)[KEY]
        if field.ndim != 4 or len(field) != 3 or field.dtype.kind != "f":
            raise InputError(f"{path} holds {field.dtype} of shape {field.shape}; floating point numbers of shape "
                             "(3, x, y, z) are needed")
        field = np.transpose(field, (0, 3, 2, 1)).astype(np.float32)
        if tuple(2 * n for n in field.shape[1:]) == fixed.shape:
            field = np.stack([zoom(component, 2, order=2) for component in field])
    else:
        field, _ = vectors.read(path, 3)
    vectors.fitting(field, fixed, path)
    return FittedTransform.from_mapping(vectors.from_frames(field, fixed, vectors.pixel(fixed), q), fixed)


def write(transform: FittedTransform, path: Path) -> None:
    """The field on the grid of the first end: in full as NIfTI, at half resolution as .npz."""
    q = vectors.pixel(matrices.need_moving(transform.to_grid, path, "Learn2Reg"))
    grid = transform.grid
    if grid.ndim == 2:
        raise OptionError(f"cannot write {path}: Learn2Reg's fields are volumes, the transform is 2-D")
    p = vectors.pixel(grid)
    if suffix_of(path) == ".npz":
        field = vectors.to_frames(transform, half(grid, path), p, q)
        npz.save(path, **{KEY: np.transpose(field, (0, 3, 2, 1)).astype(np.float16)})
    else:
        vectors.write(vectors.to_frames(transform, grid, p, q), grid, path, axes=4, intent="none")


def recognise(path: Path) -> bool | None:
    """By the name of the array in a .npz; a NIfTI does not say what it is."""
    if suffix_of(path) == ".npz":
        return KEY in npz.names(path)
    shape, intent, _ = vectors.head(path)
    return None if len(shape) == 4 and intent == 0 else False


def half(grid: Grid, path: Path) -> Grid:
    """Half as many samples along each axis, the first and last of each in common."""
    if any(n % 2 or n < 4 for n in grid.shape):
        raise OptionError(f"cannot write {path}: half resolution needs even numbers of voxels, 4 or more; the grid has "
                          f"{grid.shape[::-1]} (x, y, z). Write .nii.gz")
    affine = grid.affine.copy()
    affine[:3, :3] *= [(n - 1) / (n // 2 - 1) for n in grid.shape]
    return Grid(tuple(n // 2 for n in grid.shape), affine)
