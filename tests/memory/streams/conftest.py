"""Fixtures of the stream tests."""

from __future__ import annotations

import gc

import anyio
import pytest

from helpers.locks import assert_no_lock_is_left
from tower_memory import InMemorySessionStore, SqliteSessionStore


@pytest.fixture(params=["in memory", "sqlite"])
async def store(request):
    if request.param == "in memory":
        yield InMemorySessionStore()
    else:
        async with SqliteSessionStore.in_memory() as store:
            yield store


@pytest.fixture(autouse=True)
async def no_lock_is_left_behind(anyio_backend):
    yield
    gc.collect()
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    assert_no_lock_is_left()
