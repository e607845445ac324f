"""Other libraries that keep a chat history in a SQLite file, used as their documentation shows.

Each library has one module, which is left out if the library is not installed.
"""

from __future__ import annotations

from importlib import import_module

from benchmarks.harness.machine import is_installed
from benchmarks.sides import Side

_REQUIRED_MODULES = {
    "openai_agents": ("agents", "aiosqlite"),
    "langgraph": ("langgraph.graph", "langgraph.checkpoint.sqlite"),
    "langchain": ("langchain_core", "langchain_community", "sqlalchemy", "greenlet", "aiosqlite"),
}


def find_peers() -> tuple[list[type[Side]], list[str]]:
    """Return the peers that can be measured, and the modules that the others lack."""
    sides: list[type[Side]] = []
    missing: list[str] = []

    for peer, required in _REQUIRED_MODULES.items():
        absent = [module for module in required if not is_installed(module)]
        missing += absent
        if not absent:
            sides += import_module(f"benchmarks.peers.{peer}").SIDES

    return sides, missing
