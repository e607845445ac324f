"""A store that also keeps the contract of `SessionCatalog`, in methods that subclasses can break."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

from anyio.lowlevel import checkpoint

from helpers.internals import decode_metadata, encode_metadata
from helpers.plain_store import Chat, Erasing
from tower_memory import Page, SessionConflict, SessionError, SessionInfo, TurnMissing
from tower_memory.store_toolkit import (
    check_annotate,
    check_fork,
    check_page,
    check_session_id,
    from_cursor,
    merge_metadata,
    to_cursor,
)


class ListedChat(Chat):
    """A session of a catalogue; *origin* is the session of which it is a fork, and its birth."""

    metadata: bytes | None = None
    origin: tuple[str, int] | None = None
    born: int = 0
    active: int = 0
    created_at: datetime | None = None


class Catalogued(Erasing):
    """A store that keeps the contracts of SessionStore, SessionErasure and SessionCatalog."""

    def __init__(self):
        super().__init__()
        self.activities = count(1)

    def chat(self, session_id):
        return self.chats.setdefault(session_id, ListedChat())

    def changed(self, chat):
        if not chat.exists:
            self.create(chat)
        super().changed(chat)
        self.become_active(chat)

    def create(self, chat):
        chat.exists, chat.born = True, next(self.numbers)
        chat.created_at = chat.updated_at = datetime.now(UTC)
        chat.metadata, chat.origin = self.metadata_of_new(chat), None
        self.become_active(chat)

    def metadata_of_new(self, chat):
        return None

    def become_active(self, chat):
        chat.active = next(self.activities)

    async def clear(self, session_id):
        self.check(session_id)
        chat = self.chat(session_id)
        existed = chat.exists
        await super().clear(session_id)
        chat.exists = existed

    # The catalogue

    def matches(self, session_id, prefix):
        return session_id.startswith(prefix)

    def listed(self, prefix, after):
        """Return the sessions of a walk after a place, with their ids."""
        found = [
            (session_id, chat)
            for session_id, chat in self.chats.items()
            if chat.exists and self.matches(session_id, prefix)
        ]
        found.sort(key=lambda each: each[1].active, reverse=True)
        return [each for each in found if after is None or each[1].active < after]

    def cursor_of(self, chat):
        return chat.active

    def check_page(self, prefix, limit):
        check_page(prefix, limit)

    def query(self, prefix):
        return ("sessions", prefix)

    async def sessions(self, *, prefix="", limit=50, after=None):
        self.check_page(prefix, limit)
        if after is not None:
            (after,) = from_cursor(after, self.query(prefix), length=1)
        await checkpoint()
        found = self.listed(prefix, after)
        place = self.cursor_of(found[limit - 1][1]) if found[limit:] else None
        following = None if place is None else to_cursor(self.query(prefix), (place,))
        return Page([self.session_info(*each) for each in found[:limit]], next=following)

    def session_info(self, session_id, chat):
        return SessionInfo(
            session_id,
            chat.created_at,
            chat.updated_at,
            chat.revision,
            len(chat.items),
            len(chat.turns),
            decode_metadata(chat.metadata),
            self.forked_from(chat),
        )

    def forked_from(self, chat):
        if chat.origin is None:
            return None
        session_id, born = chat.origin
        source = self.chat(session_id)
        return session_id if source.exists and source.born == born else None

    async def describe(self, session_id):
        check_session_id(session_id)
        await checkpoint()
        chat = self.chat(session_id)
        return self.session_info(session_id, chat) if chat.exists else None

    def encode_added(self, metadata, session_id):
        return encode_metadata(metadata, session_id)

    def merge(self, present, added, overwrite):
        return merge_metadata(present, added, overwrite=overwrite)

    async def before_merge(self):
        """Do what a careless store does between reading and writing metadata."""

    async def annotate(self, session_id, metadata, *, create=False, overwrite=True):
        check_annotate(session_id, metadata)
        added = decode_metadata(self.encode_added(metadata, session_id))
        await checkpoint()
        chat = self.chat(session_id)
        if not chat.exists:
            if not create:
                return self.refuse_absent(session_id, chat)
            self.create(chat)
        merged = self.merge(decode_metadata(chat.metadata), added, overwrite)
        await self.before_merge()
        chat.metadata = encode_metadata(merged, session_id)
        self.note_annotation(chat)
        return self.session_info(session_id, chat)

    def refuse_absent(self, session_id, chat):
        return None

    def note_annotation(self, chat):
        """Do what a store does that confuses metadata with turns."""

    # Forks

    def check_forked(self, session_id, new_session_id, before):
        source = self.chat(session_id)
        if not source.exists:
            raise SessionError("there is no such session", session_id=session_id)  # noqa: EM101, TRY003
        if before is not None and before not in source.ids():
            raise TurnMissing(session_id, turn_id=before)
        if self.chat(new_session_id).exists:
            raise SessionConflict(new_session_id, reason="it exists")

    async def before_fork(self):
        """Do what a careless store does between the checks of a fork and its write."""

    async def fork(self, session_id, new_session_id, *, before=None):
        check_fork(session_id, new_session_id, before)
        await checkpoint()
        self.check_forked(session_id, new_session_id, before)
        await self.before_fork()

        source, fork = self.chat(session_id), self.chat(new_session_id)
        self.changed(fork)
        index = len(source.turns) if before is None else source.ids().index(before)
        self.copy_turns(source, fork, index)
        fork.metadata = self.metadata_of_fork(source)
        fork.origin = self.origin_of_fork(session_id, source)
        return self.session_info(new_session_id, fork)

    def copy_turns(self, source, fork, index):
        """Copy the turns before *index*."""
        end = source.turns[index].position if index < len(source.turns) else len(source.items)
        fork.items, fork.turns = source.items[:end], source.turns[:index]

    def metadata_of_fork(self, source):
        return source.metadata

    def origin_of_fork(self, session_id, source):
        return session_id, source.born


class OnlyCatalogued(Catalogued):
    """A store that cannot erase sessions."""

    erase = None
    scrub = None
