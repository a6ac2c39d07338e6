"""Displacement fields as NIfTI: phi(x) - x on the field's own grid, (x, y, z, 1, 3), in 2-D (x, y, 1, 1, 2).

    displacement         mm, components along world x, y, z in LPS, intent 1007 (vector): ITK, SimpleITK, ANTs, greedy.
                         Of intent 1006 (displacement vector) NIfTI says that they are RAS, and ITK reads them so
    displacement-ras     mm, components in RAS, intent 1006
    displacement-voxel   voxels, component k along axis k of the file: moving voxel = fixed voxel + d, as networks warp
                         arrays, no intent: phi(x) = M (F^-1 x + d), F and M from voxels to world. Needs the moving
                         grid; headers count for nothing, since networks write any: the fixed grid does

Files of shape (x, y, z, 3) are read too. Outside its grid a field keeps its border value in classreg and is zero in
ITK. On a sheared fixed grid, which ITK cannot hold, fields in mm are written on an orthonormal grid that covers it.

Must not import: SimpleITK, metrics, the engine, cli. nibabel is imported on first use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..fitted import FittedTransform
from ..grid import Grid
from . import vectors
from .matrices import need_moving, ras

VECTOR, RAS_VECTOR = 1007, 1006
INTENTS = {"lps": "vector", "ras": "displacement vector", "voxel": "none"}  # what is written, so that it is told again


@dataclass(frozen=True)
class Displacement:
    """A format of displacement NIfTIs, by the unit of its vectors: lps, ras or voxel."""

    unit: str
    SUFFIXES = vectors.SUFFIXES

    def read(self, path: Path, fixed: Grid, moving: Grid | None) -> FittedTransform:
        """The field, in mm on its own grid, in voxels on the fixed one."""
        _, intent, name = vectors.head(path)
        if intent not in (0, VECTOR, RAS_VECTOR) or name.startswith("NREG"):
            raise InputError(f"{path} declares to be of another tool (intent {intent} {name!r}); name its format")
        field, grid = vectors.read(path, fixed.ndim)
        if self.unit == "lps" and intent == RAS_VECTOR:
            field[:2] *= -1
        if self.unit == "voxel":
            grid = vectors.fitting(field, fixed, path)
        return FittedTransform.from_mapping(vectors.from_frames(field, grid, *self._frames(grid, moving, path)), fixed)

    def write(self, transform: FittedTransform, path: Path) -> None:
        """The total displacement, in mm on the grid that the transform was fitted on, in voxels on the first end's."""
        grid = transform.grid if self.unit == "voxel" else vectors.orthonormal(transform.transform.grid)
        frames = self._frames(grid, transform.to_grid, path)
        vectors.write(vectors.to_frames(transform, grid, *frames), grid, path, intent=INTENTS[self.unit])

    def recognise(self, path: Path) -> bool | None:
        """Vectors in ITK's layout are LPS mm, but for tools that have their own meaning for them."""
        shape, intent, name = vectors.head(path)
        if intent not in (0, VECTOR, RAS_VECTOR) or name.startswith("NREG") or len(shape) < 4:
            return False
        return True if self.unit == "lps" and intent and len(shape) == 5 else None

    def _frames(self, grid: Grid, moving: Grid | None, path: Path) -> tuple[np.ndarray, np.ndarray]:
        if self.unit == "voxel":
            return vectors.pixel(grid), vectors.pixel(need_moving(moving, path, "a field in voxels"))
        world = np.eye(grid.ndim + 1) if self.unit == "lps" else ras(grid.ndim)
        return world, world
