"""Displacement fields as NIfTI: phi(x) - x on the field's own grid, (x, y, z, 1, 3), in 2-D (x, y, 1, 1, 2).

    displacement         mm, components along world x, y, z in LPS, intent 1007 (vector): ITK, SimpleITK, ANTs, greedy.
                         Of intent 1006 (displacement vector) NIfTI says that they are RAS, and ITK reads them so
    displacement-ras     mm, components in RAS
    displacement-voxel   voxels, component k along axis k of the file: moving voxel = fixed voxel + d, as networks warp
                         arrays. Needs the moving grid: phi(x) = M (F^-1 x + d), F and M from voxel to world

Files of shape (x, y, z, 3) are read too. Outside its grid a field keeps its border value in classreg and is zero in
ITK. On a sheared fixed grid, which ITK cannot hold, fields in mm are written on an orthonormal grid that covers it.

Must not import: SimpleITK, metrics, the engine, cli. nibabel is imported on first use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, OptionError
from ..fitted import FittedTransform
from ..grid import Grid
from . import vectors
from .matrices import ras

VECTOR, RAS_VECTOR = 1007, 1006


@dataclass(frozen=True)
class Displacement:
    """A format of displacement NIfTIs, by the unit of its vectors: lps, ras or voxel."""

    unit: str
    SUFFIXES = vectors.SUFFIXES

    def read(self, path: Path, fixed: Grid, moving: Grid | None) -> FittedTransform:
        """The field on its own grid."""
        if self.unit == "voxel":
            need_moving(moving, path)
        _, intent, name = vectors.head(path)
        if intent not in (0, VECTOR, RAS_VECTOR) or name.startswith("NREG"):
            raise InputError(f"{path} declares to be of another tool (intent {intent} {name!r}); name its format")
        field, grid = vectors.read(path, fixed.ndim)
        if self.unit == "lps" and intent == RAS_VECTOR:
            field[:2] *= -1
        p, q = self._frames(grid, moving)
        return FittedTransform.from_mapping(vectors.from_frames(field, grid, p, q), fixed)

    def write(self, transform: FittedTransform, path: Path) -> None:
        """The total displacement on the grid that the transform was fitted on."""
        if self.unit == "voxel":
            need_moving(transform.to_grid, path)
        grid = transform.transform.grid
        grid = grid if self.unit == "voxel" else vectors.orthonormal(grid)
        vectors.write(vectors.to_frames(transform, grid, *self._frames(grid, transform.to_grid)), grid, path)

    def _frames(self, grid: Grid, moving: Grid | None) -> tuple[np.ndarray, np.ndarray]:
        if self.unit == "voxel":
            return vectors.pixel(grid), vectors.pixel(moving)
        world = np.eye(grid.ndim + 1) if self.unit == "lps" else ras(grid.ndim)
        return world, world


class Vectors(Displacement):
    """Displacement NIfTIs in LPS mm, which are the ones whose header declares vectors."""

    def recognise(self, path: Path) -> bool:
        """Whether the header declares vectors in ITK's layout, and no tool that has its own meaning for them."""
        shape, intent, name = vectors.head(path)
        return len(shape) == 5 and intent in (VECTOR, RAS_VECTOR) and not name.startswith("NREG")


def need_moving(moving: Grid | None, path: Path) -> None:
    """Refuse to go on without the moving grid."""
    if moving is None:
        raise OptionError(f"{path} counts in voxels of both images, so the moving grid is needed: read with moving=; "
                          "before writing, dataclasses.replace(transform, to_grid=grid)")
