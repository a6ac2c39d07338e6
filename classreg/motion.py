"""Motion within a time series: its frames are a group, and what moves them is corrected.

    correct_motion(series)      the series with every frame in the common space, and how each one moved

The frames go through the engine of groups in the order of time; nothing moves on average, or one frame is held still.

Must not import: matplotlib, numba, cupy.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from . import door
from .engine import Record
from .errors import InputError
from .grid import Grid
from .group import GroupResult, register_group
from .image import Image
from .io import save_image
from .io.atomic import atomic_path

#: samples of the grid at which motion from frame to frame is measured, at most
SAMPLES = 4096


@dataclass(frozen=True, eq=False)
class Motion:
    """A time series whose frames were aligned.

    Attributes
    ----------
    group : GroupResult
        Of the frames, named frame_001, frame_002, ...
    """

    group: GroupResult

    @cached_property
    def corrected(self) -> Image:
        """The series in the common space, one channel per frame, (T, *grid.shape) float32."""
        frames = self.group.apply(self.group.images, interpolation="linear")
        return Image(np.stack([frame.array for frame in frames]), self.group.grid)

    @cached_property
    def parameters(self) -> np.ndarray:
        """Of each frame the shift of the grid's centre in mm (x, y[, z]) and the turn in degrees, (T, 6), 2-D (T, 3).

        The turn is the rotation vector of the matrix's rotation, world axes; of deformable models, that of A.
        """
        d, centre, rows = self.group.grid.ndim, self.group.grid.centre, []
        for transform in self.group.transforms:
            matrix = transform.matrix
            u, _, vt = np.linalg.svd(matrix[:d, :d])
            rows.append([*(matrix[:d, :d] @ centre + matrix[:d, d] - centre), *np.degrees(_turn(u @ vt))])
        return np.array(rows)

    @cached_property
    def steps(self) -> np.ndarray:
        """Mean distance in mm that points of the common space move from the frame before to each, (T,); 0 first."""
        grid, moved = self.group.grid, []
        index = np.linspace(0, grid.size - 1, min(grid.size, SAMPLES)).round().astype(int)
        points = grid.to_world(np.stack(np.unravel_index(index, grid.shape), -1))
        for transform in self.group.transforms:
            moved.append(transform.map_points(points, transform.frm, transform.to))
        between = [np.sqrt(((b - a) ** 2).sum(-1)).mean() for a, b in zip(moved, moved[1:])]
        return np.array([0.0, *between])

    @property
    def status(self) -> str:
        """How the run ended, a sentence."""
        return self.group.status

    @property
    def seconds(self) -> float:
        """That the run took."""
        return self.group.seconds

    def summary(self) -> dict[str, tuple[Any, Any]]:
        """Figures before and after: those of the group, the deviation in time, and the motion from frame to frame."""
        before, after = ([frame.data for frame in stack] for stack in (self.group.before, self.group.warped))
        deviation = tuple(float(np.std(stack, axis=0, dtype=np.float64).mean()) for stack in (before, after))
        return {**self.group.summary(), "mean deviation in time": deviation,
                "mean step from frame to frame (mm)": (None, float(self.steps[1:].mean()))}

    def save(self, folder: str | os.PathLike) -> None:
        """Write what a group writes, and `corrected.nii.gz` and `motion.csv`, into a folder.

        Raises
        ------
        FileError
            If the folder cannot be written.
        """
        self.group.save(folder)
        save_image(self.corrected, os.path.join(folder, "corrected.nii.gz"))
        heads = ["frame", *(f"shift_{a}_mm" for a in "xyz"[:self.group.grid.ndim]),
                 *(["turn_deg"] if self.group.grid.ndim == 2 else [f"turn_{a}_deg" for a in "xyz"]), "step_mm"]
        with atomic_path(os.path.join(folder, "motion.csv")) as temporary:
            with open(temporary, "w", newline="", encoding="utf-8") as file:
                rows = csv.writer(file)
                rows.writerow(heads)
                for k, (found, step) in enumerate(zip(self.parameters, self.steps), 1):
                    rows.writerow([k, *(f"{v:.5f}" for v in found), f"{step:.5f}"])


def correct_motion(series, *, model: str = "rigid", method: str | dict = "pca2", mask=None, gauge: int | str = "mean",
                   levels: Sequence[float] | None = None, iterations: int | Sequence[int] | None = None,
                   optimiser: str | dict | None = None, spacing=None, threads: int | None = None,
                   time_limit: float | None = None,
                   callback: Callable[[Record], bool | None] | None = None) -> Motion:
    """Align the frames of a time series.

    Parameters
    ----------
    series : path, Image, nibabel image or array
        Three axes of space, or two, and time last; of an Image, frames are channels.
    model : str
        As in `register_group`: translation, rigid, affine, bspline, ...
    method : str or dict
        As there; by default one that allows intensities to change together, as contrast agents do. `variance` is for
        intensities that stay.
    mask : as an image, optional
        Where frames count, on the grid of the series.
    gauge : int or str
        mean: nothing moves on average; or the number of the frame that does not move, from 0.
    levels, iterations, optimiser, spacing, threads, time_limit, callback
        As in `register_group`.

    Returns
    -------
    Motion

    Raises
    ------
    InputError, FileError, OptionError
        Before the first iteration, with what to do.

    Examples
    --------
    >>> frames = np.random.default_rng(0).standard_normal((16, 18, 5))
    >>> correct_motion(frames, iterations=1).parameters.shape
    (5, 3)
    """
    if isinstance(series, Image):
        image = series
    else:
        image = door.load_image(series, spacing, "last", "series")
    if image.channels < 2:
        raise InputError(f"a series has at least two frames; this one has the shape {image.array.shape}: time is the "
                         "last axis of an array or a file, and of an Image its channels")
    grid: Grid = image.grid
    frames = [Image(frame.reshape(grid.shape), grid, image.weight) for frame in image.data]
    names = [f"frame_{k:03d}" for k in range(1, len(frames) + 1)]
    masks = None if mask is None else [mask] * len(frames)
    return Motion(register_group(
        frames, names=names, masks=masks, model=model, method=method, init="identity", gauge=gauge, levels=levels,
        iterations=iterations, optimiser=optimiser, threads=threads, time_limit=time_limit, callback=callback))


def _turn(rotation: np.ndarray) -> np.ndarray:
    """The rotation vector in radians, (3,), of a rotation by less than half a turn; (1,) in 2-D."""
    if len(rotation) == 2:
        return np.array([np.arctan2(rotation[1, 0], rotation[0, 0])])
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotation).as_rotvec()
