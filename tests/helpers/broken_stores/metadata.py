"""Stores that each break one rule about metadata and times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from msgspec import json
from msgspec.structs import replace as replace_fields

from helpers.broken_stores.registry import breaks, changed
from helpers.plain_store import Plain


@breaks("A turn's metadata comes back in value and in type, and is empty if the turn has none.")
class NoMetadataIsNone(Plain):
    def decode_metadata(self, raw):
        return None if raw is None else super().decode_metadata(raw)


@breaks("Metadata that cannot be stored unchanged is refused with its turn.")
class MakesNanInMetadataNull(Plain):
    def encode_metadata(self, turn):
        try:
            return super().encode_metadata(turn)
        except ValueError:
            if not isinstance(turn.metadata["bad"], float):
                raise
            return json.encode(turn.metadata)


@breaks("The time of a turn is the time of its append, in UTC, and never changes.")
class LocalTimes(Plain):
    def info(self, turn, position, metadata):
        info = super().info(turn, position, metadata)
        return replace_fields(info, created_at=info.created_at.replace(tzinfo=None))


@breaks("The time of a turn is the time of its append, in UTC, and never changes.")
class ClockIsADayLate(Plain):
    def info(self, turn, position, metadata):
        info = super().info(turn, position, metadata)
        return replace_fields(info, created_at=info.created_at - timedelta(days=1))


@breaks("The time of a turn is the time of its append, in UTC, and never changes.")
class TimeOfTheLoad(Plain):
    async def load(self, session_id, *, limit=None, before=None):
        history = await super().load(session_id, limit=limit, before=before)
        now = datetime.now(UTC)
        turns = [replace_fields(turn, created_at=now) for turn in history.turns]
        return changed(history, turns=turns)
