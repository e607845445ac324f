"""Replies that outlive their readers.

A browser reloads during an answer, a phone loses its connection, a client gives up: usually the
answer is then lost, or the model is called once more. A `ResumableLayer` runs each call in a task
of its own. The call goes on without its reader, the reply is saved whole, and a caller with the
same key gets it from its first chunk, live or finished:

>>> from collections.abc import AsyncIterator
>>> from typing import Any
>>> import anyio
>>> from tower_memory import InMemorySessionStore, MemoryLayer
>>> from tower_memory.resumable import ResumableLayer
>>> async def tell(request: dict[str, Any]) -> AsyncIterator[str]:
...     async def words() -> AsyncIterator[str]:
...         for word in ["Once ", "upon ", "a ", "time."]:
...             yield word
...     return words()  # or: await client.chat.completions.create(..., stream=True)
>>> async def main() -> None:
...     store = InMemorySessionStore()
...     memory = MemoryLayer.over(
...         store, session_id="user_123", turn_id=lambda request: request["id"]
...     )
...     async with ResumableLayer(key=lambda request: request["id"]) as resumable:
...         chat = resumable(memory(tell))
...         request = {"id": "t1", "messages": [{"role": "user", "content": "A story?"}]}
...         async with await chat(request) as stream:
...             print(await anext(stream), "- and the connection is lost")
...         async with await chat(request) as stream:
...             print("".join([word async for word in stream]))
...     print(len(await store.load("user_123")))
>>> anyio.run(main)
Once  - and the connection is lost
Once upon a time.
2

1. **A reader may leave.** Every caller of a stream gets a `ReplyStream` of its own. Leaving it, or
   cancelling a caller, ends only that reader. To end the call, use `ResumableLayer.stop`.
2. **A key names one turn.** It must not name a whole conversation, but one question of one user,
   such as ``(user, session_id, turn_id)``. Otherwise a reader could get the answer to another
   question, or that of another user. A second call with the key joins the first one, if its request
   is equal; otherwise it raises `SessionConflict`. So two equal requests at the same time call the
   model once, also without a stream. A response that is no stream is one object for all callers.
3. **A slow reader costs the others nothing.** The call never waits for a reader, and each reader
   reads at its own pace.
4. **Memory is bounded** by three limits of the layer: the number of simultaneous calls, and as
   many kept replies; the number of chunks that a reply keeps; and the seconds for which a finished
   reply is kept. Afterwards, the same request raises `TurnExists` if ``MemoryLayer`` has
   ``turn_id=``; otherwise it calls the model again.
5. **Errors reach all.** If the call fails, all its callers and readers get its error. A failure is
   not kept, so the next call with the key calls the model again. If no caller gets the error, the
   logger ``tower_memory`` reports it.

A watcher that does not know the request, such as a second tab, joins with the key alone:
`ResumableLayer.join`.

The order of layers
===================

The resumable layer goes outermost, around memory: ``resumable(memory(retry(timeout(ask))))``. The
memory layer then saves the turn even if no reader is left, and before any reader sees the end. With
``ServiceBuilder``:

>>> from tower_memory import RetryLayer, ServiceBuilder, TimeoutLayer
>>> resumable = ResumableLayer(key=lambda request: request["id"])
>>> chat = (
...     ServiceBuilder()
...     .layer(resumable)  # inside its "async with"
...     .layer(MemoryLayer.over(InMemorySessionStore(), session_id="user_123"))
...     .layer(RetryLayer(on=ConnectionError))
...     .layer(TimeoutLayer(60))
...     .service(tell)
... )

- **A timeout goes inside.** Outside, it would end only the wait of one caller, and not the call.
- **A retry goes inside.** Outside, it would repeat the load and the save as well.
- **A bridge goes innermost**, as always: ``resumable(memory(bridge(ask)))``. In the event loop of a
  `tower_memory.bridges.ThreadedStore`, enter the layer in a function that `ThreadedStore.run` runs
  until the program ends, and make all calls with ``run``.
- **A layer of your own** that changes chunks goes inside, if all readers should get its chunks.

One layer serves all requests of an event loop: make it when the program starts. The services that
it wraps may be made for each request. If a call joins another one, its own service is not called.

Stop
====

``await resumable.stop(key)`` stops a call for all its readers. It returns after the turn is saved.
The memory layer treats a stopped stream as one that its reader has closed: with
``keep_interrupted=True``, it saves the received part, also with ``replaces=``; otherwise it saves
nothing. The streams of all readers end, and their `ReplyStream.is_stopped` is true. A caller that
has no stream yet gets `CallStopped`. Calls of other keys that the call has made go on.

A finished reply that is kept can be joined even after its session is erased. So ``stop`` also drops
a kept reply, and ``keep_seconds=0`` keeps none: the store has the answer.

Leaving the layer's ``async with``, because of a deployment or Ctrl-C, does the same for all calls
that still run after ``exit_seconds``. New calls raise `RuntimeError` from then on. In a web server,
enter the layer in the lifespan. Uvicorn first waits until all readers have left, without a limit
unless it has the option ``--timeout-graceful-shutdown 5``, and then ends the lifespan. A supervisor
must not kill the process in the meantime.

After a crash, and on other workers
===================================

The layer joins calls of its own event loop. A reader that comes back must therefore reach the
worker that runs its call: route the requests of a session to one worker, by a hash of their path.
With nginx::

    upstream workers {
        hash $session consistent;
        server 127.0.0.1:8001;
        server 127.0.0.1:8002;
    }
    map $uri $session { ~^/sessions/([^/]+) $1; default $request_id; }
    server {
        location / {
            proxy_pass http://workers;
            proxy_http_version 1.1;  # with 1.0, a broken connection looks like the end of an answer
            proxy_buffering off;
            proxy_read_timeout 1h;  # a model may think for some minutes
        }
    }

If the worker has died, or the route has changed, the reply cannot be joined, and `join` raises
`ReplyMissing`. The store still shows the state of the turn: with ``MemoryLayer(journal=True)``, the
question is a pending turn until its answer is saved. Every process sees it in
`TurnJournal.pending`:

- ``"running"``: a process works on the answer, and renews its lease as long as it lives. Wait for
  the end of the turn, and then load the session.
- ``"left"``: that process has died or hangs. Make the same request again, in any process: it takes
  the turn over. If several processes try at the same time, one calls the model, and the others get
  `SessionConflict`.
- ``"failed"``: the call has failed, or was stopped without saving a part. The user may try again.

`tower_memory.products` explains pending turns, and several workers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AbstractAsyncContextManager
from typing import Any, Self, TypeVar, final, overload

from tower_memory._arguments import check_function, check_int, check_seconds
from tower_memory._calls import check_inner
from tower_memory._resumable.calls import Calls
from tower_memory._resumable.errors import CallStopped, ReplyMissing, TooManyCalls
from tower_memory._resumable.reply_stream import ReplyStream, join_reply
from tower_memory._resumable.service import Resumable
from tower_memory._service import Req, Res, Service, describe

__all__ = ("CallStopped", "ReplyMissing", "ReplyStream", "ResumableLayer", "TooManyCalls")

Chunk = TypeVar("Chunk")


@final
class ResumableLayer:
    """Runs each call in a task of its own, so that its callers may leave and come back.

    Use it as an async context manager, in the event loop of its calls. The docstring of
    `tower_memory.resumable` is the guide, with examples.

    Leaving the context waits at most *exit_seconds* for the running calls, then stops them as
    `stop` does, and waits at most 10 seconds until their streams are closed. A cancel scope does
    not shorten these waits. Native asyncio cancellation of the leaving task ends them, and so does
    Ctrl-C if Python raises `KeyboardInterrupt` in that task. Afterwards no task of the layer is
    left, and the layer can be entered again.

    Args:
        key: Function of the request that returns its key, a hashable value that names one turn of
            one user, such as ``(user, session_id, turn_id)``. Errors and the log show it.
        keep_seconds: Seconds, 0 or more, for which a finished reply can be joined. At most
            *max_calls* finished replies are kept, the latest.
        max_chunks: Maximum number of chunks that a reply keeps, the newest; 1 or more. A longer
            reply goes on for the readers that are at most this number of chunks behind. It cannot
            be joined any more.
        max_calls: Maximum number of simultaneous calls; 1 or more.
        exit_seconds: Seconds, 0 or more, that leaving the context waits before it stops calls.

    Raises:
        TypeError: A parameter has the wrong type. When called: the key is None or not hashable; or
            the inner service is not async, and the attribute ``response`` has its response.
        ValueError: A number is out of its bounds.
        RuntimeError: When called: the layer is not entered, or is entered in another event loop.
        SessionConflict: When called: the key belongs to a call with another request. The inner
            service was not called.
        SessionError: When called: the call would wait for itself, because it is inside its service.
        ReplyMissing: When called: the reply of the key has more than *max_chunks* chunks, so it
            cannot be joined. Also when a reader that is too far behind reads on.
        TooManyCalls: When called: *max_calls* calls are running. The inner service was not called.
        CallStopped: When called: the call was stopped before its inner service had returned.
    """

    def __init__(
        self,
        *,
        key: Callable[[Any], Hashable],
        keep_seconds: float = 60.0,
        max_chunks: int = 20_000,
        max_calls: int = 1_000,
        exit_seconds: float = 20.0,
    ) -> None:
        check_function("key", key)
        check_seconds("keep_seconds", keep_seconds)
        check_int("max_chunks", max_chunks, least=1)
        check_int("max_calls", max_calls, least=1)
        check_seconds("exit_seconds", exit_seconds)

        self.key = key
        self.keep_seconds = keep_seconds
        self.max_chunks = max_chunks
        self.max_calls = max_calls
        self.exit_seconds = exit_seconds
        self._calls: Calls | None = None

    @overload
    def __call__(
        self, inner: Service[Req, AsyncIterator[Chunk]], /
    ) -> Service[Req, ReplyStream[Chunk]]: ...
    @overload
    def __call__(
        self, inner: Service[Req, AbstractAsyncContextManager[AsyncIterator[Chunk]]], /
    ) -> Service[Req, ReplyStream[Chunk]]: ...
    @overload
    def __call__(self, inner: Service[Req, Res], /) -> Service[Req, Res]: ...
    def __call__(self, inner: Service[Req, Any], /) -> Service[Req, Any]:
        """Return *inner* with calls that their callers may leave and join."""
        check_inner(inner)
        return Resumable(inner, self, self.key, self._get_calls)

    async def join(self, key: Hashable) -> Any:
        """Join the call *key* without its request: return its `ReplyStream`, or its response.

        Raises:
            ReplyMissing: No call with this key is running or kept here, or it cannot be joined.
            CallStopped: The call was stopped before its inner service had returned.
            SessionError: The call would wait for itself.
            RuntimeError: The layer is entered in another event loop.
            Exception: The error of the call.
        """
        call = None if self._calls is None else self._calls.join(key)
        if call is None:
            reason = "is not here: it runs in another worker, has failed, or is not kept any more"
            raise ReplyMissing(key, reason)

        return await join_reply(call.reply)

    async def stop(self, key: Hashable) -> bool:
        """Stop the call *key* for all its readers, and drop its reply if it has finished.

        Return after its turn is saved: True if the call was running, otherwise False. If the
        caller is cancelled meanwhile, the call stops nevertheless. A call that stops itself, such
        as in a tool, does not wait for its own end.

        Raises:
            RuntimeError: The layer is entered in another event loop.
        """
        return self._calls is not None and await self._calls.stop(key)

    def running(self) -> tuple[Hashable, ...]:
        """Return the keys of the calls that are running, oldest first."""
        return () if self._calls is None else self._calls.running()

    async def __aenter__(self) -> Self:
        if self._calls is not None:
            msg = "the resumable layer is entered already; share it, or make another one"
            raise RuntimeError(msg)

        calls = Calls(
            max_calls=self.max_calls, max_chunks=self.max_chunks, keep_seconds=self.keep_seconds
        )
        await calls.enter()
        self._calls = calls
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._get_calls().leave(self.exit_seconds)
        finally:
            self._calls = None

    def __repr__(self) -> str:
        return f"ResumableLayer(key={describe(self.key)})"

    def _get_calls(self) -> Calls:
        """Return the calls of the layer.

        Raises:
            RuntimeError: The layer is not entered.
        """
        if self._calls is None:
            msg = "enter the resumable layer first, when the program starts: 'async with layer:'"
            raise RuntimeError(msg)
        return self._calls
