"""greedy as a guest of `classreg compare`: runs in an environment with picsl_greedy and SimpleITK.

    python greedy.py affine|deformable FIXED MOVING OUTPUT COST THREADS

Affine from the image centres, then, for deformable, the greedy warp; both by WNCC with radius 2 and 100x50x10
iterations, everything else greedy's defaults. OUTPUT.nii.gz is what greedy composes of the two: a displacement on the
fixed grid in LPS mm.
"""

from __future__ import annotations

import sys

import picsl_greedy
import SimpleITK as sitk
from cost import measured


def main(model, fixed, moving, output, report, threads):
    """Register two files."""
    f, m = (sitk.ReadImage(path, sitk.sitkFloat32) for path in (fixed, moving))
    d = f.GetDimension()
    greedy = getattr(picsl_greedy, f"Greedy{d}D")()
    common = f"-m WNCC {'x'.join(['2'] * d)} -n 100x50x10 -threads {threads}"
    with measured(report):
        greedy.execute(f"-i f m -a -dof 12 -ia-image-centers {common} -o aff", f=f, m=m, aff=None)
        if model == "deformable":
            greedy.execute(f"-i f m -it aff {common} -o warp", warp=None)
    chain = "warp aff" if model == "deformable" else "aff"
    greedy.execute(f"-rf f -r {chain} -rc {output}.nii.gz -threads {threads}")


if __name__ == "__main__":
    main(*sys.argv[1:])
