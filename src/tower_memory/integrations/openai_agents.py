"""``SQLiteSession`` of openai-agents, with the promises of this library.

Change the import, and nothing else::

    from agents import SQLiteSession                                     # before
    from tower_memory.integrations.openai_agents import SQLiteSession    # after

A file that the framework's class wrote is taken over by the constructor. The extra
``openai-agents`` installs the framework. An agent remembers through its session:

>>> import asyncio
>>> from collections.abc import AsyncIterator
>>> from contextlib import closing
>>> from typing import Any
>>> import agents
>>> from openai.types.responses import (
...     ResponseOutputMessage,
...     ResponseOutputText,
...     ResponseStreamEvent,
... )
>>> from tower_memory.integrations.openai_agents import SQLiteSession
>>>
>>> class Counter(agents.Model):  # stands for a model of OpenAI
...     async def get_response(self, *args: Any, **kwargs: Any) -> agents.ModelResponse:
...         text = f"I see {len(kwargs['input'])} messages."
...         content = ResponseOutputText(type="output_text", text=text, annotations=[])
...         message = ResponseOutputMessage(
...             id="m", type="message", role="assistant", status="completed", content=[content]
...         )
...         return agents.ModelResponse([message], usage=agents.Usage(), response_id=None)
...     def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[ResponseStreamEvent]:
...         raise NotImplementedError
>>>
>>> async def main() -> None:
...     agent = agents.Agent(name="Assistant", model=Counter())
...     with closing(SQLiteSession("user_123")) as session:  # or ("user_123", "chat.db")
...         for question in ("Hi", "And now?"):
...             result = await agents.Runner.run(agent, question, session=session)
...             print(result.final_output)
...         print(len(await session.get_items()))
>>> agents.set_tracing_disabled(True)
>>> asyncio.run(main())
I see 1 messages.
I see 3 messages.
4

A session may be made for each request, and used from any thread and any event loop. The open
sessions on a file share one store and its threads, and those in memory share one thread. The last
`SQLiteSession.close` ends them.

**Other stores.** ``Runner.run(..., session=SessionHandle(store, "user_123"))`` does the same over
any store: Postgres, in memory, or a `ScopedStore` with the sessions of one tenant. Such a store is
used in one event loop, unless it is in a `ThreadedStore`.

**Compaction.** The framework's ``OpenAIResponsesCompactionSession`` takes a session of this class.
Its automatic compaction replaces the summarised items in one commit if they are still the newest
items of the session. Otherwise it writes nothing, so a message that another process has added
meanwhile is never lost. A compaction of your own calls `SessionHandle.replace_suffix`.

**trio.** The framework itself needs asyncio. Run the agent in `tower_memory.bridges.AsyncioLayer`.

Differences
===========

======================  =====================================  =====================================
contract                ``agents.SQLiteSession``               this class
======================  =====================================  =====================================
an existing file of     opened                                 taken over in the constructor, once:
the framework's class                                          it gets the tables of this library,
                                                               and the framework's class can no
                                                               longer add items to it
any other file          opened, and made, in the constructor   opened, and made, at the first use
a ``file:`` URI         opened, by many builds of SQLite       the name of a file, with the colon
a new file              for all users that the umask allows    for its owner only
a file with further     opened                                 refused, and unchanged
tables, columns or
views
``sessions_table``,     any names                              only the default names; others raise
``messages_table``                                             `ValueError` (see below)
a row that cannot be    skipped; ``pop_item`` deletes it       `CorruptSessionError`, and the row
read                                                           stays; a file with such a row is not
                                                               taken over
an item that JSON       changed (a tuple becomes a list), kept `UnencodableItemError`, a
cannot hold             (NaN, a lone surrogate), or            `ValueError`; nothing is saved.
                        `TypeError`                            A row with NaN or a lone surrogate
                                                               cannot be read
errors of the database  `sqlite3.Error`                        `SessionError`
a forked child          used the connection of its parent      raises, if the file was open at the
                                                               fork; fork before the first use
a cancelled write       is done when the call ends             may be done a moment later: a read in
                                                               between does not see it, every later
                                                               write follows it
a negative limit        all items                              `ValueError`
an empty session id     a session                              `ValueError`
a number as session id  a session                              `TypeError`
``clear_session``       removes the session                    removes its items; its metadata, set
                                                               through a store, stay
manual compaction       two commits; killed between them, the  one commit; both overwrite what was
                        session is empty                       added since the compaction began
``EncryptedSession``    ``pop_item`` with a wrong key removes  it removes all items, as on every
                        nothing                                session of another class
``isinstance``          ``agents.SQLiteSession``               ``agents.memory.Session``
======================  =====================================  =====================================

Programs with several pairs of tables in one file need a file for each pair. To take over a file
with other table names, first rename them: ``ALTER TABLE my_messages RENAME TO agent_messages``.
Stop the programs that use the framework's class before the file is taken over. Those that go on get
an error when they add items; items that they pop or clear stay in the tables of this library. If a
row cannot be read, the error has its number: mend or delete the row in ``agent_messages``. To keep
the old file, import it into another one instead, with the command ``tower-memory import``.
"""

from __future__ import annotations

try:
    from tower_memory.integrations._openai_agents.session import SQLiteSession
except ImportError as error:
    msg = (
        "tower_memory.integrations.openai_agents needs openai-agents 0.24 or newer: "
        "pip install 'tower-memory[openai-agents]'"
    )
    raise ImportError(msg) from error

__all__ = ("SQLiteSession",)
