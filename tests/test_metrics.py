"""Metrics: the contract over the dictionary, and what each promises beyond it."""

from __future__ import annotations

import numpy as np
import pytest

from classreg import check
from classreg.backend import SMALL, Workspace
from classreg.errors import OptionError
from classreg.grid import Grid
from classreg.image import Image
from classreg.kernels import reference
from classreg.mapping import Mapping
from classreg.metrics import (
    LNCC,
    METRICS,
    MIND,
    NCC,
    NGF,
    SAD,
    SSD,
    CorrelationRatio,
    MutualInformation,
    NormalisedMutualInformation,
)
from classreg.metrics.ngf import frame
from classreg.objective import Objective
from classreg.pyramid import normalised
from classreg.sampling import Points, sample
from classreg.transforms import Linear

EVERY = pytest.mark.parametrize("name", METRICS)
DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


def prepared(metric, fixed, moving, grid):
    metric.prepare(fixed, moving, grid)
    return metric


def large_arrays(ndim, dtype, channels=1):
    """Fixed, warped and weight above the size from which kernels run on the pool."""
    shape = (1, 210, 190) if ndim == 2 else (50, 27, 29)
    assert np.prod(shape) > SMALL
    grid = Grid.from_spacing(shape[-ndim:], spacing=(2.0, 1.0, 1.5)[-ndim:])
    points = grid.points().reshape(*shape, ndim)
    rng = np.random.default_rng(7)
    fixed = np.stack([np.sin(points[..., 0] / (4 + c)) + np.cos(points.sum(-1) / 7) for c in range(channels)])
    warped = np.sin(fixed + 0.3)
    warped += rng.standard_normal(fixed.shape) * (0.2 + 0.3 * np.arange(channels).reshape(-1, 1, 1, 1))
    return fixed.astype(dtype), warped.astype(dtype), rng.uniform(0, 1, shape).astype(dtype), grid


@EVERY
def test_contract(name):
    check.metric(METRICS[name])


@pytest.mark.parametrize("make", [
    lambda: MutualInformation(window="box"), lambda: NormalisedMutualInformation(window="box"),
    lambda: SAD(delta=0.02), lambda: SAD(delta=1.0), lambda: CorrelationRatio(bins=8),
], ids=["mi box", "nmi box", "sad 0.02", "sad 1", "cr 8"])
def test_contract_of_other_options(make):
    check.metric(make)


@EVERY
@DIMENSIONS
def test_points_on_the_grid_are_the_grid(name, ndim):
    metric = METRICS[name]()
    if metric.dense:
        pytest.skip("needs neighbours")
    fixed, moving = check.scene(ndim, 2)
    model = Linear(fixed.grid, "affine")
    theta = model.retract(model.identity(), np.full(len(model.tangent(model.identity())), 0.137))
    points = Points(fixed.grid.points().reshape(-1, ndim))
    on_grid, at_points = (Objective(fixed, moving, model, METRICS[name](), at=at, order=3)(theta)
                          for at in (fixed.grid, points))
    assert at_points.value == pytest.approx(on_grid.value, rel=1e-9)
    scale = np.abs(on_grid.gradient).max()
    assert np.abs(at_points.gradient - on_grid.gradient).max() < 1e-9 * scale


@pytest.mark.parametrize("wrong, message", [
    (lambda v, a: (v, 1.001 * a), "gives a slope"),
    (lambda v, a: (v, a + 1e-4), "adjoint where the weight is zero|gives a slope"),
    (lambda v, a: (-v, -a), "for identical images"),
    (lambda v, a: (v, a[:1]), "the adjoint must be"),
    (lambda v, a: (np.nan, a), "finite number"),
])
def test_the_contract_check_refuses_a_broken_metric(wrong, message):
    class Broken(SSD):
        def __call__(self, warped, weight):
            return wrong(*super().__call__(warped, weight))

    with pytest.raises(AssertionError, match=message):
        check.metric(Broken)


def test_the_contract_check_refuses_what_only_a_larger_step_shows():
    """Right at a tiny step and wrong at a real one, as with an image that is zero beyond its border."""
    class Jumping(SSD):
        def __call__(self, warped, weight):
            value, adjoint = super().__call__(warped, weight)
            self.first = getattr(self, "first", warped)
            return value + float(np.sum(np.round(warped - self.first, 2))), adjoint

    with pytest.raises(AssertionError, match="differences at step 0.01"):
        check.metric(Jumping)


@EVERY
@DIMENSIONS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_for_any_number_of_threads(name, ndim, dtype):
    fixed, warped, weight, grid = large_arrays(ndim, dtype, channels=2)
    found = set()
    for threads in (1, 2, 3, 7):
        with Workspace(threads):
            value, adjoint = prepared(METRICS[name](), fixed, warped, grid)(warped, weight)
            found.add((value, adjoint.tobytes()))
    assert len(found) == 1


@EVERY
@DIMENSIONS
@pytest.mark.parametrize("scale, offset", [(37.0, -1200.0), (1e-3, 0.02)])
def test_blind_to_scale_and_offset_after_normalisation(name, ndim, scale, offset):
    fixed, moving = check.scene(ndim)
    values = []
    for image in (moving, moving.with_array(scale * moving.array + offset)):
        f, m = normalised(fixed), normalised(image)
        warped, weight, _ = sample(m, Mapping(np.eye(ndim + 1)), f.grid)
        values.append(prepared(METRICS[name](), f.data, m.data, f.grid)(warped, weight)[0])
    assert values[1] == pytest.approx(values[0], abs=2e-5)


@EVERY
@DIMENSIONS
def test_channels_are_averaged(name, ndim):
    fixed, warped, weight, grid = large_arrays(ndim, np.float64, channels=2)
    both = prepared(METRICS[name](), fixed, warped, grid)(warped, weight)[0]
    one = [prepared(METRICS[name](), f[None], m[None], grid)(m[None], weight)[0]
           for f, m in zip(fixed, warped)]
    assert abs(one[0] - one[1]) > 1e-3
    assert both == pytest.approx(np.mean(one), rel=1e-12)


@EVERY
def test_weightless_samples_do_not_count(name):
    fixed, warped, weight, grid = large_arrays(3, np.float64)
    weight[:, :9] = 0
    first = prepared(METRICS[name](), fixed, warped, grid)(warped, weight)[0]
    changed = warped.copy()
    changed[:, :, :9] = warped.min() + np.random.default_rng(1).uniform(0, 1, changed[:, :, :9].shape)
    metric = prepared(METRICS[name](), fixed, warped, grid)
    assert metric(changed, weight)[0] == pytest.approx(first, rel=1e-12)


@EVERY
def test_doubled_weight_changes_nothing(name):
    fixed, warped, weight, grid = large_arrays(3, np.float64)
    weight = np.maximum(weight, 0.6)  # lncc asks for half a sample per window
    metric = prepared(METRICS[name](), fixed, warped, grid)
    assert metric(warped, weight)[0] == pytest.approx(metric(warped, 2 * weight)[0], rel=1e-12)


@pytest.mark.parametrize("make", [lambda: LNCC(flat=1e-12), MutualInformation, NormalisedMutualInformation,
                                  CorrelationRatio, NGF, lambda: MIND("exact")])
def test_blind_to_the_sign_of_contrast(make):
    """LNCC above its noise floor, `flat`, which ties the sign of a window without structure."""
    fixed, warped, weight, grid = large_arrays(3, np.float64)
    values = [prepared(make(), fixed, m, grid)(m, weight)[0] for m in (warped, -warped)]
    assert values[1] == pytest.approx(values[0], rel=1e-7)


# -- values by their definitions -----------------------------------------------------------------------------

def test_ssd_and_ncc_by_their_definitions():
    fixed, warped, weight, grid = large_arrays(3, np.float64)
    w, f, m = weight / weight.sum(), fixed[0], warped[0]
    ssd = prepared(SSD(), fixed, warped, grid)(warped, weight)[0]
    assert ssd == pytest.approx(0.5 * np.sum(w * (f - m) ** 2), rel=1e-10)
    f, m = f - np.sum(w * f), m - np.sum(w * m)
    rho = np.sum(w * f * m) / np.sqrt(np.sum(w * f * f) * np.sum(w * m * m))
    assert prepared(NCC(), fixed, warped, grid)(warped, weight)[0] == pytest.approx(1 - rho, rel=1e-10)


def test_lncc_by_its_definition_with_a_window_in_mm():
    fixed, warped, weight, grid = large_arrays(3, np.float64)
    value = prepared(LNCC(radius=3, flat=2e-3), fixed, warped, grid)(warped, weight)[0]
    radii = [round(3 * 1.0 / 2.0), 3, 2]  # 3 mm along spacings 2, 1 and 1.5 mm
    *_, (total, count) = reference.correlation(fixed[0], warped[0], weight, radii, 2e-3, 0.5 * weight.max())
    assert value == pytest.approx(total / count, rel=1e-9)


def test_mutual_information_of_a_known_table():
    """Two fair coins: independent ones share nothing, equal ones log 2, but for the window's width."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 1, 1, 200, 200)).astype(float)
    grid = Grid((1, 200, 200), np.eye(4)[[2, 1, 0, 3]])
    weight = np.ones((1, 200, 200))
    equal = prepared(MutualInformation(), a, a, grid)(a.copy(), weight)[0]
    independent = prepared(MutualInformation(), a, b, grid)(b.copy(), weight)[0]
    assert equal == pytest.approx(-np.log(2), abs=1e-3)
    assert independent == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("window", ["hat", "box"])
def test_normalised_mutual_information_of_a_known_table(window):
    """As above: equal coins have H_F = log 2, and H_M = H_FM = log 2 + the entropy of the window (1/6, 4/6, 1/6)."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 1, 1, 200, 200)).astype(float)
    grid = Grid((1, 200, 200), np.eye(4)[[2, 1, 0, 3]])
    weight = np.ones((1, 200, 200))
    equal, independent = (prepared(NormalisedMutualInformation(window=window), a, m, grid)(m.copy(), weight)[0]
                          for m in (a, b))
    spread = -sum(p * np.log(p) for p in (1 / 6, 4 / 6, 1 / 6))
    assert equal == pytest.approx(-np.log(2) / (np.log(2) + spread), abs=1e-3)
    assert independent == pytest.approx(0, abs=1e-3)


def test_sad_by_its_definition():
    fixed, warped, weight, grid = large_arrays(3, np.float64)
    w, r = weight / weight.sum(), warped[0] - fixed[0]
    for delta in (0.05, 0.3):
        found = prepared(SAD(delta), fixed, warped, grid)(warped, weight)[0]
        assert found == pytest.approx(np.sum(w * (np.sqrt(r**2 + delta**2) - delta)), rel=1e-10)
    tiny = prepared(SAD(1e-6), fixed, warped, grid)(warped, weight)[0]
    assert tiny == pytest.approx(np.sum(w * np.abs(r)), abs=2e-6)


def test_correlation_ratio_by_its_definition():
    """Within-bin variances over the whole variance, bin by bin."""
    fixed, warped, weight, grid = large_arrays(3, np.float64)
    f, m, w, bins = fixed[0].ravel(), warped[0].ravel(), weight.ravel(), 12
    found = prepared(CorrelationRatio(bins), fixed, warped, grid)(warped, weight)[0]
    xi = (f - f.min()) / (f.max() - f.min()) * (bins - 1)
    within = 0.0
    for a in range(bins):
        h = w * np.clip(1 - np.abs(xi - a), 0, None)
        within += np.sum(h * (m - np.sum(h * m) / h.sum()) ** 2)
    expected = within / np.sum(w * (m - np.sum(w * m) / w.sum()) ** 2)
    assert 0.05 < expected < 0.95
    assert found == pytest.approx(expected, rel=1e-9)


def test_correlation_ratio_runs_from_fixed_to_moving():
    """A square is a function of the fixed image; the fixed image is none of its square."""
    fixed, _, weight, grid = large_arrays(3, np.float64)
    square = (fixed - fixed.mean()) ** 2
    there = prepared(CorrelationRatio(), fixed, square, grid)(square, weight)[0]
    back = prepared(CorrelationRatio(), square, fixed, grid)(fixed, weight)[0]
    assert there < 0.02 and back > 0.5


def test_ngf_by_its_definition_where_edges_are_plane():
    """Ramps at a known angle: E is the squared sine of it, but for eta."""
    grid = Grid.from_spacing((9, 12, 15), spacing=(2.0, 1.0, 1.5))
    z, y, x = np.moveaxis(grid.points().reshape(*grid.shape, 3), -1, 0)[::-1]
    fixed, warped = (0.8 * z + 0.6 * y)[None], (-3 * (0.8 * z + 0.6 * x))[None]
    value = prepared(NGF(eta=1e-3), fixed, warped, grid)(warped, np.ones(grid.shape))[0]
    assert value == pytest.approx(1 - 0.64**2, abs=1e-5)


def test_ngf_measures_eta_in_units_of_the_mean_gradient():
    fixed, _ = check.scene(3)
    for scale in (1.0, 40.0):
        found = NGF().describe(fixed.with_array(scale * fixed.array))
        gradient = reference.slopes(found.data[0], frame(found.grid))
        assert np.sqrt((gradient**2).sum(0)).mean() == pytest.approx(1, rel=1e-9)
    half = np.zeros(fixed.grid.shape)
    half[:, :7] = 1
    found = NGF().describe(Image(fixed.array, fixed.grid, half))
    gradient = np.sqrt((reference.slopes(found.data[0], frame(found.grid)) ** 2).sum(0))
    assert gradient[:, :7].mean() == pytest.approx(1, rel=1e-9)


def test_exact_mind_keeps_the_contract():
    """With patches wide enough that steps of a hundredth change a descriptor smoothly."""
    check.metric(lambda: MIND("exact", radius=2, dilation=2))


@DIMENSIONS
def test_exact_mind_has_the_gradient_of_its_value(ndim):
    fixed, warped, weight, grid = (a[..., :40, :40] if isinstance(a, np.ndarray) else a
                                   for a in large_arrays(ndim, np.float64, channels=2))
    weight = np.where(weight < 0.3, 0, weight)
    weight[..., :9, :9] = 0
    fixed, warped, weight = map(np.ascontiguousarray, (fixed, warped, weight))
    part = prepared(MIND("exact"), fixed, warped, grid)
    step, h = np.random.default_rng(0).standard_normal(warped.shape), 1e-6
    slope = np.sum(part(warped, weight)[1] * step)
    up, down = (part(warped + k * step, weight)[0] for k in (h, -h))
    assert (up - down) / (2 * h) == pytest.approx(slope, rel=1e-5)


def test_exact_mind_ignores_what_has_no_weight_and_gives_the_same_bits():
    fixed, warped, weight, grid = large_arrays(3, np.float64)
    weight[:, :9] = 0
    changed = np.where(weight > 0, warped, 77.0)
    other = np.where(weight > 0, fixed, -5.0)
    found = set()
    for f, m, threads in ((fixed, warped, 1), (fixed, warped, 3), (other, changed, 2)):
        part = prepared(MIND("exact"), fixed, warped, grid)
        part.fixed = f
        with Workspace(threads):
            value, adjoint = part(m, weight)
            found.add((value, adjoint.tobytes()))
    assert len(found) == 1


@DIMENSIONS
def test_descriptors_see_nothing_outside_a_mask_and_no_contrast(ndim):
    fixed, _ = check.scene(ndim)
    mask = np.zeros(fixed.grid.shape)
    mask[..., 3:-4, 4:-3] = 1
    wild = np.where(mask > 0, fixed.array, 50 * np.random.default_rng(0).standard_normal(mask.shape))
    a, b = (MIND().describe(Image(array, fixed.grid, mask)).array for array in (fixed.array, wild))
    assert len(a) == (12 if ndim == 3 else 4)
    assert np.array_equal(a[:, mask > 0], b[:, mask > 0])
    turned = MIND().describe(fixed.with_array(5 - 3 * fixed.array)).array
    assert np.allclose(turned, MIND().describe(fixed).array, atol=1e-9)


@DIMENSIONS
def test_descriptors_mean_the_same_whatever_the_order_of_axes(ndim):
    fixed, _ = check.scene(ndim)
    order, flipped = ((2, 0, 1), (0, 2)) if ndim == 3 else ((1, 0), (1,))
    turn = np.eye(ndim + 1)
    turn[:ndim, :ndim] = np.eye(ndim)[:, order]
    for k in flipped:
        turn[:ndim, k] *= -1
    array = np.flip(fixed.array.transpose(order), flipped)
    turn[:ndim, ndim] = -turn[:ndim, :ndim] @ [(n - 1 if k in flipped else 0) for k, n in enumerate(array.shape)]
    other = Image(np.ascontiguousarray(array), Grid(array.shape, fixed.grid.affine @ turn))
    assert np.allclose(other.grid.points()[(0,) * ndim], other.grid.affine[:-1, -1])
    found, wanted = MIND().describe(other).array, MIND().describe(fixed).array
    assert np.abs(np.diff(wanted, axis=0)).max() > 0.1
    back = np.flip(found, [k + 1 for k in flipped]).transpose(0, *(np.argsort(order) + 1))
    assert np.allclose(back, wanted, atol=1e-9)


# -- curvature -----------------------------------------------------------------------------------------------

def jacobian(objective, theta):
    """d warped / d theta, (p, C, z, y, x), by differences far below a cell of the linear interpolant."""
    h, columns = 1e-7, []
    for e in np.eye(len(objective(theta).gradient)):
        pair = []
        for sign in (h, -h):
            phi, _ = objective.transform.forward(objective.transform.retract(theta, sign * e), objective.at)
            pair.append(sample(objective.moving, phi, objective.at)[0].copy())
        columns.append((pair[0] - pair[1]) / (2 * h))
    return np.stack(columns)


def gauss_newton(metric, ndim, channels, masked):
    fixed, moving = check.scene(ndim, channels)
    if masked:
        weight = np.random.default_rng(0).uniform(0, 1, fixed.grid.shape)
        fixed = Image(fixed.array, fixed.grid, weight / weight.max())
    model = Linear(fixed.grid, "affine")
    objective = Objective(fixed, moving, model, metric)
    theta = model.retract(model.identity(), np.full(len(model.tangent(model.identity())), 0.137))
    gradient, h = objective(theta).normal
    warped, weight, _ = sample(moving, model.forward(theta, fixed.grid)[0], fixed.grid)
    if fixed.weight is not None:
        weight = weight * fixed.weight3
    assert gradient == pytest.approx(objective(theta).gradient, rel=1e-9)
    return jacobian(objective, theta), h, warped, weight


@DIMENSIONS
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_ssd_curvature_is_the_exact_hessian_in_the_warped_values(ndim, channels, masked):
    j, h, _, weight = gauss_newton(SSD(), ndim, channels, masked)
    expected = np.einsum("pczyx,zyx,qczyx->pq", j, weight, j) / (weight.sum() * channels)
    assert np.abs(h - expected).max() < 1e-5 * np.abs(expected).max()


@DIMENSIONS
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("make, scale", [(NCC, 1), (CorrelationRatio, 2)])
def test_ncc_and_cr_curvature_is_that_of_the_distance_of_unit_vectors(make, scale, ndim, channels, masked):
    """J^T J for the images m / |m| of weighted mean zero, by brute force, channel by channel."""
    j, h, warped, weight = gauss_newton(make(), ndim, channels, masked)
    unit = []
    for c, m in enumerate(warped):
        def centred(a):
            return a - np.sum(weight * a, axis=(-3, -2, -1), keepdims=True) / weight.sum()
        m, d = centred(m), centred(j[:, c])
        norm = np.sqrt(np.sum(weight * m * m))
        along = np.sum(weight * m * d, axis=(1, 2, 3)) / norm**2
        unit.append((d - along[:, None, None, None] * m) / norm)
    expected = scale * sum(np.einsum("pzyx,zyx,qzyx->pq", u, weight, u) for u in unit) / channels
    assert np.linalg.eigvalsh(h).min() > -1e-9 * np.linalg.eigvalsh(h).max(), "must be positive semi-definite"
    assert np.abs(h - expected).max() < 1e-5 * np.abs(expected).max()


def test_sad_curvature_is_a_parabola_that_touches_the_value_and_lies_above_it():
    fixed, warped, weight, grid = large_arrays(3, np.float64, channels=2)
    metric = prepared(SAD(), fixed, warped, grid)
    value, adjoint = metric(warped, weight)
    adjoint, h = adjoint.copy(), metric.curvature(warped, weight)[0].copy()
    step = np.random.default_rng(0).standard_normal(warped.shape)
    for length in (1e-3, 0.1, 1.0, -1.0):
        bound = value + np.sum(adjoint * length * step) + 0.5 * np.sum(h * (length * step) ** 2)
        assert metric(warped + length * step, weight)[0] < bound


def test_nmi_curvature_is_the_share_of_mi_in_it():
    fixed, warped, weight, grid = large_arrays(3, np.float64)
    found = []
    for make in (MutualInformation, NormalisedMutualInformation):
        metric = prepared(make(), fixed, warped, grid)
        value = metric(warped, weight)[0]
        found.append((value, metric.curvature(warped, weight)[0].copy()))
    (mi, h), (nmi, scaled) = found
    joint = mi / nmi  # mi = H_F + H_M - H_FM and nmi = mi / H_FM
    assert h.max() > 0
    assert np.abs(scaled - h * (1 - nmi) / joint).max() < 1e-12 * h.max()


def test_options_outside_their_range():
    with pytest.raises(OptionError, match="^mi: bins must be a whole number from 4 to 256, got 2"):
        MutualInformation(bins=2)
    with pytest.raises(OptionError, match="^cr: bins .* got 300"):
        CorrelationRatio(bins=300)
    with pytest.raises(OptionError, match="window of nmi 'boks'; did you mean 'box'"):
        NormalisedMutualInformation(window="boks")
    for delta in (0, -1.0, np.nan, "x"):
        with pytest.raises(OptionError, match="^sad: delta must be"):
            SAD(delta)
    for eta in (0, 2e6):
        with pytest.raises(OptionError, match=r"eta must be a finite number above 0 and at most 1e\+06, got"):
            NGF(eta=eta)
    for radius in (0, 101, 1e9, np.nan):
        with pytest.raises(OptionError, match="lncc: radius must be a finite number from 1 to 100, got"):
            LNCC(radius)
    with pytest.raises(OptionError, match="radius must be .* from 1 to 16, got 0"):
        MIND(radius=0)
    with pytest.raises(OptionError, match="did you mean 'exact'"):
        MIND("exacd")


@pytest.mark.parametrize("name", METRICS)
def test_a_mask_may_be_faint(name):
    """What counts is how the weights of samples compare, not how large they are."""
    fixed, moving = check.scene(2)
    found = []
    for faint in (1.0, 0.01):
        part = METRICS[name]()
        f, m = part.describe(fixed), part.describe(moving)
        part.prepare(f.data, m.data, f.grid)
        warped, weight, _ = sample(m, Mapping(np.eye(3)), f.grid)
        weight[..., :5] = 0.3
        found.append((part(warped, weight * faint)[0], part(warped, weight * faint)[1].copy()))
    (value, adjoint), (other, same) = found
    assert other == pytest.approx(value, rel=1e-9)
    assert np.allclose(adjoint, same, rtol=1e-6, atol=1e-9 * np.abs(adjoint).max())
