"""Landmarks, linear errors, similarity and cost of a block, against cases worked by hand, quadrature and packages."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from classreg import evaluate
from classreg.errors import InputError, OptionError
from classreg.evaluate import (
    corner_distance,
    landmark_scores,
    linear_errors,
    measured,
    relative_errors,
    rms_deviation,
    rms_deviation_box,
    robustness,
    rotation_angle,
    similarity,
    snap_to_voxel,
    theta_rates,
    tre,
)
from classreg.grid import Grid


def turned(shape, spacing, angle=0.5):
    c, s = np.cos(angle), np.sin(angle)
    direction = np.eye(len(shape))
    direction[:2, :2] = [[c, -s], [s, c]]
    return Grid.from_spacing(shape, spacing, origin=(12.0, -30.0, 5.0)[:len(shape)], direction=direction)


# -- landmarks -----------------------------------------------------------------------------------------------

def test_snapping_follows_the_grid():
    grid = turned((8, 9, 10), (2.5, 1.0, 0.9))
    index = np.array([[3.0, 4.0, 5.0], [0.0, 8.0, 9.0], [7.0, 0.0, 0.0]])
    near = index + [[0.4, -0.4, 0.3], [-0.49, 0.2, 0.1], [0.45, 0.0, -0.3]]
    assert np.allclose(snap_to_voxel(grid.to_world(near), grid), grid.to_world(index))
    assert snap_to_voxel([[0.5, 1.5]], Grid.from_spacing((5, 5))).tolist() == [[1.0, 2.0]]
    with pytest.raises(InputError, match=r"expected \(n, 3\)"):
        snap_to_voxel(np.zeros((2, 2)), grid)


def test_relative_errors_by_hand():
    """40 x 30 pixels of 2 mm: a diagonal of 100 mm; on pixels of 1 x 2 mm, 40 x 60 mm."""
    assert np.allclose(relative_errors([5.0, 10.0], turned((30, 40), 2.0)), [0.05, 0.1])
    assert np.allclose(relative_errors([1.0], turned((30, 40), (2.0, 1.0))), 1 / np.hypot(60, 40))


def test_robustness_counts_only_improvement():
    assert robustness([1.0, 2.0, 5.0, 0.0], [2.0, 2.0, 4.0, 0.1]) == 0.5
    with pytest.raises(InputError, match="same landmarks"):
        robustness([1.0, 2.0], [1.0, 2.0, 3.0])


def test_landmark_scores():
    grid = Grid.from_spacing((30, 40, 50), (2.0, 1.0, 1.0))
    true = grid.to_world([[3, 4, 5], [6, 7, 8], [10, 20, 30], [4, 4, 4]])
    mapped = true + [[0.3, 0.4, 0.0], [0.0, 0.0, 1.5], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    start = true + [3.0, 0.0, 0.0]
    plain = landmark_scores(mapped, true, start, fixed=grid, moving=grid)
    assert {k: plain[k] for k in ("mean", "median", "p75", "p95", "max")} == tre(mapped, true)
    assert plain["mean"] == pytest.approx((0.5 + 1.5 + 3) / 4) and plain["n"] == 4
    assert plain["robustness"] == 0.75 and plain["before"]["mean"] == 3.0
    assert plain["relative"] == pytest.approx(1.0 / np.sqrt(60**2 + 40**2 + 50**2))
    snapped = landmark_scores(mapped, true, snap="voxel", moving=grid)
    assert snapped["mean"] == pytest.approx((0 + 2 + 3) / 4) and snapped["convention"]["snap"] == "voxel"
    assert "robustness" not in snapped and "relative" not in snapped
    with pytest.raises(InputError, match="needs the moving image's grid"):
        landmark_scores(mapped, true, snap="voxel")
    with pytest.raises(OptionError, match="snap 'voxels'; did you mean 'voxel'"):
        landmark_scores(mapped, true, snap="voxels", moving=grid)


# -- linear --------------------------------------------------------------------------------------------------

def about(centre, linear, shift=0.0):
    d = len(centre)
    out = np.eye(d + 1)
    out[:d, :d] = linear
    out[:d, d] = centre - np.asarray(linear) @ centre + shift
    return out


def rotation(degrees):
    a = np.radians(degrees)
    return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


def test_linear_errors_by_hand():
    grid = turned((91, 109), 2.0)
    for degrees in (0.0, 30.0, 90.0, 180.0):
        found = linear_errors(about(grid.centre, rotation(degrees)), np.eye(3), grid)
        assert found["mat_err"] == pytest.approx(4 * (1 - np.cos(np.radians(degrees))), abs=1e-12)
        assert found["theta"] == pytest.approx(degrees, abs=1e-5) and found["theta_polar"] == pytest.approx(degrees)
        assert found["translation"] == pytest.approx(0, abs=1e-9)
    along = grid.affine[:2, :2] @ [10, -20]  # 10 rows and -20 columns: 10 / 45.5 and 20 / 54.5 half sizes
    found = linear_errors(about(grid.centre, np.eye(2), along), np.eye(3), grid)
    assert found["mat_err"] == pytest.approx((10 / 45.5) ** 2 + (20 / 54.5) ** 2)
    assert found["translation"] == pytest.approx(found["rms_box"]) == pytest.approx(2 * np.hypot(10, 20))


def test_scale_is_taken_for_rotation_by_theta_only():
    grid = turned((20, 30), 1.0)
    half = linear_errors(about(grid.centre, 0.5 * np.eye(2)), np.eye(3), grid)
    assert half["theta"] == pytest.approx(60.0) and half["theta_polar"] == pytest.approx(0, abs=1e-6)
    assert half["mat_err"] == pytest.approx(0.5)
    large = linear_errors(about(grid.centre, 2 * rotation(40)), np.eye(3), grid)
    assert large["theta"] == 0.0 and large["theta_polar"] == pytest.approx(40)


def test_only_the_residual_counts():
    """The truth composed with a small error on the fixed side gives the error of that error."""
    grid = turned((20, 30), (1.5, 1.0))
    true = about(grid.centre, rotation(140) @ np.diag([1.3, 0.8]), [9.0, -4.0])
    error = about(grid.centre, rotation(12), [1.0, 0.5])
    found = linear_errors(true @ error, true, grid)
    alone = linear_errors(error, np.eye(3), grid)
    for key in ("mat_err", "theta", "theta_polar", "translation"):
        assert found[key] == pytest.approx(alone[key])


def test_rotation_angle_in_3d_is_geodesic():
    axis, angle = np.array([1.0, 2.0, -2.0]) / 3, 1.1
    cross = np.cross(np.eye(3), -axis)
    r = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    assert rotation_angle(r) == pytest.approx(np.degrees(angle))
    stretched = r @ np.diag([2.0, 0.5, 1.0])
    assert rotation_angle(stretched) == pytest.approx(np.degrees(angle))
    assert rotation_angle(np.diag([1.0, 1.0, -0.5])) == pytest.approx(0)
    tiny = np.eye(3) + 1e-9 * cross
    assert rotation_angle(tiny) == pytest.approx(np.degrees(1e-9), rel=1e-6)
    grid = turned((5, 6, 7), 1.0)
    assert linear_errors(about(grid.centre, r), np.eye(4), grid)["theta"] == pytest.approx(np.degrees(angle))


def test_theta_rates():
    assert theta_rates([0.0, 45.0, 46.0, 179.0], (45, 90, 170)) == {"theta_45": 50.0, "theta_90": 25.0,
                                                                   "theta_170": 25.0}
    with pytest.raises(InputError, match="at least one case"):
        theta_rates([])


@pytest.mark.parametrize("ndim", [2, 3])
def test_rms_deviations_by_quadrature(ndim):
    rng = np.random.default_rng(0)
    first, second = np.eye(ndim + 1), np.eye(ndim + 1)
    first[:ndim] += rng.normal(0, 0.2, (ndim, ndim + 1))
    second[:ndim] += rng.normal(0, 0.2, (ndim, ndim + 1))
    centre = np.array([5.0, -3.0, 8.0])[:ndim]
    gap = first @ np.linalg.inv(second) - np.eye(ndim + 1)
    fine = np.stack(np.meshgrid(*[np.linspace(-1, 1, 61)] * ndim, indexing="ij"), -1).reshape(-1, ndim)
    ball = centre + 60.0 * fine[(fine**2).sum(1) <= 1]
    by_hand = np.sqrt(((ball @ gap[:ndim, :ndim].T + gap[:ndim, ndim]) ** 2).sum(1).mean())
    assert rms_deviation(first, second, centre, 60.0) == pytest.approx(by_hand, rel=0.01)
    grid = turned((5, 7, 6)[:ndim], (3.0, 1.0, 2.0)[:ndim])
    inside = np.stack(np.meshgrid(*[np.arange(n * 8) / 8 - 0.4375 for n in grid.shape], indexing="ij"), -1)
    points = grid.to_world(inside.reshape(-1, ndim))
    step = first[:ndim] - second[:ndim]
    by_hand = np.sqrt(((points @ step[:, :ndim].T + step[:, ndim]) ** 2).sum(1).mean())
    assert rms_deviation_box(first, second, grid) == pytest.approx(by_hand, rel=5e-3)


def test_corner_distance_is_the_largest_over_the_box():
    grid = turned((6, 9), (2.0, 1.0))
    moved = about(grid.centre, rotation(90), [1.0, 0.0])
    everywhere = np.sqrt(((grid.points() @ (moved - np.eye(3))[:2, :2].T + (moved - np.eye(3))[:2, 2]) ** 2).sum(-1))
    assert corner_distance(moved, np.eye(3), grid) == pytest.approx(everywhere.max())
    turn = about(grid.centre, rotation(180))
    assert corner_distance(turn, np.eye(3), grid) == pytest.approx(np.hypot(10.0, 8.0))


def test_linear_refusals():
    grid = turned((5, 6), 1.0)
    for bad in (np.eye(4), np.full((3, 3), np.nan), np.diag([1.0, 0.0, 1.0]), np.ones((3, 3))):
        with pytest.raises(InputError, match="matrix"):
            linear_errors(np.eye(3), bad, grid)
    with pytest.raises(OptionError, match="radius is 0"):
        rms_deviation(np.eye(3), np.eye(3), np.zeros(2), 0)


# -- similarity ----------------------------------------------------------------------------------------------

@pytest.fixture
def images():
    rng = np.random.default_rng(5)
    x, y, z = np.meshgrid(*[np.linspace(0, 1, n) for n in (14, 15, 16)], indexing="ij")
    reference = np.sin(5 * x + 2 * y) + np.cos(7 * z * y)
    return 0.8 * reference + 0.3 * rng.normal(size=reference.shape), reference


# scikit-image 0.26.0: normalized_mutual_information (20 bins), peak_signal_noise_ratio, structural_similarity by
# default and as Wang et al. have it, data_range = that of the reference
SCIKIT_IMAGE = {3: (1.2297460329258942, 20.744307963313734, 0.8529050882913157, 0.8309171182859743),
                2: (1.2575538598905547, 18.691543952536954, 0.7380580054772333, 0.762993892698898)}


@pytest.mark.parametrize("ndim", [2, 3])
def test_as_scikit_image_measures(images, ndim):
    image, reference = (x if ndim == 3 else x[:, :, 3] for x in images)
    found = (similarity.nmi(reference, image, 20), similarity.psnr(image, reference),
             similarity.ssim(image, reference, window="uniform"), similarity.ssim(image, reference))
    assert found == pytest.approx(SCIKIT_IMAGE[ndim], rel=1e-10)


def test_ncc_and_ssd_as_numpy(images):
    mask = np.random.default_rng(0).random(images[0].shape) > 0.4
    a, b = (x[mask] for x in images)
    assert similarity.ncc(*images, mask) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert similarity.ssd(*images, mask) == pytest.approx(((a - b) ** 2).mean())
    assert similarity.ncc(images[0], -3 * images[0] + 7) == pytest.approx(-1.0)
    assert np.isnan(similarity.ncc(images[0], np.ones(images[0].shape)))


def test_lcc_by_brute_force(images):
    """Border and mask cut the boxes; flat boxes are left out."""
    a, b = (x[:, :, 3].copy() for x in images)
    mask = np.random.default_rng(1).random(a.shape) > 0.3
    a[:7, :7] = 2.0
    rho = []
    for i, j in np.argwhere(mask):
        part = (slice(max(i - 2, 0), i + 3), slice(max(j - 2, 0), j + 3))
        x, y = a[part][mask[part]], b[part][mask[part]]
        if x.std() > 1e-9:
            rho.append(np.corrcoef(x, y)[0, 1])
    assert 100 < len(rho) < mask.sum()
    assert similarity.lcc(a, b, 2, mask) == pytest.approx(np.mean(np.square(rho)))
    assert similarity.lcc(a, b, 2, mask, squared=False) == pytest.approx(np.mean(rho))
    assert similarity.lcc(a, 5 - 2 * a, 2) == pytest.approx(1.0)
    assert similarity.lcc(a, 5 - 2 * a, 2, squared=False) == pytest.approx(-1.0)
    assert np.isnan(similarity.lcc(np.ones((4, 4)), a[:4, :4], 1))


def test_information_by_hand():
    """Three equally likely values that one image tells of the other, and two independent coins."""
    a = np.array([0.0, 1, 2] * 4)
    assert similarity.mi(a, (a - 1) ** 2, 3) == pytest.approx(np.log(3) - 2 / 3 * np.log(2))
    assert similarity.nmi(a, 5 - a, 3) == pytest.approx(2.0)
    first, second = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert similarity.mi(first, second, 2) == pytest.approx(0, abs=1e-12)
    assert similarity.nmi(first, second, 2) == pytest.approx(1.0)
    assert similarity.mi(first, second, 2, mask=[1, 0, 0, 1]) == pytest.approx(np.log(2))
    assert np.isnan(similarity.nmi(np.ones(4), np.ones(4)))


def test_ranges_masks_and_equal_images(images):
    image, reference = images
    assert similarity.psnr(reference, reference) == np.inf and similarity.ssim(reference, reference) == 1.0
    assert similarity.psnr(image, reference, 255) == pytest.approx(10 * np.log10(255**2 / similarity.ssd(*images)))
    mask = np.zeros(image.shape)
    mask[6:9, 6:9, 6:10] = 1
    spoilt = image.copy()
    spoilt[0] = np.nan
    assert similarity.psnr(spoilt, reference, 1.0, mask) == similarity.psnr(image, reference, 1.0, mask)
    part = (slice(2, 13), slice(2, 13), slice(2, 14))  # whose windows reach as far as those of the mask
    near = similarity.ssim(image[part], reference[part], 3.0, mask[part], "uniform")
    assert near == pytest.approx(similarity.ssim(image, reference, 3.0, mask, "uniform"))


@pytest.mark.parametrize("refused, error, message", [
    (lambda a: similarity.ssd(a, a[1:]), InputError, "one to the other's grid"),
    (lambda a: similarity.ncc(a, a * np.nan), InputError, "second image are not finite"),
    (lambda a: similarity.mi(a, a, mask=a * 0), InputError, "mask is empty"),
    (lambda a: similarity.mi(a, a, bins=1), OptionError, "bins is 1"),
    (lambda a: similarity.lcc(a, a, 0), OptionError, "radius is 0"),
    (lambda a: similarity.ssim(a, a), InputError, "needs 11 samples"),
    (lambda a: similarity.ssim(a, a, window="gauss"), OptionError, "did you mean 'gaussian'"),
    (lambda a: similarity.psnr(a, a * 0), OptionError, "reference is constant"),
    (lambda a: similarity.psnr(a, a, -1.0), OptionError, "value_range is -1.0"),
])
def test_similarity_refuses(refused, error, message):
    with pytest.raises(error, match=message):
        refused(np.arange(36.0).reshape(6, 6))


# -- cost ----------------------------------------------------------------------------------------------------

def test_cost_of_sleep_and_work():
    with measured() as asleep:
        time.sleep(0.2)
    with measured() as busy:
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
    assert asleep.wall >= 0.2 > 0.1 > asleep.cpu and busy.cpu >= 0.2


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the memory of a process as Linux")
def test_peak_memory_is_that_of_the_block():
    before = np.ones(2 << 24)  # 256 MiB, gone before
    del before
    with measured() as cost:
        held = np.ones(1 << 24)  # 128 MiB, gone within
        del held
        small = np.ones(1 << 20)
    assert cost.memory == "block" and small.size == 1 << 20
    assert 120 < cost.peak - cost.start < 180


def test_cost_is_there_after_an_exception():
    with pytest.raises(KeyError), measured() as cost:
        raise KeyError("x")
    assert cost.wall >= 0 and cost.memory in ("block", "process", "none")


def test_without_a_mark_to_set_back_the_mark_of_the_process_is_an_upper_bound(monkeypatch, tmp_path):
    from classreg.evaluate import resources

    monkeypatch.setattr(resources, "RESET", tmp_path / "missing" / "clear_refs")
    with measured() as cost:
        pass
    assert cost.memory in ("process", "none") and not cost.peak < 20


# -- the page ------------------------------------------------------------------------------------------------

def test_the_page_explains_every_measure():
    page = (Path(__file__).parents[1] / "docs" / "evaluate.md").read_text(encoding="utf-8")
    inner = {f"{module}.{name}" for module in ("learn2reg", "similarity", "statistics")
             for name, value in vars(getattr(evaluate, module)).items()
             if callable(value) and value.__module__ == f"classreg.evaluate.{module}" and name[0] != "_"}
    names = set(evaluate.__all__) - {"learn2reg", "similarity", "statistics"} | inner
    shown = {"statistics.paired", "statistics.compare", "learn2reg.voxel_field", "learn2reg.jacobian_determinant"}
    assert len(names) > 50 and [n for n in sorted(names - shown) if f"| `{n}` |" not in page and n != "measured"] == []
