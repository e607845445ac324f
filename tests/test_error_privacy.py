"""No error of the library shows the content of a request, a reply or an item.

Each entry point is given a secret in many wrong forms. The secret must appear neither in an error
nor in the errors of this library that are chained to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import pydantic
import pytest

from helpers.layers import memory_over
from helpers.messages import calling, user
from helpers.services import repeat_last
from tower_memory import (
    History,
    InMemorySessionStore,
    ItemCodec,
    LoadSession,
    MemoryLayer,
    RetryLayer,
    RunItem,
    SaveError,
    SaveSession,
    ServiceBuilder,
    SessionError,
    SqliteSession,
    SqliteSessionStore,
    TimeoutLayer,
    Turn,
)
from tower_memory.bridges import AsyncioLayer
from tower_memory.dialects import AnthropicMessages, ChatCompletions, OpenAIResponses, toolkit
from tower_memory.windows import LastItems, LastTurns, Stepped, Summarised, TokenBudget

SECRET = "my secret, 4711"
ANY = "any text"


@dataclass
class Holder:
    role: str
    content: Any


@dataclass
class Annotated:
    """A service that shows by its annotation that it is not async."""

    text: Any

    def __call__(self, *_) -> str:
        return self.text

    ask = __call__


class Model(pydantic.BaseModel):
    role: str
    content: int


class Refusing(msgspec.Struct):
    role: str
    content: Any

    def __post_init__(self):
        if self.content == SECRET:
            raise ValueError(self.content)


WRONG = [
    SECRET,
    SECRET.encode(),
    f"{SECRET}\ud800",
    (SECRET,),
    [SECRET],
    {SECRET},
    {SECRET: SECRET},
    {SECRET: {1}},
    {"text": SECRET},
    {"type": SECRET, "role": 1},
    {"content": SECRET, SECRET: 1},
    {"role": "user", "content": {"text": {SECRET}}},
    {"role": "user", "content": {SECRET: {"text": object()}}},
    {"role": "user", "content": [(SECRET,), SECRET]},
    {"type": "Message", "id": "1", "role": SECRET, "content": SECRET, "created_at": SECRET},
    Holder(SECRET, {SECRET}),
    Holder("user", {SECRET}),
    SimpleNamespace(text=SECRET),
]
"""The secret in forms that are wrong in most places."""

DIALECTS = [ChatCompletions(), AnthropicMessages(), OpenAIResponses()]


def answering(response):
    """Return a model with a fixed reply."""

    async def model(_request):
        return response

    return model


def streaming(*chunks):
    """Return a model whose reply is a stream of *chunks*."""

    async def model(_request):
        async def stream():
            for chunk in chunks:
                yield chunk

        return stream()

    return model


REQUEST = [user(ANY)]


async def call(layer, model=repeat_last, request=REQUEST):
    """Call *model* with memory, and read its reply if that is a stream."""
    reply = await layer(model)(request)
    if hasattr(reply, "__aiter__"):
        async with reply:
            async for _ in reply:
                pass


def given(*items, **parameters):
    """Return a memory layer whose session has *items*."""
    load = answering(History(items))
    return MemoryLayer(
        load, answering(1), session_id="s", store=InMemorySessionStore(), **parameters
    )


async def each_dialect(value, make_request=None, make_response=None):
    """Call a model with a request, or a reply, for each dialect; raise all errors together."""
    errors = []
    for dialect in DIALECTS:
        request = REQUEST if make_request is None else make_request(value)
        response = ANY if make_response is None else make_response(value)
        memory = memory_over(InMemorySessionStore(), dialect=dialect)
        for model in (answering(response), streaming(response)):
            try:
                await call(memory, model, request)
            except Exception as error:
                errors.append(error)
    if errors:
        raise ExceptionGroup(ANY, errors)


async def save_foreign(value):
    """Save with a service of another library, whose error shows the value."""

    async def save(_turn):
        raise ValueError(value)

    await call(MemoryLayer(answering(History()), save, session_id="s", overlap="append"))


async def save_invalid(value):
    """Save with a service that validates the turn with pydantic."""

    async def save(_turn):
        Model(role="user", content=value)

    await call(MemoryLayer(answering(History()), save, session_id="s", overlap="append"))


async def append(value, item_type=Any):
    """Append the value as an item to each store."""
    await InMemorySessionStore(item_type=item_type).append(Turn("s", [value]))


async def append_to_file(value):
    async with SqliteSessionStore.in_memory() as store:
        await store.append(Turn("s", [value]))


async def use_handle(value):
    async with SqliteSession.in_memory("s") as session:
        await session.add_items(value)


def parameter(name):
    """Return an entry point: a memory layer with a wrong parameter *name*."""
    store = InMemorySessionStore()
    rest = {"load": LoadSession(store), "save": SaveSession(store), "session_id": "s"}
    return lambda value: MemoryLayer(**{**rest, name: value})


def request_with(make):
    """Return an entry point: a request that *make* makes of the value, in each dialect."""
    return lambda value: each_dialect(value, make_request=make)


def reply_with(make):
    """Return an entry point: a reply, or a chunk, that *make* makes of the value."""
    return lambda value: each_dialect(value, make_response=make)


STORE = InMemorySessionStore()
SUMMARISED = ("service", "store", "keep", "every", "item", "max_characters", "max_input_tokens")


def summarised(name):
    """Return an entry point: the parameter *name* of a window with a summary."""
    good = {"service": repeat_last, "store": STORE}
    return lambda value: Summarised(**{**good, name: value})


CHAT = ChatCompletions()
CODEC = ItemCodec(RunItem)
ENTRIES = {
    **{
        f"parameter {name}": parameter(name)
        for name in (
            *("load", "save", "dialect", "overlap", "turn_id", "window", "grace", "store"),
            *("metadata", "replaces"),
        )
    },
    "parameter session_id": lambda value: parameter("session_id")([value]),
    "store of a layer": lambda value: MemoryLayer.over(value, session_id="s"),
    "whole_requests": lambda _: memory_over(STORE, dialect=Secretive(), whole_requests=True),
    "service with memory": memory_over(STORE),
    "service with retry": RetryLayer(on=OSError),
    "service with a timeout": TimeoutLayer(1),
    "service of a bridge": AsyncioLayer(),
    "builder": lambda value: ServiceBuilder().layer(value),
    "built service": lambda value: ServiceBuilder().service(value),
    "result of a layer": lambda value: ServiceBuilder().layer(lambda _: value).service(repeat_last),
    "on": lambda value: RetryLayer(on=value),
    "attempts": lambda value: RetryLayer(on=OSError, attempts=value),
    "retry timeout": lambda value: RetryLayer(on=OSError, timeout=value),
    "seconds": TimeoutLayer,
    "LoadSession": LoadSession,
    "limit of LoadSession": lambda value: LoadSession(STORE, limit=value),
    "SaveSession": SaveSession,
    "session of a turn": lambda value: Turn(value, []),
    "items of a turn": lambda value: Turn("s", value),
    "id of a turn": lambda value: Turn("s", [], turn_id=value),
    "revision of a turn": lambda value: Turn("s", [], expected_revision=value),
    "since of a turn": lambda value: Turn("s", [], since=value),
    "replaced turn": lambda value: Turn("s", [], replaces=[value], expected_revision=0),
    "metadata of a turn": lambda value: Turn("s", [], metadata=[value]),
    "a value of the metadata": lambda value: STORE.append(
        Turn("s", [], metadata={"a": [value, {1}]})
    ),
    "erased session": lambda value: STORE.erase(session_id=[value]),
    "erased prefix": lambda value: STORE.erase(prefix=[value]),
    "erased revision": lambda value: STORE.erase(session_id="s", expected_revision=value),
    "inactive_since": lambda value: STORE.erase(prefix=ANY, inactive_since=value),
    "before": lambda value: STORE.load("s", before=[value]),
    "load": STORE.load,
    "limit": lambda value: STORE.load("s", limit=value),
    "pop": STORE.pop,
    "clear": STORE.clear,
    "append": append,
    "append to a file": append_to_file,
    "append a run item": lambda value: append(value, RunItem),
    "append a Refusing": lambda value: append(value, Refusing),
    "encode": lambda value: CODEC.encode([value], "s"),
    "decode": lambda value: CODEC.decode(msgspec.json.encode(value)),
    "handle": lambda value: SqliteSession([value], ":memory:"),
    "add_items": use_handle,
    "busy_timeout": lambda value: SqliteSessionStore(ANY, busy_timeout=value),
    "synchronous": lambda value: SqliteSessionStore(ANY, synchronous=value),
    "hot_bytes": lambda value: SqliteSessionStore(ANY, hot_bytes=value),
    "result of session_id": lambda value: call(
        memory_over(InMemorySessionStore(), session_id=lambda _: value)
    ),
    "result of turn_id": lambda value: call(given(turn_id=lambda _: value)),
    "result of replaces": lambda value: call(given(replaces=lambda _: [value])),
    "a pair as the result of replaces": lambda value: call(given(replaces=lambda _: (1, value))),
    "result of metadata": lambda value: call(given(metadata=lambda *_: value)),
    "a field of the metadata": lambda value: call(given(metadata=lambda *_: {"field": value})),
    "request": request_with(lambda value: value),
    "request of one": request_with(lambda value: [value]),
    "messages": request_with(lambda value: {"messages": value}),
    "a message": request_with(lambda value: {"messages": [value]}),
    "input": request_with(lambda value: {"input": value}),
    "an input": request_with(lambda value: {"input": [value]}),
    "content": request_with(lambda value: [user(value)]),
    "field": request_with(lambda value: [{**user(ANY), "field": value}]),
    "tool call": request_with(lambda value: [user(ANY), {**calling("1"), "tool_calls": [value]}]),
    "whole request": lambda value: call(
        given(user(ANY), whole_requests=True), request=[user(value), user(ANY)]
    ),
    "reply": reply_with(lambda value: value),
    "choices": reply_with(lambda value: {"choices": value}),
    "a choice": reply_with(lambda value: {"choices": [value]}),
    "message of a choice": reply_with(lambda value: {"choices": [{"message": value}]}),
    "delta of a choice": reply_with(lambda value: {"choices": [{"index": 0, "delta": value}]}),
    "reply messages": reply_with(lambda value: {"messages": value}),
    "reply content": reply_with(lambda value: {"role": "assistant", "content": value}),
    "output": reply_with(lambda value: {"output": value}),
    "an output": reply_with(lambda value: {"output": [value]}),
    "completed output": reply_with(
        lambda value: {"type": "response.completed", "response": {"output": [value]}}
    ),
    "history": lambda value: call(
        MemoryLayer(answering(value), answering(1), session_id="s", store=STORE)
    ),
    "an item of the history": lambda value: call(given(value)),
    "class of the messages": lambda value: CHAT.with_history(
        [Model(role="user", content=1)], [user(value)]
    ),
    "Struct of the messages": lambda value: CHAT.with_history(
        [Refusing("user", 1)], [{**user(value), "text": value}]
    ),
    "result of a window": lambda value: call(given(window=answering(value))),
    "an item of a window": lambda value: call(given(window=answering([value]))),
    "LastItems": LastItems,
    "LastTurns": LastTurns,
    "TokenBudget": TokenBudget,
    "Stepped": Stepped,
    "step of Stepped": lambda value: Stepped(LastTurns(2), by=value),
    **{f"{name} of Summarised": summarised(name) for name in SUMMARISED},
    "error of a save": save_foreign,
    "invalid turn": save_invalid,
    "save that is not async": lambda value: call(
        MemoryLayer(answering(History()), lambda _: value, session_id="s", overlap="append")
    ),
    "arguments of a service": lambda value: TimeoutLayer(1)(partial(Annotated(value).ask, value)),
    "attributes of a service": lambda value: TimeoutLayer(1)(Annotated(value)),
    "result of a service": lambda value: call(memory_over(STORE), partial(Holder, value)),
    "save behind which there is no store": lambda value: MemoryLayer(
        answering(1), partial(repeat_last, value), session_id="s"
    ),
    "service that is not async": lambda value: call(memory_over(STORE), lambda _: value),
    "request_messages": toolkit.request_messages,
    "check_chat_messages": lambda value: toolkit.check_chat_messages([value], "messages"),
}


class Secretive:
    """A dialect whose repr shows content."""

    new_items = with_history = reply_items = staticmethod(repeat_last)

    def __repr__(self):
        return SECRET


def errors_of(error):
    """Return *error* and the errors that are chained to it, also those of a group."""
    if error is None:
        return []
    parts = error.exceptions if isinstance(error, ExceptionGroup) else ()
    chained = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return [error, *errors_of(chained), *(each for part in parts for each in errors_of(part))]


def is_foreign(error):
    """Return True if code outside this library raised *error*; its text is not ours."""
    traceback = error.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals["__name__"]
    return not isinstance(error, SessionError) and not module.startswith("tower_memory")


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
async def test_no_error_shows_content(entry):
    """The errors name parameters, places and types; the attributes have the content."""
    raised = []
    for value in WRONG:
        try:
            result = entry(value)
            if hasattr(result, "__await__"):
                await result
        except Exception as error:
            raised += errors_of(error)

    own = [error for error in raised if not is_foreign(error)]
    assert own
    for error in own:
        assert SECRET not in f"{error} {error!r}"


async def test_the_error_of_another_library_is_chained_and_not_quoted():
    """The message of a SaveError names the class of its cause, which has the details."""
    with pytest.raises(SaveError, match="may not be saved: ValidationError$") as caught:
        await save_invalid(SECRET)
    assert SECRET in str(caught.value.__cause__)


@pytest.mark.parametrize("key", ["any key", "k" * 41, "", "4711"])
def test_a_key_that_may_be_content_is_named_by_its_position(key):
    """A short identifier is shown."""
    for item, where in [
        ({"first": 1, key: {"x": {1}}}, "items[0][key 1].x"),
        ({"k" * 40: {1}}, f"items[0].{'k' * 40}"),
    ]:
        with pytest.raises(SessionError) as caught:
            ItemCodec(Any).encode([item], "s")
        assert caught.value.where == where


def test_the_shape_of_a_mapping_leaves_out_keys_that_may_be_content():
    """Only the keys that are short identifiers are shown."""
    assert toolkit.describe_shape({"id": 1, SECRET: 2, 3: 4}) == "dict with id"
    assert toolkit.describe_shape({SECRET: 2}) == "dict"
