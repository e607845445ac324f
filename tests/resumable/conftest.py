"""A resumable layer over the memory of one session, and a model whose streams a test feeds."""

from __future__ import annotations

import pytest

from helpers.feeds import FedModel, generated, resumable_layer, turn_id_of
from tower_memory import InMemorySessionStore, MemoryLayer


@pytest.fixture
def store():
    return InMemorySessionStore()


@pytest.fixture
def memory(store):
    return MemoryLayer.over(
        store, session_id="s", turn_id=turn_id_of, keep_interrupted=True, journal=True
    )


@pytest.fixture(params=[None, generated], ids=["iterator", "generator"])
def model(request):
    return FedModel(request.param)


@pytest.fixture
async def layer():
    async with resumable_layer(exit_seconds=0) as layer:
        yield layer


@pytest.fixture
def chat(layer, memory, model):
    return layer(memory(model))
