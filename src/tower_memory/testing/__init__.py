"""Tests of stores and layers: a check of a store's promises, and a scripted service.

**Testing a store.** A store has four methods and keeps the promises that `SessionStore` states.
`check_session_store` checks these promises with 39 rules, makes a store for each rule, and returns
a report. A store that also has the methods of a capability is checked by more rules: 26 for
`SessionCatalog`, 12 for `SessionSearch`, 11 for `SessionErasure`, 12 for `TurnJournal` and 10 for
`SessionSummaries`. The report names the protocols. This store counts its saves, and passes every
call to another store that keeps the promises:

>>> from dataclasses import replace
>>> from typing import Any
>>> import anyio
>>> from tower_memory import InMemorySessionStore, Turn
>>> from tower_memory.testing import check_session_store
>>> class Counted:
...     def __init__(self) -> None:
...         self.inner, self.saves = InMemorySessionStore(), 0
...         self.load, self.pop, self.clear = self.inner.load, self.inner.pop, self.inner.clear
...
...     async def append(self, turn: Turn[Any]) -> int:
...         self.saves += 1
...         return await self.inner.append(turn)
>>> report = anyio.run(check_session_store, Counted)
>>> print(str(report).splitlines()[0])
39 of 39 rules held: SessionStore.

If the store breaks a rule, `StoreBroken` is raised with the report, which names each broken rule
and the error that shows why. In a test, awaiting the check is therefore enough:

>>> class Forgetful(Counted):  # forgets the revision at which the history was loaded
...     async def append(self, turn: Turn[Any]) -> int:
...         return await super().append(replace(turn, since=None))
>>> anyio.run(check_session_store, Forgetful)
Traceback (most recent call last):
    ...
tower_memory.testing._check.StoreBroken: 36 of 39 rules held: SessionStore.
  BROKEN  append checks for a held turn, then for a clear, a conflict and a turn to replace.
          SessionConflict: ...
...

Run the check on asyncio and on trio, if the store supports both. Pass three different items as
``items=`` if the store does not store JSON values. If a store must be opened and closed, pass a
function that returns an async context manager of it:
``check_session_store(lambda: SqliteSessionStore(path))``.

**Testing a layer.** A layer is a function from a service to a service. `ScriptedService` stands for
the inner service: it returns the given answers one after another, raises those that are errors, and
records the requests that reach it.

>>> from tower_memory import Service
>>> from tower_memory.testing import ScriptedService
>>> def polite(inner: Service[str, str]) -> Service[str, str]:
...     async def call(request: str) -> str:
...         return await inner(f"Please: {request}")
...
...     return call
>>> service = ScriptedService("an answer", ConnectionError("reset"))
>>> anyio.run(polite(service), "answer")
'an answer'
>>> service.requests
['Please: answer']
>>> anyio.run(polite(service), "answer again")
Traceback (most recent call last):
    ...
ConnectionError: reset
"""

from __future__ import annotations

from tower_memory.testing._check import StoreBroken, StoreReport, check_session_store
from tower_memory.testing._scripted import ScriptedService

__all__ = ["ScriptedService", "StoreBroken", "StoreReport", "check_session_store"]
