"""Metadata that the memory layer stores with a turn."""

from __future__ import annotations

import pickle

import pytest

from helpers.layers import memory_over
from helpers.messages import assistant, user
from helpers.services import Boom, repeat_last
from helpers.streams import TextStream, raise_boom, read_all, read_until_it_fails, stream_last
from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    SaveError,
    SessionConflict,
    Turn,
    UnencodableItemError,
)

SECRET = "my secret, 4711"


async def metadata_of(store):
    return [dict(turn.metadata) for turn in (await store.load("s")).turns]


async def test_the_function_gets_the_request_and_the_response_and_its_result_is_stored(store):
    def model_and_length(request, response):
        return {"model": request["model"], "usage": {"characters": len(response)}}

    async def model(request):
        return await repeat_last(request["messages"])

    service = memory_over(store, metadata=model_and_length)(model)
    await service({"model": "large", "messages": [user("a")]})
    await service({"model": "small", "messages": [user("bcd")]})
    assert await metadata_of(store) == [
        {"model": "large", "usage": {"characters": 5}},
        {"model": "small", "usage": {"characters": 7}},
    ]


async def test_the_function_gets_the_request_as_the_caller_made_it(store):
    given = []

    async def model(messages):
        return await repeat_last(messages)

    service = memory_over(
        store, whole_requests=True, metadata=lambda request, _: given.append(list(request))
    )(model)
    conversation = [user("a")]
    await service(conversation)
    conversation += [assistant("re: a"), user("b")]
    await service(conversation)
    assert given == [[user("a")], [user("a"), assistant("re: a"), user("b")]]


@pytest.mark.parametrize("result", [None, {}])
async def test_a_result_without_keys_stores_none(store, result):
    await memory_over(store, metadata=lambda *_: result)(repeat_last)([user("a")])
    assert await metadata_of(store) == [{}]


async def test_the_function_gets_the_chunks_of_a_stream(store):
    def count(_request, response):
        return {"chunks": len(response.chunks), "interrupted": response.interrupted}

    service = memory_over(store, metadata=count, keep_interrupted=True)(stream_last)
    await read_all(await service([user("a")]))
    async with await service([user("b")]) as stream:
        await anext(stream)
    assert await metadata_of(store) == [
        {"chunks": 5, "interrupted": False},
        {"chunks": 1, "interrupted": True},
    ]


async def test_the_function_is_not_called_for_a_turn_that_is_not_saved(store):
    def fail(_request, _response):
        pytest.fail("there is no turn")

    async def model(_messages):
        raise Boom

    async def streaming(_messages):
        return TextStream("", raise_boom)

    with pytest.raises(Boom):
        await memory_over(store, metadata=fail)(model)([user("a")])
    service = memory_over(store, metadata=fail, keep_interrupted=True)(streaming)
    await read_until_it_fails(await service([user("a")]))
    assert await store.load("s") == []


async def test_metadata_that_its_function_changes_later_are_stored_as_they_were_returned():
    store = InMemorySessionStore()
    usage = {"calls": [1]}

    async def save(turn):
        usage["calls"].append(2)
        return await store.append(turn)

    layer = MemoryLayer(
        LoadSession(store), save, session_id="s", store=store, metadata=lambda *_: usage
    )
    await layer(repeat_last)([user("a")])
    assert await metadata_of(store) == [{"calls": [1]}]


def raising(_request, _response):
    raise Boom(SECRET)


BAD = {
    "it raises": (raising, Boom, "Boom"),
    "no mapping": (
        lambda *_: SECRET,
        TypeError,
        r"the result of metadata.request, response. must be a mapping .*, or None, got str",
    ),
    "a number that JSON cannot hold": (
        lambda *_: {"cost": {"euro": float("nan")}},
        UnencodableItemError,
        r"metadata\.cost\.euro cannot be stored",
    ),
    "a key that JSON cannot hold": (
        lambda *_: {3: SECRET},
        UnencodableItemError,
        "metadata, a key cannot be stored",
    ),
    "a set": (
        lambda *_: {SECRET: {SECRET}},
        UnencodableItemError,
        r"metadata\[key 0\] cannot be stored",
    ),
}
every_bad_result = pytest.mark.parametrize(("bad", "cause", "message"), BAD.values(), ids=BAD)


async def check_lost_metadata(store, error, response, cause):
    """Check that *error* has the reply and the turn without metadata, which can be saved."""
    assert error.response == response
    assert isinstance(error.__cause__, cause)
    assert SECRET not in str(error)
    assert error.turn.metadata is None
    assert await store.load("s") == []

    await store.append(error.turn)
    assert await store.load("s") == error.turn.items
    assert await metadata_of(store) == [{}]


@every_bad_result
async def test_metadata_that_cannot_be_made_or_stored_lose_neither_reply_nor_turn(
    store, bad, cause, message
):
    service = memory_over(store, metadata=bad, turn_id=lambda _: "t")(repeat_last)
    with pytest.raises(SaveError, match=message) as caught:
        await service([user("a")])
    assert caught.value.turn.turn_id == "t"
    assert caught.value.turn.items == (user("a"), assistant("re: a"))
    await check_lost_metadata(store, caught.value, "re: a", cause)


@every_bad_result
async def test_metadata_of_a_stream_that_cannot_be_stored_raise_in_place_of_its_end(
    store, bad, cause, message
):
    stream = await memory_over(store, metadata=bad)(stream_last)([user("a")])
    with pytest.raises(SaveError, match=message) as caught:
        await read_all(stream)
    assert caught.value.response.chunks == tuple("re: a")
    await check_lost_metadata(store, caught.value, caught.value.response, cause)


async def test_a_turn_that_replaces_another_has_its_own_metadata(store):
    await store.append(Turn("s", [user("a")], turn_id="t1", metadata={"model": "old"}))
    layer = memory_over(store, replaces=lambda _: "t1", metadata=lambda *_: {"model": "new"})
    await layer(repeat_last)([user("a")])
    assert await metadata_of(store) == [{"model": "new"}]


async def test_a_refused_turn_has_its_metadata_on_the_error(store):
    async def model(messages):
        await store.append(Turn("s", [user("between")]))
        return await repeat_last(messages)

    layer = memory_over(store, overlap="reject", metadata=lambda *_: {"model": "large"})
    with pytest.raises(SessionConflict) as caught:
        await layer(model)([user("a")])
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.turn.metadata == {"model": "large"}
    assert error.turn == caught.value.turn


@pytest.mark.parametrize("bad", [{"model": "large"}, repeat_last])
def test_a_parameter_that_is_no_plain_function_is_refused(bad):
    store = InMemorySessionStore()
    message = "metadata must be a plain function of the request and the response"
    with pytest.raises(TypeError, match=message):
        memory_over(store, metadata=bad)
    with pytest.raises(TypeError, match=message):
        MemoryLayer.over(store, session_id="s", metadata=bad)
