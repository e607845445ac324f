"""The protocols of windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from tower_memory._history import History


class Window(Protocol):
    """A service from a history to the items that the model gets, oldest first."""

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """Return the items that the model gets before the items of the request."""
        ...


@runtime_checkable
class BoundedWindow(Protocol):
    """A window that tells how many of the newest items it needs.

    The method is optional; a window without it gets the whole history.
    """

    def needs(self, loaded: History[Any] | None, /) -> int | None:
        """Return the number of newest items to load; None loads all.

        The layer first passes None. Then it loads, and passes the history *loaded* so far, until
        the window needs no more items than are loaded, or all items are loaded.
        """
        ...
