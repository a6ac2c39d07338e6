"""What measures refuse: label maps with fractions, arrays of two shapes, masks that select nothing.

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError, OptionError
from ..grid import Grid
from ..image import real_numbers


def label_map(values: np.ndarray, which: str) -> np.ndarray:
    """An array of whole numbers, of an integer dtype; `which` names it in the message."""
    values = np.asarray(values)
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "iub":
        raise InputError(f"the {which} label map (dtype {values.dtype}) holds values that are no integers; "
                         "pass an array of labels, of an image its .array, warped with "
                         "interpolation='nearest'")
    return values


def label_maps(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two label maps of one shape."""
    a, b = label_map(a, "first"), label_map(b, "second")
    if a.shape != b.shape:
        raise InputError(f"the label maps have shapes {a.shape} and {b.shape}; overlap needs one grid: "
                         "resample one map to the other's grid (classreg.apply)")
    return a, b


def foreground(a: np.ndarray, b: np.ndarray, labels) -> list[int]:
    """The labels asked for, in their order; by default all that occur in `a` or `b`, without the background 0."""
    if labels is None:
        return sorted({int(label) for label in np.union1d(a, b)} - {0})
    return [int(label) for label in labels]


def mask_of(mask: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Where a mask is above 0, as booleans of this shape; everywhere without one."""
    if mask is None:
        return np.ones(shape, bool)
    mask = np.asarray(mask)
    if mask.shape != tuple(shape):
        raise InputError(f"the mask has shape {mask.shape}, the samples {tuple(shape)}; both need one grid")
    if not (mask > 0).any():
        raise InputError("the mask is empty: no sample is above 0, so there is nothing to measure")
    return mask > 0


def displacement_on(field: np.ndarray, grid: Grid, what: str = "displacement") -> np.ndarray:
    """A displacement (d, *grid.shape) in float64, finite."""
    field = real_numbers(field, what)
    if field.shape != (grid.ndim, *grid.shape):
        raise InputError(f"the {what} has shape {field.shape}; on this grid it must be "
                         f"{(grid.ndim, *grid.shape)}: world components first")
    bad = int((~np.isfinite(field)).sum())
    if bad:
        raise InputError(f"{bad} of {field.size} components of the {what} are not finite; mend or mask them first")
    return field.astype(float)


def positive(name: str, value: float) -> float:
    """A finite number above 0, or OptionError."""
    if not (np.isscalar(value) and np.isfinite(value) and value > 0):
        raise OptionError(f"{name} is {value!r}; it must be a finite number above 0")
    return float(value)
