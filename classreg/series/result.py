"""What the motion correction of a series returns.

Must not import: registries, matplotlib; files are written by `save`, loaded when it is called.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..engine import Record
from ..errors import InputError
from ..fitted import FittedTransform
from ..group import GroupResult
from ..image import Image
from ..io.series import Series, load_series
from ..planning import Plan
from ..resample import looks_like_labels, resample
from .motion import motion_of
from .plane import raised

#: samples that correlations between frames are taken of, at most
SAMPLES = 8192

#: components that the share of the variation is given for
FACTORS = 3


@dataclass(frozen=True, eq=False)
class SeriesResult:
    """A corrected series.

    Attributes
    ----------
    series : Series
        As it came in.
    group : GroupResult
        The frames as a group: template, history, classes. Of frames of one slice it is that of their planes.
    """

    series: Series
    group: GroupResult

    def __len__(self) -> int:
        return len(self.series)

    @cached_property
    def transforms(self) -> tuple[FittedTransform, ...]:
        """One per frame, common world to that frame's world."""
        return tuple(raised(transform, self.series.grid) for transform in self.group.transforms)

    @cached_property
    def corrected(self) -> Series:
        """The series without its motion, on its own grid and times; cubic interpolation (labels by vote)."""
        return self.apply(self.series)

    @cached_property
    def motion(self) -> dict[str, np.ndarray]:
        """Translations, rotations and displacements of each frame, a column per name; see `series.motion`."""
        return motion_of(self.group.transforms, self.series.times)

    @property
    def history(self) -> list[Record]:
        """One record per iteration."""
        return self.group.history

    @property
    def plan(self) -> Plan:
        """What was run."""
        return self.group.plan

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.group.seconds

    @property
    def status(self) -> str:
        """How it ended, a sentence."""
        return self.group.status.replace(" images: ", " frames: ", 1)

    def apply(self, series, interpolation: str | None = None, outside: float | None = None) -> Series:
        """Another series of the same frames, such as its label maps, without the motion.

        Parameters
        ----------
        series : path, array, Series, ...
            As many frames on the same grid.
        interpolation, outside
            See `classreg.apply`; by default label for label maps, else cubic.

        Raises
        ------
        InputError, FileError, OptionError
            With what to do.
        """
        if isinstance(series, np.ndarray):
            series = self.series.with_array(series)
        series = load_series(series)
        if len(series) != len(self):
            raise InputError(f"{len(series)} frames were given for a series of {len(self)}")
        if not series.grid.same_as(self.series.grid, 0.05):
            raise InputError(f"the series lies on another grid than the one that was registered: {series.grid} against "
                             f"{self.series.grid}")
        frames = series.frames
        if interpolation is None:
            interpolation = "label" if looks_like_labels(frames[0]) else "cubic"
        out = [resample(transform, frame, self.series.grid, interpolation, outside).array
               for transform, frame in zip(self.transforms, frames)]
        return Series(np.stack(out), self.series.grid, self.series.interval, self.series.begin)

    @cached_property
    def seen(self) -> np.ndarray:
        """Where all frames show something, (*grid.shape) bool: figures over time are of these samples."""
        from ..sampling import sample

        grid, out = self.series.grid, True
        for transform, frame in zip(self.transforms, self.series.frames):
            out = out & (sample(frame.with_array(frame.array.astype(np.float32)), transform.on(grid), grid)[1] > 0.999)
        return np.asarray(out).reshape(grid.shape)

    def tsnr(self, series: Series | None = None) -> Image:
        """Temporal signal to noise, the mean over time by the deviation, of the corrected or another series.

        0 where nothing changes, and where not all frames see.
        """
        data = (self.corrected if series is None else series).array.astype(np.float64)
        deviation = data.std(0, ddof=1)
        out = np.divide(data.mean(0), deviation, out=np.zeros_like(deviation), where=(deviation > 0) & self.seen)
        return Image(out.astype(np.float32), self.series.grid)

    def summary(self) -> dict[str, tuple[Any, Any]]:
        """Figures before and after: temporal deviation and signal to noise, what few components explain, motion."""
        stacks = [np.stack([frame[self.seen] for frame in s.array]).astype(np.float64) if self.seen.any() else None
                  for s in (self.series, self.corrected)]
        inside = None if stacks[0] is None else _content(stacks[1].mean(0))
        figures = [_figures(stack[:, inside]) if stack is not None else (None,) * 3 for stack in stacks]
        names = ("median temporal signal to noise", "temporal deviation (share of mean)",
                 f"variation beyond {FACTORS} components (%)")
        motion = self.motion
        still = {"largest step between frames (mm)": float(motion["step_mm"].max()),
                 "mean framewise displacement (mm)": float(motion["fd_mm"][1:].mean()),
                 "largest motion (mm)": float(motion["largest_mm"].max())}
        return {**dict(zip(names, zip(*figures))), **{name: (None, value) for name, value in still.items()},
                "time (s)": (None, self.seconds)}

    def save(self, folder: str | os.PathLike) -> None:
        """Write the corrected series, the motion as table and picture, transforms, maps and report into a folder.

        All of it appears, or nothing.

        Raises
        ------
        FileError
            If the folder cannot be written.
        """
        from .save import save

        save(self, folder)


def _content(mean: np.ndarray) -> np.ndarray:
    """Samples of more than half the typical signal: what is not background."""
    inside = mean > 0.5 * np.mean(mean[mean >= np.median(mean)])
    return inside if inside.any() else np.ones_like(inside)


def _figures(stack: np.ndarray) -> tuple[float, float, float]:
    """Median signal to noise, deviation as a share of the mean, share beyond few components; of (frames, samples)."""
    mean, deviation = stack.mean(0), stack.std(0, ddof=1)
    some = deviation > 0
    snr = float(np.median(np.abs(mean[some]) / deviation[some])) if some.any() else 0.0
    some = stack[:, :: -(-stack.shape[1] // SAMPLES)]
    centred = some - some.mean(1, keepdims=True)
    scaled = centred / np.maximum(np.sqrt((centred**2).mean(1, keepdims=True)), 1e-12)
    values = np.linalg.eigvalsh([[np.mean(a * b) for b in scaled] for a in scaled])
    beyond = 100 * float(values[:-FACTORS].sum() / values.sum()) if len(values) > FACTORS else 0.0
    return snr, float(np.sqrt((deviation**2).mean()) / max(abs(mean.mean()), 1e-12)), beyond
