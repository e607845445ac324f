# pyright: strict
"""The types of the public names. Checked by mypy and pyright, never executed.

A line with an ignore comment must be an error: both checkers report a comment without use.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, assert_type

import agents
import openai
import stamina

from tower_memory import (
    Erasure,
    History,
    InMemorySessionStore,
    Layer,
    LoadSession,
    MemoryLayer,
    Message,
    MessageItem,
    RetryLayer,
    RunItem,
    SaveSession,
    ScopedStore,
    Service,
    ServiceBuilder,
    Session,
    SessionCleared,
    SessionErasure,
    SessionError,
    SessionHandle,
    SessionStore,
    SessionSummaries,
    SqliteSession,
    SqliteSessionStore,
    Summary,
    TimeoutLayer,
    Turn,
    TurnMissing,
)
from tower_memory.bridges import AsyncioLayer, ThreadedStore
from tower_memory.dialects import (
    AnthropicMessages,
    ChatCompletions,
    Dialect,
    GeminiContents,
    OpenAIResponses,
    PydanticAI,
    WholeRequests,
)
from tower_memory.postgres import PostgresSessionStore
from tower_memory.resumable import ReplyStream, ResumableLayer
from tower_memory.streams import Stream
from tower_memory.testing import ScriptedService
from tower_memory.tracing import TracingLayer
from tower_memory.windows import (
    LastItems,
    LastTurns,
    Shortest,
    Stepped,
    Summarised,
    TokenBudget,
    Window,
)


async def ask(request: list[str]) -> bytes:
    return "".join(request).encode()


async def stream(request: list[str]) -> AsyncIterator[str]:
    async def words() -> AsyncIterator[str]:
        for word in request:
            yield word

    return words()


async def generator(request: list[str]) -> AsyncGenerator[str]:
    async def words() -> AsyncGenerator[str]:
        for word in request:
            yield word

    return words()


async def client_stream(request: list[str]) -> openai.AsyncStream[str]:
    raise NotImplementedError


def not_async(request: list[str]) -> bytes:
    return b""


def logged(inner: Service[list[str], bytes]) -> Service[list[str], bytes]:
    return inner


def for_numbers(inner: Service[int, int]) -> Service[int, int]:
    return inner


store: SqliteSessionStore[Any] = SqliteSessionStore("a.db")
memory = MemoryLayer(LoadSession(store), SaveSession(store), session_id="s")

# A bare function is a service, a decorator is a layer.
service: Service[list[str], bytes] = ask
layer: Layer[list[str], bytes] = logged
not_a_service: Service[list[str], bytes] = not_async  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
other_response: Service[list[str], str] = ask  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
other_request: Service[int, bytes] = ask  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
other_layer: Layer[list[str], bytes] = for_numbers  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


async def stacks() -> None:
    # Layers keep the types of the services that they wrap, alone, nested and from a builder.
    assert_type(await memory(ask)(["Hi"]), bytes)
    assert_type(await RetryLayer(on=OSError)(ask)(["Hi"]), bytes)
    assert_type(await TimeoutLayer(1)(ask)(["Hi"]), bytes)
    assert_type(await AsyncioLayer()(ask)(["Hi"]), bytes)
    assert_type(await TracingLayer()(ask)(["Hi"]), bytes)
    assert_type(await TracingLayer()(memory(stream))(["Hi"]), Stream[str])
    assert_type(await TracingLayer()(stream)(["Hi"]), Stream[str])
    assert_type(await TracingLayer()(client_stream)(["Hi"]), openai.AsyncStream[str])
    assert_type(await memory(stream)(["Hi"]), Stream[str])
    assert_type(await memory(generator)(["Hi"]), Stream[str])
    assert_type(await memory(client_stream)(["Hi"]), openai.AsyncStream[str])
    async with await memory(stream)(["Hi"]) as opened:
        assert_type([word async for word in opened], list[str])
    resumable = ResumableLayer(key=lambda request: "t1")
    assert_type(await resumable(memory(ask))(["Hi"]), bytes)
    assert_type(await resumable(memory(stream))(["Hi"]), ReplyStream[str])
    assert_type(await resumable(client_stream)(["Hi"]), ReplyStream[str])
    assert_type(await TimeoutLayer(1)(RetryLayer(on=OSError)(memory(ask)))(["Hi"]), bytes)
    built = ServiceBuilder().layer(TimeoutLayer(1)).layer(memory).layer(logged).service(ask)
    assert_type(built, Service[list[str], bytes])
    assert_type(await built(["Hi"]), bytes)
    with_stamina = ServiceBuilder().layer(stamina.retry(on=OSError)).layer(memory).service(ask)
    assert_type(with_stamina, Service[list[str], bytes])

    await built("Hi")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    memory(not_async)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    for_numbers(memory(ask))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ServiceBuilder().layer(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ServiceBuilder().service(not_async)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryLayer()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    RetryLayer(on=KeyboardInterrupt)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MemoryLayer(LoadSession(store), SaveSession(store))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    MemoryLayer(store, store, session_id="s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MemoryLayer(LoadSession(store), SaveSession(store), session_id="s", overlap="wait")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def stores() -> None:
    # Load and save are services, and take layers.
    load: Service[str, History[Any]] = LoadSession(store, limit=3)
    save: Service[Turn[Any], int] = RetryLayer(on=SessionError)(SaveSession(store))
    MemoryLayer(load, TimeoutLayer(1)(save), session_id=lambda request: str(request))
    MemoryLayer(store.load, store.append, session_id="s")

    # The type of the items is known if item_type is given.
    typed = SqliteSessionStore("a.db", item_type=MessageItem)
    assert_type(typed, SqliteSessionStore[MessageItem])
    on_server = PostgresSessionStore("postgresql://host/chat", item_type=MessageItem)
    assert_type(on_server, PostgresSessionStore[MessageItem])
    assert_type(PostgresSessionStore("postgresql://host/chat"), PostgresSessionStore[Any])
    assert_type((await typed.load("s"))[0], MessageItem)
    assert_type(await LoadSession(typed)("s"), History[MessageItem])
    assert_type(await typed.session("s").get_items(), list[MessageItem])
    assert_type(await typed.pop("s"), MessageItem | None)
    await typed.append(Turn("s", ["text"]))  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    run_items: SqliteSessionStore[RunItem] = SqliteSessionStore("a.db", item_type=RunItem)
    assert_type((await run_items.load("s"))[0], RunItem)

    # Without type arguments, a store in memory holds JSON values.
    assert_type(InMemorySessionStore(), InMemorySessionStore[Any])
    erasure: SessionErasure = InMemorySessionStore()
    assert_type(await erasure.erase(prefix="user_1/"), Erasure)
    assert_type(SqliteSessionStore.in_memory(), SqliteSessionStore[Any])
    assert_type(SqliteSession.in_memory("s"), SqliteSession[Any])

    # A wrapper holds the items of its store, and has the methods of every capability.
    mine = ScopedStore(typed, "user_1")
    assert_type(mine, ScopedStore[MessageItem])
    assert_type((await ScopedStore(mine, "project").load("s"))[0], MessageItem)
    scoped_erasure: SessionErasure = mine
    ScopedStore("a.db", "user_1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    print(scoped_erasure)

    # They satisfy the protocols.
    for each in (store, InMemorySessionStore[Any]()):
        any_store: SessionStore[Any] = each
        SaveSession(any_store)
    for summaries in (store, InMemorySessionStore[Any](), mine, ThreadedStore(mine)):
        any_summaries: SessionSummaries = summaries
        assert_type(await any_summaries.load_summary("s"), Summary | None)
        assert_type(
            await any_summaries.save_summary("s", "text", turn_id="t", since=1), Summary | None
        )
    session = SqliteSession("s", "a.db")
    assert_type(session, SqliteSession[Any])
    ours: Session[Any] = session
    theirs: agents.memory.Session = session
    assert_type(await session.get_messages(), list[Message])
    await agents.Runner.run(agents.Agent(name="a"), "Hi", session=session)
    print(ours, theirs)

    # A handle holds the items of its store.
    handle = SessionHandle(mine, "s")
    assert_type(handle, SessionHandle[MessageItem])
    assert_type(await handle.replace_suffix([], []), bool)
    their_handle: agents.memory.Session = SessionHandle(store, "s")
    print(their_handle)


def scripted() -> None:
    # The type of a function among the answers is known: its argument is a request.
    answers: Service[str, str] = ScriptedService("Hello", OSError(), lambda request: request * 2)
    RetryLayer(on=OSError)(answers)


class Lines:
    def new_items(self, request: str, /) -> list[str]:
        return [request]

    def with_history(self, request: str, history: object, /) -> str:
        return request

    def reply_items(self, request: str, response: str, /) -> list[str]:
        return [response]


def dialects() -> None:
    chat: Dialect = ChatCompletions()
    lines: Dialect = Lines()
    MemoryLayer(LoadSession(store), SaveSession(store), session_id="s", dialect=lines)
    MemoryLayer(LoadSession(store), SaveSession(store), session_id="s", dialect=chat)
    MemoryLayer(LoadSession(store), SaveSession(store), session_id="s", dialect=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


every_dialect: list[Dialect] = [
    ChatCompletions(),
    OpenAIResponses(),
    AnthropicMessages(),
    GeminiContents(),
    PydanticAI(),
]
all_take_whole_requests: list[WholeRequests] = [
    ChatCompletions(),
    OpenAIResponses(),
    AnthropicMessages(),
    GeminiContents(),
    PydanticAI(),
]
window: Window = Shortest(LastTurns(3), TokenBudget(1000))
MemoryLayer(LoadSession(store), SaveSession(store), session_id="s", window=window)


async def summarise(items: Sequence[Any]) -> str:
    return f"{len(items)} items"


windows: list[Window] = [
    Stepped(LastTurns(3), by=4),
    Summarised(summarise, store=store),
    Summarised(summarise, store=ScopedStore(store, "user"), keep=Stepped(LastItems(9)), every=5),
]


def users(request: Mapping[str, str]) -> str:
    return request["user"]


MemoryLayer(LoadSession(store), SaveSession(store), session_id=users)


# The turn to replace, perhaps with the revision that the user saw, and the metadata of a turn.
def replaced(request: Mapping[str, str]) -> str | None:
    return request.get("replaces")


def seen(request: Mapping[str, str]) -> tuple[str, int] | None:
    return (request["replaces"], int(request["revision"])) if "replaces" in request else None


def described(request: Mapping[str, str], response: object) -> dict[str, str]:
    return {"model": request["model"]}


MemoryLayer(LoadSession(store), SaveSession(store), session_id=users, replaces=replaced)
MemoryLayer.over(store, session_id=users, replaces=seen, metadata=described)
MemoryLayer.over(store, session_id=users, journal=True)
MemoryLayer.over(store, session_id=users, replaces=lambda request: request["replaces"])
MemoryLayer.over(store, session_id=users, replaces=described)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
MemoryLayer.over(store, session_id=users, metadata=replaced)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def refused_by_type_checkers() -> None:
    MemoryLayer.over(
        store,
        session_id=users,
        replaces="t1",  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )


async def refused() -> None:
    try:
        await memory(ask)(["Hi"])
    except (SessionCleared, TurnMissing) as error:
        assert_type(error.turn, Any)
