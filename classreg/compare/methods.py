"""Methods of a comparison: anything with a name that gives a transform for a case.

A method is written in one line, as an entry of a methods file (JSON), or in Python as the same or a function:

    ants-syn                              a baseline, see `classreg baselines`
    bspline, model:greedy                 a model; "model:" or "baseline:" where both have the name
    NAME=bspline                          the same under another name
    NAME=package.module:function          a function (fixed, moving) -> transform that can be imported
    NAME=tool {fixed} {moving} -o {output}.tfm          a command; it writes {output}...
    NAME=folder/{case}/transform.h5       transforms that are there already
    NAME@FORMAT=...                       and the format of the file, as `classreg.io.read_transform` names it
    FILE.json                             all methods of a file

    {"NAME": "any of the above",
     "NAME": {"model": "bspline", "metric": "mi", "levels": [4, 2, 1]},
     "NAME": {"parameters": ["rigid.txt", "bspline.txt"]},
     "NAME": {"command": "tool -f {fixed} -m {moving} -o {output}", "transform": "{output}0Warp.nii.gz",
              "format": "ants", "if_fixed_mask": "-x {fixed_mask}", "version": "tool --version", "time_limit": 600},
     "NAME": {"transforms": "folder/{case}.nii.gz", "format": "learn2reg"}}

Must not import: metrics, optimisers, engine, faces.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ClassregError, FileError, OptionError, unknown
from ..io.transforms import FORMATS
from ..models import MODELS, real
from .cases import FILES, Case, check_name
from .external import expand, fields_of, program, split

#: kind of method -> what a methods file may say about it beside the kind itself
KINDS = {
    "baseline": (),
    "model": ("metric", "init", "levels", "iterations", "optimiser", "sampling", "priors", "rotation"),
    "parameters": (),
    "function": (),
    "command": ("transform", "format", "if_fixed_mask", "if_moving_mask", "version"),
    "transforms": ("format", "version"),
}
COMMON = ("time_limit",)

#: kinds that this engine runs, whose kernels are loaded before the clock starts
OWN = ("baseline", "model", "parameters")

#: what a command may ask for
FIELDS = (*FILES, "case", "output", "threads", "cost")

#: a function in a module, as Python's entry points write it
IMPORTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, eq=False)
class Method:
    """A row of the table.

    Attributes
    ----------
    name : str
    kind : str
        One of `KINDS`, or "callable" for a function that was passed.
    spec : dict
        What is run, as plain data.
    folder : Path
        What relative paths are relative to.
    call : callable, optional
        (fixed, moving) -> transform.
    words : list of list of str
        Of a command: its words, then those for a fixed mask, a moving mask and the version.
    """

    name: str
    kind: str
    spec: dict[str, Any]
    folder: Path = Path()
    call: Callable | None = None
    words: list[list[str]] = field(default_factory=list)

    @property
    def time_limit(self) -> float | None:
        """Seconds that a run may take, if the method itself limits it."""
        return self.spec.get("time_limit")

    @property
    def still(self) -> bool:
        """Whether it is the baseline that does nothing."""
        return self.kind == "baseline" and self.spec["baseline"] == "none"

    def words_for(self, case: Case) -> list[str]:
        """The words of a command for a case, with those for its masks."""
        words, fixed, moving, _ = self.words
        return [*words, *(fixed if case.fixed_mask else ()), *(moving if case.moving_mask else ())]

    def variables(self) -> list[str]:
        """The words of a command after its program in which the environment was filled in."""
        texts = (self.spec.get(key, "") for key in ("command", "if_fixed_mask", "if_moving_mask"))
        written = [word for text in texts for word in shlex.split(text)]
        filled = [word for words in self.words[:3] for word in words]
        return [there for here, there in zip(written[1:], filled[1:], strict=True) if here != there]

    def files(self) -> list[str]:
        """The patterns of the files that hold its transforms."""
        given = self.spec["transforms" if self.kind == "transforms" else "transform"]
        return [expand(pattern, f"method {self.name!r}") for pattern in ([given] if isinstance(given, str) else given)]


def read_methods(source, folder: Path = Path()) -> list[Method]:
    """Methods from names, lines, files, dictionaries and functions; every one checked.

    Parameters
    ----------
    source : str, path, function, Method, mapping or iterable of these
        As the module says; a mapping goes from names to what is run.
    folder : Path
        What paths are relative to that do not stand in a file.

    Raises
    ------
    OptionError
        For a name, key, field or format that is not known, a program that is not there, or a name that two have.
    FileError
        If a methods file cannot be read.
    """
    found = list(_methods(source, folder))
    if not found:
        raise OptionError("there is no method; name a baseline (classreg baselines) or a model "
                          f"({', '.join(MODELS)}), or give a methods file")
    for method in found:
        wrong = check_name(method.name, "a method")
        if wrong:
            raise OptionError(wrong)
        if [other.name.casefold() for other in found].count(method.name.casefold()) > 1:
            raise OptionError(f"two methods are called {method.name!r}; give one another name, by more than "
                              "capital letters: NAME=...")
    return found


def check_for(method: Method, cases: Iterable[Case]) -> list[str]:
    """What a method would lack for a case."""
    if method.kind != "command":
        return []
    return [f"method {method.name!r} needs {{{name}}}, which case {case.name!r} has not"
            for case in cases for name in dict.fromkeys(fields_of(method.words_for(case)))
            if name in FILES and getattr(case, name) is None]


def _methods(source, folder: Path):
    """Methods from whatever was given."""
    if isinstance(source, Method):
        yield source
    elif isinstance(source, os.PathLike):
        yield from _file(Path(source))
    elif isinstance(source, str):
        if "=" in source:
            name, _, rest = source.partition("=")
            name, _, form = name.strip().partition("@")
            yield _line(name.strip(), rest.strip(), folder, form.strip() or None)
        else:
            for part in filter(None, map(str.strip, source.split(","))):
                yield from _file(Path(part)) if part.endswith(".json") else [_line(None, part, folder)]
    elif isinstance(source, Mapping):
        for name, given in source.items():
            yield _entry(name, given, folder)
    elif callable(source):
        yield _entry(getattr(source, "__name__", type(source).__name__).strip("<>"), source, folder)
    elif isinstance(source, Iterable):
        for part in source:
            yield from _methods(part, folder)
    else:
        raise OptionError(f"a method is a name, a line NAME=..., a file, a dictionary or a function; got {source!r}")


def _file(path: Path):
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"cannot read the methods file {path}: {error}; it holds JSON: "
                        '{"NAME": "bspline", "OTHER": {"command": "..."}}') from error
    if not isinstance(data, dict):
        raise FileError(f"the methods file {path} holds a {type(data).__name__}; it must hold an object: "
                        '{"NAME": "bspline", "OTHER": {"command": "..."}}')
    for name, given in data.items():
        yield _entry(name, given, path.parent)


def _entry(name: str, given, folder: Path) -> Method:
    """A method from what stands behind its name."""
    if isinstance(given, str):
        name, _, form = str(name).partition("@")
        return _line(name, given, folder, form or None)
    if isinstance(given, Mapping):
        return _spelt(name, dict(given), folder)
    if callable(given):
        where = f"{getattr(given, '__module__', '?')}:{getattr(given, '__qualname__', type(given).__name__)}"
        return Method(name, "callable", {"callable": where}, folder, given)
    raise OptionError(f"method {name!r} is {given!r}; give a line, a dictionary with one of {', '.join(KINDS)}, or a "
                      "function (fixed, moving) -> transform")


def _line(name: str | None, text: str, folder: Path, form: str | None = None) -> Method:
    """A method from one line."""
    more, fields = {} if form is None else {"format": form}, set(fields_of([text]))
    if fields:
        return _spelt(name, {"transforms" if fields == {"case"} else "command": text, **more}, folder)
    if form is not None:
        raise OptionError(f"method {name!r}: a format ({form}) belongs to files; {text!r} has neither {{output}}, "
                          "which a command writes, nor {case}, which a folder of transforms has")
    kind, _, rest = text.partition(":")
    if kind in ("model", "baseline"):
        return _spelt(name or rest, {kind: rest}, folder)
    if IMPORTED.fullmatch(text):
        return _spelt(name or rest, {"function": text}, folder)
    kinds = [kind for kind, names in (("baseline", _baselines()), ("model", MODELS)) if text in names]
    if len(kinds) > 1:
        raise OptionError(f"{text!r} is a baseline and a model; write baseline:{text} or model:{text}")
    if not kinds:
        raise unknown("method", text, sorted({*_baselines(), *MODELS}))
    return _spelt(name or text, {kinds[0]: text}, folder)


def _spelt(name: str, spec: dict, folder: Path) -> Method:
    """A method from its keys, checked."""
    what = f"method {name!r}"
    kinds = [kind for kind in KINDS if kind in spec]
    if len(kinds) != 1:
        raise OptionError(f"{what} has {' and '.join(kinds) or 'none'} of {', '.join(KINDS)}; it must have one")
    kind = kinds[0]
    for key in spec:
        if key not in (kind, *KINDS[kind], *COMMON):
            raise OptionError(f"{what}: {unknown('key', key, (kind, *KINDS[kind], *COMMON))}")
    limit = spec.get("time_limit")
    if limit is not None and not (real(limit) and limit > 0):
        raise OptionError(f"{what}: time_limit is {limit!r}; it must be a number of seconds above 0")
    if spec.get("format", "auto") not in (*FORMATS, "auto"):
        raise OptionError(f"{what}: {unknown('format', spec['format'], (*FORMATS, 'auto'))}")
    words = CHECKS[kind](what, spec, folder)
    return Method(name, kind, spec, folder, words=words or [])


def _check_baseline(what, spec, folder):
    if spec["baseline"] not in _baselines():
        raise OptionError(f"{what}: {unknown('baseline', spec['baseline'], _baselines())}")


def _check_model(what, spec, folder):
    if spec["model"] not in MODELS:
        raise OptionError(f"{what}: {unknown('model', spec['model'], MODELS)}")


def _check_parameters(what, spec, folder):
    given = spec["parameters"]
    paths = [given] if isinstance(given, str) else given
    if not (isinstance(paths, (list, tuple)) and paths and all(isinstance(path, (str, os.PathLike)) for path in paths)):
        raise OptionError(f"{what}: parameters are the paths of elastix parameter files, got {given!r}")
    spec["parameters"] = list(map(os.fspath, paths))
    from ..baselines.elastix import read_parameters

    try:
        read_parameters([folder / path for path in spec["parameters"]])
    except ClassregError as error:
        raise OptionError(f"{what}: {error}") from error


def _check_function(what, spec, folder):
    if not isinstance(spec["function"], str) or not IMPORTED.fullmatch(spec["function"]):
        raise OptionError(f"{what}: function is {spec['function']!r}; write package.module:function")


def _check_command(what, spec, folder):
    command, *others = (spec.get(key, "") for key in ("command", "if_fixed_mask", "if_moving_mask", "version"))
    words = split(command, FIELDS, what)
    if "{output}" not in command:
        raise OptionError(f"{what}: nothing in {command!r} says where to write; put {{output}} there")
    if program(words[0], folder) is None:
        raise OptionError(f"{what}: the program {words[0]!r} is not there: install it, put its folder on the PATH, or "
                          "write its whole path")
    if "transform" not in spec:
        written = [word for word in words if "{output}" in word]
        if len(written) > 1:
            raise OptionError(f"{what}: {len(written)} words of the command hold {{output}}; say which file is the "
                              'transform, in a methods file: "transform": "{output}..."')
        spec["transform"] = written[0][written[0].index("{output}"):]
    for pattern in _patterns(what, spec["transform"]):
        _check_fields(what, pattern, ("output", "case"))
    *masks, version = others
    return [words, *(split(text, FIELDS, what) if text else [] for text in masks),
            split(version, (), what) if version else []]


def _check_transforms(what, spec, folder):
    for pattern in _patterns(what, spec["transforms"]):
        _check_fields(what, pattern, ("case",))
        if "{case}" not in pattern:
            raise OptionError(f"{what}: {pattern!r} is one file for all cases; put {{case}} where they differ")


def _patterns(what, given) -> list[str]:
    found = [given] if isinstance(given, str) else given
    if not (isinstance(found, (list, tuple)) and found and all(isinstance(pattern, str) for pattern in found)):
        raise OptionError(f"{what}: the files of its transforms are {given!r}; give a path, or a list of them")
    for pattern in found:
        expand(pattern, what)
    return list(found)


def _check_fields(what, pattern, allowed):
    for name in fields_of([pattern]):
        if name not in allowed:
            raise OptionError(f"{what}: {unknown('field', name, allowed)}")


CHECKS = {"baseline": _check_baseline, "model": _check_model, "parameters": _check_parameters,
          "function": _check_function, "command": _check_command, "transforms": _check_transforms}


def _baselines() -> list[str]:
    from ..baselines import BASELINES

    return list(BASELINES)
