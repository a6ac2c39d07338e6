"""Time series of images: motion correction.

    register_series(series, model=..., method=...)   all frames to a common space, and what comes of it in time
    plan_series(series, ...)                         what it would run

A series is a group whose images share a grid and follow each other: `register_group` does the work, and here stand its
defaults for series, the motion of the frames as numbers, and the files.
"""

from ..io.series import Series
from .register import plan_series, register_series
from .result import SeriesResult

__all__ = ["Series", "SeriesResult", "plan_series", "register_series"]
