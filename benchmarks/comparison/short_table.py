"""The table of the repository's README, with short cells: ``--readme`` prints it."""

from __future__ import annotations

import re
from typing import Any, Final

from benchmarks.comparison.libraries import LIBRARIES
from benchmarks.comparison.tables import read_quoted

_RUN: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "retry": (
        "the model fails, the request is made again: the question is stored",
        {"once": "once", ".*twice": "twice"},
    ),
    "overlap": (
        "two turns overlap",
        {
            "all kept, in turns": "both kept",
            "all kept, interleaved": "both kept, mixed",
            "one": "one raises",
            "a returned turn is lost": "one is lost",
            "a returned turn loses": "a question is lost",
        },
    ),
    "cancel_model": (
        "cancelled during the model call",
        {"unchanged": "unchanged", "the user's": "question stays"},
    ),
    "full_disk": (
        "the save fails",
        {
            "raises, with": "error with the reply",
            "raises, the reply": "error, reply lost",
            "returns": "no error, turn lost",
        },
    ),
    "processes": (
        "two processes, one session",
        {
            "all": "all kept",
            r"(\d+) of (\d+) returned turns lost": r"\1 of \2 lost",
            r"every.*, (\d+) of (\d+) raise": r"\1 of \2 raise",
            "no file": "-",
        },
    ),
    "kill": (
        "killed at any moment: turns",
        {"whole": "whole", "torn": "torn", ".*": "-"},
    ),
    "twice": (
        "the same request twice: stored",
        {"once": "once", "the message once": "reply twice", "the whole": "twice"},
    ),
    "trio": ("runs on trio", {"yes": "yes", "no": "no"}),
}

_STORES: Final = {
    "ours": "SQLite, Postgres",
    "openai_agents": "SQL, Redis, MongoDB",
    "pydantic_ai": "memory",
    "langgraph": "SQLite, Postgres",
    "langchain": "SQL, Redis, many more",
    "google_adk": "SQL, Redis, MongoDB",
    "agent_framework": "files; Redis, Cosmos",
}
"""The table of stores, in a few words."""


def table(found: dict[str, Any]) -> str:
    """Return the table."""
    quoted = {row["name"]: row for row in read_quoted()["row"]}
    modules = [library.module for library in LIBRARIES]

    rows = [
        (title, [_short(found[module]["results"][scenario]["cell"], words) for module in modules])
        for scenario, (title, words) in _RUN.items()
    ]
    rows.append(("stores", [_STORES[module] for module in modules]))
    rows.append(("encryption", [quoted["encryption"][module][0] for module in modules]))

    lines = [f"| | {' | '.join(library.name for library in LIBRARIES)} |"]
    lines.append("|---" * (len(LIBRARIES) + 1) + "|")
    lines += [f"| {title} | {' | '.join(cells)} |" for title, cells in rows]
    return "\n".join(lines)


def _short(cell: str, words: dict[str, str]) -> str:
    for pattern, short in words.items():
        if match := re.match(pattern, cell):
            return match.expand(short)
    return cell
