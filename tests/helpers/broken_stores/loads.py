"""Stores that each break one rule about loads."""

from __future__ import annotations

from helpers.broken_stores.registry import breaks, changed
from helpers.plain_store import Plain


@breaks("A limit keeps the newest items, their turns and the session's revision, and sets is_cut.")
class LoadsAtMostAHundredIfLimited(Plain):
    async def load(self, session_id, *, limit=None, before=None):
        self.check(session_id, limit, before)
        limit = None if limit is None else min(limit, 100)
        return await super().load(session_id, limit=limit, before=before)


@breaks("A limit keeps the newest items, their turns and the session's revision, and sets is_cut.")
class LimitZeroIsNoLimit(Plain):
    async def load(self, session_id, *, limit=None, before=None):
        self.check(session_id, limit, before)
        limit = limit or None if before is None else limit
        return await super().load(session_id, limit=limit, before=before)


@breaks("A limit keeps the newest items, their turns and the session's revision, and sets is_cut.")
class RevisionOfWhatIsLoaded(Plain):
    async def load(self, session_id, *, limit=None, before=None):
        history = await super().load(session_id, limit=limit, before=before)
        return changed(history, revision=0) if limit == 0 and before is None else history


@breaks("A limit keeps the newest items, their turns and the session's revision, and sets is_cut.")
class KeepsQuietAboutWhatItCut(Plain):
    async def load(self, session_id, *, limit=None, before=None):
        history = await super().load(session_id, limit=limit, before=before)
        return changed(history, is_cut=False)


@breaks("A history knows its session, and how many items of the session precede it.")
class NamesNoSession(Plain):
    async def load(self, session_id, *, limit=None, before=None):
        history = await super().load(session_id, limit=limit, before=before)
        return changed(history, session_id="")


@breaks("A history knows its session, and how many items of the session precede it.")
class CountsTheItemsOfTheHistory(Plain):
    async def load(self, session_id, *, limit=None, before=None):
        history = await super().load(session_id, limit=limit, before=before)
        return changed(history, offset=len(history)) if limit is before is None else history


@breaks("An offset as before selects the items before it; one beyond the end selects all.")
class HasNothingBeyondTheEnd(Plain):
    def place(self, chat, session_id, before):
        is_beyond = isinstance(before, int) and before > len(chat.items)
        return 0 if is_beyond else super().place(chat, session_id, before)


@breaks("A turn id as before selects the items before that turn; TurnMissing if it is not held.")
class MissingTurnIsTheEnd(Plain):
    def place(self, chat, session_id, before):
        is_missing = isinstance(before, str) and before not in chat.ids()
        return super().place(chat, session_id, None if is_missing else before)


@breaks("Pages that are loaded back by their offsets have each item and each turn once.")
class SkipsTheItemBeforeAPage(Plain):
    async def load(self, session_id, *, limit=None, before=None):
        history = await super().load(session_id, limit=limit, before=before)
        is_meant = limit == 2 and isinstance(before, int) and len(history) == 2
        return changed(history, history[:1]) if is_meant else history
