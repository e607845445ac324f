"""The virtual environments of the probes, one for each library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, Final

from benchmarks.comparison.libraries import Library

ROOT: Final = Path(__file__).parents[2]
"""The folder of the checkout."""

_TIMEOUT: Final = 900


def install(library: Library, folder: Path, *, upgrade: bool) -> Path:
    """Return the Python of the library's environment in *folder*; create it if it is missing."""
    home = folder / library.module
    python = home / "bin" / "python"
    if python.exists() and not upgrade:
        return python

    if not python.exists():
        venv.create(home, with_pip=True)
    requirements = library.requirements or ("--editable", str(ROOT))
    command = [python, "-m", "pip", "install", "--quiet", "--upgrade", *requirements, "trio"]
    subprocess.run(command, check=True)  # noqa: S603 - the requirements are our own
    return python


def run_probe(python: Path, library: Library, scenario: str) -> dict[str, Any]:
    """Run one scenario in a process of its own and return its JSON.

    A probe that fails, hangs or prints something else is reported as a result with the verdict
    ``"failed"``.
    """
    command = [python, "-m", f"benchmarks.comparison.probes.{library.module}", scenario]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}

    try:
        done = subprocess.run(  # noqa: S603 - our own program
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=True,
        )
        outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return _failed(scenario, f"no end within {_TIMEOUT} seconds")
    except subprocess.CalledProcessError as error:
        print(error.stderr, file=sys.stderr)
        return _failed(scenario, error.stderr.splitlines()[-1])
    return outcome


def _failed(scenario: str, reason: str) -> dict[str, Any]:
    return {"results": {scenario: {"verdict": "failed", "cell": reason, "observed": {}}}}
