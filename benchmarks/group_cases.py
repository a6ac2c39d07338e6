"""Groups with a known truth, for `groups.py`: contrasts of one subject, moved on purpose; slices of many subjects.

With M_j the motion of image j, T_j = M_j^-1 takes its points to where they truly lie. Moved by its header, an image
keeps all its samples, and its grid goes with the anatomy; moved by resampling, it keeps its grid, and loses what that
does not hold. A deformed image is I_j(y + v_j(y)), v_j a cubic B-spline, so that T_j(y) = y + v_j(y).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from classreg.evaluate import group_errors
from classreg.fitted import FittedTransform
from classreg.grid import Grid
from classreg.image import Image
from classreg.io import load
from classreg.mapping import Mapping
from classreg.pyramid import shrink
from classreg.resample import resample
from classreg.transforms import BSpline
from classreg.transforms.linear import euler_to_matrix

#: group -> its contrasts, of one subject, in one space
CONTRASTS = {
    "brain-4-contrasts": ("t1", "t1c", "t2", "fla"),
    "brain-t1-t2-pd": ("t1", "t2", "pd"),
    "brain-2d-t1-t2": ("t1", "t2"),
}

#: largest turn about each axis, degrees, and shift along each, mm; uniform
RANGES = {"still": (0.0, 0.0), "easy": (20.0, 20.0), "hard": (45.0, 40.0)}

#: distance of the control points of a known deformation, mm, and their largest displacement as a share of it
CELL, SHARE = 20.0, 0.4

#: errors are measured at so many points of the foreground, about
POINTS = 2000


@dataclass(frozen=True, eq=False)
class Group:
    """Images on one grid that show one anatomy, where it is, and its labels if there are any."""

    images: list[Image]
    foreground: np.ndarray
    labels: np.ndarray | None = None

    @property
    def grid(self) -> Grid:
        """What all are sampled on."""
        return self.images[0].grid

    @property
    def points(self) -> np.ndarray:
        """World points of the foreground."""
        index = np.argwhere(self.foreground)
        return self.grid.to_world(index[::max(1, len(index) // POINTS)])


@lru_cache(4)
def contrasts(data: Path, name: str, ndim: int, resolution: float) -> Group:
    """A group of CONTRASTS at a resolution in mm: the volumes, or one axial slice of them.

    Volumes with a mask are cut to its box; the slice is that with most labels, or the middle one.
    """
    folder = data / "groups" / name
    images = [_floats(load(folder / f"{contrast}.nii.gz")) for contrast in CONTRASTS[name]]
    extra = {kind: load(folder / f"{kind}.nii.gz") for kind in ("mask", "labels")
             if (folder / f"{kind}.nii.gz").is_file()}
    mask = extra.get("mask") or Image((images[0].array > images[0].array.mean()).astype(np.uint8), images[0].grid)
    parts = [*images, mask, *([extra["labels"]] if "labels" in extra else [])]
    if ndim == 2 and images[0].grid.ndim == 3:
        counted = (parts[-1] if "labels" in extra else mask).array > 0
        k = int(np.argmax(counted.sum((1, 2)))) if "labels" in extra else len(counted) // 2
        parts = [_slice(image, k) for image in parts]
    elif "mask" in extra:
        parts = [_box(image, np.argwhere(mask.array > 0), round(2 * resolution)) for image in parts]
    small = [shrink(image, resolution) for image in parts[:len(images)]]
    still = FittedTransform.from_matrix(np.eye(ndim + 1), small[0].grid)
    maps = [resample(still, image, small[0].grid, "nearest").array for image in parts[len(images):]]
    return Group(small, maps[0] > 0, maps[1] if len(maps) > 1 else None)


def _floats(image: Image) -> Image:
    return Image(image.array.astype(np.float32), image.grid)


def _slice(image: Image, k: int) -> Image:
    """An axial slice as an image of the plane."""
    affine = np.eye(3)
    affine[:2, :2] = image.grid.affine[:2, 1:3]
    affine[:2, 2] = image.grid.to_world([[k, 0, 0]])[0, :2]
    return Image(image.array[k], Grid(image.array.shape[1:], affine))


def _box(image: Image, index: np.ndarray, margin: int) -> Image:
    """What lies within `margin` samples of the box around some."""
    low = np.maximum(index.min(0) - margin, 0)
    high = np.minimum(index.max(0) + margin + 1, image.grid.shape)
    affine = image.grid.affine.copy()
    affine[:-1, -1] = image.grid.to_world([low])[0]
    array = image.array[tuple(slice(a, b) for a, b in zip(low, high))]
    return Image(np.ascontiguousarray(array), Grid(array.shape, affine))


def motions(centre: np.ndarray, kind: str, count: int, draw: int) -> list[np.ndarray]:
    """World matrices of random rigid motions about a point."""
    (turn, shift), d = RANGES[kind], len(centre)
    rng, out = np.random.default_rng([draw, list(RANGES).index(kind), d]), []
    for _ in range(count):
        angles = np.deg2rad(rng.uniform(-turn, turn, 3)) * ([1, 1, 1] if d == 3 else [0, 0, 1])
        matrix, rotation = np.eye(d + 1), euler_to_matrix(angles)[:d, :d]
        matrix[:d, :d], matrix[:d, d] = rotation, centre - rotation @ centre + rng.uniform(-shift, shift, d)
        out.append(matrix)
    return out


def moved(images: list[Image], matrices: list[np.ndarray], cut: bool) -> tuple[list[Image], list[Mapping]]:
    """The images after their motions, by header or (`cut`) by resampling on their grids; and where points truly lie."""
    out, truths = [], [Mapping(np.linalg.inv(matrix)) for matrix in matrices]
    for image, matrix, truth in zip(images, matrices, truths):
        if cut:
            back = FittedTransform.from_matrix(truth.matrix, image.grid, image.grid)
            out.append(resample(back, image, image.grid, "cubic"))
        else:
            out.append(Image(image.array, Grid(image.grid.shape, matrix @ image.grid.affine)))
    return out, truths


def rigid_errors(matrices: list[np.ndarray], truths: list[Mapping], points: np.ndarray) -> float:
    """gRE in mm, at those points of the common space that the images say, on average, the given ones lie at."""
    mean = np.mean([truth.matrix @ matrix for truth, matrix in zip(truths, matrices)], axis=0)
    d = len(mean) - 1
    u, _, vt = np.linalg.svd(mean[:d, :d])
    flip = np.diag([*np.ones(d - 1), np.linalg.det(u @ vt)])
    at = (points - mean[:d, d]) @ (u @ flip @ vt)
    return group_errors([Mapping(matrix) for matrix in matrices], truths, at)["gre"]


def deformations(grid: Grid, count: int, draw: int) -> list[np.ndarray]:
    """Displacements (d, *grid.shape) in mm of random cubic B-splines."""
    rng, eye = np.random.default_rng([draw, count, grid.ndim]), np.eye(grid.ndim + 1)
    spline, out = BSpline(grid, CELL, eye), []
    for _ in range(count):
        theta = rng.uniform(-SHARE * CELL, SHARE * CELL, spline.identity().shape).astype(np.float32)
        out.append(FittedTransform("bspline", spline, theta, grid, grid).displacement())
    return out


def deformed(image: Image, field: np.ndarray, interpolation: str) -> Image:
    """I(y + v(y)) on the image's grid."""
    mapping = Mapping(np.eye(image.grid.ndim + 1), field, image.grid)
    return resample(FittedTransform.from_mapping(mapping, image.grid, image.grid), image, image.grid, interpolation)


@lru_cache(1)
def subjects(data: Path) -> tuple[list[Image], list[Image], list[int]]:
    """Slices of subjects, their label maps, and the labels to score."""
    folder = data / "groups" / "brain-2d-labelled"
    numbers = sorted(path.name[len("image_"):] for path in folder.glob("image_*.nii.gz"))
    wanted = json.loads((folder / "case.json").read_text())["evaluation_labels"]
    return ([_floats(load(folder / f"image_{n}")) for n in numbers], [load(folder / f"labels_{n}") for n in numbers],
            wanted)
