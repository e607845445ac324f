"""Other libraries that keep a chat's history in an SQLite file, used as their documentation does.

Each is one file, left out where its library is not installed.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from benchmarks.sides import Side

_NEEDED = {
    "openai_agents": ("agents", "aiosqlite"),
    "langgraph": ("langgraph.graph", "langgraph.checkpoint.sqlite"),
    "langchain": ("langchain_core", "langchain_community", "sqlalchemy", "greenlet", "aiosqlite"),
}


def installed() -> tuple[list[type[Side]], list[str]]:
    """The peers that can be measured, and what is missing for the others."""
    sides: list[type[Side]] = []
    missing: list[str] = []
    for name, needed in _NEEDED.items():
        absent = [module for module in needed if not _is_there(module)]
        missing += absent
        if not absent:
            sides += import_module(f"benchmarks.peers.{name}").SIDES
    return sides, missing


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its package is not there
        return False
