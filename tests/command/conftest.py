"""The command, run in this process."""

from __future__ import annotations

import sys

import pytest

from helpers.commands import Done, Text
from helpers.internals import main


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
