"""Stores that keep the contract, in methods that subclasses can break."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import anyio
from anyio.lowlevel import checkpoint
from msgspec import json

from helpers.internals import (
    ItemCodec,
    check_begin,
    check_erase,
    check_load,
    check_owner,
    check_page,
    check_pending,
    decode_metadata,
    encode_metadata,
    excerpt,
    from_cursor,
    must_erase,
    query_words,
    search_words,
    to_cursor,
    turn_text,
    turns_between,
)
from tower_memory import (
    Erasure,
    History,
    Page,
    PendingTurn,
    SearchHit,
    SessionCleared,
    SessionConflict,
    TurnInfo,
    TurnMissing,
)


@dataclass
class Chat:
    """A session; *exists* is False before its first change, and after it was erased."""

    items: list[bytes] = field(default_factory=list)
    turns: list[TurnInfo] = field(default_factory=list)
    revision: int = 0
    cleared: int = 0
    replaced: int = 0
    exists: bool = False
    updated_at: datetime | None = None

    def ids(self):
        return [turn.turn_id for turn in self.turns]

    def remove_from(self, index):
        """Remove the turns from *index* on; return their ids."""
        gone = self.ids()[index:]
        del self.items[self.turns[index].position :], self.turns[index:]
        return gone


class Plain:
    """A store that keeps the contract of SessionStore."""

    def __init__(self):
        self.chats = {}
        self.numbers = count(1)
        self.codec = ItemCodec(Any)
        self.lock = anyio.Semaphore(1)

    def chat(self, session_id):
        return self.chats.setdefault(session_id, Chat())

    def changed(self, chat):
        chat.revision = next(self.numbers)
        chat.exists, chat.updated_at = True, datetime.now(UTC)

    def encode(self, turn):
        return self.codec.encode(turn.items, turn.session_id)

    def decode(self, raw):
        return json.decode(raw)

    def encode_metadata(self, turn):
        return encode_metadata(turn.metadata, turn.session_id)

    def decode_metadata(self, raw):
        return decode_metadata(raw)

    def check(self, session_id, limit=None, before=None):
        check_load(session_id, limit, before)

    def held(self, chat, turn):
        return turn.turn_id in chat.ids()

    def check_cleared(self, chat, turn):
        if turn.since is not None and turn.since < chat.cleared:
            raise SessionCleared(turn.session_id)

    def check_replaced(self, chat, turn):
        if turn.since is not None and turn.since < chat.replaced:
            raise SessionConflict(turn.session_id, reason="turns were replaced")

    def conflicts(self, turn, chat):
        return turn.expected_revision not in (None, chat.revision)

    def check_revision(self, chat, turn):
        if self.conflicts(turn, chat):
            raise SessionConflict(
                turn.session_id, expected=turn.expected_revision, actual=chat.revision
            )

    def check_missing(self, chat, turn):
        if turn.replaces is not None and turn.replaces not in chat.ids():
            raise TurnMissing(turn.session_id, turn_id=turn.replaces)

    def check_turn(self, chat, turn):
        self.check_cleared(chat, turn)
        self.check_replaced(chat, turn)
        self.check_revision(chat, turn)
        self.check_missing(chat, turn)

    def remove_replaced(self, chat, turn):
        chat.remove_from(chat.ids().index(turn.replaces))
        chat.replaced = chat.revision

    def info(self, turn, position, metadata):
        metadata = self.decode_metadata(metadata)
        return TurnInfo(turn.turn_id, position, datetime.now(UTC), metadata)

    async def add(self, chat, turn, encoded, metadata):
        self.changed(chat)
        if turn.replaces in chat.ids():
            self.remove_replaced(chat, turn)
        chat.turns.append(self.info(turn, len(chat.items), metadata))
        await self.add_items(chat, encoded)

    async def add_items(self, chat, encoded):
        chat.items += encoded

    def place(self, chat, session_id, before):
        """Return the place before which items are loaded."""
        if isinstance(before, str):
            if before not in chat.ids():
                raise TurnMissing(session_id, turn_id=before)
            return chat.turns[chat.ids().index(before)].position
        return len(chat.items) if before is None else min(before, len(chat.items))

    async def load(self, session_id, *, limit=None, before=None):
        self.check(session_id, limit, before)
        await checkpoint()
        chat = self.chat(session_id)
        end = self.place(chat, session_id, before)
        start = 0 if limit is None else max(0, end - limit)
        return History(
            [self.decode(raw) for raw in chat.items[start:end]],
            session_id=session_id,
            revision=chat.revision,
            offset=start,
            turns=turns_between(chat.turns, start, end, len(chat.items)),
        )

    async def append(self, turn):
        encoded = self.encode(turn)
        metadata = self.encode_metadata(turn)
        await checkpoint()
        chat = self.chat(turn.session_id)
        if self.held(chat, turn):
            return chat.revision
        self.check_turn(chat, turn)
        if encoded or turn.replaces is not None:
            await self.add(chat, turn, encoded, metadata)
        return chat.revision

    def remove_newest(self, chat):
        """Remove the newest item and return it."""
        newest = max(n for n, turn in enumerate(chat.turns) if turn.position < len(chat.items))
        raw = chat.items.pop()
        del chat.turns[newest + (chat.turns[newest].position < len(chat.items)) :]
        return raw

    async def pop(self, session_id):
        self.check(session_id)
        chat = self.chat(session_id)
        if not chat.items:
            return None
        self.changed(chat)
        return self.decode(self.remove_newest(chat))

    def note_clear(self, chat):
        chat.cleared = chat.revision

    async def clear(self, session_id):
        self.check(session_id)
        chat = self.chat(session_id)
        self.changed(chat)
        self.note_clear(chat)
        chat.items, chat.turns = [], []


class Erasing(Plain):
    """A store that also keeps the contract of SessionErasure."""

    def check_erase(self, session_id, prefix, inactive_since, expected_revision):
        check_erase(session_id, prefix, inactive_since, expected_revision)

    def named(self, session_id, prefix):
        """Return the ids of the sessions to erase."""
        if prefix is None:
            self.chat(session_id)
            return [session_id]
        return [
            each for each, chat in self.chats.items() if chat.exists and each.startswith(prefix)
        ]

    def is_active(self, chat, since):
        return chat.updated_at is None or chat.updated_at >= since

    def must_erase(self, session_id, chat, expected):
        return must_erase(session_id, exists=chat.exists, revision=chat.revision, expected=expected)

    async def erase(
        self, *, session_id=None, prefix=None, inactive_since=None, expected_revision=None
    ):
        self.check_erase(session_id, prefix, inactive_since, expected_revision)
        numbers = []
        for name in self.named(session_id, prefix):
            chat = self.chat(name)
            if inactive_since is not None and self.is_active(chat, inactive_since):
                continue
            if self.must_erase(name, chat, expected_revision):
                numbers.append((int(chat.exists), len(chat.turns), len(chat.items)))
                self.remove(chat)
        return Erasure(*map(sum, zip(*numbers, strict=True))) if numbers else Erasure(0, 0, 0)

    def remove(self, chat):
        """Leave the tombstone of a session."""
        self.changed(chat)
        self.note_clear(chat)
        chat.items, chat.turns, chat.exists = [], [], False

    async def scrub(self):
        await checkpoint()


@dataclass
class Begun:
    """A pending turn, encoded."""

    turn_id: str
    items: list[bytes]
    created_at: datetime
    metadata: bytes | None
    replaces: str | None
    owner: str | None
    until: datetime | None
    failed: bool = False


class Journalling(Erasing):
    """A store that also keeps the contract of TurnJournal."""

    def __init__(self):
        super().__init__()
        self.begun = {}

    def begun_in(self, session_id):
        return self.begun.setdefault(session_id, {})

    def check_begin(self, turn, lease, owner):
        check_begin(turn, lease, owner)

    def check_pending(self, session_id, turn_id):
        check_pending(session_id, turn_id)

    def check_owner(self, owner):
        check_owner(owner)

    def end_of(self, lease):
        now = datetime.now(UTC)
        return None if lease is None else now + timedelta(seconds=min(lease, 10**9))

    def is_left(self, begun):
        return begun.until is not None and begun.until <= datetime.now(UTC)

    def state(self, begun):
        return "failed" if begun.failed else "left" if self.is_left(begun) else "running"

    def may_begin(self, present, owner):
        has_lease = present.until is not None and self.state(present) == "running"
        return present.owner == owner or not has_lease

    async def put(self, session_id, present, new):
        if present is not None:
            new.created_at = present.created_at
        self.begun_in(session_id)[new.turn_id] = new

    async def begin(self, turn, *, lease=None, owner=None):
        self.check_begin(turn, lease, owner)
        encoded = self.encode(turn)
        metadata = self.encode_metadata(turn)
        await checkpoint()
        chat = self.chat(turn.session_id)
        if self.held(chat, turn):
            return
        self.check_turn(chat, turn)
        present = self.begun_in(turn.session_id).get(turn.turn_id)
        if present is not None and not self.may_begin(present, owner):
            raise SessionConflict(turn.session_id, reason="it runs elsewhere")
        now, until = datetime.now(UTC), self.end_of(lease)
        new = Begun(turn.turn_id, encoded, now, metadata, turn.replaces, owner, until)
        await self.put(turn.session_id, present, new)

    async def fail(self, session_id, turn_id, *, owner=None):
        self.check_pending(session_id, turn_id)
        self.check_owner(owner)
        await checkpoint()
        present = self.begun_in(session_id).get(turn_id)
        if present is not None and self.may_fail(present, owner):
            present.failed = True

    def may_fail(self, present, owner):
        return present.owner == owner

    def in_order(self, pending):
        return pending

    async def pending(self, session_id):
        self.check(session_id)
        await checkpoint()
        return [
            PendingTurn(
                each.turn_id,
                [self.decode(raw) for raw in each.items],
                each.created_at,
                self.decode_metadata(each.metadata),
                each.replaces,
                self.state(each),
                each.until,
            )
            for each in self.in_order(list(self.begun_in(session_id).values()))
        ]

    async def forget(self, session_id, turn_id):
        self.check_pending(session_id, turn_id)
        await checkpoint()
        self.begun_in(session_id).pop(turn_id, None)

    async def append(self, turn):
        revision = await super().append(turn)
        self.end(turn)
        return revision

    def end(self, turn):
        self.begun_in(turn.session_id).pop(turn.turn_id, None)

    async def clear(self, session_id):
        await super().clear(session_id)
        self.begun_in(session_id).clear()

    def remove(self, chat):
        super().remove(chat)
        for session_id, each in self.chats.items():
            if each is chat:
                self.begun_in(session_id).clear()


class Searching(Erasing):
    """A store that also keeps the contract of SessionSearch."""

    def check_search(self, text, prefix, limit):
        query_words(text)
        check_page(prefix, limit)

    def query(self, text):
        return query_words(text)

    def words(self, text):
        return search_words(text)

    def text(self, session_id, turn, items):
        return turn_text(items)

    def contains(self, words, query):
        return query <= words

    def has_prefix(self, session_id, prefix):
        return session_id.startswith(prefix)

    def sessions(self):
        return [*self.chats.items()]

    def turns(self, prefix):
        """Return the sessions, the turns and their texts, the newest first."""
        found = []
        for session_id, chat in self.sessions():
            if self.has_prefix(session_id, prefix):
                ends = [*(turn.position for turn in chat.turns[1:]), len(chat.items)]
                for index, (turn, end) in enumerate(zip(chat.turns, ends, strict=False)):
                    items = [self.decode(raw) for raw in chat.items[turn.position : end]]
                    text = self.text(session_id, turn, items)
                    found.append((turn.created_at, index, session_id, turn, text))
        return self.sort(found)

    def sort(self, found):
        return sorted(found, key=lambda each: each[:2], reverse=True)

    def cursor(self, query, place):
        return to_cursor(query, (place,))

    def start(self, after, query):
        return from_cursor(after, query, length=1)[0]

    async def search(self, text, *, prefix="", limit=20, after=None):
        self.check_search(text, prefix, limit)
        words = self.query(text)
        name = ("search", prefix, *sorted(words))
        start = None if after is None else self.start(after, name)
        await checkpoint()
        return self.page([*self.matches(words, prefix)], words, name, limit, start)

    def matches(self, words, prefix):
        for _, _, session_id, turn, text in self.turns(prefix):
            if self.contains(self.words(text), words):
                yield session_id, turn, text

    def page(self, found, words, name, limit, start):
        """Return a page; a cursor is the number of hits that are left."""
        first = 0 if start is None else max(0, len(found) - start)
        hits = [self.hit(*each, words) for each in found[first : first + limit]]
        left = len(found) - first - limit
        return Page(hits, next=self.cursor(name, left) if left > 0 else None)

    def hit(self, session_id, turn, text, words):
        return SearchHit(session_id, turn.turn_id, turn.created_at, excerpt(text, words))
