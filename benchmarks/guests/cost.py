"""What a registration costs inside another program, for `{cost}` of `classreg compare`: standard library only.

The clock and the memory are those of the block: images in memory to transform in memory, as classreg is measured.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def measured(report):
    """Write the wall and processor seconds of the block, and the peak memory of the process in it (MiB), to a file."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark to what is resident now
        status = Path("/proc/self/status")
    except OSError:
        status = None
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    found = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    if status:
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        found["memory"] = int(line.split()[1]) / 1024
    Path(report).write_text(json.dumps(found))
