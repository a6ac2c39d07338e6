"""Prepare a machine image: compile every kernel that registrations use, and keep the code on disk.

    python -m classreg.warmup

Registers a tiny generated pair with every model and every metric, then resamples it in every way, so that whatever a
later call needs is compiled; processes that come after load it. Prints what was compiled and where it lies. Exits with
1 and one sentence if the code cannot be kept.

Must not be imported by any other module.
"""

from __future__ import annotations

import os
import pkgutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import numpy as np

from .errors import ClassregError, FileError

#: label maps are voted on as unsigned integers of these sizes, see `sampling.resample_labels`
LABELS = (np.uint8, np.uint16, np.uint32, np.uint64)


@dataclass(frozen=True)
class Compiled:
    """What warming up found of one kernel.

    `seconds` is what its compilation took in this process, 0 if it was loaded; `versions` counts its signatures, of
    which there is one unless a kernel serves several dtypes.
    """

    name: str
    versions: int
    loaded: int
    seconds: float


def kernels() -> Iterator[tuple[str, object]]:
    """(module.name, dispatcher) of every kernel there is: the functions of (start, stop, slab, ...)."""
    from .kernels import cpu

    for found in pkgutil.iter_modules(cpu.__path__):
        for name, value in vars(import_module(f"{cpu.__name__}.{found.name}")).items():
            code = getattr(getattr(value, "py_func", None), "__code__", None)
            if code is not None and code.co_varnames[2:3] == ("slab",):
                yield f"{found.name}.{name}", value


def cache_folder() -> Path:
    """The folder that compiled kernels are kept in.

    Raises
    ------
    FileError
        If there is none that can be written to, or NUMBA_CACHE_DIR names one that cannot: Numba would then fall back to
        another without a word.
    """
    wanted = os.environ.get("NUMBA_CACHE_DIR")
    try:
        folder = Path(next(kernels())[1].stats.cache_path)
    except RuntimeError as error:
        raise FileError(f"compiled kernels cannot be kept ({error}): neither the folder of the package nor the user's "
                        "cache folder can be written to; set NUMBA_CACHE_DIR to a folder that can") from error
    if wanted and Path(wanted).absolute() not in folder.absolute().parents:
        raise FileError(f"compiled kernels cannot be kept in NUMBA_CACHE_DIR={wanted}: it cannot be made or written "
                        "to; name another folder, or change its permissions")
    return folder


def warm_up() -> list[Compiled]:
    """Compile or load every kernel; what was done, slowest first.

    Raises
    ------
    FileError
        If the code cannot be kept on disk.
    """
    cache_folder()
    try:
        _exercise()
    except OSError as error:
        raise FileError(f"compiled kernels cannot be kept in {cache_folder()}: {error}; make room there, or set "
                        "NUMBA_CACHE_DIR to another folder") from error
    return sorted((_report(name, kernel) for name, kernel in kernels()), key=lambda c: (-c.seconds, c.name))


def _exercise() -> None:
    """A few iterations of every model with every metric, and all that results are asked for."""
    from . import api
    from .datasets import head_phantom
    from .metrics import METRICS
    from .models import MODELS, SYMMETRIC
    from .transforms import folds

    pair = head_phantom(8.0)
    masks = {f"{name}_mask": getattr(pair, f"{name}_labels").array > 0 for name in ("fixed", "moving")}
    for model in MODELS:
        for metric in (*METRICS, {"name": "mind", "mode": "exact"}):
            if model in SYMMETRIC and not (isinstance(metric, str) and METRICS[metric].symmetric):
                continue
            result = api.register(pair.fixed, pair.moving, model=model, metric=metric, iterations=2, **masks)
        cubic = replace(result.plan, stages=tuple(replace(stage, order=3) for stage in result.plan.stages))
        api.register(pair.fixed, pair.moving, plan=cubic)
        for interpolation in ("linear", "cubic"):
            api.apply(result, pair.moving, pair.fixed, interpolation=interpolation)
        result.transform.inverse()
        result.transform.map_points(pair.fixed_points)
    plan = api.plan(pair.fixed, pair.moving, model="bspline")
    stage = replace(plan.stages[-1], regularisers=({"name": "volume", "below": 1.0},))  # a barrier that acts
    api.register(pair.fixed, pair.moving, plan=replace(plan, stages=(*plan.stages[:-1], stage)))
    _steered(api, pair, masks)
    _grouped(pair)
    for model, optimiser in (("bspline", "asgd"), ("bspline", "newton_cg"), ("dense", "newton_cg")):
        api.register(pair.fixed, pair.moving, model=model, optimiser=optimiser, iterations=2)
    wild = np.random.default_rng(0).normal(scale=5, size=(3, 6, 6, 6)).astype(np.float32)
    folds.suspects(wild, np.full(3, 10.0), np.eye(3))  # a lattice that no registration above may have come to
    for dtype in LABELS:
        labels = pair.moving_labels.with_array(pair.moving_labels.array.astype(dtype))
        api.apply(result, labels, pair.fixed, interpolation="label")


def _steered(api, pair, masks) -> None:
    """Energies, filters and priors that no default has."""
    from .models import with_priors

    points = pair.fixed_points.tolist()
    region = pair.fixed_labels.with_array((pair.fixed_labels.array > 1).astype(np.uint8))
    priors = ({"name": "landmarks", "fixed": points, "moving": pair.moving_points.tolist()},
              {"name": "rigidity", "region": region})
    energies = [{"name": name, **more} for name in ("diffusion", "curvature", "elastic", "tv", "jacobian")
                for more in ({}, {"where": region})]
    filters = [{"name": name, "sigma": 1.0, "acts_on": what}
               for name, what in (("elastic", "update"), ("curvature", "displacement"))]
    for model in ("bspline", "greedy"):
        plan = api.plan(pair.fixed, pair.moving, model=model, metric="ncc", iterations=1)
        stage = replace(plan.stages[-1], regularisers=(*energies, *(filters if model == "greedy" else ())))
        stages = with_priors((*plan.stages[:-1], stage), priors)
        api.register(pair.fixed, pair.moving, plan=replace(plan, stages=tuple(stages)), **masks)


def _grouped(pair) -> None:
    """Every metric of a stack."""
    from .metrics.group import GROUP_METRICS

    stack = np.stack([pair.fixed.data, pair.fixed.data[:, ::-1], pair.fixed.data[..., ::-1]]).astype(np.float32)
    stack = np.ascontiguousarray((stack - stack.mean()) / stack.std())
    weights = np.ones((len(stack), *stack.shape[2:]), np.float32)
    for make in GROUP_METRICS.values():
        metric = make()
        metric.prepare(list(stack), pair.fixed.grid)
        for _ in range(2):
            if hasattr(metric, "refresh"):
                metric.refresh(stack, weights)
        metric(stack, weights)
        if hasattr(metric, "curvature"):
            metric.curvature(stack, weights)


def _report(name, kernel) -> Compiled:
    hits, misses = (sum(counts.values()) for counts in (kernel.stats.cache_hits, kernel.stats.cache_misses))
    made = [kernel.overloads[signature] for signature in kernel.stats.cache_misses]
    return Compiled(name, hits + misses, hits, sum(m.metadata["timers"].get("compiler_lock", 0) for m in made))


def main() -> int:
    """Warm up and say what was done; the exit code."""
    say = sys.stdout.write
    start = time.perf_counter()
    try:
        done = warm_up()
    except ClassregError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    folder = cache_folder()
    for kernel in done:
        what = f"compiled in {kernel.seconds:.2f} s" if kernel.versions > kernel.loaded else "loaded"
        say(f"{kernel.name:28} {kernel.versions} version{'s' * (kernel.versions != 1):1} {what}\n")
    fresh = sum(kernel.versions - kernel.loaded for kernel in done)
    files = sorted(folder.glob("*.nb[ci]"))
    say(f"{fresh} compiled in {sum(k.seconds for k in done):.1f} s, {sum(k.loaded for k in done)} loaded; all in all "
        f"{time.perf_counter() - start:.1f} s\n")
    say(f"kept in {folder}: {len(files)} files, {sum(f.stat().st_size for f in files) / 1e6:.1f} MB"
        f"{' (NUMBA_CACHE_DIR)' if os.environ.get('NUMBA_CACHE_DIR') else ''}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
