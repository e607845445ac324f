"""Stores that each break one rule about concurrent and cancelled calls."""

from __future__ import annotations

from dataclasses import replace

from anyio.lowlevel import checkpoint
from msgspec.structs import replace as replace_fields

from helpers.broken_stores.registry import breaks
from helpers.plain_store import Plain
from tower_memory import SessionError


@breaks("Turns appended at the same time are all kept whole, and none fails because of another.")
class LastWriteWins(Plain):
    async def add_items(self, chat, encoded):
        if len(encoded) == 3 and len(chat.turns) > 1:
            before = [*chat.items]
            await checkpoint()
            chat.items[:] = before
        chat.items += encoded


@breaks("Turns appended at the same time are all kept whole, and none fails because of another.")
class FailsWhileAnotherIsWritten(Plain):
    def __init__(self):
        super().__init__()
        self.writing = {}

    async def append(self, turn):
        session_id, turn_id = turn.session_id, turn.turn_id
        if turn.expected_revision is None and self.writing.get(session_id, turn_id) != turn_id:
            msg = "database is locked"
            raise SessionError(msg, session_id=session_id)
        self.writing[session_id] = turn_id
        try:
            return await super().append(turn)
        finally:
            self.writing.pop(session_id, None)


@breaks("A turn that several callers append at the same time is saved once.")
class LooksBeforeItWaits(Plain):
    async def append(self, turn):
        chat = self.chat(turn.session_id)
        if self.held(chat, turn):
            return await super().append(turn)
        await checkpoint()
        revision = await super().append(replace(turn, turn_id="not yet known"))
        chat.turns[:] = [
            replace_fields(each, turn_id=turn.turn_id) if each.turn_id == "not yet known" else each
            for each in chat.turns
        ]
        return revision


@breaks("If several turns expect the same revision at the same time, exactly one is saved.")
class ComparesBeforeItWaits(Plain):
    async def append(self, turn):
        chat = self.chat(turn.session_id)
        if turn.replaces or self.held(chat, turn) or self.conflicts(turn, chat):
            return await super().append(turn)
        await checkpoint()
        return await super().append(replace(turn, expected_revision=None))


@breaks("If several turns replace the same turn at the same time, exactly one is saved.")
class ComparesBeforeItReplaces(Plain):
    def __init__(self):
        super().__init__()
        self.compared = set()

    def check_turn(self, chat, turn):
        if turn.turn_id not in self.compared:
            super().check_turn(chat, turn)

    async def append(self, turn):
        chat = self.chat(turn.session_id)
        if turn.replaces and not self.held(chat, turn):
            self.check_turn(chat, turn)
            self.compared.add(turn.turn_id)
        return await super().append(turn)


@breaks("If several callers pop at the same time, each item is returned once.")
class LooksBeforeItPops(Plain):
    async def pop(self, session_id):
        self.check(session_id)
        newest = self.chat(session_id).items[-1:]
        await checkpoint()
        await super().pop(session_id)
        return self.decode(newest[0]) if newest else None


@breaks("A load during appends and clears returns whole turns only.")
class ShowsHalves(Plain):
    async def append(self, turn):
        async with self.lock:
            return await super().append(turn)

    async def add_items(self, chat, encoded):
        before = len(chat.items)
        try:
            for raw in encoded:
                chat.items.append(raw)
                await checkpoint()
        except BaseException:
            del chat.items[before:], chat.turns[-1:]
            raise


@breaks("An append cancelled at any point saves all or nothing; repeated, it saves the turn once.")
class KeepsHalves(Plain):
    async def append(self, turn):
        async with self.lock:
            return await super().append(turn)

    async def load(self, session_id, *, limit=None, before=None):
        self.check(session_id, limit, before)
        async with self.lock:
            return await super().load(session_id, limit=limit, before=before)

    async def add_items(self, chat, encoded):
        for raw in encoded:
            chat.items.append(raw)
            await checkpoint()
