"""Building blocks for a store of your own. The stores of this package are built from them.

A store is a class with the four methods of `SessionStore` that keeps the promises stated there. A
store needs only public names:

- `check_load` and `check_session_id` check the arguments of a store's methods.
- `ItemCodec` encodes items to JSON losslessly, and decodes them.

This store keeps sessions in a dict. `check_session_store` checks that it keeps its promises:

>>> from collections import defaultdict
>>> from itertools import count
>>> from typing import Any, NamedTuple
>>> import anyio
>>> from anyio.lowlevel import checkpoint
>>> from tower_memory import CorruptSessionError, History, SessionConflict, Turn, TurnInfo
>>> from tower_memory.store_toolkit import ItemCodec, check_load, check_session_id
>>> from tower_memory.testing import check_session_store
>>> class Row(NamedTuple):
...     number: int  # ascending and never reused, so the newest row's number is the revision
...     turn_id: str | None  # on the first row of a turn
...     item: bytes
>>> class DictStore:
...     item_type = Any  # optional: the memory layer reads it (see SessionStore)
...
...     def __init__(self) -> None:
...         self._codec = ItemCodec[Any](Any)
...         self._sessions: defaultdict[str, list[Row]] = defaultdict(list)
...         self._numbers = count(1)
...
...     async def load(self, session_id: str, *, limit: int | None = None) -> History[Any]:
...         check_load(session_id, limit)
...         await checkpoint()
...         rows = self._sessions.get(session_id, [])
...         start = 0 if limit is None else max(0, len(rows) - limit)
...         return History(
...             [self._decode(session_id, row) for row in rows[start:]],
...             revision=rows[-1].number if rows else 0,
...             turns=[
...                 TurnInfo(row.turn_id, position)
...                 for position, row in enumerate(rows[start:])
...                 if row.turn_id is not None
...             ],
...             is_cut=start > 0,
...         )
...
...     async def append(self, turn: Turn[Any]) -> int:
...         encoded = self._codec.encode(turn.items, turn.session_id)
...         await checkpoint()  # from here on nothing awaits, so the turn is whole or absent
...         rows = self._sessions[turn.session_id]
...         revision = rows[-1].number if rows else 0
...         if any(row.turn_id == turn.turn_id for row in rows):
...             return revision
...         expected = turn.expected_revision
...         if expected not in (None, revision):
...             raise SessionConflict(turn.session_id, expected=expected, actual=revision)
...         for position, item in enumerate(encoded):
...             turn_id = turn.turn_id if position == 0 else None
...             rows.append(Row(next(self._numbers), turn_id, item))
...         return rows[-1].number if rows else 0
...
...     async def pop(self, session_id: str) -> Any | None:
...         check_session_id(session_id)
...         await checkpoint()
...         rows = self._sessions.get(session_id)
...         if not rows:
...             return None
...         item = self._decode(session_id, rows[-1])  # raises before the row is removed
...         rows.pop()
...         return item
...
...     async def clear(self, session_id: str) -> None:
...         check_session_id(session_id)
...         await checkpoint()
...         self._sessions.pop(session_id, None)
...
...     def _decode(self, session_id: str, row: Row) -> Any:
...         try:
...             return self._codec.decode(row.item)
...         except ValueError as error:
...             raise CorruptSessionError(session_id, row=row.number, reason=str(error)) from error
>>> report = anyio.run(check_session_store, DictStore)
>>> print(str(report).splitlines()[0])
24 of 24 rules held.
"""

from __future__ import annotations

from tower_memory._codec import ItemCodec
from tower_memory._store import check_load, check_session_id

__all__ = ("ItemCodec", "check_load", "check_session_id")
