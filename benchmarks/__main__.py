"""The command: ``python -m benchmarks`` measures everything, or the parts that are named."""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.bench import Bench
from benchmarks.peers import installed
from benchmarks.reporting import Report, as_json, summary
from benchmarks.sides import Side

PARTS = (
    "layers",  # first, before others have filled memory and caches
    "age",
    "concurrency",
    "loads",
    "stall",
    "disk",
    "hot",
    "runtimes",
    "resources",
)

_NEEDED = ("trio", "stamina")
_INSTALL = "To have what is measured here: pip install 'tower-memory[bench]'"


def main() -> int:
    """Run the parts that are asked for, print what they found, and write it down."""
    options = _options()
    if absent := [module for module in _NEEDED if not machine.has(module)]:
        _say(f"Not installed: {', '.join(absent)}. {_INSTALL}")
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.out, options.quick, _peers(quick=options.quick))
    about = machine.about(options.out)
    reports: dict[str, Report] = {}
    for part in options.parts or PARTS:
        bench.progress.begin(part)
        reports[part] = import_module(f"benchmarks.{part}").run(bench)
        bench.progress.end()
        print(f"\n{_about(part)}\n")
        for table in reports[part].tables:
            print(table.text(), end="\n\n")
    total = summary(target for report in reports.values() for target in report.targets)
    print(total.text(), end="\n\n")
    print(machine.line(about))
    _write(options.out, about, reports)
    print(f"{bench.progress.elapsed:.0f} s. Written to {options.out}.")
    return 0


def _peers(*, quick: bool) -> list[type[Side]]:
    peers, missing = installed()
    if missing:
        _say(f"Not installed: {', '.join(missing)}. Their peers are left out. {_INSTALL}")
    return [peer for peer in peers if not (quick and peer.is_slow)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="parts:\n" + "\n".join(f"  {_about(part)}" for part in PARTS),
    )
    parser.add_argument("parts", nargs="*", metavar="part", help="which; all if none is named")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few rounds, and without the slow peers: under a minute for all",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results",
        metavar="FOLDER",
        help="where results go, and files are made meanwhile: its disk is what is measured"
        " [benchmarks/results]",
    )
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"there is no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    return options


def _about(part: str) -> str:
    """The first line of a part's docstring."""
    about: Any = import_module(f"benchmarks.{part}").__doc__
    return str(about).partition("\n")[0]


def _write(out: Path, about: dict[str, Any], reports: dict[str, Report]) -> None:
    parts = {name: as_json(report) for name, report in reports.items()}
    text = json.dumps({"machine": about, "parts": parts}, indent=1)
    (out / "benchmarks.json").write_text(text + "\n")
    tables = [summary(target for report in reports.values() for target in report.targets)]
    tables += [table for report in reports.values() for table in report.tables]
    markdown = "\n\n".join([*(table.markdown() for table in tables), machine.line(about)])
    (out / "table.md").write_text(markdown + "\n")
    if machine.has("matplotlib"):
        import_module("benchmarks.plots").draw(out, reports)
    else:
        _say(f"No plots without matplotlib. {_INSTALL}")


def _say(what: str) -> None:
    print(what, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
