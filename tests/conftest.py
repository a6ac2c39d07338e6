"""Says at the end how many tests ran on real images: a run without them must not pass for one with them."""

from __future__ import annotations

import os


def pytest_terminal_summary(terminalreporter):
    def count(*outcomes):
        reports = [r for outcome in outcomes for r in terminalreporter.stats.get(outcome, ())]
        return sum("data" in r.keywords for r in reports if r.when == "call" or r.skipped)

    ran, skipped = count("passed", "failed"), count("skipped")
    why = "" if os.environ.get("CLASSREG_DATA") else "; CLASSREG_DATA, the folder that holds them, is not set"
    terminalreporter.write_line(f"{ran} tests ran on real images, {skipped} were skipped{why}")
