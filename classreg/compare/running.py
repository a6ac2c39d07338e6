"""One method on one case: the transform in a file, and what it cost.

    model, baseline, parameters, function   in a process of its own: seconds, CPU and memory of the call
    callable                                in this process: of the call, in memory with what the process holds
    command                                 in a process of its own: of the whole program, unless it reports itself
    transforms                              nothing is run

A command that is given {cost} may write there, as JSON, the "seconds", "cpu" (s) and "memory" (MiB) of its registration
alone, images in memory to transform in memory, as they are measured of classreg.

Must not import: metrics, optimisers, engine, faces.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import FileError, InputError
from ..evaluate import measured
from ..io.transforms import read_transform
from ..result import Result
from .cases import Case, Data
from .external import RunFailed, execute, fill, program, tail
from .methods import Method
from .saved import as_transform, asked, save_transform
from .scores import COST

#: what the cost of a method is that of
SCOPES = {
    "call": "the call alone, images in memory to transform in memory, in a process of its own",
    "shared": "the call alone, in the process of the comparison, whose memory holds other things too",
    "program": "the whole program, with its start and its files",
    "reported": "the registration alone, as the program reports it",
    "none": "not measured: the transforms were there",
}


@dataclass(frozen=True)
class Ran:
    """A transform and what it cost.

    Attributes
    ----------
    file : Path
        As `saved.save_transform` names it.
    cost : dict
        Any of "seconds", "cpu" and "memory" (MiB).
    scope : str
        What they are of, see `SCOPES`.
    notes : dict
        "status" and "plan" of a registration of this engine.
    """

    file: Path
    cost: dict[str, float]
    scope: str
    notes: dict[str, str] = field(default_factory=dict)


def run(method: Method, data: Data, work: Path, threads: int, limit: float | None) -> Ran:
    """Run a method in an empty folder, which is left with its transform and its log.

    Raises
    ------
    ClassregError
        If it gave no transform; anything else that a callable raises.
    """
    kind = method.kind if method.kind in ("callable", "command", "transforms") else "isolated"
    return {"callable": _here, "command": _command, "transforms": _there, "isolated": _isolated}[kind](
        method, data, work, threads, limit)


def log_of(work: Path) -> Path:
    """Where a method's output goes."""
    return work / "log.txt"


def _isolated(method, data, work, threads, limit):
    job = work / "job.json"
    job.write_text(json.dumps(job_of(method, data.case, threads)), encoding="utf-8")
    root = str(Path(__file__).parents[2])
    # the folder of classreg goes first, so that the process runs the code that this one runs
    execute([sys.executable, "-m", "classreg.compare.worker", str(job.absolute())], method.folder.absolute(),
            log_of(work), threads, limit, {"PYTHONPATH": root + _path()})
    try:
        report = json.loads((work / "report.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFailed(f"the process ended before it had a transform{tail(log_of(work))}") from None
    if "error" in report:
        raise RunFailed(report["error"])
    notes = {key: report[key] for key in ("status", "plan") if key in report}
    return Ran(work / report["file"], report["cost"], "call", notes)


def job_of(method: Method, case: Case, threads: int) -> dict:
    """The job that the worker takes."""
    files = {name: str(path.absolute()) for name, path in case.files().items()}
    return {"kind": method.kind, "spec": method.spec, "folder": str(method.folder.absolute()), "files": files,
            "threads": threads}


def _path() -> str:
    return os.pathsep + os.environ["PYTHONPATH"] if os.environ.get("PYTHONPATH") else ""


def _here(method, data, work, threads, limit):
    # copies, since a function may write into what it is given, and other methods are to get what the files hold
    fixed, moving = (image.with_array(image.array.copy()) for image in (data.fixed, data.moving))
    here = os.getcwd()
    try:
        with _uninterrupted(), measured() as cost:
            found = asked(method.call, fixed, moving, threads)
    except SystemExit as stop:
        raise RunFailed(f"the function ended the program (exit code {stop.code!r})") from stop
    finally:
        os.chdir(here)  # to which paths are relative
    transform = as_transform(found, fixed, moving)
    notes = {"status": found.status, "plan": str(found.plan)} if isinstance(found, Result) else {}
    return Ran(save_transform(transform, work / "transform"),
               {"seconds": cost.wall, "cpu": cost.cpu, "memory": cost.peak}, "shared", notes)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C ends the comparison even where what runs makes do with it, as the engine does: it returns its best."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught, before = [], signal.getsignal(signal.SIGINT)

    def note(number, frame):
        caught.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught:
        raise KeyboardInterrupt


def _command(method, data, work, threads, limit):
    case, folder = data.case, method.folder.absolute()
    values = {name: path.absolute() for name, path in case.files().items()}
    reported = work.absolute() / "cost.json"
    values.update(case=case.name, threads=threads, output=work.absolute() / "output", cost=reported)
    words = method.words_for(case)
    words = [str(program(words[0], folder) or words[0]), *(fill(word, values) for word in words[1:])]
    cost, scope = execute(words, folder, log_of(work), threads, limit), "program"
    if reported.is_file():
        cost, scope = _reported(reported), "reported"
    files = [work.parent / fill(pattern, values) for pattern in method.files()]
    for file in files:
        if not file.is_file():
            there = sorted(p.name for p in work.iterdir() if p.name.startswith("output"))
            raise RunFailed(f"ended well, and wrote no {file.name}; of {{output}} there is "
                            f"{', '.join(there) or 'nothing'}")
    return Ran(_converted(method, files, data, work), {name: cost[name] for name in COST if name in cost}, scope)


def _reported(path: Path) -> dict[str, float]:
    """What a program says it cost."""
    try:
        return {name: float(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise RunFailed(f"the costs that it reports cannot be read ({error}); {{cost}} takes JSON: "
                        '{"seconds": 1.5, "cpu": 2.5, "memory": 300}') from error


def _there(method, data, work, threads, limit):
    values = {"case": data.case.name}
    files = [method.folder / fill(pattern, values) for pattern in method.files()]
    for file in files:
        if not file.is_file():
            raise FileError(f"there is no transform {file}")
    return Ran(_converted(method, files, data, work), {}, "none")


def _converted(method, files, data, work):
    """The files of another tool, read and saved as all are."""
    fixed, moving = data.fixed, data.moving
    try:
        found = read_transform(files[0] if len(files) == 1 else files, fixed, moving,
                               format=method.spec.get("format", "auto"))
    except InputError as error:
        raise RunFailed(f"its transform cannot be used: {error}") from error
    return save_transform(as_transform(found, fixed, moving), work / "transform")
