"""classreg: classical image registration in physical space.

    import classreg
    result = classreg.register("fixed.nii.gz", "moving.nii.gz", model="bspline")
    result.save("out")

Names are imported when first used, so that `import classreg` takes no time.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "register": "api", "plan": "api", "apply": "api", "register_group": "group", "plan_group": "group",
    "Grid": "grid", "Image": "image", "Mapping": "mapping", "FittedTransform": "fitted", "Result": "result",
    "GroupResult": "group", "register_series": "series", "plan_series": "series", "Series": "series",
    "SeriesResult": "series",
    "Plan": "planning", "Stage": "planning", "Level": "schedule", "Record": "engine",
    "ClassregError": "errors", "InputError": "errors", "GeometryError": "errors", "FileError": "errors",
    "OptionError": "errors", "ConvergenceError": "errors",
}

_PACKAGES = ("baselines", "compare", "plot")

__all__ = ["__version__", *_HOMES, *_PACKAGES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    if name in _PACKAGES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
