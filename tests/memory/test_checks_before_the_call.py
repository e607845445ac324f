"""Errors that the memory layer raises before it calls the model."""

from __future__ import annotations

from functools import wraps

import pytest

from helpers.layers import memory_over
from helpers.messages import user
from helpers.services import must_not_be_called, repeat_last
from tower_memory import (
    CorruptSessionError,
    History,
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    RunItem,
    SaveSession,
    TimeoutLayer,
    UnencodableItemError,
)
from tower_memory.dialects import ChatCompletions
from tower_memory.windows import LastTurns


async def test_a_load_that_returns_no_history_raises_before_the_model_call():
    async def load(_session_id):
        return []

    for overlap in ("append", "reject"):
        layer = MemoryLayer(
            load, repeat_last, session_id="s", overlap=overlap, store=InMemorySessionStore()
        )
        with pytest.raises(TypeError, match="load must give a History, got list"):
            await layer(must_not_be_called)([user("a")])


async def test_an_invalid_revision_raises_before_the_model_call():
    async def load(_session_id):
        return History(revision=2**64)

    layer = MemoryLayer(load, repeat_last, session_id="s", store=InMemorySessionStore())
    with pytest.raises(ValueError, match="the revision of the history"):
        await layer(must_not_be_called)([user("a")])


async def test_an_item_of_another_type_than_the_stores_raises_before_the_model_call():
    store = InMemorySessionStore(item_type=RunItem)
    with pytest.raises(UnencodableItemError, match=r"items\[0\]"):
        await memory_over(store)(must_not_be_called)([user("a")])


async def test_a_request_item_that_cannot_be_stored_is_refused_before_the_model_is_called(store):
    with pytest.raises(UnencodableItemError) as caught:
        await memory_over(store)(must_not_be_called)([user("a"), user(float("nan"))])
    assert (caught.value.session_id, caught.value.where) == ("s", "items[1].content")


async def test_a_request_item_that_contains_itself_is_refused_before_the_model_is_called(store):
    content = []
    content.append(content)
    with pytest.raises(UnencodableItemError, match="contains itself"):
        await memory_over(store)(must_not_be_called)([user(content)])


@pytest.mark.parametrize("request_", [None, "text", {"prompt": "Hi"}, [], {"messages": "Hi"}, [1]])
async def test_a_request_the_dialect_cannot_read_is_refused_before_the_model_is_called(
    store, request_
):
    with pytest.raises((TypeError, ValueError), match="request"):
        await memory_over(store)(must_not_be_called)(request_)


async def test_a_session_that_cannot_be_loaded_raises_before_the_model_call():
    async def load(session_id):
        raise CorruptSessionError(session_id, row=3, reason="torn")

    layer = MemoryLayer(load, SaveSession(InMemorySessionStore()), session_id="s")
    with pytest.raises(CorruptSessionError):
        await layer(must_not_be_called)([user("a")])


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"session_id": ""}, ValueError, "session_id must not be empty"),
        ({"session_id": None}, TypeError, "session_id must be a string, got None"),
        ({"overlap": "wait"}, ValueError, "overlap must be one of .*, got 'wait'"),
        ({"grace": -1}, ValueError, "grace must be 0 or more seconds, got -1"),
        ({"grace": "1"}, TypeError, "grace must be a number"),
        ({"turn_id": "t"}, TypeError, "turn_id must be a plain function of the request, got str"),
        ({"turn_id": repeat_last}, TypeError, "turn_id must be a plain function"),
        ({"session_id": repeat_last}, TypeError, "session_id must be a plain function"),
        ({"dialect": ChatCompletions}, TypeError, r"such as ChatCompletions\(\), got <class"),
        ({"dialect": "chat"}, TypeError, "dialect must have new_items, .*, got str"),
        ({"window": LastTurns}, TypeError, r"such as LastTurns\(20\), got <class"),
    ],
)
def test_bad_parameters_are_refused_by_name(parameters, error, message):
    with pytest.raises(error, match=message):
        memory_over(InMemorySessionStore(), **parameters)


def test_load_and_save_that_are_no_services_are_refused_by_name():
    store = InMemorySessionStore()
    with pytest.raises(TypeError, match="load must be a service, such as LoadSession"):
        MemoryLayer(store, SaveSession(store), session_id="s")
    with pytest.raises(TypeError, match="save must be a service"):
        MemoryLayer(LoadSession(store), store, session_id="s")


def delegating(inner):
    """Wrap *inner* as `functools.wraps` does."""

    @wraps(inner)
    async def call(argument):
        return await inner(argument)

    return call


@pytest.mark.parametrize("layer", [TimeoutLayer(1), delegating, lambda inner: inner.__call__])
def test_a_load_and_a_save_that_are_swapped_are_refused(layer):
    """The error names the parameter that gives them away; layers around it are looked through."""
    store = InMemorySessionStore()
    load, save = LoadSession(store), SaveSession(store)
    with pytest.raises(TypeError, match="load and save are swapped: load is a SaveSession"):
        MemoryLayer(layer(save), load, session_id="s")
    with pytest.raises(TypeError, match="load and save are swapped: save is a LoadSession"):
        MemoryLayer(repeat_last, layer(load), session_id="s")


@pytest.mark.parametrize(("bad", "error"), [(None, TypeError), ("", ValueError)])
async def test_a_bad_id_from_a_function_is_refused_before_the_model_is_called(store, bad, error):
    with pytest.raises(error, match="session_id"):
        await memory_over(store, session_id=lambda _: bad)(must_not_be_called)([user("a")])
    with pytest.raises(error, match="turn_id"):
        await memory_over(store, turn_id=lambda _: bad)(must_not_be_called)([user("a")])
