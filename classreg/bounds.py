"""Numbers within bounds: what parts say of an option that is out of its range.

Must not import: anything above floor 0.
"""

from __future__ import annotations

import sys
from numbers import Integral, Real

from .errors import OptionError


def whole(name: str, value, least: int, most: int | None = None) -> int:
    """A whole number within bounds, or OptionError.

    >>> whole("lbfgs: memory", 6, 1)
    6
    """
    if not (isinstance(value, Integral) and not isinstance(value, bool) and value >= least
            and (most is None or value <= most)):
        bound = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise OptionError(f"{name} must be a whole number {bound}, got {value!r}")
    return int(value)


def number(name: str, value, least: float | None = None, above: float = 0, most: float | None = None) -> float:
    """A finite number of at least `least`, or above `above` where that is not given; or OptionError.

    >>> number("adam: step", -1)
    Traceback (most recent call last):
    classreg.errors.OptionError: adam: step must be a finite number above 0, got -1
    """
    if not (isinstance(value, Real) and not isinstance(value, bool)
            and (value > above if least is None else value >= least)
            and value <= (sys.float_info.max if most is None else most)):
        bound = f"above {above:g}" if least is None else f"of at least {least:g}" if most is None else f"from {least:g}"
        top = "" if most is None else f" and at most {most:g}" if least is None else f" to {most:g}"
        raise OptionError(f"{name} must be a finite number {bound}{top}, got {value!r}")
    return float(value)
