"""A session as a handle, as agent frameworks expect it."""

from __future__ import annotations

from typing import Protocol, TypeVar

SessionItem = TypeVar("SessionItem")


class Session(Protocol[SessionItem]):
    """One session as a handle.

    The methods are those of openai-agents' protocol of the same name. Items are oldest first.
    """

    session_id: str

    async def get_items(self, limit: int | None = None) -> list[SessionItem]:
        """Return the session's items, at most the newest *limit*; None returns all."""
        ...

    async def add_items(self, items: list[SessionItem]) -> None:
        """Add *items*, all or none, as `SessionStore.append` does."""
        ...

    async def pop_item(self) -> SessionItem | None:
        """Remove the newest item and return it, as `SessionStore.pop` does."""
        ...

    async def clear_session(self) -> None:
        """Remove all items, as `SessionStore.clear` does."""
        ...
