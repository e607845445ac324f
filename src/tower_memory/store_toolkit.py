"""Building blocks for a store of your own. The stores of this package are built from them.

A store is a class with the four methods of `SessionStore` that keeps the promises stated there. A
store needs only public names:

- `check_load`, `check_session_id` and `check_erase` check the arguments of a store's methods.
- `ItemCodec` encodes items to JSON losslessly, and decodes them. `encode_metadata` and
  `decode_metadata` do the same for the metadata of a turn.
- `must_write` makes the checks of `SessionStore.append`, in order, on a `SessionState`.
- `turns_between` selects the turns of a history.
- For `SessionCatalog`: `check_page`, `check_annotate` and `check_fork` check arguments,
  `merge_metadata` merges the metadata of a session, and `to_cursor` and `from_cursor` make and read
  the cursors of pages.
- For `SessionErasure`: `must_erase` decides whether a session must be erased.
- For `SessionSearch`: `query_words` and `search_words` split texts into words, `turn_text` returns
  the text of a turn, and `excerpt` its part around a word.
- For `TurnJournal`: `check_begin`, `check_pending` and `check_owner` check arguments.
- For `SessionSummaries`: `check_load_summary` and `check_save_summary` check arguments.

This store keeps sessions in a dict. `check_session_store` checks that it keeps its promises:

>>> from collections import defaultdict
>>> from dataclasses import dataclass, field
>>> from datetime import UTC, datetime
>>> from itertools import count
>>> from typing import Any
>>> import anyio
>>> from anyio.lowlevel import checkpoint
>>> from tower_memory import History, ItemCodec, Turn, TurnInfo, TurnMissing
>>> from tower_memory.store_toolkit import (
...     SessionState, check_load, check_session_id, decode_metadata, encode_metadata, must_write,
...     turns_between,
... )
>>> from tower_memory.testing import check_session_store
>>> @dataclass
... class Chat:
...     revision: int = 0  # the number of the last change
...     cleared: int = 0  # the number of the last clear
...     replaced: int = 0  # the number of the last change that replaced turns
...     items: list[bytes] = field(default_factory=list[bytes])
...     turns: dict[str, TurnInfo] = field(default_factory=dict[str, TurnInfo])  # by id, in order
>>> class DictStore:
...     item_type = Any  # optional: the memory layer reads it (see SessionStore)
...
...     def __init__(self) -> None:
...         self._codec = ItemCodec[Any](Any)
...         self._chats: defaultdict[str, Chat] = defaultdict(Chat)
...         self._numbers = count(1)  # never used again
...
...     async def load(
...         self, session_id: str, *, limit: int | None = None, before: str | int | None = None
...     ) -> History[Any]:
...         check_load(session_id, limit, before)
...         await checkpoint()
...         chat = self._chats.get(session_id, Chat())
...         end = len(chat.items)
...         if isinstance(before, str):
...             if before not in chat.turns:
...                 raise TurnMissing(session_id, turn_id=before)
...             end = chat.turns[before].position
...         elif before is not None:
...             end = min(before, end)
...         start = 0 if limit is None else max(0, end - limit)
...         return History(
...             [self._codec.decode(item) for item in chat.items[start:end]],
...             session_id=session_id,
...             revision=chat.revision,
...             offset=start,
...             turns=turns_between([*chat.turns.values()], start, end, len(chat.items), before),
...         )
...
...     async def append(self, turn: Turn[Any]) -> int:
...         encoded = self._codec.encode(turn.items, turn.session_id)
...         metadata = encode_metadata(turn.metadata, turn.session_id)
...         await checkpoint()  # from here on nothing awaits, so the turn is whole or absent
...         chat = self._chats[turn.session_id]
...         state = SessionState(
...             revision=chat.revision,
...             first_number=0,  # no session is erased
...             cleared=chat.cleared,
...             replaced=chat.replaced,
...             holds_turn=turn.turn_id in chat.turns,
...             holds_replaced=turn.replaces in chat.turns,
...         )
...         if must_write(state, turn):
...             chat.revision = next(self._numbers)
...             if turn.replaces is not None:
...                 chat.replaced = chat.revision
...                 del chat.items[chat.turns[turn.replaces].position :]
...                 while turn.replaces in chat.turns:
...                     chat.turns.popitem()
...             now, place = datetime.now(UTC), len(chat.items)
...             info = TurnInfo(turn.turn_id, place, now, decode_metadata(metadata))
...             chat.turns[turn.turn_id] = info
...             chat.items += encoded
...         return chat.revision
...
...     async def pop(self, session_id: str) -> Any | None:
...         check_session_id(session_id)
...         await checkpoint()
...         chat = self._chats.get(session_id)
...         if chat is None or not chat.items:
...             return None
...         chat.revision = next(self._numbers)
...         item = self._codec.decode(chat.items.pop())
...         for turn in reversed([*chat.turns.values()]):
...             if turn.position >= len(chat.items):  # no item is left of it
...                 del chat.turns[turn.turn_id]
...             if turn.position <= len(chat.items):  # it had the popped item
...                 break
...         return item
...
...     async def clear(self, session_id: str) -> None:
...         check_session_id(session_id)
...         await checkpoint()
...         number = next(self._numbers)
...         self._chats[session_id] = Chat(revision=number, cleared=number)
>>> report = anyio.run(check_session_store, DictStore)
>>> print(str(report).splitlines()[0])
39 of 39 rules held: SessionStore.

If other programs can damage what a store keeps, `ItemCodec.decode` raises `ValueError`; raise
`CorruptSessionError` from it, before anything is removed.

**A store that wraps a store** inherits from `StoreWrapper`, which makes an object offer exactly the
capabilities of the wrapped store. The wrapper writes the methods of the capabilities that it passes
on, and no others: a store that encrypts its items can erase sessions, but cannot search them.

>>> from codecs import decode, encode
>>> from dataclasses import replace
>>> from tower_memory import Erasure, InMemorySessionStore, SessionErasure
>>> from tower_memory.store_toolkit import StoreWrapper
>>> class Encrypted(StoreWrapper[str]):  # rot13 stands for encryption
...     async def load(
...         self, session_id: str, *, limit: int | None = None, before: str | int | None = None
...     ) -> History[str]:
...         history = await self.store.load(session_id, limit=limit, before=before)
...         return History(
...             [decode(item, "rot13") for item in history],
...             session_id=history.session_id,
...             revision=history.revision,
...             offset=history.offset,
...             turns=history.turns,
...         )
...
...     async def append(self, turn: Turn[str]) -> int:
...         items = [encode(item, "rot13") for item in turn.items]
...         return await self.store.append(replace(turn, items=items))
...
...     async def pop(self, session_id: str) -> str | None:
...         item = await self.store.pop(session_id)
...         return None if item is None else decode(item, "rot13")
...
...     async def clear(self, session_id: str) -> None:
...         await self.store.clear(session_id)
...
...     async def erase(self, **selection: Any) -> Erasure:
...         return await self.store.erase(**selection)
...
...     async def scrub(self) -> None:
...         await self.store.scrub()
>>> async def main() -> None:
...     store = InMemorySessionStore(item_type=str)
...     await Encrypted(store).append(Turn("s", ["Hello"]))
...     print(list(await store.load("s")), list(await Encrypted(store).load("s")))
>>> anyio.run(main)
['Uryyb'] ['Hello']
>>> wrappers: list[object] = [Encrypted(InMemorySessionStore()), Encrypted(DictStore())]
>>> [isinstance(wrapper, SessionErasure) for wrapper in wrappers]  # as the wrapped stores
[True, False]
"""

from __future__ import annotations

from tower_memory._capabilities.catalog import (
    check_annotate,
    check_fork,
    merge_metadata,
)
from tower_memory._capabilities.erasure import check_erase, must_erase
from tower_memory._capabilities.journal import check_begin, check_owner, check_pending
from tower_memory._capabilities.pages import check_page, from_cursor, to_cursor
from tower_memory._capabilities.summaries import check_load_summary, check_save_summary
from tower_memory._codec import ItemCodec
from tower_memory._excerpts import excerpt
from tower_memory._message_text import turn_text
from tower_memory._metadata import decode_metadata, encode_metadata
from tower_memory._search_words import query_words, search_words
from tower_memory._store import check_load, check_session_id
from tower_memory._store_wrapper import FullStore, StoreWrapper
from tower_memory._stores.append_checks import NO_SESSION, SessionState, must_write
from tower_memory._stores.cached_session import turns_between

__all__ = (
    "NO_SESSION",
    "FullStore",
    "ItemCodec",
    "SessionState",
    "StoreWrapper",
    "check_annotate",
    "check_begin",
    "check_erase",
    "check_fork",
    "check_load",
    "check_load_summary",
    "check_owner",
    "check_page",
    "check_pending",
    "check_save_summary",
    "check_session_id",
    "decode_metadata",
    "encode_metadata",
    "excerpt",
    "from_cursor",
    "merge_metadata",
    "must_erase",
    "must_write",
    "query_words",
    "search_words",
    "to_cursor",
    "turn_text",
    "turns_between",
)
