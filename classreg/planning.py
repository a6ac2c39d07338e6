"""What will be run, fully resolved, as plain data.

A `Plan` is a list of `Stage`s, each a transform, metric, regularisers, priors, optimiser and levels by name with their
options.
It prints, compares, and round-trips through dictionaries (JSON, TOML).

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from .errors import OptionError
from .image import Image
from .schedule import Level

#: how the note begins that stands for an image in memory
IN_MEMORY = "<in memory:"


@dataclass(frozen=True)
class Stage:
    """One run of the engine.

    Attributes
    ----------
    name : str
        Shown in the history, e.g. "affine".
    transform, metric, optimiser : dict
        {"name": ..., option: value, ...}.
    regularisers, priors : tuple of dict
        An option that is an image is its path, or, in memory only, an Image.
    levels : tuple of Level
        Coarse to fine.
    order : 1 or 3
        Interpolation of the moving image.
    tolerance : float
        A level ends when the value falls per iteration by less than this share of its first value.
    sampling : dict, optional
        Where the metric is evaluated, {"name": "random", "samples": 4096}; at all samples of a level without.
    """

    name: str
    transform: dict[str, Any]
    metric: dict[str, Any]
    optimiser: dict[str, Any]
    levels: tuple[Level, ...]
    regularisers: tuple[dict[str, Any], ...] = ()
    order: int = 1
    tolerance: float = 5e-5
    priors: tuple[dict[str, Any], ...] = ()
    sampling: dict[str, Any] | None = None


@dataclass(frozen=True)
class Plan:
    """All stages of a registration, how it starts, and what was chosen on the way.

    `search` says whether a deformation may start from a discrete search: auto (if it beats no deformation), discrete
    (always) or none. With `matching` the moving image gets the histogram of the fixed one before the first deformable
    stage. `baseline` is the name and version of the recipe that the plan follows, if it does. `gauge` says of a group
    what holds the common space: "mean", or the name of the image that does not move; of a pair it is empty.

    Examples
    --------
    >>> plan = Plan("affine", "auto", ())
    >>> Plan.from_dict(plan.to_dict()) == plan
    True
    """

    model: str
    init: str
    stages: tuple[Stage, ...]
    seed: int = 0
    search: str = "auto"
    baseline: str = ""
    gauge: str = ""
    matching: bool = False
    notes: tuple[str, ...] = field(default=(), compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; of an image in memory only a note stays, which cannot be run: give paths to keep a plan."""
        out = asdict(_noted(self))
        for level in (v for stage in out["stages"] for v in stage["levels"] if v["sigma"] is None):
            del level["sigma"]
        if not self.matching:
            del out["matching"]
        return out

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Plan:
        """The inverse of `to_dict`; OptionError where a part is missing or unknown."""
        try:
            stages = tuple(
                Stage(**{**s, "levels": tuple(Level(**v) for v in s["levels"]),
                         "regularisers": tuple(s["regularisers"]), "priors": tuple(s.get("priors", ()))})
                for s in data["stages"])
            return cls(data["model"], data["init"], stages, data["seed"],
                       data.get("search", "auto"), data.get("baseline", ""), data.get("gauge", ""),
                       data.get("matching", False), tuple(data["notes"]))
        except (KeyError, TypeError) as error:
            raise OptionError(f"this is no plan as Plan.to_dict gives it ({type(error).__name__}: {error}); begin from "
                              "classreg.plan(...).to_dict() and change that") from error

    def __str__(self) -> str:
        lines = [f"model = {self.model}", f"init = {self.init}", f"seed = {self.seed}",
                 f"gauge = {self.gauge}" if self.gauge else f"search = {self.search}",
                 *(["intensities = matched"] if self.matching else []),
                 *([f"baseline = {self.baseline}"] if self.baseline else [])]
        for s in self.stages:
            lines += ["", f"[{s.name}]"]
            for kind in ("transform", "metric", "optimiser"):
                lines.append(f"{kind} = {_show(getattr(s, kind))}")
            lines += [f"regulariser = {_show(r)}" for r in s.regularisers]
            lines += [f"prior = {_show(p)}" for p in s.priors]
            lines += [f"sampling = {_show(s.sampling)}"] if s.sampling else []
            lines.append(f"interpolation = {'linear' if s.order == 1 else 'cubic'}, tolerance = {s.tolerance:g}")
            lines.append("levels = " + ", ".join(map(_show_level, s.levels)))
        lines += [""] + [f"note: {n}" for n in self.notes] if self.notes else []
        return "\n".join(lines)


def _show_level(level: Level) -> str:
    sigma = "" if level.sigma is None else f", sigma {' x '.join(f'{s:g}' for s in np.atleast_1d(level.sigma))} samples"
    return f"{level.factor:g}x ({level.iterations} iterations{sigma})"


def _show(spec: dict[str, Any]) -> str:
    if spec["name"] == "composite":
        return " + ".join(map(_show_part, spec.get("parts", ()))) or "composite()"
    options = ", ".join(f"{k}={_short(v)}" for k, v in spec.items() if k != "name")
    return f"{spec['name']}({options})"


def _show_part(part: dict[str, Any]) -> str:
    weight = f"{part['weight']:g} " if part.get("weight", 1) != 1 else ""
    where = "" if part.get("channels") is None else f" of channels {', '.join(map(str, part['channels']))}"
    return f"{weight}{_show(part['metric'])}{where}"


def _short(value: Any) -> Any:
    """An option in a line: points and images by what they are."""
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (list, tuple)):
        return f"<{len(value)} points>"
    return _note(value)


def _note(value: Any) -> Any:
    if isinstance(value, Image):
        return f"{IN_MEMORY} {value.grid}>"
    return f"{IN_MEMORY} {value.shape}>" if isinstance(value, np.ndarray) else value


def _noted(plan: Plan) -> Plan:
    """The plan with a note in place of each image."""
    def plain(specs):
        return tuple({k: _note(v) for k, v in spec.items()} for spec in specs)

    return replace(plan, stages=tuple(replace(s, regularisers=plain(s.regularisers), priors=plain(s.priors))
                                      for s in plan.stages))
