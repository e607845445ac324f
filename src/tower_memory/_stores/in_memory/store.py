"""A store in the memory of this process, for tests and for conversations that may be lost.

Nothing awaits between the checks of a change and its end, so each change is whole or absent.
"""

from __future__ import annotations

from functools import partial
from typing import Any, final, overload

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from tower_memory._errors import TurnMissing
from tower_memory._history import History, TurnInfo
from tower_memory._items import Item
from tower_memory._large_turns import encode_turn
from tower_memory._metadata import decode_metadata
from tower_memory._store import check_load, check_session_id
from tower_memory._stores.append_checks import must_write
from tower_memory._stores.cached_session import to_kept
from tower_memory._stores.in_memory.cataloguing import Cataloguing
from tower_memory._stores.in_memory.erasing import Erasing
from tower_memory._stores.in_memory.journaling import Journaling
from tower_memory._stores.in_memory.searching import Searching
from tower_memory._stores.in_memory.sessions import run_to_end
from tower_memory._stores.in_memory.summarising import Summarising
from tower_memory._stores.records import encode, to_datetime
from tower_memory._stores.search_text import TextOf, check_text_of
from tower_memory._turn import Turn, check_turn


@final
class InMemorySessionStore(
    Cataloguing[Item], Searching[Item], Erasing[Item], Journaling[Item], Summarising[Item]
):
    """A store that keeps its sessions in memory, as long as the store object lives.

    It keeps every promise of `SessionStore`, and has all capabilities: `SessionCatalog`,
    `SessionSearch`, `SessionErasure`, `TurnJournal` and `SessionSummaries`. It needs no opening or
    closing and has no size limit. It may be used in several event loops one after another, but not
    at the same time. Two stores never share sessions.

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
        text_of: Function that returns additional text of an item, which a search finds, or None.
            It may be called on any thread. An error of the function is raised before anything is
            written.

    Raises:
        TypeError: msgspec cannot decode *item_type*, or *text_of* is no function.
    """

    @overload
    def __init__(self, *, item_type: type[Item], text_of: TextOf[Item] | None = ...) -> None: ...
    @overload
    def __init__(
        self: InMemorySessionStore[Any], *, item_type: Any = ..., text_of: TextOf[Any] | None = ...
    ) -> None: ...
    def __init__(self, *, item_type: Any = Any, text_of: TextOf[Any] | None = None) -> None:
        check_text_of(text_of)
        super().__init__(item_type=item_type, text_of=text_of)

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
            return History(
                session_id=session_id, revision=self._sessions.tombstone_number(session_id)
            )

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

        state = self._sessions.state_before(turn)
        to_write = must_write(state, turn)
        self._sessions.end_pending(turn.session_id, turn.turn_id)
        if not to_write:
            return state.revision

        session = self._sessions.change(turn.session_id)
        content = session.content
        if turn.replaces is not None:
            first = session.index_of(turn.replaces)
            session.remove_held(content.turns[first:])
            content.remove_turns(first)
            session.replaced = session.revision

        created_at = to_datetime(session.updated_at)
        info = TurnInfo(turn.turn_id, content.end, created_at, decode_metadata(metadata))
        content.add(info, kept)
        session.held[turn.turn_id] = session.revision
        return session.revision

    async def pop(self, session_id: str) -> Item | None:
        """Remove and return the newest item; None if there is none (`SessionStore.pop`)."""
        check_session_id(session_id)
        await checkpoint()

        session = self._sessions.get(session_id)
        if session is None or session.content.end == 0:
            return None

        popped: Item
        popped, changed = session.content.pop(self._codec)
        session.remove_held(changed)
        self._sessions.change(session_id)

        if session.content.turns[-1:] == changed[:1]:  # the item's turn has items left
            session.held[changed[0].turn_id] = session.revision
        return popped

    async def clear(self, session_id: str) -> None:
        """Remove all items and turns of the session (`SessionStore.clear`)."""
        check_session_id(session_id)
        await checkpoint()

        if self._sessions.get(session_id) is None:
            self._sessions.add_tombstone(session_id)
            return

        session = self._sessions.change(session_id)
        session.cleared = session.revision
        session.remove_content()

    def _encode(self, turn: Turn[Item]) -> tuple[list[Any], bytes | None]:
        """Return the items of a turn as they are kept, and its metadata as JSON."""
        encoded = encode(turn, self._reader)
        return to_kept(encoded.decoded, encoded.items), encoded.metadata
