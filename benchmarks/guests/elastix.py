"""elastix as a guest of `classreg compare`: runs in an environment with itk-elastix.

    python elastix.py affine|deformable FIXED MOVING OUTPUT COST THREADS

The default parameter maps of itk-elastix, rigid, affine and, for deformable, bspline, four resolutions each, with
AutomaticTransformInitialization for the first. elastix writes its transform parameter files to the folder OUTPUT, the
last of which, named by OUTPUT.txt, says which goes before it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import itk
from cost import measured

STAGES = {"affine": ("rigid", "affine"), "deformable": ("rigid", "affine", "bspline")}


def main(model, fixed, moving, output, report, threads):
    """Register two files."""
    getattr(itk, "ParameterObject")  # noqa: B009  loads what the first use would load
    # the filter's own option, number_of_threads, crashes with the default map "bspline"
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(int(threads))
    f, m = (itk.imread(path, itk.F) for path in (fixed, moving))
    folder = Path(output)
    folder.mkdir()
    with measured(report):
        maps = itk.ParameterObject.New()
        for name in STAGES[model]:
            parameters = maps.GetDefaultParameterMap(name, 4)
            parameters["WriteResultImage"] = ["false"]
            if name == "rigid":
                parameters["AutomaticTransformInitialization"] = ["true"]
            maps.AddParameterMap(parameters)
        itk.elastix_registration_method(f, m, parameter_object=maps, log_to_console=False, output_directory=str(folder))
    last = folder / f"TransformParameters.{len(STAGES[model]) - 1}.txt"
    shutil.copyfile(last, f"{output}.txt")


if __name__ == "__main__":
    main(*sys.argv[1:])
