"""The service with memory: one call, from the request to the saved turn.

The steps of a call, numbered as in the map of the code (src/tower_memory/README.md):

1. Read the session id, the new items and the turn id from the request.
2. Acquire the session lock, unless the overlap is "append".
3. Load the history. In step 4, the store reads it from its cache or from the file.
5. Refuse a turn that the session already holds. For a whole request, find the new items. For any
   other request, find a last reply that it repeats at its start.
6. Leave out the rest of an exchange that a limit cut. Apply the window.
7. Hydrate the request.
8. Call the inner service.
9. Read the reply's items and save the turn.
10. Release the lock.

If the reply is a stream, its recorder does steps 9 and 10 when the stream ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, cast, final

from tower_memory._arguments import check_text
from tower_memory._calls import call_service
from tower_memory._codec import ItemCodec, snapshot
from tower_memory._errors import TurnExists
from tower_memory._memory.lock_state import LockHolder
from tower_memory._memory.reentrancy import inside
from tower_memory._memory.save import TurnSaver, save_error
from tower_memory._memory.session_lock import acquire
from tower_memory._memory.stream_proxy import StreamProxy
from tower_memory._memory.stream_recorder import StreamRecorder
from tower_memory._memory.window_loading import (
    apply_window,
    from_start,
    load_history,
    without_last,
)
from tower_memory._reconcile import may_be_whole, new_in_request, without_repeated
from tower_memory._service import Req, Res, Service, stack
from tower_memory._stream_source import is_stream
from tower_memory._tool_links import GetLinks
from tower_memory._turn import Turn, check_revision
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
    """

    links: GetLinks
    codec: ItemCodec[Any] | None
    bounded_window: BoundedWindow | None
    save: TurnSaver


class _Call(NamedTuple):
    """The data of a call that are needed to save its turn.

    Attributes:
        request: The caller's request.
        session_id: The session of the request.
        turn_id: The id of the turn, or None for a new id.
        new: The new items of the request.
        revision: The session's revision when its history was loaded.
    """

    request: Any
    session_id: str
    turn_id: str | None
    new: Sequence[Any]
    revision: int


@final
@dataclass(frozen=True, slots=True, repr=False)
class Memory(Generic[Req, Res]):
    """A service with memory; made by `MemoryLayer`."""

    inner: Service[Req, Res]
    layer: MemoryLayer
    parts: LayerParts

    async def __call__(self, request: Req, /) -> Res:
        layer = self.layer
        session_id = layer.session_id
        if callable(session_id):
            session_id = session_id(request)
            check_text("the result of session_id(request)", session_id)

        new = snapshot(layer.dialect.new_items(request), session_id, self.parts.codec)
        turn_id = None
        if layer.turn_id is not None:
            turn_id = layer.turn_id(request)
            check_text("the result of turn_id(request)", turn_id)

        if layer.overlap == "append":
            return await self._run_turn(request, session_id, turn_id, new, None)

        wait = layer.overlap == "serialize"
        holder = await acquire(layer.store, session_id, wait=wait)
        try:
            with inside(holder):
                return await self._run_turn(request, session_id, turn_id, new, holder)
        finally:
            if holder.lease is None:  # otherwise the stream owns the lock
                holder.release()

    async def _run_turn(
        self,
        request: Req,
        session_id: str,
        turn_id: str | None,
        new: Sequence[Any],
        holder: LockHolder | None,
    ) -> Res:
        """Do steps 3 to 9; *holder* holds the session lock, or is None with "append"."""
        layer, parts = self.layer, self.parts
        history = await load_history(parts.bounded_window, layer.load, session_id, parts.links)
        if turn_id is not None and (held := history.turn(turn_id)) is not None:
            raise TurnExists(session_id, turn_id=turn_id, items=held)
        if layer.overlap == "reject":
            check_revision("expected_revision", history.revision)

        if layer.whole_requests:
            new = new_in_request(session_id, history, new, parts.links)
            request = cast("WholeRequests", layer.dialect).newest(request, len(new))
        else:
            repeated, new = without_repeated(history, new, parts.links)
            history = without_last(history, repeated)

        history = from_start(history, new, parts.links)
        given: Sequence[Any] = history
        if layer.window is not None:
            given = await apply_window(layer.window, history, new, parts.links)

        response = await call_service(self.inner, layer.dialect.with_history(request, given))
        call = _Call(request, session_id, turn_id, new, history.revision)
        if not is_stream(response):
            turn = self._turn(call, given, response)
            del history, given  # they may be long: free them before the save
            await parts.save(turn, call.revision, response)
            return response

        recorder = StreamRecorder(
            response,
            session_id,
            partial(self._save_streamed, call),
            holder,
            keep_interrupted=layer.keep_interrupted,
        )
        proxy: Any = StreamProxy(recorder)
        return cast("Res", proxy)

    def _turn(self, call: _Call, given: Sequence[Any], response: object) -> Turn[Any]:
        """Return the turn of *call*: its new items and the items of *response*.

        *given* is the history that the inner service got; the response may repeat it.
        """
        layer, dialect = self.layer, self.layer.dialect
        try:
            request = call.request
            if may_be_whole(response):
                # Hydrate anew: the inner service may have changed the request that it received.
                request = dialect.with_history(request, given)
            items = (*call.new, *dialect.reply_items(request, response))
        except Exception as error:
            raise save_error(call.session_id, error, response, None) from error

        return Turn(
            call.session_id,
            items,
            expected_revision=call.revision if layer.overlap == "reject" else None,
            **({} if call.turn_id is None else {"turn_id": call.turn_id}),
        )

    async def _save_streamed(self, call: _Call, response: Streamed) -> None:
        """Save the turn of a stream; an interrupted stream without reply items saves nothing."""
        turn = self._turn(call, (), response)  # no dialect reads a whole conversation from a stream
        has_reply = len(turn.items) > len(call.new)
        if has_reply or not response.interrupted:
            await self.parts.save(turn, call.revision, response)

    def __repr__(self) -> str:
        return stack(self.layer, self.inner)
