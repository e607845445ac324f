r"""Dialects: conversion of each provider's requests and responses to session items, and back.

A dialect has three pure methods. They convert between the items of a session and the requests and
responses of a service. The layer loads, calls and saves; the dialect only converts. Pass the
dialect of your service to `MemoryLayer`:

==========================================================  ===================================
your service                                                ``dialect=``
==========================================================  ===================================
calls OpenAI's chat completions, or any client or server    ``ChatCompletions()``, the default
with the same messages, such as vLLM, Ollama and litellm
is a function from messages to text                         ``ChatCompletions()``, the default
calls OpenAI's responses, or an agent that takes and        ``OpenAIResponses()``
returns their items
calls Anthropic's messages                                  ``AnthropicMessages()``
calls Gemini's ``generate_content`` or                      ``GeminiContents()``
``generate_content_stream`` with google-genai
calls pydantic-ai's ``direct.model_request`` or             ``PydanticAI()``
``direct.model_request_stream``
==========================================================  ===================================

A request carries only the new messages. The layer puts the history in front of them. In this
example, the tool result is the new message of the second request:

>>> from typing import Any
>>> from anyio import run
>>> from tower_memory import InMemorySessionStore, MemoryLayer
>>> from tower_memory.dialects import AnthropicMessages
>>>
>>> async def claude(request: dict[str, Any]) -> dict[str, Any]:
...     # In a program: return await client.messages.create(**request)
...     print("The model gets:", [message["role"] for message in request["messages"]])
...     if len(request["messages"]) > 1:
...         return {"role": "assistant", "content": [{"type": "text", "text": "Take a coat."}]}
...     call = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rome"}}
...     return {"role": "assistant", "content": [call]}
>>>
>>> async def ask_about_weather() -> None:
...     store = InMemorySessionStore[Any]()
...     memory = MemoryLayer.over(store, session_id="user_123", dialect=AnthropicMessages())
...     chat = memory(claude)
...     question = {"role": "user", "content": "Do I need a coat in Rome?"}
...     reply = await chat({"system": "Be brief.", "messages": [question]})
...
...     call_id = reply["content"][0]["id"]
...     result = {"type": "tool_result", "tool_use_id": call_id, "content": "5 degrees"}
...     request = {"system": "Be brief.", "messages": [{"role": "user", "content": [result]}]}
...     reply = await chat(request)
...     print(reply["content"][0]["text"])
>>>
>>> run(ask_about_weather)
The model gets: ['user']
The model gets: ['user', 'assistant', 'user']
Take a coat.

Rules of the built-in dialects
------------------------------

1. **A reply is stored as it was said, and sent as the provider accepts it.** The stored items have
   tool calls, reasoning with its signatures, and blocks and fields of unknown kinds, in their
   order. A provider may refuse its own reply in a later request: half a tool call, an empty
   message, expired audio. Therefore each dialect has a table of provider rules, which make the
   stored items sendable in each request. No dialect imports a client library; it reads the client's
   objects by their structure.
2. **A session has one dialect.** Messages of one client are not translated for another.
3. **Tool results are new messages of the next request**, in the provider's own form.
4. **Instructions are not stored.** System and developer messages go in front of the history, also
   from the middle of a request. With `AnthropicMessages`, a system message after other messages is
   part of the conversation. Anthropic's ``system=``, Gemini's ``system_instruction`` and OpenAI's
   ``instructions=`` do not change.
5. **A response may carry the whole conversation**, as the response of an agent loop does. Only its
   new items are stored. A request may repeat the last reply at its start, for example a tool call
   along with its result; the reply is not stored again.
6. **A session may end in a tool call without its result**, because the tool crashed or the run was
   interrupted. The model still gets a valid conversation: if the request does not bring the result,
   the call gets a result that says that the call was interrupted. If the call cannot have such a
   result, it is left out. The stored items do not change.
7. **OpenAI may store the history itself.** With ``previous_response_id`` or ``conversation``, the
   request gets no history from the store. Its new items and the reply are stored all the same.
8. **Claude's thinking is sent back unchanged while the history is whole.** Claude's newer models
   accept thinking only after the same items as before. If a window or a limit cuts the history, the
   thinking of completed exchanges is left out.

This is rule 6:

>>> from tower_memory.dialects import ChatCompletions
>>> function = {"name": "weather", "arguments": "{}"}
>>> calls = [{"id": "call_1", "type": "function", "function": function}]
>>> history = [
...     {"role": "user", "content": "Do I need a coat?"},
...     {"role": "assistant", "content": None, "tool_calls": calls},
... ]
>>> new = [{"role": "user", "content": "Are you there?"}]
>>> for message in ChatCompletions().with_history(new, history):
...     print(f"{message['role']}: {message['content']}")
user: Do I need a coat?
assistant: None
tool: (interrupted: this call has no result)
assistant: (interrupted: this reply is not complete)
user: Are you there?

Front ends that send the whole conversation
-------------------------------------------

Many chat front ends send the whole conversation with each request. By default, all its messages
count as new and are stored again. With ``whole_requests=True``, only the messages after the stored
items are new, and the model gets the stored history:

>>> from typing import Any
>>> from anyio import run
>>> from tower_memory import InMemorySessionStore, MemoryLayer, SessionConflict
>>>
>>> async def count(messages: list[Any]) -> str:
...     return f"I got {len(messages)} messages."
>>>
>>> async def serve_front_end() -> None:
...     store = InMemorySessionStore[Any]()
...     chat = MemoryLayer.over(store, session_id="user_123", whole_requests=True)(count)
...
...     shown: list[Any] = [{"role": "user", "content": "Hi"}]
...     shown.append({"role": "assistant", "content": await chat(shown)})
...     shown.append({"role": "user", "content": "And now?"})
...     print(await chat(shown))
...     print("Stored items:", len(await store.load("user_123")))
...
...     shown[0] = {"role": "user", "content": "Hi (edited)"}
...     try:
...         await chat(shown)
...     except SessionConflict:
...         print("The model was not called.")
>>>
>>> run(serve_front_end)
I got 3 messages.
Stored items: 4
The model was not called.

The conversation must begin with the stored items, otherwise `SessionConflict` is raised before the
model is called. The front end need not show tool calls, tool results, reasoning, text in
``<think>`` tags and empty replies. It may show one message for an answer of several messages. To
continue from an earlier point (edit, regenerate), call ``store.pop`` once for each later item, also
for items that the front end does not show, or use another session.

Usage and cost
--------------

`usage_of` returns the model and the token counts of a reply or a stream of every dialect, counted
in the same way for all providers (`Usage`). Store them with each turn: the layer calls the function
``metadata=`` before it saves the turn. The cost of a conversation then follows from its turns:

>>> from typing import Any
>>> from anyio import run
>>> from tower_memory import History, InMemorySessionStore, MemoryLayer
>>> from tower_memory.dialects import usage_of
>>>
>>> # Dollars for a million tokens of input, cached input and output. These prices are made up: take
>>> # those of your provider.
>>> PRICES = {"small": (0.50, 0.05, 2.00), "large": (5.00, 0.50, 20.00)}
>>>
>>> def cost(history: History[Any]) -> float:
...     total = 0.0
...     for turn in history.turns:
...         usage: Any = turn.metadata
...         if usage["input_tokens"] is None:
...             continue  # the provider has reported nothing
...         cached = usage["cached_input_tokens"] or 0
...         counts = (usage["input_tokens"] - cached, cached, usage["output_tokens"])
...         prices = PRICES[usage["model"]]
...         total += sum(price * count for price, count in zip(prices, counts, strict=True))
...     return total / 1_000_000
>>>
>>> async def complete_chat(request: dict[str, Any]) -> dict[str, Any]:
...     # In a program: return await client.chat.completions.create(**request)
...     message = {"role": "assistant", "content": "Hello!"}
...     usage: dict[str, Any] = {"prompt_tokens": 1200, "completion_tokens": 300}
...     usage["prompt_tokens_details"] = {"cached_tokens": 1000}
...     return {"model": request["model"], "choices": [{"message": message}], "usage": usage}
>>>
>>> async def chat_and_add_up() -> None:
...     store = InMemorySessionStore[Any]()
...     memory = MemoryLayer.over(
...         store, session_id="user_123", metadata=lambda request, response: usage_of(response)
...     )
...     chat = memory(complete_chat)
...     for model in ("small", "large"):
...         await chat({"model": model, "messages": [{"role": "user", "content": "Hi"}]})
...     history = await store.load("user_123")
...     print(dict(history.turns[-1].metadata))
...     print(f"{cost(history):.6f} dollars")
>>>
>>> run(chat_and_add_up)  # doctest: +NORMALIZE_WHITESPACE
{'model': 'large', 'input_tokens': 1200, 'output_tokens': 300, 'cached_input_tokens': 1000,
 'reasoning_tokens': None}
0.008250 dollars

This is no record for billing: the tokens of a replaced turn, and of a reply that was not saved, are
billed as well.

A dialect of your own
---------------------

A dialect is any object with the three methods of `Dialect`. An item may be any JSON value. Two more
methods are optional. ``whole_requests=True`` needs `newest` (`WholeRequests`). Windows, repair and
reconcile need `links` (`LinkedDialect`), which returns the tool calls and tool results of an item,
and whether an exchange starts with it. Without `links`, items are read as items of this package's
dialects. This dialect is for a service that turns a prompt into a text. Each line of a prompt is an
item:

>>> from collections.abc import Sequence
>>> from typing import Any
>>> from anyio import run
>>> from tower_memory import InMemorySessionStore, MemoryLayer
>>> from tower_memory.dialects import ItemLinks
>>> from tower_memory.windows import LastTurns
>>>
>>> class Prompts:
...     def new_items(self, request: str, /) -> list[Any]:
...         return [{"line": line} for line in request.splitlines()]
...
...     def with_history(self, request: str, history: Sequence[Any], /) -> str:
...         return "\n".join([*(item["line"] for item in history), request])
...
...     def reply_items(self, request: str, response: str, /) -> list[Any]:
...         return [{"line": f"Model: {response}"}]
...
...     def newest(self, request: str, count: int, /) -> str:  # optional
...         return "\n".join(request.splitlines()[-count:])
...
...     def links(self, item: Any, /) -> ItemLinks:  # optional
...         return ItemLinks(starts_exchange=item["line"].startswith("User: "))
>>>
>>> async def complete(prompt: str) -> str:
...     return f"That makes {len(prompt.splitlines())}."
>>>
>>> async def prompt_with_memory() -> None:
...     store, prompts = InMemorySessionStore[Any](), Prompts()
...     memory = MemoryLayer.over(
...         store, session_id="user_123", dialect=prompts, window=LastTurns(1)
...     )
...     for prompt in ("User: One line.", "User: Another.", "User: A third."):
...         print(await memory(complete)(prompt))
...
...     whole = MemoryLayer.over(
...         store, session_id="user_456", dialect=prompts, whole_requests=True
...     )
...     await whole(complete)("User: Hi")
...     await whole(complete)("User: Hi\nModel: That makes 1.\nUser: And now?")
...     print([item["line"] for item in await store.load("user_456")])
>>>
>>> run(prompt_with_memory)
That makes 1.
That makes 3.
That makes 3.
['User: Hi', 'Model: That makes 1.', 'User: And now?', 'Model: That makes 3.']

The module `tower_memory.dialects.toolkit` has building blocks for tool calls, provider rules,
objects of client libraries and streams. `GeminiContents` is written with these alone, so its
modules are a larger example.
"""

from tower_memory._tool_links import ItemLinks
from tower_memory.dialects._anthropic_messages import AnthropicMessages
from tower_memory.dialects._chat_completions import ChatCompletions
from tower_memory.dialects._gemini_contents import GeminiContents
from tower_memory.dialects._openai_responses import OpenAIResponses
from tower_memory.dialects._protocol import Dialect, LinkedDialect, Streamed, WholeRequests
from tower_memory.dialects._pydantic_ai import PydanticAI
from tower_memory.dialects._usage import Usage, usage_of

__all__ = (
    "AnthropicMessages",
    "ChatCompletions",
    "Dialect",
    "GeminiContents",
    "ItemLinks",
    "LinkedDialect",
    "OpenAIResponses",
    "PydanticAI",
    "Streamed",
    "Usage",
    "WholeRequests",
    "usage_of",
)
