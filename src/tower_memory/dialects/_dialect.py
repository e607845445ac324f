"""What a dialect is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable


@final
@dataclass(frozen=True, slots=True)
class Streamed:
    """What came of a reply that was streamed; the response, for `Dialect.reply_items`.

    Attributes:
        chunks: What the stream gave, in order.
        interrupted: Whether it did not come to its end. The items are marked as interrupted then,
            and without what a provider would not take back, such as half a call of a tool.
        stream: What gave the chunks.
    """

    chunks: Sequence[Any]
    interrupted: bool = False
    stream: object = None


class Dialect(Protocol):
    """Three pure functions that know how one kind of service spells a conversation.

    They change none of their arguments. What they cannot read they refuse with a `TypeError` or
    `ValueError` that says what was expected and what came.
    """

    def new_items(self, request: Any, /) -> Sequence[Any]:
        """The items that *request* carries, in order, but for its instructions."""
        ...

    def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
        """*request* with *history*, oldest first, before its own items.

        A request of the same kind, in which nothing but its messages differs, and which the
        service accepts: no tool result without its call, no call without its result.
        """
        ...

    def reply_items(self, request: Any, response: Any, /) -> Sequence[Any]:
        """The items that *response* adds to those of the session and of *request*, in order.

        A response that is a list, or has ``messages``, may be the whole conversation: then
        *request* is as the service got it, else as the caller made it. A response that came in
        chunks is a `Streamed`.
        """
        ...


@runtime_checkable
class WholeRequests(Protocol):
    """A dialect that can also read requests that carry the whole conversation each time."""

    def newest(self, request: Any, count: int, /) -> Any:
        """*request* with its instructions and only the last *count* of its items."""
        ...
