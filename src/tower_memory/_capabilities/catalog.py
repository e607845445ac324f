"""`SessionCatalog`: the list of sessions, their descriptions, metadata and forks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, final, runtime_checkable

from tower_memory._arguments import check_text
from tower_memory._capabilities.pages import Page
from tower_memory._store import check_session_id
from tower_memory._turn import check_metadata


@final
@dataclass(frozen=True, slots=True)
class SessionInfo:
    """The description of a session.

    Attributes:
        session_id: The session's id.
        created_at: Time at which the session was created, with the time zone UTC.
        updated_at: Time of the last change of its turns, with the time zone UTC; the time of its
            creation if there was none.
        revision: Its revision, as `SessionStore` defines it. It may exceed 2**53, up to which
            JavaScript's numbers are exact.
        items: Number of its items.
        turns: Number of its turns.
        metadata: Metadata of the session, such as a title; empty if there is none. The dict is a
            copy: changing it changes nothing in the store.
        forked_from: Id of the session from which it was copied. None if it was not copied, or if
            that session was erased.
    """

    session_id: str
    created_at: datetime
    updated_at: datetime
    revision: int
    items: int
    turns: int
    metadata: dict[str, Any]
    forked_from: str | None


@runtime_checkable
class SessionCatalog(Protocol):
    """A store that can list and describe its sessions. Every store of this library can.

    Bad arguments raise `TypeError` or `ValueError` before anything else happens.

    >>> import anyio
    >>> from tower_memory import InMemorySessionStore, Turn
    >>> async def main() -> None:
    ...     store = InMemorySessionStore()
    ...     for turn_id, text in ("t1", "Hi"), ("t2", "A joke?"):
    ...         question = {"role": "user", "content": text}
    ...         await store.append(Turn("chat-1", [question], turn_id=turn_id))
    ...     await store.annotate("chat-1", {"title": "Jokes"})
    ...     await store.fork("chat-1", "chat-2", before="t2")  # to edit the question t2
    ...     for info in await store.sessions():
    ...         print(info.session_id, info.metadata["title"], info.turns, info.forked_from)
    >>> anyio.run(main)
    chat-2 Jokes 1 chat-1
    chat-1 Jokes 2 None
    """

    async def sessions(
        self, *, prefix: str = "", limit: int = 50, after: str | None = None
    ) -> Page[SessionInfo]:
        """Return a page of the sessions, the last active first.

        A session becomes active when it is created, and with each change of its turns.

        To walk over all sessions, pass `Page.next` of each page as *after* until it is None. A walk
        never returns a session twice. It returns every session that was not active during the walk;
        one that was active is at the front of the next walk.

        Args:
            prefix: Return only the sessions whose ids start with this text, compared by code
                points.
            limit: Maximum number of sessions of a page; at least 1.
            after: The cursor of the page, from the page before it; None for the first page.

        Raises:
            ValueError: *after* is no cursor, or that of another *prefix*.
            SessionError: The store cannot be read.
        """
        ...

    async def describe(self, session_id: str) -> SessionInfo | None:
        """Return the description of a session; None if there is no such session.

        Raises:
            SessionError: The store cannot be read.
        """
        ...

    async def annotate(
        self,
        session_id: str,
        metadata: Mapping[str, Any],
        *,
        create: bool = False,
        overwrite: bool = True,
    ) -> SessionInfo | None:
        """Merge *metadata* into the metadata of a session, and return its new description.

        The merge is one commit. It changes neither the revision nor the times of the session.

        Args:
            session_id: The session.
            metadata: A mapping that JSON can hold. A value of None removes its key.
            create: If the session does not exist, create it without turns. Otherwise nothing is
                written and None is returned, so a late title does not revive an erased session.
            overwrite: Replace the values of keys that the session has. False keeps them, so a
                generated title does not replace a user's title; a value of None then does nothing.

        Raises:
            UnencodableItemError: JSON cannot hold *metadata*, or would change it.
            SessionError: The store cannot be written.
        """
        ...

    async def fork(
        self, session_id: str, new_session_id: str, *, before: str | None = None
    ) -> SessionInfo:
        """Copy a session to a new session, in one commit, and return the new description.

        The copy has the turns with their ids, times and metadata, and the session's metadata. It
        has times and a revision of its own. Pending turns are not copied. A later change of one of
        the two sessions does not change the other.

        Args:
            session_id: The session to copy.
            new_session_id: Id of the new session.
            before: Copy only the turns before the turn with this id; None copies all turns.

        Raises:
            SessionError: The session *session_id* does not exist, or the store cannot be written.
            TurnMissing: The session *session_id* does not hold the turn *before*.
            SessionConflict: The session *new_session_id* exists.
        """
        ...


def check_annotate(session_id: object, metadata: object) -> None:
    """Refuse bad arguments of `SessionCatalog.annotate`.

    Raises:
        TypeError: *session_id* is no string, or *metadata* is no mapping.
        ValueError: *session_id* is empty or contains a lone surrogate.
    """
    check_session_id(session_id)
    check_metadata(metadata)


def check_fork(session_id: object, new_session_id: object, before: object) -> None:
    """Refuse bad arguments of `SessionCatalog.fork`.

    Raises:
        TypeError: An id is no string.
        ValueError: An id is empty or contains a lone surrogate.
    """
    check_session_id(session_id)
    check_text("new_session_id", new_session_id)
    if before is not None:
        check_text("before", before)


def merge_metadata(
    present: Mapping[str, Any], added: Mapping[str, Any], *, overwrite: bool
) -> dict[str, Any]:
    """Return the metadata of a session after `SessionCatalog.annotate`, as a new dict.

    *present* is the metadata of the session, and *added* the argument of the call.

    >>> from tower_memory.store_toolkit import merge_metadata
    >>> merge_metadata({"title": "Rome", "pinned": True}, {"title": "Trip"}, overwrite=False)
    {'title': 'Rome', 'pinned': True}
    """
    if not overwrite:
        added = {key: value for key, value in added.items() if key not in present}
    merged = {**present, **added}
    return {key: value for key, value in merged.items() if value is not None}
