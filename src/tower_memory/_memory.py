"""The layer that remembers.

The flow of one call: session and new items | lock, load, hydrate | inner | reply items, save.
Whatever can fail early is done early; from the inner service's answer to the end of its save
nothing is cancelled. The promises are on `MemoryLayer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from inspect import iscoroutinefunction
from math import inf
from typing import Any, Generic, Literal, TypeAlias, final, get_args

import anyio
from msgspec import json

from tower_memory._arguments import check_choice, check_seconds, check_text
from tower_memory._codec import ItemCodec, snapshot
from tower_memory._errors import SaveError, SessionConflict, TurnExists
from tower_memory._overlap import begin_turn
from tower_memory._service import Req, Res, Service, attribute, describe, inner_of, stack
from tower_memory._sessions import History, SessionStore, Turn, at_most
from tower_memory.dialects import ChatCompletions, Dialect
from tower_memory.windows import BoundedWindow, Window, check_window

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
        grace: Seconds that a save may run past the caller's deadline; None for the store's
            ``busy_timeout``.

    Attributes:
        store: What tells this layer's sessions from those of others: the store behind *save*, as
            far as it can be seen through layers, or else what is innermost in *save*.
        codec: That of the store's ``item_type``, or None where it has none.
        patience: The grace, in seconds.

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
    grace: float | None = None
    store: object = field(init=False, repr=False, compare=False)
    codec: ItemCodec[Any] | None = field(init=False, repr=False, compare=False)
    patience: float = field(init=False, repr=False, compare=False)

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
        if self.window is not None:
            _check_service("window", self.window, "LastTurns(20)")
        if self.grace is not None:
            check_seconds("grace", self.grace)
        store = _store_of(self.save)
        patience = attribute(store, "busy_timeout") if self.grace is None else self.grace
        object.__setattr__(self, "store", store)
        item_type = attribute(store, "item_type")
        object.__setattr__(self, "codec", None if item_type is None else ItemCodec(item_type))
        object.__setattr__(self, "patience", GRACE if patience is None else patience)

    def __call__(self, inner: Service[Req, Res], /) -> Memory[Req, Res]:
        return Memory(inner, self)

    def __repr__(self) -> str:
        who = describe(self.session_id) if callable(self.session_id) else repr(self.session_id)
        return f"MemoryLayer({self.store!r}, session_id={who}, overlap={self.overlap!r})"


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
        turn = Turn(session_id, new)
        if layer.turn_id is not None:
            turn = replace(turn, turn_id=layer.turn_id(request))
        if layer.overlap == "append":
            return await self._take(turn, request)
        opened = await begin_turn(layer.store, session_id, wait=layer.overlap == "serialize")
        try:
            return await self._take(turn, request)
        finally:
            opened.end()

    async def _take(self, turn: Turn[Any], request: Req) -> Res:
        layer = self.layer
        history = await self._load(turn.session_id)
        if layer.turn_id is not None and (held := history.turn(turn.turn_id)) is not None:
            raise TurnExists(turn.session_id, turn_id=turn.turn_id, items=held)
        if layer.overlap == "reject":
            turn = replace(turn, expected_revision=history.revision)
        given: Sequence[Any] = history
        if layer.window is not None:
            given = check_window(history, await layer.window(history), turn.items)
        hydrated = layer.dialect.with_history(request, given)
        response = await self.inner(hydrated)
        try:
            reply = tuple(layer.dialect.reply_items(request, response))
        except Exception as error:
            raise SaveError(
                turn.session_id, _reason(error), response=response, turn=None
            ) from error
        await self._save(replace(turn, items=(*turn.items, *reply)), history, response)
        return response

    async def _load(self, session_id: str) -> History[Any]:
        """The history, as far back as the window needs it."""
        window = self.layer.window
        bounded = window if isinstance(window, BoundedWindow) else None
        limit = bounded.needs(None) if bounded else None
        while True:
            with at_most(limit):
                history = await self.layer.load(session_id)
            if not isinstance(history, History):  # pyright: ignore[reportUnnecessaryIsInstance]
                msg = f"load must give a History, got {type(history).__name__}"
                raise TypeError(msg)
            if bounded is None or limit is None or len(history) < limit:
                return history
            limit = bounded.needs(history)
            if limit is not None and limit <= len(history):
                return history

    async def _save(self, turn: Turn[Any], history: History[Any], response: Res) -> None:
        try:
            with anyio.fail_after(_longest_save(self.layer.patience), shield=True):
                revision = await self.layer.save(turn)
                if self.layer.turn_id is None or not turn.items:
                    return
                held = await self._held(turn)
            # A turn of this id is held, now or until someone took it: ours, or the same
            # request's that was made at the same time?
            ours = revision != history.revision if held is None else _begins_with(turn.items, held)
        except SessionConflict as conflict:
            raise SessionConflict(
                turn.session_id,
                expected=conflict.expected,
                actual=conflict.actual,
                response=response,
                turn=turn,
            ) from conflict
        except Exception as error:
            raise SaveError(
                turn.session_id, _reason(error), response=response, turn=turn
            ) from error
        if not ours:
            raise TurnExists(turn.session_id, turn_id=turn.turn_id, items=held, response=response)

    async def _held(self, turn: Turn[Any]) -> Sequence[Any] | None:
        """The items that the session holds under the turn's id, or None where they are not seen."""
        store = self.layer.store
        if not isinstance(store, SessionStore):
            return (await self.layer.load(turn.session_id)).turn(turn.turn_id)
        for limit in (len(turn.items), None):  # most likely nobody was faster
            history: History[Any] = await store.load(turn.session_id, limit=limit)
            if (held := history.turn(turn.turn_id)) is not None:
                return held
        return None

    def __repr__(self) -> str:
        return stack(self.layer, self.inner)


def _begins_with(items: Sequence[Any], held: Sequence[Any]) -> bool:
    """Whether *held* is what is left of *items*, which others may have popped from."""
    begin, all_held = (json.decode(json.encode(each)) for each in (items[: len(held)], held))
    return bool(begin == all_held)


def _reason(error: Exception) -> str:
    """What *error* says, or its name where it says nothing, or fails to."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - the error itself is chained
        return type(error).__name__


def _longest_save(grace: float) -> float | None:
    """Seconds from now in which a save must end, or None where the caller has no deadline."""
    deadline = anyio.current_effective_deadline()
    return None if deadline == inf else max(0.0, deadline - anyio.current_time()) + grace


def _store_of(service: object) -> object:
    """The store behind *service*, through its layers and through stores that wrap another."""
    seen = {id(service)}
    while True:
        store = attribute(service, "store")
        inside = store if isinstance(store, SessionStore) else inner_of(service)
        if inside is None or id(inside) in seen:
            return service
        seen.add(id(inside))
        service = inside


def _check_service(name: str, value: object, example: str) -> None:
    if not callable(value):
        msg = f"{name} must be a service, such as {example}, got {value!r}"
        raise TypeError(msg)


def _check_function(name: str, value: object) -> None:
    if not callable(value) or iscoroutinefunction(value):
        msg = f"{name} must be a plain function of the request, got {value!r}"
        raise TypeError(msg)
