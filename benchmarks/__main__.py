"""Measure the cost of a turn: ``python -m benchmarks`` measures all parts, or the named ones."""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.harness import machine
from benchmarks.harness.bench import Bench
from benchmarks.harness.reporting import Report, Table, as_json, summary_table
from benchmarks.peers import find_peers
from benchmarks.sides import Side

PARTS = (
    "layers",  # first, while memory and caches are not yet filled by the other parts
    "history_length",
    "long_sessions",
    "concurrency",
    "processes",
    "loads",
    "stall",
    "disk",
    "large_file",
    "many_sessions",
    "search",
    "cache",
    "runtimes",
    "resources",
    "tracing",
    "prompt_cache",
    "postgres",
)

_REQUIRED_MODULES = ("trio", "stamina", "opentelemetry.sdk")
_INSTALL = "To install the libraries: pip install 'tower-memory[bench]'"


def main() -> int:
    """Run the requested parts, print their tables, and write the results; return the exit code."""
    options = _parse_options()
    missing = [module for module in _REQUIRED_MODULES if not machine.is_installed(module)]
    if missing:
        _print_error(f"Not installed: {', '.join(missing)}. {_INSTALL}")
        return 1

    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        options.out,
        options.quick,
        _peers(quick=options.quick),
        against=options.against,
        gigabytes=options.gigabytes,
    )
    description = machine.describe(options.out)

    reports: dict[str, Report] = {}
    for part in options.parts or PARTS:
        reports[part] = _run(part, bench)

    summary = summary_table(target for report in reports.values() for target in report.targets)
    print(summary.text(), end="\n\n")
    print(machine.as_text(description))

    _write(options.out, description, reports, summary)
    print(f"{bench.progress.elapsed:.0f} s. Results are in {options.out}.")
    return 0


def _run(part: str, bench: Bench) -> Report:
    """Run *part* and print its tables."""
    bench.progress.begin(part)
    report: Report = import_module(f"benchmarks.parts.{part}").run(bench)
    bench.progress.end()

    print(f"\n{_title(part)}\n")
    for table in report.tables:
        print(table.text(), end="\n\n")
    return report


def _peers(*, quick: bool) -> list[type[Side]]:
    peers, missing = find_peers()
    if missing:
        _print_error(f"Not installed: {', '.join(missing)}. Their peers are left out. {_INSTALL}")
    return [peer for peer in peers if not (quick and peer.is_slow)]


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="parts:\n" + "\n".join(f"  {_title(part)}" for part in PARTS),
    )
    parser.add_argument("parts", nargs="*", metavar="part", help="parts to measure [all]")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few rounds, and no slow peers: about a minute for all parts",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results",
        metavar="FOLDER",
        help="folder for the results and the temporary databases; its disk is measured"
        " [benchmarks/results]",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="SOURCES",
        help="folder of the sources of another version of the library, such as ../old/src, with"
        " which long_sessions and processes compare",
    )
    parser.add_argument(
        "--gigabytes",
        type=float,
        default=1.0,
        metavar="SIZE",
        help="size of the file of large_file; a quick run takes a tenth [1]",
    )

    options = parser.parse_args()
    if options.against and not (options.against / "tower_memory").is_dir():
        parser.error(f"{options.against} does not contain the package tower_memory")
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"there is no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    return options


def _title(part: str) -> str:
    """Return the name of *part* and the first line of its docstring."""
    docstring: Any = import_module(f"benchmarks.parts.{part}").__doc__
    first_line, *_ = str(docstring).splitlines()
    return f"{part}: {first_line}"


def _write(
    folder: Path, description: dict[str, Any], reports: dict[str, Report], summary: Table
) -> None:
    """Write the measured values, the tables and the plots into *folder*."""
    parts = {part: as_json(report) for part, report in reports.items()}
    text = json.dumps({"machine": description, "parts": parts}, indent=1)
    (folder / "benchmarks.json").write_text(text + "\n")

    tables = [summary, *(table for report in reports.values() for table in report.tables)]
    markdown = [*(table.markdown() for table in tables), machine.as_text(description)]
    (folder / "table.md").write_text("\n\n".join(markdown) + "\n")

    if machine.is_installed("matplotlib"):
        import_module("benchmarks.plots").draw(folder, reports)
    else:
        _print_error(f"Plots need matplotlib. {_INSTALL}")


def _print_error(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
