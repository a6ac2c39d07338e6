"""Transforms of NiftyReg (reg_aladin, reg_f3d, reg_transform): matrices .txt and "NREG_TRANS" NIfTIs.

NiftyReg takes reference to floating (fixed to moving) in RAS mm: phi(x) = L N(L x), L = diag(-1, -1, 1).

    .txt   4 rows of 4 numbers, in 2-D too
    .nii   vectors (x, y, z, 1, 3), in 2-D (x, y, 1, 1, 2); the first parameter of the intent says of what:

    0  deformation             N(x), absolute positions, interpolated linearly
    1  displacement            N(x) - x
    2  control points          N(x) = sum over k of B(index of x - k) c_k, absolute positions, cubic; c_k - x_k goes on
                               beyond the lattice as at its border. Point 1 lies at the reference's first voxel
    3  velocity                x + v(x),  N = exp(v)
    4                          v(x)
    5  velocity's points       x + v(x) = sum over k of B(index of x - k) c_k at the voxels of the fixed image
    6  linear control points   as 2, with B of order 1

exp(v) - id is u = v / 2^n, n times u <- u + u o (id + u), as in NiftyReg; n is the second parameter of the intent, and
v turns round where it is negative. The header may have two extensions, matrices in RAS mm: E1 S(E0 x) is N then for a
spline S, and E1 (E0 x + exp(w)(x) - x), w(x) = v(E0 x), for its velocity.

Control points are read as a B-spline, exactly, velocities as fields. Written are: a matrix as .txt; a B-spline as
control points, A within them; other models, and matrices as .nii, as a deformation. `niftyreg-deformation` and
`niftyreg-displacement` write these of any model.

Must not import: SimpleITK, metrics, the engine, cli. nibabel is imported on first use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FileError, InputError, OptionError
from ..fitted import FittedTransform
from ..grid import Grid, lift, lower
from ..image import Image
from ..mapping import Mapping
from ..transforms import BSpline
from ..transforms.dense import compose
from . import lattice, matrices, ras, vectors
from .atomic import atomic_path
from .files import suffix_of
from .vectors import turned

NAME = "NREG_TRANS"
DEFORMATION, DISPLACEMENT, POINTS, VELOCITY, BARE_VELOCITY, VELOCITY_POINTS, LINEAR_POINTS = range(7)
MOST = 30  # squarings
GRIDS = (POINTS, VELOCITY_POINTS, LINEAR_POINTS)


@dataclass(frozen=True)
class NiftyReg:
    """The format, by what a deformable transform is written as: its own, a deformation or a displacement."""

    kind: int | None = None

    @property
    def SUFFIXES(self) -> tuple[str, ...]:
        """.txt of matrices, .nii and .nii.gz."""
        return (*((".txt",) if self.kind is None else ()), *vectors.SUFFIXES)

    def read(self, path: Path, fixed: Grid, moving: Grid | None = None) -> FittedTransform:
        """The transform in a file, whatever it is of."""
        if suffix_of(path) == ".txt":
            return ras.read(path, fixed)
        kind, steps, before, after = _header(path, fixed.ndim)
        u, grid = vectors.read(path, fixed.ndim)
        u = u.astype(float)
        u[:2] *= -1
        if kind not in (DISPLACEMENT, BARE_VELOCITY):
            u -= _moved(before if kind == VELOCITY else np.eye(len(before)), grid)
        back, matrix = np.linalg.inv(before), after @ before
        if kind in GRIDS:  # a spline of E0 x
            grid = Grid(grid.shape, back @ grid.affine)
        if kind in (POINTS, VELOCITY_POINTS):
            found = lattice.spline(*lattice.widened(grid, turned(back, u), fixed), matrix, fixed)
            if kind == POINTS:
                return found
            u, grid = turned(before, found.on(fixed).field), fixed
        if kind in (VELOCITY, BARE_VELOCITY, VELOCITY_POINTS):
            u = _exponential(u, grid, steps)
        return FittedTransform.from_mapping(Mapping(matrix, turned(back, u).astype(np.float32), grid), fixed)

    def write(self, transform: FittedTransform, path: Path) -> None:
        """Write a transform that NiftyReg maps points with as classreg does inside the fixed image."""
        flip, d = matrices.ras(transform.ndim), transform.ndim
        if suffix_of(path) == ".txt":
            if not transform.linear:
                raise FileError(f"cannot write {path}: NiftyReg has a transform of model {transform.model!r} as .nii "
                                "or .nii.gz")
            matrices.write(lift(flip @ transform.matrix @ flip), path)
            return
        own = transform.transform.grid
        if d == 3 and own.shape[0] == 1:
            raise OptionError(f"cannot write {path}: NiftyReg takes an image of one slice for a 2-D one, without a "
                              "place in space; write another format")
        kind = self.kind
        if kind is None:
            kind = POINTS if isinstance(transform.transform, BSpline) else DEFORMATION
        if kind == POINTS:
            grid, u = lattice.exported(transform, before=0)
            out = _moved(transform.matrix, grid) + turned(transform.matrix, u)
        else:
            grid, out = own, transform.displacement(own).astype(float)
            if kind == DEFORMATION:
                out += _moved(np.eye(d + 1), grid)
        out[:2] *= -1
        _write(out.astype(np.float32), grid, path, kind)


    def recognise(self, path: Path) -> bool | None:
        """Whether the header says so, under its own name; no matrix does."""
        if suffix_of(path) == ".txt":
            return None if matrices.is_text(path) else False
        if vectors.head(path)[2] != NAME:
            return False
        return True if self.kind is None else None


def _header(path: Path, d: int) -> tuple[int, int, np.ndarray, np.ndarray]:
    """What the vectors are, the number of squarings, and the matrices E0 and E1 in LPS, (d + 1, d + 1)."""
    import nibabel as nib

    name = vectors.head(path)[2]
    if name != NAME:
        raise InputError(f"{path} is no transform of NiftyReg: the intent's name in its header is {name!r} and not "
                         f"{NAME!r}; other displacement fields are read by the name of their format")
    header = nib.load(path).header
    kind, steps = float(header["intent_p1"]), float(header["intent_p2"])
    if kind not in range(7):
        raise InputError(f"{path} holds a transform of NiftyReg of a kind {kind:g}; known are 0 to 6")
    if not abs(steps) <= MOST:
        raise InputError(f"{path} asks for {steps:g} squarings of its velocity; at most {MOST} make sense")
    found = [e.get_content() for e in header.extensions]
    flip, around = matrices.ras(d), [np.eye(d + 1)] * 2
    for k, content in enumerate(found[:2] if kind not in (DEFORMATION, DISPLACEMENT) else ()):
        if not isinstance(content, bytes) or len(content) < 64:
            raise InputError(f"{path}: header extension {k + 1} holds no matrix; reg_transform -def turns such a file "
                             "into a field")
        matrix = np.frombuffer(content[:64], "<f4").reshape(4, 4).astype(float)
        if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-9:
            raise InputError(f"{path}: the matrix in header extension {k + 1} is not invertible: {matrix.tolist()}")
        around[k] = flip @ lower(matrix, d) @ flip
    return int(kind), int(round(steps)), *around


def _exponential(v: np.ndarray, grid: Grid, steps: int) -> np.ndarray:
    """exp(v) - id by a number of squarings, negative to turn v round; 0 leaves it to NiftyReg's rule."""
    if steps == 0:  # components below 0.28 mm, 0.35 mm in 2-D, and at least 6
        largest = max(float(np.abs(v).max()), 1e-9)
        steps = max(6, int(np.ceil(np.log2(largest / (0.28 if grid.ndim == 3 else 0.35)) + 1e-9)))
    u = np.ascontiguousarray(v / (np.sign(steps) * 2.0 ** abs(steps)), np.float32).reshape((-1, *grid.shape3))
    for _ in range(abs(steps)):
        u = compose(u, u, grid, np.empty_like(u))
    return u.reshape(v.shape)


def _moved(matrix: np.ndarray, grid: Grid) -> np.ndarray:
    """The samples of a grid through a world matrix, (d, *grid.shape)."""
    return np.moveaxis(grid.points() @ matrix[:-1, :-1].T + matrix[:-1, -1], -1, 0)


def _write(field: np.ndarray, grid: Grid, path: Path, kind: int) -> None:
    """Write vectors (d, *grid.shape) with the header of a kind."""
    import nibabel as nib

    image = Image(field, grid).to_nibabel()
    out = nib.Nifti1Image(np.asarray(image.dataobj)[:, :, :, None, :], image.affine, image.header)
    out.header.set_intent("vector", (), NAME)
    out.header["intent_p1"] = kind
    out.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nib.save(out, temporary)
