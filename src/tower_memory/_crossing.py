"""The way from any event loop to one of asyncio, for what speaks asyncio only.

On asyncio there is none to go. From trio it leads to an asyncio loop on a thread of its own, which
keeps no process alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from contextvars import ContextVar
from threading import Thread
from typing import Any, TypeAlias, TypeVar

import anyio
from anyio import Event, fail_after
from anyio.from_thread import BlockingPortal
from anyio.lowlevel import EventLoopToken, current_token

Cross: TypeAlias = Callable[..., Awaitable[Any]]
"""The way from this event loop to an asyncio loop: takes a coroutine function, and arguments."""

T = TypeVar("T")

acting_for: ContextVar[Any] = ContextVar("tower_memory_acting_for", default=None)
"""The task of another event loop that this is done for, or None."""


def crossing(opened: AsyncExitStack) -> Cross:
    """The way from this event loop to an asyncio loop: none to go on asyncio, else a portal.

    Not anyio's ``start_blocking_portal``: a generator, which left open would wait, as the process
    exits, for a thread that is no more.
    """
    if is_asyncio():
        return _stay
    started: Future[BlockingPortal] = Future()
    ended: Future[None] = Future()
    thread = Thread(target=_run_portal, args=(started, ended), daemon=True)
    thread.start()
    portal = started.result()

    async def stop() -> None:
        is_over, token = Event(), current_token()
        with fail_after(None, shield=True):
            await portal.call_async(portal.stop, True)  # noqa: FBT003 - with all that still runs
            ended.add_done_callback(lambda _: call_soon(token, is_over.set))
            await is_over.wait()
        thread.join()

    opened.push_async_callback(stop)
    return portal.call_async


def is_asyncio() -> bool:
    """Whether the event loop that runs is one of asyncio."""
    return isinstance(current_token().native_token, asyncio.AbstractEventLoop)


def _stay(function: Callable[..., Awaitable[T]], *arguments: object) -> Awaitable[T]:
    return function(*arguments)


def call_soon(loop: EventLoopToken, function: Callable[[], object]) -> None:
    """Have *loop* call *function* soon, from wherever this is called, a finalizer included; not at
    all if it is over.
    """
    native: Any = loop.native_token
    soon = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
    with suppress(RuntimeError):
        soon(function)


def _run_portal(started: Future[BlockingPortal], ended: Future[None]) -> None:
    async def serve() -> None:
        async with BlockingPortal() as portal:
            started.set_result(portal)
            await portal.sleep_until_stopped()

    try:
        anyio.run(serve)
    except OSError as error:  # such as too many open files
        started.set_exception(error)
    finally:
        ended.set_result(None)
