"""All methods on all cases: each pair of them once, whatever happens, and again only where something has changed.

    OUTPUT/runs/METHOD/CASE.json      what was run, when, on what, what it cost, what it scored
    OUTPUT/runs/METHOD/CASE.*         the transform, as ITK reads it
    OUTPUT/runs/METHOD/CASE.log       what a failed method printed

The JSON is written in one piece once the transform is there, and again once that is scored. It holds a fingerprint: a
hash of every input, the settings, the versions. What is found with the same fingerprint is kept; where only labels,
landmarks or measures differ, the transform is scored again; anything else is run again, and the reason said. What has
failed is tried again.

Must not import: metrics, optimisers, engine, faces.
"""

from __future__ import annotations

import glob
import hashlib
import inspect
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.machinery import PathFinder
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import ClassregError, InputError
from ..io.atomic import atomic_path, writable_folder
from .cases import Case, Data, digest
from .external import fill, first_line, program
from .methods import Method
from .running import log_of, run
from .saved import SAVED, read_saved
from .scores import SCORING, plain, score

log = logging.getLogger("classreg")

LIBRARIES = ("numpy", "scipy", "numba", "SimpleITK")

#: inputs that a run depends on; the others belong to the scores
RUN_ON = ("fixed", "moving", "fixed_mask", "moving_mask")


@dataclass(frozen=True)
class Event:
    """What the callback is told.

    Attributes
    ----------
    what : str
        "begin" (a run), "kept", "done", "scored" (again, without a run) or "failed".
    method, case : str
    done, total : int
        Pairs of method and case that are finished, and that there are.
    text : str
        Why it is run, or why it failed.
    """

    what: str
    method: str
    case: str
    done: int
    total: int
    text: str = ""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder for one comparison, as far as the system can; the system lets go of it however the process ends.

    Raises
    ------
    InputError
        If another comparison holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise InputError(f"another comparison is running in {folder}; wait for it, or give another folder") from None
    except OSError:  # a network drive without locks
        pass
    try:
        yield
    finally:
        os.close(held)


def run_all(cases: Sequence[Case], methods: Sequence[Method], folder: Path, measures: Sequence[str], threads: int,
            time_limit: float | None, callback: Callable[[Event], Any] | None) -> dict[tuple[str, str], dict]:
    """Run and score what is not yet, case by case; all records by (method, case).

    A callback that returns True ends it after the pair that it was told of; records of the rest are left out.
    """
    records, total = {}, len(cases) * len(methods)
    told = versions_of(methods)
    for method in methods:
        writable_folder(folder / "runs" / method.name)
    for case in cases:
        data = Data(case)
        for method in methods:
            def tell(what, text="", method=method, case=case):
                return callback(Event(what, method.name, case.name, len(records), total, text)) if callback else None

            place = folder / "runs" / method.name / case.name
            record, what = _one(method, data, place, measures, threads, time_limit, told[method.name], tell)
            records[method.name, case.name] = record
            if tell(what, record.get("error", "")) is True:
                return records
    return records


def versions_of(methods: Sequence[Method]) -> dict[str, dict[str, str]]:
    """For each method, the versions of what runs it, by name."""
    own = {"classreg": __version__, **{name: version(name) for name in LIBRARIES}}
    found = {}
    for method in methods:
        if method.kind == "command":
            words = method.words[3]
            words = [str(program(words[0], method.folder) or words[0]), *words[1:]] if words else []
            found[method.name] = {"program": first_line(words, method.folder.absolute())} if words else {}
        elif method.kind == "transforms":
            found[method.name] = {"program": str(method.spec["version"])} if "version" in method.spec else {}
        elif method.kind == "baseline":
            from ..baselines import BASELINES

            found[method.name] = {"baseline": BASELINES[method.spec["baseline"]].version, **own}
        else:
            found[method.name] = own
    return found


def _one(method, data, place, measures, threads, time_limit, versions, tell):
    """The record of a method and a case, and whether it was kept, scored, done or failed."""
    file = Path(f"{place}.json")
    limit = min(filter(None, (method.time_limit, time_limit)), default=None)
    former = _read(file)
    record = {"method": method.name, "case": data.case.name, "settings": method.spec}
    try:
        prints, scored_by = _fingerprint(method, data, threads, versions), _fingerprint_of_scores(data)
        reason, what, missing, found = _why(former, prints, place), "scored", measures, None
        if reason is None:
            record = former
            if former["scored_by"] == scored_by:
                found = former["scores"]
                missing = [name for name in measures if name not in found["asked"]]
                if not missing:
                    return former, "kept"
        else:
            if former is not None:
                log.info("%s, %s is run again: %s", method.name, data.case.name, reason)
            tell("begin", reason)
            record, what = {**record, **_run(method, data, place, threads, limit, versions, prints)}, "done"
            _write(file, {**record, "scored_by": None})
        transform = read_saved(place.with_name(record["file"]), data.fixed.grid, data.moving.grid)
        found = _with(found, score(transform, data, missing), missing)
        found["measures"].update(record["cost"])
        record = {**{key: value for key, value in record.items() if key != "error"}, "scores": found,
                  "scored_by": scored_by}
    except Exception as error:  # a method may raise anything, and the others go on
        known = isinstance(error, ClassregError)
        log.debug("%s, %s", method.name, data.case.name, exc_info=None if known else error)
        text, what = str(error) if known else f"{type(error).__name__}: {error}", "failed"
        record = {**record, "error": text, "scores": None, "scored_by": None}
    _write(file, record)
    return json.loads(json.dumps(plain(record))), what


def _run(method, data, place, threads, limit, versions, prints):
    """Run in a folder of its own beside the results, then put the transform in its place."""
    began, runs = time.time(), place.parent
    for left in runs.glob(f".{glob.escape(place.name)}.*"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    for suffix in (".json", ".log", *SAVED):
        Path(f"{place}{suffix}").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=runs) as name:
        work = Path(name)
        try:
            found = run(method, data, work, threads, limit)
        except Exception:
            if log_of(work).is_file():
                shutil.copyfile(log_of(work), f"{place}.log")
            raise
        suffix = found.file.name[found.file.name.index("."):]
        os.replace(found.file, f"{place}{suffix}")
    return {"file": place.name + suffix, "cost": found.cost, "scope": found.scope, "notes": found.notes,
            "versions": versions, "threads": threads, "began": began, "fingerprint": prints}


def _with(former: dict | None, found: dict, asked: Sequence[str]) -> dict:
    """Scores beside those that there are."""
    found = plain({**found, "asked": list(asked)})
    if former is None:
        return found
    labels = {label: {**former["labels"].get(label, {}), **row} for label, row in found["labels"].items()}
    return {"measures": {**former["measures"], **found["measures"]}, "labels": {**former["labels"], **labels},
            "lost": found["lost"] if found["labels"] else former["lost"], "asked": [*former["asked"], *asked]}


def _why(former: dict | None, prints: dict, place: Path) -> str | None:
    """Why a pair must be run; None if what is there holds."""
    if former is None:
        return "new"
    if "fingerprint" not in former:
        return "it failed before"
    old = former["fingerprint"]
    changed = sorted(key for key in old.keys() | prints.keys() if old.get(key) != prints.get(key))
    if changed:
        return f"changed: {', '.join(key.replace('_', ' ') for key in changed)}"
    return None if place.with_name(former["file"]).is_file() else "its transform is gone"


def _fingerprint(method: Method, data: Data, threads: int, versions: dict) -> dict[str, str]:
    """What a run depends on, each as a short text that is compared."""
    found = {name: value for name, value in data.digests.items() if name in RUN_ON}
    found["settings"] = json.dumps(plain(method.spec), sort_keys=True, default=str)
    found["threads"] = str(threads)
    found.update({f"version of {name}": value for name, value in versions.items()})
    if method.kind == "callable":
        found["code"] = _code(method.call)
    elif method.kind == "function":
        module = _module(method.spec["function"].partition(":")[0], method.folder)
        found["code"] = digest(module) if module else "not found"
    elif method.kind == "model" and isinstance(init := method.spec.get("init"), str):
        file = method.folder / init
        found["init"] = digest(file) if file.is_file() else init
    elif method.kind == "parameters":
        found["parameter_files"] = " ".join(digest(method.folder / path) for path in method.spec["parameters"])
    elif method.kind == "transforms":
        files = [method.folder / fill(p, {"case": data.case.name}) for p in method.files()]
        found["transform"] = " ".join(digest(file) for file in files if file.is_file())
    elif method.kind == "command":
        if variables := method.variables():
            found["variables"] = json.dumps(variables)
        found["program"] = digest(program(method.words[0][0], method.folder))
        named = [os.path.join(method.folder, word) for word in method.words[0][1:] if "{" not in word]
        found["files_of_the_command"] = " ".join(digest(Path(path)) for path in named if os.path.isfile(path))
    return found


def _fingerprint_of_scores(data: Data) -> str:
    parts = [SCORING, __version__, data.case.labels,
             sorted((name, value) for name, value in data.digests.items() if name not in RUN_ON)]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _module(name: str, folder: Path) -> Path | None:
    """The file of a module, found without importing it; None if there is none."""
    path, parts = [str(folder.absolute()), *sys.path], name.split(".")
    for k in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[:k + 1]), path) if path else None
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return Path(spec.origin) if spec.origin and os.path.isfile(spec.origin) else None


def _code(call: Callable) -> str:
    """A hash of a function's source, or of its code where that is not at hand; of an object, that of its class.

    What it closes over, and what an object holds, is not seen.
    """
    if isinstance(call, partial):
        text = repr((_code(call.func), call.args, sorted(call.keywords.items())))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    try:
        text = inspect.getsource(call if hasattr(call, "__code__") or inspect.ismethod(call) else type(call))
    except (OSError, TypeError):
        code = getattr(call, "__code__", None)
        constants = [value for value in getattr(code, "co_consts", ()) if not inspect.iscode(value)]
        text = repr((getattr(call, "__qualname__", type(call).__qualname__), getattr(code, "co_code", b""),
                     getattr(code, "co_names", ()), constants))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _read(file: Path) -> dict | None:
    """A record that was written; None where there is none or it is no record."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(file: Path, record: dict) -> None:
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(plain(record), indent=1, allow_nan=False) + "\n", encoding="utf-8")
