"""Rows of `groups.py` as Markdown: means, failures, tests against X-CoReg."""

from __future__ import annotations

import numpy as np

from classreg.evaluate.statistics import holm, wilcoxon

#: a rigid run with a larger gRE at its end has failed, mm
FAILED = 3.0

NOTE = f"""Means ± standard deviations over draws. p: paired Wilcoxon over draws against X-CoReg from the same start,
corrected by Holm for all methods. CPU seconds are medians, of all threads, without the start, which has a row of its
own (it is the same for all methods); the relative time is theirs over X-CoReg's. Aligned: the gRE at which a method
ends that starts with nothing moved; the contrasts themselves are aligned to about 1 mm, so an error below it says how
well a method agrees with that alignment. A rigid run that ends with a gRE above {FAILED:g} mm has failed."""

REFERENCE = "xcoreg"
TITLES = {"xcoreg": "X-CoReg", "ape": "APE", "cte": "CTE", "gmm": "GMM"}
SETS = {"easy": "20 degrees, 20 mm", "hard": "45 degrees, 40 mm", "bspline": "B-splines"}


def page(machine: dict, rows: list[dict]) -> str:
    """All tables."""
    commits = ", ".join(dict.fromkeys(str(row["commit"]) for row in rows))
    out = ["# Groups", "", f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, numpy "
           f"{machine['numpy']}, numba {machine['numba']}, {machine['date']}; commits {commits}.", "",
           NOTE]
    for experiment in dict.fromkeys(row["experiment"] for row in rows):
        mine = [row for row in rows if row["experiment"] == experiment]
        good = [row for row in mine if "error" not in row]
        out += ["", f"## {experiment}", ""]
        out += {"subjects": subjects, "cost": costs}.get(experiment, draws)(good)
        out += [f"\n{row['group']}, {row['set']}, {row['start']}, {row['method']}, {row['draw']}: {row['error']}"
                for row in mine if "error" in row]
    return "\n".join(out) + "\n"


def draws(rows: list[dict]) -> list[str]:
    """One table per group and set of motions."""
    out = []
    for group in dict.fromkeys(row["group"] for row in rows):
        still = {row["method"]: row["after"] for row in rows if row["group"] == group and row["set"] == "still"}
        for kind in dict.fromkeys(row["set"] for row in rows if row["group"] == group and row["set"] != "still"):
            some = [row for row in rows if (row["group"], row["set"]) == (group, kind)]
            out += [f"### {group}, {kind} ({SETS.get(kind, kind)})", "", *_drawn(some, still), ""]
    return out


def _drawn(rows, still) -> list[str]:
    rigid = rows[0]["experiment"] != "ffd"
    name = "gRE, mm" if rigid else "gWI, voxels"
    lines = [_line("None", "", rows, "before", name, rigid)]
    for start in dict.fromkeys(row["start"] for row in rows):
        found = {m: [row for row in rows if (row["start"], row["method"]) == (start, m)] for m in TITLES}
        found = {m: its for m, its in found.items() if its}
        p = tests(found)
        if rigid and start != "identity":
            begun = _line("start alone", start, rows, "begun", name, rigid)
            lines.append({**begun, "CPU s": f"{np.median([r['cpu begun'] for r in rows if r['start'] == start]):.2f}"})
        for method, its in found.items():
            line = {**_line(TITLES[method], start, its, "after", name, rigid), "CPU s": f"{_cpu(its):.2f}",
                    "p": f"{p[method]:.2g}" if method in p else "",
                    "aligned": f"{still[method]:.2f}" if method in still else ""}
            if REFERENCE in found:
                line["relative time"] = f"{_cpu(its) / _cpu(found[REFERENCE]):.2f}"
            if not rigid:
                line["folds %"] = f"{np.mean([row['folds'] for row in its]):.2g}"
            lines.append(line)
    head = ["method", "start", "draws", name, "median", *(["failed", "aligned"] if rigid else ["folds %"]), "p",
            *(["Dice"] if "dice" in rows[0] else []), "CPU s", "relative time"]
    return grid(head, lines)


def _line(title, start, rows, figure, name, rigid) -> dict:
    """What all rows of a table have: of draws that several rows have, one each."""
    rows = list({row["draw"]: row for row in rows if not start or row["start"] == start}.values())
    values = [row[figure] for row in rows]
    line = {"method": title, "start": start, "draws": len(rows), name: spread(values),
            "median": f"{np.median(values):.2f}"}
    if rigid:
        line["failed"] = sum(value > FAILED for value in values)
    if "dice" in rows[0]:
        line["Dice"] = f"{np.mean([row['dice before' if figure == 'before' else 'dice'] for row in rows]):.3f}"
    return line


def _cpu(rows) -> float:
    return float(np.median([row["cpu"] for row in rows]))


def tests(found: dict[str, list[dict]]) -> dict[str, float]:
    """p of each method against the reference over the draws that both have, corrected for their number."""
    reference = {row["draw"]: row["after"] for row in found.get(REFERENCE, ())}
    p = {}
    for method, rows in found.items():
        both = [(row["after"], reference[row["draw"]]) for row in rows if row["draw"] in reference]
        if method != REFERENCE and len(both) >= 3:
            p[method] = wilcoxon(*zip(*both))["p"]
    return dict(zip(p, holm(list(p.values())))) if p else {}


def subjects(rows: list[dict]) -> list[str]:
    """All subjects together, beside the best and the mean template of pairwise registrations."""
    head = ["rows", "model", "Dice", "ASSD, mm", "folds %", "p", "CPU s"]
    groupwise, lines = [row for row in rows if row["group"] == "groupwise"], []
    for row in groupwise:
        line = {"rows": TITLES.get(row["method"], row["method"]), "model": row["set"].replace("none", ""),
                **_scores(row)}
        for other in groupwise:
            if row["set"] == other["set"] and other["method"] == REFERENCE and row is not other:
                line["p"] = f"{wilcoxon(row['per subject'], other['per subject'])['p']:.2g}"
        lines.append(line)
    pairwise = [row for row in rows if row["group"] == "pairwise"]
    for model, metric in dict.fromkeys((row["set"], row["method"]) for row in pairwise):
        some = [row for row in pairwise if (row["set"], row["method"]) == (model, metric)]
        top = max(some, key=lambda row: row["dice"])
        mean = {k: float(np.mean([row[k] for row in some])) for k in ("dice", "assd", "folds", "cpu")}
        lines.append({"rows": f"pairwise {metric}, best template of {len(some)}", "model": model, **_scores(top)})
        lines.append({"rows": f"pairwise {metric}, mean template", "model": model, **_scores(mean)})
    return ["p: Wilcoxon against X-CoReg of the same model, over each subject's mean Dice with the others; subjects "
            "share pairs, so it is a guide only. Templates: CPU seconds of one.", "", *grid(head, lines)]


def _scores(row):
    return {"Dice": f"{row['dice']:.3f}", "ASSD, mm": f"{row['assd']:.2f}", "folds %": f"{row['folds']:.2g}",
            "CPU s": f"{row['cpu']:.0f}" if "cpu" in row else ""}


def costs(rows: list[dict]) -> list[str]:
    """Time and memory against the number of images."""
    head = ["images", "method", "CPU s", "relative time", "evaluations", "CPU ms each", "relative, each",
            "memory, MiB", "relative memory"]
    lines = []
    for count in dict.fromkeys(row["set"] for row in rows):
        some = [row for row in rows if row["set"] == count]
        reference = next((row for row in some if row["method"] == REFERENCE), None)
        for row in some:
            line = {"images": count, "method": TITLES[row["method"]], "CPU s": f"{row['cpu']:.1f}",
                    "evaluations": row["evaluations"], "CPU ms each": f"{1e3 * row['cpu each']:.0f}",
                    "memory, MiB": f"{row['memory']:.0f}"}
            if reference:
                for title, key in (("relative time", "cpu"), ("relative, each", "cpu each"),
                                   ("relative memory", "memory")):
                    line[title] = f"{row[key] / reference[key]:.2f}"
            lines.append(line)
    return ["Rigid, from the headers, easy motions: medians of three draws at 4 mm; memory beyond that of the images, "
            "at 2 mm, one iteration per level.", "", *grid(head, lines)]


def spread(values) -> str:
    """Mean ± standard deviation."""
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.2f}"


def grid(head: list[str], lines: list[dict]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}",
            *(f"| {' | '.join(str(line.get(k, '')) for k in head)} |" for line in lines)]
