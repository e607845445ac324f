"""A session as a handle, as agent frameworks expect it."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final, Protocol, TypeVar

from tower_memory._store import check_session_id

SessionItem = TypeVar("SessionItem")

_FILE_SUFFIXES: Final = (".db", ".sqlite", ".sqlite3")


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


def check_handle(session_id: object, path: object) -> None:
    """Refuse a bad session id, and a session id and a path that look swapped.

    They look swapped if the id has the suffix of a database file and the path is a string without a
    suffix. Without this check, the handle would make a new file with the name of the session.

    Raises:
        TypeError: *session_id* is no string.
        ValueError: *session_id* is empty or has a lone surrogate, or the two look swapped.
    """
    check_session_id(session_id)
    is_file = PurePath(str(session_id)).suffix.lower() in _FILE_SUFFIXES
    has_path = not isinstance(path, str) or path == ":memory:" or PurePath(path).suffix
    if is_file and not has_path:
        msg = (
            f"session_id and path look swapped, got session_id={session_id!r} and path={path!r}; "
            "pass the session id first, or a path with a suffix"
        )
        raise ValueError(msg)
