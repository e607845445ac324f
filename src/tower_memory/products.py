"""A guide for products: one store for a chat with many users, in several workers.

``tests/chat_product/app.py`` in the repository is a complete example: a web chat in one file.

The parts of a page
===================

- **The list of conversations**: `SessionCatalog.sessions`. A title is metadata of the session:
  `SessionCatalog.annotate`, with ``overwrite=False`` for a title that a model wrote.
- **One conversation**: first `TurnJournal.pending`, then ``load(limit=...)``. In this order, a
  question whose answer is saved meanwhile is in at least one of the two results. For older turns,
  load ``before`` the first turn that the page shows.
- **Edit, regenerate**: `SessionCatalog.fork` copies the turns before an edited question to a new
  conversation, and ``replaces=`` replaces turns (see the guide in `tower_memory`).
- **Reload, a second tab, stop**: a `tower_memory.resumable.ResumableLayer` runs the answer, so a
  closed connection does not stop it. A page that finds a pending turn joins its answer. Each reader
  takes a connection, and without HTTP/2 a browser opens at most six to a server.
- **Long conversations**: ``window=`` with a `tower_memory.windows.Summarised`.
- **Cost**: ``metadata=`` of `MemoryLayer` stores what `tower_memory.dialects.usage_of` returns.
- **Users**: ``ScopedStore(store, user_id)`` for each request. Take *user_id* from your own login.

A revision may be above 2**53, up to which JavaScript's numbers are exact. Send it to a browser as
text.

Questions that survive
======================

By default, a session stays as it is until the reply is saved. If the model fails or the process
dies, no store has the user's question. With ``journal=True``, the turn begins in the store before
the model is called: it is pending, in no history, until its save ends it. `TurnJournal.pending`
returns the pending turns, so a front end can show the question and offer to try again:

>>> from typing import Any
>>> import anyio
>>> from tower_memory import InMemorySessionStore, MemoryLayer, SessionConflict
>>> from tower_memory import SqliteSessionStore
>>> async def reply(request: dict[str, Any]) -> str:  # stands for the call of a model
...     return f"{len(request['messages'])} message"
>>> store = InMemorySessionStore()
>>> memory = MemoryLayer.over(
...     store, session_id="user_123", turn_id=lambda request: request["id"], journal=True
... )
>>> async def unreachable(request: dict[str, Any]) -> str:
...     raise ConnectionError
>>> async def survive() -> None:
...     hi = {"id": "1", "messages": [{"role": "user", "content": "Hi"}]}
...     try:
...         await memory(unreachable)(hi)
...     except ConnectionError:
...         (turn,) = await store.pending("user_123")
...         print(turn.turn_id, turn.state, turn.items)
...     print(await memory(reply)(hi))  # the same request once more
...     print(await store.pending("user_123"), len(await store.load("user_123")))
>>> anyio.run(survive)
1 failed [{'role': 'user', 'content': 'Hi'}]
1 message
[] 2

**Try again.** Make the same request again, with the same turn id; without ``turn_id=``, each call
is a turn of its own. A turn that has failed may begin again in any process. While a turn is
``"running"``, the same request in another process raises `SessionConflict` before the model is
called, so two processes do not pay for the same answer. A running turn has a lease of 60 seconds,
and a task of the event loop renews this lease every 20 seconds, however long the answer takes. If
the process dies, the turn is ``"left"`` when the lease ends, at most 60 seconds later. Then the
first process that makes the same request runs the turn.

**Forget.** ``await store.forget("user_123", "1")`` removes a pending turn that the user gave up.
Clearing or erasing the session removes all of them.

**With retries.** A `RetryLayer` inside the memory layer repeats the model call, and its attempts
share one pending turn. Outside the memory layer, each attempt begins the turn again, so give it
``turn_id=``.

Several workers
===============

Turns wait for each other within one event loop only. Between event loops, and so between the worker
processes of a server, the store makes each commit a whole turn, and nothing is overwritten. The
rest depends on ``overlap=``:

- ``"serialize"``, the default: both turns call the model at the same time, and both are saved, in
  the order of their commits. The second answer has not seen the first.
- ``"append"``: the same, also within one worker.
- ``"reject"``: the turn that is saved last raises `SessionConflict`, with its paid reply in
  ``response``. Within one worker it is refused before the model is called.

**For a product with several workers, use** ``overlap="reject"`` **and** ``turn_id=``. Then each
answer has seen all turns before it, however requests are routed. A request that the browser repeats
has the same turn id, and makes no second turn. Answer a `SessionConflict` with HTTP 409, so that
the page shows the conversation anew and the user decides. If users should be able to send a message
during an answer, route all requests of a session to the same worker, and use ``"serialize"``. If
the routing ever fails, for example during a deployment, both turns are still saved. The complete
example does this, and all pages can join an answer, because the worker that runs it gets their
requests. The guide in `tower_memory.resumable` has the configuration of nginx.

Workers on several machines need a database server: see `tower_memory.postgres`.

Two event loops on one file behave like two workers:

>>> import threading
>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> def overlapping(overlap: Any) -> None:
...     both_called = threading.Barrier(2)
...     async def model(messages: list[Any]) -> str:  # both workers call it at the same time
...         await anyio.to_thread.run_sync(both_called.wait)
...         return f"{len(messages)} message"
...     with TemporaryDirectory() as folder:
...         async def worker(text: str) -> None:
...             async with SqliteSessionStore(Path(folder) / "chat.db") as store:
...                 memory = MemoryLayer.over(store, session_id="user_123", overlap=overlap)
...                 try:
...                     await memory(model)([{"role": "user", "content": text}])
...                 except SessionConflict as error:
...                     print("refused, with the reply:", error.response)
...         async def count() -> None:
...             async with SqliteSessionStore(Path(folder) / "chat.db") as store:
...                 print("saved turns:", len((await store.load("user_123")).turns))
...         other = threading.Thread(target=anyio.run, args=(worker, "Hi"))
...         other.start()
...         anyio.run(worker, "Hello")
...         other.join()
...         anyio.run(count)
>>> overlapping("serialize")
saved turns: 2
>>> overlapping("reject")
refused, with the reply: 1 message
saved turns: 1

Logging
=======

The library reports to the logger ``tower_memory``: ids, types and numbers, never content. Unless
the program configures logging, Python prints the warnings to stderr. The records have these
attributes:

===============  =====================================  ========================================
``event``        level                                  other attributes
===============  =====================================  ========================================
``load``         DEBUG                                  ``session_id``, ``items``, ``revision``,
                                                        ``seconds``
``save``         DEBUG; from 1 second on WARNING        ``session_id``, ``turn_id``, ``items``,
                                                        ``revision``, ``seconds``
``wait``         WARNING: a turn has waited 10 seconds  ``session_id``, ``seconds``
                 or more for other turns
``lost_stream``  WARNING: an interrupted stream was to  ``session_id``, ``stream`` (its type),
                 be saved, but no task closed it        ``chunks``
``unmarked``     WARNING: a call has failed, and its    ``session_id``, ``turn_id``
                 pending turn stays ``"running"``
``summary``      DEBUG: older items were summarised     ``session_id``, ``items``, ``seconds``
``no_summary``   WARNING: a summary could not be made   ``session_id``
                 or stored
``unrenewed``    WARNING: a lease could not be          ``session_id``, ``turn_id``
                 renewed; the renewal is repeated, and
                 a turn has one such record at most
``unread``       WARNING: a resumable call has failed,  ``key`` of the call
                 and no caller got its error
``untraced``     WARNING: OpenTelemetry has raised an   ``operation``
                 error, and a span may be lost
===============  =====================================  ========================================

``items`` are those that were loaded, saved or summarised. A save that fails raises an error and is
not logged. Long work on a file is reported at INFO, with its share from 0.0 to 1.0 in the attribute
``progress``.

>>> import logging
>>> import sys
>>> async def log_a_turn() -> None:
...     memory = MemoryLayer.over(InMemorySessionStore(), session_id="user_123")
...     await memory(reply)({"messages": [{"role": "user", "content": "I like teal."}]})
>>> logger, handler = logging.getLogger("tower_memory"), logging.StreamHandler(sys.stdout)
>>> handler.setFormatter(logging.Formatter("%(levelname)s %(event)s %(session_id)s %(items)d"))
>>> logger.addHandler(handler)
>>> logger.setLevel(logging.DEBUG)
>>> anyio.run(log_a_turn)
DEBUG load user_123 0
DEBUG save user_123 2
>>> logger.removeHandler(handler)
>>> logger.setLevel(logging.NOTSET)
"""

__all__ = ()
