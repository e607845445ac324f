"""The help of the command, and the progress of its long work."""

from __future__ import annotations

import io
import os
import sys

import pytest

from helpers.commands import Text
from helpers.internals import cut, main, progress, width

COMMANDS = [
    *("sessions", "show", "search", "title", "fork", "export", "import", "erase"),
    *("scrub", "backup", "check"),
]


def test_the_help_names_every_command(run):
    done = run("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert f"\n    {name} " in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help(run, name):
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: tower-memory {name} ")
    assert all(len(line) <= 100 for line in done.stdout.splitlines())


def test_progress_is_shown_on_a_terminal_after_one_second():
    stream = Text(is_terminal=True)
    times = iter([0.0, 0.9, 1.0, 1.05, 1.1])
    with progress(stream, "exporting", lambda: next(times)) as show:
        for share in (0.1, 0.25, 0.5, 1.0):
            show(share)
    assert stream.text() == (
        "\r[#####...............] exporting: 25 %\r[####################] exporting: 100 %\n"
    )


@pytest.mark.parametrize("stream", [None, Text(is_terminal=False)])
def test_no_progress_is_shown_in_a_pipe(stream):
    with progress(stream, "exporting", lambda: 9.0) as show:
        show(0.5)
    assert stream is None or stream.text() == ""


def test_a_text_that_is_cut_never_exceeds_its_columns():
    for text in ("東京タワー", "e\u0301" * 9, "\U0001f469\u200d\U0001f4bb ok", "plain"):
        for most in range(1, 12):
            assert width(cut(text, most)) <= most
            assert cut(text, most) == text or width(text) > most


class Broken(io.StringIO):
    """A standard output whose reader has stopped, with the descriptor *number*, or None."""

    def __init__(self, error, number=None):
        super().__init__()
        self._error, self._number = error, number

    def reconfigure(self, **_):
        """Accept what a text stream accepts."""

    def write(self, _text):
        raise self._error

    def fileno(self):
        return super().fileno() if self._number is None else self._number


@pytest.mark.parametrize("has_descriptor", [False, True])
def test_a_reader_that_stops_ends_the_command_quietly(run, monkeypatch, capsys, has_descriptor):
    run(said="Hi")
    descriptor = os.open(os.devnull, os.O_WRONLY)
    broken = Broken(BrokenPipeError(), descriptor if has_descriptor else None)
    monkeypatch.setattr(sys, "stdout", broken)
    status = main(["sessions"])
    monkeypatch.undo()
    os.close(descriptor)
    assert status == 1
    assert capsys.readouterr().err == ""


def test_a_programming_error_is_not_hidden(run, monkeypatch):
    run(said="Hi")

    def fail(*_):
        raise TypeError

    monkeypatch.setattr("tower_memory._command.listing.print_sessions", fail)
    with pytest.raises(TypeError):
        run("sessions")


def test_ctrl_c_ends_a_command_with_the_status_130(run, monkeypatch):
    run(said="Hi")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tower_memory._command.listing.print_sessions", interrupt)
    done = run("sessions")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\n")


def test_a_note_about_long_work_is_printed_on_a_terminal(run, monkeypatch):
    run(said="Hi")
    monkeypatch.setattr("tower_memory._command.upkeep.DELAY", 0.0)
    done = run("scrub", is_terminal=True)
    assert (done.returncode, done.stdout) == (0, "scrubbed sessions.db\n")
    assert done.stderr in ("", "rewriting sessions.db ...\n")
