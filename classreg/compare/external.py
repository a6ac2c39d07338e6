"""Programs in processes of their own: run without a shell, within a time limit, their exit code checked.

What a program prints goes to a log; its last lines are in the error where it fails. Where it ends, or the comparison
does, by Ctrl-C or an error, so does whatever it has started.

Must not import: metrics, optimisers, engine, faces.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import ClassregError, OptionError, unknown

#: what programs read to learn how many threads they may use
THREADS = ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
           "NUMBA_NUM_THREADS")
LAUNCH = Path(__file__).with_name("launch.py")
FIELD = re.compile(r"(?<!\$)\{(\w+)\}")
VARIABLE = re.compile(r"\$\{(\w+)\}")
TAIL = 12  # lines of the log that an error shows
END = 1 << 14  # bytes of the log that they are looked for in
GRACE = 5.0  # seconds between asking a program to end and ending it


class RunFailed(ClassregError):
    """A method did not give a transform for a case."""


def split(command: str, fields: Iterable[str], what: str) -> list[str]:
    """A command line as its words, "~", "$NAME" and "${NAME}" replaced; OptionError where a {field} is not known.

    >>> split("tool -f {fixed} -o '{output} 1.nii'", ["fixed", "output"], "method 'a'")
    ['tool', '-f', '{fixed}', '-o', '{output} 1.nii']
    """
    if not isinstance(command, str):
        raise OptionError(f"{what}: the command is {command!r}; write it as one text, words parted by blanks")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise OptionError(f"{what}: the command {command!r} cannot be parted into words ({error}); quotes come in "
                          "pairs") from error
    if not words:
        raise OptionError(f"{what}: the command is empty")
    for name in fields_of(words):
        if name not in fields:
            raise OptionError(f"{what}: {unknown('field', name, fields)}")
    return [expand(word, what) for word in words]


def expand(word: str, what: str) -> str:
    """A word with "~", "$NAME" and "${NAME}" replaced; OptionError where the latter is not set.

    >>> os.environ["SCANS"] = "/scans"
    >>> expand("${SCANS}/{case}.nii", "method 'a'")
    '/scans/{case}.nii'
    """
    for name in VARIABLE.findall(word):
        if name not in os.environ:
            raise OptionError(f"{what}: {word!r} names the environment variable {name}, which is not set; set it, or "
                              f"write {{{name}}} if a field is meant")
    return os.path.expandvars(os.path.expanduser(word))


def fields_of(words: Iterable[str]) -> list[str]:
    """The {fields} that words hold, in order."""
    return [name for word in words for name in FIELD.findall(word)]


def fill(word: str, values: Mapping[str, object]) -> str:
    """A word with its {fields} replaced; other braces, which came from the environment, are left.

    >>> fill("[{fixed},1]", {"fixed": "a b.nii"})
    '[a b.nii,1]'
    """
    return FIELD.sub(lambda found: str(values.get(found[1], found[0])), word)


def program(word: str, folder: Path) -> Path | None:
    """Where the program of a command lies: on the path, or relative to the folder; None if it is not there."""
    there = str(folder.absolute() / word)
    found = next(filter(None, map(shutil.which, [there] if os.path.dirname(word) else [word, there])), None)
    return Path(found).absolute() if found else None


def execute(words: list[str], folder: Path, log: Path, threads: int, limit: float | None = None,
            environment: Mapping[str, str] | None = None) -> dict:
    """Run a program to its end.

    Parameters
    ----------
    words : list of str
        The program and its arguments.
    folder : Path
        Where it runs.
    log : Path
        Receives what it prints; beside it the report of `launch`.
    threads : int
        Passed on in the environment.
    limit : float, optional
        Seconds.
    environment : mapping of str, optional
        Variables beside those there are.

    Returns
    -------
    dict
        "code" 0, "seconds", and where the system tells "cpu" and "memory".

    Raises
    ------
    RunFailed
        If it cannot be started, ends with another code or by a signal, or takes longer.
    """
    report = log.with_name(log.name + ".json")
    environment = {**os.environ, **{name: str(threads) for name in THREADS}, **(environment or {})}
    with open(log, "wb") as stream:
        child = subprocess.Popen([sys.executable, "-I", "-S", str(LAUNCH), str(report), *words], cwd=folder,
                                 stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, env=environment,
                                 start_new_session=True)
        try:
            child.wait(limit)
        except subprocess.TimeoutExpired:
            raise RunFailed(f"over the time limit of {limit:g} s") from None
        finally:
            _end(child)
    try:
        found = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise RunFailed(f"the launcher of {words[0]} did not report how it ended{tail(log)}") from None
    if "error" in found:
        raise RunFailed(f"cannot start: {found['error']}")
    if found["code"]:
        raise RunFailed(f"{_ending(found['code'])}{tail(log)}")
    return found


def first_line(words: list[str], folder: Path, limit: float = 60.0) -> str:
    """The first line that a program prints, such as its version; a word on why there is none."""
    try:
        done = subprocess.run(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=limit, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({type(error).__name__})"
    lines = [line.strip() for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
    return lines[0][:200] if lines and not done.returncode else f"unknown (exit code {done.returncode})"


def tail(log: Path) -> str:
    """The last lines of a log, for an error."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.path.getsize(log) - END))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = ["".join(c if c.isprintable() else " " for c in line).rstrip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    return "; it printed last:\n" + "\n".join(f"    {line[:300]}" for line in lines[-TAIL:]) if lines else ""


def _ending(code: int) -> str:
    if code > 0:
        return f"ended with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"ended by {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else "")


def _end(child: subprocess.Popen) -> None:
    """End the launcher and whatever it has started, asked first and then not; what is left of them if it has ended."""
    if child.poll() is None:
        _signal(child, "SIGTERM")
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)
    _signal(child, "SIGKILL")
    child.wait()


def _signal(child: subprocess.Popen, name: str) -> None:
    if not hasattr(os, "killpg"):  # Windows
        child.terminate()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter where only zombies are left, on macOS
        os.killpg(child.pid, getattr(signal, name))
