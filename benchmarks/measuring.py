"""What the benchmarks share: cubes of generated heads, the peak memory of a process, JSON that workers report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np


def cube(size: int, folder: Path) -> dict[str, str]:
    """Files of a fixed and a moving head of `size` voxels per axis, uncompressed."""
    from classreg.io import save_image

    files = {}
    for name, image in zip(("fixed", "moving"), heads((size,) * 3)):
        files[name] = str(folder / f"{name}-{size}.nii")
        save_image(image, files[name])
    return files


def heads(shape):
    """A fixed and a moving head of `shape` (z, y, x), isotropic.

    They are generated at 2.5 mm and brought to the shape by linear interpolation, so that one of 384 cubed costs
    no more than its file; what an iteration costs does not depend on how smooth the image is.
    """
    from classreg.datasets import head_phantom
    from classreg.fitted import FittedTransform
    from classreg.grid import Grid
    from classreg.resample import resample

    pair = head_phantom(2.5)
    for image in (pair.fixed, pair.moving):
        axes = image.grid.affine[:3, :3] / image.grid.spacing
        step = axes * float(np.max(image.grid.extent / (np.array(shape) - 1)))
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = step, image.grid.centre - step @ ((np.array(shape) - 1) / 2)
        grid = Grid(tuple(shape), affine)
        yield resample(FittedTransform.from_matrix(np.eye(4), grid, image.grid), image, grid, "linear")


def high_water() -> int:
    """Peak resident bytes of this process since `reset_high_water`."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def reset_high_water() -> None:
    """Set the mark to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def report_of(script: str, spec: dict) -> dict:
    """What `script --worker SPEC` prints as JSON on its last line, in a process of its own; or its error."""
    done = subprocess.run([sys.executable, script, "--worker", json.dumps(spec)], capture_output=True, text=True)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def warm_kernels() -> None:
    """Compile what is not compiled yet, so that nothing measured waits for it."""
    subprocess.run([sys.executable, "-m", "classreg.warmup"], check=True, stdout=subprocess.DEVNULL)
