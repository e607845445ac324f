"""The store protocol, with the promises of every store."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from tower_memory._arguments import check_int, check_text, shown
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._turn import Turn


@runtime_checkable
class SessionStore(Protocol[Item]):
    """An object that stores sessions. Every store keeps these promises:

    1. **A turn is whole or absent.** `append` writes all items of a turn, in order, or none.
    2. **A turn is saved once.** `append` writes nothing for a turn id that the session
       holds.
    3. **Lossless or refused.** The items that `load` returns equal the items that were appended.
       An item that cannot be stored losslessly raises before anything is written. An item that
       cannot be read raises and stays stored.
    4. **Items are copied.** A caller may change an appended or a loaded item; the stored item
       stays as it is.
    5. **A revision identifies the content of a session.** It is an integer; 0 if the session was
       never written. Each change of the session (append, pop, clear, replacing turns, erasure)
       gets a number that is larger than all earlier numbers of the session, and that is never used
       again. The revision is the number of the last change.
    6. **Gone is gone.** A turn whose history was loaded before the session was cleared or erased
       is refused (`Turn.since`). So is a turn whose history was loaded before turns were replaced.
    7. **A turn is replaced as a whole.** A turn with ``replaces`` removes the old turns in the
       commit that adds the new turn. Turns newer than ``expected_revision`` are never removed.

    A store holds items of one type, which JSON can represent. A session needs no creation: a
    session that was never written to is empty. A session id is a non-empty string of valid Unicode.
    Bad arguments raise `TypeError` or `ValueError` before anything else happens.

    `MemoryLayer` also uses these hooks of a store. Each is optional:

    - ``item_type``, an attribute: the type of the items. Before it calls the model, the layer
      then refuses an item of the request that this type cannot encode. Without it, the layer checks
      only that the item can be encoded as JSON losslessly.
    - ``busy_timeout``, an attribute: the longest time in seconds that a write waits for
      another writer. It is the default of the layer's *grace*; without it, the grace is 5 seconds.
    - ``__eq__`` and ``__hash__``: two store objects with the same sessions should be equal.
      Equal stores share session locks. The default is identity.

    `tower_memory.testing.check_session_store` checks a store against these promises, and
    `tower_memory.store_toolkit` has the building blocks of a new store.
    """

    async def load(
        self, session_id: str, *, limit: int | None = None, before: str | int | None = None
    ) -> History[Item]:
        """Return the session's items, oldest first.

        The history tells how many older items were left out (`History.offset`). Its revision is
        that of the whole session, for every *limit* and *before*. So ``limit=0`` returns the
        revision and the offset only.

        Args:
            session_id: The session.
            limit: Maximum number of items; the newest are loaded. 0 loads none, None loads all.
            before: Load only the items before this place: a turn id, for the items before that
                turn, or an offset n, for the first n items. None, or an offset beyond the end,
                loads all items. ``load(limit=50, before=page.offset)`` loads the page before
                *page*.

        Raises:
            CorruptSessionError: A turn cannot be decoded.
            TurnMissing: The session does not hold the turn *before*.
            SessionError: The store cannot be read.
        """
        ...

    async def append(self, turn: Turn[Item]) -> int:
        """Add the turn and return the session's new revision.

        The checks come in this order:

        1. If the session already holds the turn id, `append` writes nothing and returns the
           current revision.
        2. The session was cleared or erased after ``turn.since``: `SessionCleared`.
        3. Turns were replaced after ``turn.since``, or the session is not at
           ``turn.expected_revision``: `SessionConflict`.
        4. The session does not hold ``turn.replaces``: `TurnMissing`.

        A refused turn writes nothing. A turn without items writes nothing, unless it replaces other
        turns: it then removes them, and the session holds its id. The turn may be encoded before
        these checks, so a turn that cannot be encoded may raise first.

        If the call is cancelled, the turn is wholly saved or wholly absent. Append the same turn
        again to be sure that it is saved.

        Raises:
            SessionCleared: See above.
            SessionConflict: See above.
            TurnMissing: See above.
            UnencodableItemError: An item or the metadata would not come back as it is.
            SessionError: The store cannot be written.
        """
        ...

    async def pop(self, session_id: str) -> Item | None:
        """Remove the session's newest item and return it; return None if there is none.

        Once all items of a turn are removed, the session no longer holds the turn's id. Turns
        without items after the newest item are removed with it.

        Raises:
            CorruptSessionError: The item cannot be decoded. It stays stored.
            SessionError: The store cannot be written.
        """
        ...

    async def clear(self, session_id: str) -> None:
        """Remove all items and turns of the session. The session itself and its metadata stay.

        A turn in progress does not revive the session, even before its first write: its save raises
        `SessionCleared`.

        Raises:
            SessionError: The store cannot be written.
        """
        ...


def check_session_id(session_id: object) -> None:
    """Refuse an object that cannot be a session id.

    >>> from tower_memory.store_toolkit import check_session_id
    >>> check_session_id("")
    Traceback (most recent call last):
        ...
    ValueError: session_id must not be empty, got ''

    Raises:
        TypeError: *session_id* is no string.
        ValueError: *session_id* is empty or contains a lone surrogate.
    """
    check_text("session_id", session_id)


def check_load(session_id: str, limit: int | None, before: str | int | None = None) -> None:
    """Refuse bad arguments of `SessionStore.load`.

    Raises:
        TypeError: *session_id* is no string, *limit* is no integer, or *before* is neither.
        ValueError: *session_id* or *before* is empty or contains a lone surrogate, or *limit* or
            *before* is negative.
    """
    check_session_id(session_id)
    if limit is not None:
        check_int("limit", limit, least=0)
    if isinstance(before, str):
        check_text("before", before)
    elif before is not None:
        check_int("before", before, least=0)


def check_store(value: object) -> None:
    """Refuse an object that is no store, such as a store's class.

    Raises:
        TypeError: *value* is a class, or lacks a method of `SessionStore`.
    """
    if isinstance(value, type) or not isinstance(value, SessionStore):
        msg = f"store must have load, append, pop and clear, got {shown(value)}"
        raise TypeError(msg)
