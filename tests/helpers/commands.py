"""The command ``tower-memory``: its streams in this process, and a terminal for a process."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from select import select
from typing import NamedTuple

from helpers.processes import environment

COMMAND = [sys.executable, "-m", "tower_memory"]


class Done(NamedTuple):
    """The end of a command."""

    returncode: int
    stdout: str
    stderr: str

    def lines(self):
        """Return the lines of standard output, after checking that the command succeeded."""
        assert (self.returncode, self.stderr) == (0, "")
        return self.stdout.split("\n")[:-1]

    def objects(self):
        """Return the objects of the JSON lines of standard output."""
        return [json.loads(line) for line in self.lines()]


class Text(io.TextIOWrapper):
    """A text stream that is a terminal or a pipe."""

    def __init__(self, raw=b"", *, is_terminal, encoding="utf-8"):
        super().__init__(io.BytesIO(raw), encoding=encoding, write_through=True)
        self._is_terminal = is_terminal

    def isatty(self):
        return self._is_terminal

    def text(self):
        return self.buffer.getvalue().decode()


def failed(done, *words, status=1):
    """Fail unless the command ended with *status* and one line with *words* on standard error."""
    assert done.returncode == status, done.stderr
    (line,) = done.stderr.splitlines()
    for word in words:
        assert word in line


class Terminal:
    """The command in a pseudo-terminal."""

    def __init__(self, folder, *arguments, command=COMMAND):
        self.screen, inside = pty.openpty()
        self.child = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env=environment(),
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
        )
        os.close(inside)
        self.shown = ""

    def until(self, text):
        """Read the screen until *text* is shown again, and return the text before it."""
        while text not in self.shown:
            ready, _, _ = select([self.screen], [], [], 30)
            assert ready, f"{text!r} is not shown, but {self.shown!r}"
            self.shown += os.read(self.screen, 4096).decode()
        before, _, self.shown = self.shown.partition(text)
        return before

    def type(self, text):
        os.write(self.screen, text.encode())

    def end(self):
        status = self.child.wait(60)
        try:
            while rest := os.read(self.screen, 4096):
                self.shown += rest.decode()
        except OSError:  # the terminal was closed
            pass
        os.close(self.screen)
        return status, self.shown
