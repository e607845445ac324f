"""Fixtures of the tests with real clients."""

from __future__ import annotations

import pytest

from helpers.servers import scripted_server
from tower_memory import InMemorySessionStore


@pytest.fixture
def server():
    with scripted_server() as server:
        yield server


@pytest.fixture
def store():
    return InMemorySessionStore()
