"""A service with scripted answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from inspect import isawaitable
from typing import Any, final

from anyio.lowlevel import checkpoint

from tower_memory._service import describe


@final
class ScriptedService:
    """A service that returns given answers one after another, and records its requests.

    An exception among the answers is raised. A function is called with the request; its result is
    the answer, and is awaited first if it is awaitable, and raised if it is an exception. Any other
    answer is returned.

    >>> import anyio
    >>> from tower_memory.testing import ScriptedService
    >>> service = ScriptedService("Hello", ConnectionError("reset"), lambda request: request * 2)
    >>> anyio.run(service, "one")
    'Hello'
    >>> anyio.run(service, "two")
    Traceback (most recent call last):
        ...
    ConnectionError: reset
    >>> anyio.run(service, "three")
    'threethree'
    >>> service.requests
    ['one', 'two', 'three']

    Attributes:
        requests: Requests so far, oldest first; the same objects that the caller passed.

    Args:
        answers: Answers, in the order of the calls.

    Raises:
        AssertionError: The service was called more often than it has answers.
    """

    def __init__(self, *answers: object | Callable[[Any], object]) -> None:
        self.requests: list[Any] = []
        self._answers: deque[Any] = deque(answers)

    async def __call__(self, request: Any, /) -> Any:
        self.requests.append(request)
        await checkpoint()  # like a real model call, a scripted call can be cancelled

        if not self._answers:
            msg = f"there is no answer left for request {len(self.requests)}: {request!r}"
            raise AssertionError(msg)
        answer = self._answers.popleft()

        if callable(answer):
            answer = answer(request)
            if isawaitable(answer):
                answer = await answer

        if isinstance(answer, BaseException):
            raise answer
        return answer

    def __repr__(self) -> str:
        return f"ScriptedService({', '.join(map(describe, self._answers))})"
