"""Where other tools take points with transform files, asked of the tools themselves; see `test_formats`.

Run by a Python that has them, which `CLASSREG_PEERS` names (pip install antspyx picsl-greedy fslpy nitransforms):

    python foreign.py TOOL FOLDER FILE...

FOLDER holds fixed.nii.gz, moving.nii.gz and x.nii.gz, y.nii.gz, z.nii.gz: moving images that hold their own RAS
coordinates, so that reslicing one of them linearly shows where each voxel comes from. Prints JSON: for every voxel of
the fixed image in array order (x, y, z), the RAS point of the moving image; null outside of it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

OUTSIDE = -30000.0


def voxels(folder):
    """RAS points of all voxels of the fixed image, (n, 3)."""
    image = nib.load(folder / "fixed.nii.gz")
    index = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), -1).reshape(-1, 3)
    return nib.affines.apply_affine(image.affine, index)


def ants(folder, files):
    """antsApplyTransforms; FILE is a path, or [path] to be inverted."""
    import ants

    fixed = ants.image_read(str(folder / "fixed.nii.gz"))
    paths, back = [f.strip("[]") for f in files], [f.startswith("[") for f in files]
    return np.stack([ants.apply_transforms(fixed, ants.image_read(str(folder / f"{axis}.nii.gz")), paths, "linear",
                                           whichtoinvert=back, defaultvalue=OUTSIDE).numpy().ravel()
                     for axis in "xyz"], -1)


def greedy(folder, files):
    """greedy -r; FILE,-1 is inverted."""
    from picsl_greedy import Greedy3D

    tool, out = Greedy3D(), []
    for axis in "xyz":
        tool.execute(f"-rf {folder}/fixed.nii.gz -rm {folder}/{axis}.nii.gz {folder}/out.nii.gz -rb {OUTSIDE} "
                     f"-r {' '.join(files)} -V 0")
        out.append(nib.load(folder / "out.nii.gz").get_fdata().ravel())
    return np.stack(out, -1)


def flirt(folder, files):
    """The world matrix that fslpy makes of a matrix of flirt, which it has from moving to fixed."""
    from fsl.data.image import Image
    from fsl.transform.affine import transform
    from fsl.transform.flirt import fromFlirt, readFlirt

    moving, fixed = Image(str(folder / "moving.nii.gz")), Image(str(folder / "fixed.nii.gz"))
    back = fromFlirt(readFlirt(files[0]), moving, fixed, "world", "world")
    return transform(voxels(folder), np.linalg.inv(back))


def fnirt(folder, files):
    """What fslpy makes of a warp, which it may be told is absolute or relative, or of coefficients."""
    from fsl.data.image import Image
    from fsl.transform import fnirt, nonlinear

    moving, fixed = Image(str(folder / "moving.nii.gz")), Image(str(folder / "fixed.nii.gz"))
    field = fnirt.readFnirt(files[0], moving, fixed, *files[1:])
    if isinstance(field, nonlinear.CoefficientField):
        field = nonlinear.coefficientFieldToDeformationField(field, defType="absolute")
    return field.transform(voxels(folder), "world", "world")


def nitransforms_fsl(folder, files):
    """What nitransforms makes of a matrix of flirt."""
    import nitransforms

    found = nitransforms.linear.load(files[0], fmt="fsl", reference=str(folder / "fixed.nii.gz"),
                                     moving=str(folder / "moving.nii.gz"))
    return found.map(voxels(folder))


def nitransforms_itk(folder, files):
    """What nitransforms makes of a displacement field or a matrix of ITK."""
    import nitransforms

    kind = nitransforms.nonlinear if ".nii" in files[0] else nitransforms.linear
    return kind.load(files[0], fmt="itk").map(voxels(folder))


TOOLS = {found.__name__: found for found in (ants, greedy, flirt, fnirt, nitransforms_fsl, nitransforms_itk)}


def main():
    quiet, out = os.open(os.devnull, os.O_WRONLY), os.dup(1)
    os.dup2(quiet, 1)  # tools print
    points = np.array(TOOLS[sys.argv[1]](Path(sys.argv[2]), sys.argv[3:]), float)
    points[~np.isfinite(points).all(1) | (points < OUTSIDE / 2).any(1)] = np.nan
    os.write(out, json.dumps([None if np.isnan(p).any() else p.tolist() for p in points]).encode())


if __name__ == "__main__":
    main()
