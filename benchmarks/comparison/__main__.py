"""Compare this library with six others: ``python -m benchmarks.comparison``.

Makes a virtual environment for each library, runs its probe, writes results.json, and writes the
tables of README.md from results.json and quoted.toml.
"""

from __future__ import annotations

import argparse
import json
import platform
import sqlite3
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.comparison import short_table, tables
from benchmarks.comparison.environments import ROOT, install, run_probe
from benchmarks.comparison.libraries import LIBRARIES, Library
from benchmarks.comparison.scenarios import SCENARIOS

_RESULTS: Final = Path(__file__).with_name("results.json")
_ROUNDS: Final = 3
"""Rounds of the figures: in each round, all libraries are measured once."""


def main() -> int:
    """Run the probes, unless only the tables are wanted; return the exit code."""
    options = _parse_options()
    found: dict[str, Any] = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {}

    if options.readme:
        print(short_table.table(found))
        return 0

    if not options.tables:
        chosen = [library for library in LIBRARIES if library.module in options.libraries]
        for library in chosen:
            _run(library, options, found)
            _save(found)

        if "figures" in options.scenarios:
            for library in chosen:  # forget the figures of earlier runs
                found[library.module]["results"].pop("figures", None)
            for _ in range(_ROUNDS):
                for library in chosen:
                    _measure(library, options, found)
                    _save(found)

    tables.write(found)
    print("The tables of README.md are written.")

    failed = [
        f"{library}: {scenario}"
        for library, outcome in found.items()
        for scenario, result in outcome["results"].items()
        if result["verdict"] == "failed"
    ]
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def _run(library: Library, options: argparse.Namespace, found: dict[str, Any]) -> None:
    """Run the chosen scenarios of *library* and add their results to *found*."""
    print(f"{library.name}: installing", flush=True)
    python = install(library, options.environments, upgrade=options.upgrade)

    outcome = found.setdefault(library.module, {"results": {}})
    for scenario in options.scenarios:
        if scenario == "figures":
            continue  # in rounds, see main
        answer = run_probe(python, library, scenario)
        outcome["results"].update(answer.pop("results"))
        outcome.update(answer)
        print(f"{library.name}: {scenario}: {outcome['results'][scenario]['cell']}", flush=True)
    outcome["python"] = platform.python_version()
    outcome["sqlite"] = sqlite3.sqlite_version


def _measure(library: Library, options: argparse.Namespace, found: dict[str, Any]) -> None:
    """Measure *library* once more; keep the smaller figures, which other programs slowed less."""
    python = install(library, options.environments, upgrade=False)
    results = found[library.module]["results"]
    new = run_probe(python, library, "figures")["results"]["figures"]
    print(f"{library.name}: figures: {new['cell']}", flush=True)

    old = results.get("figures", new)["observed"]
    smaller = {name: min(old.get(name, value), value) for name, value in new["observed"].items()}
    cell = ", ".join(f"{name}: {value}" for name, value in smaller.items())
    results["figures"] = {**new, "cell": cell or new["cell"], "observed": smaller}


def _save(found: dict[str, Any]) -> None:
    _RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def _parse_options() -> argparse.Namespace:
    modules = [library.module for library in LIBRARIES]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.comparison",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="scenarios:\n" + "\n".join(f"  {name}: {text}" for name, text in SCENARIOS.items()),
    )
    parser.add_argument("--tables", action="store_true", help="run nothing, write the tables")
    parser.add_argument(
        "--readme", action="store_true", help="print the table of the repository's README"
    )
    parser.add_argument("--libraries", nargs="+", choices=modules, default=modules)
    parser.add_argument(
        "--scenarios", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS), metavar="NAME"
    )
    parser.add_argument("--upgrade", action="store_true", help="install the newest versions again")
    parser.add_argument(
        "--environments",
        type=Path,
        default=ROOT / "benchmarks" / "results" / "environments",
        metavar="FOLDER",
        help="folder of the virtual environments [benchmarks/results/environments]",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
