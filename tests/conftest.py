"""What holds for all tests.

Threads share the work on smaller images than they do by default: those of tests are small. Coverage does not watch the
compiler of the kernels. At the end stands how many tests ran on real images: a run without
them must not pass for one with them.
"""

from __future__ import annotations

import os
import sys

import pytest

from classreg import backend

backend.SMALL = 1 << 15


@pytest.fixture(scope="session", autouse=True)
def unwatched_compiler():
    """Kernels take nearly twice as long to compile where every line of the compiler is traced."""
    if sys.gettrace() is None:
        yield
        return
    from numba.core.dispatcher import Dispatcher

    compile_ = Dispatcher.compile

    def untraced(dispatcher, signature):
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return compile_(dispatcher, signature)
        finally:
            sys.settrace(tracer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher, "compile", untraced)
        yield


def pytest_terminal_summary(terminalreporter):
    def count(*outcomes):
        reports = [r for outcome in outcomes for r in terminalreporter.stats.get(outcome, ())]
        return sum("data" in r.keywords for r in reports if r.when == "call" or r.skipped)

    ran, skipped = count("passed", "failed"), count("skipped")
    why = "" if os.environ.get("CLASSREG_DATA") else "; CLASSREG_DATA, the folder that holds them, is not set"
    terminalreporter.write_line(f"{ran} tests ran on real images, {skipped} were skipped{why}")
