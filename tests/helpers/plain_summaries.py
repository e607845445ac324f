"""Stores that also keep the contract of `SessionSummaries`, in methods that subclasses can break."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from anyio.lowlevel import checkpoint

from helpers.plain_catalog import Catalogued, ListedChat
from helpers.plain_store import Chat, Erasing
from tower_memory import Summary, TurnInfo
from tower_memory.store_toolkit import check_load_summary, check_save_summary


@dataclass
class Written:
    """A turn as it was after the last change; *number* is that of the change that wrote it."""

    turn: TurnInfo
    end: int
    number: int


@dataclass
class SummarisedChat(Chat):
    """A session with summaries by name, and its turns as they were after the last change."""

    written: list[Written] = field(default_factory=list)
    summaries: dict[str, Summary] = field(default_factory=dict)


class Summarising(Erasing):
    """A store that keeps the contracts of SessionStore, SessionErasure and SessionSummaries.

    After each change it compares the turns with those before: so it needs no list of the changes
    that remove turns.
    """

    def chat(self, session_id):
        return self.chats.setdefault(session_id, SummarisedChat())

    def note_change(self, chat):
        """Give the turns that are new or changed their number, and remove their summaries."""
        ends = [*(turn.position for turn in chat.turns[1:]), len(chat.items)]
        turns = list(zip(chat.turns, ends, strict=False))
        same = 0
        for written, (turn, end) in zip(chat.written, turns, strict=False):
            if not self.is_same(written, turn, end):
                break
            same += 1
        self.remove_summaries(chat, {each.turn.turn_id for each in chat.written[:same]})
        del chat.written[same:]
        chat.written += [Written(turn, end, chat.revision) for turn, end in turns[same:]]

    def is_same(self, written, turn, end):
        return written.turn is turn and written.end == end

    def remove_summaries(self, chat, same):
        """Remove the summaries whose last turn is not one of *same*, the ids of unchanged turns."""
        for name, summary in [*chat.summaries.items()]:
            if summary.turn_id not in same:
                del chat.summaries[name]

    def index(self, chat, turn_id):
        return [each.turn.turn_id for each in chat.written].index(turn_id)

    async def append(self, turn):
        revision = await super().append(turn)
        self.note_change(self.chat(turn.session_id))
        return revision

    async def pop(self, session_id):
        popped = await super().pop(session_id)
        self.note_change(self.chat(session_id))
        return popped

    async def clear(self, session_id):
        await super().clear(session_id)
        self.note_change(self.chat(session_id))

    def remove(self, chat):
        super().remove(chat)
        self.note_change(chat)

    # Summaries

    def check_load_summary(self, session_id, name):
        check_load_summary(session_id, name)

    def check_save_summary(self, session_id, text, turn_id, since, name):
        check_save_summary(session_id, text, turn_id, since, name)

    def key(self, name):
        return name

    async def load_summary(self, session_id, *, name="summary"):
        self.check_load_summary(session_id, name)
        await checkpoint()
        return self.chat(session_id).summaries.get(self.key(name))

    def is_unchanged(self, chat, written, since):
        return written.number <= since

    def stays(self, chat, present, new):
        return self.index(chat, present.turn_id) >= self.index(chat, new.turn_id)

    async def before_save(self):
        """Wait, in a careless store, between reading a summary and writing one."""

    def summary(self, text, written):
        return Summary(text, written.turn.turn_id, written.end, datetime.now(UTC))

    async def save_summary(self, session_id, text, *, turn_id, since, name="summary"):
        self.check_save_summary(session_id, text, turn_id, since, name)
        await checkpoint()
        chat = self.chat(session_id)
        found = [each for each in chat.written if each.turn.turn_id == turn_id]
        if not found or not self.is_unchanged(chat, found[0], since):
            return None

        new, present = self.summary(text, found[0]), chat.summaries.get(self.key(name))
        if present is not None and self.stays(chat, present, new):
            return present
        await self.before_save()
        chat.summaries[self.key(name)] = new
        self.note_save(chat)
        return new

    def note_save(self, chat):
        """Change the session, in a store that confuses summaries with turns."""


class ListedSummarisedChat(ListedChat, SummarisedChat):
    """A session of a catalogue with summaries."""


class SummarisingForks(Summarising, Catalogued):
    """A store that also keeps the contract of SessionCatalog."""

    def chat(self, session_id):
        return self.chats.setdefault(session_id, ListedSummarisedChat())

    def copy_turns(self, source, fork, index):
        super().copy_turns(source, fork, index)
        self.note_change(fork)
