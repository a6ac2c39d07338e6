"""What a block of code costs: wall time, processor time and peak memory of this process.

    with measured() as cost:
        result = classreg.register(fixed, moving)
    cost.wall, cost.cpu, cost.peak

Memory is what the operating system keeps resident for the whole process (not what Python allocates: arrays of compiled
code count, and so do libraries that are loaded meanwhile). On Linux the high-water mark is set back at the beginning,
so it is that of the block; elsewhere the mark is that of the process so far, an upper bound; where there is none, NaN.

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Cost:
    """Of a block, once it is left.

    Attributes
    ----------
    wall, cpu : float
        Seconds that passed, and seconds that all threads of this process worked (not its children).
    start, peak : float
        Resident MiB at the beginning, and at most.
    memory : str
        What `peak` is: "block", "process" (an upper bound) or "none".
    """

    wall: float = float("nan")
    cpu: float = float("nan")
    start: float = float("nan")
    peak: float = float("nan")
    memory: str = "none"


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure the block under `with`; the numbers are there when it is left, by an exception too.

    Blocks may not overlap, neither nested nor in threads: there is one high-water mark, which the inner one would set
    back. The first call in a process includes compilation (see `classreg.warmup`): say whether a time is cold or warm.
    """
    cost = Cost()
    own = _set_back()
    cost.start = _resident("VmRSS") if STATUS.exists() else float("nan")
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield cost
    finally:
        cost.wall, cost.cpu = time.perf_counter() - wall, time.process_time() - cpu
        cost.peak, cost.memory = (_resident("VmHWM"), "block") if own else _of_process()


def _set_back() -> bool:
    """Set the high-water mark to what is resident now, where that is possible."""
    try:
        RESET.write_text("5")
        return True
    except OSError:
        return False


def _resident(key: str) -> float:
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":")) / 1024


def _of_process() -> tuple[float, str]:
    """The mark since the process began: kilobytes on Linux, bytes on macOS."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan"), "none"
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10), "process"
