"""Two rows of a table compared case by case: location, tests, effect sizes with intervals, Holm's correction.

With d = a - b over the n cases that both rows have:

    Wilcoxon        W+ and W-, the sums of the ranks of |d| above and below 0; p two-sided
    paired t        mean(d) / (sd(d) / sqrt n)
    rank-biserial   (W+ - W-) / (W+ + W-), -1 to 1 (Kerby, doi:10.2466/11.IT.3.1)
    Cohen's d_z     mean(d) / sd(d)
    Holm            p_(i) (m - i + 1), ascending, made monotone (Holm, Scand J Statist 6 (1979))

Differences of Dice are skewed and bounded, so the Wilcoxon test leads and the t-test stands beside it. A p-value says
how surprising chance would be, an effect size how large the difference is: print both. Cases that share a subject are
not independent: average them first (`cluster_means`).

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import stats

from ..errors import InputError, OptionError, unknown

ZEROS = ("wilcox", "pratt")
INTERVALS = ("bca", "percentile")

#: differences are equal that are so to this share of the largest: 0.3 - 0.1 and 0.5 - 0.3 are
ROUNDING = 1e-11

#: up to so many ranked differences p is exact, beyond normal
EXACT = 25


def describe(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation (n - 1), median, quartiles, extremes and number of cases of one row.

    >>> describe([1.0, 2.0, 6.0])["sd"].__round__(4)
    2.6458
    """
    values = _row(values, "values")
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"n": len(values), "mean": float(values.mean()), "sd": _sd(values), "median": float(median),
            "p25": float(low), "p75": float(high), "min": float(values.min()), "max": float(values.max())}


def wilcoxon(a: Sequence[float], b: Sequence[float], zeros: str = "wilcox") -> dict:
    """Wilcoxon's signed-rank test of paired values, two-sided.

    Parameters
    ----------
    a, b : sequence of float, (n,)
        The same cases in the same order.
    zeros : {"wilcox", "pratt"}
        Differences of 0 are dropped before ranking, or ranked and dropped after.

    Returns
    -------
    dict
        "w_plus", "w_minus", "statistic" (the smaller), "p", "n" (cases), "zeros" (dropped), "method".

    Raises
    ------
    InputError
        If the rows differ in length, are empty, or hold a number that is not finite.
    OptionError
        For an unknown rule for zeros.

    Notes
    -----
    Equal differences share the mean of their ranks; as equal count those within 1e-11 of the largest, since numbers
    that are equal on paper differ by rounding. Up to 25 differences other than 0, p counts all signs of the
    ranks that there are, ties included, so it is exact; beyond, it is normal with the variance corrected for ties,
    without correction for continuity. p is 1 if all differences are 0.

    Examples
    --------
    >>> wilcoxon([3.0, 5.0, 4.0, 6.0], [1.0, 2.0, 3.0, 2.0])["p"]
    0.125
    """
    d = _differences(a, b)
    ranks, signs = _signed_ranks(d, zeros)
    plus, minus = float(ranks[signs > 0].sum()), float(ranks[signs < 0].sum())
    out = {"w_plus": plus, "w_minus": minus, "statistic": min(plus, minus), "n": len(d),
           "zeros": len(d) - len(ranks), "zeros_rule": zeros}
    if len(ranks) == 0:
        return {**out, "p": 1.0, "method": "none"}
    if len(ranks) <= EXACT:
        return {**out, "p": _exact(ranks, plus, minus), "method": "exact"}
    # var W+ is a quarter of the sum of squared ranks, which are those that ties share
    z = (plus - minus) / np.sqrt((ranks**2).sum())
    return {**out, "p": float(2 * stats.norm.sf(abs(z))), "method": "normal"}


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values adjusted for having looked at all of them, (m,), in their order.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, float)
    if p.ndim != 1 or p.size == 0 or not ((p >= 0) & (p <= 1)).all():
        raise InputError(f"p-values {p.tolist()}; expected a list of numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(adjusted, 1)
    return out


def rank_biserial(differences: np.ndarray, zeros: str = "wilcox") -> float:
    """Matched-pairs rank-biserial correlation: 1 if all differences are above 0, -1 if all are below; 0 of none.

    >>> rank_biserial([1.0, 2.0, -3.0, 4.0])
    0.4
    """
    ranks, signs = _signed_ranks(np.asarray(differences, float), zeros)
    total = ranks.sum()
    return float((ranks * signs).sum() / total) if total else 0.0


def cohen_dz(differences: np.ndarray) -> float:
    """Mean of the differences over their standard deviation (n - 1); NaN if they are all alike."""
    d = np.asarray(differences, float)
    sd = _sd(d)
    return float(d.mean() / sd) if sd > 0 else float("nan")


def bootstrap_interval(values: np.ndarray, statistic: Callable[[np.ndarray], float], confidence: float = 0.95,
                       resamples: int = 4999, seed: int = 0, kind: str = "bca") -> tuple[float, float]:
    """Bootstrap interval of a statistic of one sample.

    Parameters
    ----------
    values : array, (n,)
        For paired rows, their differences.
    statistic : function of an array, (n,), to float
    confidence : float
        Above 0 and below 1.
    resamples, seed : int
        How many are drawn, by `numpy.random.default_rng(seed)`: the same numbers each time.
    kind : {"bca", "percentile"}
        Corrected for bias and acceleration (Efron 1987, doi:10.1080/01621459.1987.10478410), or plain quantiles.

    Raises
    ------
    InputError
        If there are less than two values, or one is not finite.
    OptionError
        For an unknown kind, or a confidence or number of resamples out of range.

    Notes
    -----
    Resamples of which the statistic is no number are left out; NaN if it is none of the sample itself, or of any.
    """
    values = _row(values, "values")
    if kind not in INTERVALS:
        raise unknown("bootstrap interval", kind, INTERVALS)
    if not 0 < confidence < 1:
        raise OptionError(f"confidence is {confidence!r}; it must be above 0 and below 1, such as 0.95")
    if not (isinstance(resamples, (int, np.integer)) and resamples >= 100):
        raise OptionError(f"resamples is {resamples!r}; it must be a whole number of at least 100")
    if len(values) < 2:
        raise InputError("there is one value; an interval needs two at least")
    rng, n = np.random.default_rng(seed), len(values)
    drawn = np.array([statistic(values[rng.integers(0, n, n)]) for _ in range(resamples)])
    drawn, here = drawn[~np.isnan(drawn)], statistic(values)
    if np.isnan(here) or drawn.size == 0:
        return float("nan"), float("nan")
    shares = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if kind == "bca" and drawn.min() < drawn.max():
        below = ((drawn < here).mean() + (drawn <= here).mean()) / 2
        bias = stats.norm.ppf(np.clip(below, 0.5 / len(drawn), 1 - 0.5 / len(drawn)))
        left_out = np.array([statistic(np.delete(values, i)) for i in range(n)])
        pull = left_out.mean() - left_out
        spread = (pull**2).sum()
        acceleration = (pull**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
        z = bias + stats.norm.ppf(shares)
        shares = stats.norm.cdf(bias + z / (1 - acceleration * z))
    low, high = np.quantile(drawn, shares)
    return float(low), float(high)


def paired(a: Sequence[float], b: Sequence[float], zeros: str = "wilcox", confidence: float = 0.95,
           resamples: int = 4999, seed: int = 0, interval: str = "bca") -> dict:
    """Everything about two rows of a table over the same cases; differences are a - b.

    Parameters
    ----------
    a, b : sequence of float, (n,)
        One number per case, the same cases in the same order; at least 3.
    zeros, confidence, resamples, seed, interval
        As for `wilcoxon` and `bootstrap_interval`.

    Returns
    -------
    dict
        "a", "b" and "difference" as `describe` gives them; "wilcoxon", "t_test" {"t", "p", "df"}; "median_difference",
        "rank_biserial" and "cohen_dz", each {"value", "low", "high"}; the "convention".

    Raises
    ------
    InputError
        If the rows differ in length, have less than 3 cases, or hold a number that is not finite.
    OptionError
        As `wilcoxon` and `bootstrap_interval`.
    """
    d = _differences(a, b)
    if len(d) < 3:
        raise InputError(f"there are {len(d)} cases; a comparison needs 3 at least")
    test, sd = wilcoxon(a, b, zeros), _sd(d)
    t = float(d.mean() / (sd / np.sqrt(len(d)))) if sd > 0 else float("nan")
    out = {"a": describe(a), "b": describe(b), "difference": describe(d), "wilcoxon": test,
           "t_test": {"t": t, "p": float(2 * stats.t.sf(abs(t), len(d) - 1)), "df": len(d) - 1}}
    effects = {"median_difference": lambda x: float(np.median(x)), "rank_biserial": lambda x: rank_biserial(x, zeros),
               "cohen_dz": cohen_dz}
    for name, effect in effects.items():
        low, high = bootstrap_interval(d, effect, confidence, resamples, seed, interval)
        out[name] = {"value": effect(d), "low": low, "high": high}
    out["convention"] = {"difference": "a - b", "sides": 2, "zeros": zeros, "sd": "n - 1", "interval": interval,
                         "confidence": confidence, "resamples": resamples, "seed": seed}
    return out


def compare(rows: Mapping[str, Sequence[float]], reference: str, **options) -> dict[str, dict]:
    """Every row of a table against one of them, with Holm's correction over these comparisons.

    Parameters
    ----------
    rows : mapping of name to sequence of float, (n,)
        One number per case, the same cases in the same order.
    reference : str
        The row that all others are compared with; differences are row - reference.
    **options
        As for `paired`.

    Returns
    -------
    dict of name to dict
        As `paired` gives them, with "p_holm" (of the Wilcoxon tests) and "comparisons", how many it corrects for.

    Raises
    ------
    InputError
        As `paired`, or if there is no other row.
    OptionError
        If the reference is no row.
    """
    if reference not in rows:
        raise unknown("row", reference, rows)
    others = [name for name in rows if name != reference]
    if not others:
        raise InputError(f"{reference!r} is the only row; a comparison needs another")
    out = {name: paired(rows[name], rows[reference], **options) for name in others}
    for name, p in zip(others, holm([out[name]["wilcoxon"]["p"] for name in others])):
        out[name]["p_holm"], out[name]["comparisons"] = float(p), len(others)
    return out


def cluster_means(values: Sequence[float], groups: Sequence) -> np.ndarray:
    """Mean of the cases of each group (such as the fixed subject), in the order in which the groups first appear.

    >>> cluster_means([1.0, 3.0, 5.0], ["s1", "s1", "s2"]).tolist()
    [2.0, 5.0]
    """
    values, groups = _row(values, "values"), list(groups)
    if len(groups) != len(values):
        raise InputError(f"{len(values)} values and {len(groups)} groups; every case needs its group")
    return np.array([np.mean([v for v, g in zip(values, groups) if g == name]) for name in dict.fromkeys(groups)])


def _row(values, what):
    values = np.asarray(values, float)
    if values.ndim != 1 or values.size == 0:
        raise InputError(f"{what} of shape {values.shape}; expected one number per case, at least one case")
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise InputError(f"{bad} of {values.size} {what} are not finite; leave these cases out of every row alike")
    return values


def _differences(a, b):
    a, b = _row(a, "values of the first row"), _row(b, "values of the second row")
    if a.shape != b.shape:
        raise InputError(f"{len(a)} and {len(b)} cases; paired rows need the same cases in the same order")
    return a - b


def _sd(values):
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _signed_ranks(d, zeros):
    """Ranks of |d| and the signs of d, without differences of 0."""
    if zeros not in ZEROS:
        raise unknown("rule for zeros", zeros, ZEROS)
    if grain := np.abs(d).max(initial=0.0) * ROUNDING:
        d = np.round(d / grain)
    if zeros == "wilcox":
        d = d[d != 0]
    ranks = stats.rankdata(np.abs(d))
    return ranks[d != 0], np.sign(d[d != 0])


def _exact(ranks, plus, minus):
    """Share of all choices of signs whose smaller sum is at most what was found."""
    doubled = np.rint(2 * ranks).astype(int)  # ties share halves
    ways = np.zeros(doubled.sum() + 1)
    ways[0] = 1
    for rank in doubled:
        ways[rank:] += ways[:-rank].copy()
    least = int(round(2 * min(plus, minus)))
    return float(min(1.0, 2 * ways[:least + 1].sum() / ways.sum()))
