"""`TurnJournal`: turns that have begun and are not saved yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeAlias, final, runtime_checkable

from tower_memory._arguments import check_seconds, check_text
from tower_memory._items import Item
from tower_memory._store import check_session_id
from tower_memory._turn import Turn, check_turn

PendingState: TypeAlias = Literal["running", "failed", "left"]


@final
@dataclass(frozen=True, slots=True)
class PendingTurn(Generic[Item]):
    """A turn that has begun and is not saved.

    Attributes:
        turn_id: The turn's id.
        items: The items that the turn began with, oldest first; usually the user's message.
        created_at: Time at which the turn began for the first time, with the time zone UTC.
        metadata: The turn's metadata; an empty mapping if it has none.
        replaces: The id of the turn that it will replace when it is saved, or None.
        state: ``"failed"`` after `TurnJournal.fail`; ``"left"`` if its lease has expired, because
            its process died or hangs; otherwise ``"running"``.
        lease_until: The end of its lease, with the time zone UTC; None without a lease.
    """

    turn_id: str
    items: Sequence[Item]
    created_at: datetime
    metadata: Mapping[str, Any]
    replaces: str | None
    state: PendingState
    lease_until: datetime | None


@runtime_checkable
class TurnJournal(Protocol[Item]):
    """A store that keeps turns from their beginning. Every store of this library can.

    A pending turn is never part of a history, of counts or of search results. It changes neither
    the revision nor the times of its session. `SessionStore.append` of the same turn id ends it in
    its own commit, even if another owner began it. `forget`, `SessionStore.clear` and
    `SessionErasure.erase` end it, too.

    Bad arguments raise `TypeError` or `ValueError` before anything else happens.

    >>> import anyio
    >>> from tower_memory import InMemorySessionStore, Turn
    >>> async def main() -> None:
    ...     store = InMemorySessionStore()
    ...     question = {"role": "user", "content": "Hi"}
    ...     await store.begin(Turn("chat-1", [question], turn_id="t1"), lease=60, owner="worker-1")
    ...     print([(turn.turn_id, turn.state) for turn in await store.pending("chat-1")])
    ...     answer = {"role": "assistant", "content": "Hello!"}
    ...     await store.append(Turn("chat-1", [question, answer], turn_id="t1"))
    ...     print(await store.pending("chat-1"), len(await store.load("chat-1")))
    >>> anyio.run(main)
    [('t1', 'running')]
    [] 2
    """

    async def begin(
        self, turn: Turn[Item], *, lease: float | None = None, owner: str | None = None
    ) -> None:
        """Make *turn* a pending turn of its session.

        If the session holds the turn's id, nothing is written. Otherwise the checks of
        `SessionStore.append` come first, so a pending turn does not revive an erased session. A new
        session is created, and listed. A turn without items is written, too.

        If the turn is pending already, the call takes it over: items, metadata, owner and lease are
        replaced, and its state becomes ``"running"``. Another owner can do this only if the turn
        has failed, its lease has expired, or it has no lease. If several owners try at the same
        time, exactly one succeeds.

        Args:
            turn: The turn with the items that are known at its beginning.
            lease: Number of seconds, above 0, until another owner may take the turn over; None for
                no lease. The same owner renews the lease by beginning the turn again.
            owner: Name of the process or task that runs the turn; a non-empty text. None is an
                owner like any other name.

        Raises:
            SessionCleared: See `SessionStore.append`.
            SessionConflict: See `SessionStore.append`; or another owner has a valid lease.
            TurnMissing: See `SessionStore.append`.
            UnencodableItemError: See `SessionStore.append`.
            SessionError: The store cannot be written.
        """
        ...

    async def fail(self, session_id: str, turn_id: str, *, owner: str | None = None) -> None:
        """Set the state of a pending turn to ``"failed"``, so that it may be begun again.

        Nothing is written if the turn is not pending, or if it has another owner.

        Args:
            session_id: The session of the turn.
            turn_id: The turn's id.
            owner: The owner that began the turn, as given to `begin`.

        Raises:
            SessionError: The store cannot be written.
        """
        ...

    async def pending(self, session_id: str) -> list[PendingTurn[Item]]:
        """Return the pending turns of a session, the oldest first; an empty list if there are none.

        Raises:
            CorruptSessionError: A pending turn cannot be decoded.
            SessionError: The store cannot be read.
        """
        ...

    async def forget(self, session_id: str, turn_id: str) -> None:
        """Remove a pending turn of any owner. Nothing is written if there is none.

        Raises:
            SessionError: The store cannot be written.
        """
        ...


def check_begin(turn: object, lease: object, owner: object) -> None:
    """Refuse bad arguments of `TurnJournal.begin`.

    Raises:
        TypeError: *turn* is no `Turn`, *lease* is no number, or *owner* is no string.
        ValueError: *lease* is not above 0, or *owner* is empty or contains a lone surrogate.
    """
    check_turn(turn)
    if lease is not None:
        check_seconds("lease", lease)
        if lease == 0:
            msg = "lease must be above 0 seconds, got 0; pass None for no lease"
            raise ValueError(msg)
    check_owner(owner)


def check_pending(session_id: object, turn_id: object) -> None:
    """Refuse ids that cannot be those of a pending turn.

    Raises:
        TypeError: An id is no string.
        ValueError: An id is empty or contains a lone surrogate.
    """
    check_session_id(session_id)
    check_text("turn_id", turn_id)


def check_owner(owner: object) -> None:
    """Refuse an object that cannot be the owner of a pending turn.

    Raises:
        TypeError: *owner* is neither a string nor None.
        ValueError: *owner* is empty or contains a lone surrogate.
    """
    if owner is not None:
        check_text("owner", owner)
