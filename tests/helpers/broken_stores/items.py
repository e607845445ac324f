"""Stores that each break one rule about sessions and items."""

from __future__ import annotations

from msgspec import json
from msgspec.structs import replace as replace_fields

from helpers.broken_stores.registry import breaks, changed
from helpers.plain_store import Plain


@breaks("A session without items loads as an empty history; it is at revision 0 if never written.")
class AtMinusOne(Plain):
    async def load(self, session_id, *, limit=None, before=None):
        history = await super().load(session_id, limit=limit, before=before)
        return changed(history, revision=history.revision or -1)


@breaks("Items come back oldest first, turn after turn.")
class SwapsTheFourthAndTheFifthTurn(Plain):
    async def load(self, session_id, *, limit=None, before=None):
        history = await super().load(session_id, limit=limit, before=before)
        if len(history.turns) != 5 or len(history) != 10 or limit is not None:
            return history
        return changed(history, [*history[:-4], *history[-2:], *history[-4:-2]])


@breaks("A history lists each turn's id and the position of the turn's first item.")
class ListsTheLastOfTwoTurns(Plain):
    async def load(self, session_id, *, limit=None, before=None):
        history = await super().load(session_id, limit=limit, before=before)
        positions = [turn.position for turn in history.turns]
        is_meant = positions == [0, 2] and len(history) == 3 and limit is before is None
        return changed(history, turns=history.turns[-1:]) if is_meant else history


@breaks("Loaded items equal the appended items, in value and in type.")
class WholeNumbersBecomeFloats(Plain):
    """As a store does whose JSON has the numbers of JavaScript."""

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
    def info(self, turn, position, metadata):
        info = super().info(turn, position, metadata)
        return replace_fields(info, turn_id=turn.turn_id.partition("\0")[0])


@breaks("Sessions stay separate even if their ids are similar or their turn ids are equal.")
class TrimsIds(Plain):
    def chat(self, session_id):
        return super().chat(session_id.strip(" "))


@breaks("Sessions stay separate even if their ids are similar or their turn ids are equal.")
class TurnIdsAreGlobal(Plain):
    def held(self, chat, turn):
        return any(turn.turn_id in other.ids() for other in self.chats.values())


@breaks("pop removes and returns the newest item, or returns None if there is none.")
class PopsTheOldest(Plain):
    def remove_newest(self, chat):
        if len(chat.turns) > 1:
            return super().remove_newest(chat)
        chat.items.reverse()
        raw = super().remove_newest(chat)
        chat.items.reverse()
        return raw


@breaks("clear removes all items of its session, and none of a session with a similar id.")
class ClearsWhatIsLike(Plain):
    async def clear(self, session_id):
        await super().clear(session_id)
        for like in self.chats:
            if like.lower() == session_id.lower():
                await super().clear(like)


@breaks("A turn is no longer held once all its items, or all items before it, are removed.")
class RemembersClearedTurns(Plain):
    def __init__(self):
        super().__init__()
        self.gone = set()

    def held(self, chat, turn):
        return turn.turn_id in self.gone or super().held(chat, turn)

    async def clear(self, session_id):
        self.check(session_id)
        self.gone |= {*self.chat(session_id).ids()}
        await super().clear(session_id)


@breaks("A turn is no longer held once all its items, or all items before it, are removed.")
class PopKeepsTurnsWithoutItems(Plain):
    def remove_newest(self, chat):
        empty = [turn for turn in chat.turns if turn.position == len(chat.items)]
        raw = super().remove_newest(chat)
        chat.turns += empty
        return raw


@breaks("Each change raises the revision, also one that empties the session, and every clear.")
class PopIsNoChange(Plain):
    async def pop(self, session_id):
        revision = self.chat(session_id).revision if session_id else 0
        popped = await super().pop(session_id)
        self.chat(session_id).revision = revision
        return popped


@breaks("Each change raises the revision, also one that empties the session, and every clear.")
class AtZeroOncePopped(Plain):
    async def load(self, session_id, *, limit=None, before=None):
        history = await super().load(session_id, limit=limit, before=before)
        chat = self.chat(session_id)
        return (
            history if chat.items or chat.revision == chat.cleared else changed(history, revision=0)
        )


@breaks("Each change raises the revision, also one that empties the session, and every clear.")
class ClearsOnceOnly(Plain):
    async def clear(self, session_id):
        self.check(session_id)
        chat = self.chat(session_id)
        if not chat.cleared or chat.cleared != chat.revision:
            await super().clear(session_id)


@breaks("Changing items or metadata, appended or loaded, changes nothing in the store.")
class KeepsTheVeryItems(Plain):
    """Return the same decoded object again and again."""

    def __init__(self):
        super().__init__()
        self.decoded = {}

    def decode(self, raw):
        return self.decoded.setdefault(raw, super().decode(raw))


@breaks("Changing items or metadata, appended or loaded, changes nothing in the store.")
class SharesMetadata(Plain):
    def decode_metadata(self, raw):
        return {} if raw is None else json.decode(raw)


@breaks("Bad arguments raise TypeError or ValueError.")
class TakesAnyLimit(Plain):
    def check(self, session_id, limit=None, before=None):
        super().check(session_id, None, before)

    async def load(self, session_id, *, limit=None, before=None):
        limit = None if limit is None else abs(int(limit))
        return await super().load(session_id, limit=limit, before=before)


@breaks("Bad arguments raise TypeError or ValueError.")
class TakesAnyPlace(Plain):
    def check(self, session_id, limit=None, before=None):
        super().check(session_id, limit)

    def place(self, chat, session_id, before):
        if before is None or isinstance(before, str):
            return super().place(chat, session_id, before)
        return super().place(chat, session_id, abs(int(before)))
