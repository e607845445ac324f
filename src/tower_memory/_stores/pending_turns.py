"""Pending turns as stores keep them: their state, their leases, and their owners."""

from __future__ import annotations

from typing import Final, NamedTuple, final

from tower_memory._capabilities.journal import PendingState, PendingTurn
from tower_memory._codec import ItemCodec, join_array
from tower_memory._errors import CorruptSessionError, SessionConflict
from tower_memory._items import Item
from tower_memory._metadata import decode_metadata
from tower_memory._stores.records import EncodedTurn, to_datetime
from tower_memory._turn import Turn

_NANOSECONDS: Final = 10**9
_LATEST: Final = 2**63 - 1
"""The latest end of a lease, in nanoseconds since 1970: the largest 64-bit integer."""


@final
class StoredPending(NamedTuple):
    """A pending turn as a store keeps it; times are in nanoseconds since 1970.

    Attributes:
        turn_id: The turn's id.
        created_at: Time at which it began for the first time.
        owner: Its owner, or None.
        lease_until: The end of its lease, or None.
        failed: True if its owner has said that it failed.
        replaces: The id of the turn that it is to replace, or None.
        metadata: The JSON of its metadata, or None for an empty mapping.
        items: Its items as one JSON array.
    """

    turn_id: str
    created_at: int
    owner: str | None
    lease_until: int | None
    failed: bool
    replaces: str | None
    metadata: bytes | None
    items: bytes

    def read(
        self, session_id: str, codec: ItemCodec[Item], row: int, now: int
    ) -> PendingTurn[Item]:
        """Return the turn as `TurnJournal.pending` does, at the time *now*.

        *session_id* and *row* are for errors.

        Raises:
            CorruptSessionError: The items cannot be decoded.
        """
        try:
            items = codec.decode_array(self.items)
        except ValueError as error:
            reason = f"pending turn {self.turn_id!r}: {error}"
            raise CorruptSessionError(session_id, row=row, reason=reason) from error

        until = self.lease_until
        return PendingTurn(
            self.turn_id,
            items,
            to_datetime(self.created_at),
            decode_metadata(self.metadata),
            self.replaces,
            pending_state(until, now, failed=self.failed),
            None if until is None else to_datetime(until),
        )


def begun(
    turn: Turn[Item], encoded: EncodedTurn, lease: float | None, owner: str | None, now: int
) -> StoredPending:
    """Return *turn*, which begins at the time *now*, with a lease of *lease* seconds, or none."""
    return StoredPending(
        turn.turn_id,
        now,
        owner,
        None if lease is None else _lease_end(lease, now),
        failed=False,
        replaces=turn.replaces,
        metadata=encoded.metadata,
        items=join_array(encoded.items),
    )


def pending_state(lease_until: int | None, now: int, *, failed: bool) -> PendingState:
    """Return the state of a pending turn at the time *now*."""
    if failed:
        return "failed"
    return "left" if lease_until is not None and lease_until <= now else "running"


def check_owner_may_begin(
    turn: Turn[Item], owner: str | None, present: StoredPending | None, now: int
) -> None:
    """Refuse to begin *turn* while another owner has a valid lease; *present* is its stored form.

    Raises:
        SessionConflict: The turn is pending, runs, and has a valid lease of another owner.
    """
    if present is None or present.lease_until is None or present.owner == owner:
        return
    if pending_state(present.lease_until, now, failed=present.failed) == "running":
        until = to_datetime(present.lease_until).isoformat(timespec="seconds")
        raise SessionConflict(
            turn.session_id,
            reason=f"turn {turn.turn_id!r} is running elsewhere until {until}",
            remedy="begin it again after that time, or forget it",
        )


def _lease_end(lease: float, now: int) -> int:
    """Return the time *lease* seconds after *now*, cut to 64 bits; *lease* may be infinite."""
    return min(now + int(min(lease, _LATEST // _NANOSECONDS) * _NANOSECONDS), _LATEST)
