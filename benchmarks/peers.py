"""classreg beside its peers: one command, one machine, one table.

    CLASSREG_DATA=FOLDER PEERBENCH=PATH/peerbench.py PEERBENCH_PYTHON='*=PEERS/bin/python,elastix=ELX/bin/python'
        python benchmarks/peers.py [--only NAME ...] [--resume] [--repeat N] [--peerbench PATH] [--output FOLDER]

`peerbench.py` is an external harness: it runs one registration of one program in a process of its own, and one
evaluator judges all. `PEERBENCH_PYTHON` says which Python holds which peer (`*`: every peer that is not named);
classreg runs in the Python that runs this. `CLASSREG_DATA` is the folder with the cases, in `pairs`.

A row is a case, a model of classreg, and the peers it is compared with, all run one after the other: compare times
within a row only. Ratios are classreg over peer, below 1 where classreg is faster; differences are classreg minus
peer. `cold s` is classreg's first call with an empty cache of compiled kernels, of which it compiles what the call
needs; all other times have kernels loaded. Writes `peers.json` after each row and the table `peers.md`; leave the
machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from kernels import machine

ALL = ("greedy", "ants", "elastix", "simpleitk-demons")

#: row -> case, model as the harness calls it, row of the plugin, peers
ROWS = {
    "brain-oasis-greedy": ("brain-oasis", "deformable", "classreg-greedy", ("greedy",)),
    "brain-oasis-svf": ("brain-oasis", "deformable", "classreg-svf", ("greedy-sv",)),
    "brain-mni-1mm-greedy": ("brain-mni-1mm", "deformable", "classreg-greedy", ("greedy",)),
    "brain-mni-1mm-affine": ("brain-mni-1mm", "affine", "classreg", ("elastix",)),
    "brain-mni-1mm-bspline-mi": ("brain-mni-1mm", "deformable", "classreg-bspline-mi", ("elastix", "reg_f3d")),
    "brain-mni-2mm-greedy": ("brain-mni-2mm", "deformable", "classreg-greedy", ("greedy",)),
    **{case: (case, "deformable", "classreg", ALL)
       for case in ("lung-ct", "liver-mr-a", "liver-mr-b", "lung-h1", "heart-cine")},
    "slices-bspline": ("slices-r16-r64", "deformable", "classreg-bspline", ("greedy", "simpleitk-demons")),
    "slices-greedy": ("slices-r16-r64", "deformable", "classreg-greedy", ("greedy", "simpleitk-demons")),
}

#: figure -> (head of its column, format of the difference)
FIGURES = {"dice_mean": ("Dice", "+.3f"), "tre_mm": ("TRE mm", "+.2f"), "ncc": ("NCC", "+.3f"),
           "lncc": ("LNCC", "+.3f"), "folds_pct": ("folds %", "+.3f"), "sd_logjac": ("SD log J", "+.3f")}


class Harness:
    """The external program: where it lies, and which Python runs whom."""

    def __init__(self, path: Path):
        self.path = path
        given = dict(part.split("=", 1) for part in os.environ.get("PEERBENCH_PYTHON", "").split(",") if part)
        default, ours = given.pop("*", None), sys.executable
        self.environment = {**os.environ, "PEERBENCH_PLUGINS": str(Path(__file__).with_name("peer_classreg.py"))}
        listed = subprocess.run([sys.executable, str(path), "--list"], capture_output=True, text=True, check=True,
                                env=self.environment).stdout
        self.packages = dict(line.split()[:2] for line in listed.splitlines() if line[:1].strip())
        self.pythons = {name: ours if name.startswith("classreg") else given.get(name, default) or ours
                        for name in self.packages}
        self.environment["PEERBENCH_PYTHON"] = ",".join(f"{k}={v}" for k, v in self.pythons.items())

    def version(self, peer: str) -> str:
        """Of the package that holds a peer, asked of the Python that it runs in."""
        ask = f"from importlib import metadata; print(metadata.version({self.packages[peer]!r}))"
        done = subprocess.run([self.pythons[peer], "-c", ask], capture_output=True, text=True)
        return done.stdout.strip() or "not installed"

    def run(self, case: Path, model: str, names, repeat: int, **more: str) -> list[dict]:
        """One line of figures per program."""
        command = [sys.executable, str(self.path), "--peer", ",".join(names), "--case", str(case), "--model", model,
                   "--repeat", str(repeat)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**self.environment, **more})
        if done.returncode:
            sys.exit(f"{self.path.name} ended with {done.returncode}; its message is above")
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        for line in lines:
            if line["peer"] in self.packages:  # "identity" is no program
                line["version"] = self.version(line["peer"])
            if "error" in line:  # the last line says what happened; folders of this machine are nobody's business
                line["error"] = re.sub(r"(/[\w.-]+)+/", "", line["error"].strip().splitlines()[-1])
        return lines


def measure(harness: Harness, name: str, data: Path, repeat: int) -> dict:
    """All figures of a row; peers that the harness does not know are left out, and named."""
    case, model, ours, peers = ROWS[name]
    known = [peer for peer in peers if peer in harness.packages]
    load = os.getloadavg()[0]
    lines = harness.run(data / "pairs" / case, model, (ours, *known), repeat)
    with tempfile.TemporaryDirectory() as empty:
        cold = harness.run(data / "pairs" / case, model, (ours,), 1, NUMBA_CACHE_DIR=empty, CLASSREG_COLD="1")[0]
    return {"case": case, "model": model, "load": load, "ours": lines[0], "cold": cold, "peers": lines[1:],
            "missing": [peer for peer in peers if peer not in known]}


def table(report: dict) -> str:
    """The report as one Markdown table."""
    head = report["machine"]
    heads = [f"{title}, difference" for title, _ in FIGURES.values()]
    columns = ["row", "peer", "s", "peer s", "ratio", "cold s", "MB", "peer MB", *heads, "load"]
    lines = [f"{head['processor']}, {head['cores']} cores, Python {head['python']}, numpy {head['numpy']}, numba "
             f"{head['numba']}, commit {head['commit']}, {head['date']}.", "",
             f"| {' | '.join(columns)} |", "|---|---" + "|--:" * (len(columns) - 2) + "|"]
    for name, row in report["rows"].items():
        ours = row["ours"]
        for peer in row["peers"]:
            title = f"{peer['peer']} {peer['version']}"
            if "error" in ours or "error" in peer:
                failed = "classreg" if "error" in ours else peer["peer"]
                lines.append(f"| {name} | {title} | {_number(ours, 'wall_s')} | {_number(peer, 'wall_s')} | {failed} "
                             f"failed |{' |' * (len(columns) - 5)}")
                continue
            cells = [name, title, _number(ours, "wall_s"), _number(peer, "wall_s"),
                     f"{ours['wall_s'] / peer['wall_s']:.2f}", _number(row["cold"], "wall_s"),
                     f"{ours['peak_rss_mb']:.0f}", f"{peer['peak_rss_mb']:.0f}"]
            cells += [_difference(ours, peer, key, form) for key, (_, form) in FIGURES.items()]
            lines.append(f"| {' | '.join([*cells, format(row['load'], '.1f')])} |")
    missing = sorted({peer for row in report["rows"].values() for peer in row["missing"]})
    return "\n".join(lines + (["", f"Unknown to the harness: {', '.join(missing)}."] if missing else []))


def _number(line: dict, key: str) -> str:
    return f"{line[key]:.1f}" if key in line else ""


def _difference(ours: dict, peer: dict, key: str, form: str) -> str:
    """The figure of classreg and, in brackets, how far it is from the peer's."""
    if key not in ours or key not in peer:
        return ""
    return f"{ours[key]:{form.lstrip('+')}} ({ours[key] - peer[key]:{form}})"


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, help="rows to run")
    parser.add_argument("--resume", action="store_true", help="keep the rows that are finished in peers.json")
    parser.add_argument("--repeat", type=int, default=1, help="runs each, of which the median counts")
    parser.add_argument("--peerbench", type=Path, default=os.environ.get("PEERBENCH"), help="or PEERBENCH")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    if args.peerbench is None or not Path(args.peerbench).is_file():
        parser.error(f"the harness {args.peerbench} is no file: give its path with --peerbench, or in PEERBENCH")
    if not (data := Path(os.environ.get("CLASSREG_DATA", "")) / "pairs").is_dir():
        parser.error(f"{data} is no folder: set CLASSREG_DATA to the folder that holds the cases in pairs")
    args.output.mkdir(parents=True, exist_ok=True)
    path, rows = args.output / "peers.json", {}
    if args.resume and path.exists():
        rows = {name: row for name, row in json.loads(path.read_text())["rows"].items()
                if not any("error" in line for line in (row["ours"], row["cold"]))}
    harness, now = Harness(Path(args.peerbench)), machine(os.cpu_count())
    for name in args.only or ROWS:
        if name not in rows:
            rows[name] = measure(harness, name, data.parent, args.repeat)
        report = {"machine": now, "rows": {key: rows[key] for key in ROWS if key in rows}}
        path.write_text(json.dumps(report, indent=1) + "\n")
        (args.output / "peers.md").write_text(f"# Peers\n\n{table(report)}\n")
    print(table(report))


if __name__ == "__main__":
    main()
