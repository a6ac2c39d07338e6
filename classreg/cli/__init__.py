"""The command line: `classreg register`, `compare` and the other commands that `classreg --help` lists.

A thin face over the public functions: it parses, draws the progress bar from `callback`, prints tables, and
turns errors into exit codes: 0 done, 1 a `ClassregError` or a finding that would stop a registration, 2 wrong
usage, 128 + n interrupted by signal n (the best so far is saved). Results go to standard output, the rest to
standard error.

A command is a function in a file here and a place in `COMMANDS`. Everything heavy is imported inside the commands, so
that `--help` answers at once; `check` compiles nothing.

Must not be imported by any other module.
"""

from __future__ import annotations

from typing import Annotated

import typer
from typer.core import TyperGroup

from ..errors import ClassregError, unknown
from .check import check
from .common import INTERRUPTED
from .compare import baselines, compare
from .demo import demo
from .group import group
from .motion import motion
from .plot import plot
from .register import register
from .transforms import apply, convert

#: in the order of `classreg --help`
COMMANDS = (register, group, motion, apply, convert, check, compare, baselines, plot, demo)


class Commands(TyperGroup):
    """The commands: a wrong name is answered with the nearest match, an error with one line."""

    def resolve_command(self, ctx, args):
        """The command of a name; a wrong one ends with the nearest match."""
        if args[0] not in self.commands:
            ctx.fail(str(unknown("command", args[0], self.commands)))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx):
        """Run the command; an error ends with one line and an exit code."""
        try:
            return super().invoke(ctx)
        except ClassregError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stop:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(INTERRUPTED) from stop


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command line (the entry point of the `classreg` script)."""
    app(prog_name="classreg")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"classreg {version('classreg')}")
        raise typer.Exit()


@app.callback()
def options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                                  help="Show the version.")] = False) -> None:
    """Register medical images: find the map that takes one image to another."""
