"""The documentation says what is so: its examples run, its links lead somewhere, its tables are complete."""

from __future__ import annotations

import inspect
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from heads import head_phantom
from matplotlib.image import imread, imsave

from classreg import errors
from classreg.draws import SAMPLINGS
from classreg.initialise import INITS
from classreg.io import FORMATS, save_image
from classreg.metrics import METRICS
from classreg.metrics.group import GROUP_METRICS
from classreg.models import DEFORMABLE, LINEAR, LINEAR_OPTIMISER, MODELS
from classreg.optimisers import OPTIMISERS
from classreg.priors import PRIORS
from classreg.regularisers import REGULARISERS
from classreg.resample import INTERPOLATIONS
from classreg.transforms import PAIRED, TRANSFORMS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# the head of a table's first column, and what the column must list
DICTIONARIES = {
    "model": MODELS, "metric": METRICS, "method": GROUP_METRICS, "regulariser": REGULARISERS, "prior": PRIORS,
    "optimiser": OPTIMISERS,
    "transform": {**TRANSFORMS, **PAIRED}, "init": INITS, "interpolation": INTERPOLATIONS, "sampling": SAMPLINGS,
    "format": FORMATS,
    "error": [name for name, value in vars(errors).items()
              if isinstance(value, type) and value.__module__ == errors.__name__],
}


def label(path):
    return str(path.relative_to(ROOT))


def prose(page):
    """The text of a page without its code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def tables(page):
    """Each Markdown table of a page: head of a column -> for each row, the names in its cell."""
    for block in re.findall(r"(?:^\|.*\n?)+", prose(page), re.MULTILINE):
        rows = [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in block.splitlines()]
        names = [[re.findall(r"`([^`]+)`", cell) for cell in row] for row in rows[2:]]
        yield dict(zip(rows[0], zip(*names)))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the files that the pages speak of: a tiny head in 3-D, a picture pair, and masks."""
    folder, pair = tmp_path_factory.mktemp("files"), head_phantom(8.0)
    for name in ("fixed", "moving", "fixed_labels", "moving_labels"):
        save_image(getattr(pair, name), folder / f"{name}.nii.gz")
    for name in ("fixed", "moving"):
        labels = getattr(pair, f"{name}_labels")
        save_image(labels.with_array((labels.array > 0).astype(np.uint8)), folder / f"{name}_mask.nii.gz")
    flat = head_phantom(6.0, ndim=2)
    for name in ("fixed", "moving"):
        grey = getattr(flat, name).array
        imsave(folder / f"{name}.png", np.stack([grey, 0.7 * grey, 0.4 * grey], -1) / grey.max())
    return folder


@pytest.fixture
def workplace(files, tmp_path, monkeypatch):
    """A copy of these files as the working folder."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    before = [(table, dict(table)) for table in (METRICS, PRIORS)]  # pages and examples add parts of their own
    yield tmp_path
    for table, names in before:
        table.clear()
        table.update(names)


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_python_blocks_run(page, workplace):
    text = page.read_text(encoding="utf-8")
    names = {"__name__": "__main__"}
    for found in FENCE.finditer(text):
        if found[1] == "python":
            lines_above = text[:found.start(2)].count("\n")
            exec(compile("\n" * lines_above + found[2], str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{label(page)} links to {target}"
        if anchor:
            heads = re.findall(r"^#+ (.+)$", prose(other), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]
            assert anchor in slugs, f"{label(page)} links to {target}; the headings are {slugs}"


@pytest.mark.parametrize("kind", DICTIONARIES)
def test_tables_name_what_there_is(kind):
    found = [(label(page), table) for page in PAGES for table in tables(page) if next(iter(table)) == kind]
    assert found, f"no page has a table of each {kind}"
    for where, table in found:
        assert sorted(sum(table[kind], [])) == sorted(DICTIONARIES[kind]), where


def test_table_of_defaults_is_true():
    table = next(t for t in tables(ROOT / "docs" / "models.md") if "regularisers" in t)
    linear = sorted(set(LINEAR_OPTIMISER.values()))
    for (model,), *parts in zip(*(table[k] for k in ("model", "transform", "optimiser", "regularisers"))):
        if model in LINEAR:
            assert parts == [["linear"], linear, []]
        else:
            d = DEFORMABLE[model]
            specs = [d["transform"]], [d["optimiser"]], d["regularisers"]
            assert parts == [[spec["name"] for spec in part] for part in specs]


def test_table_of_metrics_names_their_optimiser_and_options():
    table = next(t for t in tables(ROOT / "docs" / "metrics.md") if "metric" in t)
    for (metric,), optimiser, options in zip(table["metric"], table["linear models by"], table["options"]):
        assert optimiser == [LINEAR_OPTIMISER[metric]]
        assert options == list(inspect.signature(METRICS[metric]).parameters)


@pytest.mark.parametrize("page, head, parts", [("regularisers.md", "regulariser", REGULARISERS),
                                               ("priors.md", "prior", PRIORS)])
def test_tables_name_all_options(page, head, parts):
    table = next(t for t in tables(ROOT / "docs" / page) if head in t)
    for (name,), options in zip(table[head], table["options"]):
        assert options == list(inspect.signature(parts[name]).parameters)


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in PAGES[2:]:
        assert page.name == "index.md" or f"({page.name})" in index


@pytest.mark.parametrize("script", EXAMPLES, ids=label)
def test_examples_draw_a_picture(script, workplace):
    runpy.run_path(str(script), run_name="__main__")
    picture = imread(workplace / f"{script.stem}.png")
    assert min(picture.shape[:2]) > 200
    assert picture[..., :3].std() > 0.02


def test_the_network_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    with pytest.raises(SystemExit, match="needs PyTorch, which classreg itself does not: pip install torch"):
        runpy.run_path(str(ROOT / "examples" / "network_torch.py"), run_name="__main__")


def test_there_are_pages_and_examples():
    assert len(PAGES) > 10 and len(EXAMPLES) == 4


def test_benchmark_measures_every_kernel():
    report = runpy.run_path(str(ROOT / "benchmarks" / "kernels.py"))
    found = report["measure"]((18, 20, 24), threads=2, repeat=1, size=1 << 16)
    assert found["not_measured"] == []
    assert all(row["ms"] > 0 and row["floor_ms"] > 0 for row in json.loads(json.dumps(found))["kernels"])
    assert report["table"](found).count("\n| ") == len(found["kernels"]) + 1
