"""When a level is finished.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

import numpy as np

#: values looked at
WINDOW = 10


def flat(values: list[float], tolerance: float) -> bool:
    """Whether the last `WINDOW` values fall, per step, by less than `tolerance` of the first value (line fit)."""
    if len(values) < WINDOW:
        return False
    k = np.arange(WINDOW) - (WINDOW - 1) / 2
    slope = float(k @ np.asarray(values[-WINDOW:])) / float(k @ k)
    return -slope < tolerance * abs(values[0])
