"""Other libraries that keep a chat history in a SQLite file, used as their documentation shows.

Their sides on Postgres are peers of the part `postgres` only.

Each library has one module, which is left out if the library is not installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from benchmarks.harness.machine import is_installed
from benchmarks.sides import Side

_REQUIRED_MODULES = {
    "openai_agents": ("agents", "aiosqlite"),
    "langgraph": ("langgraph.graph", "langgraph.checkpoint.sqlite"),
    "langchain": ("langchain_core", "langchain_community", "sqlalchemy", "greenlet", "aiosqlite"),
}
_REQUIRED_ON_POSTGRES = {
    "openai_agents_postgres": ("agents", "sqlalchemy", "greenlet", "asyncpg"),
    "langgraph_postgres": ("langgraph.graph", "langgraph.checkpoint.postgres"),
}


def find_peers() -> tuple[list[type[Side]], list[str]]:
    """Return the peers that can be measured, and the modules that the others lack."""
    return _find(_REQUIRED_MODULES)


def find_postgres_peers() -> tuple[list[type[Any]], list[str]]:
    """Return the peers on Postgres that can be measured, and the modules that the others lack."""
    return _find(_REQUIRED_ON_POSTGRES)


def _find(required_modules: Mapping[str, Sequence[str]]) -> tuple[list[type[Any]], list[str]]:
    sides: list[type[Any]] = []
    missing: list[str] = []

    for peer, required in required_modules.items():
        absent = [module for module in required if not is_installed(module)]
        missing += absent
        if not absent:
            sides += import_module(f"benchmarks.peers.{peer}").SIDES

    return sides, missing
