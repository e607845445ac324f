"""A portal to an asyncio loop, for code on trio that needs asyncio.

`open_portal` starts an asyncio loop in a daemon thread, which does not keep the process alive. The
portal calls functions in that loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack
from contextvars import ContextVar
from threading import Thread
from typing import Any, TypeAlias, TypeVar

import anyio
from anyio import Event, fail_after
from anyio.from_thread import BlockingPortal
from anyio.lowlevel import EventLoopToken, current_token

PortalCall: TypeAlias = Callable[..., Awaitable[Any]]
"""Function that takes a coroutine function and its arguments, and runs it in an asyncio loop."""

T = TypeVar("T")

remote_task: ContextVar[Any] = ContextVar("tower_memory_remote_task", default=None)
"""The task, in another event loop, that waits for the current code; or None."""


def open_portal(exit_stack: AsyncExitStack) -> PortalCall:
    """Start an asyncio loop in a thread, and return a function that runs coroutine functions in it.

    Closing *exit_stack* cancels the calls that still run, ends the loop and joins the thread.

    Raises:
        OSError: The asyncio loop cannot be started.
    """
    # Not anyio's start_blocking_portal: if that generator is never closed, its finalizer waits, as
    # the process exits, for a thread that no longer exists.
    started: Future[BlockingPortal] = Future()
    ended: Future[None] = Future()
    thread = Thread(target=_run_portal, args=(started, ended), daemon=True)
    thread.start()
    portal = started.result()

    async def stop() -> None:
        has_ended, loop = Event(), current_token()
        with fail_after(None, shield=True):
            await portal.call_async(portal.stop, True)  # noqa: FBT003 - cancel the running calls
            ended.add_done_callback(lambda _: call_soon(loop, has_ended.set))
            await has_ended.wait()
        thread.join()

    exit_stack.push_async_callback(stop)
    return portal.call_async


def is_asyncio() -> bool:
    """Return True if the running event loop is an asyncio loop."""
    return isinstance(current_token().native_token, asyncio.AbstractEventLoop)


def call_soon(loop: EventLoopToken, function: Callable[[], object]) -> bool:
    """Schedule *function* to be called soon in *loop*; return False if the loop has ended.

    May be called from any thread, and from a finalizer.
    """
    native: Any = loop.native_token
    schedule = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
    try:
        schedule(function)
    except RuntimeError:
        return False
    return True


def has_ended(loop: EventLoopToken) -> bool:
    """Return True if *loop* has ended."""
    return not call_soon(loop, lambda: None)


async def wait_until_done(future: Future[Any]) -> None:
    """Wait until another thread has set the outcome of *future*.

    Cancelling the caller leaves the future alone.
    """
    if not future.done():
        loop, done = current_token(), Event()
        future.add_done_callback(lambda _: call_soon(loop, done.set))
        await done.wait()


def _run_portal(started: Future[BlockingPortal], ended: Future[None]) -> None:
    """Run an asyncio loop until its portal is stopped; report the portal, and the end."""

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
