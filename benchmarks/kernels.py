"""How long each kernel takes on a brain-sized volume, beside what the machine's memory would allow.

    python benchmarks/kernels.py [--threads N] [--repeat N] [--shape Z Y X] [--output kernels.json]

The floor of a kernel is the time to move its arrays once, sum of their bytes / bandwidth; the bandwidth is
that of a triad a + s b on large arrays with as many threads (as in STREAM: bytes of three arrays over the
best time). A kernel near its floor is limited by memory and can only be fused away; one far above it is
limited by arithmetic or gathers; one below it found its arrays in the last cache. Times are the best of some
runs, after one that compiles: leave the machine alone meanwhile (its load is in the report). Prints a
Markdown table and writes JSON.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pkgutil
import platform
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np

from classreg.backend import Workspace
from classreg.descriptors import Patch, padded
from classreg.kernels import cpu
from classreg.kernels.cpu import (
    dense,
    descriptors,
    discrete,
    edges,
    filters,
    flow,
    folds,
    histogram,
    histogram_pair,
    labels,
    lattice,
    local,
    points,
    pointwise,
    sample,
    sample_cubic,
    slopes,
)
from classreg.spline import BLOCK, basis, spline_band, spline_gram
from classreg.stencil import gaussian_taps

sys.path.insert(0, str(Path(__file__).parent))
from group_kernels import stacks

MIB = 1 << 20


def lattices(cells):
    """The kernels of energies of a lattice of `cells` cells per axis, and of the bound over its cells."""
    n, m = cells + 3, 2 * cells + 1
    theta = np.random.default_rng(1).normal(scale=0.01, size=(3, n, n, n)).astype(np.float32)
    grams = np.stack([spline_gram(cells, 4.0, r).diagonals for r in range(3)]).astype(np.float32)
    terms = np.array([(c, c, *2 * np.eye(3, dtype=int)[a]) for c in range(3) for a in range(3)])
    factors = np.ones(len(terms), np.float32)
    planes, slab = np.empty((3, *theta.shape), np.float32), max(1, 3 * n // 32)
    yield lattice.gram_planes, "3 terms", 3 * n, slab, (theta, grams, grams, terms, factors, planes)
    yield lattice.gram_sum, "3 terms", 3 * n, slab, (theta, planes, grams, np.empty_like(theta), sums(3 * n, slab, 1))
    at = spline_band(np.arange(m) / 2, cells)
    along = (at.starts, at.weights.astype(np.float32), at.weights.astype(np.float32))
    parts, force = np.zeros((3, 3, n, m, m), np.float32), np.empty((3, 3, m, m, m), np.float32)
    active, slab = np.ones((m, m), np.bool_), max(1, m // 32)
    yield lattice.volume, "half cells", m, slab, (parts, *along, np.eye(3), 0.3, 0.05, 1.0, active, force,
                                                   sums(m, slab, 2))
    active = np.ones((m, m), np.bool_)
    yield lattice.volume_back, "every row", n, slab, (np.zeros_like(force), active, *along, parts)
    nodes = (basis(np.linspace(0, 1, 9)), basis(np.linspace(0, 1, 9), 1), np.eye(9))
    boxes = np.zeros((max(1, cells**3 // 8), 3, 4, 4, 4, 8))
    yield folds.least, "eight cells at once", len(boxes), 64, (boxes, *nodes, *nodes, np.ones(3), np.eye(3),
                                                               np.empty((len(boxes), 8)))


def energies(shape):
    """The kernels of energies of slopes at points, and what turns a gradient."""
    fresh, none, push = np.zeros((3, 3, *shape), np.float32), np.empty((0, 0, 0), np.float32), np.eye(3)
    z, end = shape[0], (1e-6, sums(shape[0], 16, 1))
    yield slopes.quadratic, "elastic", z, 16, (fresh, none, push, 0.0, 1.0, 0.5, *end)
    yield slopes.variation, "", z, 16, (fresh, none, push, 1.0, 0.05, *end)
    yield slopes.volume_change, "", z, 16, (fresh, none, push, 1.0, *end)
    yield slopes.rigidity, "", z, 16, (fresh, none, push, np.eye(3), 1.0, *end)
    yield dense.turn, "", z, 16, (fresh[0], fresh[1], push, fresh[2])
    yield filters.damp, "", z, 16, (fresh[0, 0], *(np.ones(k) for k in shape), 1)
    yield filters.damp_elastic, "", z + 1, 16, (fresh[0], *(np.linspace(0, 1, k + 1) for k in shape), 1.0, 1.0)
    yield filters.rotate, "", z, 16, (fresh[0], np.eye(3), np.zeros(3), fresh[1])


def cases(shape):
    """(kernel, note, range of its work items, slab, arguments) for images of `shape` (z, y, x)."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=shape).astype(np.float32)
    other, weight = np.roll(image, 1, axis=2), np.ones(shape, np.float32)
    field = np.cumsum(rng.normal(scale=0.02, size=(3, *shape)), axis=3).astype(np.float32)
    out, outs = [np.empty(shape, np.float32) for _ in range(3)], np.empty_like(field)
    turn, push, none = turned(shape), np.eye(3), np.empty((3, 0, 0, 0), np.float32)
    z, n = shape[0], image.size

    mirrored = np.pad(image, 1, mode="reflect")
    for name, module, seen in (("linear", sample, image), ("cubic", sample_cubic, mirrored)):
        yield module.warp, f"{name}, matrix", z, 16, (seen[None], turn, push, none, out[0][None], out[1])
        yield module.warp, f"{name}, field", z, 16, (seen[None], turn, push, field, out[0][None], out[1])
        yield module.force, f"{name}, field", z, 16, (seen[None], turn, push, field, other[None], outs)
    yield sample.force_moments, "", z, 16, (field, sums(z, 16, 12))
    yield sample.reduce, "12 sums", z, 16, (image[None], turn, other[None], sums(z, 16, 12))
    yield sample.normal, "12 x 12 sums", z, 16, (image[None], turn, weight[None], sums(z, 16, 144))
    yield dense.stencil, "with curvature", z, 16, (image[None], other[None], weight[None], push,
                                                   np.empty((4, *shape), np.float32), sums(z, 16, 2))
    yield dense.newton, "", z, 16, (field, np.abs(image), 0.1, 1.0, outs)
    tensor = np.empty((6, *shape), np.float32)
    yield dense.tensor, "one channel", z, 16, (field, weight, True, tensor)
    yield dense.multiply, "", z, 16, (tensor, field, outs)
    none = np.empty((3, 0, 0, 0), np.float32)
    index = np.eye(4)[:3]
    yield flow.flow, "two voxels a step", z, 16, (field, index, push, none, push, 0.5, outs)
    yield dense.compose, "", z, 16, (field, np.roll(field, 1, axis=2), push, outs)
    planes = np.stack([np.arange(z) - 1, np.arange(z) + 2], -1)
    yield dense.reach, "", z, 16, (field, push, planes)
    yield dense.square_back, "", z, 16, (field, push, planes, np.roll(field, 1, axis=2), outs)
    yield labels.vote, "uint8", z, 16, ((image > 0).astype(np.uint8), turn, push, field, np.uint8(0),
                                        np.empty(shape, np.uint8))
    three = [gaussian_taps(1.7) for _ in shape]
    yield filters.smooth, "field, sigma 1.7", z, 16, (field, *three, outs)

    cells = max(1, z // 5)
    operator = spline_band(np.linspace(0, cells, z), cells)
    lines = np.ones((3, cells + 3, n // z), np.float32)
    work = 3 * -(-(n // z) // BLOCK)
    slab, flat = max(1, work // 32), (3, z, n // z)
    taps = (operator.starts, operator.weights.astype(np.float32), BLOCK)
    yield filters.band, "spline along z", work, slab, (lines, *taps, outs.reshape(flat))
    back = operator.transposed
    taps = (back.starts, back.weights.astype(np.float32), BLOCK)
    yield filters.band, "its transpose", work, slab, (field.reshape(flat), *taps, lines)

    rows = field.reshape(-1, shape[2])
    last = spline_band(np.linspace(0, cells, shape[2]), cells)
    taps = (last.starts, last.weights.astype(np.float32))
    few = rows[:, :cells + 3].copy()
    yield filters.band_last, "spline along x", len(rows), 64, (few, *taps, outs.reshape(rows.shape))
    yield from lattices(cells)
    yield from energies(shape)
    theta, world = np.zeros((3, *[cells + 3] * 3), np.float32), rng.uniform(0, cells, (4096, 3))
    where, forces = (world, np.eye(3, 4), np.full(3, cells)), np.ones((3, 4096), np.float32)
    yield points.spline, "4096 points", 4096, 1 << 10, (theta, *where, forces)
    yield points.spline_back, "4096 points", 3, 1, (forces, *where, theta)
    yield folds.count, "central differences", z, 16, (field, np.eye(3), np.ones(3), 0.0, sums(z, 16, 1))

    window = (image, other, weight, 4, 4, 4)
    yield local.correlation, "radius 4", z, 32, (*window, np.float32(1e-4), 0.5, *out, none[:2], sums(z, 32, 2))
    yield local.correlation_adjoint, "radius 4", z, 32, (*window, -1.0, *out, *outs[:2])
    origin, scale = np.full(2, 18.0), np.full(2, 3.0)
    slab = max(1, -(-z // 32))
    tables = np.zeros((-(-z // slab), 36, 36))
    yield histogram.joint, "32 bins", z, slab, (image, other, weight, origin, scale, 2, tables)
    yield histogram.joint_adjoint, "32 bins", z, 16, (image, other, weight, origin, scale, 2, tables[0], out[0])
    given = (image, other, weight, 18.0, 3.0)
    yield histogram.conditional, "32 bins", z, slab, (*given, np.zeros((len(tables), 2, 36)))
    yield histogram.conditional_adjoint, "32 bins", z, 16, (*given, np.ones(36), 0.5, out[0])
    yield histogram_pair.joint_pair, "32 bins", z, slab, (image, other, weight, origin, scale, tables)
    yield histogram_pair.joint_pair_adjoint, "32 bins", z, 16, (image, other, weight, origin, scale, tables[0],
                                                                    *out[:2])
    yield histogram.look_up, "32 bins", z, 16, (image, weight, 18.0, 3.0, np.ones(36), out[0])
    frame, parts = np.eye(3), np.empty((4, *shape), np.float32)
    yield edges.lengths, "", z, 16, (image, weight, frame, sums(z, 16, 2))
    yield edges.directions, "", z, 16, (image, frame, 0.5, outs)
    yield edges.agreement, "", z, 16, (outs, other, weight, frame, 0.5, parts, sums(z, 16, 2))
    yield edges.agreement_adjoint, "", z, 16, (parts, frame, -1.0, 1.0, *out[:2])
    yield from described(image, weight)
    yield from searches(tuple(max(8, k // 4) for k in shape), rng)
    yield pointwise.moments, "", z, 16, (image, other, weight, sums(z, 16, 6))
    yield pointwise.charbonnier, "", z, 16, (image, other, weight, 0.1, sums(z, 16, 2))
    yield pointwise.charbonnier_adjoint, "", z, 16, (image, other, weight, 0.1, 0.5, out[0])
    yield pointwise.charbonnier_curvature, "", z, 16, (image, other, weight, 0.1, 0.5, out[0])
    yield pointwise.residuals, "", z, 16, (image[None], other[None], weight, 0.5, out[0][None], sums(z, 16, 1))
    yield pointwise.combine, "", z, 16, (image, other, weight, 1.0, -1.0, 0.5, out[0])
    yield pointwise.dot, "field", 3 * n, 1 << 18, (field.ravel(), outs.ravel(), sums(3 * n, 1 << 18, 1))
    yield pointwise.total, "field", 3 * n, 1 << 18, (field.ravel(), sums(3 * n, 1 << 18, 1))
    yield pointwise.apart, "field", 3 * n, 1 << 18, (field.ravel(), outs.ravel(), sums(3 * n, 1 << 18, 1))
    yield pointwise.add_scaled, "field", 3 * n, 1 << 18, (field.ravel(), 0.5, outs.ravel(), outs.ravel())
    yield pointwise.largest, "field", z, 16, (field, push, sums(z, 16, 1))
    yield from stacks(image, weight, sums)


def searches(shape, rng):
    """The kernels of the discrete search, on a coarse grid of `shape`: cells of 4 samples, 9 steps of 2 per axis."""
    reach, channels = 8, 12
    wide = tuple(k + 2 * reach for k in shape)
    out = rng.random((channels, *wide), np.float32)
    fixed, weight = np.ones((channels, *shape), np.float32), np.ones(shape, np.float32)
    bounds = [np.stack([np.arange(0, k - 3, 4), np.arange(4, k + 1, 4)], -1) for k in shape]
    shifts = np.stack(np.meshgrid(*[np.arange(0, 17, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    volume, sums = np.empty((*map(len, bounds), len(shifts)), np.float32), np.zeros((len(bounds[0]), 1))
    yield discrete.cost, "729 shifts, coarse grid", len(bounds[0]), 1, (
        fixed, weight, out, np.ones(wide, np.float32), *bounds, np.array([2, 2]), shifts, volume, sums)
    flat = volume.reshape(-1, len(shifts))
    centre = np.zeros((len(flat), 3), np.float32)
    yield discrete.cheapest, "729 shifts, coarse grid", len(flat), 64, (
        flat, shifts.astype(np.float32), 0.1, centre, np.empty_like(centre))


def described(image, weight):
    """The kernels of self-similarity, there and back, with the defaults of mind."""
    patch = Patch.of((0, 1, 2), (2, 2, 2), (1, 1, 1))
    z, (wide, there) = len(image), (padded(a, patch) for a in (image, weight))
    fixed, moving, count = np.empty((3, len(patch.pairs), *image.shape), np.float32)
    geometry = (patch.first, patch.radius)
    yield descriptors.pad, "", len(wide), 16, (image, patch.margin, wide)
    yield descriptors.distances, "12 pairs", z, 16, (wide, *geometry, fixed)
    yield descriptors.descriptors, "12 pairs", z, 16, (1e-3, 1e3, fixed)
    yield descriptors.weighted_distances, "12 pairs", z, 16, (wide, there, *geometry, moving, count)
    yield descriptors.mismatch, "12 pairs", z, 16, (fixed, weight, 1e-3, 1e3, 1.0, 1.0, count, moving,
                                                      np.empty_like(image), sums(z, 16, 1))
    turned = np.empty((len(moving), *(np.array(image.shape) + 2)), np.float32)
    yield descriptors.spread, "12 pairs", z + 2, 16, (wide, there, *geometry, moving, turned)
    yield descriptors.collect, "12 pairs", z, 16, (turned, patch.first, patch.margin, np.zeros_like(image))


def sums(n, slab, width):
    """Where `width` partial sums per slab go."""
    return np.zeros((-(-n // slab), width))


def turned(shape):
    """A turn by 5 degrees about x through the middle, as a (3, 4) index matrix."""
    c, s = np.cos(np.radians(5)), np.sin(np.radians(5))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    middle = (np.array(shape) - 1) / 2
    return np.column_stack([turn, middle - turn @ middle])


def best(workspace, kernel, n, slab, args, repeat):
    """Shortest time of some runs in seconds, after one to warm up."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        workspace.run(kernel, n, *args, slab=slab)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def bandwidth(workspace, repeat, size=48 * MIB):
    """Bytes per second of a + s b on three arrays of `size` float32."""
    a, b, out = np.ones(size, np.float32), np.ones(size, np.float32), np.zeros(size, np.float32)
    return 12 * size / best(workspace, pointwise.add_scaled, size, 1 << 18, (a, 0.5, b, out), repeat)


def moved(args):
    """Bytes of the arrays among the arguments: what must be read or written at least."""
    return sum(a.nbytes for a in args if isinstance(a, np.ndarray))


def every_kernel():
    """Names of all kernels there are: functions of (start, stop, slab, ...)."""
    for found in pkgutil.iter_modules(cpu.__path__):
        for name, value in vars(import_module(f"{cpu.__name__}.{found.name}")).items():
            code = getattr(getattr(value, "py_func", None), "__code__", None)
            if code and code.co_varnames[2:3] == ("slab",):
                yield f"{found.name}.{name}"


def machine(threads):
    """What the numbers belong to."""
    here = Path(__file__).parent
    info = Path("/proc/cpuinfo")
    models = [v.split(":")[1].strip() for v in info.read_text().splitlines() if v.startswith("model name")] \
        if info.exists() else []
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    ask = ["git", "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(ask, cwd=here, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        commit = ""
    return {"processor": models[0] if models else platform.processor(), "cores": os.cpu_count(),
            "threads": threads, "system": platform.platform(), "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("numpy", "numba", "llvmlite")},
            "commit": commit or None, "load": load, "date": time.strftime("%Y-%m-%d %H:%M:%S")}


def measure(shape, threads=None, repeat=5, size=48 * MIB):
    """The report as plain data."""
    with Workspace(threads) as workspace:
        speed = bandwidth(workspace, repeat, size)
        rows = []
        for kernel, note, n, slab, args in cases(tuple(shape)):
            seconds = best(workspace, kernel, n, slab, args, repeat)
            name = f"{kernel.py_func.__module__.rsplit('.', 1)[1]}.{kernel.py_func.__name__}"
            rows.append({"kernel": name, "note": note, "ms": 1e3 * seconds, "MB": moved(args) / 1e6,
                         "floor_ms": 1e3 * moved(args) / speed})
        missing = sorted(set(every_kernel()) - {row["kernel"] for row in rows})
        return {"machine": machine(workspace.threads), "shape": list(shape), "bandwidth_GB_s": speed / 1e9,
                "kernels": rows, "not_measured": missing}


def table(report):
    """The report as Markdown."""
    head = report["machine"]
    size = " x ".join(map(str, report["shape"]))
    lines = [f"{size} voxels, {head['threads']} threads, {head['processor']}, commit {head['commit']}; "
             f"triad {report['bandwidth_GB_s']:.1f} GB/s", "",
             "| kernel | | ms | MB | floor ms | times floor | GB/s | % of triad |",
             "|---|---|--:|--:|--:|--:|--:|--:|"]
    for row in report["kernels"]:
        lines.append(f"| {row['kernel']} | {row['note']} | {row['ms']:.2f} | {row['MB']:.0f} | "
                     f"{row['floor_ms']:.2f} | {row['ms'] / row['floor_ms']:.1f} | {row['MB'] / row['ms']:.1f} | "
                     f"{100 * row['floor_ms'] / row['ms']:.0f} |")
    if report["not_measured"]:
        lines += ["", "not measured: " + ", ".join(report["not_measured"])]
    return "\n".join(lines)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="all cores by default")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--shape", type=int, nargs=3, default=(160, 192, 224), metavar=("Z", "Y", "X"))
    parser.add_argument("--output", type=Path, default=Path("kernels.json"))
    args = parser.parse_args()
    report = measure(args.shape, args.threads, args.repeat)
    print(table(report))
    args.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
