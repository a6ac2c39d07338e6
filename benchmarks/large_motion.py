"""Real pairs with a large, smooth, known motion on top: case folders for an external harness.

    python benchmarks/large_motion.py CASE OUT [--peak 25] [--seed 1] [--self]

The moving image M of a case becomes M'(y) = M(psi(y)) with psi(y) = y + s(y), s breathing-like: mostly along world z
(cranio-caudal), a third as much along y, zero at both ends of the field of view so that nothing leaves it, large in
the middle and small at the sides, as a diaphragm moves and a chest wall does not; its longest vector has `--peak` mm.
Landmarks and labels are carried along, so a transform is right if it takes fixed landmarks to the moved ones. With
--self the fixed image is the original moving one, the new moving image has another gain, gamma and noise, and 2000
points of the foreground are the truth.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import map_coordinates

from classreg import Grid
from classreg.io import load
from classreg.mapping import invert_points


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


def main():
    """Write one case folder."""
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("case", type=Path)
    ap.add_argument("out", type=Path)
    ap.add_argument("--peak", type=float, default=25.0)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--self", action="store_true", dest="own")
    args = ap.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    motion = Motion(load(args.case / "moving.nii.gz").grid, args.peak, args.seed)
    image, values = moved(args.case / "moving.nii.gz", motion, 3)
    info = json.loads((args.case / "case.json").read_text())
    if args.own:
        rng = np.random.default_rng(args.seed + 1)
        low, high = float(image.array.min()), float(image.array.max())
        t = ((values - low) / (high - low)) ** 0.8 * 0.9 + rng.normal(0, 0.02, values.shape) * (values > low)
        write(args.out / "fixed.nii.gz", image, image.array)
        write(args.out / "moving.nii.gz", image, low + (high - low) * np.clip(t, 0, 1))
        inside = np.argwhere(image.array > low + 0.1 * (high - low))
        fixed = image.grid.to_world(inside[rng.choice(len(inside), 2000, replace=False)])
        targets = fixed
    else:
        write(args.out / "moving.nii.gz", image, values)
        for name in ("fixed.nii.gz", "fixed_labels.nii.gz"):
            if (args.case / name).exists():
                (args.out / name).write_bytes((args.case / name).read_bytes())
        if (args.case / "moving_labels.nii.gz").exists():
            write(args.out / "moving_labels.nii.gz", *moved(args.case / "moving_labels.nii.gz", motion, 0))
        fixed = targets = None
        if (args.case / "fixed_points.csv").exists():
            fixed, targets = (np.genfromtxt(args.case / f"{n}_points.csv", delimiter=",", skip_header=1)
                              for n in ("fixed", "moving"))
    if fixed is not None:
        there = invert_points(np.eye(4), motion, targets)
        for name, points in (("fixed", fixed), ("moving", there)):
            np.savetxt(args.out / f"{name}_points.csv", points, "%.4f", ",", header="x,y,z", comments="")
        info["moved_by_mm"] = float(np.linalg.norm(there - targets, axis=1).mean())
    info.update(peak_mm=args.peak, seed=args.seed, least_jacobian=motion.least)
    (args.out / "case.json").write_text(json.dumps(info, indent=1))
    print(args.out.name, {k: round(info[k], 2) for k in ("moved_by_mm", "peak_mm", "least_jacobian") if k in info})


if __name__ == "__main__":
    main()
