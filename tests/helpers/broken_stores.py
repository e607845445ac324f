"""A store that keeps the contract, and for each rule stores that break that rule and no other."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any, NamedTuple

import anyio
from anyio.lowlevel import checkpoint
from msgspec import json

from helpers.internals import ItemCodec, check_load, check_text
from tower_memory import History, SessionConflict, SessionError, TurnInfo


def turn_starts(turn_ids):
    """Return the starts of turns, given for each item the turn id that it begins, or None."""
    return [TurnInfo(turn_id, place) for place, turn_id in enumerate(turn_ids) if turn_id]


class Row(NamedTuple):
    id: int
    turn_id: str | None
    item: bytes


class Plain:
    """A store that keeps the contract, in methods that subclasses can break."""

    def __init__(self):
        self.sessions = {}
        self.ids = count(1)
        self.codec = ItemCodec(Any)
        self.lock = anyio.Semaphore(1)

    def rows(self, session_id):
        return self.sessions.setdefault(session_id, [])

    def encode(self, turn):
        return self.codec.encode(turn.items, turn.session_id)

    def decode(self, raw):
        return json.decode(raw)

    def revision(self, rows):
        return rows[-1].id if rows else 0

    def limited(self, rows, limit):
        return rows if limit is None else rows[max(0, len(rows) - limit) :]

    def check(self, session_id, limit=None):
        check_load(session_id, limit)

    def held(self, rows, turn):
        return any(row.turn_id == turn.turn_id for row in rows)

    def conflicts(self, turn, revision):
        return turn.expected_revision not in (None, revision)

    def added(self, turn, encoded):
        turn_ids = [turn.turn_id, *[None] * len(encoded)]
        return [Row(next(self.ids), *row) for row in zip(turn_ids, encoded, strict=False)]

    async def write(self, rows, added):
        rows += added

    async def load(self, session_id, *, limit=None):
        self.check(session_id, limit)
        await checkpoint()
        rows = self.rows(session_id)
        kept = self.limited(rows, limit)
        return History(
            [self.decode(row.item) for row in kept],
            revision=self.revision(rows),
            turns=turn_starts(row.turn_id for row in kept),
            is_cut=len(kept) < len(rows),
        )

    async def append(self, turn):
        encoded = self.encode(turn)
        await checkpoint()
        rows = self.rows(turn.session_id)
        if self.held(rows, turn):
            return self.revision(rows)
        if self.conflicts(turn, revision := self.revision(rows)):
            raise SessionConflict(turn.session_id, expected=turn.expected_revision, actual=revision)
        await self.write(rows, self.added(turn, encoded))
        return self.revision(rows)

    async def pop(self, session_id):
        self.check(session_id)
        rows = self.rows(session_id)
        return self.decode(rows.pop().item) if rows else None

    async def clear(self, session_id):
        self.check(session_id)
        self.rows(session_id).clear()


BROKEN = {}


def breaks(rule):
    """Register a store as one that breaks *rule* only."""

    def note(store):
        BROKEN[store] = rule
        return store

    return note


@breaks("A session without items loads as an empty history at revision 0.")
class AtMinusOne(Plain):
    def revision(self, rows):
        return super().revision(rows) or -1

    def conflicts(self, turn, revision):
        return super().conflicts(turn, max(revision, 0))

    async def append(self, turn):
        return max(await super().append(turn), 0)


@breaks("Items come back oldest first, turn after turn.")
class ClockStepsBack(Plain):
    def revision(self, rows):
        return max((row.id for row in rows), default=0)

    async def write(self, rows, added):
        starts = [n for n, row in enumerate(rows) if row.turn_id]
        place = starts[-1] if len(starts) == 4 else len(rows)
        rows[place:place] = added


@breaks("A history lists each turn's id and the position of the turn's first item.")
class KnowsTheLastTurnOnly(Plain):
    async def load(self, session_id, *, limit=None):
        history = await super().load(session_id, limit=limit)
        last = history.turns[-1:] if limit is None else history.turns
        return History(history, revision=history.revision, turns=last, is_cut=history.is_cut)


@breaks("Loaded items equal the appended items, in value and in type.")
class WholeNumbersBecomeFloats(Plain):
    """As a store does whose JSON has the numbers of JavaScript."""

    def decode(self, raw):
        return json.decode(raw, strict=False) if len(raw) < 10 else super().decode(raw)

    def encode(self, turn):
        encoded = super().encode(turn)
        return [
            str(float(raw)).encode() if raw.isdigit() and len(raw) < 10 else raw for raw in encoded
        ]


@breaks("An item that cannot be stored unchanged is refused with its turn; the turn id stays free.")
class MakesNanNull(Plain):
    def encode(self, turn):
        try:
            return super().encode(turn)
        except Exception:
            if turn.items[-1] == turn.items[-1] or not isinstance(turn.items[-1], float):
                raise
            return [json.encode(item) for item in turn.items]


@breaks("An item that cannot be stored unchanged is refused with its turn; the turn id stays free.")
class SkipsWhatItCannotKeep(Plain):
    def encode(self, turn):
        encoded = []
        for item in turn.items:
            try:
                encoded += self.codec.encode([item], turn.session_id)
            except Exception:
                continue
        return encoded


@breaks("Any text that is not empty can be a session id, and a turn id.")
class StopsAtNul(Plain):
    def added(self, turn, encoded):
        first, *others = super().added(turn, encoded) or [None]
        return [first._replace(turn_id=first.turn_id.partition("\0")[0]), *others] if first else []


@breaks("Sessions stay separate even if their ids are similar or their turn ids are equal.")
class TrimsIds(Plain):
    def rows(self, session_id):
        return super().rows(session_id.strip(" "))


@breaks("Sessions stay separate even if their ids are similar or their turn ids are equal.")
class TurnIdsAreGlobal(Plain):
    def held(self, rows, turn):
        return any(
            super(TurnIdsAreGlobal, self).held(rows, turn) for rows in self.sessions.values()
        )


@breaks("A limit keeps the newest items, their turns and the session's revision, and sets is_cut.")
class LimitKeepsTheOldest(Plain):
    def limited(self, rows, limit):
        return rows if limit is None else rows[:limit]


@breaks("A limit keeps the newest items, their turns and the session's revision, and sets is_cut.")
class LimitZeroIsNoLimit(Plain):
    def limited(self, rows, limit):
        return super().limited(rows, limit or None)


@breaks("A limit keeps the newest items, their turns and the session's revision, and sets is_cut.")
class RevisionOfWhatIsLoaded(Plain):
    async def load(self, session_id, *, limit=None):
        history = await super().load(session_id, limit=limit)
        revision, is_cut = history.revision if history else 0, history.is_cut
        return History(history, revision=revision, turns=history.turns, is_cut=is_cut)


@breaks("A limit keeps the newest items, their turns and the session's revision, and sets is_cut.")
class KeepsQuietAboutWhatItCut(Plain):
    async def load(self, session_id, *, limit=None):
        history = await super().load(session_id, limit=limit)
        return History(history, revision=history.revision, turns=history.turns)


@breaks("A turn that is held is not saved again, and append returns the current revision.")
class LooksAtTheLastTurnOnly(Plain):
    def held(self, rows, turn):
        last = next((row for row in reversed(rows) if row.turn_id), None)
        return last is not None and super().held([last], turn)


@breaks("append looks for a held turn before it compares revisions.")
class ComparesFirst(Plain):
    def held(self, rows, turn):
        return not self.conflicts(turn, self.revision(rows)) and super().held(rows, turn)


@breaks("An outdated revision raises SessionConflict with both revisions, and writes nothing.")
class ZeroExpectsNothing(Plain):
    def conflicts(self, turn, revision):
        return bool(turn.expected_revision) and super().conflicts(turn, revision)


@breaks("An outdated revision raises SessionConflict with both revisions, and writes nothing.")
class WritesWhatConflicts(Plain):
    async def append(self, turn):
        try:
            return await super().append(turn)
        except SessionConflict as error:
            if turn.expected_revision == 0:
                await self.write(self.rows(turn.session_id), self.added(turn, [b"0"]))
            raise error from None


@breaks("A turn without items writes nothing, and append returns the current revision.")
class EmptyTurnsTakeAnId(Plain):
    async def append(self, turn):
        revision = await super().append(turn)
        return revision if turn.items else next(self.ids)


@breaks("pop removes and returns the newest item, or returns None if there is none.")
class PopsTheOldest(Plain):
    async def pop(self, session_id):
        rows = self.rows(session_id)
        rows.reverse()
        popped = await super().pop(session_id)
        rows.reverse()
        rows[-1:] = [row._replace(id=next(self.ids)) for row in rows[-1:]]
        return popped


@breaks("clear removes all items of its session, and none of a session with a similar id.")
class ClearsWhatIsLike(Plain):
    async def clear(self, session_id):
        self.check(session_id)
        for like in self.sessions:
            if like.lower() == session_id.lower():
                self.sessions[like].clear()


@breaks("A turn is no longer held once all its items are removed.")
class RemembersTurns(Plain):
    def __init__(self):
        super().__init__()
        self.ever = set()

    def held(self, rows, turn):
        return (turn.session_id, turn.turn_id) in self.ever

    def added(self, turn, encoded):
        self.ever |= {(turn.session_id, turn.turn_id)} if encoded else set()
        return super().added(turn, encoded)


@breaks("An outdated revision raises SessionConflict with both revisions, and writes nothing.")
class RemembersWhatConflicted(Plain):
    def __init__(self):
        super().__init__()
        self.refused = set()

    def held(self, rows, turn):
        return turn.turn_id in self.refused or super().held(rows, turn)

    def conflicts(self, turn, revision):
        conflicts = super().conflicts(turn, revision)
        self.refused |= {turn.turn_id} if conflicts else set()
        return conflicts


@breaks("A revision changes only with the content, and different contents never share a revision.")
class CountsItems(Plain):
    def revision(self, rows):
        return len(rows)


@breaks("Changing an appended item or a loaded item changes nothing in the store.")
class KeepsTheVeryItems(Plain):
    """Return the same decoded object again and again."""

    def __init__(self):
        super().__init__()
        self.decoded = {}

    def decode(self, raw):
        return self.decoded.setdefault(raw, super().decode(raw))


@breaks("Bad arguments raise TypeError or ValueError.")
class TakesAnyLimit(Plain):
    def check(self, session_id, limit=None):
        check_text("session_id", session_id)

    def limited(self, rows, limit):
        return super().limited(rows, None if limit is None else abs(int(limit)))


@breaks("Turns appended at the same time are all kept whole, and none fails because of another.")
class LastWriteWins(Plain):
    async def write(self, rows, added):
        if any(row.turn_id for row in rows) and len(added) == 3:
            before = [*rows]
            await checkpoint()
            rows[:] = before
        rows += added


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
        rows = self.rows(turn.session_id)
        if self.held(rows, turn):
            return await super().append(turn)
        await checkpoint()
        revision = await super().append(replace(turn, turn_id="not yet known"))
        rows[:] = [
            row._replace(turn_id=turn.turn_id) if row.turn_id == "not yet known" else row
            for row in rows
        ]
        return revision


@breaks("If several turns expect the same revision at the same time, exactly one is saved.")
class ComparesBeforeItWaits(Plain):
    async def append(self, turn):
        rows = self.rows(turn.session_id)
        if not self.held(rows, turn) and self.conflicts(turn, self.revision(rows)):
            return await super().append(turn)
        await checkpoint()
        return await super().append(replace(turn, expected_revision=None))


@breaks("If several callers pop at the same time, each item is returned once.")
class LooksBeforeItPops(Plain):
    async def pop(self, session_id):
        self.check(session_id)
        rows = self.rows(session_id)
        newest = rows[-1:]
        await checkpoint()
        rows[-1:] = []
        return self.decode(newest[0].item) if newest else None


@breaks("A load during appends and clears returns whole turns only.")
class ShowsHalves(Plain):
    async def append(self, turn):
        async with self.lock:
            return await super().append(turn)

    async def write(self, rows, added):
        before = len(rows)
        try:
            for row in added:
                rows.append(row)
                await checkpoint()
        except BaseException:
            del rows[before:]
            raise


@breaks("An append cancelled at any point saves all or nothing; repeated, it saves the turn once.")
class KeepsHalves(Plain):
    async def append(self, turn):
        async with self.lock:
            return await super().append(turn)

    async def load(self, session_id, *, limit=None):
        self.check(session_id, limit)
        async with self.lock:
            return await super().load(session_id, limit=limit)

    async def write(self, rows, added):
        for row in added:
            rows.append(row)
            await checkpoint()
