"""The command, run in this process, and a file for it."""

from __future__ import annotations

import sys

import anyio
import pytest

from helpers.commands import Done, Text
from helpers.internals import main
from tower_memory import SqliteSessionStore, Turn


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs the command in the folder *tmp_path*."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, said="", is_terminal=False, encoding="utf-8", **variables):
        raw = said.encode() if isinstance(said, str) else said
        streams = {
            "stdin": Text(raw, is_terminal=is_terminal),
            "stdout": Text(is_terminal=is_terminal, encoding=encoding),
            "stderr": Text(is_terminal=is_terminal),
        }
        with monkeypatch.context() as patch:
            for name, stream in streams.items():
                patch.setattr(sys, name, stream)
            for name, value in {"COLUMNS": "80", **variables}.items():
                if value is None:
                    patch.delenv(name, raising=False)
                else:
                    patch.setenv(name, value)
            try:
                status = main(list(map(str, arguments)))
            except SystemExit as ended:
                status = ended.code
        return Done(status, streams["stdout"].text(), streams["stderr"].text())

    return run


async def _fill(path):
    async with SqliteSessionStore(path) as store:
        items = [
            {"role": "user", "content": "東京 \u2028\U0001f600"},
            {"n": [1.0, 2**63, -0.5e300]},
        ]
        await store.append(Turn("a", items, turn_id="t1", metadata={"model": "m"}))
        at = await store.append(Turn("a", ["cut"], turn_id="t0"))
        about = {"empty": True}
        await store.append(
            Turn("a", [], turn_id="t2", metadata=about, replaces="t0", expected_revision=at)
        )
        await store.append(Turn("a", ["x"], turn_id="t3"))
        await store.annotate("a", {"title": "Tokyo"})
        await store.fork("a", "b", before="t3")
        await store.append(Turn("c", [1]))
        await store.annotate("only a title", {"title": "T"}, create=True)
        await store.append(Turn("a", ["last"]))


@pytest.fixture
def filled(tmp_path):
    """Return the path of a file with sessions."""
    path = tmp_path / "filled.db"
    anyio.run(_fill, path)
    return path
