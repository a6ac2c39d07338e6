"""Real time series with a known motion of each frame on top, and what `register_series` leaves of it.

    CLASSREG_DATA=FOLDER python benchmarks/series.py [--only NAME ...] [--methods NAME ...] [--output FOLDER]

The first frames of a series are turned by up to `TURN` degrees about each axis and shifted by up to `SHIFT` mm along
it, at random, in the plane only where the series is one slice, and corrected with the defaults. Errors are distances
in mm over the brighter 40 % of the grid (`evaluate.group_errors`). "Left" is how far frames lie from where the added
motion alone would be undone, "beside" from where the same method puts the frames as they were recorded, since frames
also move by themselves. Temporal signal to noise is that of `SeriesResult.summary`.
Writes `series.json` and `series.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import scipy.io

sys.path.insert(0, str(Path(__file__).parent))
from kernels import machine

import classreg
from classreg import Grid, Series
from classreg.evaluate import group_errors
from classreg.fitted import FittedTransform
from classreg.io.series import load_series
from classreg.resample import resample
from classreg.transforms.linear import euler_to_matrix

TURN, SHIFT = 2.0, 2.0

#: name -> file in `series`, how many of its first frames
SERIES = {
    "functional, neck": ("series-sct-fmri-dmri/fmri.nii.gz", 10),
    "spin labelling, brain": ("series-niivue/pcasl.nii.gz", 8),
    "4-D echo, heart": ("echo4d-itksnap/img4d_11f.nii.gz", 11),
    "inversion recovery, heart, one slice": ("molli-ptv/molli.mat", 8),
}

#: mm between the samples of the inversion recovery, whose file tells none: a field of view of 360 mm
PLANE = 360 / 256


def load(path: Path, count: int) -> Series:
    """The first frames of a series; of a MATLAB file in single precision, half its resolution."""
    if path.suffix != ".mat":
        return load_series(path)[:count]
    frames = np.moveaxis(scipy.io.loadmat(path)["imgs"], -1, 0)
    frames = frames.reshape(len(frames), frames.shape[1] // 2, 2, -1, 2).mean((2, 4))
    return load_series(frames, spacing=2 * PLANE)[:count]


def motions(series: Series, seed: int) -> list[np.ndarray]:
    """A matrix of the world per frame, about the middle of the grid; no motion on average is not asked for."""
    rng, d = np.random.default_rng(seed), series.grid.ndim
    found = []
    for _ in range(len(series)):
        turn, matrix = np.radians(rng.uniform(-TURN, TURN, 3)) * ([1, 1, 1] if d == 3 else [0, 0, 1]), np.eye(d + 1)
        matrix[:d, :d] = euler_to_matrix(turn)[:d, :d]
        matrix[:d, d] = series.grid.centre - matrix[:d, :d] @ series.grid.centre + rng.uniform(-SHIFT, SHIFT, d)
        found.append(matrix)
    return found


def moved(series: Series, matrices) -> Series:
    """Frame j as it looks where its content is taken from M_j y."""
    frames = [resample(FittedTransform.from_matrix(m, series.grid, series.grid), frame, series.grid, "cubic").array
              for m, frame in zip(matrices, series.frames)]
    return Series(np.stack(frames), series.grid, series.interval)


def measure(series: Series, method: str, seed: int = 1) -> dict:
    """One row: the recorded and the moved frames corrected, and compared."""
    matrices = motions(series, seed)
    recorded = classreg.register_series(series, method=method)
    result = classreg.register_series(moved(series, matrices), method=method)
    mean = np.abs(series.array).mean(0)
    mask = mean >= np.quantile(mean, 0.6)
    truths = [lambda p, m=m: p @ m[:-1, :-1].T + m[:-1, -1] for m in matrices]
    own = [transform.inverse() for transform in recorded.transforms]
    beside = [lambda p, t=t, back=back: back.map_points(t(p)) for t, back in zip(truths, own)]
    still = [lambda p: p] * len(series)

    def error(transforms, there):
        return group_errors(transforms, there, Grid(mask.shape, series.grid.affine), mask)["gre"]

    signal = "median temporal signal to noise"
    before, after = result.summary()[signal]
    return {"frames": len(series), "shape": list(series.grid.shape), "spacing": series.grid.spacing.tolist(),
            "added": error(still, truths), "left": error(result.transforms, truths),
            "beside": error(result.transforms, beside), "tsnr moved": before, "tsnr corrected": after,
            "tsnr recorded": recorded.summary()[signal][0], "seconds": result.seconds}


def table(report: dict) -> str:
    """The report as Markdown."""
    head = report["machine"]
    lines = [f"Added: turns of up to {TURN:.0f} degrees, shifts of up to {SHIFT:.0f} mm. {head['processor']}, "
             f"{head['cores']} cores, commit {head['commit']}, {head['date']}.", "",
             "| series | method | frames, voxels (mm) | added (mm) | left (mm) | beside (mm) | median tSNR, moved, "
             "corrected (as recorded) | s |", "|---|---|---|--:|--:|--:|---|--:|"]
    for name, methods in report["rows"].items():
        for method, row in methods.items():
            size = " x ".join(f"{x:.2g}" for x in row["spacing"][::-1])
            tsnr = [f"{row[f'tsnr {what}']:.3g}" for what in ("moved", "corrected", "recorded")]
            lines.append(f"| {name} | {method} | {row['frames']}, {size} | {row['added']:.2f} | {row['left']:.2f} | "
                         f"{row['beside']:.2f} | {tsnr[0]}, {tsnr[1]} ({tsnr[2]}) | {row['seconds']:.0f} |")
    return "\n".join(lines)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SERIES, default=list(SERIES), metavar="NAME")
    parser.add_argument("--methods", nargs="+", default=["xcoreg", "ape"])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    data = Path(os.environ.get("CLASSREG_DATA", "")) / "series"
    if not os.environ.get("CLASSREG_DATA") or not data.is_dir():
        parser.error(f"{data} is no folder: set CLASSREG_DATA to the folder that holds the series")
    report = {"machine": machine(0), "rows": {}}
    for name in args.only:
        series = load(data / SERIES[name][0], SERIES[name][1])
        report["rows"][name] = {method: measure(series, method) for method in args.methods}
        print(table(report), file=sys.stderr)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "series.json").write_text(json.dumps(report, indent=1) + "\n")
    (args.output / "series.md").write_text(f"# Time series\n\n{table(report)}\n")
    print(table(report))


if __name__ == "__main__":
    main()
