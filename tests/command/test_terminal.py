"""The command in a terminal."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from contextlib import suppress

from helpers.commands import COMMAND, Terminal
from helpers.processes import python
from helpers.schema1 import copy_file
from helpers.servers import scripted_server, streamed


def test_in_a_terminal_it_prompts_and_ends_at_the_end_of_input(tmp_path):
    terminal = Terminal(tmp_path)
    terminal.until("I remember in sessions.db, session default.")
    terminal.until("> ")
    terminal.type("Hi\n")
    terminal.until("I was given no earlier messages.")
    terminal.until("> ")
    terminal.type("\x04")
    status, rest = terminal.end()
    assert status == 0
    assert rest.strip() == ""


LOG_EACH_REPORT = """
import sys
from pytest import MonkeyPatch
from helpers.sqlite_internals import log_each_report
from helpers.internals import main

log_each_report(MonkeyPatch())
sys.exit(main())
"""


def test_in_a_terminal_the_progress_of_a_long_migration_is_shown(tmp_path):
    copy_file("conversations", tmp_path / "old.db")
    terminal = Terminal(tmp_path, "--db", "old.db", command=python(LOG_EACH_REPORT))
    terminal.until("\r[....................] old.db: migrating to schema 2: 0 %\r\n")
    terminal.until("I remember in old.db, session default.")
    terminal.until("> ")
    terminal.type("\x04")
    status, _ = terminal.end()
    assert status == 0


def test_ctrl_c_at_the_prompt_ends_it_cleanly(tmp_path):
    terminal = Terminal(tmp_path)
    terminal.until("> ")
    # Python may miss a signal that arrives just before it waits for a line.
    while terminal.child.poll() is None:
        os.kill(terminal.child.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            terminal.child.wait(5)
    status, rest = terminal.end()
    assert status == 130
    assert re.sub(r"\s|\^C", "", rest) == ""


def test_ctrl_c_while_the_model_is_asked_ends_it_cleanly_and_saves_nothing(run, tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        terminal = Terminal(tmp_path, "--base-url", url, "--model", "m")
        terminal.until("> ")
        terminal.type("Hi\n")
        connection, _ = silent.accept()

        with connection:
            os.kill(terminal.child.pid, signal.SIGINT)
            status, rest = terminal.end()

    assert status == 130
    assert "Traceback" not in rest
    assert "no earlier messages" in run(said="Hi").stdout


def test_ctrl_c_during_an_answer_keeps_its_beginning_and_the_chat_goes_on(tmp_path):
    with scripted_server() as server:
        message = {"role": "assistant", "content": "Once upon a time"}
        server.replies += [streamed(message), streamed({**message, "content": "And then"})]
        server.slow = True
        terminal = Terminal(tmp_path, "--base-url", server.url, "--model", "m")
        terminal.until("> ")
        terminal.type("A story?\n")
        server.go_on.set()
        terminal.until("Once")
        os.kill(terminal.child.pid, signal.SIGINT)
        terminal.until("> ")

        server.slow = False
        server.go_on.set()
        terminal.type("Go on\n")
        terminal.until("And then")
        terminal.until("> ")
        terminal.type("/quit\n")
        status, rest = terminal.end()

    assert (status, rest.strip()) == (0, "/quit")
    asked, kept, _ = server.requests[-1]["messages"]
    assert asked["content"] == "A story?"
    assert kept["content"].splitlines()[0] == "Once"


def test_ctrl_c_during_an_answer_in_a_pipe_keeps_its_beginning_and_ends(tmp_path):
    with scripted_server() as server:
        server.replies.append(streamed({"role": "assistant", "content": "Once upon a time"}))
        server.slow = True
        server.go_on.set()
        with subprocess.Popen(
            [*COMMAND, "--base-url", server.url, "--model", "m"],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as child:
            child.stdin.write("A story?\nAnother?\n")
            child.stdin.flush()
            assert child.stdout.read(4) == "Once"
            os.kill(child.pid, signal.SIGINT)
            assert child.wait(60) == 130
            assert child.stderr.read().strip() == ""
        server.slow = False
        server.go_on.set()

    assert len(server.requests) == 1
    shown = subprocess.run([*COMMAND, "show", "default"], cwd=tmp_path, capture_output=True)
    assert b"  assistant  Once\n" in shown.stdout
