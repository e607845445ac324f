"""Write the tables of README.md, from the results of the probes and from the quoted cells."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from benchmarks.comparison.libraries import LIBRARIES
from benchmarks.comparison.scenarios import NO_FILE

_FOLDER: Final = Path(__file__).parent
_MARKS: Final = {"yes": "✓ ", "partly": "◐ ", "no": "✗ ", "failed": "failed: "}

_PROMISES: Final = {
    "retry": "the model fails, the request is made again: the user's message is stored",
    "overlap": "two turns of one session overlap",
    "cancel_model": "cancelled during the model call: the session is",
    "cancel_save": "cancelled during the save, 100 moments: the turn is",
    "full_disk": "the save fails (disk full)",
    "processes": "two processes write one session, 150 turns",
    "kill": "killed (SIGKILL) at 50 moments: the turns are",
    "twice": "the same request twice, with the library's key: stored",
    "identical": "the user says the same twice: stored",
    "corrupt": "a stored row is cut in half: a load",
    "erased_bytes": "a deleted session, in the files of the open store",
    "trio": "a turn on trio",
}

_FIGURES: Final = {
    "ms at 100": "a turn at 100 items, ms",
    "ms at 1000": "a turn at 1,000 items, ms",
    "bytes per byte": "bytes on disk per byte of text, at 1,000 items",
}


def write(found: dict[str, Any], page: Path = _FOLDER / "README.md") -> None:
    """Replace the tables between the markers of the *page*."""
    quoted = read_quoted()
    text = page.read_text()
    text = _replace(text, "versions", _versions(found, quoted))
    text = _replace(text, "promises", _promises(found))
    text = _replace(text, "figures", _figures(found))
    for name in ("stores", "capabilities", "clients", "runtimes"):
        text = _replace(text, name, _quoted(quoted, name))
    page.write_text(text)


def read_quoted() -> dict[str, Any]:
    """Return the quoted cells, with their versions."""
    return tomllib.loads((_FOLDER / "quoted.toml").read_text())


def _replace(text: str, name: str, table: str) -> str:
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        message = f"README.md has no marker for the table {name}."
        raise LookupError(message)
    return pattern.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text, count=1)


def _versions(found: dict[str, Any], quoted: dict[str, Any]) -> str:
    lines = ["| library | run with | the probe uses | quoted from |", "|---|---|---|---|"]
    for library in LIBRARIES:
        outcome = found.get(library.module, {})
        versions = ", ".join(
            f"{name} {version}" for name, version in outcome.get("versions", {}).items()
        )
        uses = outcome.get("setup", "")
        source = quoted["versions"][library.module]
        lines.append(f"| {library.name} | {versions} | {uses} | {source} |")
    return "\n".join(lines)


def _promises(found: dict[str, Any]) -> str:
    def cell(scenario: str, module: str) -> str:
        result = found.get(module, {}).get("results", {}).get(scenario)
        return "" if result is None else _MARKS.get(result["verdict"], "") + result["cell"]

    return _table(
        (title, lambda module, scenario=scenario: cell(scenario, module))
        for scenario, title in _PROMISES.items()
    )


def _figures(found: dict[str, Any]) -> str:
    def observed(module: str, scenario: str) -> dict[str, Any]:
        result = found.get(module, {}).get("results", {}).get(scenario, {})
        values: dict[str, Any] = result.get("observed", {})
        return values

    rows: list[tuple[str, Callable[[str], str]]] = [
        (title, lambda module, name=name: str(observed(module, "figures").get(name, NO_FILE)))
        for name, title in _FIGURES.items()
    ]
    rows += [
        (
            f"50 sessions at once: {name}",
            lambda module, name=name: str(observed(module, "many").get(name, "")),
        )
        for name in ("threads", "files")
    ]
    return _table(rows)


def _quoted(quoted: dict[str, Any], name: str) -> str:
    return _table(
        (row["name"], lambda module, row=row: row[module][0])
        for row in quoted["row"]
        if row["table"] == name
    )


def _table(rows: Iterable[tuple[str, Callable[[str], str]]]) -> str:
    """Return a table with a column for each library.

    A row is a title, and a function that returns the cell of a library from its module.
    """
    names = " | ".join(library.name for library in LIBRARIES)
    lines = [f"| | {names} |", "|---" * (len(LIBRARIES) + 1) + "|"]
    for title, cell in rows:
        cells = " | ".join(cell(library.module) for library in LIBRARIES)
        lines.append(f"| {title} | {cells} |")
    return "\n".join(lines)
