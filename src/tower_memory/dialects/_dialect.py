"""What a dialect is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Dialect(Protocol):
    """Three pure functions that know how one kind of service spells a conversation.

    They change none of their arguments. What they cannot read they refuse with a `TypeError` or
    `ValueError` that says what was expected and what came.
    """

    def new_items(self, request: Any, /) -> Sequence[Any]:
        """The items of *request* that are new, in order: what the session does not have yet."""
        ...

    def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
        """*request* with *history*, oldest first, before its new items.

        A request of the same kind, in which nothing but its messages differs, and which the
        service accepts: no tool result without its call, no call without its result.
        """
        ...

    def reply_items(self, request: Any, response: Any, /) -> Sequence[Any]:
        """The items that *response* adds to the session and to those of *request*, in order."""
        ...
