"""Errors of connecting, which have no SQLSTATE: the refusals are recognised by their text."""

from __future__ import annotations

import psycopg
import pytest

from helpers.postgres_internals import faults

PASSING = [
    'connection to server at "10.0.0.1", port 5432 failed: Connection refused',
    "FATAL:  the database system is starting up",
    "FATAL:  das Datenbanksystem startet",
    "FATAL:  sorry, too many clients already",
    "FATAL:  server login has been failing, try again later (server_login_retry)",
    "FATAL:  terminating connection due to administrator command\nserver closed the connection",
    'could not translate host name "db" to address: Temporary failure in name resolution',
    "server closed the connection unexpectedly",
]

REFUSING = [
    'FATAL:  password authentication failed for user "me"',
    'FATAL:  Peer authentication failed for user "me"',
    "fe_sendauth: no password supplied",
    'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "me", database "chat", no encryption',
    'FATAL:  pg_hba.conf rejects connection for host "10.0.0.1", user "me", database "chat"',
    'FATAL:  database "chat" does not exist',
    'FATAL:  role "me" does not exist',
    "FATAL:  no such database: chat",
    'FATAL:  permission denied for database "chat"',
    'FATAL:  role "me" is not permitted to log in',
]


@pytest.mark.parametrize("text", PASSING)
def test_a_connection_is_tried_again_if_the_fault_may_pass(text):
    error = psycopg.OperationalError(text)
    assert faults.may_pass(error)
    assert faults.is_lost(error)


@pytest.mark.parametrize("text", REFUSING)
def test_a_refused_user_or_database_is_not_tried_again(text):
    assert not faults.may_pass(psycopg.OperationalError(text))


def test_an_error_of_the_driver_itself_is_not_tried_again():
    assert not faults.may_pass(psycopg.ProgrammingError("the cursor has no result"))


def test_the_text_of_a_fault_is_one_line():
    error = psycopg.OperationalError("connection failed\n  is it running?\n")
    assert faults.text_of_fault(error) == "connection failed is it running?"


@pytest.mark.parametrize(
    ("state", "is_possible"),
    [
        *((state, True) for state in ("08006", "57P01", "40003", "XX000")),
        *((state, False) for state in ("40001", "40P01", "53100", "23505")),
    ],
)
def test_a_fault_of_a_commit_tells_whether_it_may_have_succeeded(state, is_possible):
    assert faults.may_have_committed(psycopg.errors.lookup(state)()) is is_possible


def test_a_commit_without_an_answer_may_have_succeeded():
    assert faults.may_have_committed(psycopg.OperationalError("no answer"))
