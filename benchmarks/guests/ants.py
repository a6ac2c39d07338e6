"""ANTs as a guest of `classreg compare`: runs in an environment with antspyx.

    python ants.py 'Affine|SyN|antsRegistrationSyN[s]|...' FIXED MOVING OUTPUT COST THREADS

`ants.registration` with its defaults and one seed. OUTPUT.nii.gz is what ANTs composes of its transforms: a
displacement on the fixed grid in LPS mm.
"""

from __future__ import annotations

import os
import shutil
import sys

HERE = sys.path.pop(0)  # where this file lies, which has the name of the package


def main(kind, fixed, moving, output, report, threads):
    """Register two files."""
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = threads
    os.environ["ANTS_RANDOM_SEED"] = "1"
    import ants

    sys.path.append(HERE)
    from cost import measured

    f, m = ants.image_read(fixed), ants.image_read(moving)
    with measured(report):
        found = ants.registration(f, m, type_of_transform=kind, outprefix=f"{output}_", random_seed=1)
    composed = ants.apply_transforms(f, m, found["fwdtransforms"], compose=f"{output}_whole_")
    shutil.move(composed, f"{output}.nii.gz")


if __name__ == "__main__":
    main(*sys.argv[1:])
