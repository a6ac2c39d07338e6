"""What a registration returns.

Must not import: registries, matplotlib; files are written by `io` and `report`, loaded when `save` is called.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .engine import Record
from .fitted import FittedTransform
from .image import Image
from .planning import Plan


@dataclass(frozen=True, eq=False)
class Result:
    """A finished registration.

    Attributes
    ----------
    transform : FittedTransform
        Fixed world to moving world.
    fixed, moving : Image
        As they came in.
    history : list of Record
        One per iteration.
    status : str
        How the run ended, a sentence.
    plan : Plan
        What was run, fully resolved.
    initial : array, (d + 1, d + 1)
        The matrix that the run began with.
    seconds : float
    """

    transform: FittedTransform
    fixed: Image
    moving: Image
    history: list[Record]
    status: str
    plan: Plan
    initial: np.ndarray
    seconds: float

    @cached_property
    def warped(self) -> Image:
        """The moving image on the fixed grid, linear interpolation (labels by vote)."""
        from .resample import resample

        return resample(self.transform, self.moving, self.fixed.grid)

    @cached_property
    def before(self) -> Image:
        """The moving image on the fixed grid as the headers place it."""
        from .resample import resample

        still = FittedTransform.from_matrix(np.eye(self.fixed.grid.ndim + 1), self.fixed.grid, self.moving.grid)
        return resample(still, self.moving, self.fixed.grid)

    @cached_property
    def jacobian(self) -> np.ndarray:
        """Jacobian determinant of the transform on the fixed grid."""
        return self.transform.jacobian_determinant()

    def summary(self) -> dict[str, tuple[Any, Any]]:
        """Figures before and after: correlation, folding (%), Jacobian determinant, motion (mm), seconds."""
        det = self.jacobian
        u = np.sqrt((self.transform.displacement() ** 2).sum(0))
        return {
            "correlation": (_correlation(self.fixed, self.before), _correlation(self.fixed, self.warped)),
            "smallest Jacobian determinant": (1.0, float(det.min())),
            "largest Jacobian determinant": (1.0, float(det.max())),
            "folded voxels (%)": (0.0, 100 * float((det <= 0).mean())),
            "mean motion (mm)": (0.0, float(u.mean())),
            "largest motion (mm)": (0.0, float(u.max())),
            "time (s)": (None, self.seconds),
        }

    def save(self, folder: str | os.PathLike) -> None:
        """Write warped image, transform, displacement field, `result.json` and `report.html` into a folder.

        Each file appears whole or not at all.

        Raises
        ------
        FileError
            If the folder cannot be written.
        """
        from .save import save

        save(self, folder)


def _correlation(a: Image, b: Image) -> float:
    """Correlation of the first channels over the whole grid."""
    x, y = a.data[0].astype(np.float64).ravel(), b.data[0].astype(np.float64).ravel()
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt(np.sum(x * x) * np.sum(y * y))
    return float(np.sum(x * y) / norm) if norm > 0 else 0.0
