"""The house rules, read off the source: who imports whom, sizes, prints, docstrings, exported names."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import classreg

ROOT = Path(classreg.__file__).parent

#: floor of each module or package of classreg; a floor may import its own and those below
FLOORS = {
    0: "backend bounds descriptors errors kernels spline stencil",
    1: "draws grid image jacobian mapping pyramid sampling transforms",
    2: "metrics regularisers priors",
    3: "engine fitted gauge hessian objective optimisers planning resample schedule stopping",
    4: "api baselines check compare datasets door evaluate group initialise io memory models "
       "preflight result save series uncertainty",
    5: "cli plot report report_group report_series warmup",
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}

#: parts of one floor that must not know each other
APART = [("metrics", "regularisers"), ("metrics", "transforms"), ("regularisers", "transforms")]

#: the only ways up: what is saved has a report, a comparison has box plots; both are loaded when they are called
UPWARD = {("save", "report"), ("group", "report_group"), ("compare", "plot"), ("series", "report_series"),
          ("series", "plot")}

#: dictionaries of parts, which only floors 4 and 5 may look into
REGISTRIES = {"METRICS", "REGULARISERS", "PRIORS", "TRANSFORMS", "OPTIMISERS", "MODELS"}

#: where a package may be imported; "inside" means within a function, so that it is loaded when it is needed
ALLOWED = {
    "numba": ["kernels/cpu/"],
    "cupy": [],
    "SimpleITK": ["io/", "datasets/", "image.py inside", "cli/ inside"],
    "nibabel": ["io/", "datasets/", "image.py inside"],
    "matplotlib": ["plot/", "report.py", "report_series.py"],
    "typer": ["cli/"],
    "rich": ["cli/"],
}

#: packages that any module may import
COMMON = {"numpy", "scipy", "classreg"}

FILES = sorted(ROOT.rglob("*.py"))
EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(ROOT)) for p in FILES])


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def home(path):
    """The name under which a file stands in the floor table: its package or its own."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def module_of(path):
    """The imported module of a file."""
    parts = [p for p in path.relative_to(ROOT).with_suffix("").parts if p != "__init__"]
    return importlib.import_module(".".join(["classreg", *parts]))


@cache
def imports(path):
    """(absolute module, names, whether inside a function) of every import in a file that runs."""
    package = ("classreg", *path.relative_to(ROOT).parts[:-1])

    def visit(node, inside):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield alias.name, [], inside
            elif isinstance(child, ast.ImportFrom):
                base = package[:len(package) - child.level + 1] if child.level else ()
                module = ".".join([*base, *((child.module,) if child.module else ())])
                yield module, [a.name for a in child.names], inside
            deeper = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from visit(child, inside or deeper)

    return list(visit(tree(path), False))


def uses(path):
    """The parts of classreg that a file imports."""
    for module, names, _ in imports(path):
        parts = module.split(".")
        if parts[0] != "classreg":
            continue
        if len(parts) > 1:
            yield parts[1]
        else:
            for name in names:  # from . import plot; from classreg import io
                yield name if (ROOT / name).is_dir() else classreg._HOMES.get(name, name)


@EVERY_FILE
def test_arrows_only_go_down(path):
    name = home(path)
    if name == "__init__":
        return
    assert name in FLOOR, f"{name} has no floor: add it to the table of DESIGN.md and of this test"
    for other in uses(path):
        if other in ("__version__", "__init__"):
            continue
        assert other in FLOOR, f"{path.name} imports classreg.{other}, which has no floor"
        if (name, other) in UPWARD:
            continue
        assert FLOOR[other] <= FLOOR[name], f"{name} imports {other}, {FLOOR[name]} -> {FLOOR[other]}"
        for a, b in APART:
            assert {name, other} != {a, b}, f"{a} and {b} must not know each other"


@EVERY_FILE
def test_only_the_upper_floors_look_into_registries(path):
    if FLOOR.get(home(path), 5) <= 3 and path.name != "__init__.py":
        taken = {n for _, names, _ in imports(path) for n in names}
        assert not taken & REGISTRIES
        if FLOOR[home(path)] == 3:
            assert not set(uses(path)) & {"io", "models"}


@EVERY_FILE
def test_packages_are_imported_where_they_belong(path):
    relative = path.relative_to(ROOT).as_posix()
    for module, _, inside in imports(path):
        package = module.split(".")[0]
        if package in COMMON or package in sys.stdlib_module_names:
            continue
        assert package in ALLOWED, f"{relative} imports {package}, which is no dependency of this library"
        places = [p for p in ALLOWED[package] if relative.startswith(p.split()[0])]
        assert places, f"{relative} imports {package}; only {ALLOWED[package] or 'nobody yet'} may"
        assert inside or not places[0].endswith("inside"), f"{relative}: {package} only inside a function"


@EVERY_FILE
def test_a_file_has_a_docstring_and_at_most_500_lines(path):
    text = path.read_text(encoding="utf-8")
    assert len((ast.get_docstring(tree(path)) or "").split()) >= 3
    assert text.count("\n") <= 500


@EVERY_FILE
def test_no_prints(path):
    calls = [n for n in ast.walk(tree(path)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    assert [c.lineno for c in calls if c.func.id == "print"] == []


@EVERY_FILE
def test_public_functions_are_documented(path):
    """Every function, class and method without an underscore; those of the command line are its help."""
    def public(node):
        for child in node.body:
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)) and not child.name.startswith("_"):
                yield child
                if isinstance(child, ast.ClassDef):
                    yield from public(child)

    assert [n.name for n in public(tree(path)) if not ast.get_docstring(n)] == []


@EVERY_FILE
def test_exported_names_exist(path):
    module = module_of(path)
    for name in getattr(module, "__all__", []):
        assert hasattr(module, name), f"{module.__name__}.__all__ names {name!r}, which is not there"


def test_public_names_are_what_their_modules_define_whatever_was_imported_before():
    for path in FILES:
        module_of(path)
    for name, module in classreg._HOMES.items():
        defined = getattr(importlib.import_module(f"classreg.{module}"), name)
        assert getattr(classreg, name) is defined, f"classreg.{name} is {getattr(classreg, name)!r}"
        assert name in dir(classreg) and name in classreg.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'registre'"):
        getattr(classreg, "registre")  # noqa: B009


def test_importing_classreg_loads_no_heavy_package():
    heavy = ["numba", "scipy", "SimpleITK", "nibabel", "matplotlib", "typer"]
    code = f"import sys, classreg; print([p for p in {heavy} if p in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent,
                          check=True)
    assert done.stdout.strip() == "[]"
