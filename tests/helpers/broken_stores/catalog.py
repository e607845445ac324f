"""Stores that each break one rule about SessionCatalog: lists and descriptions of sessions."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta, timezone

from helpers.broken_stores.registry import breaks
from helpers.plain_catalog import Catalogued
from tower_memory import Page


@breaks("sessions lists the last active session first; each change of turns makes one active.")
class ListsByAppends(Catalogued):
    """Does not see that a pop is a change."""

    def remove_newest(self, chat):
        active = chat.active
        raw = super().remove_newest(chat)
        chat.active = active
        return raw

    async def pop(self, session_id):
        active = self.chat(session_id).active if session_id else 0
        popped = await super().pop(session_id)
        self.chat(session_id).active = active
        return popped


@breaks("sessions lists the last active session first; each change of turns makes one active.")
class ReadingIsActivity(Catalogued):
    async def describe(self, session_id):
        info = await super().describe(session_id)
        if info and info.turns and not info.items:
            self.become_active(self.chat(session_id))
        return info


@breaks("A walk over the pages returns each session once, and no page exceeds its limit.")
class PagesOfOneMore(Catalogued):
    async def sessions(self, *, prefix="", limit=50, after=None):
        self.check_page(prefix, limit)
        return await super().sessions(prefix=prefix, limit=limit + (limit == 17), after=after)


@breaks("A walk over the pages returns each session once, and no page exceeds its limit.")
class KnowsNumbersOf64Bits(Catalogued):
    def check_page(self, prefix, limit):
        super().check_page(prefix, limit)
        if limit >= 2**63:
            raise OverflowError


@breaks("A walk over the pages returns each session once, and no page exceeds its limit.")
class OtherDefaultLimit(Catalogued):
    async def sessions(self, *, prefix="", limit=100, after=None):
        return await super().sessions(prefix=prefix, limit=limit, after=after)


@breaks("A walk returns no session twice, and each that is not active during the walk.")
class PagesByOffset(Catalogued):
    """A session that becomes active moves all others to a later place."""

    def listed(self, prefix, after):
        found = super().listed(prefix, None)
        for offset, (_, chat) in enumerate(found, 1):
            chat.offset = offset
        return found[after or 0 :]

    def cursor_of(self, chat):
        return chat.offset


@breaks("A walk returns no session twice, and each that is not active during the walk.")
class GivesPlacesAgain(Catalogued):
    """Numbers activity above that of all sessions that are there."""

    def become_active(self, chat):
        others = (each.active for each in self.chats.values() if each.exists and each is not chat)
        chat.active = max(others, default=0) + 1


@breaks("sessions lists those whose ids start with the prefix, by code points, and no other.")
class ListsWithoutCase(Catalogued):
    def matches(self, session_id, prefix):
        return session_id.lower().startswith(prefix.lower())


@breaks("sessions lists those whose ids start with the prefix, by code points, and no other.")
class ListsARange(Catalogued):
    def matches(self, session_id, prefix):
        return prefix <= session_id < prefix + "\uffff"


@breaks("A cursor of another prefix, or a text that is no cursor, raises ValueError.")
class CursorOfEveryQuery(Catalogued):
    def query(self, prefix):
        return ("sessions",)


@breaks("A cursor of another prefix, or a text that is no cursor, raises ValueError.")
class IgnoresTheEndOfCursors(Catalogued):
    async def sessions(self, *, prefix="", limit=50, after=None):
        after = after.rstrip("!") if isinstance(after, str) else after
        return await super().sessions(prefix=prefix, limit=limit, after=after)


@breaks("Bad arguments of the catalogue raise TypeError or ValueError, and nothing is written.")
class TakesLimitZero(Catalogued):
    def check_page(self, prefix, limit):
        if limit != 0:
            super().check_page(prefix, limit)


@breaks("Bad arguments of the catalogue raise TypeError or ValueError, and nothing is written.")
class CreatesBeforeItChecks(Catalogued):
    async def annotate(self, session_id, metadata, *, create=False, overwrite=True):
        if create and metadata is None:
            self.create(self.chat(session_id))
        return await super().annotate(session_id, metadata, create=create, overwrite=overwrite)


@breaks("describe counts items and turns, and has the revision that load returns.")
class CountsTurnsWithItems(Catalogued):
    def session_info(self, session_id, chat):
        info = super().session_info(session_id, chat)
        if info.items != 3 or info.turns != 2 or info.metadata or info.forked_from:
            return info
        ends = [*(turn.position for turn in chat.turns[1:]), len(chat.items)]
        sizes = [end - turn.position for turn, end in zip(chat.turns, ends, strict=True)]
        return replace(info, turns=sum(size > 0 for size in sizes))


@breaks("describe counts items and turns, and has the revision that load returns.")
class PagesWithOldRevisions(Catalogued):
    async def sessions(self, *, prefix="", limit=50, after=None):
        page = await super().sessions(prefix=prefix, limit=limit, after=after)
        infos = [
            replace(info, revision=1) if (info.items, info.turns) == (2, 1) else info
            for info in page
        ]
        return Page(infos, next=page.next)


@breaks("describe counts items and turns, and has the revision that load returns.")
class DescribesNoEmptySession(Catalogued):
    async def describe(self, session_id):
        info = await super().describe(session_id)
        chat = self.chat(session_id)
        return info if chat.turns or chat.cleared or chat.metadata or chat.origin else None


@breaks("describe returns None for a session that was never written to, or that is erased.")
class DescribesWhatWasLoaded(Catalogued):
    async def load(self, session_id, *, limit=None, before=None):
        history = await super().load(session_id, limit=limit, before=before)
        self.chat(session_id).loaded = True
        return history

    async def append(self, turn):
        chat = self.chat(turn.session_id)
        revision = await super().append(turn)
        is_meant = getattr(chat, "loaded", False) and not turn.items and turn.replaces is None
        if is_meant and not chat.exists:
            self.create(chat)
        return revision


@breaks("A session has the times of its creation and of the last change of its turns, in UTC.")
class CreatedAtTheLastChange(Catalogued):
    def changed(self, chat):
        super().changed(chat)
        chat.created_at = chat.updated_at


@breaks("A session has the times of its creation and of the last change of its turns, in UTC.")
class ClearIsNotTimed(Catalogued):
    async def clear(self, session_id):
        self.check(session_id)
        updated_at = self.chat(session_id).updated_at
        await super().clear(session_id)
        self.chat(session_id).updated_at = updated_at


@breaks("A session has the times of its creation and of the last change of its turns, in UTC.")
class DescribesTheTimesOfYesterday(Catalogued):
    def session_info(self, session_id, chat):
        info = super().session_info(session_id, chat)
        if chat.origin is not None:
            return info
        return replace(info, created_at=info.created_at - timedelta(days=1))


@breaks("A session has the times of its creation and of the last change of its turns, in UTC.")
class DescribesInEasternTime(Catalogued):
    def session_info(self, session_id, chat):
        info = super().session_info(session_id, chat)
        return replace(info, created_at=info.created_at.astimezone(timezone(timedelta(hours=5))))
