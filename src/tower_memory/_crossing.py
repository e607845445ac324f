"""The way from any event loop to one of asyncio, for what speaks asyncio only.

On asyncio there is none to go. From trio it leads to an asyncio loop on a thread of its own, which
keeps no process alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack
from threading import Thread
from typing import Any, TypeAlias, TypeVar

import anyio
from anyio.from_thread import BlockingPortal
from anyio.lowlevel import current_token

Cross: TypeAlias = Callable[..., Awaitable[Any]]
"""The way from this event loop to an asyncio loop: takes a coroutine function, and arguments."""

T = TypeVar("T")


def crossing(opened: AsyncExitStack) -> Cross:
    """The way from this event loop to an asyncio loop: none to go on asyncio, else a portal.

    Not anyio's ``start_blocking_portal``: a generator, which left open would wait, as the process
    exits, for a thread that is no more.
    """
    if is_asyncio():
        return _stay
    started: Future[BlockingPortal] = Future()
    thread = Thread(target=_run_portal, args=(started,), daemon=True)
    thread.start()
    portal = started.result()

    async def stop() -> None:
        await portal.call_async(portal.stop)
        thread.join()

    opened.push_async_callback(stop)
    return portal.call_async


def is_asyncio() -> bool:
    """Whether the event loop that runs is one of asyncio."""
    return isinstance(current_token().native_token, asyncio.AbstractEventLoop)


async def _stay(function: Callable[..., Awaitable[T]], *arguments: object) -> T:
    return await function(*arguments)


def _run_portal(started: Future[BlockingPortal]) -> None:
    async def serve() -> None:
        async with BlockingPortal() as portal:
            started.set_result(portal)
            await portal.sleep_until_stopped()

    try:
        anyio.run(serve)
    except OSError as error:  # such as too many open files
        started.set_exception(error)
