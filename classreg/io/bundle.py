"""Tools that hold one transform in several files: a matrix in one format, a field in another.

    ants      .mat, .txt, .h5, .tfm as `itk` (0GenericAffine.mat, composites); .nii, .nii.gz as `displacement` (1Warp,
              1InverseWarp)
    greedy    .mat, .txt as `ras`; .nii, .nii.gz as `displacement`

Both list their files as they reslice: points of the fixed image meet the first file first,

    [warp, affine]:  phi(x) = affine(warp(x)),  as in antsApplyTransforms -t warp -t affine and greedy -r warp affine

An inverse warp lies on the fixed grid too: [affine to be inverted, inverse warp] takes moving points to fixed ones.

Must not import: SimpleITK, nibabel, metrics, the engine, cli.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..fitted import FittedTransform
from ..grid import Grid
from .files import suffix_of


@dataclass(frozen=True)
class Bundle:
    """A format that is one of two, by suffix."""

    one: Any
    other: Any
    ORDER = "first"

    @property
    def SUFFIXES(self) -> tuple[str, ...]:
        """Of both."""
        return (*self.one.SUFFIXES, *self.other.SUFFIXES)

    def read(self, path: Path, fixed: Grid, moving: Grid | None) -> FittedTransform:
        """As the format of its suffix reads it."""
        return self._of(path).read(path, fixed, moving)

    def write(self, transform: FittedTransform, path: Path) -> None:
        """As the format of its suffix writes it."""
        self._of(path).write(transform, path)

    def recognise(self, path: Path) -> bool | None:
        """Nothing in a file says that it is one of several."""
        return None if self._of(path).recognise(path) is not False else False

    def _of(self, path: Path):
        return self.one if suffix_of(path) in self.one.SUFFIXES else self.other
