"""What the numbers were measured on and with."""

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
    "matplotlib",
)


def about(folder: Path) -> dict[str, Any]:
    """The machine, the versions, and how many ms one synced commit takes in *folder*."""
    return {
        "cores": _cores(),
        "cpu": _cpu(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "commit_ms": _commit_ms(folder),
        "versions": {name: found for name in _DISTRIBUTIONS if (found := _version(name))},
    }


def line(about: dict[str, Any]) -> str:
    """The same in a line or two."""
    versions = ", ".join(f"{name} {found}" for name, found in about["versions"].items())
    return (
        f"{about['cores']} cores of {about['cpu']}, {about['os']}, Python {about['python']},"
        f" SQLite {about['sqlite']}; one synced commit takes {about['commit_ms']:.2f} ms.\n"
        f"{versions}."
    )


def has(module: str) -> bool:
    """Whether *module* can be imported."""
    return find_spec(module) is not None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    """The model's name where Linux tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit_ms(folder: Path) -> float:
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
