"""Run the scenarios of one probe: ``python -m benchmarks.comparison.probes.ours retry``.

The last line of the output is JSON: for each scenario its cell, its verdict, and the outcomes that
were counted. Without a name, all scenarios run, one after another.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

from benchmarks.comparison import cancellation, content, faults, figures, processes
from benchmarks.comparison.outcomes import Result
from benchmarks.comparison.probe import Probe
from benchmarks.comparison.scenarios import SCENARIOS

_FUNCTIONS: Final[dict[str, Callable[[type[Probe]], Result]]] = {
    "kill": processes.kill,
    "processes": processes.two_processes,
    "retry": faults.retry,
    "overlap": faults.overlap,
    "cancel_model": cancellation.cancel_model,
    "cancel_save": cancellation.cancel_save,
    "full_disk": faults.full_disk,
    "twice": faults.twice,
    "corrupt": content.corrupt,
    "identical": content.identical,
    "erased_bytes": content.erased_bytes,
    "trio": figures.on_trio,
    "many": figures.many_sessions,
    "figures": figures.turn_and_file,
}


def main(probe: type[Probe]) -> None:
    """Run the scenarios that the command line names, and print their results as JSON."""
    names = sys.argv[1:] or list(SCENARIOS)
    results = {name: _FUNCTIONS[name](probe).as_json() for name in names}
    print(json.dumps({"versions": _versions(probe), "setup": probe.setup, "results": results}))


def _versions(probe: type[Probe]) -> dict[str, Any]:
    return {name: version(name) for name in probe.distributions}
