"""The progress of a long migration in the log, and the command's line that shows it."""

from __future__ import annotations

import io
import logging

import pytest

from helpers.internals import ProgressLine, show_progress
from helpers.schema1 import old_file
from helpers.sqlite_internals import (
    WATCH_INTERVAL,
    log_each_report,
    log_progress,
    open_prepared,
)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.INFO, logger="tower_memory")
    return caplog


def test_nothing_is_logged_in_the_first_second(clock, logged):
    report = log_progress("sessions.db", "migrating to schema 2", clock)
    for clock.now, lines in ((0.0, 0), (0.999, 0), (1.0, 1)):
        report(100, 200)
        assert len(logged.records) == lines


def test_progress_is_logged_at_most_once_a_second(clock, logged):
    report = log_progress("sessions.db", "migrating to schema 2", clock)
    for clock.now, done in ((1.0, 41), (1.9, 60), (2.5, 83), (3.4, 99)):
        report(done, 200)
    assert [record.getMessage() for record in logged.records] == [
        "sessions.db: migrating to schema 2: 20 %",
        "sessions.db: migrating to schema 2: 41 %",
    ]
    assert [(record.levelname, record.progress) for record in logged.records] == [
        ("INFO", 0.205),
        ("INFO", 0.415),
    ]


def test_a_migration_reports_to_the_log(path, logged, monkeypatch):
    """Here every report is logged, as if a second had passed."""
    rows = 2 * WATCH_INTERVAL
    old_file(path, ("s", [b"1"] * rows, "t1"))
    log_each_report(monkeypatch)
    open_prepared(path).close()
    assert [record.getMessage() for record in logged.records] == [
        "sessions.db: migrating to schema 2: 0 %",
        "sessions.db: migrating to schema 2: 50 %",
    ]


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_the_command_rewrites_one_line_and_ends_it(clock):
    screen = Screen()
    with show_progress(screen):
        report = log_progress("sessions.db", "migrating to schema 2", clock)
        for clock.now, done in ((1.0, 41), (2.0, 83)):
            report(done, 200)
    assert screen.getvalue() == (
        "\r[####................] sessions.db: migrating to schema 2: 20 %\r[########............] sessions.db: migrating to schema 2: 41 %\n"
    )


def test_the_command_shows_other_records_on_lines_of_their_own(clock):
    screen = Screen()
    with show_progress(screen):
        report = log_progress("sessions.db", "migrating to schema 2", clock)
        clock.now = 1.0
        report(41, 200)
        logging.getLogger("tower_memory").warning("a stream was not closed")
        logging.getLogger("tower_memory").warning("another")
    assert screen.getvalue() == (
        "\r[####................] sessions.db: migrating to schema 2: 20 %\n"
        "tower_memory: a stream was not closed\ntower_memory: another\n"
    )


def test_without_a_migration_the_command_shows_nothing():
    screen = Screen()
    with show_progress(screen):
        pass
    assert screen.getvalue() == ""


@pytest.mark.parametrize("stream", [io.StringIO(), None], ids=["file", "closed"])
def test_without_a_terminal_the_command_attaches_no_handler(stream):
    logger = logging.getLogger("tower_memory")
    with show_progress(stream):
        assert not any(isinstance(handler, ProgressLine) for handler in logger.handlers)


def test_the_command_leaves_the_logger_as_it_was():
    logger = logging.getLogger("tower_memory")
    before = [*logger.handlers], logger.level
    with show_progress(Screen()):
        assert logger.isEnabledFor(logging.INFO)
    assert ([*logger.handlers], logger.level) == before
