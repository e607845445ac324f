"""The chat, one reply per line of input."""

from __future__ import annotations

import socket
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from functools import partial

import pytest

from helpers.commands import failed
from helpers.internals import chat_module
from helpers.servers import echo_server, scripted_server, streamed

COLOUR = "my favourite colour is teal\nwhat is my favourite colour?\n"

DATA = b"data: %s\n\ndata: [DONE]\n\n"


@pytest.fixture
def run(run):
    """Return a function that runs the chat, by default with one line of input."""
    return partial(run, said="Hi")


@pytest.fixture
def impatient(monkeypatch):
    """Let the command wait only a moment for a locked file."""
    monkeypatch.setattr("tower_memory._command.stores.PATIENCE", 0.01)


def test_a_second_run_remembers_the_first(run, tmp_path):
    first, second = (run("--db", "chat.db", said=COLOUR) for _ in range(2))
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
        assert run(*options, said=COLOUR).stdout.splitlines() == [
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
        (["--dbb=chat.db"], ["unrecognized arguments", "--help"]),
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
        DATA % b'{"choices": []}',
        DATA % b'{"choices": null}',
        DATA % b"[]",
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
        delta = b'{"choices": [{"index": 0, "delta": {"role": "assistant", "content": %s}}]}'
        server.reply = DATA % (delta % content.encode())
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


def test_characters_that_the_output_cannot_encode_are_escaped(run):
    run(said="\u20ac")
    assert "\\u20ac" in run(said="Hi", encoding="latin1").stdout


@pytest.mark.parametrize("key", [None, ""])
def test_a_missing_key_is_one_line(run, key):
    done = run("--model", "m", OPENAI_API_KEY=key, OPENAI_BASE_URL=None)
    failed(done, "OPENAI_API_KEY")


def test_an_invalid_address_is_one_line_that_names_the_reason(run):
    failed(run("--model", "m", "--base-url", "127.0.0.1:1/v1"), "http://")


def test_a_missing_extra_is_one_line_that_names_the_remedy(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    done = run("--model", "m")
    failed(done, "pip install 'tower-memory[openai]'")


def test_input_that_is_no_text_is_one_line(run, tmp_path):
    done = run(said=b"caf\xe9\n")
    failed(done, "standard input is not utf-8: invalid continuation byte")


def test_a_reply_that_cannot_be_saved_is_still_printed(run, tmp_path, impatient):
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


def test_a_reply_is_printed_as_it_arrives_and_saved_at_its_end(run):
    with scripted_server() as server:
        message = {"role": "assistant", "content": None}
        server.replies += [streamed(message, ["Once\r", "\nupon", "\n\na\x07 time\n"])] * 2
        options = ("--base-url", server.url, "--model", "m")
        assert run(*options).stdout == "Once upon  a  time\n"
        assert run(*options, is_terminal=True).stdout == "> Once\nupon\n\na  time\n> \n"
        assert server.requests[0]["stream"] is True
    (first, _) = run("show", "default", "--json").objects()
    assert first["items"][1]["content"] == "Once\r\nupon\n\na\x07 time\n"


def test_a_refusal_is_printed(run):
    with scripted_server() as server:
        refusal = {"role": "assistant", "content": None, "refusal": "I cannot."}
        server.replies.append(streamed(refusal, []))
        assert run("--base-url", server.url, "--model", "m").stdout == "I cannot.\n"


def test_an_endpoint_that_fails_costs_one_line_and_the_chat_goes_on(run):
    with scripted_server() as server:
        reply = {"role": "assistant", "content": "Hello."}
        server.replies += [streamed(reply), [*streamed(reply)[:2], None], streamed(reply)]
        done = run("--base-url", server.url, "--model", "m", said="a\nb\nc\n")
        assert done.stdout == "Hello.\nHello.\nHello.\n"
        failed(done, server.url, "broke off its reply")
        asked = [message["content"] for message in server.requests[-1]["messages"]]
        assert asked[:3] == ["a", "Hello.", "b"]
        assert asked[3].startswith("Hello.\n")  # marked as interrupted
        assert asked[4] == "c"


def test_an_endpoint_that_fails_on_a_terminal_leaves_the_status_0(run):
    with echo_server() as server:
        server.status = 404
        done = run("--base-url", server.url, "--model", "m", said="a\nb\n", is_terminal=True)
    assert done.returncode == 0
    assert done.stderr.count("No such model.") == 2


def test_the_commands_of_the_chat_are_not_sent(run):
    with echo_server() as server:
        options = ("--base-url", server.url, "--model", "m")
        said = "/help\nHi\n/new trip\n /Rome\n/sessions\n/quit\nnever sent\n"
        lines = run(*options, said=said).lines()
        assert len(server.requests) == 2
    *help_lines, first, second, third, trip, default = lines
    assert "/new [ID]" in "\n".join(help_lines)
    assert first == "1 messages, the last: Hi"
    assert second == "session trip"
    assert third == "1 messages, the last: /Rome"
    assert (trip.split()[0], default.split()[0]) == ("trip", "default")


def test_an_unknown_command_is_one_line_and_is_not_sent(run):
    done = run(said="/etc/hosts is a file\nHi\n")
    failed(done, "unknown command /etc/hosts", "not sent", "/help")
    assert done.stdout == "I was given no earlier messages.\n"
    assert run(said="/foo\n", is_terminal=True).returncode == 0


def test_new_sessions_have_names_of_their_own(run):
    said = "/new\nHi\n/new\nHi\n"
    first, _, second, _ = run(said=said).lines()
    assert first.startswith("session chat-2")
    assert first != second
    assert len(run("sessions").lines()) == 2
    failed(run("--session", "trip", said="Hi\n/new trip\n"), "session trip exists", "--session")


def test_a_new_session_within_the_same_second_gets_a_number(run, monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2025, 1, 2, 3, 4, 5, tzinfo=UTC)

    monkeypatch.setattr(chat_module, "datetime", Clock)
    lines = run(said="/new\nHi\n/new\nHi\n/new\n", TZ="UTC").lines()
    assert [line for line in lines if line.startswith("session")] == [
        "session chat-20250102-030405",
        "session chat-20250102-030405-2",
        "session chat-20250102-030405-3",
    ]


def test_a_streamed_reply_that_cannot_be_saved_is_still_printed(run, tmp_path, impatient):
    run(said="Hi")
    with (
        echo_server() as server,
        closing(sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)) as holder,
    ):
        holder.execute("BEGIN IMMEDIATE")
        done = run("--base-url", server.url, "--model", "m", said="Hi again")
    assert done.stdout == "3 messages, the last: Hi again\n"
    failed(done, "this turn is not saved", "database is locked")
