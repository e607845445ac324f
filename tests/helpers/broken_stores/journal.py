"""Stores that each break one rule about TurnJournal."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from anyio.lowlevel import checkpoint

from helpers.broken_stores.registry import breaks, changed
from helpers.plain_store import Journalling
from tower_memory import TurnInfo


@breaks("pending returns the turns that have begun and are not saved, the oldest first.")
class SortsPendingTurnsByTheirIds(Journalling):
    def in_order(self, pending):
        return sorted(pending, key=lambda each: each.turn_id)


@breaks("pending returns the turns that have begun and are not saved, the oldest first.")
class LeavesOutPendingTurnsWithoutItems(Journalling):
    def in_order(self, pending):
        return [each for each in pending if each.items]


@breaks("pending returns the turns that have begun and are not saved, the oldest first.")
class GivesTimesWithoutZone(Journalling):
    async def pending(self, session_id):
        pending = await super().pending(session_id)
        return [replace(each, created_at=each.created_at.replace(tzinfo=None)) for each in pending]


@breaks("pending returns the turns that have begun and are not saved, the oldest first.")
class GivesTimesOfAnotherTimeZone(Journalling):
    async def pending(self, session_id):
        pending = await super().pending(session_id)
        hour = timedelta(hours=1)
        return [replace(each, created_at=each.created_at + hour) for each in pending]


@breaks("The items of a pending turn come back in value and in type, as copies, or are refused.")
class SharesPendingItems(Journalling):
    def __init__(self):
        super().__init__()
        self.given = {}

    async def pending(self, session_id):
        pending = await super().pending(session_id)
        return [
            replace(each, items=self.given.setdefault(repr(each.items), each.items))
            for each in pending
        ]


@breaks("A pending turn is in no history and no hit, and changes no revision, time or count.")
class CountsABeginAsAChange(Journalling):
    async def put(self, session_id, present, new):
        await super().put(session_id, present, new)
        if present is not None:
            self.changed(self.chat(session_id))


@breaks("A pending turn is in no history and no hit, and changes no revision, time or count.")
class ListsPendingTurns(Journalling):
    async def load(self, session_id, *, limit=None, before=None):
        history = await super().load(session_id, limit=limit, before=before)
        begun = self.begun_in(session_id).values() if limit is None else ()
        turns = [TurnInfo(each.turn_id, len(history), each.created_at) for each in begun]
        return changed(history, turns=(*history.turns, *turns))


@breaks("append of a pending turn of any owner ends it; a refused append does not.")
class EndsOnlyTurnsWithoutOwner(Journalling):
    def end(self, turn):
        present = self.begun_in(turn.session_id).get(turn.turn_id)
        if present is not None and present.owner is None:
            super().end(turn)


@breaks("append of a pending turn of any owner ends it; a refused append does not.")
class EndsTurnsBeforeTheyAreSaved(Journalling):
    async def append(self, turn):
        self.end(turn)
        return await super().append(turn)


@breaks("forget ends one pending turn; clear and erase end those of one session, of any owner.")
class ClearKeepsPendingTurnsOfOthers(Journalling):
    async def clear(self, session_id):
        owned = {
            each: begun
            for each, begun in self.begun_in(session_id).items()
            if begun.owner is not None
        }
        await super().clear(session_id)
        self.begun[session_id] = owned


@breaks("forget ends one pending turn; clear and erase end those of one session, of any owner.")
class ForgetsAllPendingTurns(Journalling):
    async def forget(self, session_id, turn_id):
        await super().forget(session_id, turn_id)
        self.begun_in(session_id).clear()


@breaks("begin of a turn that the session holds writes nothing, before any other check.")
class BeginsHeldTurns(Journalling):
    async def begin(self, turn, *, lease=None, owner=None):
        self.check_begin(turn, lease, owner)
        if turn.turn_id in self.chat(turn.session_id).ids():
            turn = replace(turn, turn_id=f"{turn.turn_id} again")
        await super().begin(turn, lease=lease, owner=owner)


@breaks("begin of a turn that the session holds writes nothing, before any other check.")
class ChecksTurnsBeforeTheyAreFound(Journalling):
    async def begin(self, turn, *, lease=None, owner=None):
        self.check_begin(turn, lease, owner)
        chat = self.chat(turn.session_id)
        if self.held(chat, turn):
            self.check_turn(chat, turn)
        await super().begin(turn, lease=lease, owner=owner)


@breaks("begin refuses a turn as append does, and then writes nothing.")
class RevivesClearedSessions(Journalling):
    async def begin(self, turn, *, lease=None, owner=None):
        self.check_begin(turn, lease, owner)
        present = self.begun_in(turn.session_id).get(turn.turn_id)
        if present is None:
            turn = replace(turn, since=None)
        await super().begin(turn, lease=lease, owner=owner)


@breaks("begin refuses a turn as append does, and then writes nothing.")
class ChecksTurnsAfterTheyHaveBegun(Journalling):
    async def begin(self, turn, *, lease=None, owner=None):
        self.check_begin(turn, lease, owner)
        accepted = replace(turn, since=None, expected_revision=None, replaces=None)
        await super().begin(accepted, lease=lease, owner=owner)
        await super().begin(turn, lease=lease, owner=owner)


@breaks("begin of a pending turn replaces its items, metadata and lease, but not its time.")
class BeginsAtALaterTime(Journalling):
    async def put(self, session_id, present, new):
        await super().put(session_id, None, new)


@breaks("begin of a pending turn replaces its items, metadata and lease, but not its time.")
class KeepsTheFirstMetadata(Journalling):
    async def put(self, session_id, present, new):
        if present is not None and present.owner == new.owner:
            new.metadata = present.metadata
        await super().put(session_id, present, new)


@breaks(
    "Another owner may begin a turn if it failed, its lease expired or it has none; not before."
)
class LetsNoOwnerBeAnyOwner(Journalling):
    def may_begin(self, present, owner):
        return owner is None or super().may_begin(present, owner)


@breaks(
    "Another owner may begin a turn if it failed, its lease expired or it has none; not before."
)
class KeepsTurnsWithoutLease(Journalling):
    def may_begin(self, present, owner):
        return present.owner == owner or self.state(present) != "running"


@breaks("If several owners begin a turn at the same time, exactly one succeeds.")
class AsksBeforeItWaits(Journalling):
    async def put(self, session_id, present, new):
        await checkpoint()
        await super().put(session_id, present, new)


@breaks("fail sets the state of a pending turn of the same owner only, and writes nothing else.")
class FailsTurnsOfOthers(Journalling):
    def may_fail(self, present, owner):
        return True


@breaks("fail sets the state of a pending turn of the same owner only, and writes nothing else.")
class FailEndsTheLease(Journalling):
    async def fail(self, session_id, turn_id, *, owner=None):
        await super().fail(session_id, turn_id, owner=owner)
        present = self.begun_in(session_id).get(turn_id)
        if present is not None and present.failed:
            present.until = None


@breaks("Bad arguments of a journal raise TypeError or ValueError, and nothing is written.")
class TakesALeaseOfNoTime(Journalling):
    def check_begin(self, turn, lease, owner):
        super().check_begin(turn, lease or None, owner)


@breaks("Bad arguments of a journal raise TypeError or ValueError, and nothing is written.")
class TakesAnyOwner(Journalling):
    def check_owner(self, owner):
        pass
