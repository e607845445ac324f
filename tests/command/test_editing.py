"""Titles, forks and erasures."""

from __future__ import annotations

import sqlite3

import pytest

from helpers.commands import failed


@pytest.fixture
def run(run):
    """Return a function that runs the command on a file with three sessions."""
    for name in ("user/1", "user/2", "other"):
        run("--session", name, said="Hi\nHo\n").lines()
    return run


def ids(run):
    return [session["session_id"] for session in run("sessions", "--json").objects()]


def test_a_title_is_set_and_removed(run):
    assert run("title", "user/1", "Rome").lines() == []
    assert run("show", "user/1").lines()[0] == "Rome (user/1): 2 turns, 4 items"
    run("title", "user/1", "").lines()
    assert run("show", "user/1").lines()[0] == "user/1: 2 turns, 4 items"
    failed(run("title", "nobody", "Rome"), "there is no session nobody")


def test_a_session_is_forked(run):
    assert run("fork", "user/1", "copy").lines() == ["copied user/1 to copy: 2 turns, 4 items"]
    _, turn = run("show", "user/1", "--json").objects()
    done = run("fork", "user/1", "part", "--before", turn["turn_id"], "--json")
    (info,) = done.objects()
    assert (info["turns"], info["forked_from"]) == (1, "user/1")
    failed(run("fork", "user/1", "copy"), "exists already")
    failed(run("fork", "user/1", "new", "--before", "x"), "does not hold the turn")
    failed(run("fork", "nobody", "new"), "does not exist")


def test_sessions_are_erased_by_id_by_prefix_or_all(run):
    done = run("erase", "user/1", "user/1", "--yes")
    assert done.lines() == ["erased 1 session, 2 turns, 4 items"]
    assert ids(run) == ["other", "user/2"]
    numbers = {"sessions": 1, "turns": 2, "items": 4}
    assert run("erase", "--prefix", "user/", "--yes", "--json").objects() == [numbers]
    assert run("erase", "--all", "--yes").lines() == ["erased 1 session, 2 turns, 4 items"]
    assert ids(run) == []
    assert run("erase", "--all", "--yes").lines() == ["erased 0 sessions, 0 turns, 0 items"]


def test_an_unknown_session_is_not_erased_and_neither_are_the_others(run):
    failed(run("erase", "user/1", "nobody", "--yes"), "there is no session nobody")
    assert len(ids(run)) == 3


def test_without_a_terminal_an_erasure_needs_yes(run):
    failed(run("erase", "--all"), "--yes", "nothing was erased")
    assert len(ids(run)) == 3


@pytest.mark.parametrize("answer", ["y\n", "Yes\n"])
def test_an_erasure_asks_on_a_terminal(run, answer):
    done = run("erase", "--prefix", "user/", said=answer, is_terminal=True)
    assert done.stderr.startswith("Erase 2 sessions with 4 turns from sessions.db for good? [y/N] ")
    assert done.returncode == 0
    assert ids(run) == ["other"]


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "yess\n"])
def test_any_other_answer_erases_nothing(run, answer):
    done = run("erase", "user/1", said=answer, is_terminal=True)
    assert "Erase session user/1 with 2 turns" in done.stderr
    assert done.stderr.endswith("nothing was erased\n")
    assert done.returncode == 1
    assert len(ids(run)) == 3


def test_only_inactive_sessions_are_erased(run, tmp_path):
    connection = sqlite3.connect(tmp_path / "sessions.db")
    connection.execute("UPDATE memory_head SET updated_at = 0 WHERE session_id LIKE 'user/%'")
    connection.commit()
    connection.close()
    inactive = ("--inactive-days", "30", "--yes")
    assert run("erase", "other", *inactive).lines() == ["erased 0 sessions, 0 turns, 0 items"]
    assert run("erase", "user/2", *inactive).lines() == ["erased 1 session, 2 turns, 4 items"]
    assert run("erase", "--all", *inactive).lines() == ["erased 1 session, 2 turns, 4 items"]
    assert ids(run) == ["other"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["erase"],
        ["erase", "a", "--all"],
        ["erase", "--prefix", "a", "--all"],
        ["erase", "--prefix", ""],
        ["erase", "--all", "--inactive-days", "-1"],
        ["erase", "--all", "--inactive-days", "nan"],
        ["erase", "--all", "--inactive-days", "soon"],
        ["erase", "--al", "--yes"],
        ["export", "a", "--all"],
        ["sessions", "--limit", "0"],
        ["sessions", "--model", "m"],
        ["--model", "m", "sessions"],
        ["frobnicate"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_one_line_and_change_nothing(run, arguments):
    failed(run(*arguments), "(see --help)", status=2)
    assert len(ids(run)) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["sessions"],
        ["show", "a"],
        ["search", "a"],
        ["title", "a", "b"],
        ["fork", "a", "b"],
        ["export"],
        ["erase", "--all", "--yes"],
        ["scrub"],
        ["backup", "b"],
        ["check"],
    ],
    ids=" ".join,
)
def test_no_command_creates_a_missing_file(run, tmp_path, arguments):
    failed(run(*arguments, "--db", "missing.db"), "there is no file missing.db", "--db")
    assert not (tmp_path / "missing.db").exists()
