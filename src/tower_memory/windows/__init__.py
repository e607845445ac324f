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

Windows for prompt caches
=========================

Providers cache the beginning of a request. A request that begins like the one before it costs less
money and time. But `LastTurns` starts one exchange later with each turn, and `TokenBudget` nearly
so; therefore no two of their requests begin alike. `Stepped` keeps the start of such a window for
several turns, and then moves it by a whole step. These are the starts before the fourth to the
tenth turn of a conversation, as numbers of items:

>>> from tower_memory import History
>>> from tower_memory.windows import Stepped
>>> talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}] * 9
>>> for window in (LastTurns(4), Stepped(LastTurns(4), by=4)):
...     print([window.start(History(talk[: 2 * turns])) for turns in range(3, 10)])
[0, 0, 2, 4, 6, 8, 10]
[0, 0, 4, 4, 8, 8, 12]

Between two steps, the window keeps half to all of the items of the inner window, if *by* is half of
these. A larger step repeats more of each request, and keeps fewer items after the step.

Windows of your own
===================

A window of your own may return anything that the dialect can read, such as a summary. It must keep
a tool call and its result together, or drop both; otherwise the layer raises `ValueError` before
the model is called. This window calls a model for each summary, and reads the whole history:

>>> from collections.abc import Sequence
>>> async def summarise(messages: Sequence[Any]) -> str:  # stands for the call of a model
...     return f"{len(messages)} messages about the weather"
>>> async def summarised(history: History[Any]) -> Sequence[Any]:
...     kept = await LastTurns(1)(history)
...     older = history[: len(history) - len(kept)]
...     if not older:
...         return kept
...     summary = await summarise(older)
...     return [{"role": "user", "content": f"Said before: {summary}"}, *kept]
>>> rain = [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "No."}]
>>> anyio.run(summarised, History(rain * 2))[0]
{'role': 'user', 'content': 'Said before: 2 messages about the weather'}
"""

from tower_memory._token_estimate import estimated_tokens
from tower_memory.windows._newest import LastItems, LastTurns, Shortest, TokenBudget
from tower_memory.windows._protocols import BoundedWindow, Window
from tower_memory.windows._stepped import Stepped

__all__ = (
    "BoundedWindow",
    "LastItems",
    "LastTurns",
    "Shortest",
    "Stepped",
    "TokenBudget",
    "Window",
    "estimated_tokens",
)
