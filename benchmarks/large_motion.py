"""Real pairs with a large, smooth, known motion on top, and what classreg and its peers make of them.

    CLASSREG_DATA=FOLDER PEERBENCH=PATH/peerbench.py
        PEERBENCH_PYTHON='*=PEERS/bin/python,convexadam=CVX/bin/python'
        python benchmarks/large_motion.py [--only ROW ...] [--resume] [--output FOLDER]
    python benchmarks/large_motion.py --case CASE OUT [--peak 25] [--seed 1] [--self]

The moving image M of a case becomes M'(y) = M(psi(y)) with psi(y) = y + s(y), s breathing-like: mostly along world z
(cranio-caudal), a third as much along y, zero at both ends of the field of view so that nothing leaves it, large in
the middle and small at the sides, as a diaphragm moves and a chest wall does not; its longest vector has `--peak` mm.
Landmarks and labels are carried along, so a transform is right if it takes fixed landmarks to the moved ones. With
--self the fixed image is the original moving one, the new moving image has another gain, gamma and noise, and 2000
points of the foreground are the truth.

Without --case all rows are run: classreg with the defaults of two models, the peers (see `peers.py`, which explains
the settings), and the model that the docs recommend for such images once more from the known motion, psi^-1 A, A the
affine map between the images before they were moved. What that ends at is what metric, regulariser and truth leave of
a perfect start. Writes `large_motion.json` and `large_motion.md`.
With --resume the lines that are there already stay.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import map_coordinates

import classreg
from classreg import Grid
from classreg.fitted import FittedTransform
from classreg.io import load
from classreg.io.transforms import write_transform
from classreg.mapping import Mapping, invert_points

sys.path.insert(0, str(Path(__file__).parent))
from kernels import machine
from peers import Harness

#: row -> case, peak in mm, seed, whether the fixed image is the original moving one; the model for such images
ROWS = {
    "liver-mr-a": (("liver-mr-a", 25.0, 1, False), "bspline"),
    "liver-mr-b": (("liver-mr-b", 25.0, 2, False), "bspline"),
    "lung-ct": (("lung-ct", 28.0, 3, False), "bspline"),
    "brain-oasis": (("brain-oasis", 25.0, 4, False), "greedy"),
    "brain-oasis, itself": (("brain-oasis", 25.0, 5, True), "bspline"),
}
OURS = ("classreg-bspline", "classreg-greedy")
PEERS = ("greedy", "convexadam")

#: what a case folder holds for those that begin at the known motion
START = "known_motion.h5"

#: mm between the samples of that motion
STEP = 5.0

NOTE = """The moving images of real pairs with a large smooth known motion on top, at most `peak mm` long; mean distance
of landmarks in mm, of brain-oasis 1 - mean Dice. "Itself": the fixed image is the moving one before it was moved, with
another gain, gamma and noise, and 2000 points of the foreground are the truth. All with their defaults; "from the known
motion" begins the deformation where the added motion and the affine map before it would put it, so that no search can
find a better start: what is left is metric, regulariser and truth."""


class Motion:
    """s(y) in mm at world points, over the world box of a grid; psi = id + s is a diffeomorphism (checked)."""

    def __init__(self, grid: Grid, peak: float, seed: int):
        rng = np.random.default_rng(seed)
        corners = grid.corners()
        self.low, self.size = corners.min(0), np.ptp(corners, axis=0)
        self.top = rng.uniform(0.4, 0.6)  # where along z the motion is largest
        self.phase, self.amount = rng.uniform(0, 2 * np.pi, 6), rng.uniform(0.05, 0.15, 6)
        self.scale = 1.0
        some = np.stack(np.meshgrid(*[np.linspace(0, 1, 33)] * 3, indexing="ij"), -1).reshape(-1, 3)
        some = some * self.size + self.low
        self.scale = peak / np.linalg.norm(self(some), axis=1).max()
        h, eye = 0.5, np.eye(3)
        slopes = np.stack([(self(some + h * e) - self(some - h * e)) / (2 * h) for e in eye], -1)
        self.least = float(np.linalg.det(eye + slopes).min())
        if self.least <= 0.1:
            raise SystemExit(f"a motion of {peak} mm nearly folds here (least Jacobian {self.least:.2f}): take less")

    def __call__(self, points: np.ndarray) -> np.ndarray:
        t = np.clip((points - self.low) / self.size, 0, 1)
        z = t[:, 2] ** (np.log(0.5) / np.log(self.top))  # takes the largest motion to the middle
        along = np.sin(np.pi * z) ** 1.2  # a broad top, level at the ends
        waves = [1 + a * np.cos(2 * np.pi * t[:, k % 2] + p)
                 for k, (a, p) in enumerate(zip(self.amount, self.phase))]
        across = [np.sin(np.pi * t[:, k]) ** 0.7 for k in (0, 1)]
        out = np.zeros_like(points)
        out[:, 2] = along * waves[0] * waves[1] * (0.15 + 0.85 * across[0] * across[1])
        out[:, 1] = -0.35 * along * waves[2] * waves[3] * across[1]
        out[:, 0] = 0.15 * along * across[0] * np.cos(2 * np.pi * t[:, 1] + self.phase[5])
        return self.scale * out


def moved(source: str, motion: Motion, order: int):
    """A NIfTI file pulled back through psi, on its own grid, in its own dtype."""
    image = load(source)
    points = image.grid.points().reshape(-1, 3)
    index = image.grid.to_index(points + motion(points)).T.reshape((3, *image.grid.shape))
    values = map_coordinates(image.array.astype(np.float32), index, order=order, mode="nearest")
    return image, np.clip(values, image.array.min(), image.array.max())


def write(path: Path, image, values: np.ndarray) -> None:
    """Values on an image's grid, with its dtype."""
    dtype = image.array.dtype
    values = np.rint(values) if dtype.kind in "iu" else values
    nibabel.save(type(image)(values.astype(dtype), image.grid).to_nibabel(), path)


def make(case: Path, out: Path, peak: float, seed: int, own: bool) -> dict:
    """Write one case folder; what its case.json says."""
    out.mkdir(parents=True, exist_ok=True)
    motion = Motion(load(case / "moving.nii.gz").grid, peak, seed)
    image, values = moved(case / "moving.nii.gz", motion, 3)
    info = json.loads((case / "case.json").read_text())
    if own:
        rng = np.random.default_rng(seed + 1)
        low, high = float(image.array.min()), float(image.array.max())
        t = ((values - low) / (high - low)) ** 0.8 * 0.9 + rng.normal(0, 0.02, values.shape) * (values > low)
        write(out / "fixed.nii.gz", image, image.array)
        write(out / "moving.nii.gz", image, low + (high - low) * np.clip(t, 0, 1))
        inside = np.argwhere(image.array > low + 0.1 * (high - low))
        fixed = image.grid.to_world(inside[rng.choice(len(inside), 2000, replace=False)])
        targets = fixed
    else:
        write(out / "moving.nii.gz", image, values)
        for name in ("fixed.nii.gz", "fixed_labels.nii.gz"):
            if (case / name).exists():
                (out / name).write_bytes((case / name).read_bytes())
        if (case / "moving_labels.nii.gz").exists():
            write(out / "moving_labels.nii.gz", *moved(case / "moving_labels.nii.gz", motion, 0))
        fixed = targets = None
        if (case / "fixed_points.csv").exists():
            fixed, targets = (np.genfromtxt(case / f"{n}_points.csv", delimiter=",", skip_header=1)
                              for n in ("fixed", "moving"))
    if fixed is not None:
        there = invert_points(np.eye(4), motion, targets)
        for name, points in (("fixed", fixed), ("moving", there)):
            np.savetxt(out / f"{name}_points.csv", points, "%.4f", ",", header="x,y,z", comments="")
        info["moved_by_mm"] = float(np.linalg.norm(there - targets, axis=1).mean())
    info.update(peak_mm=peak, seed=seed, least_jacobian=motion.least)
    (out / "case.json").write_text(json.dumps(info, indent=1))
    return info


def known(case: Path, out: Path, peak: float, seed: int, own: bool) -> None:
    """Write the known motion as a transform that a registration can begin from, beside the images.

    It is B (x + u(x)), B the affine map that a registration of the moved images finds by itself, so that only u is
    another one.
    """
    def affine(folder):
        pair = (folder / f"{name}.nii.gz" for name in ("fixed", "moving"))
        return classreg.register(*pair, model="affine").transform.matrix

    fixed = load(out / "fixed.nii.gz").grid
    grid = fixed.coarsen(np.maximum(1, STEP / fixed.spacing))  # so smooth a motion is known between its samples
    points = grid.points().reshape(-1, 3)
    before, after = np.eye(4) if own else affine(case), affine(out)
    motion = Motion(load(case / "moving.nii.gz").grid, peak, seed)
    targets = invert_points(np.eye(4), motion, Mapping(before).apply(points))
    u = (Mapping(np.linalg.inv(after)).apply(targets) - points).T.reshape((3, *grid.shape))
    write_transform(FittedTransform.from_mapping(Mapping(after, u.astype(np.float32), grid), fixed), out / START)


def compare(harness: Harness, data: Path, row: str, lines: dict[str, dict], commit: str):
    """Adds the figures of a row to `lines`, by program; yields after each, and what is there stays."""
    (case, *how), model = ROWS[row]
    best = f"classreg-{model}-known"
    missing = [name for name in ("identity", f"classreg-{model}", best, *PEERS, *OURS) if name not in lines]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / case
        if missing:
            make(data / case, out, *how)
        if best in missing:
            known(data / case, out, *how)
        for name in dict.fromkeys(missing):
            if name in harness.packages or name == "identity":
                lines[name] = {**harness.run(out, "deformable", [name], 1)[0], "commit": commit}
                yield


def error(line: dict) -> float | None:
    """Mean distance in mm where there are points, else 1 - mean Dice."""
    return line.get("tre_mm", 1 - line["dice_mean"] if "dice_mean" in line else None)


def table(report: dict) -> str:
    """The report as one Markdown table."""
    head = report["machine"]
    commits = sorted({line["commit"] for found in report["rows"].values() for name, line in found.items()
                      if name.startswith("classreg") and "commit" in line})
    heads = ["row", "peak mm", "before", *OURS, *PEERS, "from the known motion",
             *(f"{name} / better peer" for name in (*OURS, "from the known motion"))]
    lines = [f"{head['processor']}, {head['cores']} cores, Python {head['python']}, numpy {head['numpy']}, numba "
             f"{head['numba']}, commit {', '.join(commits)}, {head['date']}.", "",
             f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    ratios = []
    for row, found in filter(lambda item: item[1], report["rows"].items()):
        (_, peak, *how), model = ROWS[row]
        names = ["identity", *OURS, *PEERS, f"classreg-{model}-known"]
        values = {name: error(found[name]) for name in names if name in found}
        peers = [values[name] for name in PEERS if values.get(name)]
        cells = [row, f"{peak:.0f}", *(_cell(values.get(name), name in found) for name in names)]
        cells[-1] += f" ({model})"
        cells += [f"{values[name] / min(peers):.2f}" if values.get(name) and peers else ""
                  for name in (*OURS, names[-1])]
        lines.append(f"| {' | '.join(cells)} |")
        if not how[-1] and all(cells[-3:]):
            ratios.append([float(cell) for cell in cells[-3:]])
    lines += ["", "What is empty has not been run."] if any("|  |" in line for line in lines) else []
    if ratios:
        means = [f"{name} {np.exp(np.log(each).mean()):.2f}" for name, each in zip(heads[-3:], zip(*ratios))]
        lines += ["", f"Geometric mean over {len(ratios)} pairs of two images: {', '.join(means)}."]
    return "\n".join(lines)


def _cell(value: float | None, run: bool) -> str:
    return f"{value:.3f}" if value is not None else "failed" if run else ""


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs=2, type=Path, metavar=("CASE", "OUT"), help="only write one case folder")
    parser.add_argument("--peak", type=float, default=25.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--self", action="store_true", dest="own")
    parser.add_argument("--only", nargs="+", choices=ROWS, help="rows to run")
    parser.add_argument("--resume", action="store_true", help="keep what stands in large_motion.json")
    parser.add_argument("--peerbench", type=Path, default=os.environ.get("PEERBENCH"), help="or PEERBENCH")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    if args.case:
        info = make(*args.case, args.peak, args.seed, args.own)
        print(args.case[1].name, {k: round(info[k], 2) for k in ("moved_by_mm", "peak_mm", "least_jacobian")
                                  if k in info})
        return
    if args.peerbench is None or not Path(args.peerbench).is_file():
        parser.error(f"the harness {args.peerbench} is no file: give its path with --peerbench, or in PEERBENCH")
    if not (data := Path(os.environ.get("CLASSREG_DATA", "")) / "pairs").is_dir():
        parser.error(f"{data} is no folder: set CLASSREG_DATA to the folder that holds the cases in pairs")
    args.output.mkdir(parents=True, exist_ok=True)
    path, now = args.output / "large_motion.json", machine(os.cpu_count())
    rows = json.loads(path.read_text())["rows"] if args.resume and path.exists() else {}
    rows = {row: {name: line for name, line in rows.get(row, {}).items() if "error" not in line} for row in ROWS}
    harness = Harness(Path(args.peerbench))
    for row in args.only or ROWS:
        for _ in compare(harness, data, row, rows[row], now["commit"]):
            path.write_text(json.dumps({"machine": now, "rows": rows}, indent=1) + "\n")
    report = {"machine": now, "rows": rows}
    (args.output / "large_motion.md").write_text(f"# Large motion\n\n{NOTE}\n\n{table(report)}\n")
    print(table(report))


if __name__ == "__main__":
    main()
