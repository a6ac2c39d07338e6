"""Baselines: recipes that resolve to plain data, stay what they are, and find a known map; and the page about them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from heads import head_phantom
from typer.testing import CliRunner

import classreg
from classreg import baselines, cli, door
from classreg.baselines import BASELINES
from classreg.baselines.base import levels_of
from classreg.errors import InputError, OptionError
from classreg.evaluate import tre
from classreg.grid import Grid
from classreg.image import Image
from classreg.planning import Plan
from classreg.schedule import Level

PAGE = Path(__file__).parents[1] / "docs" / "baselines.md"

EVERY = pytest.mark.parametrize("name", BASELINES)

#: what of a generated head's landmark error may be left: a small pair, on which most levels are too coarse to be run
LEFT = {"none": 1.0}

#: recipes whose lattice of 10 mm is as fine as the voxels of the 3-D head, which nothing holds there
FINE = ("elastix-bspline",)

#: digests of the plans on one pair of grids; a recipe that changes any number needs a new version, and a line here
PINS = {
    "none 1.0": "c7861931",
    "flirt-mi 1.0": "2e23a7c9",
    "demons 1.1": "606acb84",
    "syn 1.0": "80dd92af",
    "syn-mi 1.0": "e9908d38",
    "greedy 1.0": "674c8246",
    "niftyreg-f3d 1.0": "8685d80a",
    "elastix-affine 1.0": "5db8e386",
    "elastix-bspline 1.0": "8098b4b8",
}


@pytest.fixture(scope="module")
def pairs():
    return {ndim: head_phantom(spacing, ndim=ndim) for ndim, spacing in ((2, 4.0), (3, 8.0))}


def flat(shape, spacing):
    """An image of which a recipe may know no more than the grid: oblique, off the origin."""
    d, turn = len(shape), np.eye(len(shape))
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    affine = np.eye(d + 1)
    affine[:d, :d] = turn * np.array(spacing)
    affine[:d, d] = (-30.0, 12.0, 55.0)[:d]
    return Image(np.random.default_rng(0).random(shape, np.float32), Grid(shape, affine))


GRIDS = [((96, 80), (1.5, 1.5)), ((24, 20), (3.0, 3.0)), ((9, 96, 80), (10.0, 1.4, 1.4)), ((64, 56, 48), (2, 2, 2.5))]


@EVERY
@pytest.mark.parametrize("shape, spacing", GRIDS, ids=repr)
def test_a_recipe_is_a_plan_that_can_be_run_and_is_plain_data(name, shape, spacing):
    image = flat(shape, spacing)
    plan = baselines.plan(name, image, image)
    door.check_plan(plan, image.grid)
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert door.check_plan(again, image.grid) is None
    assert json.dumps(again.to_dict(), sort_keys=True) == json.dumps(plan.to_dict(), sort_keys=True)
    assert again.baseline == f"{name} {BASELINES[name].version}" and again.model == name
    assert f"baseline = {again.baseline}\n" in str(plan)
    assert plan.search == "none" and all(stage.levels for stage in plan.stages)


@EVERY
def test_a_version_stands_for_the_numbers_of_a_recipe(name):
    fixed, moving = flat((60, 64, 56), (1.25, 1, 1)), flat((50, 50, 50), (1, 1, 1.5))
    plan = baselines.plan(name, fixed, moving)
    recipe = {key: value for key, value in plan.to_dict().items() if key != "gauge"}  # which groups have
    text = json.dumps({**recipe, "baseline": "", "notes": []}, sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    assert PINS.get(plan.baseline) == digest, (
        f"the recipe of {plan.baseline} is not what it was: give it a new version, and PINS the digest {digest!r}")


@EVERY
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_baseline_finds_a_known_map_with_the_same_bits_for_any_number_of_threads(name, ndim, pairs):
    if ndim == 3 and name in FINE:
        pytest.skip("its cells are as small as the voxels of this pair")
    pair = pairs[ndim]
    once = baselines.run(name, pair.fixed, pair.moving, threads=2)
    if ndim == 3 or name in FINE:
        again = baselines.run(name, pair.fixed, pair.moving, threads=1)
        assert np.array_equal(once.transform.theta, again.transform.theta)
    assert once.plan.baseline == f"{name} {BASELINES[name].version}" and once.transform.model == name
    before = tre(pair.fixed_points, pair.moving_points)["mean"]
    after = tre(once.transform.map_points(pair.fixed_points), pair.moving_points)["mean"]
    assert after <= LEFT.get(name, 0.45) * before + 1e-9


def test_none_moves_nothing(pairs):
    result = baselines.run("none", pairs[2].fixed, pairs[2].moving)
    assert np.allclose(result.transform.map_points(pairs[2].fixed_points), pairs[2].fixed_points, atol=1e-9)


def test_masks_reach_the_images(pairs):
    mask = (pairs[2].fixed_labels.array > 0).astype(np.uint8)
    result = baselines.run("none", pairs[2].fixed, pairs[2].moving, fixed_mask=mask, moving_mask=None)
    assert np.array_equal(result.fixed.weight, mask) and result.moving.weight is None


@pytest.mark.parametrize("given, message", [
    ("sny", r"unknown baseline 'sny'; did you mean 'syn'\? Allowed: "),
    ("Greedy", "did you mean 'greedy'"), (None, "unknown baseline None")], ids=repr)
def test_an_unknown_name_is_answered_with_the_nearest(given, message, pairs):
    with pytest.raises(OptionError, match=message):
        baselines.run(given, pairs[2].fixed, pairs[2].moving)
    with pytest.raises(OptionError, match=message):
        baselines.plan(given, pairs[2].fixed, pairs[2].moving)


def test_bad_input_is_refused_at_the_door(pairs):
    with pytest.raises(InputError):
        baselines.run("none", pairs[2].fixed, pairs[3].moving)
    with pytest.raises(OptionError, match="threads must be"):
        baselines.run("none", pairs[2].fixed, pairs[2].moving, threads=0)


def test_the_finest_level_stays_where_all_are_too_coarse():
    assert levels_of(Grid.from_spacing((12, 12)), (16, 8), (3, 4)) == (Level(8, 4),)


def test_dictionary_and_names_agree():
    for name, found in BASELINES.items():
        assert name == found.name and re.fullmatch(r"\d+\.\d+", found.version)
        assert all(len(text) > 3 for text in (found.imitates, found.source, found.differs))
    assert classreg.baselines is baselines


# -- the command line --

def run(*args):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args], env={"COLUMNS": "200"})


def test_the_command_line_lists_them():
    done = run("baselines")
    assert done.exit_code == 0
    for found in BASELINES.values():
        assert re.search(rf"{re.escape(found.name)}\W+{re.escape(found.version)}\W+{re.escape(found.imitates[:20])}",
                         done.stdout)


def test_the_command_line_runs_one(monkeypatch, tmp_path):
    calls = []

    def stand_in(name, fixed, moving, **options):
        calls.append((name, str(fixed), str(moving), options))
        return SimpleNamespace(status="done", seconds=1.0, save=lambda folder: None, summary=dict)

    monkeypatch.setattr(baselines, "run", stand_in)
    done = run("register", "f.nii", "m.nii", "-o", tmp_path / "out", "--baseline", "syn", "--threads", 2,
               "--fixed-mask", "a.nii", "--time-limit", 9)
    assert done.exit_code == 0, done.output
    name, fixed, moving, options = calls[0]
    assert (name, fixed, moving) == ("syn", "f.nii", "m.nii") and callable(options.pop("callback"))
    assert {k: v if v is None or k in ("threads", "time_limit") else str(v) for k, v in options.items()} == {
        "fixed_mask": "a.nii", "moving_mask": None, "threads": 2, "time_limit": 9.0, "memory_limit": None}


@pytest.mark.parametrize("option, value", [("--model", "bspline"), ("--levels", "4,2"), ("--init", "mass")])
def test_the_command_line_refuses_what_a_baseline_says_itself(option, value, tmp_path):
    done = run("register", "f.nii", "m.nii", "-o", tmp_path / "out", "--baseline", "syn", option, value)
    assert done.exit_code == 2 and f"in which {option} cannot be changed" in done.output
    assert not (tmp_path / "out").exists()


# -- the page --

def sections():
    """Heading -> text with single blanks, of the sections that a baseline's name stands above."""
    text = re.split(r"^## `([^`]+)`.*$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: " ".join(body.split()) for name, body in zip(text[1::2], text[2::2])}


def test_the_page_has_a_section_for_each():
    assert list(sections()) == list(BASELINES)


@EVERY
def test_the_page_says_what_the_data_say(name):
    found, text = BASELINES[name], sections()[name]
    assert f"Version {found.version}." in text
    for head, said in (("Imitates", found.imitates), ("Source", found.source), ("Differs", found.differs)):
        assert f"**{head}:** {' '.join(said.split())}." in text, head
    assert "**Settings:**" in text and "**Measured:**" in text
