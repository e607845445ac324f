"""Windows: the part of the history that a model gets.

A model need not get the whole conversation. A window selects the part of the history that the model
gets: ``MemoryLayer(..., window=LastTurns(20))``. A window is any service, and so an async callable,
from a `History` to a sequence of items. The stored items do not change.

The windows of this module

1. keep the newest items, as they are;
2. start where an exchange starts if they cut the history, so they separate no answer from its
   question and no tool result from its tool call;
3. keep the last exchange whole if one of its tool calls has no result, since the request may bring
   the result;
4. tell how many items they need, so the layer loads only these.

>>> from typing import Any
>>> import anyio
>>> from tower_memory import InMemorySessionStore, MemoryLayer
>>> from tower_memory.windows import LastTurns, Shortest, TokenBudget
>>> recent = Shortest(LastTurns(2), TokenBudget(8000))  # the shorter of the two
>>> memory = MemoryLayer.over(InMemorySessionStore(), session_id="user_123", window=recent)
>>> async def count(request: list[Any]) -> str:
...     return f"Messages received: {len(request)}"
>>> async def main() -> None:
...     for _ in range(4):
...         print(await memory(count)([{"role": "user", "content": "Hi"}]))
>>> anyio.run(main)
Messages received: 1
Messages received: 3
Messages received: 5
Messages received: 5

A window of your own may return anything that the dialect can read, such as a summary. It must keep
a tool call and its result together, or drop both; otherwise the layer raises `ValueError` before
the model is called. This window calls a model for each summary, and reads the whole history:

>>> from collections.abc import Sequence
>>> from tower_memory import History
>>> async def summarise(messages: Sequence[Any]) -> str:  # stands for the call of a model
...     return f"{len(messages)} messages about the weather"
>>> async def summarised(history: History[Any]) -> Sequence[Any]:
...     kept = await LastTurns(1)(history)
...     older = history[: len(history) - len(kept)]
...     if not older:
...         return kept
...     summary = await summarise(older)
...     return [{"role": "user", "content": f"Said before: {summary}"}, *kept]
>>> talk = [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "No."}]
>>> anyio.run(summarised, History(talk * 2))[0]
{'role': 'user', 'content': 'Said before: 2 messages about the weather'}
"""

from tower_memory._token_estimate import estimated_tokens
from tower_memory.windows._newest import LastItems, LastTurns, Shortest, TokenBudget
from tower_memory.windows._protocols import BoundedWindow, Window

__all__ = (
    "BoundedWindow",
    "LastItems",
    "LastTurns",
    "Shortest",
    "TokenBudget",
    "Window",
    "estimated_tokens",
)
