"""`classreg check`: what would go wrong, before registering.

Must not be imported by any other module but the list of commands.
"""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .common import COLOURS, Fixed, Model, Moving


def check(fixed: Fixed, moving: Moving, model: Model = "bspline") -> None:
    """Say what would go wrong, and what looks odd, before registering."""
    from ..io import load
    from ..preflight import inspect_pair

    findings = inspect_pair(load(fixed, name="fixed"), load(moving, name="moving"), model)
    table = Table("", "about", "finding")
    for finding in findings:
        table.add_row(Text(finding.level, COLOURS[finding.level]), finding.code, Text(finding.message))
    Console().print(table)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)
