"""What is given to a plot, turned into images and fields on one grid: a result, a transform, images, paths or arrays.

May import anything below; nothing imports it but `plot`.
"""

from __future__ import annotations

import numbers

import numpy as np

from ..errors import InputError, OptionError
from ..fitted import FittedTransform
from ..grid import Grid
from ..image import Image, real_numbers
from ..resample import resample
from ..result import Result
from .views import centre, centre_of


def image_of(source, spacing=None, channel: int | None = None, name: str = "image") -> Image:
    """An image from whatever `classreg.register` takes as one, or one channel of it; spacing is for arrays."""
    from ..io import load

    if isinstance(source, Result):
        raise InputError(f"the {name} is a Result; give one of its images: .fixed, .moving, .before, .warped")
    image = source if isinstance(source, Image) else load(
        source, spacing=spacing if isinstance(source, np.ndarray) else None, name=name)
    if channel is None:
        return image
    if not (isinstance(channel, (int, np.integer)) and 0 <= channel < image.channels):
        raise OptionError(f"channel is {channel!r}, but the {name} has {image.channels}; count from 0")
    return Image(image.data[channel].reshape(image.grid.shape), image.grid, image.weight)


def check_above(value: float | None, least: float, name: str) -> None:
    """Raise OptionError unless an option that was given is a finite number above the least."""
    if value is not None and not (isinstance(value, numbers.Real) and np.isfinite(value) and value > least):
        raise OptionError(f"{name} is {value!r}; it must be a finite number above {least}")


def pair_of(fixed, warped, spacing=None, channel=None) -> tuple[Image, Image]:
    """Two images on one grid: those given, or the fixed and the warped one of a result."""
    if isinstance(fixed, Result):
        if warped is not None:
            raise InputError("a Result holds both images; give it alone, or two images")
        fixed, warped = fixed.fixed, fixed.warped
    elif warped is None:
        raise InputError("there is one image and nothing to compare it with; give the warped image too, or a Result")
    fixed, warped = image_of(fixed, spacing, channel, "fixed"), image_of(warped, spacing, channel, "warped")
    same_grid(fixed, warped, "images")
    return fixed, warped


def same_grid(a: Image, b: Image, what: str) -> None:
    """Raise InputError unless both lie on one grid."""
    if a.grid.shape != b.grid.shape:
        raise InputError(f"the {what} have shapes {a.grid.shape} and {b.grid.shape}; "
                         "resample one to the other's grid first (classreg.apply)")
    if not a.grid.same_as(b.grid, 0.05):
        raise InputError(f"the {what} lie on different grids, {a.grid} and {b.grid}; resample one to the other's first "
                         "(classreg.apply)")


def grid_of(grid, shape: tuple[int, ...]) -> Grid:
    """The grid given, that of an image, or one of 1 mm for an array of this shape."""
    if grid is None:
        return Grid.from_spacing(shape)
    if isinstance(grid, (Grid, Image)):
        return grid if isinstance(grid, Grid) else grid.grid
    raise InputError(f"grid must be a Grid or an Image, got {type(grid).__name__}; Grid.from_spacing(shape, spacing) "
                     "makes one")


def field_of(source, grid, linear: bool) -> tuple[np.ndarray, Grid]:
    """A displacement (d, *grid.shape) in mm and its grid, of a result, a transform or an array.

    Of phi(x) = A (x + u(x)) this is u, without what A does; with `linear`, or where A is all there is, phi(x) - x.
    """
    transform = source.transform if isinstance(source, Result) else source
    if isinstance(transform, FittedTransform):
        grid = transform.grid if grid is None else grid_of(grid, ())
        mapping = transform.on(grid)
        whole = linear or mapping.field is None
        return mapping.total_displacement(grid) if whole else np.asarray(mapping.field), grid
    field = real_numbers(source, "displacement")
    grid = grid_of(grid, field.shape[1:])
    if field.shape != (grid.ndim, *grid.shape):
        raise InputError(f"a displacement of shape {field.shape} does not fit the grid; "
                         f"it is {(grid.ndim, *grid.shape)}, components first, in mm")
    return field, grid


def middle(source, at, inside: np.ndarray | None = None):
    """Where slices cross: as asked, or in the middle of a mask or of what the fixed image of a result shows."""
    if at is not None:
        return at
    if inside is not None:
        return centre_of(inside)
    return centre(source.fixed) if isinstance(source, Result) else None


def mask_of(mask, grid: Grid) -> np.ndarray | None:
    """A mask, an array or anything read as an image, as booleans on a grid."""
    if mask is None:
        return None
    array = mask if isinstance(mask, np.ndarray) else image_of(mask, name="mask").array
    if array.shape != grid.shape:
        raise InputError(f"the mask has shape {array.shape}, the map {grid.shape}; both need one grid")
    if not (array > 0).any():
        raise InputError("the mask is empty: no voxel is above 0")
    return array > 0


def labels_of(source, on: Image, name: str, through: FittedTransform | None = None) -> np.ndarray:
    """A label map on the grid of an image; one of the moving side is pulled back through a transform first."""
    if isinstance(source, np.ndarray) and through is None and source.shape == on.grid.shape:
        return source
    image = image_of(source, name=name)
    if through is not None:
        return resample(through, image, on.grid, "label").array
    same_grid(on, image, f"image and the {name}")
    return image.array
