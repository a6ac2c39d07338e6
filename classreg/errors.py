"""Typed errors. Every message says what is wrong (with the value), what is allowed, and what to do.

All are raised at the door, before the first iteration; `ClassregError` catches any of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ClassregError(Exception):
    """Base of all errors that classreg raises on purpose."""


class InputError(ClassregError, ValueError):
    """An image, mask or array that cannot be used (values, type, shape)."""


class GeometryError(ClassregError, ValueError):
    """Spacing, direction, extent or overlap make registration impossible."""


class FileError(ClassregError, OSError):
    """A file that cannot be read or written."""


class OptionError(ClassregError, ValueError):
    """An unknown name or a value outside its range."""


class ConvergenceError(ClassregError, ArithmeticError):
    """A value became NaN or infinite; carries where it happened."""


def unknown(kind: str, name: object, allowed: Iterable[str]) -> OptionError:
    """The error for a name that is not in a dictionary; names the nearest match.

    >>> print(unknown("metric", "lnc", ["ssd", "lncc"]))
    unknown metric 'lnc'; did you mean 'lncc'? Allowed: lncc, ssd
    """
    allowed, given = sorted(allowed), str(name).lower()
    if not allowed:
        return OptionError(f"unknown {kind} {name!r}: it has no options; leave this one out")
    near = [a for a in allowed if given and a.startswith(given)]
    near = near or difflib.get_close_matches(given, allowed, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return OptionError(f"unknown {kind} {name!r}{hint} Allowed: {', '.join(allowed)}")
