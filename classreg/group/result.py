"""What the registration of a group returns.

Must not import: registries, matplotlib; files are written by `save`, loaded when it is called.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from ..engine import Record
from ..errors import InputError
from ..fitted import FittedTransform
from ..grid import Grid
from ..image import Image
from ..planning import Plan
from ..pyramid import normalised
from ..resample import resample
from .door import which

#: pairs of images that the mean correlation looks at, at most
PAIRS = 200


@dataclass(frozen=True, eq=False)
class GroupResult:
    """A finished registration of a group.

    Attributes
    ----------
    transforms : tuple of FittedTransform
        One per image, common world to that image's world; their ends are "common" and the image's name.
    names : tuple of str
    images : tuple of Image
        As they came in.
    grid : Grid
        Of the common space.
    classes : array or None, (K, *grid.shape)
        Of methods that tell classes apart, the probability of each at each sample of the common space.
    history : list of Record
        One per iteration.
    status : str
        How the run ended, a sentence.
    plan : Plan
        What was run, fully resolved.
    initial : tuple of array, (d + 1, d + 1)
        The matrices that the run began with, common world to each image's world.
    seconds : float
    """

    transforms: tuple[FittedTransform, ...]
    names: tuple[str, ...]
    images: tuple[Image, ...]
    grid: Grid
    classes: np.ndarray | None
    history: list[Record]
    status: str
    plan: Plan
    initial: tuple[np.ndarray, ...]
    seconds: float

    def __len__(self) -> int:
        return len(self.transforms)

    @cached_property
    def warped(self) -> tuple[Image, ...]:
        """The images on the common grid, linear interpolation (labels by vote)."""
        return self.apply(self.images)

    @cached_property
    def before(self) -> tuple[Image, ...]:
        """The images on the common grid as the headers place them."""
        still = FittedTransform.from_matrix(np.eye(self.grid.ndim + 1), self.grid)
        return tuple(resample(still, image, self.grid) for image in self.images)

    @cached_property
    def template(self) -> Image:
        """The mean of the warped images, each brought to zero mean and unit deviation first, where it is seen."""
        return mean_image(self.images, self.transforms, self.grid)

    @cached_property
    def labels(self) -> Image | None:
        """The likeliest class at each sample of the common space, 1, 2, ...; None where `classes` is."""
        return None if self.classes is None else Image(1 + np.argmax(self.classes, 0).astype(np.uint8), self.grid)

    def apply(self, images: Sequence[Image], interpolation: str | None = None,
              outside: float | None = None) -> tuple[Image, ...]:
        """Images that belong to those of the group, such as label maps, on the common grid; see `classreg.apply`.

        Parameters
        ----------
        images : sequence of Image, path or array
            One per image of the group, in its order. Arrays lie on the grid of the image that they belong to.
        interpolation, outside
            See `classreg.apply`.

        Raises
        ------
        InputError, FileError, OptionError
            With what to do.
        """
        if not isinstance(images, Sequence) or isinstance(images, str) or len(images) != len(self.transforms):
            count = len(images) if isinstance(images, Sequence) else f"a {type(images).__name__} of"
            raise InputError(f"{count} images were given for a group of {len(self.transforms)}; give a list with one "
                             "for each")
        return tuple(resample(transform, _belonging(image, transform.to_grid, name), self.grid, interpolation, outside)
                     for image, transform, name in zip(images, self.transforms, self.names))

    def pairwise(self, i: int | str, j: int | str) -> FittedTransform:
        """From the world of one image to that of another, through the common space; by number or name.

        The transform of `j` after the inverse of that of `i`: exact for linear models; of deformable ones sampled on
        the grid of image `i`.
        """
        i, j = (which(k, self.names, "image") for k in (i, j))
        return self.transforms[j].compose(self.transforms[i].opposite())

    def summary(self) -> dict[str, tuple[Any, Any]]:
        """Figures before and after: correlation, folding (%), Jacobian determinant, motion (mm), seconds."""
        dets = [transform.jacobian_determinant() for transform in self.transforms]
        motion = [np.sqrt((transform.displacement() ** 2).sum(0)) for transform in self.transforms]
        return {
            "mean size of the correlation of pairs": (_agreement(self.before), _agreement(self.warped)),
            "smallest Jacobian determinant": (1.0, min(float(det.min()) for det in dets)),
            "largest Jacobian determinant": (1.0, max(float(det.max()) for det in dets)),
            "folded voxels (%)": (0.0, 100 * float(np.mean([(det <= 0).mean() for det in dets]))),
            "mean motion (mm)": (0.0, float(np.mean([m.mean() for m in motion]))),
            "largest motion (mm)": (0.0, max(float(m.max()) for m in motion)),
            "time (s)": (None, self.seconds),
        }

    def save(self, folder: str | os.PathLike) -> None:
        """Write transforms, warped images, template, class maps, `result.json` and `report.html` into a folder.

        All of it appears, or nothing: files are moved to their places when the last one is complete.

        Raises
        ------
        FileError
            If the folder cannot be written.
        """
        from .save import save

        save(self, folder)


def _belonging(image, grid: Grid, name: str) -> Image:
    if isinstance(image, np.ndarray):
        return Image(image, grid)
    if not isinstance(image, Image):
        from ..io import load

        image = load(image, name=name)
    if image.grid.ndim != grid.ndim:
        raise InputError(f"what is given for {name} is {image.grid.ndim}-D, the group is {grid.ndim}-D")
    return image


def mean_image(images: Sequence[Image], transforms: Sequence[FittedTransform], grid: Grid) -> Image:
    """The mean of images through transforms, weighted by where each is seen; float32 in units of their deviation.

    Where none is seen it has its least value.
    """
    from ..sampling import sample

    total, weights = 0.0, np.zeros(grid.shape3)
    for image, transform in zip(images, transforms):
        warped, weight, _ = sample(normalised(image), transform.on(grid), grid)
        total, weights = total + weight * warped.astype(float), weights + weight
    mean, seen = total / np.maximum(weights, 1e-12), weights > 0.5
    mean = np.where(seen, mean, np.min(mean, where=seen, initial=np.inf) if seen.any() else 0.0)
    return Image(mean.astype(np.float32).reshape(images[0].array.shape[:-grid.ndim] + grid.shape), grid)


def _agreement(stack: Sequence[Image]) -> float:
    """Mean absolute correlation of the first channels over pairs, of which large groups show those of neighbours."""
    columns = [image.data[0].astype(np.float64).ravel() for image in stack]
    columns = [(c - c.mean()) / max(c.std(), 1e-12) for c in columns]
    pairs = list(combinations(range(len(columns)), 2))
    if len(pairs) > PAIRS:
        pairs = [(k, (k + 1) % len(columns)) for k in range(len(columns))]
    return float(np.mean([abs(np.sum(columns[i] * columns[j])) / columns[i].size for i, j in pairs]))
