"""Conversation memory as a layer around any LLM call, on asyncio and trio.

>>> from typing import Any
>>> import anyio
>>> from tower_memory import InMemorySessionStore, MemoryLayer
>>> async def ask(messages: list[Any]) -> str:  # stands for the call of a model
...     return f"Messages received: {len(messages)}"
>>> async def main() -> None:
...     chat = MemoryLayer.over(InMemorySessionStore(), session_id="user_123")(ask)
...     print(await chat([{"role": "user", "content": "I like teal."}]))
...     print(await chat([{"role": "user", "content": "What do I like?"}]))
>>> anyio.run(main)
Messages received: 1
Messages received: 3

Guarantees
==========

Each guarantee has tests, on asyncio and on trio, that fail if it is broken. The tests cancel each
operation at every point, fail each call of SQLite in turn, kill hundreds of processes, watch the
system calls, and fill real disks. `MemoryLayer` and `SessionStore` state the promises in full.

**Whole or absent.** All items of a turn are saved in one write, after the model has answered. A
call that fails or is cancelled before the save leaves its session unchanged.

**Durable.** When a save to a file returns, SQLite has synced the turn to disk. This holds for the
default ``synchronous="full"``; `SqliteSessionStore` states the risk of the other settings. On
Postgres, the server's settings decide. A disk that reports a sync it has not made may still lose
turns in a power cut.

**Saved means returned.** After the model has answered, the turn is saved and the reply is returned,
even if a timeout expires during the save. A save runs at most ``grace`` seconds past a deadline,
then it ends with `SaveError`. The default is the store's ``busy_timeout`` of 5 seconds, after which
`SqliteSessionStore` itself gives up. `MemoryLayer` states the bound in full. asyncio's own
``task.cancel()`` may drop the reply; the turn is then wholly saved or wholly absent.

**A failed save loses no reply.** `SaveError` carries the reply in ``response`` and the turn in
``turn``. Append the turn again; this is safe. If the dialect cannot read a reply, ``turn`` is None.

**Gone is gone.** If a session is cleared or erased while a turn is in progress, the turn does not
revive it. It raises `SessionCleared`, with the reply in ``response``.

**Replaced as a whole.** The commit that saves a regenerated or edited turn removes the old turns.
If the model fails, the old turns stay. Turns that the user has not seen are never removed.

**Saved once.** Each turn has a ``turn_id``. A store saves a turn id once per session, however many
processes append it. If the same request is made twice, there are two turns, unless ``turn_id=``
returns the same id for both.

**Overlapping turns overwrite nothing.** By default, a later turn waits for the earlier one, within
one event loop. With ``overlap="append"``, and between processes, both are saved. With
``overlap="reject"``, the later one raises `SessionConflict`.

**Lossless or refused.** A loaded item equals the saved item. An item that JSON cannot hold (NaN,
bytes, tuples, sets, lone surrogates, cycles) raises `UnencodableItemError`, which names the place.
An item of the request raises before the model is called. An item of the reply raises `SaveError`,
caused by the `UnencodableItemError`. A row that cannot be read raises `CorruptSessionError` and
stays in the file.

**Bounded resources.** Threads and open files do not grow with sessions, turns or handles. The
session cache takes at most ``hot_bytes``, 32 MiB by default. An open store keeps no process alive.
Not bounded: a load without ``limit``, an `InMemorySessionStore`, and the chunks of an open stream.

**Never stale.** If another process has changed a session, a load returns the session as it is in
the file. Exception: a change made without this library, such as an ``UPDATE``, may be seen only
after the file is opened again.

Regenerate, edit, rewind
========================

A turn can take the place of an older turn. Each turn has an id: `History.turns` lists the ids, and
``turn_id=`` chooses them. Let the function ``replaces=`` return the id of the turn that a request
replaces, or None. The model then gets the history before that turn, and the commit that saves the
new turn removes the old turn and all later turns:

>>> from tower_memory import SessionConflict, Turn
>>> async def reply(request: dict[str, Any]) -> str:  # stands for the call of a model
...     return f"{len(request['messages'])} messages to model {request['model']}"
>>> store = InMemorySessionStore()
>>> memory = MemoryLayer.over(
...     store,
...     session_id="user_123",
...     turn_id=lambda request: request["id"],
...     replaces=lambda request: request.get("replaces"),
...     metadata=lambda request, response: {"model": request["model"]},
... )
>>> chat = memory(reply)
>>> def question(text: str, **fields: Any) -> dict[str, Any]:
...     return {"model": "small", "messages": [{"role": "user", "content": text}], **fields}
>>> async def regenerate() -> None:
...     print(await chat(question("Hi", id="1")))
...     print(await chat(question("A joke?", id="2")))
...     # The same question to another model, in place of turn 2:
...     print(await chat(question("A joke?", id="3", replaces="2", model="large")))
...     # Another question in place of turn 1: turn 3 followed it and goes as well.
...     print(await chat(question("Hello", id="4", replaces="1")))
...     history = await store.load("user_123")
...     print([(turn.turn_id, dict(turn.metadata)) for turn in history.turns], len(history))
>>> anyio.run(regenerate)
1 messages to model small
3 messages to model small
3 messages to model large
1 messages to model small
[('4', {'model': 'small'})] 2

The metadata of a replaced turn are removed with it, so they are no record for billing.

A request that is repeated, because its answer was lost, does not replace anything twice:
`TurnExists` has the stored items.

**Two tabs.** The commit checks that no turn was added or replaced since the history was loaded. If
both tabs regenerate turn 4, one turn wins. The other call has waited and raises `TurnMissing`
before the model is called, or, if the calls overlapped, `SessionConflict` with its paid reply in
``response``. A user should replace only what was on the screen: let ``replaces=`` return a pair,
the turn id and the revision of the history that was shown. At any other revision, `SessionConflict`
is raised before the model is called:

>>> async def outdated() -> None:
...     shown = await store.load("user_123")
...     await chat(question("And a poem?", id="5"))  # in another tab
...     try:
...         await chat(question("Hello!", id="6", replaces=("4", shown.revision)))
...     except SessionConflict as error:
...         print(error.expected == shown.revision, error.response)
>>> anyio.run(outdated)
True None

**Rewind.** To remove turns and add none, append a turn without items. Its ``expected_revision``
keeps turns that the user has not seen:

>>> async def rewind() -> None:
...     shown = await store.load("user_123")
...     await store.append(Turn("user_123", [], replaces="5", expected_revision=shown.revision))
...     print(len(await store.load("user_123")))
>>> anyio.run(rewind)
2

Guides
======

- Stores: `SqliteSessionStore`, `InMemorySessionStore`; on a server: `tower_memory.postgres`; for
  the sessions of one tenant: `ScopedStore`; your own: `tower_memory.store_toolkit`.
- Dialects, one for each kind of client: `tower_memory.dialects`; your own:
  `tower_memory.dialects.toolkit`.
- Streamed replies: `tower_memory.streams`.
- Replies that go on after a lost connection, and can be stopped: `tower_memory.resumable`.
- Windows, the part of the history that a model gets, and summaries: `tower_memory.windows`.
- The order of layers: `ServiceBuilder`.
- A store for every event loop and for none; asyncio clients on trio: `tower_memory.bridges`.
- Products: users, several workers, questions that survive, the log: `tower_memory.products`.
- The stores inside pydantic-ai, openai-agents, LangChain and agent-framework:
  `tower_memory.integrations`.
- Spans and metrics of OpenTelemetry: `tower_memory.tracing`.
- Errors: `SessionError` and its subclasses.
- Tests of stores and layers: `tower_memory.testing`.
"""

from tower_memory._capabilities.catalog import SessionCatalog, SessionInfo
from tower_memory._capabilities.erasure import Erasure, SessionErasure
from tower_memory._capabilities.journal import PendingTurn, TurnJournal
from tower_memory._capabilities.pages import Page
from tower_memory._capabilities.search import SearchHit, SessionSearch
from tower_memory._capabilities.summaries import SessionSummaries, Summary
from tower_memory._codec import ItemCodec
from tower_memory._errors import (
    CorruptSessionError,
    SaveError,
    SessionCleared,
    SessionConflict,
    SessionError,
    TurnExists,
    TurnMissing,
    UnencodableItemError,
)
from tower_memory._handle import Session, SessionHandle
from tower_memory._history import History, TurnInfo
from tower_memory._items import (
    HandoffItem,
    Message,
    MessageItem,
    Role,
    RunItem,
    ToolCallItem,
    ToolOutputItem,
)
from tower_memory._layers.retry import RetryLayer
from tower_memory._layers.timeout import TimeoutLayer
from tower_memory._memory.layer import MemoryLayer
from tower_memory._service import Layer, Service, ServiceBuilder
from tower_memory._session_services import LoadSession, SaveSession
from tower_memory._store import SessionStore
from tower_memory._stores.in_memory.store import InMemorySessionStore
from tower_memory._stores.scoped import ScopedStore
from tower_memory._stores.sqlite.session import SqliteSession
from tower_memory._stores.sqlite.store import SqliteSessionStore
from tower_memory._turn import Turn

__all__ = (
    "CorruptSessionError",
    "Erasure",
    "HandoffItem",
    "History",
    "InMemorySessionStore",
    "ItemCodec",
    "Layer",
    "LoadSession",
    "MemoryLayer",
    "Message",
    "MessageItem",
    "Page",
    "PendingTurn",
    "RetryLayer",
    "Role",
    "RunItem",
    "SaveError",
    "SaveSession",
    "ScopedStore",
    "SearchHit",
    "Service",
    "ServiceBuilder",
    "Session",
    "SessionCatalog",
    "SessionCleared",
    "SessionConflict",
    "SessionErasure",
    "SessionError",
    "SessionHandle",
    "SessionInfo",
    "SessionSearch",
    "SessionStore",
    "SessionSummaries",
    "SqliteSession",
    "SqliteSessionStore",
    "Summary",
    "TimeoutLayer",
    "ToolCallItem",
    "ToolOutputItem",
    "Turn",
    "TurnExists",
    "TurnInfo",
    "TurnJournal",
    "TurnMissing",
    "UnencodableItemError",
    "__version__",
)

__version__ = "0.1.0"
