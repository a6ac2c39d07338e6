"""Labels: overlap of label maps, as memberships that are warped along. No unit, 0 where all agree, 1 at worst.

    weight * (1 - mean over labels l of D_l),   D_l = 2 sum f_l m_l / sum (f_l^2 + m_l^2)

f_l and m_l(phi) are memberships of label l, 0 to 1: one where the map has the label, brought to a level's resolution
and interpolated linearly as images are; beyond the moving map its border goes on, so that the value is smooth in phi
there too. d D_l / d m = 2 (f_l - D_l m_l) / sum (f_l^2 + m_l^2).
The smooth Dice coefficient of Milletari et al., 3DV 2016, doi:10.1109/3DV.2016.79.

Must not import: optimisers, engine, numba, cupy, file libraries.
"""

from __future__ import annotations

from collections.abc import Collection
from numbers import Real

import numpy as np

from ..backend import workspace
from ..bounds import number
from ..errors import InputError, OptionError
from ..grid import Grid
from ..image import Image
from ..kernels.cpu import pointwise
from ..mapping import Mapping
from ..pyramid import shrink
from ..sampling import sample


class Labels:
    """Overlap of label maps.

    Parameters
    ----------
    fixed, moving : Image
        Label maps in the spaces of the two images, on any grids: whole numbers, of any dtype.
    labels : list of int, optional
        Those that count; by default all but 0 that both maps have. Each takes two images of a level's size.
    weight : float
    """

    def __init__(self, fixed: Image, moving: Image, labels: list | None = None, weight: float = 1.0):
        for name, image in (("fixed", fixed), ("moving", moving)):
            if image.channels != 1:
                raise InputError(f"labels: the {name} map has {image.channels} channels; a label map has one")
        if fixed.grid.ndim != moving.grid.ndim:
            raise InputError(f"labels: the fixed map is {fixed.grid.ndim}-D, the moving one {moving.grid.ndim}-D")
        found = [_labels_of(image, name) for name, image in (("fixed", fixed), ("moving", moving))]
        wanted = sorted((found[0] & found[1]) - {0}) if labels is None else _checked(labels)
        if not wanted or not set(wanted) <= found[0] & found[1]:
            raise InputError(f"labels: {wanted or 'none'} wanted, of which both maps must have every one; the fixed "
                             f"map has {_some(found[0])}, the moving one {_some(found[1])}")
        self.fixed, self.moving, self.labels = fixed, moving, wanted
        self.weight = number("labels: weight", weight, 0)

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return self.fixed.grid.ndim

    def prepare(self, grid: Grid, dtype=np.float32) -> None:
        """Memberships at the level's resolution, the fixed ones on its grid."""
        self._grid = grid
        here = Mapping(np.eye(grid.ndim + 1))
        self._fixed = np.empty((len(self.labels), *grid.shape3), dtype)
        moved = []
        for out, label in zip(self._fixed, self.labels):
            values, weight, _ = sample(_member(self.fixed, label, grid, dtype), here, grid, name="labels")
            np.multiply(values[0], weight, out=out)
            moved.append(_member(self.moving, label, grid, dtype))
        self._moving = Image(np.stack([part.array for part in moved]), moved[0].grid)

    def __call__(self, theta: np.ndarray, transform) -> tuple[float, np.ndarray]:
        """Value, and gradient in the tangent."""
        ws = workspace()
        phi, back = transform.forward(theta, self._grid)
        warped, weight, image_back = sample(self._moving, phi, self._grid, name="labels")
        weight[...] = 1
        adjoint = ws.buffer("labels adjoint", warped.shape, warped.dtype)
        overlap = 0.0
        for f, m, out in zip(self._fixed, warped, adjoint):
            sums = ws.total(pointwise.moments, f.shape[0], 6, f, m, weight)
            both = max(sums[3] + sums[4], 1e-12)
            dice = 2 * sums[5] / both
            overlap += dice / len(self.labels)
            scale = -2 * self.weight / (both * len(self.labels))
            ws.run(pointwise.combine, f.shape[0], f, m, weight, scale, -scale * dice, 0.0, out)
        return float(self.weight * (1 - overlap)), back(image_back, adjoint)


def _member(image: Image, label, grid: Grid, dtype) -> Image:
    """1 where the map has a label, at the resolution of a grid."""
    return shrink(Image((image.array.reshape(image.grid.shape) == label).astype(dtype), image.grid), grid.resolution)


def _labels_of(image: Image, name: str) -> set[int]:
    """What labels a map has; InputError where its values are no labels."""
    values = np.unique(image.array)
    if values.dtype.kind == "f" and (bad := values[~np.isfinite(values) | (values != np.rint(values))]).size:
        raise InputError(f"labels: the {name} map has values that are no whole numbers, such as {bad[0]:g}; a label "
                         "map has one whole number per label: resample it with interpolation='nearest' or 'label'")
    return set(map(int, values.tolist()))


def _checked(labels) -> list[int]:
    """Labels that are asked for, whole numbers; or OptionError."""
    if not (isinstance(labels, Collection) and getattr(labels, "ndim", 1) == 1
            and all(isinstance(v, Real) and not isinstance(v, bool) and v // 1 == v for v in labels)):
        raise OptionError("labels: `labels` is a list of whole numbers, such as [1, 2], or None for all that both maps "
                          f"have; got {labels!r}")
    return [int(v) for v in labels]


def _some(found) -> str:
    found = sorted(found)
    return f"{found[:12]}{' ...' if len(found) > 12 else ''}"
