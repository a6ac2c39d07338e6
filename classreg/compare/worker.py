"""One registration in a process of its own, so that its time and memory are its own.

    python -m classreg.compare.worker JOB.json

The images are loaded, then the kernels: by the same plan on a tiny generated pair, two iterations per level. Then the
clock starts: images in memory to transform in memory. The transform is saved beside the job, with a report of what it
cost.

Must not import: faces.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from .. import api
from ..datasets import head_phantom
from ..errors import ClassregError, InputError
from ..evaluate import measured
from ..image import Image
from ..planning import Plan
from ..result import Result
from .cases import FILES, Case, Data
from .methods import OWN
from .saved import as_transform, asked, save_transform


def main(job: Path) -> None:
    """Run a job and write its report; what classreg refuses is in there, everything else ends the process."""
    given = json.loads(job.read_text(encoding="utf-8"))
    try:
        report = _run(given, job.with_name("transform"))
    except ClassregError as error:
        report = {"error": str(error)}
    job.with_name("report.json").write_text(json.dumps(report), encoding="utf-8")


def _run(job: dict, stem: Path) -> dict:
    case = Case("job", **{name: Path(path) for name, path in job["files"].items() if name in FILES})
    data, folder, threads = Data(case), Path(job["folder"]), job["threads"]
    fixed, moving = data.fixed, data.moving
    if job["kind"] in OWN:
        _load_kernels(job, folder, fixed, threads)
        call = _own(job, folder, threads)
    else:
        call = imported(job["spec"]["function"], folder)
    with measured() as cost:
        found = asked(call, fixed, moving, threads)
    path = save_transform(as_transform(found, fixed, moving), stem)
    report = {"file": path.name, "cost": {"seconds": cost.wall, "cpu": cost.cpu, "memory": cost.peak}}
    if isinstance(found, Result):
        report.update(status=found.status, plan=str(found.plan))
    return report


def imported(where: str, folder: Path) -> Callable:
    """The function that "package.module:function" names, from the path or from the folder."""
    module, _, name = where.partition(":")
    if str(folder.absolute()) not in sys.path:
        sys.path.insert(0, str(folder.absolute()))
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InputError(f"cannot import {where}: {error}; the module lies on Python's path or in "
                         f"{folder.absolute()}") from error
    if not callable(found):
        raise InputError(f"{where} is a {type(found).__name__}; it must be a function (fixed, moving) -> transform")
    return found


def _own(job: dict, folder: Path, threads: int) -> Callable[[Image, Image], Result | Plan]:
    """A method of this engine as a function of the images."""
    kind, spec = job["kind"], dict(job["spec"])
    spec.pop("time_limit", None)
    if kind == "model":
        return lambda fixed, moving: api.register(fixed, moving, threads=threads, **spec)
    if kind == "baseline":
        from .. import baselines

        return lambda fixed, moving: baselines.run(spec["baseline"], fixed, moving, threads=threads)
    return _parameters(spec, folder)


def _load_kernels(job: dict, folder: Path, fixed: Image, threads: int) -> None:
    """Run the plan on a tiny pair, its levels cut short; a plan that it cannot run leaves them to the call itself."""
    pair, kind, spec = head_phantom(8.0, ndim=fixed.grid.ndim), job["kind"], job["spec"]
    try:
        if kind == "model":
            kept = {key: spec[key] for key in ("model", "metric", "optimiser", "sampling") if key in spec}
            plan = api.plan(pair.fixed, pair.moving, **kept)
        elif kind == "baseline":
            from .. import baselines

            plan = baselines.plan(spec["baseline"], pair.fixed, pair.moving)
        else:
            plan = _parameters(spec, folder)(pair.fixed, pair.moving)
        api.register(pair.fixed, pair.moving, plan=_short(plan), threads=threads).transform.mapping()
    except ClassregError:
        return


def _short(plan: Plan) -> Plan:
    return replace(plan, stages=tuple(
        replace(stage, levels=tuple(replace(level, iterations=min(level.iterations, 2)) for level in stage.levels))
        for stage in plan.stages))


def _parameters(spec: dict, folder: Path) -> Callable[[Image, Image], Plan]:
    from ..baselines.elastix import read_parameters

    return read_parameters([folder / path for path in spec["parameters"]])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
