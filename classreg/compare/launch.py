"""Run one command and note what it cost: a script of the standard library alone, so that it is small itself.

    python launch.py REPORT COMMAND...

The system counts as the memory of a program what its parent held when it was started, so a parent that holds images
would be measured in place of a small program; this one holds 10 MiB. Writes the report as JSON: "code" (below 0 for a
signal), "seconds", and, where the system tells, "cpu" and "memory" (MiB at most resident of the command and of any
process that it waited for). Where the process that started this one is gone, killed perhaps, the command is killed too.

Must not import: anything of classreg.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time


def main(report: str, command: list[str]) -> None:
    """Run the command to its end, then write the report."""
    if hasattr(os, "killpg"):
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
    began = time.perf_counter()
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        found = {"error": f"{error.strerror}: {command[0]}"}
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the command is asked to end; this one waits for it
        found = _wait(child, began)
    with open(report, "w", encoding="utf-8") as file:
        json.dump(found, file)


def _watch(parent: int) -> None:
    """End this process's group once its parent is another."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


def _wait(child: subprocess.Popen, began: float) -> dict:
    if not hasattr(os, "wait4"):  # Windows
        code = child.wait()
        return {"code": code, "seconds": time.perf_counter() - began}
    _, status, usage = os.wait4(child.pid, 0)
    seconds, code = time.perf_counter() - began, os.waitstatus_to_exitcode(status)
    child.returncode = code
    return {"code": code, "seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime,
            "memory": usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
