"""Which slices of a grid are shown, and how they lie on the screen.

Screen rule: head up, front up, the patient's left on the right (radiological), whatever way the array axes run; a
sagittal slice faces left. In 2-D x runs to the right and y down. An oblique plane bears the name of the nearest
anatomical one. A millimetre is as high as it is wide; the axes of a sheared grid are drawn at right angles.

May import anything below; nothing imports it but `plot` and `report`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from ..errors import OptionError
from ..grid import Grid
from ..image import Image

SIDES = ("RL", "AP", "IS")  # of the patient, against and along world x, y, z
MOST = 128  # samples along an axis that the middle of a content is sought with, about
LEAN = math.sin(math.radians(22.5))  # an axis that leans more than this to a second direction bears both letters


@dataclass(frozen=True)
class Plane:
    """One array plane of a grid and how it lies on the screen.

    `axis` (None in 2-D) is held at `index`; array axis `rows` runs down and `columns` to the right, each reversed where
    `flip` says so. `size` is (height, width) and `step` the spacing along rows and columns, in mm; `edges` are the
    patient's sides at the top, right, bottom and left.
    """

    name: str
    ndim: int
    axis: int | None
    index: int
    rows: int
    columns: int
    flip: tuple[bool, bool]
    size: tuple[float, float]
    step: tuple[float, float]
    edges: tuple[str, str, str, str]

    def cut(self, array: np.ndarray) -> np.ndarray:
        """The slice of an array (..., *grid.shape) as the screen sees it: (rows, columns, ...)."""
        lead = array.ndim - self.ndim
        if self.axis is not None:
            array = array.take(self.index, axis=lead + self.axis)
        array = np.moveaxis(array, (-2, -1), (0, 1))
        if self.rows > self.columns:
            array = array.swapaxes(0, 1)
        return array[::-1 if self.flip[0] else 1, ::-1 if self.flip[1] else 1]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of the slice in mm, as `imshow` wants it."""
        return 0.0, self.size[1], self.size[0], 0.0

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the samples lie on the screen: mm to the right (columns,) and mm down (rows,)."""
        down, right = ((np.arange(round(size / step)) + 0.5) * step for size, step in zip(self.size, self.step))
        return right, down

    def motion(self, field: np.ndarray, grid: Grid) -> np.ndarray:
        """World vectors (d, *grid.shape) as they point on the screen: (rows, columns, 2), mm right and down.

        The part that leaves the plane is left out.
        """
        samples = np.einsum("rcw,aw->rca", self.cut(field).astype(float), np.linalg.inv(grid.affine[:-1, :-1]))
        right, down = (samples[..., axis] * (-mm if flip else mm) for axis, flip, mm in
                       ((self.columns, self.flip[1], self.step[1]), (self.rows, self.flip[0], self.step[0])))
        return np.stack([right, down], -1)


def planes(grid: Grid, at: Sequence[int] | None = None) -> list[Plane]:
    """The planes of a grid that are worth a panel: axial, coronal, sagittal; one in 2-D.

    Parameters
    ----------
    grid : Grid
        Any direction matrix. Planes one sample thin in the screen are left out, unless there are no others.
    at : sequence of int, optional
        Array index (z, y, x) that the planes cross in; the middle by default.

    Returns
    -------
    list of Plane
        In the order axial, coronal, sagittal.

    Raises
    ------
    OptionError
        If `at` has the wrong length or lies outside the grid.

    Examples
    --------
    >>> [plane.name for plane in planes(Grid.from_spacing((4, 5, 6)))]
    ['axial', 'coronal', 'sagittal']
    """
    d = grid.ndim
    try:
        at = [n // 2 for n in grid.shape] if at is None else [int(i) for i in at]
    except (TypeError, ValueError) as error:
        raise OptionError(f"at is {at!r}; give one array index per axis, such as {tuple(n // 2 for n in grid.shape)}"
                          ) from error
    if len(at) != d or any(not 0 <= i < n for i, n in zip(at, grid.shape)):
        raise OptionError(f"at={at} is no sample of a grid of shape {grid.shape}; "
                          "give one array index per axis, from 0 to the axis' length - 1")
    direction = grid.axes  # columns: array axes; rows: world x, y[, z]
    world = max(permutations(range(d)), key=lambda p: sum(abs(direction[w, a]) for a, w in enumerate(p)))
    found = []
    for axis in ([None] if d == 2 else range(3)):
        # the larger world axis runs down the screen: z before y before x
        columns, rows = sorted((a for a in range(d) if a != axis), key=lambda a: world[a])
        along = [direction[world[a], a] > 0 for a in (rows, columns)]
        flip = (along[0] if world[rows] == 2 else not along[0]), not along[1]
        name = "plane" if axis is None else ("sagittal", "coronal", "axial")[world[axis]]
        down, right = (direction[:, a] * (-1 if back else 1) for a, back in zip((rows, columns), flip))
        edges = ("",) * 4 if axis is None else (_side(-down), _side(right), _side(down), _side(-right))
        found.append(Plane(name, d, axis, 0 if axis is None else at[axis], rows, columns, flip,
                           (float(grid.extent[rows]), float(grid.extent[columns])),
                           (float(grid.spacing[rows]), float(grid.spacing[columns])), edges))
    found.sort(key=lambda p: p.name)  # the alphabet happens to be the usual order
    thick = [p for p in found if min(grid.shape[p.rows], grid.shape[p.columns]) > 1]
    return thick or [max(found, key=lambda p: grid.shape[p.rows] * grid.shape[p.columns])]


def _side(towards: np.ndarray) -> str:
    """The patient's side that a unit vector points to: one letter, or two where it lies between two directions."""
    order = [w for w in np.argsort(-np.abs(towards), kind="stable") if abs(towards[w]) > LEAN]
    return "".join(SIDES[w][int(towards[w] > 0)] for w in order[:2])


def centre(image: Image, mask: np.ndarray | None = None) -> list[int]:
    """Array index of the middle of what an image shows, where slices are worth a look.

    The centre of mass of the mask (by default where the image has weight), or without one of what differs from the
    border's median; brighter than 98 % of the samples counts as much as they do.

    Examples
    --------
    >>> array = np.zeros((20, 30))
    >>> array[4:9, 20:25] = 1
    >>> centre(Image(array, Grid.from_spacing((20, 30))))
    [6, 22]
    """
    mask = image.weight if mask is None else mask
    if mask is not None and (np.asarray(mask) > 0).any():
        return centre_of(np.asarray(mask) > 0)
    thin = tuple(slice((n - 1) % (n // MOST + 1) // 2, None, n // MOST + 1) for n in image.grid.shape)
    values = np.nan_to_num(image.data[0].reshape(image.grid.shape)[thin].astype(np.float32))
    border = np.ones(values.shape, bool)
    border[tuple(slice(1, -1) if n > 2 else slice(None) for n in values.shape)] = False
    mass = np.abs(values - (np.median(values[border]) if border.any() else values.min()))
    return centre_of(np.minimum(mass, np.percentile(mass, 98) or mass.max()), image.grid.shape, thin)


def centre_of(mass: np.ndarray, shape: Sequence[int] | None = None, thin: Sequence[slice] | None = None) -> list[int]:
    """Array index of the centre of mass, the middle where there is none; of `thin` samples in an array of a shape."""
    found = []
    for axis, n in enumerate(shape or mass.shape):
        index = np.arange(n)[thin[axis] if thin else slice(None)]
        sums = mass.sum(tuple(a for a in range(mass.ndim) if a != axis), dtype=float)
        total = float(sums.sum())
        found.append(int(round(float((sums * index).sum()) / total)) if total > 0 else n // 2)
    return found
