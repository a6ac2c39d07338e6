"""World matrices in RAS mm as text, as greedy and c3d_affine_tool hold them.

    4 rows of 4 numbers (3 of 3 in 2-D), from fixed to moving:  phi(x) = L N L x,  L = diag(-1, -1, 1, 1)

Must not import: SimpleITK, nibabel, metrics, the engine, cli.
"""

from __future__ import annotations

from pathlib import Path

from ..fitted import FittedTransform
from ..grid import Grid
from . import matrices

SUFFIXES = (".mat", ".txt")


def read(path: Path, fixed: Grid, moving: Grid | None = None) -> FittedTransform:
    """The matrix in a text file."""
    flip = matrices.ras(fixed.ndim)
    return matrices.fitted(flip @ matrices.read_for(path, fixed.ndim) @ flip, fixed, path)


def write(transform: FittedTransform, path: Path) -> None:
    """Write a linear transform."""
    flip = matrices.ras(transform.ndim)
    matrices.write(flip @ matrices.only(transform, path) @ flip, path)


def recognise(path: Path) -> bool | None:
    """No file says that it is one; one that is not a matrix is none."""
    return None if matrices.is_text(path) else False
