"""Stores that each break one rule about turns."""

from __future__ import annotations

from msgspec.structs import replace as replace_fields

from helpers.broken_stores.registry import breaks
from helpers.plain_store import Plain
from tower_memory import SessionConflict, SessionError


@breaks("A turn that is held is not saved again, and append returns the current revision.")
class LooksAtTheLastTenTurns(Plain):
    def held(self, chat, turn):
        return turn.turn_id in chat.ids()[-10:]


@breaks("A turn without items writes nothing, and append returns the current revision.")
class EmptyTurnsTakeANumber(Plain):
    async def append(self, turn):
        revision = await super().append(turn)
        return revision if turn.items or turn.replaces else next(self.numbers)


@breaks("An outdated revision raises SessionConflict with both revisions, and writes nothing.")
class ZeroExpectsNothing(Plain):
    def conflicts(self, turn, chat):
        return bool(turn.expected_revision) and super().conflicts(turn, chat)


@breaks("An outdated revision raises SessionConflict with both revisions, and writes nothing.")
class WritesWhatConflicts(Plain):
    def check_revision(self, chat, turn):
        if self.conflicts(turn, chat) and turn.expected_revision == 0:
            chat.items.append(b"0")
        super().check_revision(chat, turn)


@breaks("An outdated revision raises SessionConflict with both revisions, and writes nothing.")
class RemembersWhatConflicted(Plain):
    def __init__(self):
        super().__init__()
        self.refused = set()

    def held(self, chat, turn):
        return turn.turn_id in self.refused or super().held(chat, turn)

    def conflicts(self, turn, chat):
        conflicts = super().conflicts(turn, chat)
        self.refused |= {turn.turn_id} if conflicts else set()
        return conflicts


ORDER = "append checks for a held turn, then for a clear, a conflict and a turn to replace."


@breaks(ORDER)
class ComparesFirst(Plain):
    def held(self, chat, turn):
        compares_first = turn.replaces is None and self.conflicts(turn, chat)
        return not compares_first and super().held(chat, turn)


@breaks(ORDER)
class LooksForAConflictBeforeAClear(Plain):
    def check_turn(self, chat, turn):
        self.check_revision(chat, turn)
        super().check_turn(chat, turn)


@breaks(ORDER)
class LooksForTheReplacedTurnBeforeAConflict(Plain):
    def check_turn(self, chat, turn):
        self.check_cleared(chat, turn)
        self.check_missing(chat, turn)
        super().check_turn(chat, turn)

    async def append(self, turn):
        # A concurrent replacement must conflict, although its turn is missing by then.
        try:
            return await super().append(turn)
        except SessionError as error:
            if turn.replaces == "missing" or isinstance(error, SessionConflict):
                raise
            self.check_revision(self.chat(turn.session_id), turn)
            raise


@breaks("A turn whose history was loaded before a clear raises SessionCleared, also a first turn.")
class ForgetsTheClearOfANewSession(Plain):
    async def clear(self, session_id):
        self.check(session_id)
        was_new = self.chat(session_id).revision == 0
        await super().clear(session_id)
        self.chat(session_id).cleared *= not was_new


@breaks("A turn loaded before turns were replaced raises SessionConflict, also a replaced turn.")
class RevivesReplacedTurns(Plain):
    def check_replaced(self, chat, turn):
        pass


@breaks("A turn takes the place of the turn it replaces and of all later turns, and of no other.")
class ListsALongTurnAtItsOldEnd(Plain):
    async def add(self, chat, turn, encoded, metadata):
        end = len(chat.items)
        await super().add(chat, turn, encoded, metadata)
        if turn.replaces and len(encoded) == 3:
            chat.turns[-1] = replace_fields(chat.turns[-1], position=end)


@breaks("A replaced turn is no longer held, and neither are the later turns.")
class RemembersTheLaterTurns(Plain):
    def __init__(self):
        super().__init__()
        self.later = set()

    def held(self, chat, turn):
        return turn.turn_id in self.later or super().held(chat, turn)

    def remove_replaced(self, chat, turn):
        self.later |= {*chat.ids()[chat.ids().index(turn.replaces) + 1 :]}
        super().remove_replaced(chat, turn)


@breaks("A turn without items that replaces others removes them, is listed, and is saved once.")
class ForgetsRewinds(Plain):
    async def add(self, chat, turn, encoded, metadata):
        await super().add(chat, turn, encoded, metadata)
        if not encoded:
            chat.turns.pop()


@breaks("A turn without items that replaces others removes them, is listed, and is saved once.")
class PopRemovesTheRewindBefore(Plain):
    def remove_newest(self, chat):
        raw = super().remove_newest(chat)
        chat.turns = [turn for turn in chat.turns if turn.position < len(chat.items)]
        return raw


@breaks("A turn that replaces a turn which is not held raises TurnMissing and writes nothing.")
class ReplacesNothingInANewSession(Plain):
    def check_missing(self, chat, turn):
        if chat.revision:
            super().check_missing(chat, turn)


@breaks("A replacement at an outdated revision raises SessionConflict and keeps the old turns.")
class ReplacesNewerTurns(Plain):
    def check_revision(self, chat, turn):
        if turn.replaces not in chat.ids():
            super().check_revision(chat, turn)
