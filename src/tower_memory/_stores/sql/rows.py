"""The turns of one session, read from their rows in slices.

1. Rows are read in slices of about a millisecond, each with one statement, and the reader pauses
   after each slice. No statement is open during a pause, so later statements see later commits.
2. While a turn is still there, all turns before it are as they were: every engine writes by this
   rule. After each slice, the reader therefore checks that the turn is still there that was the
   newest when the reading began.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, final
from uuid import UUID

from tower_memory._codec import ItemCodec, split_array
from tower_memory._errors import CorruptSessionError
from tower_memory._history import TurnInfo
from tower_memory._items import Item
from tower_memory._stores.cached_session import all_shareable, to_kept
from tower_memory._stores.clock import now
from tower_memory._stores.session_cache import LastTurn, Version

_SLICE: Final = 0.001
"""Seconds after which a slice ends with the row that is being read."""

Place: TypeAlias = tuple[int, int]
"""The position of a turn's first item, and the turn's number; places order a session's turns."""

AddRow: TypeAlias = Callable[[Sequence[Any]], bool]
"""Function that adds a row, and returns False if the slice should end with it."""


class Changed(Exception):
    """Raised when turns were changed while they were read; the reader begins anew."""


class Row(NamedTuple):
    """The row of a turn without its items. The types in the store may differ by engine.

    Attributes:
        id: Number of the row that errors show.
        first: Position of the turn's first item.
        number: Number of the turn.
        turn_id: Id of the turn, in its stored form.
        created_at: Time of the turn, in the unit of the store.
        metadata: JSON of the metadata; None for an empty mapping.
    """

    id: int
    first: int
    number: int
    turn_id: Any
    created_at: int
    metadata: bytes | None


class State(NamedTuple):
    """The state of a session when its load begins.

    Attributes:
        head_id: Id of its head.
        version: Its version.
        end: Number of its items.
        newest: Its newest turn; None without turns.
        has_known: True if the turn that the reader knew as the newest is still there.
    """

    head_id: int | UUID
    version: Version
    end: int
    newest: LastTurn | None
    has_known: bool


class SessionRows(Protocol):
    """The rows of one session, as an engine reads them through one connection."""

    def version(self) -> Version | None:
        """Return the version of the session; None if there is no session."""
        ...

    def state(self, known: LastTurn | None) -> State | None:
        """Return the state of the session; None if there is no session.

        *known* is the newest turn that the reader knows, for `State.has_known`.
        """
        ...

    def tombstone_number(self) -> int:
        """Return the number of the session's tombstone, or 0 if there is none."""
        ...

    def place_of_turn(self, state: State, turn_id: str) -> Place | None:
        """Return the place of a turn; None if the session does not hold it."""
        ...

    def place_before(self, state: State, position: int) -> Place:
        """Return the first place that is not before *position*.

        A turn without items at this position belongs to the item before it.
        """
        ...

    def place_of_item(self, state: State, position: int) -> Place:
        """Return the place of the turn that holds the item at *position*, which is above 0."""
        ...

    def read_slice(self, state: State, lower: Place, upper: Place, add: AddRow) -> bool:
        """Pass rows from place *lower* to before *upper* to *add*, in the order of their places.

        Each row has the values of `Row`, and then the items as a JSON array. Return True if all
        these rows were passed, and False if there are perhaps more. Once *add* returns False, an
        engine passes no more rows, or only rows that it has already fetched.
        """
        ...

    def is_there(self, state: State, turn: LastTurn) -> bool:
        """Return True if the session still has the turn, unchanged."""
        ...

    @staticmethod
    def info(row: Row) -> TurnInfo:
        """Return a turn as histories show it; its position counts from the session's start."""
        ...


@final
@dataclass(slots=True)
class Rows:
    """Consecutive turns that were read, oldest first.

    Attributes:
        info: See `SessionRows.info`.
        touches_cached: True if the cached turns follow directly.
        rows: The values of each `Row`, as a plain tuple, which is faster.
        arrays: The items of each as a JSON array.
        items: The decoded items of each.
        all_items: The same items, one after another.
    """

    info: Callable[[Row], TurnInfo]
    touches_cached: bool
    rows: list[Any] = field(default_factory=list)
    arrays: list[bytes] = field(default_factory=list)
    items: list[list[Any]] = field(default_factory=list)
    all_items: list[Any] = field(default_factory=list)

    @property
    def newest(self) -> LastTurn | None:
        """Newest of these turns; None without turns."""
        if not self.rows:
            return None
        row = Row(*self.rows[-1])
        return LastTurn(row.first, row.number, row.created_at)

    def turns(self) -> Generator[tuple[TurnInfo, Sequence[Any]]]:
        """Yield each turn, newest first, with its items as the cache keeps them."""
        for number in range(len(self.rows) - 1, -1, -1):
            items = self.items[number]
            is_shared = all_shareable(items)
            kept = items if is_shared else to_kept(items, split_array(self.arrays[number]))
            yield self.info(Row(*self.rows[number])), kept

    def items_between(self, start: int, end: int) -> list[Any]:
        """Return the items from position *start* to *end* of the session."""
        if not self.rows:
            return []

        first = Row(*self.rows[0]).first
        is_all = start == first and end - start == len(self.all_items)
        return self.all_items if is_all else self.all_items[start - first : end - first]


def after(turn: LastTurn | None) -> Place:
    """Return the first place after *turn*, or the first place of all if it is None."""
    return (0, 0) if turn is None else (turn.position, turn.number + 1)


@final
class SessionReader(Generic[Item]):
    """Reads the turns of one session.

    Args:
        stored: The rows of the session.
        session_id: The session.
        codec: Decodes its items.
    """

    def __init__(self, stored: SessionRows, session_id: str, codec: ItemCodec[Item]) -> None:
        self._stored = stored
        self._session_id = session_id
        self._codec = codec

    def read(self, rows: Rows, state: State, lower: Place, upper: Place) -> Generator[None]:
        """Add the turns from place *lower* to before *upper* to *rows*, in slices (rule 1).

        Raises:
            Changed: The newest turn of *state* is gone, so the turns before it may have changed.
            CorruptSessionError: A turn cannot be decoded.
        """
        is_complete = False
        while not is_complete:
            if rows.rows:
                yield
                lower = after(rows.newest)

            add = self._adder(rows, until=now() + _SLICE)
            is_complete = self._stored.read_slice(state, lower, upper, add)

            # The newest turn was there if it was read just now.
            was_read = rows.newest == state.newest
            if state.newest and not was_read and not self._stored.is_there(state, state.newest):
                raise Changed

    def _adder(self, rows: Rows, until: float) -> AddRow:
        """Return a function that adds a turn to *rows*, and returns True until the time *until*."""
        decode = self._codec.decode_array

        def add(row: Sequence[Any]) -> bool:
            array = row[-1]
            try:
                items = decode(array)
            except ValueError as error:
                reason = str(error)
                raise CorruptSessionError(self._session_id, row=row[0], reason=reason) from error

            rows.rows.append(row[:-1])
            rows.arrays.append(array)
            rows.items.append(items)
            rows.all_items += items
            return now() <= until

        return add
