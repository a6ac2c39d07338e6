"""Stationary velocities as NumPy archives, complete in themselves, so that what is read has its exact inverse:

    velocity    v in mm per unit time, (d, z, y, x) float32, in 2-D (d, y, x); components along world x, y, z (LPS)
    affine      array index (z, y, x) to world LPS mm of its samples, (d + 1, d + 1); any grid
    matrix      A, world to world, (d + 1, d + 1)

phi(x) = A exp(v)(x), fixed world to moving world, exp(v)(x) where a point at x is after unit time when it moves with
v, which is interpolated linearly between its samples. Inverse: exp(-v) o A^-1.

Must not import: SimpleITK, nibabel, metrics, the engine, cli.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError, OptionError
from ..fitted import FittedTransform
from ..grid import Grid
from ..transforms import Velocity
from . import npz

SUFFIXES = (".npz",)
KEY = "velocity"


def read(path: Path, fixed: Grid, moving: Grid | None = None) -> FittedTransform:
    """The velocity with its samples where they are."""
    found, d = npz.arrays(path, KEY), fixed.ndim
    v = found[KEY]
    if v.ndim != d + 1 or len(v) != d or v.dtype.kind != "f":
        raise InputError(f"{path} holds {v.dtype} of shape {v.shape}; for {d}-D images floating point numbers of shape "
                         f"({d}, {'z, ' if d == 3 else ''}y, x) are needed")
    for name in ("affine", "matrix"):
        if name not in found or found[name].shape != (d + 1, d + 1) or found[name].dtype.kind not in "fiu":
            raise InputError(f"{path} holds no array {name!r} of {d + 1} x {d + 1} numbers, which a velocity needs")
    try:
        level = Grid(v.shape[1:], found["affine"])
    except (ValueError, TypeError) as error:
        raise InputError(f"the affine in {path} cannot be used: {error}") from error
    model = Velocity(fixed, found["matrix"].astype(float), _level=level)
    theta = np.ascontiguousarray(v, np.float32).reshape(d, *level.shape3)
    return FittedTransform("svf", model, theta, fixed)


def write(transform: FittedTransform, path: Path) -> None:
    """The velocity on the grid that it was found on, of models that have one."""
    if not hasattr(transform.transform, "stationary"):
        raise OptionError(f"cannot write {path}: a transform of model {transform.model!r} has no velocity, as those of "
                          "svf, symmetric and polyaffine have; use another format, such as npz")
    v, level = transform.transform.stationary(transform.theta)
    npz.save(path, velocity=v.reshape(len(v), *level.shape), affine=level.affine, matrix=transform.matrix)


def recognise(path: Path) -> bool:
    """By the name of the array."""
    return KEY in npz.names(path)
