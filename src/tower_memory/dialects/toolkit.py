"""Building blocks for a dialect of your own. The dialects of this package are built from them.

A dialect has three methods and an optional fourth (see `tower_memory.dialects.Dialect` and
`tower_memory.dialects.LinkedDialect`). Most dialects build them from these functions:

1. ``new_items``: `request_messages` reads and checks the messages of a request. `partition` with
   `is_instruction` separates the instructions. `to_builtins` makes JSON values of all others.
2. ``with_history``: `repair` joins the history and the new messages to a conversation with valid
   tool calls. The provider's rules for this are a subclass of `ProviderRules`. `replace_messages`
   returns a copy of the request with the conversation. If the provider refuses some items as they
   are stored, call `apply_rules` with a table of rules before `repair`. If `is_valid` returns True,
   skip both.
3. ``reply_items``: `streamed_text` returns the text of a stream. `new_in_response` finds the new
   items in a response that carries the whole conversation.
4. ``links``, optional: `item_links` returns the tool calls and tool results of an item. Windows,
   repair and reconcile need them.

The modules of `tower_memory.dialects.GeminiContents` import only this module. They are a larger
example, with streams and a table of rules.

This dialect is for a made-up service. Its messages make tool calls in ``calls``, and a tool result
is a message that names its call in ``answers``:

>>> from collections.abc import Sequence
>>> from typing import Any
>>> from tower_memory.dialects import ItemLinks, Streamed
>>> from tower_memory.dialects import toolkit
>>>
>>> class AcmeRules(toolkit.ProviderRules):
...     def links(self, item: Any, /) -> ItemLinks:
...         if toolkit.is_plain(item):  # most items are, and this is faster
...             return toolkit.plain_links(item)
...         return toolkit.item_links(
...             [toolkit.field(call, "id") for call in toolkit.list_field(item, "calls")],
...             [item["answers"]] if "answers" in item else (),
...             starts_exchange=toolkit.field(item, "role") == "user",
...         )
...
...     def add_results(self, run: list[Any], calls: Sequence[toolkit.Call], /) -> list[Any]:
...         text = toolkit.INTERRUPTED
...         results = ({"role": "tool", "answers": call.id, "content": text} for call in calls)
...         return [*run, *results]
>>>
>>> class Acme:
...     def new_items(self, request: Any, /) -> list[Any]:
...         messages = toolkit.request_messages(request)
...         _, new = toolkit.partition(messages, toolkit.is_instruction)
...         return [toolkit.to_builtins(message) for message in new]
...
...     def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
...         messages = toolkit.request_messages(request)
...         instructions, new = toolkit.partition(messages, toolkit.is_instruction)
...         past = toolkit.check_roles(history, "history")
...         conversation = toolkit.repair(past, new, AcmeRules())
...         return toolkit.replace_messages(request, "messages", [*instructions, *conversation])
...
...     def reply_items(self, request: Any, response: Any, /) -> list[Any]:
...         if isinstance(response, Streamed):
...             text = toolkit.streamed_text(response)
...             return [{"role": "assistant", "content": text}] if text else []
...         messages = toolkit.check_chat_messages(
...             toolkit.field(response, "messages"), "response.messages"
...         )
...         items = [toolkit.to_builtins(message) for message in messages]
...         return list(toolkit.new_in_response(self.new_items(request), items, self.links))
...
...     def links(self, item: Any, /) -> ItemLinks:
...         return AcmeRules().links(item)

The history ends in a tool call without its result. Repair adds a result that says that the call was
interrupted:

>>> question = {"role": "user", "content": "Weather?"}
>>> call = {"role": "assistant", "calls": [{"id": "1", "tool": "weather"}]}
>>> again = {"role": "user", "content": "Hello?"}
>>> request = Acme().with_history({"messages": [again]}, [question, call])
>>> for message in request["messages"]:
...     print(message)
{'role': 'user', 'content': 'Weather?'}
{'role': 'assistant', 'calls': [{'id': '1', 'tool': 'weather'}]}
{'role': 'tool', 'answers': '1', 'content': '(interrupted: this call has no result)'}
{'role': 'user', 'content': 'Hello?'}
>>> Acme().reply_items({"messages": [again]}, {"messages": [again, {"role": "assistant"}]})
[{'role': 'assistant'}]
"""

from tower_memory._fields import MISSING, field, list_field
from tower_memory._items import INTERRUPTED_REPLY
from tower_memory._reconcile import new_in_response
from tower_memory._tool_links import (
    Call,
    ItemLinks,
    ToolName,
    id_or_name,
    is_plain,
    item_links,
    plain_links,
)
from tower_memory.dialects._builtins import to_builtins, to_class
from tower_memory.dialects._messages import (
    check_chat_messages,
    check_list,
    check_roles,
    describe_shape,
    is_instruction,
    messages_field,
    partition,
    partition_results,
    replace_messages,
    request_messages,
)
from tower_memory.dialects._protocol import Streamed
from tower_memory.dialects._provider_rules import (
    EMPTY_MESSAGE,
    UNNAMED_TOOL,
    Place,
    Rule,
    apply_rules,
    is_blank,
    is_json_object,
    mend_arguments,
    starting_with_user,
)
from tower_memory.dialects._repair import INTERRUPTED, ProviderRules, is_valid, repair
from tower_memory.dialects._text import is_json, join_text, mark_interrupted, streamed_text

__all__ = (
    "EMPTY_MESSAGE",
    "INTERRUPTED",
    "INTERRUPTED_REPLY",
    "MISSING",
    "UNNAMED_TOOL",
    "Call",
    "ItemLinks",
    "Place",
    "ProviderRules",
    "Rule",
    "Streamed",
    "ToolName",
    "apply_rules",
    "check_chat_messages",
    "check_list",
    "check_roles",
    "describe_shape",
    "field",
    "id_or_name",
    "is_blank",
    "is_instruction",
    "is_json",
    "is_json_object",
    "is_plain",
    "is_valid",
    "item_links",
    "join_text",
    "list_field",
    "mark_interrupted",
    "mend_arguments",
    "messages_field",
    "new_in_response",
    "partition",
    "partition_results",
    "plain_links",
    "repair",
    "replace_messages",
    "request_messages",
    "starting_with_user",
    "streamed_text",
    "to_builtins",
    "to_class",
)
