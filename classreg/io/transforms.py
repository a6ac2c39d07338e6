"""Transforms in and out of other tools: one door, and one format per tool behind it.

A format is a module of this package, or an object, with

    SUFFIXES                         what its files end in
    read(path, fixed, moving)        the transform from fixed to moving; both grids, moving may be None
    write(transform, path)
    recognise(path) -> bool | None   optional: whether a file shows that it is of this format and no other (True) or
                                     cannot be (False); None, as without the function, where nothing says so
    ORDER                            optional: which of a list of files points meet first, the "first" or the "last"

and one line in `FORMATS`. The formula of each stands in its own docstring. World is LPS mm inside, and phi takes
fixed world points to moving world points, whatever the file holds.

Must not import: metrics, the engine, cli. SimpleITK and nibabel are imported on first use.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, InputError, OptionError, unknown
from ..fitted import FittedTransform
from ..grid import Grid
from ..image import Image
from . import elastix, itk, learn2reg, niftyreg, npz, ras, vectors, velocity
from .bundle import Bundle
from .displacement import Displacement
from .files import existing, path_of, suffix_of
from .fsl import FSL

log = logging.getLogger("classreg")

#: part of the image below which a warning says that a field leaves much of it out
COVERED = 0.9

_VECTORS = Displacement("lps")

#: name -> format
FORMATS: dict[str, Any] = {
    "itk": itk,
    "ants": Bundle(itk, _VECTORS),
    "greedy": Bundle(ras, _VECTORS),
    "ras": ras,
    "fsl": FSL("either"),
    "fsl-relative": FSL("relative"),
    "fsl-absolute": FSL("absolute"),
    "displacement": _VECTORS,
    "displacement-ras": Displacement("ras"),
    "displacement-voxel": Displacement("voxel"),
    "learn2reg": learn2reg,
    "npz": npz,
    "velocity": velocity,
    "elastix": elastix,
    "niftyreg": niftyreg.NiftyReg(),
    "niftyreg-deformation": niftyreg.NiftyReg(niftyreg.DEFORMATION),
    "niftyreg-displacement": niftyreg.NiftyReg(niftyreg.DISPLACEMENT),
}


def read_transform(path, fixed, moving=None, *, format: str = "auto", inverse: bool | Sequence[bool] = False,
                   frm: str = "fixed", to: str = "moving") -> FittedTransform:
    """Read a transform that another tool, or `write_transform`, wrote.

    Parameters
    ----------
    path : path or list of paths
        A list is composed in the order of the tool whose format is named.
    fixed, moving : Grid or Image
        At both ends. The moving one is needed where a file counts in its voxels, and for points in index or pixel
        coordinates.
    format : str
        A name in `FORMATS`, or auto: by suffix and content.
    inverse : bool, or list of bool with a list of paths
        Whether a file takes moving points to fixed ones, on the moving grid, and is to be turned round.
    frm, to : str
        What the ends are called.

    Returns
    -------
    FittedTransform
        From `frm` to `to`. A field keeps its own grid.

    Raises
    ------
    FileError
        If a file is missing, truncated, damaged, or of no format that is known or can be told.
    InputError
        If it does not fit: its dimension, shape or place, numbers that are not finite, a matrix that is singular.
    OptionError
        If the format is unknown, needs the moving grid, or has no order for a list.

    Examples
    --------
    >>> import tempfile
    >>> grid = Grid.from_spacing((9, 7), 2.0)
    >>> shift = FittedTransform.from_matrix([[1, 0, 3], [0, 1, -4], [0, 0, 1]], grid)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_transform(shift, folder + "/a.tfm")
    ...     read_transform(folder + "/a.tfm", grid).map_points([[5.0, 6.0]])
    array([[8., 2.]])
    """
    _check_format(format)
    fixed, moving = _grid(fixed, "fixed"), None if moving is None else _grid(moving, "moving")
    if moving is not None and moving.ndim != fixed.ndim:
        raise InputError(f"the fixed grid is {fixed.ndim}-D, the moving one {moving.ndim}-D; both need one dimension")
    if isinstance(path, (list, tuple)):
        found = _read_list(list(path), fixed, moving, format, inverse)
    else:
        found = _read_one(path, fixed, moving, format, inverse)
    return replace(found, grid=fixed, to_grid=moving, frm=frm, to=to)


def write_transform(transform: FittedTransform, path, *, format: str = "auto") -> None:
    """Write a transform for another tool.

    Parameters
    ----------
    transform : FittedTransform
        Of any model; some formats hold linear ones only, and some need its `to_grid`.
    path : path or list of two paths
        A file of that name is replaced once the new one is complete. A list takes the warp x + u(x) and the matrix A of
        phi(x) = A (x + u(x)) apart, in the order of the tool whose format is named.
    format : str
        A name in `FORMATS`, or auto: by suffix, where only one format has it.

    Raises
    ------
    FileError
        If the suffix does not fit, or the file cannot be written; no part of it is left then.
    InputError
        If `transform` is not a FittedTransform.
    OptionError
        If the format is unknown, or cannot hold this transform.

    Examples
    --------
    >>> import tempfile
    >>> shift = FittedTransform.from_matrix([[1, 0, 3], [0, 1, -4], [0, 0, 1]], Grid.from_spacing((9, 7)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_transform(shift, folder + "/u.nii.gz", format="displacement")
    ...     read_transform(folder + "/u.nii.gz", shift.grid).map_points([[5.0, 6.0]])
    array([[8., 2.]])
    """
    if not isinstance(transform, FittedTransform):
        raise InputError(f"a FittedTransform is needed, not {type(transform).__name__}; for a result give "
                         "result.transform, for a matrix FittedTransform.from_matrix(matrix, grid)")
    _check_format(format)
    parts, paths = [transform], [path]
    if isinstance(path, (list, tuple)):
        first = _order(format, len(path)) != "last"
        if len(path) != 2 or transform.linear:
            raise OptionError("a list is two files, the warp and the matrix of a deformable transform; got "
                              f"{len(path)} for one of model {transform.model!r}")
        parts, paths = transform.parts(), path if first else path[::-1]
    paths = [path_of(target) for target in paths]
    if len({target.resolve() for target in paths}) < len(paths):
        raise OptionError(f"the warp and the matrix cannot both be {paths[0]}; give two names")
    formats = [_format(_by_suffix(target) if format == "auto" else format, target, "write") for target in paths]
    for part, target, found in zip(parts, paths, formats):
        found.write(part, target)


def suffixes() -> tuple[str, ...]:
    """What files of transforms end in."""
    return tuple(sorted({suffix for found in FORMATS.values() for suffix in found.SUFFIXES}))


def _check_format(format) -> None:
    if not isinstance(format, str):
        raise OptionError(f"format is a name, one of {', '.join([*FORMATS, 'auto'])}; got {format!r}")
    if format not in FORMATS and format != "auto":
        raise unknown("format", format, [*FORMATS, "auto"])


def _grid(given, name: str) -> Grid:
    grid = given.grid if isinstance(given, Image) else given
    if not isinstance(grid, Grid):
        raise InputError(f"{name} is a Grid or an Image, to tell where the transform lies; got a "
                         f"{type(given).__name__}: classreg.io.load(path) reads an image")
    return grid


def _format(name: str, path: Path, what: str):
    """The format of a name, once the suffix is found to be one of its own."""
    found = FORMATS[name]
    if suffix_of(path) not in found.SUFFIXES:
        raise FileError(f"cannot {what} {path} as {name}: the suffix is {suffix_of(path)!r}; known are "
                        f"{', '.join(found.SUFFIXES)}")
    return found


def _having(suffix: str, path: Path, what: str) -> list[str]:
    """Names of the formats whose files end so."""
    names = [name for name, found in FORMATS.items() if suffix in found.SUFFIXES]
    if not names:
        raise FileError(f"cannot {what} {path} as a transform: the suffix is {suffix!r}; known are "
                        f"{', '.join(suffixes())}")
    return names


def _by_suffix(path: Path) -> str:
    """The one format that a file to be written can have."""
    names = _having(suffix_of(path), path, "write")
    own = [name for name in names if not isinstance(FORMATS[name], Bundle)]
    if len(own) == 1:
        return own[0]
    raise OptionError(f"cannot tell the format of {path}: several tools have {suffix_of(path)!r} files; say which "
                      f"with format=: {', '.join(names)}")


def _by_content(path: Path) -> str:
    """The one format that a file shows to be of."""
    signs = {name: getattr(FORMATS[name], "recognise", lambda path: None)(path)
             for name in _having(suffix_of(path), path, "read")}
    sure = [name for name, sign in signs.items() if sign]
    if len(sure) == 1:
        return sure[0]
    likely = sure or [name for name, sign in signs.items() if sign is None]
    if not likely:
        raise FileError(f"cannot read {path}: it is of none of the formats with its suffix, {', '.join(signs)}, or "
                        "damaged; name its format to see what is missing")
    raise OptionError(f"cannot tell the format of {path} by its suffix and content; say which with format= of "
                      f"read_transform, or convert it (classreg convert --from): {', '.join(likely)}")


def _read_one(path, fixed: Grid, moving: Grid | None, format: str, inverse, place: bool = True) -> FittedTransform:
    """One file, checked, from fixed to moving; whether a field lies where points come from can be left unsaid."""
    path = existing(path)
    if path.is_dir():
        raise FileError(f"{path} is a folder; give the transform file")
    if not isinstance(inverse, (bool, np.bool_)):
        raise OptionError(f"inverse must be True or False, or a list of them for a list of files; got {inverse!r}")
    found = _format(_by_content(path) if format == "auto" else format, path, "read")
    if not inverse:
        return _checked(found.read(path, fixed, moving), path, fixed, place)
    back = _checked(found.read(path, moving or fixed, None if moving is None else fixed), path, moving or fixed, place)
    if back.linear:
        return FittedTransform.from_matrix(np.linalg.inv(back.matrix), fixed, moving)
    if moving is None:
        raise OptionError(f"{path} holds a field, and to turn it round needs the moving grid: give moving=")
    return replace(back, to_grid=fixed).inverse()


def _checked(found: FittedTransform, path: Path, grid: Grid, place: bool) -> FittedTransform:
    """Refuse what no reader may hand on."""
    if found.ndim != grid.ndim:
        raise InputError(f"{path} holds a {found.ndim}-D transform, the image is {grid.ndim}-D")
    if not (np.isfinite(found.matrix).all() and np.isfinite(found.theta).all()):
        raise InputError(f"{path} holds numbers that are not finite; write it again")
    if abs(np.linalg.det(found.matrix)) < 1e-9:
        raise InputError(f"the matrix in {path} is not invertible: {found.matrix.tolist()}")
    model = found.transform
    lies = model.stationary(found.theta)[1] if hasattr(model, "stationary") else model.grid
    if place and not found.linear and (share := vectors.covered(lies, grid, path)) < COVERED:
        log.warning("%s: the field covers %.0f %% of the image; beyond, it keeps its border value", path, 100 * share)
    return found


def _read_list(paths: list, fixed: Grid, moving: Grid | None, format: str, inverse) -> FittedTransform:
    """Several files, composed."""
    turned = list(inverse) if isinstance(inverse, (list, tuple)) else [inverse] * len(paths)
    if not paths or len(turned) != len(paths):
        raise OptionError(f"{len(paths)} files and {len(turned)} values of inverse were given; give at least one file "
                          "and a value for each")
    order = _order(format, len(paths))
    steps = list(zip(paths, turned))
    whole = None
    for k, (path, back) in enumerate(steps if order != "last" else steps[::-1]):
        step = _read_one(path, fixed, moving, format, back, place=k == 0)
        step = replace(step, frm=str(k), to=str(k + 1))
        whole = step if whole is None else step.compose(whole)
    return whole


def _order(format: str, count: int) -> str | None:
    """Which of the files in a list points meet first, by the tool whose format is named; None for one file."""
    order = getattr(FORMATS.get(format), "ORDER", None)
    if count > 1 and order is None:
        ordered = [name for name, found in FORMATS.items() if hasattr(found, "ORDER")]
        raise OptionError(f"format {format!r} does not say in which order {count} files apply; name one that does "
                          f"({', '.join(ordered)}), or read them one by one and compose: outer.compose(inner)")
    return order
