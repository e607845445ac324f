"""Fixtures of the tests with real clients."""

from __future__ import annotations

import gc
import os

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


@pytest.fixture(scope="session")
def litellm():
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # fetch nothing from the network
    import litellm

    gc.freeze()  # see tests/conftest.py
    return litellm
