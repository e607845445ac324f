"""Bridges between event loops: asyncio-only clients on trio, and a store for every event loop.

A store for every event loop, and for none
==========================================

A store such as `SqliteSessionStore` is open in one event loop. `ThreadedStore` gives a store an
event loop of its own, on a thread of its own. It can then be made once, in a module, and be used
from every event loop, every thread, and code without an event loop. It opens on first use, and
needs no closing at the end of the process.

**Repeated asyncio.run**, as in scripts, notebooks and tests:

>>> import asyncio
>>> from tower_memory import SqliteSessionStore, Turn
>>> from tower_memory.bridges import ThreadedStore
>>> store = ThreadedStore(SqliteSessionStore.in_memory())  # or SqliteSessionStore("chat.db")
>>> revision = asyncio.run(store.append(Turn("user_123", [{"role": "user", "content": "Hi"}])))
>>> len(asyncio.run(store.load("user_123")))  # another event loop
1

**Synchronous web frameworks** (Flask, Django, Streamlit) call `ThreadedStore.blocking`, which has
the methods of the store without ``await``, from any thread. `ThreadedStore.run` runs an async
function, such as a service with memory, in the store's event loop. All calls through it share that
loop: turns of one session wait for each other, and the connections of an async client stay usable:

>>> from typing import Any
>>> from tower_memory import MemoryLayer, ScopedStore
>>> async def answer(messages: list[Any]) -> str:  # stands for the call of a model
...     return f"Messages received: {len(messages)}"
>>> def view(user: str, text: str) -> str:  # a view of Flask, or a callback of Streamlit
...     chat = MemoryLayer.over(ScopedStore(store, user), session_id="chat")(answer)
...     return store.run(chat, [{"role": "user", "content": text}])
>>> view("anna", "I like teal."), view("anna", "What do I like?")
('Messages received: 1', 'Messages received: 3')
>>> [item["role"] for item in store.blocking.load("user_123")]
['user']

With Streamlit, make the store in a function with ``@st.cache_resource``. If the server forks its
processes, the store must not have been used before.

**Notebooks** have an event loop that runs all the time: both ``await store.load("user_123")`` and
``store.blocking.load("user_123")`` work in a cell.

>>> store.close()  # optional; from an event loop, `await store.aclose()`

Asyncio-only clients on trio
============================

Some clients, such as litellm and openai-agents, need an asyncio loop. `AsyncioLayer` is a layer
that runs its inner service, and the streams that this service returns, in an asyncio loop. On
asyncio the layer calls the service directly, so the same code runs on both.

>>> from collections.abc import AsyncIterator
>>> import trio
>>> from tower_memory import InMemorySessionStore
>>> from tower_memory.bridges import AsyncioLayer
>>>
>>> class Client:  # stands for an asyncio-only client
...     async def chat(self, messages: list[Any]) -> AsyncIterator[str]:
...         for word in ["Once ", "upon ", "a ", "time."]:
...             await asyncio.sleep(0)  # fails outside asyncio
...             yield word
...
...     async def aclose(self) -> None:
...         await asyncio.sleep(0)
...         print("The client is closed.")
>>>
>>> client = Client()
>>>
>>> async def ask(messages: list[Any]) -> AsyncIterator[str]:
...     return client.chat(messages)
>>>
>>> async def close(_request: None) -> None:
...     await client.aclose()
>>>
>>> async def main() -> None:
...     memory = MemoryLayer.over(InMemorySessionStore(), session_id="user_123")
...     async with AsyncioLayer() as bridge:
...         chat = memory(bridge(ask))
...         async with await chat([{"role": "user", "content": "A story?"}]) as stream:
...             async for word in stream:
...                 print(word, end="")
...         print()
...         await bridge(close)(None)
>>>
>>> trio.run(main)
Once upon a time.
The client is closed.

1. **The bridge goes innermost**, directly around the service. The other layers then run on trio.
2. **Connections belong to the asyncio loop.** Open and close a client's connections inside the
   bridge. Most clients connect in their first call. Close the client before leaving the bridge:
   ``await bridge(close)(None)``.
3. **Read streams before leaving the bridge**, because leaving it ends their event loop. Reading a
   stream later raises `RuntimeError`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from inspect import isasyncgen, isasyncgenfunction, iscoroutinefunction
from itertools import count
from typing import Any, Generic, Self, cast, final

from anyio import get_cancelled_exc_class, get_current_task

from tower_memory._asyncio_call import END, BridgedCall
from tower_memory._blocking_store import BlockingStore
from tower_memory._calls import call_service, check_inner
from tower_memory._portal import PortalCall, is_asyncio, open_portal, remote_task
from tower_memory._service import Req, Res, Service, stack
from tower_memory._stream_source import is_stream
from tower_memory._threaded_store import ThreadedStore

__all__ = ("AsyncioLayer", "BlockingStore", "ThreadedStore")


@final
class AsyncioLayer:
    """Runs the inner service in an asyncio loop.

    On trio this is a loop in another thread; on asyncio it is the running loop.

    1. One task of the asyncio loop serves one call, and reads the stream that the call may return.
       Everything that the service awaits, and each step of its stream (entering, reading, closing),
       runs in that task, as it would on asyncio.
    2. Cancelling a call, or a read or an entry of a stream, cancels it in the asyncio loop. Closing
       or leaving a stream is not cancelled. The service gets the context variables of its caller.
    3. One loop, in a thread of its own, serves all calls through the layer. The first call starts
       the loop. Leaving the layer's context manager, or `aclose`, ends the loop and cancels the
       calls that still run in it; a later call starts another loop. The thread does not keep the
       process alive.

    On trio, a stream from the asyncio loop can be read, entered and closed. Its other attributes
    can be read too, except coroutine functions and async generators: these raise `AttributeError`,
    because they would run in the wrong event loop.

    Raises:
        TypeError: When called: the service is not async. The error has its reply in the attribute
            ``response``.
        RuntimeError: When called or when a stream is read: the bridge was left, or the call was
            cancelled in the asyncio loop, such as by leaving the bridge.
        OSError: When called: the asyncio loop cannot be started.
    """

    def __init__(self) -> None:
        self._exit_stack = AsyncExitStack()
        self._portal: _BridgePortal | None = None

    def __call__(self, inner: Service[Req, Res], /) -> BridgedService[Req, Res]:
        """Return a service that runs *inner* in the asyncio loop."""
        check_inner(inner)
        return BridgedService(inner, self)

    def portal(self) -> _BridgePortal | None:
        """Return the portal to the asyncio loop, and open it if needed; None on asyncio."""
        if is_asyncio():
            return None
        if self._portal is None:
            self._portal = _BridgePortal(open_portal(self._exit_stack))
        return self._portal

    async def aclose(self) -> None:
        """End the asyncio loop and cancel the calls in it. A later call starts another loop."""
        if self._portal is not None:
            self._portal.is_open = False
            self._portal = None
        await self._exit_stack.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return "AsyncioLayer()"


@final
@dataclass(frozen=True, slots=True, repr=False)
class BridgedService(Generic[Req, Res]):
    """A service that runs in an asyncio loop; made by `AsyncioLayer`.

    Attributes:
        inner: The service itself.
        layer: The layer that owns the asyncio loop.
    """

    inner: Service[Req, Res]
    layer: AsyncioLayer

    async def __call__(self, request: Req, /) -> Res:
        portal = self.layer.portal()
        if portal is None:
            return await call_service(self.inner, request)
        response = await portal.call(_start_call, portal, _current_task(), self.inner, request)
        return cast("Res", response)

    def __repr__(self) -> str:
        return stack(self.layer, self.inner)


@final
class BridgedStream:
    """A stream of the asyncio loop, for readers on trio; each step runs in the asyncio loop."""

    __slots__ = ("_call", "_missed", "_portal", "_read_numbers")

    def __init__(self, portal: _BridgePortal, call: BridgedCall) -> None:
        self._portal = portal
        self._call = call
        self._read_numbers = count(1)
        self._missed = 0  # number of a cancelled read; the next read asks for its chunk

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        number, missed, self._missed = next(self._read_numbers), self._missed, 0
        try:
            chunk = await self._portal.call(self._call.next, _current_task(), number, missed)
        except get_cancelled_exc_class():
            self._missed = number
            raise
        if chunk is END:
            raise StopAsyncIteration
        return chunk

    @property
    def is_cut(self) -> bool | None:
        """The value of `StreamSource.is_cut` after the latest read."""
        return self._call.is_cut

    async def __aenter__(self) -> Self:
        await self._portal.call(self._call.enter, _current_task())
        return self

    async def __aexit__(self, *failure: object) -> Any:
        return await self._portal.call(self._call.leave, _current_task(), *failure)

    async def aclose(self) -> None:
        """Close the stream with its own ``aclose`` or ``close`` method, if it has one."""
        await self._portal.call(self._call.close, _current_task())

    def __getattr__(self, name: str) -> Any:
        if name in BridgedStream.__slots__:  # not set yet, such as in a copy that is being made
            raise AttributeError(name)

        stream = self._call.stream
        value = getattr(stream, name)
        if name == "close":
            return self.aclose

        if iscoroutinefunction(value) or isasyncgen(value) or isasyncgenfunction(value):
            kind = type(stream).__name__
            msg = f"{name} of {kind} would run in another event loop; read the stream itself"
            raise AttributeError(msg)
        return value

    def __del__(self) -> None:
        with suppress(AttributeError):  # the proxy was never initialised
            self._call.detach()


@final
class _BridgePortal:
    """The portal of a bridge: calls functions in the asyncio loop until the bridge is left."""

    def __init__(self, call: PortalCall) -> None:
        self._call = call
        self.is_open = True

    async def call(self, function: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
        """Run *function* in the asyncio loop and return its result.

        Raises:
            RuntimeError: The bridge was left, or *function* was cancelled in the asyncio loop.
        """
        if not self.is_open:
            msg = "the bridge was left; read its streams inside its 'async with'"
            raise RuntimeError(msg)
        try:
            return await self._call(function, *arguments)
        except CancelledError as error:
            msg = "it was cancelled in its own event loop, such as by closing the bridge"
            raise RuntimeError(msg) from error


def _current_task() -> object:
    """Return the remote task that the current code runs for, else the current task's coroutine."""
    return remote_task.get() or get_current_task().coro


async def _start_call(
    portal: _BridgePortal, caller: object, inner: Service[Any, Any], request: Any
) -> Any:
    """Call *inner*, in the asyncio loop. Return its response, or the proxy of a stream."""
    call = BridgedCall()
    try:
        response = await call.run(caller, inner, request)
    except BaseException:
        call.detach()
        raise

    if is_stream(response):
        return BridgedStream(portal, call)
    call.detach()
    return response
