"""Stores that each break one rule about SessionErasure."""

from __future__ import annotations

from datetime import UTC, datetime

from anyio.lowlevel import checkpoint

from helpers.broken_stores.registry import breaks
from helpers.plain_store import Erasing
from tower_memory import Erasure, SessionConflict


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
    async def erase(self, **options):
        erased = await super().erase(**options)
        return erased._replace(sessions=1) if [*options] == ["session_id"] else erased


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


@breaks("A turn whose history was loaded before erase raises SessionCleared, also a first turn.")
class ErasesOnlyWhatExistsAtARevision(Erasing):
    def must_erase(self, session_id, chat, expected):
        exists = chat.exists or expected is None
        return super().must_erase(session_id, chat, expected) and exists


@breaks("erase with expected_revision removes a session that is at that revision.")
class ConflictsWithSessionsThatWereErasedBefore(Erasing):
    def must_erase(self, session_id, chat, expected):
        if expected is not None and chat.exists and chat.cleared:
            raise SessionConflict(session_id, expected=expected, actual=chat.revision)
        return super().must_erase(session_id, chat, expected)


@breaks("erase with another expected_revision raises SessionConflict and removes nothing.")
class ErasesUpToARevision(Erasing):
    def must_erase(self, session_id, chat, expected):
        expected = None if expected is None else min(expected, chat.revision)
        return super().must_erase(session_id, chat, expected)


@breaks("erase with another expected_revision raises SessionConflict and removes nothing.")
class ErasesAtNoRevision(Erasing):
    def must_erase(self, session_id, chat, expected):
        return super().must_erase(session_id, chat, expected or None)


@breaks("A second erase with expected_revision finds nothing, and a turn begun since is saved.")
class RefusesToEraseAgain(Erasing):
    def must_erase(self, session_id, chat, expected):
        if expected not in (None, chat.revision):
            raise SessionConflict(session_id, expected=expected, actual=chat.revision)
        return super().must_erase(session_id, chat, expected)


@breaks("A second erase with expected_revision finds nothing, and a turn begun since is saved.")
class ErasesAgain(Erasing):
    def must_erase(self, session_id, chat, expected):
        return not chat.exists or super().must_erase(session_id, chat, expected)


@breaks("Erasures at the same time that expect one revision erase it once, and no newer turn.")
class ErasesWhatIsAppendedMeanwhile(Erasing):
    async def erase(self, *, session_id=None, expected_revision=None, **others):
        self.check_erase(session_id, others.get("prefix"), None, expected_revision)
        if session_id is not None:
            if not self.must_erase(session_id, self.chat(session_id), expected_revision):
                return Erasure(0, 0, 0)
            await checkpoint()
        return await super().erase(session_id=session_id, **others)


@breaks("Bad arguments of erase raise TypeError or ValueError, and nothing is erased.")
class ErasesAPrefixAtARevision(Erasing):
    def check_erase(self, session_id, prefix, inactive_since, expected_revision):
        expected = expected_revision if prefix is None else None
        super().check_erase(session_id, prefix, inactive_since, expected)


@breaks("Bad arguments of erase raise TypeError or ValueError, and nothing is erased.")
class TakesTimesWithoutZone(Erasing):
    def check_erase(self, session_id, prefix, inactive_since, expected_revision):
        super().check_erase(session_id, prefix, None, expected_revision)

    def is_active(self, chat, since):
        since = since if isinstance(since, datetime) else datetime.now(UTC)
        return super().is_active(chat, since.replace(tzinfo=since.tzinfo or UTC))


@breaks("scrub may be called at any time and changes no session.")
class ScrubNumbersAnew(Erasing):
    async def scrub(self):
        for chat in self.chats.values():
            self.changed(chat)
