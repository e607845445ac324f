"""`SessionErasure`: removing sessions, and the last bytes of removed content."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Protocol, final, runtime_checkable

from tower_memory._arguments import check_text, shown
from tower_memory._errors import SessionConflict
from tower_memory._turn import check_revision


@final
class Erasure(NamedTuple):
    """The numbers of sessions, turns and items that `SessionErasure.erase` removed.

    Attributes:
        sessions: Number of sessions.
        turns: Number of turns in these sessions.
        items: Number of items in these turns.
    """

    sessions: int
    turns: int
    items: int

    def plus(self, other: Erasure) -> Erasure:
        """Return the sums of the numbers of two erasures.

        >>> from tower_memory import Erasure
        >>> Erasure(1, 2, 4).plus(Erasure(1, 1, 3))
        Erasure(sessions=2, turns=3, items=7)
        """
        return Erasure(*map(sum, zip(self, other, strict=True)))


@runtime_checkable
class SessionErasure(Protocol):
    """A store that can remove sessions for good. Every store of this library can.

    >>> import anyio
    >>> from tower_memory import InMemorySessionStore, Turn
    >>> async def main() -> None:
    ...     store = InMemorySessionStore()
    ...     for session_id in ("anna/1", "anna/2", "ben/1"):
    ...         await store.append(Turn(session_id, [{"role": "user", "content": "Hi"}]))
    ...     print(await store.erase(prefix="anna/"))
    ...     await store.scrub()
    ...     print([info.session_id for info in await store.sessions()])
    >>> anyio.run(main)
    Erasure(sessions=2, turns=2, items=2)
    ['ben/1']
    """

    async def erase(
        self,
        *,
        session_id: str | None = None,
        prefix: str | None = None,
        inactive_since: datetime | None = None,
        expected_revision: int | None = None,
    ) -> Erasure:
        """Remove whole sessions, and return the numbers of removed sessions, turns and items.

        Items, turns, metadata, pending turns and summaries of the sessions are removed. A turn in
        progress does not revive a session that is named by *session_id*, even before its first
        write: its save raises `SessionCleared`. This protection lasts one day. A fork is a session
        of its own and stays.

        Sessions are erased one after another, and each is erased as a whole or not at all. If the
        call fails or is cancelled, call it again. If no session is selected, all numbers are 0.

        With *expected_revision*, the call erases the session only if it is at that revision. The
        commit that erases the session compares the revision. If the session exists at another
        revision, it stays, and the call raises `SessionConflict`. If the session does not exist,
        nothing is written, and all numbers are 0. So a caller that does not know the outcome of a
        call may repeat it: the repeated call neither removes turns that were saved after the first
        call, nor makes a turn fail that has begun after it.

        The bytes of erased items may stay in files until `scrub`.

        Args:
            session_id: The session to erase. Exactly one of *session_id* and *prefix* is given.
            prefix: Erase the sessions whose ids start with this text, compared by code points;
                ``""`` erases all sessions.
            inactive_since: Erase only sessions that were last changed before this time, which needs
                a time zone; None erases all. A session that is changed during the call stays.
            expected_revision: The revision that the session must have, a 64-bit integer, such as
                `History.revision` of the history that the user saw. It needs *session_id*. None
                erases a session at any revision. Changes of metadata, pending turns and summaries
                do not change the revision. It is not compared if *inactive_since* keeps the
                session.

        Raises:
            TypeError: A parameter has the wrong type, not exactly one of *session_id* and *prefix*
                is given, or *expected_revision* is given with *prefix*.
            ValueError: *session_id* is empty or contains a lone surrogate, *prefix* contains one,
                *inactive_since* has no time zone, or *expected_revision* is no 64-bit integer.
            SessionConflict: The session exists, and is not at *expected_revision*. It stays.
            SessionError: The store cannot be written.
        """
        ...

    async def scrub(self) -> None:
        """Remove every byte of erased, cleared and replaced content from the store's files.

        The call may be repeated at any time. A store that keeps sessions only in memory does
        nothing. Memory of the process, backups, exports and snapshots are not covered.

        Raises:
            SessionError: The store cannot be rewritten now, such as while another process reads
                from an old state of it: call it again. Or a program cannot do it at all, because
                the files belong to a server: the message says what to do.
        """
        ...


def check_erase(
    session_id: str | None,
    prefix: str | None,
    inactive_since: datetime | None,
    expected_revision: int | None = None,
) -> None:
    """Refuse bad arguments of `SessionErasure.erase`.

    Raises:
        TypeError: See `SessionErasure.erase`.
        ValueError: See `SessionErasure.erase`.
    """
    if (session_id is None) == (prefix is None):
        given = "neither" if session_id is None else "both"
        msg = f"erase needs exactly one of session_id and prefix, got {given}"
        raise TypeError(msg)

    if session_id is not None:
        check_text("session_id", session_id)
    if prefix is not None:
        check_prefix(prefix)

    if inactive_since is not None:
        check_time("inactive_since", inactive_since)
    if expected_revision is not None:
        check_revision("expected_revision", expected_revision)
        if session_id is None:
            msg = f"expected_revision={expected_revision} needs session_id, got prefix"
            raise TypeError(msg)


def must_erase(session_id: str, *, exists: bool, revision: int, expected: int | None) -> bool:
    """Return True if `SessionErasure.erase` must erase a session, False if it must write nothing.

    Call this in the atomic step that erases the session, with its present state. Without
    *expected*, a session that does not exist is erased, too: it gets a tombstone, so no turn in
    progress revives it.

    >>> from tower_memory.store_toolkit import must_erase
    >>> must_erase("chat-1", exists=True, revision=7, expected=7)
    True
    >>> must_erase("chat-1", exists=False, revision=8, expected=7)  # a repeated call
    False

    Args:
        session_id: The session.
        exists: True if the session exists.
        revision: Its revision, as `SessionStore.load` returns it.
        expected: The argument *expected_revision* of the call; None expects no revision.

    Raises:
        SessionConflict: The session exists, and is at another revision than *expected*.
    """
    if expected is None or expected == revision:
        return True
    if exists:
        raise SessionConflict(session_id, expected=expected, actual=revision)
    return False


def check_prefix(value: object) -> None:
    """Refuse an object that cannot be the start of a session id. The empty text can."""
    if value != "":
        check_text("prefix", value)


def check_time(name: str, value: object) -> None:
    """Refuse a value that is no datetime, or has no time zone."""
    if not isinstance(value, datetime):
        msg = f"{name} must be a datetime with a time zone, got {shown(value)}"
        raise TypeError(msg)
    if value.utcoffset() is None:
        msg = f"{name} must have a time zone, such as datetime.now(UTC), got {value}"
        raise ValueError(msg)
