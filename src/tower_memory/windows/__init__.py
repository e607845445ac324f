"""Windows: the part of the history that a model gets.

A model need not get the whole conversation. A window selects the part of the history that the model
gets: ``MemoryLayer(..., window=LastTurns(20))``. A window is any service, and so an async callable,
from a `History` to a sequence of items. The stored items do not change.

The windows of this module

1. keep the newest items, as they are; `Summarised` adds a summary of the others;
2. start at the start of an exchange if they cut the history, so they separate no answer from its
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
money and time. But in a long conversation, the start of `LastTurns` moves with each turn, and that
of `TokenBudget` with most turns. So few of their requests begin like the one before. `Stepped`
keeps the start of such a window for several turns, and then moves it by a whole step. These are the
starts before the fourth to the tenth turn of a conversation, as numbers of items:

>>> from tower_memory import History
>>> from tower_memory.windows import Stepped
>>> talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}] * 9
>>> for window in (LastTurns(4), Stepped(LastTurns(4), by=4)):
...     print([window.start(History(talk[: 2 * turns])) for turns in range(3, 10)])
[0, 0, 2, 4, 6, 8, 10]
[0, 0, 4, 4, 8, 8, 12]

If *by* is half of the items that the inner window keeps, the stepped window keeps between half and
all of them. With a larger step, the start moves less often, and fewer items are kept after a step.

Summaries of long conversations
===============================

The model does not see what a window leaves out. `Summarised` shows a summary of it, in front of the
newest exchanges. You provide a service that calls a model for the summary:

>>> from collections.abc import Sequence
>>> from tower_memory.dialects import ChatCompletions
>>> from tower_memory.windows import Summarised
>>> async def summarise(items: Sequence[Any]) -> str:
...     question = {"role": "user", "content": "Summarise our conversation in 300 words."}
...     messages = ChatCompletions().with_history([question], items)
...     return f"{len(messages) - 1} messages about the weather"  # a model would read them
>>> store = InMemorySessionStore()
>>> summarising = Summarised(summarise, keep=LastTurns(2), store=store, every=2)
>>> long = MemoryLayer.over(store, session_id="user_123", window=summarising)
>>> async def show(request: list[Any]) -> str:
...     return f"{len(request)} messages: {request[0]['content'].splitlines()[-1]} ..."
>>> async def talk_long() -> None:
...     for number in range(1, 8):
...         print(await long(show)([{"role": "user", "content": f"Rain on day {number}?"}]))
>>> anyio.run(talk_long)
1 messages: Rain on day 1? ...
3 messages: Rain on day 1? ...
5 messages: Rain on day 1? ...
7 messages: Rain on day 1? ...
6 messages: 4 messages about the weather ...
8 messages: 4 messages about the weather ...
6 messages: 5 messages about the weather ...

The store keeps the summary beside the session, and the stored items stay as they are. The summary
is renewed when *every* exchanges lie between it and the newest ones. Until then these are shown as
they are, so the model misses nothing, and the requests share their prefix, which providers cache. A
renewal reads only the previous summary and the exchanges since (the last line: one summary and four
messages), so neither its cost nor its text grows with the session.

- The service gets stored items. ``with_history`` makes them a valid request, even if a call was
  interrupted. Put a `RetryLayer` or a `TimeoutLayer` around the service as around any other.
- If the service fails, the turn goes on without the new summary, and a warning is logged. The next
  turn calls the service again.
- A summary ends before a turn that starts with a message of the user. If a session has no such
  turns, its older exchanges are left out, as by any window, and a warning is logged.
- For Gemini, pass ``item=lambda text: {"role": "user", "parts": [{"text": text}]}``. For
  pydantic-ai: ``item=lambda text: {"kind": "request", "parts": [{"part_kind": "user-prompt",
  "content": text}]}``.
- Tenants who share a store have a window each, over their `ScopedStore`.
- The summary is removed if one of the turns that it covers is replaced or popped, or if the session
  is cleared or erased. The next turn that needs a summary makes a new one.

Windows of your own
===================

A window of your own may return anything that the dialect can read. It must keep a tool call and its
result together, or drop both; otherwise the layer raises `ValueError` before the model is called.
This window also keeps the first message, which may state the task. It reads the whole history,
because it does not tell how many items it needs:

>>> async def with_task(history: History[Any]) -> Sequence[Any]:
...     kept = await LastTurns(1)(history)
...     return kept if len(kept) == len(history) else [history[0], *kept]
>>> anyio.run(with_task, History([{"role": "user", "content": "Be my tutor."}, *talk]))[0]
{'role': 'user', 'content': 'Be my tutor.'}
"""

from tower_memory._token_estimate import estimated_tokens
from tower_memory.windows._newest import LastItems, LastTurns, Shortest, TokenBudget
from tower_memory.windows._protocols import BoundedWindow, Window
from tower_memory.windows._stepped import Stepped
from tower_memory.windows._summarised import Summarised

__all__ = (
    "BoundedWindow",
    "LastItems",
    "LastTurns",
    "Shortest",
    "Stepped",
    "Summarised",
    "TokenBudget",
    "Window",
    "estimated_tokens",
)
