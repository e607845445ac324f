"""Stores that each break one rule about forks."""

from __future__ import annotations

from datetime import UTC, datetime

from anyio.lowlevel import checkpoint
from msgspec.structs import replace as replace_fields

from helpers.broken_stores.registry import breaks
from helpers.plain_catalog import Catalogued
from tower_memory import SessionConflict, SessionError


@breaks("A fork has the items, turns and metadata of its source, and the turns keep their times.")
class DatesCopiedTurnsAnew(Catalogued):
    def copy_turns(self, source, fork, index):
        super().copy_turns(source, fork, index)
        if len(fork.turns) > 1:
            now = datetime.now(UTC)
            fork.turns = [replace_fields(turn, created_at=now) for turn in fork.turns]


@breaks("A fork has the items, turns and metadata of its source, and the turns keep their times.")
class ForksWithoutMetadata(Catalogued):
    def metadata_of_fork(self, source):
        return None


@breaks("With before, a fork has only the turns before that turn.")
class CopiesTheTurnItself(Catalogued):
    def copy_turns(self, source, fork, index):
        is_meant = index < len(source.turns) == 4
        super().copy_turns(source, fork, index + is_meant)


@breaks("With before, a fork has only the turns before that turn.")
class CopiesByPosition(Catalogued):
    """Leaves out turns without items that are directly before the turn."""

    def copy_turns(self, source, fork, index):
        super().copy_turns(source, fork, index)
        if index < len(source.turns):
            end = source.turns[index].position
            fork.turns = [turn for turn in fork.turns if turn.position < end]


@breaks("A fork is the last active session, with a time and a revision of its own.")
class CopiesTheTimes(Catalogued):
    async def fork(self, session_id, new_session_id, *, before=None):
        await super().fork(session_id, new_session_id, before=before)
        source, fork = self.chat(session_id), self.chat(new_session_id)
        fork.created_at, fork.updated_at = source.created_at, source.updated_at
        return self.session_info(new_session_id, fork)


@breaks("A fork is the last active session, with a time and a revision of its own.")
class ForksBehindTheirSources(Catalogued):
    async def fork(self, session_id, new_session_id, *, before=None):
        info = await super().fork(session_id, new_session_id, before=before)
        self.chat(new_session_id).active = self.chat(session_id).active
        return info


@breaks("A fork holds the ids of the turns that it has, and no others.")
class HoldsNoCopiedTurn(Catalogued):
    def held(self, chat, turn):
        is_copied = chat.origin is not None and chat.turns and turn.turn_id == "turn 0"
        return not is_copied and super().held(chat, turn)


@breaks("A fork holds the ids of the turns that it has, and no others.")
class HoldsAllTurnsOfTheSource(Catalogued):
    def held(self, chat, turn):
        if chat.origin and turn.turn_id in self.chat(chat.origin[0]).ids():
            return True
        return super().held(chat, turn)


@breaks("A change of a session changes none of its forks, and a change of a fork not its source.")
class SharesTheLists(Catalogued):
    def copy_turns(self, source, fork, index):
        if index < len(source.turns) or len(source.turns) != 2 or source.origin:
            super().copy_turns(source, fork, index)
        else:
            fork.items, fork.turns = source.items, source.turns


@breaks("A change of a session changes none of its forks, and a change of a fork not its source.")
class ErasesForks(Catalogued):
    def remove(self, chat):
        super().remove(chat)
        for fork in [*self.chats.values()]:
            is_fork = fork.origin and self.chat(fork.origin[0]) is chat and fork.exists
            if is_fork and (len(fork.items), len(fork.turns)) == (3, 2):
                self.remove(fork)


@breaks("forked_from names the source, and is None once that is erased, also if its id is reused.")
class NamesErasedSources(Catalogued):
    def forked_from(self, chat):
        return chat.origin and chat.origin[0]


@breaks("forked_from names the source, and is None once that is erased, also if its id is reused.")
class NamesSourcesByTheirIds(Catalogued):
    def forked_from(self, chat):
        return chat.origin[0] if chat.origin and self.chat(chat.origin[0]).exists else None


@breaks("forked_from names the source, and is None once that is erased, also if its id is reused.")
class NamesTheFirstSource(Catalogued):
    def origin_of_fork(self, session_id, source):
        return source.origin or super().origin_of_fork(session_id, source)


@breaks("fork checks for the source, then for the turn, then for the target, and writes nothing.")
class ChecksTheTargetFirst(Catalogued):
    def check_forked(self, session_id, new_session_id, before):
        if self.chat(new_session_id).exists:
            raise SessionConflict(new_session_id, reason="it exists")
        super().check_forked(session_id, new_session_id, before)


@breaks("fork checks for the source, then for the turn, then for the target, and writes nothing.")
class CreatesBeforeItForks(Catalogued):
    def check_forked(self, session_id, new_session_id, before):
        try:
            super().check_forked(session_id, new_session_id, before)
        except SessionError:
            if not self.chat(new_session_id).exists:
                self.changed(self.chat(new_session_id))
            raise


@breaks("A fork may take the id of a removed session, of which no turn in progress comes back.")
class ForkingForgetsTheTombstone(Catalogued):
    async def fork(self, session_id, new_session_id, *, before=None):
        info = await super().fork(session_id, new_session_id, before=before)
        self.chat(new_session_id).cleared = 0
        return info


@breaks("If several callers fork to the same new session at the same time, exactly one succeeds.")
class ChecksBeforeItForks(Catalogued):
    async def before_fork(self):
        await checkpoint()
