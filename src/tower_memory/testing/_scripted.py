"""A service that answers from a script."""

from __future__ import annotations

from collections import deque
from inspect import isawaitable
from typing import Any, final

from anyio.lowlevel import checkpoint

from tower_memory._service import describe


@final
class ScriptedService:
    """A service that gives one answer after another, and keeps the requests it was given.

    An answer is what it returns; a function is called with the request, and awaited if it gives an
    awaitable; an exception, given or returned, is raised.

    >>> import anyio
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
        requests: The requests so far, oldest first, as they came: the very objects.

    Raises:
        AssertionError: It is called more often than it has answers.
    """

    def __init__(self, *answers: Any) -> None:
        self.requests: list[Any] = []
        self._answers = deque(answers)

    async def __call__(self, request: Any, /) -> Any:
        self.requests.append(request)
        await checkpoint()  # as a call of a model can be cancelled
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
