"""The jobs of a worker thread: operations, and their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar, final

from anyio import Event
from anyio.lowlevel import EventLoopToken, current_token

Resource = TypeVar("Resource")


@final
class RetryLater(Exception):
    """Raised by an operation that cannot run yet and asks to be tried again.

    `WorkerThread.run` raises it if the thread stops before that: the caller may use another thread.
    """


@final
class NoAnswer(Exception):
    """Raised by `WorkerThread.run` when the caller's patience ends before its job is settled.

    If the job has begun, it runs to its end.
    """


@final
class Job(Generic[Resource]):
    """A queued operation and, once settled, its outcome.

    Attributes:
        operation: Function of the resource; it returns the result, or a generator if `in_steps`.
        in_steps: True if the operation is a generator function.
        needs_check: True if the job must not run on a resource that fails the check.
        loop: The event loop of the caller; None means that of the current task.
        done: Set in this loop once the job is settled.
        is_cancelled: True if the caller no longer waits.
        is_settled: True once there is a result or an error.
        error: The error of the operation, or None.
    """

    __slots__ = (
        "_result",
        "_steps",
        "done",
        "error",
        "in_steps",
        "is_cancelled",
        "is_settled",
        "loop",
        "needs_check",
        "operation",
    )

    def __init__(
        self,
        operation: Callable[[Resource], Any],
        *,
        in_steps: bool = False,
        needs_check: bool = True,
        loop: EventLoopToken | None = None,
    ) -> None:
        self.operation = operation
        self.in_steps = in_steps
        self.needs_check = needs_check
        self.loop = loop or current_token()
        self.done = Event()
        self.is_cancelled = False
        self.is_settled = False
        self._steps: Generator[None, None, Any] | None = None
        self._result: Any = None
        self.error: BaseException | None = None

    def settle(self, result: Any) -> None:
        """Set the result, which the caller gets."""
        self._result = result
        self.is_settled = True

    def fail(self, error: BaseException) -> None:
        """Set the error, which is raised to the caller."""
        self.error = error
        self.is_settled = True

    def outcome(self) -> Any:
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        return self._result

    def run(self, resource: Resource) -> None:
        """Run the operation and settle the job; leave it unsettled on `RetryLater`."""
        try:
            self.settle(self.operation(resource))
        except RetryLater:
            return
        except BaseException as error:  # noqa: BLE001 - outcome() raises it to the caller
            self.fail(error)

    def step(self, resource: Resource) -> None:
        """Run the next step; settle the job after the last step, or if it was cancelled."""
        try:
            steps = self._steps = self._steps or self.operation(resource)
            if self.is_cancelled:
                steps.close()
                self.settle(None)
            else:
                next(steps)

        except StopIteration as end:
            self.settle(end.value)
        except BaseException as error:  # noqa: BLE001 - outcome() raises it to the caller
            self.fail(error)
