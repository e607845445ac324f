"""Stores that each break one rule about SessionErasure."""

from __future__ import annotations

from datetime import UTC, datetime

from helpers.broken_stores.registry import breaks
from helpers.plain_store import Erasing


@breaks("erase removes one session, none with a similar id, and returns what it removed.")
class ErasesWhatIsLike(Erasing):
    def named(self, session_id, prefix):
        if prefix is None:
            session_id = next(
                (each for each in self.chats if each.lower() == session_id.lower()), session_id
            )
        return super().named(session_id, prefix)


@breaks("erase removes one session, none with a similar id, and returns what it removed.")
class CountsSessionsThatNeverWere(Erasing):
    async def erase(self, *, session_id=None, prefix=None, inactive_since=None):
        erased = await super().erase(
            session_id=session_id, prefix=prefix, inactive_since=inactive_since
        )
        return erased if inactive_since or prefix else erased._replace(sessions=1)


@breaks("erase removes all sessions whose ids start with the prefix, by code points, and no other.")
class ErasesWithoutCase(Erasing):
    def named(self, session_id, prefix):
        if prefix is None:
            return super().named(session_id, prefix)
        lower = prefix.lower()
        return [
            each
            for each, chat in self.chats.items()
            if chat.exists and each.lower().startswith(lower)
        ]


@breaks("erase removes all sessions whose ids start with the prefix, by code points, and no other.")
class ErasesARange(Erasing):
    def named(self, session_id, prefix):
        if prefix is None:
            return super().named(session_id, prefix)
        end = prefix + "\uffff"
        return [each for each, chat in self.chats.items() if chat.exists and prefix <= each < end]


@breaks("inactive_since keeps the sessions that were changed since then.")
class ErasesActiveSessions(Erasing):
    def is_active(self, chat, since):
        return False


@breaks("inactive_since keeps the sessions that were changed since then.")
class ComparesTheTimesOfClocks(Erasing):
    def is_active(self, chat, since):
        return chat.updated_at.replace(tzinfo=None) >= since.replace(tzinfo=None)


@breaks("An erased session is at a higher revision, which rises again, and holds no turn.")
class RemembersErasedTurns(Erasing):
    def __init__(self):
        super().__init__()
        self.gone = set()

    def held(self, chat, turn):
        return turn.turn_id in self.gone or super().held(chat, turn)

    def remove(self, chat):
        self.gone |= {*chat.ids()}
        super().remove(chat)


@breaks("A turn whose history was loaded before erase raises SessionCleared, also a first turn.")
class RevivesErasedSessions(Erasing):
    def remove(self, chat):
        cleared = chat.cleared
        super().remove(chat)
        chat.cleared = cleared


@breaks("A turn whose history was loaded before erase raises SessionCleared, also a first turn.")
class ErasesOnlyWhatExists(Erasing):
    def remove(self, chat):
        if chat.exists:
            super().remove(chat)


@breaks("Bad arguments of erase raise TypeError or ValueError, and nothing is erased.")
class TakesTimesWithoutZone(Erasing):
    def check_erase(self, session_id, prefix, inactive_since):
        super().check_erase(session_id, prefix, None)

    def is_active(self, chat, since):
        since = since if isinstance(since, datetime) else datetime.now(UTC)
        return super().is_active(chat, since.replace(tzinfo=since.tzinfo or UTC))


@breaks("scrub may be called at any time and changes no session.")
class ScrubNumbersAnew(Erasing):
    async def scrub(self):
        for chat in self.chats.values():
            self.changed(chat)
