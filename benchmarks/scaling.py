"""placeholder"""
from pathlib import Path
import numpy as np
def cube(size, folder):
    """Files of a fixed and a moving head of `size` voxels per axis."""
    from classreg.datasets import head_phantom
    from classreg.fitted import FittedTransform
    from classreg.grid import Grid
    from classreg.io import save_image
    from classreg.resample import resample

    pair, files = head_phantom(2.5), {}
    for name in ("fixed", "moving"):
        image = getattr(pair, name)
        side = float(image.grid.extent.max())
        spacing = side / (size - 1)
        affine = np.array(image.grid.affine)
        columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0) * spacing
        affine[:3, :3] = columns
        affine[:3, 3] = image.grid.centre - columns @ np.full(3, (size - 1) / 2)
        files[name] = str(folder / f"{name}-{size}.nii")
        grid = Grid((size,) * 3, affine)
        save_image(resample(FittedTransform.from_matrix(np.eye(4), grid, image.grid), image, grid, "linear"), files[name])
    return files
