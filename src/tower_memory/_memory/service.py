"""The service with memory: one call, from the request to the saved turn.

The steps of a call, numbered as in the map of the code (src/tower_memory/README.md):

1. Read the ids from the request, with the turn that it replaces, and the new items.
2. Acquire the session lock, unless the overlap is "append".
3. Load the history, up to the turn that is replaced. In step 4, the store reads it from its cache
   or from the file.
5. Refuse a turn that the session already holds. For a whole request, find the new items. For any
   other request, find a last reply that it repeats at its start.
6. Leave out the rest of an exchange that a limit cut. Apply the window.
7. Hydrate the request.
8. With a journal, begin the turn. Call the inner service.
9. Read the reply's items and save the turn. With a journal, a turn that is not saved has failed.
10. Release the lock.

If the reply is a stream, its recorder does steps 9 and 10 when the stream ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, cast, final

from tower_memory._calls import call_service
from tower_memory._capabilities.journal import TurnJournal
from tower_memory._codec import ItemCodec, snapshot
from tower_memory._errors import TurnExists
from tower_memory._history import History
from tower_memory._large_turns import encode_turn
from tower_memory._memory.call import Call, read_call
from tower_memory._memory.journal import JournalledTurn
from tower_memory._memory.lock_state import LockHolder
from tower_memory._memory.new_turn import OpenTurn, new_turn, read_items, turn_with
from tower_memory._memory.reentrancy import Inside
from tower_memory._memory.replacing import held_items, load_before
from tower_memory._memory.save import TurnSaver
from tower_memory._memory.session_lock import acquire, acquire_at_once
from tower_memory._memory.stream_recorder import StreamRecorder
from tower_memory._memory.window_loading import (
    apply_window,
    from_start,
    load_history,
    without_last,
)
from tower_memory._reconcile import new_in_request, without_repeated
from tower_memory._service import Req, Res, Service, stack
from tower_memory._stream_proxy import StreamProxy
from tower_memory._stream_source import is_stream
from tower_memory._tool_links import GetLinks
from tower_memory._turn import check_revision
from tower_memory._turn_report import report_session
from tower_memory.dialects import Streamed, WholeRequests
from tower_memory.windows import BoundedWindow

if TYPE_CHECKING:
    from tower_memory._memory.layer import MemoryLayer


class LayerParts(NamedTuple):
    """Values that a layer derives from its parameters once.

    Attributes:
        links: Returns the links of an item.
        codec: Codec of the store's items, or None if the store has no ``item_type``.
        bounded_window: The window, if it bounds the number of items to load; otherwise None.
        save: Saves turns.
        journal: The store if turns begin before the model call, otherwise None.
    """

    links: GetLinks
    codec: ItemCodec[Any] | None
    bounded_window: BoundedWindow | None
    save: TurnSaver
    journal: TurnJournal[Any] | None


@final
@dataclass(frozen=True, slots=True, repr=False)
class Memory(Generic[Req, Res]):
    """A service with memory; made by `MemoryLayer`."""

    inner: Service[Req, Res]
    layer: MemoryLayer
    parts: LayerParts

    async def __call__(self, request: Req, /) -> Res:
        layer = self.layer
        call = read_call(layer, request)
        report_session(self.parts.save, call.session_id)
        items = tuple(layer.dialect.new_items(request))
        encode = partial(snapshot, items, call.session_id, self.parts.codec)
        new = await encode_turn(encode, items)

        if layer.overlap == "append":
            return await self._run_turn(call, new, None)

        holder = acquire_at_once(layer.store, call.session_id)
        if holder is None:
            wait = layer.overlap == "serialize"
            holder = await acquire(layer.store, call.session_id, wait=wait)

        try:
            with Inside(holder):
                return await self._run_turn(call, new, holder)
        finally:
            if holder.lease is None:  # otherwise the stream owns the lock
                holder.release()

    async def _run_turn(self, call: Call, new: Sequence[Any], holder: LockHolder | None) -> Res:
        """Do steps 3 to 9 for the items *new* of the request.

        *holder* holds the session lock, or is None with "append".
        """
        layer, parts = self.layer, self.parts
        history = await self._load(call)
        check_revision("the revision of the history", history.revision)

        request = call.request
        if layer.whole_requests:
            new = new_in_request(call.session_id, history, new, parts.links)
            request = cast("WholeRequests", layer.dialect).newest(request, len(new))
        else:
            repeated, new = without_repeated(history, new, parts.links)
            history = without_last(history, repeated)

        history = from_start(history, new, parts.links)
        given: Sequence[Any] = history
        if layer.window is not None:
            given = await apply_window(layer.window, history, new, parts.links)

        opened = OpenTurn(call, request, new, history.revision)
        hydrated = layer.dialect.with_history(request, given)
        pending = None
        if parts.journal is not None:
            opened, pending = await self._begin(opened, parts.journal)

        async with pending or nullcontext():
            response = await call_service(self.inner, hydrated)
            if not is_stream(response):
                items = read_items(layer, opened, given, response)
                del history, given, hydrated  # they may be long: free them before the save
                await self._save(opened, pending, items, response)
                return response

            recorder = StreamRecorder(
                response,
                call.session_id,
                partial(self._save_streamed, opened, pending),
                holder,
                drop=pending and pending.fail,
                on_detach=pending and pending.detach,
                keep_interrupted=layer.keep_interrupted,
                keep_failed=layer.keep_interrupted and call.replaces is None,
            )
            proxy: Any = StreamProxy(recorder)
            return cast("Res", proxy)

    async def _begin(
        self, opened: OpenTurn, journal: TurnJournal[Any]
    ) -> tuple[OpenTurn, JournalledTurn]:
        """Make the turn a pending turn; return it with the id under which it is saved."""
        turn = turn_with(self.layer, opened, opened.new)
        pending = JournalledTurn(journal, self.parts.save.grace, turn)
        await pending.begin()
        return opened._replace(call=opened.call._replace(turn_id=turn.turn_id)), pending

    async def _load(self, call: Call) -> History[Any]:
        """Load the history of *call*.

        Raises:
            TurnExists: The session holds the call's turn.
            SessionConflict: The session is not at the revision that the user saw.
            TurnMissing: The session does not hold the turn to replace.
        """
        layer, parts = self.layer, self.parts
        session_id, turn_id = call.session_id, call.turn_id

        if call.replaces is not None:
            if turn_id is not None:
                held = await held_items(layer.store, layer.load, session_id, turn_id)
                _refuse_held(session_id, turn_id, held)
            return await load_before(
                call.replaces, parts.bounded_window, layer.load, session_id, parts.links
            )

        history = await load_history(parts.bounded_window, layer.load, session_id, parts.links)
        if turn_id is not None:
            _refuse_held(session_id, turn_id, history.turn(turn_id))
        return history

    async def _save_streamed(
        self, opened: OpenTurn, pending: JournalledTurn | None, response: Streamed
    ) -> None:
        """Save the turn of a stream; an interrupted stream without reply items saves nothing."""
        async with pending or nullcontext():
            # No dialect reads a whole conversation from a stream.
            items = read_items(self.layer, opened, (), response)
            has_reply = len(items) > len(opened.new)
            if has_reply or not response.interrupted:
                await self._save(opened, pending, items, response)
            elif pending is not None:
                await pending.fail()

    async def _save(
        self,
        opened: OpenTurn,
        pending: JournalledTurn | None,
        items: Sequence[Any],
        response: object,
    ) -> None:
        """Save the turn with *items*, which ends the pending turn."""
        await self.parts.save(new_turn(self.layer, opened, items, response), response)
        if pending is not None:
            pending.end()

    def __repr__(self) -> str:
        return stack(self.layer, self.inner)


def _refuse_held(session_id: str, turn_id: str, held: Sequence[Any] | None) -> None:
    """Refuse a turn that the session holds with the items *held*; None if it does not."""
    if held is not None:
        raise TurnExists(session_id, turn_id=turn_id, items=held)
