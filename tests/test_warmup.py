"""Warming up leaves nothing to compile, whatever arrays come later; and says so where code cannot be kept."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys

import numba
import pytest
from numba.core import event

from classreg import warmup
from classreg.errors import FileError
from classreg.kernels import cpu

#: every model and metric, in 2-D and 3-D, on arrays in every layout; prints kernel -> how often it was compiled
EVERYTHING = """
import json
import numpy as np
import classreg
from classreg.datasets import head_phantom
from classreg.metrics import METRICS
from classreg.models import MODELS, SYMMETRIC
from classreg.warmup import kernels

def odd(array):
    out = np.asfortranarray(array)
    out.flags.writeable = False
    return out

for ndim in (2, 3):
    pair = head_phantom(9.0, ndim=ndim)
    fixed, moving = (i.with_array(odd(i.array)) for i in (pair.fixed, pair.moving))
    masks = {f"{n}_mask": odd((getattr(pair, n + "_labels").array > 0).astype(np.float32)) for n in ("fixed", "moving")}
    for model in MODELS:
        for metric in ("auto", *METRICS):
            if model in SYMMETRIC and metric in METRICS and not METRICS[metric].symmetric:
                continue
            result = classreg.register(fixed, moving, model=model, metric=metric, **masks)
        result.warped, result.jacobian, result.transform.inverse(), result.transform.map_points(pair.fixed_points)
    for model, optimiser, sampling in (("affine", "gauss_newton", "sobol"), ("affine", "descent", None),
                                       ("bspline", "asgd", None), ("bspline", "newton_cg", None),
                                       ("dense", "newton_cg", None), ("bspline", "lbfgs", "random")):
        for metric in ("ssd", "ncc", "mi"):
            classreg.register(fixed, moving, model=model, metric=metric, optimiser=optimiser, sampling=sampling,
                              iterations=2, **masks)
    again = classreg.register(fixed, moving, model="dense", init=result.transform, iterations=1)
    for dtype in ("int8", "int16", "int32", "int64", "float32"):
        labels = pair.moving_labels.with_array(odd(pair.moving_labels.array.astype(dtype)))
        classreg.apply(again, labels, fixed, interpolation="label")
    for interpolation in ("linear", "nearest", "cubic"):
        classreg.apply(again, moving, fixed, interpolation=interpolation)
print(json.dumps({name: [len(k.stats.cache_misses), len(k.stats.cache_hits)] for name, k in kernels()}))
"""


def process(*args, cache):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_after_warming_up_nothing_is_compiled(tmp_path):
    warm = process("-m", "classreg.warmup", cache=tmp_path)
    assert warm.returncode == 0, warm.stderr
    assert str(tmp_path) in warm.stdout and "compiled in" in warm.stdout
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb[ci]")}
    assert files
    later = process("-c", EVERYTHING, cache=tmp_path)
    assert later.returncode == 0, later.stderr
    counts = json.loads(later.stdout)
    assert {name: compiled for name, (compiled, _) in counts.items() if compiled} == {}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb[ci]")} == files
    for name, _ in warmup.kernels():
        assert f"{name} " in warm.stdout and f"{name:28} 0 versions" not in warm.stdout, f"{name} was not warmed up"


def test_a_cache_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    done = process("-m", "classreg.warmup", cache=tmp_path / "file" / "cache")
    assert done.returncode == 1
    assert "cannot be kept in NUMBA_CACHE_DIR" in done.stderr and "Traceback" not in done.stderr


def test_an_error_while_code_is_kept_names_the_folder(monkeypatch):
    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(warmup, "_exercise", full)
    with pytest.raises(FileError, match="No space left on device"):
        warmup.warm_up()


def test_kernels_are_found():
    names = [name for name, _ in warmup.kernels()]
    assert {"sample.warp", "filters.band", "local.correlation"} <= set(names)
    assert len(names) == len(set(names))


def test_no_garbage_is_collected_while_a_kernel_is_compiled_but_afterwards():
    seen = []

    class Seen(event.Listener):
        def on_start(self, what):
            seen.append(gc.isenabled())

        on_end = on_start

    @numba.njit(nogil=True)  # not kept on disk
    def inner(a):
        return a + 1

    @numba.njit(nogil=True)
    def outer(a):
        return inner(a) if a else inner(a + 1)

    @numba.njit(nogil=True)
    def broken(a):
        return a.nothing_of_the_kind

    assert cpu.Undisturbed in {type(listener) for listener in event._registered["numba:compile"]}
    before = gc.isenabled()
    gc.enable()
    try:
        with event.install_listener("numba:compile", Seen()):
            outer(1)
            assert len(seen) == 4 and not any(seen[:3]) and gc.isenabled()
            with pytest.raises(numba.TypingError):
                broken(1)
            assert gc.isenabled()
            gc.disable()
            inner(1.5)
            assert not gc.isenabled(), "who collects none stays with that"
    finally:
        (gc.enable if before else gc.disable)()
