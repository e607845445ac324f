"""The memory layer and its parameters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack, final, get_args, overload

from tower_memory._arguments import check_choice, check_function, check_seconds, check_text
from tower_memory._calls import check_inner
from tower_memory._codec import ItemCodec
from tower_memory._history import History
from tower_memory._memory import checks
from tower_memory._memory.find_store import find_store
from tower_memory._memory.save import TurnSaver
from tower_memory._memory.service import LayerParts, Memory
from tower_memory._service import Req, Res, Service, attribute, describe
from tower_memory._session_services import LoadSession, SaveSession
from tower_memory._store import SessionStore, check_store
from tower_memory._turn import Turn
from tower_memory.dialects import ChatCompletions, Dialect
from tower_memory.dialects._known_links import links_of
from tower_memory.streams import Stream
from tower_memory.windows import BoundedWindow, Window

Overlap: TypeAlias = Literal["serialize", "append", "reject"]

Replaced: TypeAlias = str | tuple[str, int] | None
"""A turn id, perhaps with the revision that the user saw; None replaces no turn."""

Chunk = TypeVar("Chunk")
ManagedStream = TypeVar("ManagedStream", bound=AbstractAsyncContextManager[Any])

_DEFAULT_GRACE = 5.0
"""Grace in seconds if the store has no ``busy_timeout``."""


class TurnOptions(TypedDict, total=False):
    """The optional parameters of `MemoryLayer.over` that do not depend on the dialect."""

    overlap: Overlap
    turn_id: Callable[[Any], str] | None
    window: Window | None
    keep_interrupted: bool
    grace: float | None
    metadata: Callable[[Any, Any], Mapping[str, Any] | None] | None
    replaces: Callable[[Any], Replaced] | None
    journal: bool


class MemoryOptions(TurnOptions, total=False):
    """The optional parameters of `MemoryLayer.over`."""

    dialect: Dialect
    whole_requests: bool


@final
@dataclass(frozen=True, slots=True)
class MemoryLayer:
    """Puts a session's history in front of each request, and saves the turn after the reply.

    1. **A turn is whole or absent.** The request's new items and the reply's items are saved
       together, after the inner service has succeeded. A call that fails or is cancelled before
       that leaves its session unchanged; with *journal*, its new items stay as a pending turn.
    2. **Saved means returned.** After the inner service has answered, the save runs to its end
       even if the caller's scope is cancelled, and the reply is returned. The save has *grace*
       seconds from the caller's deadline, or from its own start if the caller was cancelled or
       the deadline has passed before. A caller without a deadline that is cancelled during the
       save waits for it (`SqliteSessionStore` gives up after its ``busy_timeout``). Native asyncio
       cancellation may drop the reply; the turn is then wholly saved or wholly absent.
    3. **A paid reply is never lost.** Every check that does not need the reply is made before the
       inner service is called. If the save fails later, `SaveError`, `SessionConflict`,
       `SessionCleared` or `TurnMissing` carries the response and the turn, and `TurnExists` the
       response and the stored items. If the inner service is not async, the `TypeError` carries the
       response.
    4. **Overlapping turns lose nothing.** They wait for each other, are both kept, or the later
       turn is refused.
    5. **Only the messages change.** The other fields of the request, the response, and all objects
       of the caller stay as they are.
    6. **Gone is gone.** If the session is cleared or erased while a turn is in progress, the turn
       is not saved. It raises `SessionCleared`, with the response and the turn.
    7. **A turn is replaced as a whole.** With *replaces*, the commit that saves the new turn
       removes the old one and all later turns. If the inner service fails, the old turns stay.
       Turns newer than the loaded history, or than the revision that *replaces* returns, are never
       removed.

    >>> from typing import Any
    >>> import anyio
    >>> from tower_memory import InMemorySessionStore, MemoryLayer
    >>> memory = MemoryLayer.over(InMemorySessionStore(), session_id="user_123")
    >>> async def count(request: list[Any]) -> str:
    ...     return f"Messages received: {len(request)}"
    >>> async def main() -> None:
    ...     for _ in range(2):
    ...         print(await memory(count)([{"role": "user", "content": "Hi"}]))
    >>> anyio.run(main)
    Messages received: 1
    Messages received: 3

    Args:
        load: Service from session id to `History`, usually a `LoadSession`. The revision of the
            history must be that of the session, since the save is checked against it.
        save: Service from `Turn` to revision, usually a `SaveSession`. It must save a turn once,
            even if it is called twice with it.
        session_id: The session of a request: an id, or a function of the request.
        dialect: The dialect of the inner service.
        overlap: The policy for overlapping turns of one session. ``"serialize"``: one after
            another, within this event loop. A turn also waits for an open stream while a task
            reads it; it waits at most 30 seconds for a stream that a finished task handed over
            unread. ``"append"``: side by side; both are kept, in the order of their commits.
            ``"reject"``: in this event loop, a turn that starts while another is in progress
            raises `SessionConflict`; between processes, the turn that is saved last raises it.
            `tower_memory.products` recommends one for several workers.
        turn_id: Function of the request that returns the turn's id. A turn whose id the session
            already holds is not saved again. None makes a new id for each call.
        window: The part of the history that the model gets: a service from `History` to items,
            such as those in `tower_memory.windows`. None gives the whole loaded history. The
            stored items do not change. `Summarised` must have the store of the layer.
        whole_requests: Whether each request carries the whole conversation, as chat front ends
            send it. The items after those that the session already stores are new. The front end
            may leave out tool calls, tool results, reasoning and empty replies, and may show
            several messages of one answer as one (see `tower_memory.dialects`). A conversation
            that contradicts the session, or has nothing new, raises `SessionConflict`. If False,
            all items of a request are new, except a last reply that the request repeats at its
            start.
        keep_interrupted: Whether to save a stream that fails, is closed or is left before its
            end. The items that were received are saved, marked as interrupted. A cancelled read
            does not end a stream that survives the cancellation (see `tower_memory.streams`). A
            stream that is garbage-collected without being closed is not saved; the log of
            `tower_memory` says so.
        grace: Seconds, 0 or more, that a save may run past the caller's deadline or cancellation
            (promise 2); then it raises `SaveError`. None takes the store's ``busy_timeout``, or 5
            seconds if the store has none.
        store: The store behind *save*, whose sessions are locked. None searches for it: *save*
            itself, the attribute ``store`` of *save*, or the object of which *save* is a method.
            The search goes on inside a wrapped service: an attribute ``inner``, as in this
            library's layers, or the function that `functools.wraps` wraps.
        metadata: Function of the caller's request and the response that returns a mapping for the
            turn, such as the model and its usage (see `Turn`), or None for an empty mapping. The
            response of a stream is a `tower_memory.dialects.Streamed`. It is called before the
            save. If it fails, or JSON cannot hold its result, `SaveError` carries the turn without
            metadata.
        replaces: Function of the request that returns the id of the turn to replace, a pair of
            this id and the revision that the user saw, or None to add a turn at the end. The
            history then ends before that turn, also for *window* and *whole_requests*.
            An interrupted reply replaces the turn only with *keep_interrupted*, and only if its
            reader closed the stream, or left its ``async with`` without an error.
            The docstring of `tower_memory` has a guide. None never replaces a turn.
        journal: True begins the turn in the store before the inner service is called, with the new
            items of the request (see `TurnJournal`). The save ends the pending turn. A call that
            raises or is cancelled, or a stream that is not saved, leaves it ``"failed"``. Its lease
            of 60 seconds is renewed every 20 seconds, by a task of the event loop, until the turn
            is saved or has failed. If the process dies, or drops a stream that it has not closed,
            the turn is ``"left"`` when its lease ends. The same happens if an event loop is blocked
            for longer than the lease. With *turn_id*, the same request may be made again: at once
            in the same process; in another process it raises `SessionConflict` until the turn has
            failed or its lease has ended. All errors of `TurnJournal.begin` are raised before the
            inner service is called. `tower_memory.products` has a guide.

    Raises:
        TypeError: A parameter is of the wrong type, *load* and *save* are swapped, or *overlap*
            needs a store and none is given or found. When called: an id that a function
            returned, the request, the history or the window's result is of the wrong type; the
            inner service was not called. If the inner service turns out not to be async, the error
            has its reply in the attribute ``response``; the turn is not saved.
        ValueError: A parameter, or a value that a function returned, has the right type but is
            not accepted. The inner service was not called.
        UnencodableItemError: A new item of the request cannot be stored. The inner service was
            not called.
        SessionConflict: With ``"reject"``, the turn overlaps another turn. With *replaces*, the
            session is at another revision than the user saw, or has changed since the history was
            loaded. Without it, turns were replaced since then. If this is known before the inner
            service is called, it is not called; otherwise the error carries the response and the
            turn. With *whole_requests*, the conversation contradicts the session or has nothing
            new; the inner service was not called.
        SessionCleared: The session was cleared or erased since the history was loaded. The error
            carries the response and the turn.
        TurnMissing: The session does not hold the turn to replace, perhaps because another call
            has replaced it. The error carries the response and the turn if the inner service was
            called.
        TurnExists: The session holds the turn. The error carries the response if the inner
            service was called.
        SaveError: The inner service has answered, and the turn is perhaps not saved.
        SessionError: The turn would wait for itself, the session cannot be loaded, a stream ended
            right after a cancelled read, or a stream that has failed is read again. Also if a
            worker has waited 60 seconds for the turn in which it was started.
    """

    load: Service[str, History[Any]]
    save: Service[Turn[Any], int]
    _: KW_ONLY
    session_id: str | Callable[[Any], str]
    dialect: Dialect = ChatCompletions()
    overlap: Overlap = "serialize"
    turn_id: Callable[[Any], str] | None = None
    window: Window | None = None
    whole_requests: bool = False
    keep_interrupted: bool = False
    grace: float | None = None
    store: SessionStore[Any] | None = None
    metadata: Callable[[Any, Any], Mapping[str, Any] | None] | None = None
    replaces: Callable[[Any], Replaced] | None = None
    journal: bool = False
    _parts: LayerParts = field(init=False, repr=False, compare=False)

    @classmethod
    def over(
        cls,
        store: SessionStore[Any],
        *,
        session_id: str | Callable[[Any], str],
        **options: Unpack[MemoryOptions],
    ) -> MemoryLayer:
        """Return a layer that loads from *store* and saves to it.

        *options* are the other parameters of `MemoryLayer`, except *store*.
        """
        load, save = LoadSession(store), SaveSession(store)
        return cls(load, save, session_id=session_id, store=store, **options)

    def __post_init__(self) -> None:
        self._check_parameters()
        store: Any = self.store
        if store is None:
            store = find_store(self.save)
        if store is None and self.overlap != "append":
            msg = (
                f"overlap={self.overlap!r} needs the store whose sessions it locks, and none is "
                f"visible behind save={describe(self.save)}; pass store=, or overlap='append'"
            )
            raise TypeError(msg)

        checks.check_window_store(self.window, store)
        object.__setattr__(self, "store", store)
        object.__setattr__(self, "_parts", self._make_parts(store))

    def _make_parts(self, store: object) -> LayerParts:
        grace: Any = attribute(store, "busy_timeout") if self.grace is None else self.grace
        grace = _DEFAULT_GRACE if grace is None else grace
        item_type = attribute(store, "item_type")
        window = None if self.whole_requests else self.window
        is_repeatable = self.turn_id is not None or self.journal
        return LayerParts(
            links=links_of(self.dialect),
            codec=None if item_type is None else ItemCodec(item_type),
            bounded_window=window if isinstance(window, BoundedWindow) else None,
            save=TurnSaver(self.save, self.load, self.store, grace, is_repeatable),
            journal=checks.checked_journal(store) if self.journal else None,
        )

    def _check_parameters(self) -> None:
        checks.check_service("load", self.load, "LoadSession(store)")
        checks.check_service("save", self.save, "SaveSession(store)")
        checks.check_not_swapped(self.load, self.save)
        if self.store is not None:
            check_store(self.store)

        if callable(self.session_id):
            check_function("session_id", self.session_id)
        else:
            check_text("session_id", self.session_id)
        if self.turn_id is not None:
            check_function("turn_id", self.turn_id)
        if self.replaces is not None:
            check_function("replaces", self.replaces)
        if self.metadata is not None:
            check_function("metadata", self.metadata, "the request and the response")

        checks.check_flag("journal", self.journal)
        check_choice("overlap", self.overlap, get_args(Overlap))
        checks.check_dialect(self.dialect)
        if self.window is not None:
            checks.check_service("window", self.window, "LastTurns(20)")
        if self.whole_requests:
            checks.check_whole_requests(self.dialect, self.load)
        if self.grace is not None:
            check_seconds("grace", self.grace)

    @overload
    def __call__(self, inner: Service[Req, ManagedStream], /) -> Service[Req, ManagedStream]: ...
    @overload
    def __call__(
        self, inner: Service[Req, AsyncIterator[Chunk]], /
    ) -> Service[Req, Stream[Chunk]]: ...
    @overload
    def __call__(self, inner: Service[Req, Res], /) -> Service[Req, Res]: ...
    def __call__(self, inner: Service[Req, Any], /) -> Service[Req, Any]:
        """Return *inner* with memory.

        A stream that is a context manager keeps its type; another async iterator is typed as a
        `Stream`.
        """
        check_inner(inner)
        return Memory(inner, self, self._parts)

    def __repr__(self) -> str:
        is_function = callable(self.session_id)
        session = describe(self.session_id) if is_function else repr(self.session_id)
        store = self.save if self.store is None else self.store
        return f"MemoryLayer({store!r}, session_id={session}, overlap={self.overlap!r})"
