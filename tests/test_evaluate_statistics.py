"""Statistics of paired rows against SciPy, enumeration, and cases worked by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from classreg.errors import InputError, OptionError
from classreg.evaluate.statistics import (
    bootstrap_interval,
    cluster_means,
    cohen_dz,
    compare,
    describe,
    holm,
    paired,
    rank_biserial,
    wilcoxon,
)


def rows(n, seed=0, digits=None):
    rng = np.random.default_rng(seed)
    b = rng.beta(8, 3, n)
    a = b + rng.normal(0.02, 0.05, n)
    # whole numbers, of which differences tie exactly, as SciPy wants it
    return (a, b) if digits is None else ((10**digits * a).round(), (10**digits * b).round())


@pytest.mark.parametrize("n", [5, 12, 25, 26, 80])
def test_wilcoxon_as_scipy_without_ties(n):
    a, b = rows(n)
    theirs = stats.wilcoxon(a, b, method="exact" if n <= 25 else "approx")
    ours = wilcoxon(a, b)
    assert ours["p"] == pytest.approx(theirs.pvalue) and ours["statistic"] == theirs.statistic
    assert ours["method"] == ("exact" if n <= 25 else "normal")
    assert ours["w_plus"] + ours["w_minus"] == n * (n + 1) / 2
    assert wilcoxon(b, a)["p"] == pytest.approx(ours["p"])


@pytest.mark.parametrize("zeros", ["wilcox", "pratt"])
def test_wilcoxon_as_scipy_with_ties_and_zeros(zeros):
    a, b = rows(120, digits=2)
    assert (a == b).sum() > 3
    theirs, ours = stats.wilcoxon(a, b, zero_method=zeros, method="approx"), wilcoxon(a, b, zeros)
    assert ours["p"] == pytest.approx(theirs.pvalue) and ours["statistic"] == theirs.statistic
    assert ours["zeros"] == (a == b).sum() and ours["zeros_rule"] == zeros


@pytest.mark.parametrize("zeros, ranks", [("wilcox", [1.5, 1.5, 3, 4.5, 4.5]), ("pratt", [3.5, 3.5, 5, 6.5, 6.5])])
def test_exact_p_with_ties_by_enumeration(zeros, ranks):
    d = np.array([0, 1.0, -1.0, 2.0, 0, 4.0, 4.0])
    found = wilcoxon(d, np.zeros(7), zeros)
    assert found["w_minus"] == ranks[1] and found["w_plus"] == sum(ranks) - ranks[1]
    sums = [np.dot(ranks, signs) for signs in product((0, 1), repeat=5)]
    assert found["p"] == pytest.approx(2 * np.mean(np.array(sums) <= ranks[1]))
    assert found["method"] == "exact" and found["zeros"] == 2


def test_differences_that_are_equal_on_paper_tie():
    b = np.array([0.1, 0.5, 0.2, 0.7, 0.4, 0.3])
    steps = np.array([2, -2, 2, 4, -4, 0])
    a = np.array([0.3, 0.3, 0.4, 1.1, 0.0, 0.1 + 0.2])  # 0.1 + 0.2 is not 0.3, nor is 0.3 - 0.1 0.4 - 0.2
    assert len(set(np.abs(a - b))) > 3
    found, on_paper = wilcoxon(a, b), wilcoxon(steps, np.zeros(6))
    assert found == on_paper and found["zeros"] == 1
    assert rank_biserial(a - b) == rank_biserial(steps)


def test_wilcoxon_of_equal_rows():
    same = wilcoxon([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert same["p"] == 1.0 and same["method"] == "none" and same["zeros"] == 3
    assert wilcoxon([1.0, 2.0, 1.0, 1.0], [2.0, 1.0, 1.0, 1.0])["p"] == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([0.2]).tolist() == [0.2]
    with pytest.raises(InputError, match="from 0 to 1"):
        holm([0.1, 1.2])


def test_effect_sizes_by_hand():
    d = np.array([1.0, 2.0, -3.0, 4.0])
    assert rank_biserial(d) == pytest.approx((1 + 2 + 4 - 3) / 10)
    assert rank_biserial(np.append(d, 0.0)) == rank_biserial(d)
    assert rank_biserial(np.append(d, 0.0), "pratt") == pytest.approx((2 + 3 + 5 - 4) / 14)
    assert rank_biserial([1.0, 5.0]) == 1.0 and rank_biserial([0.0, 0.0]) == 0.0
    assert cohen_dz(d) == pytest.approx(1 / np.sqrt((0 + 1 + 16 + 9) / 3))
    assert np.isnan(cohen_dz([2.0, 2.0]))


@pytest.mark.parametrize("kind", ["bca", "percentile"])
@pytest.mark.parametrize("statistic", [np.mean, np.median, cohen_dz])
def test_interval_as_scipy_draws_it(kind, statistic):
    """Both draw 4999 times, with other numbers: ends agree to a few percent of the width."""
    d = np.subtract(*rows(40)) ** 3 * 1e3
    theirs = stats.bootstrap((d,), lambda x: float(statistic(x)), vectorized=False, n_resamples=4999, random_state=1,
                             method={"bca": "BCa"}.get(kind, kind)).confidence_interval
    low, high = bootstrap_interval(d, statistic, kind=kind)
    assert (low, high) == pytest.approx(theirs, abs=0.08 * (theirs.high - theirs.low))
    assert (low, high) == bootstrap_interval(d, statistic, kind=kind)
    narrow = bootstrap_interval(d, statistic, 0.5, kind=kind)
    assert low < narrow[0] < narrow[1] < high


def test_another_seed_draws_other_samples():
    d = np.subtract(*rows(40))
    assert bootstrap_interval(d, np.mean, resamples=300) != bootstrap_interval(d, np.mean, resamples=300, seed=1)


def test_interval_covers_the_mean_of_normal_draws():
    rng = np.random.default_rng(7)
    hits = sum(low < 0.3 < high for low, high in
               (bootstrap_interval(rng.normal(0.3, 1, 30), np.mean, 0.9, 200, seed) for seed in range(100)))
    assert 80 <= hits <= 97


def test_intervals_of_degenerate_samples():
    assert bootstrap_interval([2.0, 2.0, 2.0], np.median) == (2.0, 2.0)
    assert np.isnan(bootstrap_interval([2.0, 2.0, 2.0], cohen_dz)).all()
    low, high = bootstrap_interval([1.0, 2.0, 5.0], rank_biserial)  # all resamples alike
    assert (low, high) == (1.0, 1.0)


def test_paired_as_scipy():
    a, b = rows(30)
    found, t = paired(a, b), stats.ttest_rel(a, b)
    assert found["t_test"] == {"t": pytest.approx(t.statistic), "p": pytest.approx(t.pvalue), "df": 29}
    assert found["wilcoxon"] == wilcoxon(a, b)
    assert found["difference"] == describe(a - b) and found["a"]["sd"] == pytest.approx(np.std(a, ddof=1))
    for name, value in (("median_difference", np.median(a - b)), ("rank_biserial", rank_biserial(a - b)),
                        ("cohen_dz", cohen_dz(a - b))):
        assert found[name]["value"] == pytest.approx(value)
        assert found[name]["low"] < value < found[name]["high"]
    assert found["convention"] == {"difference": "a - b", "sides": 2, "zeros": "wilcox", "sd": "n - 1",
                                   "interval": "bca", "confidence": 0.95, "resamples": 4999, "seed": 0}


def test_compare_corrects_for_the_comparisons():
    b = rows(20)[1]
    rng = np.random.default_rng(1)
    table = {"ours": b, "worse": b - 0.05 + rng.normal(0, 0.01, 20), "alike": b + rng.normal(0, 0.01, 20),
             "other": b + 0.008 + rng.normal(0, 0.01, 20)}
    found = compare(table, "ours", resamples=200)
    assert list(found) == ["worse", "alike", "other"]
    p = [found[name]["wilcoxon"]["p"] for name in found]
    assert [found[name]["p_holm"] for name in found] == pytest.approx(holm(p).tolist())
    assert found["worse"]["p_holm"] < 1e-4 < found["alike"]["p_holm"]
    assert found["worse"]["median_difference"]["value"] == pytest.approx(-0.05, abs=0.01)
    assert found["other"]["comparisons"] == 3


def test_clusters():
    assert cluster_means([1.0, 5.0, 3.0, 9.0], ["s2", "s1", "s2", "s3"]).tolist() == [2.0, 5.0, 9.0]
    with pytest.raises(InputError, match="2 values and 1 groups"):
        cluster_means([1.0, 2.0], ["a"])


@pytest.mark.parametrize("refused, message", [
    (lambda: wilcoxon([1.0, 2.0], [1.0]), "2 and 1 cases"),
    (lambda: wilcoxon([1.0, np.nan], [1.0, 2.0]), "1 of 2 values of the first row"),
    (lambda: paired([1.0, 2.0], [1.0, 3.0]), "needs 3 at least"),
    (lambda: describe([]), "at least one case"),
    (lambda: bootstrap_interval([1.0], np.mean), "needs two"),
    (lambda: compare({"a": [1.0, 2.0, 3.0]}, "a"), "only row"),
])
def test_refused_input(refused, message):
    with pytest.raises(InputError, match=message):
        refused()


@pytest.mark.parametrize("refused, message", [
    (lambda: wilcoxon([1.0], [2.0], zeros="prat"), "did you mean 'pratt'"),
    (lambda: bootstrap_interval([1.0, 2.0], np.mean, kind="BCA2"), "did you mean 'bca'"),
    (lambda: bootstrap_interval([1.0, 2.0], np.mean, 95), "confidence is 95"),
    (lambda: bootstrap_interval([1.0, 2.0], np.mean, resamples=10), "resamples is 10"),
    (lambda: compare({"a": [1.0], "b": [2.0]}, "c"), "unknown row 'c'"),
])
def test_refused_options(refused, message):
    with pytest.raises(OptionError, match=message):
        refused()
