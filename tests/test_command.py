"""The command ``tower-memory`` in a pipe and in a terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from helpers.processes import environment, python, python_path
from helpers.schema1 import copy_file
from helpers.servers import echo_server

COMMAND = [sys.executable, "-m", "tower_memory"]
COLOUR = "my favourite colour is teal\nwhat is my favourite colour?\n"


@pytest.fixture
def run(tmp_path):
    def run(*arguments, said=COLOUR, **variables):
        environment = {**os.environ, **variables}
        return subprocess.run(
            [*COMMAND, *arguments],
            input=said,
            cwd=tmp_path,
            env={key: value for key, value in environment.items() if value is not None},
            capture_output=True,
            text=isinstance(said, str),
            timeout=60,
        )

    return run


def failed(done, *words, status=1):
    """Fail unless the command ended with *status* and one line with *words* on standard error."""
    assert done.returncode == status, done.stderr
    (line,) = done.stderr.splitlines()
    for word in words:
        assert word in line


def test_a_second_run_remembers_the_first(run, tmp_path):
    first, second = run("--db", "chat.db"), run("--db", "chat.db")
    assert first.stdout.splitlines() == [
        "I was given no earlier messages.",
        'I was given 2 earlier messages, the first: "my favourite colour is teal"',
    ]
    assert second.stdout.splitlines() == [
        'I was given 4 earlier messages, the first: "my favourite colour is teal"',
        'I was given 6 earlier messages, the first: "my favourite colour is teal"',
    ]
    assert (first.returncode, first.stderr) == (second.returncode, second.stderr) == (0, "")
    assert [file.name for file in tmp_path.iterdir()] == ["chat.db"]


def test_without_options_it_remembers_in_the_current_folder(run, tmp_path):
    run(said="Hi")
    assert (tmp_path / "sessions.db").exists()
    assert "2 earlier messages" in run("--session", "default", said="Hi").stdout
    assert "no earlier messages" in run("--session", "other", said="Hi").stdout


def test_empty_lines_and_no_lines_are_no_turns(run):
    assert run(said="").stdout == ""
    assert run(said="\n  \n").stdout == ""
    assert "no earlier" in run(said="Hi").stdout


def test_an_endpoint_is_asked_through_the_openai_client(run):
    with echo_server() as server:
        options = ("--base-url", server.url, "--model", "m")
        assert run(*options).stdout.splitlines() == [
            "1 messages, the last: my favourite colour is teal",
            "3 messages, the last: what is my favourite colour?",
        ]
        done = run(*options, said="and now?", OPENAI_API_KEY="key")
        assert done.stdout == "5 messages, the last: and now?\n"
        assert server.requests[-1]["model"] == "m"


def test_a_reply_of_several_lines_is_one_line_in_a_pipe(run):
    with echo_server() as server:
        done = run("--base-url", server.url, "--model", "m", said="x\x0by")
    assert done.stdout == "1 messages, the last: x y\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dbb", "chat.db"], ["unrecognized arguments", "--help"]),
        (["--db"], ["--db", "expected one argument"]),
        (["--db", ""], ["--db", "must not be empty"]),
        (["--session", ""], ["--session", "must not be empty"]),
        (["--base-url", "http://127.0.0.1:1"], ["--base-url needs --model"]),
    ],
    ids=lambda value: " ".join(value) or None,
)
def test_a_wrong_option_is_one_line(run, arguments, words):
    failed(run(*arguments), *words, status=2)


def test_a_path_that_cannot_be_written_is_one_line(run, tmp_path):
    failed(run("--db", "missing/chat.db"), "missing/chat.db", "No such file or directory")
    failed(run("--db", "."), "unable to open database file")


def test_a_file_of_another_program_is_one_line_and_stays_unchanged(run, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("Dear diary\n" * 100)
    failed(run("--db", "notes.txt"), "notes.txt", "file is not a database")
    assert file.read_text() == "Dear diary\n" * 100
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    failed(run("--db", "other.db"), "other.db", "another program's database")


def test_an_endpoint_that_does_not_answer_is_one_line_and_saves_nothing(run):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        failed(run("--base-url", url, "--model", "m"), url, "gave no reply")
    assert "no earlier messages" in run(said="Hi").stdout


def test_an_endpoint_that_answers_with_an_error_is_one_line(run):
    with echo_server() as server:
        server.status = 404
        done = run("--base-url", server.url, "--model", "m")
    failed(done, server.url, "No such model.")


@pytest.mark.parametrize(
    "reply",
    [
        b"{}",
        b"null",
        b"[]",
        b'"text"',
        b"<html></html>",
        b'{"choices": []}',
        b'{"choices": null}',
        b'{"choices": [{"message": null}]}',
    ],
)
def test_an_endpoint_that_answers_with_something_else_is_one_line(run, reply):
    with echo_server() as server:
        server.reply = reply
        failed(run("--base-url", server.url, "--model", "m"), server.url, "gave no")
    assert "no earlier messages" in run(said="Hi").stdout


@pytest.mark.parametrize("content", ["[1, 2]", "7", '"\\ud800 and \\u001b[31m"', "null"])
def test_a_reply_that_cannot_be_stored_or_shown_causes_no_traceback(run, content):
    with echo_server() as server:
        server.reply = b'{"choices": [{"message": {"role": "assistant", "content": %s}}]}' % (
            content.encode()
        )
        done = run("--base-url", server.url, "--model", "m", said="Hi")
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        (["--base-url", "http://a\nb/"], {}),
        (["--base-url", "http://127.0.0.1:1"], {"OPENAI_API_KEY": "caf\u00e9"}),
        (["--base-url", "http://127.0.0.1:1"], {"ALL_PROXY": "foo://bar"}),
    ],
    ids=["address", "key", "proxy"],
)
def test_options_that_the_client_cannot_use_are_one_line(run, options, variables):
    failed(run("--model", "m", *options, **variables))


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_a_closed_standard_input_or_output_is_one_line(tmp_path, closed):
    done = subprocess.run(
        f"{sys.executable} -m tower_memory {closed}",
        shell=True,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    failed(done, "is closed")


def test_characters_that_the_output_cannot_encode_are_escaped(run):
    run(said="\u20ac")
    assert "\\u20ac" in run(said="Hi", PYTHONIOENCODING="latin1").stdout


@pytest.mark.parametrize("key", [None, ""])
def test_a_missing_key_is_one_line(run, key):
    done = run("--model", "m", OPENAI_API_KEY=key, OPENAI_BASE_URL=None)
    failed(done, "OPENAI_API_KEY")


def test_an_invalid_address_is_one_line_that_names_the_reason(run):
    failed(run("--model", "m", "--base-url", "127.0.0.1:1/v1"), "http://")


def test_a_missing_extra_is_one_line_that_names_the_remedy(run, tmp_path):
    (tmp_path / "openai.py").write_text("raise ImportError")
    done = run("--model", "m", PYTHONPATH=python_path(tmp_path))
    failed(done, "pip install 'tower-memory[openai]'")


def test_input_that_is_no_text_is_one_line(run, tmp_path):
    done = run(said=b"caf\xe9\n", PYTHONIOENCODING="utf-8:strict")
    done.stderr = done.stderr.decode()
    failed(done, "standard input is not utf-8: invalid continuation byte")


def test_a_reply_that_cannot_be_saved_is_still_printed(run, tmp_path):
    run(said="Hi")
    holder = sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    done = run(said="Hi again")
    holder.close()
    assert done.stdout == 'I was given 2 earlier messages, the first: "Hi"\n'
    failed(done, "this turn is not saved", "database is locked")


def test_a_conversation_taken_over_from_tower_llm_can_be_continued_if_it_is_a_chat(run, tmp_path):
    connection = sqlite3.connect(tmp_path / "sessions.db")
    connection.execute(
        "CREATE TABLE sessions (id INTEGER PRIMARY KEY, session_id, item_type, item_data,"
        " created_at, sequence_num)"
    )

    for number, item in enumerate(
        [
            '{"type":"ToolCall","id":"c","tool_name":"f","arguments":{}}',
            '{"type":"ToolOutput","id":"o","tool_call_id":"c","output":1,"error":null}',
            '"an item of no known kind"',
        ]
    ):
        connection.execute(
            "INSERT INTO sessions VALUES (NULL, 'default', '', ?, '2025-01-01T00:00:00Z', ?)",
            (item, number),
        )
        connection.commit()

    connection.execute("UPDATE sessions SET session_id = 'odd' WHERE sequence_num = 2")
    connection.commit()
    connection.close()
    done = run(said="Hi")

    assert done.stdout == 'I was given 2 earlier messages, the first: "None"\n'

    done = run("--session", "odd", said="Hi")
    failed(done, "session odd is not a chat: history[0] must be a message with a role")


def test_a_full_disk_at_standard_output_is_one_line(tmp_path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            COMMAND, cwd=tmp_path, input="Hi", text=True, stdout=full, stderr=subprocess.PIPE
        )
    failed(done, "No space left on device")


def test_a_closed_pipe_causes_no_traceback(tmp_path):
    child = subprocess.Popen(
        COMMAND,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    child.stdin.write("Hi\n")
    child.stdin.flush()
    child.stdout.readline()
    child.stdout.close()
    child.stdin.write("Hi\n")
    child.stdin.close()

    assert child.wait(60) == 1
    assert child.stderr.read() == ""

    child.stderr.close()


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
        """Read the screen until *text* is shown again."""
        while text not in self.shown:
            self.shown += os.read(self.screen, 4096).decode()
        _, _, self.shown = self.shown.partition(text)

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
from tower_memory.__main__ import main

log_each_report(MonkeyPatch())
sys.exit(main())
"""


def test_in_a_terminal_the_progress_of_a_long_migration_is_shown(tmp_path):
    copy_file("conversations", tmp_path / "old.db")
    terminal = Terminal(tmp_path, "--db", "old.db", command=python(LOG_EACH_REPORT))
    terminal.until("\rold.db: migrating to schema 2: 0 %\r\n")
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
