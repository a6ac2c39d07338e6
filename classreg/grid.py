"""Sampling grids in physical space: array indices <-> world millimetres.

World is LPS (x to the patient's left, y to the back, z to the head), as in ITK and DICOM. `Grid.affine` maps an array
index *in array-axis order* - (z, y, x), or (y, x) in 2-D - to a world point (x, y[, z]), so its determinant is
negative for an ordinary volume. Inside, a 2-D grid is one slice of a 3-D one (`shape3`, `affine3`).

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np

from .errors import GeometryError


def lift(matrix: np.ndarray) -> np.ndarray:
    """A world-to-world matrix (3, 3) of 2-D space as the (4, 4) that leaves z alone; 3-D ones pass."""
    matrix = np.asarray(matrix, float)
    if matrix.shape == (4, 4):
        return matrix
    out = np.eye(4)
    out[:2, :2], out[:2, 3] = matrix[:2, :2], matrix[:2, 2]
    return out


def lower(matrix: np.ndarray, ndim: int) -> np.ndarray:
    """Inverse of `lift`: the (ndim + 1, ndim + 1) matrix of a lifted world-to-world matrix."""
    if ndim == 3:
        return matrix
    keep = [0, 1, 3]
    return matrix[np.ix_(keep, keep)]


def nearest_axes(axes: np.ndarray, others: np.ndarray) -> tuple[list[int], np.ndarray]:
    """In which order and sense unit vectors lie nearest to others, both (d, d) in columns: axes[:, order] * signs.

    Examples
    --------
    >>> order, signs = nearest_axes(np.array([[0.0, -1.0], [1.0, 0.0]]), np.eye(2))
    >>> order, signs.tolist()
    ([1, 0], [-1, 1])
    """
    cosines, d = others.T @ axes, len(axes)
    order = max(permutations(range(d)), key=lambda p: np.abs(cosines[range(d), p]).sum())
    return list(order), np.where(cosines[range(d), order] < 0, -1, 1)


def _fixed(array: np.ndarray) -> np.ndarray:
    """The array, closed for writing: it is kept and handed out again."""
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular lattice of samples in world space.

    Parameters
    ----------
    shape : tuple of int
        Samples per array axis, (z, y, x) or (y, x).
    affine : array, (d + 1, d + 1)
        Array index (array-axis order) to world LPS mm (x, y[, z]). Oblique and sheared matrices are allowed.

    Raises
    ------
    GeometryError
        If the shape is empty, or the matrix is not finite or singular.

    Examples
    --------
    >>> grid = Grid.from_spacing((10, 20, 30), spacing=(3.0, 1.0, 1.0))
    >>> grid.to_world([[1, 0, 0]])
    array([[0., 0., 3.]])
    """

    shape: tuple[int, ...]
    affine: np.ndarray

    def __post_init__(self):
        shape = tuple(int(n) for n in self.shape)
        d = len(shape)
        if d not in (2, 3):
            raise GeometryError(f"a grid has 2 or 3 axes, this one has {d} (shape {shape})")
        if min(shape) < 1:
            raise GeometryError(f"every axis needs at least one sample; the shape is {shape}")
        affine = np.array(self.affine, dtype=float, order="C")  # kernels are compiled for one layout
        if affine.shape != (d + 1, d + 1):
            raise GeometryError(f"the affine of a {d}-D grid is {(d + 1, d + 1)}, not {affine.shape}")
        if not np.isfinite(affine).all():
            raise GeometryError(f"the affine has non-finite entries: {affine.tolist()}")
        norms = np.linalg.norm(affine[:d, :d], axis=0)
        if norms.min() <= 0 or abs(np.linalg.det(affine[:d, :d] / np.where(norms > 0, norms, 1))) < 1e-6:
            raise GeometryError(
                f"the direction matrix is singular (spacing {norms.tolist()}): its axes span no {d}-D space; "
                "check the header's orientation")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def from_spacing(cls, shape, spacing=None, origin=None, direction=None) -> Grid:
        """A grid from spacing per array axis (mm), origin (world x, y[, z]) and direction (columns x, y[, z])."""
        d = len(shape)
        spacing = np.ones(d) if spacing is None else np.broadcast_to(np.asarray(spacing, float), (d,))
        if not (np.isfinite(spacing).all() and (spacing > 0).all()):
            raise GeometryError("spacing must be positive and finite, one value per array axis; "
                                f"got {spacing.tolist()}")
        direction = np.eye(d) if direction is None else np.asarray(direction, float).reshape(d, d)
        affine = np.eye(d + 1)
        affine[:d, :d] = (direction * spacing[::-1])[:, ::-1]
        affine[:d, d] = 0 if origin is None else origin
        return cls(tuple(shape), affine)

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of samples."""
        return int(np.prod(self.shape))

    @cached_property
    def spacing(self) -> np.ndarray:
        """Distance of neighbours in mm along each array axis, (d,)."""
        return _fixed(np.linalg.norm(self.affine[:-1, :-1], axis=0))

    @property
    def axes(self) -> np.ndarray:
        """Unit vectors of the array axes in world space, in columns, (d, d)."""
        return self.affine[:-1, :-1] / self.spacing

    @property
    def direction(self) -> np.ndarray:
        """Those of the axes x, y[, z], (d, d), as ITK has them and `from_spacing` takes them."""
        return self.axes[:, ::-1]

    @cached_property
    def resolution(self) -> float:
        """Smallest spacing in mm among the axes with more than one sample."""
        long = [s for s, n in zip(self.spacing, self.shape) if n > 1]
        return float(min(long)) if long else float(self.spacing.min())

    @property
    def shape3(self) -> tuple[int, int, int]:
        """Shape of the grid as a volume: (1, y, x) for a 2-D grid."""
        return self.shape if self.ndim == 3 else (1, *self.shape)

    @cached_property
    def affine3(self) -> np.ndarray:
        """Index (z, y, x) to world (x, y, z), (4, 4); a 2-D grid lies in the plane z = 0."""
        if self.ndim == 3:
            return self.affine
        out = np.zeros((4, 4))
        out[2, 0] = out[3, 3] = 1
        out[:2, 1:3], out[:2, 3] = self.affine[:2, :2], self.affine[:2, 2]
        return _fixed(out)

    @cached_property
    def inverse3(self) -> np.ndarray:
        """World to index (z, y, x), (4, 4): the inverse of `affine3`."""
        return _fixed(np.linalg.inv(self.affine3))

    @cached_property
    def spacing3(self) -> np.ndarray:
        """Spacing along the axes of `shape3`, (3,); 1 along the slice axis of a 2-D grid."""
        return _fixed(np.linalg.norm(self.affine3[:3, :3], axis=0))

    @cached_property
    def centre(self) -> np.ndarray:
        """World point in the middle of the grid, (d,)."""
        return _fixed(self.to_world((np.array(self.shape) - 1) / 2.0))

    @property
    def extent(self) -> np.ndarray:
        """Physical size in mm along each array axis, voxels counted whole, (d,)."""
        return self.spacing * self.shape

    @property
    def voxel_volume(self) -> float:
        """mm^d."""
        return float(abs(np.linalg.det(self.affine[:-1, :-1])))

    def to_world(self, index) -> np.ndarray:
        """Array indices (..., d), fractional allowed, to world points (..., d) in mm."""
        return np.asarray(index, float) @ self.affine[:-1, :-1].T + self.affine[:-1, -1]

    def to_index(self, points) -> np.ndarray:
        """World points (..., d) in mm to array indices (..., d)."""
        offset = np.asarray(points, float) - self.affine[:-1, -1]
        return np.linalg.solve(self.affine[:-1, :-1], offset[..., None])[..., 0]

    def points(self) -> np.ndarray:
        """World points of all samples, (*shape, d) float64."""
        return self.to_world(np.stack(np.meshgrid(*map(np.arange, self.shape), indexing="ij"), -1))

    def corners(self) -> np.ndarray:
        """World points of the outermost sample centres, (2**d, d)."""
        ends = np.stack(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij"), -1)
        return self.to_world(ends.reshape(-1, self.ndim))

    def coarsen(self, factors) -> Grid:
        """The grid with `factors` (per axis) fewer samples over the same extent; never along a one-sample axis.

        A coarse sample lies at the middle of the fine ones it stands for, so no half-voxel shift appears.
        """
        factors = np.broadcast_to(np.asarray(factors, float), (self.ndim,))
        shape = tuple(max(1, int(np.ceil(n / f))) if n > 1 else 1 for n, f in zip(self.shape, factors))
        scale = np.array([f if n > 1 else 1.0 for n, f in zip(self.shape, factors)])
        start = (np.array(self.shape) - 1 - (np.array(shape) - 1) * scale) / 2
        affine = self.affine.copy()
        affine[:-1, :-1] = self.affine[:-1, :-1] * scale
        affine[:-1, -1] = self.to_world(start)
        return Grid(shape, affine)

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both have one shape and their corners agree within `tolerance` voxels."""
        if self.shape != other.shape:
            return False
        return bool(np.abs(self.to_index(other.corners()) - self.to_index(self.corners())).max() <= tolerance)

    def __repr__(self):
        spacing = " x ".join(f"{s:.4g}" for s in self.spacing)
        shape = " x ".join(map(str, self.shape))
        return f"Grid({shape}, spacing {spacing} mm, centre {np.round(self.centre, 2).tolist()})"
