"""`classreg convert`: files of one tool to files of another, on the command line; and `apply` with a format."""

from __future__ import annotations

import os

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from test_formats import FLIP, affine, dense, pair, voxels
from test_itk import close
from typer.testing import CliRunner

import classreg
from classreg import cli
from classreg.image import Image
from classreg.io import load, read_transform, save_image, write_transform


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """A folder with both images."""
    monkeypatch.chdir(tmp_path)
    fixed, moving = pair()
    save_image(Image(np.ones(fixed.shape, np.float32), fixed), "fixed.nii.gz")
    save_image(Image(moving.points()[..., 0].astype(np.float32), moving), "moving.nii.gz")
    return load("fixed.nii.gz").grid, load("moving.nii.gz").grid


def convert(*args, moving=True):
    ends = ["--fixed", "fixed.nii.gz", *(["--moving", "moving.nii.gz"] if moving else [])]
    return CliRunner().invoke(cli.app, ["convert", *args, *ends])


def test_a_matrix_of_flirt_becomes_one_of_itk_and_back(scene):
    transform = affine(*scene)
    write_transform(transform, "flirt.mat", format="fsl")
    done = convert("flirt.mat", "-o", "new/a.tfm", "--from", "fsl")
    assert done.exit_code == 0 and done.output == "", done.output
    itk, world = sitk.ReadTransform("new/a.tfm"), voxels(scene[0])[1]
    close([itk.TransformPoint(p) for p in world.tolist()], transform.map_points(world), 1e-3)  # float32 headers
    done = convert("new/a.tfm", "-o", "again.mat", "--to", "fsl")
    assert done.exit_code == 0, done.output
    close(np.loadtxt("again.mat"), np.loadtxt("flirt.mat"), 1e-9)


def test_a_warp_becomes_those_of_other_tools(scene):
    transform = dense(*scene)
    write_transform(transform, ["w.nii.gz", "a.mat"], format="greedy")
    world = voxels(scene[0])[1]
    there = transform.map_points(world)
    for target, name in [("fsl", "b.nii.gz"), ("learn2reg", "c.nii.gz"), ("npz", "d.npz"), ("itk", "e.h5")]:
        done = convert("w.nii.gz", "a.mat", "-o", name, "--from", "greedy", "--to", target)
        assert done.exit_code == 0, done.output
        close(read_transform(name, *scene, format=target).map_points(world), there, 1e-3)
    done = convert("b.nii.gz", "-o", "w2.nii.gz", "-o", "a2.mat", "--to", "ants")  # an FSL warp says that it is one
    assert done.exit_code == 0, done.output
    close(read_transform(["w2.nii.gz", "a2.mat"], *scene, format="ants").map_points(world), there, 1e-3)


def test_inverses_in_and_out(scene):
    transform, world = affine(*scene), voxels(scene[0])[1]
    write_transform(transform, "a.mat", format="ras")
    assert convert("a.mat", "-o", "b.mat", "--from", "ras", "--to", "ras", "--inverse", moving=False).exit_code == 0
    close(nib.affines.apply_affine(np.loadtxt("b.mat"), transform.map_points(world) * FLIP), world * FLIP, 1e-6)
    assert convert("b.mat,-1", "-o", "c.tfm", "--from", "ras").exit_code == 0
    close(read_transform("c.tfm", scene[0]).matrix, transform.matrix, 1e-9)
    write_transform(dense(*scene), "w.nii.gz", format="ants")
    done = convert("w.nii.gz", "-o", "i.nii.gz", "--to", "ants", "--inverse")
    assert done.exit_code == 0 and "The inverse holds within" in done.stderr
    assert load("i.nii.gz", channels="last").grid.same_as(scene[1])
    done = convert("w.nii.gz", "-o", "j.nii.gz", "--to", "ants", "--inverse", moving=False)
    assert done.exit_code == 1 and "give --moving" in done.stderr


@pytest.mark.parametrize("args, code, message", [
    (["a.mat", "-o", "b.tfm"], 1, "cannot tell the format of a.mat"),
    (["a.mat", "-o", "b.nii.gz", "--from", "fsl"], 1, "several tools have '.nii.gz' files"),
    (["a.mat", "-o", "b.tfm", "--from", "flirt"], 1, "unknown format 'flirt'"),
    (["a.mat", "-o", "a.mat", "--from", "fsl", "--to", "ras"], 1, "is one of the inputs"),
    (["a.mat", "a.mat", "-o", "b.tfm", "--from", "fsl"], 1, "in which order 2 files"),
    (["a.mat", "-o", "b.tfm", "-o", "c.tfm", "--from", "fsl", "--to", "itk"], 1, "a list is two files"),
    (["a.mat", "-o", "new/deep/b.nii.gz", "--from", "fsl", "--to", "itk"], 1, "as itk: the suffix is '.nii.gz'"),
    (["gone.mat", "-o", "b.tfm", "--from", "fsl"], 1, "no file gone.mat"), (["a.mat"], 2, "--output")])
def test_what_cannot_be_converted(scene, args, code, message):
    write_transform(affine(*scene), "a.mat", format="fsl")
    before = open("a.mat", "rb").read()
    there = sorted(os.listdir())
    done = convert(*args)
    assert done.exit_code == code and message in done.stderr, done.output
    assert open("a.mat", "rb").read() == before and sorted(os.listdir()) == there


def test_fsl_needs_the_moving_image(scene):
    write_transform(affine(*scene), "a.mat", format="fsl")
    done = convert("a.mat", "-o", "b.tfm", "--from", "fsl", moving=False)
    assert done.exit_code == 1 and "the moving grid is needed" in done.stderr


def test_apply_takes_files_of_other_tools(scene):
    transform, fixed = affine(*scene), scene[0]
    write_transform(transform, "a.mat", format="fsl")
    done = CliRunner().invoke(cli.app, ["apply", "a.mat", "moving.nii.gz", "fixed.nii.gz", "-o", "out.nii.gz",
                                        "--format", "fsl", "--interpolation", "linear"])
    assert done.exit_code == 0, done.output
    expected = transform.map_points(fixed.points().reshape(-1, 3))[:, 0].reshape(fixed.shape)
    close(load("out.nii.gz").array, expected, 1e-3)  # the moving image holds its own x
    write_transform(dense(*scene), ["w.nii.gz", "b.mat"], format="ants")
    found = classreg.apply(["w.nii.gz", "b.mat"], "moving.nii.gz", "fixed.nii.gz", format="ants")
    expected = dense(*scene).map_points(fixed.points().reshape(-1, 3))[:, 0].reshape(fixed.shape)
    close(found.array, expected, 1e-3)
