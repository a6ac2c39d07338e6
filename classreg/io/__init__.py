"""Files in and out: images here, one module per foreign transform format beside it.

`load` takes whatever people hold (a path, a DICOM folder, a SimpleITK or nibabel image, an array) to a
`classreg.image.Image` in world LPS millimetres; `header` reads its grid alone; `save_image` writes one; `load_points`
reads landmarks; `read_transform` and `write_transform` know the transforms of other tools, by the names in `FORMATS`.
SimpleITK and nibabel are imported on first use, and so are the formats of transforms.

Must not import: the engine, metrics, optimisers, cli, plot, report.
"""

from __future__ import annotations

from typing import Any

from .images import header, load, save_image
from .points import load_points

_TRANSFORMS = ("FORMATS", "read_transform", "write_transform")

__all__ = ["header", "load", "load_points", "save_image", *_TRANSFORMS]


def __getattr__(name: str) -> Any:
    if name in _TRANSFORMS:
        from . import transforms

        return getattr(transforms, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
