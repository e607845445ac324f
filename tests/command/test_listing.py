"""Lists of sessions, the messages of a session, and searches."""

from __future__ import annotations

import re

import anyio
import pytest

from helpers.commands import failed
from tower_memory import SqliteSessionStore, Turn

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


async def _fill(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("user/1", [{"role": "user", "content": "Rome\n\tand Milan"}]))
        hostile = "\x1b[31mred\u202e"
        await store.append(Turn(hostile, [{"role": "user", "content": hostile}]))
        await store.annotate(hostile, {"title": 7})
        call = {"type": "function_call", "name": "f", "arguments": "{}"}
        await store.append(Turn("東京", [call, 7, {"role": "user", "content": ""}], turn_id="t"))
        await store.annotate("東京", {"title": "Tower " * 20})
        await store.fork("user/1", "user/2")
        await store.append(Turn("user/2", [{"role": "assistant", "content": "Milan?"}]))


@pytest.fixture
def run(run, tmp_path):
    """Return a function that runs the command on a file with sessions."""
    anyio.run(_fill, tmp_path / "sessions.db")
    return run


def test_sessions_are_one_plain_line_each_in_a_pipe(run):
    lines = run("sessions").lines()
    shown = [re.sub(TIME, "TIME", line) for line in lines]
    assert shown[0] == "user/2             2  TIME"
    assert shown[1].startswith("東京               1  TIME  Tower Tower ")
    assert shown[2] == "\\x1b[31mred\\u202e  1  TIME"
    assert shown[3] == "user/1             1  TIME"
    assert len(lines[1]) > 120
    assert not any("\t" in line for line in lines)


def test_sessions_are_a_table_that_fits_a_terminal(run):
    done = run("sessions", is_terminal=True, COLUMNS="60")
    title, *lines = done.lines()
    assert title == "SESSION            TURNS  LAST CHANGE (UTC)    TITLE"
    assert lines[1].startswith("東京               1    ")
    assert lines[1].endswith("…")
    assert len(lines[1]) + len("東京") == 60
    assert "\x1b" not in done.stdout


def test_sessions_are_json_lines(run):
    newest, *_, oldest = run("sessions", "--json").objects()
    assert list(newest) == [
        *("session_id", "created_at", "updated_at", "revision"),
        *("items", "turns", "metadata", "forked_from"),
    ]
    assert (newest["session_id"], newest["forked_from"]) == ("user/2", "user/1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", oldest["updated_at"])


def test_sessions_are_selected_by_prefix_and_limit(run):
    assert len(run("sessions", "--prefix", "user/").lines()) == 2
    assert len(run("sessions", "--limit", "3").lines()) == 3
    assert run("sessions", "--prefix", "nobody").lines() == []
    done = run("sessions", "--prefix", "nobody", is_terminal=True)
    assert (done.stdout, done.stderr) == ("", "no sessions in sessions.db\n")


def test_more_sessions_than_a_page_are_listed(run, tmp_path):
    async def add():
        async with SqliteSessionStore(tmp_path / "many.db", synchronous="normal") as store:
            for number in range(201):
                await store.append(Turn(f"s{number}", [1]))

    anyio.run(add)
    assert len(run("--db", "many.db", "sessions").lines()) == 201
    assert len(run("--db", "many.db", "sessions", "--limit", "200").lines()) == 200


def test_a_session_is_shown_turn_by_turn(run):
    lines = run("show", "user/2").lines()
    assert lines[0] == "user/2: 2 turns, 2 items, fork of user/1"
    assert re.fullmatch(rf"{TIME}  turn [0-9a-f]{{32}}", lines[2])
    assert lines[3:5] == ["  user       Rome", "              and Milan"]
    assert lines[-1] == "  assistant  Milan?"


def test_items_without_text_are_shown_as_json(run):
    lines = run("show", "東京").lines()
    assert lines[0].startswith("Tower Tower")
    assert lines[0].endswith(" (東京): 1 turn, 3 items")
    assert lines[2].endswith("  turn t")
    assert lines[3:] == [
        '  function_call  {"type":"function_call","name":"f","arguments":"{}"}',
        "  item       7",
        '  user       {"role":"user","content":""}',
    ]


def test_stored_text_cannot_control_the_terminal(run):
    done = run("show", "\x1b[31mred\u202e", is_terminal=True)
    assert "  user       \\x1b[31mred\\u202e\n" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_newest_turns_of_a_session_are_shown_alone(run):
    (turn,) = run("show", "user/2", "--last", "1", "--json").objects()
    assert list(turn) == ["session_id", "turn_id", "created_at", "metadata", "items"]
    assert turn["items"] == [{"role": "assistant", "content": "Milan?"}]


def test_turns_are_found_by_their_words(run):
    first, *others = run("search", "milan").lines()
    assert re.fullmatch(rf"{TIME}  user/2  Milan\?", first)
    assert len(others) == 2
    assert run("search", "ROME", "milan", "--prefix", "user/2").lines()
    (hit,) = run("search", "milan", "--limit", "1", "--json").objects()
    assert list(hit) == ["session_id", "turn_id", "created_at", "excerpt"]
    assert run("search", "nowhere", is_terminal=True).stderr == "no turn contains all these words\n"
    title, _, _, _ = run("search", "milan", is_terminal=True).lines()
    assert title.split() == ["TIME", "(UTC)", "SESSION", "EXCERPT"]


def test_a_search_without_words_is_one_line(run):
    failed(run("search", "--", "-"), "word")
    failed(run("search", ""), "must not be empty", status=2)


def test_an_unknown_session_is_one_line(run):
    failed(run("show", "nobody"), "there is no session nobody")
