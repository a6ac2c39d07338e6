"""Transform parameter files of elastix and transformix, .txt.

World and direction are those of classreg (LPS mm, fixed to moving). A file holds one transform, T_last, and the name of
the file of the one before, T_initial, or "NoInitialTransform":

    HowToCombineTransforms "Compose"    T(x) = T_last(T_initial(x)), the default
                           "Add"        T(x) = T_initial(x) + T_last(x) - x

    TranslationTransform                      x + t
    EulerTransform, SimilarityTransform,
    AffineTransform, AffineLogTransform       L (x - c) + c + t, L = R | s R | any | exp(M)
                                              R = Rz Rx Ry, with ComputeZYX Rz Ry Rx; of a similarity a versor
    BSplineTransform, RecursiveBSplineTransform   x + sum over k of B((x - x_k) / spacing) u_k, B of order 1, 2 or 3
    DeformationFieldTransform                 x + u(x), u in DeformationFieldFileName, linear or nearest

Directions are written column by column. With UseDirectionCosines "false" the elastix program takes both images for
upright: x stands for o + D^-1 (x - o) on either side, which needs the moving grid.

One cubic B-spline with linear transforms before and after it is read as a spline, exactly; one field keeps its own
samples; other chains are sampled on the fixed grid. Outside its grid u keeps its border value in classreg and is zero
in elastix. A file that is not found where another says it is, from that one's folder, is looked for beside that one.

Written are: a linear model as AffineTransform; a spline, A within it, as one BSplineTransform; other models as
DeformationFieldTransform with the total displacement in NAME.field.mha beside the file, named by its absolute path,
since transformix looks for relative ones in its working folder.

Must not import: metrics, the engine, cli. SimpleITK and nibabel are imported on first use.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.linalg import expm
from scipy.ndimage import map_coordinates

from ..errors import InputError, OptionError, unknown
from ..fitted import FittedTransform
from ..grid import Grid
from ..image import Image
from ..mapping import Mapping
from ..transforms import BSpline
from ..transforms.linear import euler_to_matrix, quaternion_to_matrix
from . import lattice, vectors
from .atomic import atomic_path
from .displacement import Displacement
from .elastix_file import INITIAL, NONE, File, chain
from .elastix_text import dump
from .files import suffix_of
from .images import load, save_image
from .vectors import turned

SUFFIXES = (".txt",)
COMBINE = ("Compose", "Add")
FIELDS = Displacement("lps")

log = logging.getLogger("classreg")


def read(path: Path, fixed: Grid, moving: Grid | None = None) -> FittedTransform:
    """The whole chain of transforms that ends in a file."""
    files, parts = chain(Path(path)), []
    for file in files:
        for end in ("Fixed", "Moving"):
            if (d := int(file.numbers(f"{end}ImageDimension", 1, [fixed.ndim])[0])) != fixed.ndim:
                raise InputError(f"{file.path} is of a {d}-D {end.lower()} image, the image is {fixed.ndim}-D")
        if (kind := file.text("Transform")) not in KINDS:
            raise InputError(f"{file.path}: {unknown('transform', kind, KINDS)}")
        how = file.text("HowToCombineTransforms", "Compose")
        if how not in COMBINE:
            raise InputError(f"{file.path}: {unknown('HowToCombineTransforms', how, COMBINE)}")
        parts.append((KINDS[kind](file, fixed.ndim), how == "Add"))
    begin = end = np.eye(fixed.ndim + 1)
    if not files[-1].flag("UseDirectionCosines", True):
        begin, end = _upright(fixed), _end(fixed, moving, files[-1].path)
    return _combined(parts, begin, end, fixed, files[-1].path)


def recognise(path: Path) -> bool:
    """Whether the first line that is no comment is a parameter."""
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = (line.strip().lstrip("\ufeff") for line in file.read(1 << 16).splitlines())
    return next((re.match(r"\(\s*\w+\s", line) is not None for line in lines if line and line[:2] != "//"), False)


def write(transform: FittedTransform, path: Path) -> None:
    """Write a transform that transformix maps points and images with as classreg does inside the fixed image."""
    path, d, fixed = Path(path), transform.ndim, vectors.orthonormal(transform.grid)
    if transform.linear:
        centre = transform.transform.centre
        linear = transform.matrix[:d, :d]
        shift = linear @ centre + transform.matrix[:d, d] - centre
        own = {"Transform": ["AffineTransform"], "TransformParameters": [*linear.ravel(), *shift],
               "CenterOfRotationPoint": centre}
    elif isinstance(transform.transform, BSpline) and vectors.orthonormal(at := transform.transform.grid) is at:
        points, u = lattice.exported(transform)
        where = np.moveaxis(points.points(), -1, 0)
        u = turned(transform.matrix, where + u) - where
        u += transform.matrix[:d, d].reshape((d,) + (1,) * d)
        own = {"Transform": ["BSplineTransform"], "TransformParameters": u.ravel(), "BSplineTransformSplineOrder": [3],
               "UseCyclicTransform": [False], **_geometry(points, "Grid")}
    else:
        grid = vectors.orthonormal(transform.transform.grid)
        field = path.resolve().with_name(f"{path.stem}.field.mha")  # a NIfTI of one slice would be 2-D to ITK
        save_image(Image(transform.displacement(grid), grid), field)
        own = {"Transform": ["DeformationFieldTransform"], "TransformParameters": [],
               "DeformationFieldFileName": [str(field)], "DeformationFieldInterpolationOrder": [1]}
    text = dump({
        "Transform": own.pop("Transform"), "NumberOfParameters": [len(own["TransformParameters"])],
        **{key: values for key, values in own.items() if len(values)},
        INITIAL[0]: [NONE], "HowToCombineTransforms": ["Compose"],
        "FixedImageDimension": [d], "MovingImageDimension": [d],
        "FixedInternalImagePixelType": ["float"], "MovingInternalImagePixelType": ["float"],
        **_geometry(fixed), "UseDirectionCosines": [True],
        "ResampleInterpolator": ["FinalBSplineInterpolator"], "FinalBSplineInterpolationOrder": [3],
        "Resampler": ["DefaultResampler"], "DefaultPixelValue": [0], "ResultImageFormat": ["nii.gz"],
        "ResultImagePixelType": ["float"], "CompressResultImage": [True]})
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _geometry(grid: Grid, prefix: str = "") -> dict[str, list]:
    """Size, index, spacing, origin and direction along x, y[, z] of a grid, as parameters."""
    found = {"Size": grid.shape[::-1], "Index": [0] * grid.ndim, "Spacing": grid.spacing[::-1],
             "Origin": grid.affine[:-1, -1], "Direction": grid.direction.T.ravel()}
    return {prefix + name: value for name, value in found.items()}


# ------------------------------------------------------------------------------------------------ transforms
@dataclass(frozen=True)
class Bent:
    """x + u(x), u_k on a grid, by B-splines of an order (0: nearest, 1: linear); zero from `rim` before its ends on."""

    grid: Grid
    u: np.ndarray
    order: int
    rim: float

    def displacement(self, points: np.ndarray) -> np.ndarray:
        """u at world points (n, d)."""
        index = self.grid.to_index(points)
        inside = ((index >= self.rim) & (index < np.array(self.grid.shape) - 1 - self.rim)).all(1)
        out = np.zeros_like(points)
        for k, component in enumerate(self.u):
            out[inside, k] = map_coordinates(component, index[inside].T, order=self.order, mode="nearest",
                                             prefilter=False)
        return out


def _translation(file: File, d: int) -> np.ndarray:
    return _about(np.eye(d), file.parameters(d), np.zeros(d))


def _euler(file: File, d: int) -> np.ndarray:
    numbers = file.parameters(3 if d == 2 else 6)
    if d == 2:
        turn = euler_to_matrix((0, 0, numbers[0]))[:2, :2]
    elif file.flag("ComputeZYX", False):
        turn = euler_to_matrix(numbers[:3])
    else:
        ax, ay, az = numbers[:3]
        turn = euler_to_matrix((0, 0, az)) @ euler_to_matrix((ax, 0, 0)) @ euler_to_matrix((0, ay, 0))
    return _about(turn, numbers[-d:], _centre(file, d))


def _similarity(file: File, d: int) -> np.ndarray:
    numbers = file.parameters(4 if d == 2 else 7)
    if d == 2:
        return _about(numbers[0] * euler_to_matrix((0, 0, numbers[1]))[:2, :2], numbers[2:], _centre(file, d))
    real = np.sqrt(max(0.0, 1 - np.sum(numbers[:3] ** 2)))
    return _about(numbers[6] * quaternion_to_matrix((real, *numbers[:3])), numbers[3:6], _centre(file, d))


def _affine(file: File, d: int) -> np.ndarray:
    numbers = file.parameters(d * d + d)
    return _about(numbers[:-d].reshape(d, d), numbers[-d:], _centre(file, d))


def _affine_log(file: File, d: int) -> np.ndarray:
    numbers = file.parameters(d * d + d)
    return _about(expm(numbers[:-d].reshape(d, d)), numbers[-d:], _centre(file, d))


def _centre(file: File, d: int) -> np.ndarray:
    return file.numbers("CenterOfRotationPoint", d)


def _about(linear: np.ndarray, shift: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """L (x - c) + c + t as a world matrix."""
    out = np.eye(len(shift) + 1)
    out[:-1, :-1], out[:-1, -1] = linear, shift + centre - linear @ centre
    return out


def _bspline(file: File, d: int) -> Bent:
    if file.flag("UseCyclicTransform", False):
        raise InputError(f"{file.path} is a cyclic B-spline, which classreg has none of")
    order = file.numbers("BSplineTransformSplineOrder", 1, [3])[0]
    if order not in (1, 2, 3):
        raise InputError(f"{file.path}: BSplineTransformSplineOrder is {order:g}; elastix has 1, 2 and 3")
    size = file.numbers("GridSize", d)
    if (size % 1 != 0).any() or size.min() <= order:
        raise InputError(f"{file.path}: GridSize is {size.tolist()}; a spline of order {order:g} has at least "
                         f"{order + 1:g} control points along each axis")
    shape = tuple(int(n) for n in size[::-1])
    direction = file.numbers("GridDirection", d * d, np.eye(d).ravel()).reshape(d, d).T
    spacing, origin = file.numbers("GridSpacing", d), file.numbers("GridOrigin", d)
    origin = origin + direction @ (spacing * file.numbers("GridIndex", d, [0] * d))
    u = file.parameters(d * int(np.prod(size)))
    grid = Grid.from_spacing(shape, spacing[::-1], origin, direction)
    return Bent(grid, u.reshape((d, *shape)), int(order), (order - 1) / 2)


def _field(file: File, d: int) -> Bent:
    order = file.numbers("DeformationFieldInterpolationOrder", 1, [0])[0]
    if order not in (0, 1):
        raise InputError(f"{file.path}: DeformationFieldInterpolationOrder is {order:g}; elastix has 0 and 1")
    path = file.beside(file.text("DeformationFieldFileName"))
    if suffix_of(path) in vectors.SUFFIXES:
        found = FIELDS.read(path, Grid((1,) * d, np.eye(d + 1)), None).mapping()
        return Bent(found.grid, found.field.astype(float), int(order), -0.5)
    found = load(path, channels="last")
    if found.grid.ndim != d or found.channels != d:
        raise InputError(f"{path} is no field of {d}-D vectors: it has {found.channels} components on {found.grid}")
    return Bent(found.grid, found.array.astype(float), int(order), -0.5)


KINDS = {"TranslationTransform": _translation, "EulerTransform": _euler, "SimilarityTransform": _similarity,
         "AffineTransform": _affine, "AffineLogTransform": _affine_log, "BSplineTransform": _bspline,
         "RecursiveBSplineTransform": _bspline, "DeformationFieldTransform": _field}


# ------------------------------------------------------------------------------------------------ all together
def _upright(grid: Grid) -> np.ndarray:
    """World to the world in which the grid has no direction: o + D^-1 (x - o)."""
    d, (origin, axes) = grid.ndim, (grid.affine[:-1, -1], grid.axes)
    return _about(np.linalg.inv(axes[:, ::-1]), np.zeros(d), origin)


def _end(fixed: Grid, moving: Grid | None, path: Path) -> np.ndarray:
    """From the world without directions to that of the moving image."""
    if moving is None:
        raise OptionError(f"{path} was made with UseDirectionCosines \"false\": to undo it needs the moving grid, give "
                          "moving=")
    one, out = np.eye(fixed.ndim + 1), np.linalg.inv(_upright(moving))
    if max(np.abs(_upright(fixed) - one).max(), np.abs(out - one).max()) > 1e-9:
        log.warning("%s says UseDirectionCosines \"false\", and is read as the elastix program means it: both images "
                    "upright. The library (itk-elastix) registers in the world all the same; if it made this file, set "
                    "it to \"true\"", path)
    return out


def _combined(parts, begin: np.ndarray, end: np.ndarray, fixed: Grid, path: Path) -> FittedTransform:
    """end T begin, T the parts one after another: as A x + v(x) with one v where that is all, else sampled."""
    d, one = fixed.ndim, np.eye(fixed.ndim + 1)
    matrix, bent = begin, []
    for part, add in parts:
        if isinstance(part, Bent):
            from_grid = np.linalg.inv(begin if add else matrix) @ part.grid.affine
            bent.append(Bent(Grid(part.grid.shape, from_grid), part.u, part.order, part.rim))
        elif add:
            matrix = matrix + (part - one) @ begin
        else:
            matrix = part @ matrix
            bent = [Bent(b.grid, turned(part, b.u), b.order, b.rim) for b in bent]
        if abs(np.linalg.det(matrix)) < 1e-9:
            raise InputError(f"the matrix in {path} is not invertible: {matrix.tolist()}")
    matrix = end @ matrix
    if not bent:
        return FittedTransform.from_matrix(matrix, fixed)
    if len(bent) == 1:
        grid, u = bent[0].grid, turned(np.linalg.inv(matrix) @ end, bent[0].u)
        vectors.covered(grid, fixed, path)
        if bent[0].order == 3 and (found := lattice.spline(grid, u, matrix, fixed)) is not None:
            return found
        inside = bent[0].rim < 0 or lattice.holds(grid, fixed)
        if bent[0].order == 1 and inside:
            return FittedTransform.from_mapping(Mapping(matrix, u, grid), fixed)
    start = _moved(begin, fixed.points().reshape(-1, d))
    x = start
    for part, add in parts:
        at = start if add else x
        x = (x - at) + (at + part.displacement(at) if isinstance(part, Bent) else _moved(part, at))
    u = _moved(np.linalg.inv(matrix) @ end, x) - fixed.points().reshape(-1, d)
    u = np.ascontiguousarray(u.T.reshape((d, *fixed.shape)), np.float32)
    return FittedTransform.from_mapping(Mapping(matrix, u, fixed), fixed)


def _moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """World points (n, d) through a world matrix."""
    return points @ matrix[:-1, :-1].T + matrix[:-1, -1]
