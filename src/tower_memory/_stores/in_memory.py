"""A store in the memory of this process, for tests and for conversations that may be lost.

1. One counter numbers the changes of all sessions, so no number of a session is used again.
2. Nothing awaits between the checks of a change and its end, so each change is whole or absent.
3. A session that was erased, or cleared before its first write, leaves a tombstone for one day.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import count
from time import time_ns
from typing import Any, Generic, NamedTuple, final, overload

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from tower_memory._capabilities.erasure import Erasure, check_erase
from tower_memory._codec import ItemCodec
from tower_memory._errors import TurnMissing
from tower_memory._history import History, TurnInfo
from tower_memory._items import Item
from tower_memory._large_turns import encode_turn
from tower_memory._metadata import decode_metadata
from tower_memory._store import check_load, check_session_id
from tower_memory._stores.append_checks import SessionState, absent_session, must_write
from tower_memory._stores.cached_session import CachedSession, run_to_end, to_kept
from tower_memory._stores.records import TOMBSTONE_LIFETIME, encode, to_datetime
from tower_memory._turn import Turn, check_turn


def _new_content() -> CachedSession:
    return CachedSession(is_measured=False)


@dataclass(slots=True)
class _Session:
    """A session that exists. Numbers and states are those of `SessionState`.

    Attributes:
        first_number: The number of the change that created the session.
        cleared: The number of the last clear, or of the tombstone at which it was created.
        revision: The number of the last change.
        replaced: The number of the last change that replaced turns.
        updated_at: Time of the last change, in nanoseconds since 1970.
        content: The turns and items.
        held: The ids of the turns.
    """

    first_number: int
    cleared: int
    revision: int = 0
    replaced: int = 0
    updated_at: int = 0
    content: CachedSession = field(default_factory=_new_content)
    held: set[str] = field(default_factory=set)

    def index_of(self, turn_id: str) -> int:
        """Return the index of a held turn in the session's turns."""
        turns = self.content.turns
        return next(n for n in range(len(turns) - 1, -1, -1) if turns[n].turn_id == turn_id)


class _Tombstone(NamedTuple):
    """The number and the time, in nanoseconds since 1970, at which a session was removed."""

    number: int
    time: int


@final
class InMemorySessionStore(Generic[Item]):
    """A store that keeps its sessions in memory, as long as the store object lives.

    It keeps every promise of `SessionStore` and has the capability `SessionErasure`. It needs no
    opening or closing and has no size limit. It may be used in several event loops one after
    another, but not at the same time. Two stores never share sessions.

    >>> import anyio
    >>> from tower_memory import InMemorySessionStore, Turn
    >>> async def main() -> None:
    ...     store = InMemorySessionStore()
    ...     await store.append(Turn("user_123", [{"role": "user", "content": "Hi"}]))
    ...     print(await store.load("user_123"))
    >>> anyio.run(main)
    History([{'role': 'user', 'content': 'Hi'}], revision=1)

    Args:
        item_type: The type of the items: any type that msgspec can decode, or ``Any`` for JSON
            values. It is also an attribute.

    Raises:
        TypeError: msgspec cannot decode *item_type*.
    """

    @overload
    def __init__(self, *, item_type: type[Item]) -> None: ...
    @overload
    def __init__(self: InMemorySessionStore[Any], *, item_type: Any = ...) -> None: ...
    def __init__(self, *, item_type: Any = Any) -> None:
        self.item_type = item_type
        self._codec: ItemCodec[Item] = ItemCodec(item_type)
        self._sessions: dict[str, _Session] = {}
        self._tombstones: dict[str, _Tombstone] = {}  # the oldest first
        self._numbers = count(1)

    async def load(
        self, session_id: str, *, limit: int | None = None, before: str | int | None = None
    ) -> History[Item]:
        """Return items of the session, oldest first (`SessionStore.load`)."""
        check_load(session_id, limit, before)
        await checkpoint()

        session = self._sessions.get(session_id)
        if session is None:
            if isinstance(before, str):
                raise TurnMissing(session_id, turn_id=before)
            return History(session_id=session_id, revision=self._tombstone_number(session_id))

        content = session.content
        end = content.end
        if isinstance(before, str):
            if before not in session.held:
                raise TurnMissing(session_id, turn_id=before)
            end = content.turns[session.index_of(before)].position
        elif before is not None:
            end = min(before, end)

        start = 0 if limit is None else max(0, end - limit)
        return History(
            run_to_end(content.read(start, end, self._codec)),
            session_id=session_id,
            revision=session.revision,
            offset=start,
            turns=() if limit == 0 else content.turns_between(start, end, before),
        )

    async def append(self, turn: Turn[Item]) -> int:
        """Save the turn whole or not at all; return the revision (`SessionStore.append`)."""
        check_turn(turn)
        values = (*turn.items, turn.metadata)
        kept, metadata = await encode_turn(partial(self._encode, turn), values)
        await checkpoint_if_cancelled()  # later, the turn is saved

        state = self._state_before(turn)
        if not must_write(state, turn):
            return state.revision

        session = self._change(turn.session_id)
        content = session.content
        if turn.replaces is not None:
            first = session.index_of(turn.replaces)
            session.held.difference_update(each.turn_id for each in content.turns[first:])
            content.remove_turns(first)
            session.replaced = session.revision

        created_at = to_datetime(session.updated_at)
        info = TurnInfo(turn.turn_id, content.end, created_at, decode_metadata(metadata))
        content.add(info, kept)
        session.held.add(turn.turn_id)
        return session.revision

    async def pop(self, session_id: str) -> Item | None:
        """Remove and return the newest item; None if there is none (`SessionStore.pop`)."""
        check_session_id(session_id)
        await checkpoint()

        session = self._sessions.get(session_id)
        if session is None or session.content.end == 0:
            return None

        popped: Item
        popped, gone = session.content.pop(self._codec)
        session.held.difference_update(turn.turn_id for turn in gone)
        self._change(session_id)
        return popped

    async def clear(self, session_id: str) -> None:
        """Remove all items and turns of the session (`SessionStore.clear`)."""
        check_session_id(session_id)
        await checkpoint()

        if session_id not in self._sessions:
            self._add_tombstone(session_id)
            return

        session = self._change(session_id)
        session.cleared = session.revision
        session.content = _new_content()
        session.held.clear()

    async def erase(
        self,
        *,
        session_id: str | None = None,
        prefix: str | None = None,
        inactive_since: datetime | None = None,
    ) -> Erasure:
        """Remove whole sessions for good, and return their numbers (`SessionErasure.erase`)."""
        check_erase(session_id, prefix, inactive_since)
        await checkpoint()

        if prefix is not None:
            named = [each for each in self._sessions if each.startswith(prefix)]
        else:
            named = [str(session_id)]

        sessions = turns = items = 0
        for each in named:
            session = self._sessions.get(each)
            if inactive_since is not None and not (
                session and to_datetime(session.updated_at) < inactive_since
            ):
                continue

            self._add_tombstone(each)
            if session is not None:
                del self._sessions[each]
                sessions += 1
                turns += len(session.content.turns)
                items += session.content.end
        return Erasure(sessions, turns, items)

    async def scrub(self) -> None:
        """Do nothing: a store in memory has no files (`SessionErasure.scrub`)."""
        await checkpoint()

    def _encode(self, turn: Turn[Item]) -> tuple[list[Any], bytes | None]:
        """Return the items of a turn as they are kept, and its metadata as JSON."""
        encoded = encode(turn, self._codec)
        return to_kept(encoded.decoded, encoded.items), encoded.metadata

    def _state_before(self, turn: Turn[Item]) -> SessionState:
        session = self._sessions.get(turn.session_id)
        if session is None:
            return absent_session(self._tombstone_number(turn.session_id))

        return SessionState(
            revision=session.revision,
            first_number=session.first_number,
            cleared=session.cleared,
            replaced=session.replaced,
            holds_turn=turn.turn_id in session.held,
            holds_replaced=turn.replaces in session.held,
        )

    def _change(self, session_id: str) -> _Session:
        """Return a session with the number and the time of a new change; create it if needed."""
        number = next(self._numbers)
        session = self._sessions.get(session_id)
        if session is None:
            session = _Session(number, cleared=self._tombstone_number(session_id))
            self._sessions[session_id] = session
            self._tombstones.pop(session_id, None)

        session.revision = number
        session.updated_at = time_ns()
        return session

    def _tombstone_number(self, session_id: str) -> int:
        """Return the number of the session's tombstone; 0 if there is none."""
        tombstone = self._tombstones.get(session_id)
        if tombstone is None or tombstone.time < time_ns() - TOMBSTONE_LIFETIME:
            return 0
        return tombstone.number

    def _add_tombstone(self, session_id: str) -> None:
        """Add a tombstone with a new number, and drop those that are too old."""
        now = time_ns()
        self._tombstones.pop(session_id, None)  # the new one goes to the end
        self._tombstones[session_id] = _Tombstone(next(self._numbers), now)

        while (oldest := next(iter(self._tombstones))) != session_id:
            if self._tombstones[oldest].time >= now - TOMBSTONE_LIFETIME:
                break
            del self._tombstones[oldest]

    def __repr__(self) -> str:
        return f"InMemorySessionStore(sessions={len(self._sessions)})"
