"""`SessionSummaries`: summaries of the older turns of a session, kept beside its turns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, final, runtime_checkable

from tower_memory._arguments import check_text
from tower_memory._store import check_session_id
from tower_memory._turn import check_revision


@final
@dataclass(frozen=True, slots=True)
class Summary:
    """The summary of the oldest turns of a session.

    Attributes:
        text: The summary.
        turn_id: The last turn that it covers. It also covers all turns before that turn.
        end: Number of items that it covers, from the first item of the session.
        created_at: Time at which it was stored, with the time zone UTC.
    """

    text: str
    turn_id: str
    end: int
    created_at: datetime


@runtime_checkable
class SessionSummaries(Protocol):
    """A store that keeps summaries. Every store of this library can.

    A summary is bound to the turns that it covers. If one of these turns is replaced, loses an item
    to `SessionStore.pop`, or is cleared or erased, the same commit removes the summary. A summary
    changes neither the revision nor the times of its session, and no search finds it. A fork begins
    without summaries.

    Bad arguments raise `TypeError` or `ValueError` before anything else happens.

    >>> import anyio
    >>> from tower_memory import InMemorySessionStore, Turn
    >>> async def main() -> None:
    ...     store = InMemorySessionStore()
    ...     talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    ...     since = await store.append(Turn("chat-1", talk, turn_id="t1"))
    ...     await store.save_summary("chat-1", "A greeting.", turn_id="t1", since=since)
    ...     summary = await store.load_summary("chat-1")
    ...     print(summary and (summary.text, summary.end))
    ...     await store.append(
    ...         Turn("chat-1", talk[:1], replaces="t1", expected_revision=since)
    ...     )
    ...     print(await store.load_summary("chat-1"))
    >>> anyio.run(main)
    ('A greeting.', 2)
    None
    """

    async def load_summary(self, session_id: str, *, name: str = "summary") -> Summary | None:
        """Return the summary *name* of a session; None if there is none.

        Args:
            session_id: The session.
            name: Name of the summary, a non-empty text. A session may have several summaries, such
                as one for each language.

        Raises:
            CorruptSessionError: The summary cannot be decoded.
            SessionError: The store cannot be read.
        """
        ...

    async def save_summary(
        self, session_id: str, text: str, *, turn_id: str, since: int, name: str = "summary"
    ) -> Summary | None:
        """Store a summary of the turns up to *turn_id*, and return the stored summary.

        Nothing is written, and None is returned, if the turns up to *turn_id* have changed since
        the revision *since*, or if the session does not hold the turn.

        Otherwise, the summary takes the place of one with the same *name* that covers fewer turns.
        If the present one covers the turn *turn_id*, it stays and is returned. So of several
        processes that compute a summary at the same time, one stores it, and all get the same.

        Args:
            session_id: The session.
            text: The summary; may be empty.
            turn_id: The last turn that the summary covers.
            since: Revision of the history from which the summary was made.
            name: See `load_summary`.

        Raises:
            SessionError: The store cannot be written.
        """
        ...


def check_load_summary(session_id: object, name: object) -> None:
    """Refuse bad arguments of `SessionSummaries.load_summary`.

    Raises:
        TypeError: An argument is no string.
        ValueError: An argument is empty or contains a lone surrogate.
    """
    check_session_id(session_id)
    check_text("name", name)


def check_save_summary(
    session_id: object, text: object, turn_id: object, since: int, name: object
) -> None:
    """Refuse bad arguments of `SessionSummaries.save_summary`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A text contains a lone surrogate, an id or the name is empty, or *since* is no
            revision.
    """
    check_load_summary(session_id, name)
    check_text("turn_id", turn_id)
    check_revision("since", since)
    if text != "":
        check_text("text", text)
