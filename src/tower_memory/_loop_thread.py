"""A thread with an asyncio loop of its own, which runs calls from any thread and event loop.

1. The thread is a daemon, so it does not keep the process alive.
2. Calls begin in the order in which they are started. A call gets the context variables of its
   caller.
3. If a waiting caller is cancelled, its call is cancelled in the same way: by a scope, which
   shielded code ignores, or natively. The caller then waits for the end of the call, so no part of
   it runs later, except work that it has already given to another thread, such as a commit.
4. After `stop`, the thread runs the calls in progress to their ends, then the function *finish*,
   then it ends.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from math import inf
from threading import Thread, current_thread
from typing import Any, Generic, NamedTuple, TypeVar, final

import anyio
from anyio import CancelScope, current_effective_deadline, get_cancelled_exc_class
from anyio.abc import TaskGroup
from anyio.lowlevel import EventLoopToken, current_token

from tower_memory._portal import call_soon, wait_until_done

T = TypeVar("T")


@final
class Call(Generic[T]):
    """A call in the loop of a thread.

    Args:
        function: Function without parameters; its result is awaited in the loop.
    """

    _loop: EventLoopToken

    def __init__(self, function: Callable[[], Awaitable[T]]) -> None:
        self._function = function
        self._outcome: Future[T] = Future()
        self._scope: CancelScope | None = None
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False

    def start_soon(self, loop: EventLoopToken, tasks: TaskGroup) -> None:
        """Start the call in *tasks*, a task group of *loop*; called from any thread."""
        self._loop = loop
        # Unlike `call_soon`, this names asyncio in the context variables of the call; a caller on
        # trio may have named trio there.
        loop.backend_class.run_sync_soon(tasks.start_soon, (self._run,), loop.native_token)

    async def wait(self) -> T:
        """Wait for the end of the call in another event loop, and return its result (rule 3)."""
        cancelled = get_cancelled_exc_class()
        try:
            await wait_until_done(self._outcome)
        except cancelled:
            is_by_scope = current_effective_deadline() == -inf
            self._cancel(natively=not is_by_scope)
            with CancelScope(shield=True):
                await wait_until_done(self._outcome)
            # A call that a scope could not cancel, since it was shielded, has a result.
            if not is_by_scope or isinstance(self._outcome.exception(), asyncio.CancelledError):
                raise
        except BaseException:  # the caller's coroutine was closed
            self._cancel(natively=True)
            raise
        return self._outcome.result()

    def wait_blocking(self) -> T:
        """Block the thread until the end of the call, and return its result."""
        try:
            return self._outcome.result()
        except BaseException:
            if not self._outcome.done():  # such as by KeyboardInterrupt
                self._cancel(natively=True)
            raise

    async def _run(self) -> None:
        """Run the call to its end, in the loop; every error is its outcome."""
        self._task = asyncio.current_task()
        try:
            with CancelScope() as self._scope:
                if self._is_cancelled:
                    self._scope.cancel()
                self._outcome.set_result(await self._function())
                return
            self._outcome.set_exception(asyncio.CancelledError())
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            self._outcome.set_exception(error)

    def _cancel(self, *, natively: bool) -> None:
        """Cancel the call soon; called from any thread."""

        def cancel() -> None:
            self._is_cancelled = True
            if self._scope is None or self._task is None or self._outcome.done():
                return
            if natively:
                self._task.cancel()
            else:
                self._scope.cancel()

        call_soon(self._loop, cancel)


class _Running(NamedTuple):
    """The parts of a loop that runs: its token, the group of its calls, and a way to stop it."""

    loop: EventLoopToken
    calls: TaskGroup
    stop: Callable[[], object]


@final
class LoopThread:
    """A thread with an asyncio loop, which runs from the constructor until `stop`.

    Args:
        finish: Async function that the loop calls last.

    Attributes:
        process: Id of the process that has the thread.
        is_stopping: True after `stop`.
        ended: Future that is done when the loop has ended. It has the error of *finish*, if that
            function raised one.

    Raises:
        OSError: The loop cannot be started, such as because of too many open files.
        RuntimeError: The thread cannot be started.
    """

    def __init__(self, finish: Callable[[], Awaitable[object]]) -> None:
        started: Future[_Running] = Future()
        self.process = os.getpid()
        self.is_stopping = False
        self.ended: Future[None] = Future()
        self._thread = Thread(
            target=_run_thread,
            args=(finish, started, self.ended),
            name="tower-memory store",
            daemon=True,
        )
        self._thread.start()
        self._running = started.result()

    def is_current(self) -> bool:
        """Return True if the running code is on this thread."""
        return current_thread() is self._thread

    def start(self, call: Call[Any]) -> None:
        """Start *call* in the loop; not after `stop`."""
        call.start_soon(self._running.loop, self._running.calls)

    def stop(self) -> None:
        """Let the thread end soon (rule 4). May be called from a finalizer."""
        self.is_stopping = True
        call_soon(self._running.loop, self._running.stop)


def _run_thread(
    finish: Callable[[], Awaitable[object]], started: Future[_Running], ended: Future[None]
) -> None:
    """Run the loop of a `LoopThread`; on its thread."""

    async def serve() -> None:
        stopped = anyio.Event()
        async with anyio.create_task_group() as calls:
            started.set_result(_Running(current_token(), calls, stopped.set))
            await stopped.wait()
        await finish()

    try:
        anyio.run(serve)
    except BaseException as error:  # noqa: BLE001 - a caller gets it
        (ended if started.done() else started).set_exception(error)
    else:
        ended.set_result(None)
