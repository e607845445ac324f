r"""The memory of agents of Microsoft's agent-framework.

`SessionHistoryProvider` is a history provider: it keeps the messages of an agent in a store.
`SnapshotStore` is a session store: it keeps `AgentSession` objects. Both work over every store of
this library, also over a `ScopedStore`. They need an extra::

    pip install 'tower-memory[agent-framework]'

Setup
=====

Open a store, and give the provider to the agent. The history belongs to the id of the session, not
to the `AgentSession` object, so a program can make a new object for each request:

>>> from collections.abc import Awaitable, Mapping, Sequence
>>> from typing import Any
>>> import anyio
>>> from agent_framework import Agent, AgentSession, BaseChatClient, ChatOptions, ChatResponse
>>> from agent_framework import ChatResponseUpdate, Message, ResponseStream
>>> from tower_memory import SqliteSessionStore, TurnExists
>>> from tower_memory.integrations.agent_framework import SessionHistoryProvider
>>> class Client(BaseChatClient[ChatOptions[None]]):  # stands for a model
...     def _inner_get_response(
...         self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any],
...         **kwargs: Any
...     ) -> Awaitable[ChatResponse[Any]] | ResponseStream[ChatResponseUpdate, ChatResponse[Any]]:
...         async def answer() -> ChatResponse[Any]:
...             return ChatResponse(messages=[Message("assistant", [f"{len(messages)} messages"])])
...         return answer()
>>> async def main() -> None:
...     async with SqliteSessionStore.in_memory() as store:  # or SqliteSessionStore("chat.db")
...         agent = Agent(Client(), context_providers=[SessionHistoryProvider(store)])
...         for text in ("Hi", "And now?"):
...             response = await agent.run(text, session=AgentSession(session_id="user_123"))
...             print(response.text)
...         print(len((await store.load("user_123")).turns), "turns")
>>> anyio.run(main)
1 messages
3 messages
2 turns

Always pass a session with an id of your own. Without ``session=``, the framework makes a new id for
each run, and its history is never read again.

- **Tenants**: ``SessionHistoryProvider(ScopedStore(store, user_id))``.
- **Several agents** with one store and one session id share the conversation.
- **Several providers** of one agent, such as an additional one for audits, need different values of
  *source_id*, and a `ScopedStore` each. Otherwise each stores the run in the same session.
- **Search**: `SessionSearch.search` and the command ``tower-memory show`` find the text of the
  messages and of the tool results.

Runs
====

A run is one turn, whole or absent: the input, all tool calls and results, and the reply. With
``require_per_service_call_history_persistence``, each call of the model is a turn. The turn gets
its id when the run starts, so a run that the framework saves again is stored once. For a stream
whose save has failed, ask for ``get_final_response()`` again.

**A request that a browser repeats** is a new run for the framework. Give it a run id, which the
provider takes out of its state when the run starts. Set it before each ``agent.run``, also before a
retry. If the session holds this id, the run raises `TurnExists`, which has the stored messages,
before it calls the model:

>>> async def answer(agent: Agent, request_id: str, text: str) -> str:
...     session = AgentSession(session_id="user_123")
...     session.state["tower_memory"] = {"run_id": request_id}  # under the provider's source_id
...     try:
...         return (await agent.run(text, session=session)).text
...     except TurnExists as error:
...         messages = [Message.from_dict(item) for item in error.items or ()]
...         return f"{messages[-1].text} (stored)"
>>> async def repeat() -> None:
...     async with SqliteSessionStore.in_memory() as store:
...         agent = Agent(Client(), context_providers=[SessionHistoryProvider(store)])
...         for request_id in ("request-1", "request-2", "request-2"):
...             print(await answer(agent, request_id, "Hi"))
>>> anyio.run(repeat)
1 messages
3 messages
3 messages (stored)

With persistence for each call, the run id names the turn of the first call. It is then held even if
a later call of the run fails, so a retry gets `TurnExists` with the messages of the first call,
which may end with a tool call. Runs at once on one `AgentSession` share its state, and the first
that starts takes the run id. So give each of them an `AgentSession` of its own, with the same
session id.

**Errors.** If a save fails, `SaveError` has the framework's response and the turn, which can be
appended to the store. If the session was cleared or erased while the model was answering,
`SessionCleared` has both. If two runs with one run id overlap, the run that is saved last raises
`TurnExists` with its own response and the stored messages.

**Cancellation.** A cancelled run is stored wholly or not at all. Of a stream that is closed early,
the framework stores what has come; of a stream that is cancelled, that fails, or that is only left,
it stores nothing. A stream that is closed at a tool call, and a run with persistence for each call
that fails or is cancelled after a tool call, leave a call without a result, as with the framework's
own providers. Models refuse such a history, so remove the call with
``await store.pop(session_id)``.

Long conversations
==================

``SessionHistoryProvider(store, window=LastTurns(20))`` gives the model the newest exchanges, with
any window of `tower_memory.windows`, and reads no more than these from the store. For a summary,
give `Summarised` messages of the framework:
``item=lambda text: Message("user", [text]).to_dict()``.

A ``CompactionProvider`` after the history provider works, with its *before_strategy*: it shortens
the messages that the model gets. Its *after_strategy* finds only histories in the state of an
`AgentSession`, so it has no effect here, as with ``FileHistoryProvider``. The store keeps every
message.

Differences by contract
=======================

Of `SessionHistoryProvider`, compared with the framework's own providers (run: 1.23.0):

====================  =========================  =======================  =======================
contract              InMemoryHistoryProvider    FileHistoryProvider      SessionHistoryProvider
====================  =========================  =======================  =======================
place                 the state of an            a file per session, for  any store, for any
                      ``AgentSession``           one process              number of processes
a run is stored       whole                      line by line; after a    whole or not at all
                                                 torn line, the session
                                                 cannot be read
a run equal to the    is dropped                 is dropped               is stored
run before it
a run saved again     is known by its messages   is known by its          is known by its turn id
                                                 messages
a failed save         (none)                     loses the reply          has the reply
a session removed     (none)                     comes back               `SessionCleared`
during a run
an input with NaN     is stored                  is stored                is refused before the
                                                                          model is called
a run reads           the whole history          the whole file, twice    the window
no session id         is stored                  one file for all         `TypeError`
``skip_excluded=``    yes                        yes                      no: use ``window=``
====================  =========================  =======================  =======================

Messages come back as ``Message.to_dict`` writes them. It leaves out ``raw_representation``, the
text of an exception, and values that JSON cannot hold, such as a set in ``additional_properties``;
so ``FileHistoryProvider`` loses the same. A reply with NaN raises `SaveError`, with the reply.

Turns of one session do not wait for each other, as with ``overlap="append"`` of
`tower_memory.MemoryLayer`. The framework makes tasks of asyncio, so run agents on asyncio. The
methods of both classes work on trio as well.

Snapshots
=========

`SnapshotStore` replaces each snapshot in one commit, in any number of processes; the last writer
wins, as in the framework's ``SessionStore`` and ``FileSessionStore``. Differences: it refuses a
subclass of `AgentSession` and a state that JSON cannot hold, as ``FileSessionStore`` does, but with
`UnencodableItemError`; ids may have any length; and it puts no damaged snapshot aside, because a
snapshot is replaced whole or not at all.

The framework's base class is experimental, and the constructor warns of that. To silence it:

>>> import warnings
>>> from tower_memory.integrations.agent_framework import SnapshotStore
>>> warnings.filterwarnings("ignore", r"\[SESSION_STORE\]", FutureWarning)
>>> async def snapshots() -> None:
...     async with SqliteSessionStore.in_memory() as store:
...         session = AgentSession(session_id="user_123")
...         session.state["name"] = "Anna"
...         await SnapshotStore(store).set("user_123", session)
...         restored = await SnapshotStore(store).get("user_123")
...         print(restored and restored.state)
>>> anyio.run(snapshots)
{'name': 'Anna'}

The snapshots are in the scope ``"agent-framework-snapshots"`` of the store. The store itself lists
and erases them with all other sessions, so give histories and snapshots scopes of their own if a
program lists sessions.
"""

from __future__ import annotations

try:
    from tower_memory.integrations._agent_framework.history_provider import SessionHistoryProvider
    from tower_memory.integrations._agent_framework.snapshot_store import SnapshotStore
except ImportError as error:
    msg = (
        "tower_memory.integrations.agent_framework needs agent-framework 1.23 or newer: "
        "pip install 'tower-memory[agent-framework]'"
    )
    raise ImportError(msg) from error

__all__ = ("SessionHistoryProvider", "SnapshotStore")
