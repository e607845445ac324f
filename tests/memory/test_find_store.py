"""The store of a memory layer: given, found behind the save service, or missed before any call."""

from __future__ import annotations

import functools

import pytest

from helpers.layers import memory_over
from helpers.messages import assistant, user
from helpers.services import repeat_last
from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    RetryLayer,
    SaveSession,
    TimeoutLayer,
)
from tower_memory.bridges import AsyncioLayer


def decorated(save):
    """Return *save* behind a decorator that notes what it wraps."""

    @functools.wraps(save.__call__)
    async def call(turn):
        return await save(turn)

    return call


def closed_over(inner):
    """Return a function around *inner* that does not note what it wraps."""

    async def call(turn):
        return await inner(turn)

    return call


WRAPPERS = {
    "the service": lambda save: save,
    "its bound method": lambda save: save.__call__,
    "the store's method": lambda save: save.store.append,
    "a timeout": TimeoutLayer(1),
    "a retry": RetryLayer(on=OSError),
    "a bridge": AsyncioLayer(),
    "two layers": lambda save: TimeoutLayer(1)(RetryLayer(on=OSError)(save)),
    "a decorator": decorated,
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
async def test_the_store_is_found_behind_the_save_service(store, wrap):
    layer = MemoryLayer(LoadSession(store), wrap(SaveSession(store)), session_id="s")
    assert layer.store is store


class Announced:
    """A store around another one; it is a store of its own unless it says that they are equal."""

    def __init__(self, store):
        self.store = store
        self.load, self.append = store.load, store.append
        self.pop, self.clear = store.pop, store.clear


async def test_a_store_around_another_store_is_the_store_that_is_found(store):
    outer = Announced(store)
    assert memory_over(outer).store is outer


@pytest.mark.parametrize("overlap", ["serialize", "reject"])
async def test_a_layer_whose_store_is_not_visible_is_refused(store, overlap):
    save = closed_over(SaveSession(store))
    with pytest.raises(
        TypeError,
        match=f"overlap='{overlap}' needs the store whose sessions it locks, and none is visible "
        "behind save=closed_over > SaveSession.*; pass store=, or overlap='append'",
    ):
        MemoryLayer(LoadSession(store), save, session_id="s", overlap=overlap)


async def test_a_layer_that_locks_nothing_needs_no_store(store):
    save = closed_over(SaveSession(store))
    layer = MemoryLayer(LoadSession(store), save, session_id="s", overlap="append")
    assert await layer(repeat_last)([user("a")]) == "re: a"
    assert layer.store is None
    assert await store.load("s") == [user("a"), assistant("re: a")]
    assert "MemoryLayer(<function closed_over" in repr(layer)


async def test_a_given_store_is_the_one_whose_sessions_are_locked(store):
    save = closed_over(SaveSession(store))
    layer = MemoryLayer(LoadSession(store), save, session_id="s", store=store)
    assert layer.store is store
    assert await layer(repeat_last)([user("a")]) == "re: a"
    assert await store.load("s") == [user("a"), assistant("re: a")]


async def test_a_given_store_that_is_none_is_refused(store):
    with pytest.raises(TypeError, match="store must have load, append, pop and clear, got str"):
        MemoryLayer(LoadSession(store), SaveSession(store), session_id="s", store="a.db")


async def test_a_layer_over_a_store_loads_from_it_and_saves_to_it(store):
    layer = MemoryLayer.over(store, session_id="s", turn_id=lambda _: "t")
    assert await layer(repeat_last)([user("a")]) == "re: a"
    assert layer == MemoryLayer(
        LoadSession(store), SaveSession(store), session_id="s", turn_id=layer.turn_id
    )
    assert (await store.load("s")).turn("t") == (user("a"), assistant("re: a"))


def test_a_layer_over_something_else_than_a_store_is_refused():
    with pytest.raises(TypeError, match="store must have load, append, pop and clear"):
        MemoryLayer.over(InMemorySessionStore, session_id=3)
