"""Stores that each break one rule about SessionSummaries."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from anyio.lowlevel import checkpoint

from helpers.broken_stores.registry import breaks
from helpers.plain_summaries import Summarising, SummarisingForks
from tower_memory.store_toolkit import check_session_id

SAVED = "save_summary stores a summary, with its end and time, and returns it as load_summary does."
APART = "Summaries of different sessions, or with different names, are different summaries."
LARGER = "A summary takes the place of one that covers fewer turns; any other stays."
ONLY = "A summary changes no revision, time, order or history, and is in no hit of a search."
AT_ONCE = "If several callers save a summary at the same time, one is stored, and all get it."
BAD = "Bad arguments of summaries raise TypeError or ValueError, and nothing is written."
OUTDATED = (
    "save_summary writes nothing if its turns have changed since, or if the last is not held."
)
WITH_TURNS = (
    "A summary is removed with each turn that it covers, and stays while these are unchanged."
)
WITH_SESSION = (
    "clear and erase remove all summaries of a session, and no summary of another session."
)
FORK = "A fork begins without summaries and may have its own; those of its source stay."


@breaks(SAVED)
class KeepsNoEmptySummary(Summarising):
    async def save_summary(self, session_id, text, **options):
        return None if text == "" else await super().save_summary(session_id, text, **options)


@breaks(SAVED)
class DatesSummariesInAnotherTimeZone(Summarising):
    def summary(self, text, written):
        new = super().summary(text, written)
        return replace(new, created_at=new.created_at + timedelta(hours=1))


@breaks(SAVED)
class TrimsTexts(Summarising):
    async def load_summary(self, session_id, **options):
        found = await super().load_summary(session_id, **options)
        return found and replace(found, text=found.text.strip())


@breaks(APART)
class NamesWithoutCase(Summarising):
    def key(self, name):
        return name.lower()


@breaks(LARGER)
class KeepsTheFirst(Summarising):
    def stays(self, chat, present, new):
        return True


@breaks(LARGER)
class KeepsTheLast(Summarising):
    def stays(self, chat, present, new):
        return present.turn_id == new.turn_id


@breaks(LARGER)
class ComparesTheEnds(Summarising):
    def stays(self, chat, present, new):
        return present.end >= new.end


@breaks(ONLY)
class CountsASummaryAsAChange(Summarising):
    def note_save(self, chat):
        chat.revision = next(self.numbers)


@breaks(ONLY)
class ASummaryMakesASessionActive(SummarisingForks):
    def note_save(self, chat):
        self.become_active(chat)


@breaks(AT_ONCE)
class WritesAfterItHasRead(Summarising):
    async def before_save(self):
        await checkpoint()


@breaks(BAD)
class TakesAnyText(Summarising):
    def check_save_summary(self, session_id, text, turn_id, since, name):
        super().check_save_summary(session_id, "text", turn_id, since, name)


@breaks(BAD)
class TakesAnyName(Summarising):
    def check_load_summary(self, session_id, name):
        check_session_id(session_id)

    def check_save_summary(self, session_id, text, turn_id, since, name):
        super().check_save_summary(session_id, text, turn_id, since, "name")


@breaks(OUTDATED)
class TakesOutdatedSummaries(Summarising):
    def is_unchanged(self, chat, written, since):
        return True


@breaks(OUTDATED)
class TakesOnlySummariesOfTheNewestRevision(Summarising):
    def is_unchanged(self, chat, written, since):
        return since >= chat.revision


@breaks(OUTDATED)
class KeepsTheNumberOfAShortenedTurn(Summarising):
    def note_change(self, chat):
        before = [each for each in chat.written if each.turn in chat.turns]
        super().note_change(chat)
        for old, new in zip(before, chat.written, strict=False):
            new.number = old.number


@breaks(WITH_TURNS)
class KeepsSummariesOfHeldIds(Summarising):
    def remove_summaries(self, chat, same):
        super().remove_summaries(chat, chat.ids())


@breaks(WITH_TURNS)
class RemovesSummariesAtAnyChange(Summarising):
    def remove_summaries(self, chat, same):
        chat.summaries.clear()


@breaks(WITH_TURNS)
class KeepsSummariesThatEndBefore(Summarising):
    """Keeps the summary of a removed turn without items."""

    def remove_summaries(self, chat, same):
        for name, summary in [*chat.summaries.items()]:
            if summary.turn_id not in same and summary.end > len(chat.items):
                del chat.summaries[name]


@breaks(WITH_SESSION)
class ErasesWithoutSummaries(Summarising):
    def remove(self, chat):
        before = chat.summaries
        chat.summaries = {}
        super().remove(chat)
        chat.summaries = before


@breaks(WITH_SESSION)
class ClearsTheSummariesOfAllSessions(Summarising):
    async def clear(self, session_id):
        await super().clear(session_id)
        for chat in self.chats.values():
            chat.summaries.clear()


@breaks(FORK)
class CopiesSummaries(SummarisingForks):
    def copy_turns(self, source, fork, index):
        super().copy_turns(source, fork, index)
        fork.summaries = {**source.summaries}


@breaks(FORK)
class SharesSummaries(SummarisingForks):
    def copy_turns(self, source, fork, index):
        super().copy_turns(source, fork, index)
        fork.summaries = source.summaries = {}
