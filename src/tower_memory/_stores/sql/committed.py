"""A committed turn, in the form in which the session cache takes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tower_memory._history import TurnInfo
from tower_memory._metadata import decode_metadata
from tower_memory._stores.cached_session import all_shareable, to_kept
from tower_memory._stores.records import EncodedTurn
from tower_memory._stores.session_cache import CommittedTurn, LastTurn, Version
from tower_memory._turn import Turn


def committed_turn(
    turn: Turn[Any],
    encoded: EncodedTurn,
    *,
    before: Version | None,
    after: Version,
    last: LastTurn,
    created_at: datetime,
) -> CommittedTurn:
    """Return a committed turn for the session cache.

    Args:
        turn: The turn.
        encoded: Its stored form.
        before: The version of the session before the commit; None if it was created.
        after: The version of the session after the commit.
        last: The turn as the newest of the session.
        created_at: The time of the turn.
    """
    metadata = decode_metadata(encoded.metadata)
    info = TurnInfo(turn.turn_id, last.position, created_at, metadata)
    items = encoded.decoded
    kept = items if all_shareable(items) else to_kept(items, encoded.items)
    return CommittedTurn(turn.session_id, before, after, last, info, kept)
