"""Matrices as text: rows of numbers, as FSL, c3d, greedy and NiftyReg write them, and matrices between frames.

A tool counts in frames of its own, p = P x at the fixed end and q = Q y at the moving one (P, Q affine, of world LPS
mm). Its matrix N from p to q is phi = Q^-1 N P in the world.

Must not import: SimpleITK, nibabel, metrics, the engine.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import FileError, InputError, OptionError
from ..fitted import FittedTransform
from ..grid import Grid, lift, lower
from .atomic import atomic_path

#: largest file that can be a matrix, in bytes
LIMIT = 10_000


def ras(d: int) -> np.ndarray:
    """World LPS mm to RAS mm, (d + 1, d + 1)."""
    return np.diag([-1.0, -1.0, *[1.0] * (d - 1)])


def fitted(matrix: np.ndarray, fixed: Grid, path: Path) -> FittedTransform:
    """The transform of a world matrix that was read from a file."""
    if not np.isfinite(matrix).all():
        raise InputError(f"{path} holds numbers that are not finite; write it again")
    inverse(matrix, path)
    return FittedTransform.from_matrix(matrix, fixed)


def inverse(matrix: np.ndarray, path: Path) -> np.ndarray:
    """The inverse of a matrix that was read from a file."""
    if abs(np.linalg.det(matrix)) < 1e-9:
        raise InputError(f"the matrix in {path} is not invertible: {matrix.tolist()}")
    return np.linalg.inv(matrix)


def only(transform: FittedTransform, path: Path) -> np.ndarray:
    """The world matrix of a transform that is to be written as one."""
    if not transform.linear:
        raise OptionError(f"cannot write {path}: a matrix does not hold a transform of model {transform.model!r}; "
                          "write a field (.nii.gz)")
    return transform.matrix


def need_moving(moving: Grid | None, path: Path, tool: str) -> Grid:
    """The moving grid, without which one cannot go on."""
    if moving is None:
        raise OptionError(f"{path}: {tool} counts in voxels of both images, so the moving grid is needed: give moving= "
                          "(--moving); before writing, dataclasses.replace(transform, to_grid=grid)")
    return moving


def is_text(path: Path) -> bool:
    """Whether a file is rows of numbers and nothing else."""
    try:
        return bool(_rows(path))
    except FileError:
        return False


def read(path: Path) -> np.ndarray:
    """The (3, 3) or (4, 4) matrix in a text file, its last row (0, ..., 0, 1)."""
    rows = _rows(path)
    n = len(rows)
    if n not in (3, 4) or any(len(row) != n for row in rows):
        raise FileError(f"{path} is no matrix: it has {n} rows of {sorted({len(row) for row in rows})} numbers; 4 rows "
                        "of 4 are needed (3 of 3 in 2-D). It may be truncated: write it again")
    matrix = np.array(rows)
    if not np.isfinite(matrix).all():
        raise InputError(f"{path} holds numbers that are not finite; write it again")
    if not np.allclose(matrix[-1], np.eye(n)[-1], atol=1e-9):
        raise InputError(f"the last row of {path} is {matrix[-1].tolist()}; that of an affine matrix is "
                         f"{np.eye(n)[-1].tolist()}")
    return matrix


def read_for(path: Path, d: int) -> np.ndarray:
    """The matrix for d-D images, (d + 1, d + 1); of a (4, 4) one in 2-D, the part that acts in the plane."""
    matrix = read(path)
    if len(matrix) == d + 1:
        return matrix
    if d == 3:
        raise InputError(f"{path} holds a 2-D matrix (3 x 3), the image is 3-D")
    plane = lower(matrix, 2)
    if not np.allclose(lift(plane), matrix, atol=1e-6):
        raise InputError(f"{path} holds a 3-D matrix that leaves the plane: {matrix.tolist()}; the image is 2-D")
    return plane


def write(matrix: np.ndarray, path: Path) -> None:
    """Write a matrix as rows of numbers, exactly."""
    text = "".join(" ".join(f"{value + 0.0:.17g}" for value in row) + "\n" for row in matrix)  # + 0.0: no "-0"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="ascii")


def _rows(path: Path) -> list[list[float]]:
    """The numbers of a text file, row by row."""
    if path.stat().st_size > LIMIT:
        raise FileError(f"{path} is too large for a matrix ({path.stat().st_size:,} bytes); give a text file with one "
                        "row per line")
    try:
        rows = [[float(cell) for cell in line.split()] for line in path.read_text(encoding="ascii").splitlines()]
    except (UnicodeDecodeError, ValueError) as error:
        raise FileError(f"{path} is no matrix: a text file with one row of numbers per line is needed ({error})"
                        ) from error
    return [row for row in rows if row]
