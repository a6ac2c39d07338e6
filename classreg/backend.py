"""Threads and buffers of one call.

A `Workspace` lives for one `register` call: its thread pool is opened with it and closed at its end, and its named
buffers are reused from iteration to iteration. Work is cut into slabs whose boundaries depend on the size of the
problem alone, and partial results are kept per slab, so every number of threads gives the same bits.

Must not import: anything above floor 0.
"""

from __future__ import annotations

import contextvars
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import ceil, prod

import numpy as np

_current: contextvars.ContextVar[Workspace | None] = contextvars.ContextVar("classreg_workspace", default=None)

#: below this many samples a kernel runs in the calling thread: handing it out costs more than it saves
SMALL = 1 << 16


class Workspace:
    """Thread pool and named buffers of one call; use as a context manager.

    Parameters
    ----------
    threads : int, optional
        Worker threads; all cores that this process may use by default.

    Examples
    --------
    >>> with Workspace(threads=2) as ws:
    ...     ws.buffer("a", (2, 3)).shape
    (2, 3)
    """

    def __init__(self, threads: int | None = None):
        self.threads = available_cores() if threads is None else int(threads)
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        self._buffers: dict[str, np.ndarray] = {}
        self._prefix = ""
        self._token = None

    def __enter__(self) -> Workspace:
        self._token = _current.set(self)
        return self

    def __exit__(self, *exc):
        _current.reset(self._token)
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        self._buffers.clear()

    def buffer(self, name: str, shape, dtype=np.float32) -> np.ndarray:
        """An uninitialised array that lives until `name` is asked for again with another shape.

        The name "scratch" is for what is used up within one stage: whoever asks for it may overwrite the others'.
        """
        shape, dtype = tuple(shape), np.dtype(dtype)
        name = name if name == "scratch" else self._prefix + name
        found = self._buffers.get(name)
        if found is not None and found.shape == shape and found.dtype == dtype:
            return found
        if name == "scratch" and found is not None and found.dtype == dtype and found.size >= prod(shape):
            return found.reshape(-1)[:prod(shape)].reshape(shape)
        self._buffers.pop(name, None)  # free the old one before the new one is there
        self._buffers[name] = found = np.empty(shape, dtype)
        return found

    def like(self, name: str, array) -> np.ndarray:
        """A buffer like `array`, of its shape and dtype, and of its library."""
        if isinstance(array, np.ndarray):
            return self.buffer(name, array.shape, array.dtype)
        found = self._buffers.get(self._prefix + name)
        if type(found) is not type(array) or found.shape != array.shape or found.dtype != array.dtype:
            self._buffers[self._prefix + name] = found = np.empty_like(array)
        return found

    @contextmanager
    def named(self, prefix: str) -> Iterator[None]:
        """Within this, buffers (but "scratch") are others than those of the same names outside."""
        before, self._prefix = self._prefix, self._prefix + prefix
        try:
            yield
        finally:
            self._prefix = before

    def release(self, *names: str) -> None:
        """Forget buffers (all without names)."""
        for name in names or list(self._buffers):
            self._buffers.pop(name, None)

    def run(self, kernel, n: int, *args, slab: int | None = None) -> None:
        """Call `kernel(start, stop, slab_index, *args)` for each slab of `range(n)`."""
        slab = slab or slab_of(n)
        if n <= slab:
            kernel(0, n, 0, *args)
            return
        jobs = [(a, min(a + slab, n), k) for k, a in enumerate(range(0, n, slab))]
        if self._pool is not None and large(args):
            self._share(kernel, jobs, args)
        else:
            for job in jobs:
                kernel(*job, *args)

    def _share(self, kernel, jobs, args) -> None:
        """Do jobs in this thread and those of the pool: whoever is free takes the next."""
        waiting = iter(jobs)

        def work():
            for job in waiting:
                kernel(*job, *args)

        others = [self._pool.submit(work) for _ in range(min(self.threads, len(jobs)) - 1)]
        try:
            work()
        finally:
            for other in others:
                other.result()

    def total(self, kernel, n: int, width: int, *args, slab: int | None = None) -> np.ndarray:
        """Sum over slabs, in slab order, of what `kernel(start, stop, k, *args, sums)` leaves in `sums[k]`."""
        slab = slab or slab_of(n)
        sums = np.zeros((max(1, ceil(n / slab)), width))
        self.run(kernel, n, *args, sums, slab=slab)
        return sums[0] if len(sums) == 1 else sums.sum(axis=0)


def large(args) -> bool:
    """Whether any of a kernel's arrays is large enough for the kernel to be shared."""
    for a in args:  # at every call, so a plain loop
        if isinstance(a, np.ndarray) and a.size >= SMALL:
            return True
    return False


def slab_of(n: int, most: int = 16, slabs: int = 8) -> int:
    """Planes per slab of a volume of n planes: at most `most`, and about `slabs` slabs even where planes are few."""
    return max(1, min(most, ceil(n / slabs)))


def workspace() -> Workspace:
    """The workspace of the running call, or a one-thread one outside any."""
    return _current.get() or Workspace(threads=1)


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
