"""The layer that remembers.

The flow of one call: session and new items | lock, load, hydrate | inner | reply items, save.
Whatever can fail early is done early; from the inner service's answer, or the end of its stream,
to the end of its save nothing is cancelled. The promises are on `MemoryLayer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, cast, final, get_args

from tower_memory._arguments import check_choice, check_seconds, check_text
from tower_memory._codec import ItemCodec, snapshot
from tower_memory._conversations import may_be_whole, unsaid
from tower_memory._errors import TurnExists
from tower_memory._history import History
from tower_memory._overlap import OpenTurn, begin_turn
from tower_memory._remembered import Reading, RememberedStream
from tower_memory._saving import Saving, not_saved, store_of
from tower_memory._service import Req, Res, Service, attribute, check_inner, describe, stack
from tower_memory._sessions import Turn, check_revision
from tower_memory._streams import is_stream
from tower_memory.dialects import ChatCompletions, Dialect, Streamed, WholeRequests
from tower_memory.windows import BoundedWindow, Window, load_for, seen_through

Overlap: TypeAlias = Literal["serialize", "append", "reject"]

GRACE = 5.0
"""The grace, in seconds, where the store has no ``busy_timeout`` to take it from."""


@final
@dataclass(frozen=True, slots=True)
class MemoryLayer:
    """Gives a service the history of the request's session, and saves the turn that it makes.

    1. **A turn is whole or absent.** The request's new items and the reply's are saved in one
       write, after the inner service succeeded. A call that fails or is cancelled leaves its
       session as it was.
    2. **Saved means returned.** Once the inner service has answered, the save runs to its end,
       even if the caller's scope is cancelled meanwhile, and the reply is returned: at most
       *grace* seconds past the caller's deadline; where that is a scope cancelled without one, as
       long as the save takes (`SqliteSessionStore` gives up after its ``busy_timeout``). Native
       asyncio cancellation may drop the reply; the turn is then saved or absent, never torn.
    3. **A reply that was paid for is never lost.** What can fail before the inner service is
       called is tried before; what fails after raises an error that has the response and the turn.
    4. **Overlapping turns lose nothing**: they wait for each other, stand side by side, or are
       refused.
    5. **Only the messages change.** The rest of the request, the response, and everything the
       caller holds stay as they are.

    >>> import anyio
    >>> from tower_memory import InMemorySessionStore, LoadSession, SaveSession
    >>> store = InMemorySessionStore()
    >>> memory = MemoryLayer(LoadSession(store), SaveSession(store), session_id="user_123")
    >>> async def count(request: list) -> str:
    ...     return f"Messages given: {len(request)}"
    >>> async def main():
    ...     for _ in range(2):
    ...         print(await memory(count)([{"role": "user", "content": "Hi"}]))
    >>> anyio.run(main)
    Messages given: 1
    Messages given: 3

    Args:
        load: Usually `LoadSession`; any service from session id to `History`.
        save: Usually `SaveSession`; any service from `Turn` to revision. Given one turn twice, it
            must save it once.
        session_id: Which session a request belongs to: an id, or a function of the request.
        dialect: How the service spells a conversation; by default `ChatCompletions`.
        overlap: What to do with turns of one session that overlap. ``"serialize"``: one after
            another, in this event loop. ``"append"``: side by side, both kept, in the order they
            commit. ``"reject"``: the later raises `SessionConflict`.
        turn_id: A function of the request, so that the same request made again is the same turn;
            None for a new turn each time.
        window: What part of the history the model gets: any service from `History` to items, such
            as those in `tower_memory.windows`; None for all that *load* gives. It changes nothing
            stored.
        whole_requests: Whether each request carries the whole conversation, as chat front ends
            post it. What the session does not have yet is new; a conversation that is not the
            session's raises `SessionConflict`.
        keep_interrupted: Whether a stream that fails, is closed or is left before its end is saved
            as far as it came, marked as interrupted. One that is let go of without being closed
            cannot be, and warns of it.
        grace: Seconds that a save may run past the caller's deadline; None for the store's
            ``busy_timeout``.

    Attributes:
        store: What tells this layer's sessions from those of others: the store behind *save*, as
            far as it can be seen through layers, or else what is innermost in *save*.
        codec: That of the store's ``item_type``, or None where it has none.
        bounds: The window, where it can say what it needs to be loaded, and so much is enough.
        saving: How it saves.

    Raises:
        TypeError: A parameter, an id that a function gave, the request, the history or what the
            window gave of it is of the wrong kind. Nothing was called.
        ValueError: The same, of the wrong value.
        UnencodableItemError: A new item of the request cannot be stored. Nothing was called.
        SessionConflict: With ``"reject"``, when the turn overlaps another: before the inner
            service is called where that is known, else with the response and the turn.
        TurnExists: The turn is in the history. With the response where that showed only then.
        SaveError: The inner service answered, and the turn may not be saved.
        SessionError: The turn would wait for itself, or the session cannot be loaded.
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
    store: object = field(init=False, repr=False, compare=False)
    codec: ItemCodec[Any] | None = field(init=False, repr=False, compare=False)
    bounds: BoundedWindow | None = field(init=False, repr=False, compare=False)
    saving: Saving = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_service("load", self.load, "LoadSession(store)")
        _check_service("save", self.save, "SaveSession(store)")
        if callable(self.session_id):
            _check_function("session_id", self.session_id)
        else:
            check_text("session_id", self.session_id)
        if self.turn_id is not None:
            _check_function("turn_id", self.turn_id)
        check_choice("overlap", self.overlap, get_args(Overlap))
        _check_dialect(self.dialect)
        if self.window is not None:
            _check_service("window", self.window, "LastTurns(20)")
        if self.whole_requests:
            _check_whole(self.dialect, self.load)
        if self.grace is not None:
            check_seconds("grace", self.grace)
        store = store_of(self.save)
        grace: Any = attribute(store, "busy_timeout") if self.grace is None else self.grace
        grace = GRACE if grace is None else grace
        item_type = attribute(store, "item_type")
        object.__setattr__(self, "store", store)
        object.__setattr__(self, "codec", None if item_type is None else ItemCodec(item_type))
        window = None if self.whole_requests else self.window
        object.__setattr__(self, "bounds", window if isinstance(window, BoundedWindow) else None)
        saving = Saving(self.save, self.load, store, grace, self.turn_id is not None)
        object.__setattr__(self, "saving", saving)

    def __call__(self, inner: Service[Req, Res], /) -> Memory[Req, Res]:
        check_inner(inner)
        return Memory(inner, self)

    def __repr__(self) -> str:
        who = describe(self.session_id) if callable(self.session_id) else repr(self.session_id)
        return f"MemoryLayer({self.store!r}, session_id={who}, overlap={self.overlap!r})"


class _Call(NamedTuple):
    """A call of the inner service: its request, and whose turn it is, with what new items, at which
    revision of the session.
    """

    request: Any
    session_id: str
    turn_id: str | None
    new: Sequence[Any]
    revision: int


@final
@dataclass(frozen=True, slots=True, repr=False)
class Memory(Generic[Req, Res]):
    """A service that remembers; made by `MemoryLayer`."""

    inner: Service[Req, Res]
    layer: MemoryLayer

    async def __call__(self, request: Req, /) -> Res:
        layer = self.layer
        session_id = layer.session_id
        if callable(session_id):
            session_id = session_id(request)
            check_text("what session_id(request) returned", session_id)
        new = snapshot(layer.dialect.new_items(request), session_id, layer.codec)
        turn_id = None
        if layer.turn_id is not None:
            turn_id = layer.turn_id(request)
            check_text("what turn_id(request) returned", turn_id)
        if layer.overlap == "append":
            return await self._take(request, session_id, turn_id, new, None)
        opened = await begin_turn(layer.store, session_id, wait=layer.overlap == "serialize")
        try:
            with opened.inside():
                return await self._take(request, session_id, turn_id, new, opened)
        finally:
            if not opened.lent:  # else the stream ends it
                opened.end()

    async def _take(
        self,
        request: Req,
        session_id: str,
        turn_id: str | None,
        new: Sequence[Any],
        opened: OpenTurn | None,
    ) -> Res:
        layer = self.layer
        history = await load_for(layer.bounds, layer.load, session_id)
        if turn_id is not None and (held := history.turn(turn_id)) is not None:
            raise TurnExists(session_id, turn_id=turn_id, items=held)
        if layer.overlap == "reject":
            check_revision(history.revision)
        if layer.whole_requests:
            new = unsaid(session_id, history, new)
            request = cast("WholeRequests", layer.dialect).newest(request, len(new))
        given: Sequence[Any] = history
        if layer.window is not None:
            given = await seen_through(layer.window, history, new)
        response = await self.inner(layer.dialect.with_history(request, given))
        call = _Call(request, session_id, turn_id, new, history.revision)
        if not is_stream(response):
            turn = self._turn(call, given, response)
            del history, given  # which may be long, and a save takes its time
            await layer.saving(turn, call.revision, response)
            return response
        save, keep = partial(self._save_streamed, call), layer.keep_interrupted
        reading = Reading(response, session_id, save, opened, keep_interrupted=keep)
        stream: Any = RememberedStream(reading)
        return cast("Res", stream)

    def _turn(self, call: _Call, given: Sequence[Any], response: object) -> Turn[Any]:
        """The turn that *response* completes, which may begin with what was *given*."""
        layer, dialect = self.layer, self.layer.dialect
        try:
            request = call.request
            if may_be_whole(response):
                request = dialect.with_history(request, given)  # anew: that one may be changed
            items = (*call.new, *dialect.reply_items(request, response))
        except Exception as error:
            raise not_saved(call.session_id, error, response, None) from error
        return Turn(
            call.session_id,
            items,
            expected_revision=call.revision if layer.overlap == "reject" else None,
            **({} if call.turn_id is None else {"turn_id": call.turn_id}),
        )

    async def _save_streamed(self, call: _Call, response: Streamed) -> None:
        turn = self._turn(call, (), response)  # no stream begins with what was given
        if not response.interrupted or len(turn.items) > len(call.new):  # else nothing came of it
            await self.layer.saving(turn, call.revision, response)

    def __repr__(self) -> str:
        return stack(self.layer, self.inner)


def _check_dialect(value: object) -> None:
    names = ("new_items", "with_history", "reply_items")
    if isinstance(value, type) or not all(callable(attribute(value, name)) for name in names):
        msg = f"dialect must have {', '.join(names)}, such as ChatCompletions(), got {value!r}"
        raise TypeError(msg)


def _check_service(name: str, value: object, example: str) -> None:
    if not callable(value) or isinstance(value, type):
        msg = f"{name} must be a service, such as {example}, got {value!r}"
        raise TypeError(msg)


def _check_function(name: str, value: object) -> None:
    if not callable(value) or iscoroutinefunction(value):
        msg = f"{name} must be a plain function of the request, got {value!r}"
        raise TypeError(msg)


def _check_whole(dialect: object, load: object) -> None:
    if not isinstance(dialect, WholeRequests):
        msg = f"whole_requests needs a dialect with a method newest, got {dialect!r}"
        raise TypeError(msg)
    if (limit := attribute(load, "limit")) is not None:
        msg = (
            "whole_requests are compared with the whole history, got a load with "
            f"limit={limit}; leave it out, and give the model less with window="
        )
        raise ValueError(msg)
