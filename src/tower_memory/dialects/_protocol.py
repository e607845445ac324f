"""The protocols of a dialect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

from tower_memory._tool_links import ItemLinks


@final
@dataclass(frozen=True, slots=True)
class Streamed:
    """A streamed reply: the response that `Dialect.reply_items` gets for a stream.

    Attributes:
        chunks: The chunks of the stream, in order.
        interrupted: True if the stream failed or was closed before its end. The dialect then
            marks the items as interrupted, and leaves out parts that a provider would refuse, such
            as half a call.
        stream: The client's stream, for content that the chunks do not carry. It has ended, failed
            or been closed.
    """

    chunks: Sequence[Any]
    interrupted: bool = False
    stream: object = None


class Dialect(Protocol):
    """Converts between session items and the requests and responses of one kind of service.

    All methods are pure: they change none of their arguments. They raise `TypeError` or
    `ValueError` for a request or a response that they cannot read. The message names the expected
    and the given shape.
    """

    def new_items(self, request: Any, /) -> Sequence[Any]:
        """Return the items that *request* carries, in order, without its instructions."""
        ...

    def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
        """Return *request* with *history* after its instructions and before its items.

        The history is oldest first. The result is a request of the same kind, and only its
        messages differ. It is a copy, or *request* itself if nothing is added. The provider
        accepts it: each tool result has its tool call, and each tool call of the history has its
        result.
        """
        ...

    def reply_items(self, request: Any, response: Any, /) -> Sequence[Any]:
        """Return the new items of *response*, in order: those that *request* does not have.

        The response of a stream is a `Streamed`. A response that is a list, or has ``messages``,
        may carry the whole conversation. For such a response, *request* is hydrated: it equals
        the request that was passed to the service. For all others, *request* has only the new
        items: it is the caller's request, with ``whole_requests=True`` shortened by `newest`.
        """
        ...


@runtime_checkable
class WholeRequests(Protocol):
    """A dialect that supports ``whole_requests=True``."""

    def newest(self, request: Any, count: int, /) -> Any:
        """Return *request* with its instructions and only the last *count* of its items.

        The items are those of `Dialect.new_items`. *count* is at least 1.
        """
        ...


@runtime_checkable
class LinkedDialect(Protocol):
    """A dialect that tells which items make tool calls, answer them, or start an exchange.

    Windows, repair and reconcile read these links. For a dialect without this method, items are
    read as items of the dialects in this package.
    """

    def links(self, item: Any, /) -> ItemLinks:
        """Return the tool calls and results of *item*, and whether an exchange starts with it.

        The method must accept stored items, items of a request, and items that a window added,
        such as ``{"role": "user", "content": "A summary"}``. The id of a call need not be unique,
        and None stands for a call or a result without an id: see `ItemLinks`.
        """
        ...
