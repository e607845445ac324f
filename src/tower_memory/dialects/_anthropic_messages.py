"""The dialect of Anthropic's messages: messages of a user and an assistant, made of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, final

from tower_memory._fields import MISSING, field
from tower_memory._history import History, checked_length
from tower_memory._reconcile import new_in_response
from tower_memory._tool_links import ItemLinks
from tower_memory.dialects._anthropic_calls import with_paired_server_tools
from tower_memory.dialects._anthropic_rules import (
    NOTED_REASONS,
    RULES,
    AnthropicRules,
    from_user,
    is_paused,
    is_refused,
    without_old_thinking,
)
from tower_memory.dialects._anthropic_stream import assemble_message
from tower_memory.dialects._builtins import to_builtins
from tower_memory.dialects._messages import (
    OTHER_DIALECTS,
    check_chat_messages,
    check_list,
    check_roles,
    describe_shape,
    is_instruction,
    messages_field,
    replace_messages,
    request_messages,
)
from tower_memory.dialects._protocol import Streamed
from tower_memory.dialects._provider_rules import apply_rules, without_refused_exchanges
from tower_memory.dialects._repair import is_valid, repair
from tower_memory.dialects._text import streamed_text


@final
@dataclass(frozen=True, slots=True)
class AnthropicMessages:
    """The dialect of Anthropic's ``messages.create``, plain and streamed.

    - **Request**: a mapping or an object with ``messages``, or a list of messages. All other
      fields, such as ``system``, stay as they are.
    - **Response**: a message of the assistant, a string, or a mapping or an object with
      ``messages``, which are those of the reply alone or of the whole conversation. Only new
      messages are stored.
    - **Stream**: the events of a message, or strings.

    1. A reply is stored as it was said: its role and its content blocks, including thinking with
       its signatures and blocks of unknown types. The ``stop_reason`` is stored if it is
       ``refusal``, ``pause_turn``, ``max_tokens`` or ``model_context_window_exceeded``, and is not
       sent. A reply with neither content nor such a reason is not stored.
    2. ``cache_control`` belongs to one request and is not stored.
    3. System messages at the front of the request stay there and are not stored. A system message
       after other messages is part of the conversation.
    4. A history that was cut or interrupted is repaired. It starts with a message of the user. A
       tool result without its tool call is left out. A call without its result gets a result that
       says that the call was interrupted. These parts are left out, too: calls of the provider's
       own tools without their results, blank texts, thinking without a signature or at the end of a
       message, and an incomplete call that no result answers.
    5. Thinking is bound to all items before it. If the history is cut, the thinking of completed
       exchanges is left out, as the provider advises
       (https://platform.claude.com/docs/build-with-claude/preserved-thinking).
    6. A refused exchange is stored and not sent again, because the provider would go on refusing.
    7. The next request continues a paused reply (``pause_turn``). Send no new message, or the
       reply's content as the only message; this message is not stored again.
    8. A stream without ``message_stop``, or with an unknown kind of delta, is refused with
       `ValueError`. An interrupted stream stores its text and its complete blocks, and a text block
       that says that the reply is not complete.

    >>> from tower_memory.dialects import AnthropicMessages
    >>> claude = AnthropicMessages()
    >>> request = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    >>> response = {"role": "assistant", "content": [{"type": "text", "text": "Hello!"}], "id": "1"}
    >>> claude.new_items(request)
    [{'role': 'user', 'content': 'Hi'}]
    >>> claude.reply_items(request, response)
    [{'role': 'assistant', 'content': [{'type': 'text', 'text': 'Hello!'}]}]
    """

    def new_items(self, request: Any, /) -> list[Any]:
        """See `Dialect.new_items`."""
        return _items(_messages(request))

    def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
        """See `Dialect.with_history`."""
        # The session cache knows the length of the prefix that is already checked.
        known = checked_length(history, _is_valid) if isinstance(history, History) else 0
        instructions, new = _partition(_messages(request))
        if not (history and is_paused(history[-1])):  # only a paused reply needs no new message
            check_list(new, "request.messages")

        is_cut = isinstance(history, History) and history.is_cut
        conversation = [*history, *new]
        starts_with_user = not history or self.links(history[0]).starts_exchange
        if starts_with_user and not is_cut and _is_valid(conversation[known:]):
            return replace_messages(request, "messages", [*instructions, *conversation])

        stored = check_roles(history, "history")
        past = without_refused_exchanges(stored, new, self.links, is_refused)
        past = from_user(past, new)
        if is_cut:
            past = without_old_thinking(past, new)
        past = with_paired_server_tools(past, new)
        past = from_user(apply_rules(RULES, past, new, _RULES, now=0), new)
        conversation = repair(past, new, _RULES)
        return replace_messages(request, "messages", [*instructions, *conversation])

    def reply_items(self, request: Any, response: Any, /) -> list[Any]:
        """See `Dialect.reply_items`."""
        content: Any
        reason: Any = None
        if isinstance(response, Streamed):
            text = streamed_text(response)
            content, reason = assemble_message(response) if text is None else (text, None)
        elif isinstance(response, str):
            content = str(response)
        elif (messages := field(response, "messages")) is not MISSING:
            items = _items(check_chat_messages(messages, "response.messages"))
            return list(new_in_response(self.new_items(request), items, self.links))
        elif field(response, "role") == "assistant":
            content, reason = (
                to_builtins(field(response, "content")),
                field(response, "stop_reason"),
            )
        else:
            msg = (
                "response must be a message of the assistant, a string or have messages, "
                f"got {describe_shape(response)}; {OTHER_DIALECTS}"
            )
            raise TypeError(msg)

        if not isinstance(content, (list, str)):
            msg = f"response.content must be a list of blocks or text, got {type(content).__name__}"
            raise TypeError(msg)
        noted = {"stop_reason": reason} if reason in NOTED_REASONS else {}
        return [{"role": "assistant", "content": content, **noted}] if content or noted else []

    def links(self, item: Any, /) -> ItemLinks:
        """See `LinkedDialect.links`."""
        return _RULES.links(item)

    def newest(self, request: Any, count: int, /) -> Any:
        """See `WholeRequests.newest`."""
        instructions, conversation = _partition(request_messages(request))
        newest = conversation[len(conversation) - count :]
        return replace_messages(request, "messages", [*instructions, *newest])


_RULES: Final = AnthropicRules()


def _is_valid(messages: Sequence[Any]) -> bool:
    """Return True if *messages* can be sent as they are."""
    return is_valid(messages, _RULES)


def _messages(request: Any) -> Sequence[Any]:
    """Return the messages of *request*; none if the request only continues a paused reply."""
    messages = messages_field(request)
    return request_messages(request) if messages else check_list(messages, "request.messages", 0)


def _partition(messages: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return the instructions at the front of *messages*, and the rest."""
    instructions = list(takewhile(is_instruction, messages))
    return instructions, list(messages[len(instructions) :])


def _items(messages: Sequence[Any]) -> list[Any]:
    """Return *messages* as items, without the instructions at the front."""
    _, conversation = _partition(messages)
    return [_item(message) for message in conversation]


def _item(message: Any) -> dict[str, Any]:
    return {
        "role": field(message, "role"),
        "content": _without_cache_control(to_builtins(field(message, "content"))),
    }


def _without_cache_control(content: Any) -> Any:
    """Return *content* without the ``cache_control`` of its blocks and of blocks inside them."""
    if isinstance(content, list):
        return [_without_cache_control(block) for block in content]
    if not isinstance(content, dict):
        return content
    return {
        key: _without_cache_control(value) if key in ("content", "source") else value
        for key, value in content.items()
        if key != "cache_control"
    }
