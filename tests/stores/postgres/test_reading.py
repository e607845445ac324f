"""Reads in steps that share one connection."""

from __future__ import annotations

import pytest

from helpers.postgres_internals import Link, Patience, Read, prepare

PATIENCE = 5.0


def count_to_three(connection):
    """Count to three, each number by a statement of its own."""
    number = 0
    while number < 3:
        number += connection.execute("SELECT 1").fetchone()[0]
        yield
    return number


def begin(link):
    """Begin a read, and do its first step."""
    steps = Read(count_to_three, Patience(PATIENCE, 0.0))(link)
    next(steps)
    return steps


def finish(steps):
    """Do the other steps of a read; return its result, and their number."""
    taken = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, taken
        taken += 1


@pytest.fixture
def link(tables_url):
    link = Link(tables_url, "public", prepare)
    yield link
    link.drop()


def test_a_read_that_lost_its_connection_leaves_the_next_one_to_other_reads(
    link, postgres_server, tables_url
):
    first, second = begin(link), begin(link)
    postgres_server.terminate_backends(tables_url)
    next(first)  # meets the fault
    third = begin(link)  # opens the next connection
    next(second)  # meets the fault, too

    assert finish(third) == (3, 2)
    assert finish(first) == finish(second) == (3, 3)
