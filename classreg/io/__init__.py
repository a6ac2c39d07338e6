"""Files in and out: images here, one module per foreign transform format beside it.

`load` takes whatever people hold (a path, a DICOM folder, a SimpleITK or nibabel image, an array) to a
`classreg.image.Image` in world LPS millimetres; `save_image` writes one; `load_points` reads landmarks.
SimpleITK and nibabel are imported on first use.

Must not import: the engine, metrics, optimisers, cli, plot, report.
"""

from .images import load, save_image
from .points import load_points

__all__ = ["load", "load_points", "save_image"]
