"""Compare stored items with the messages that a front end shows of them.

1. A front end may hide an item: a tool call, a tool result, reasoning, and every other item that
   has a type and no role; a message with a tool call, even if it also has text; a message of the
   assistant without visible content. It must show all other items, such as text of the user and
   answers. Otherwise a deleted answer would look like a hidden one.
2. In a message that it shows, a front end may leave out tool calls, tool results and thinking, also
   thinking in ``<think>`` tags at the start of the assistant's text (open-webui#22840). It may not
   leave out text, images or files. Each part that it shows must be a stored part. Thinking in tags
   is not compared, because front ends add such tags around reasoning. Times, usage and status are
   not compared. Texts are compared in their order, and other parts in theirs.
3. A front end may show consecutive messages of the assistant as one message with their joined
   text, because many show one message for each answer (pydantic-ai#6293). Hidden items may be
   between them, but no message of the user.
4. One spelling of an item may have fields that another spelling lacks, such as an id. The fields
   that both have must agree. Null counts as an absent field, except in ``content``, where it counts
   as empty text. Text may be one part or several, and the space around it may differ. A front end
   may show only the beginning of an interrupted reply. In a message that a front end shows, absent
   content counts as empty text, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from tower_memory._fields import MISSING, field, list_field
from tower_memory._items import INTERRUPTED_REPLY
from tower_memory._tool_links import GetLinks

_THINKING: Final = re.compile(r"(?:\s*<(think|thinking)>.*?</\1>)+\s*", re.DOTALL)
_UNCLOSED_THINKING: Final = re.compile(r"\s*<think(?:ing)?>")

_HIDEABLE_PARTS: Final = re.compile("tool|thinking|reasoning|retry-prompt")
"""Matches the types of parts that a front end may leave out, in all dialects of this package."""

_UNCOMPARED_FIELDS: Final = frozenset({"timestamp", "usage", "state", "status"})
"""Fields about a message that are no part of the conversation. A front end may fill them in."""

_VISIBLE_FIELDS: Final = ("refusal", "audio", "images")
"""Fields of a message of the assistant that a front end shows like its content."""

_USERS: Final = ("user", "request")
_ASSISTANTS: Final = ("assistant", "response")
_TOOLS: Final = ("tool", "function")


class _Message(NamedTuple):
    """The fields and parts of a message, grouped by the way in which they are compared.

    Attributes:
        author: Role of the message; with pydantic-ai, its kind.
        fields: Fields that agree by rule 4.
        texts: Text, in one part or several.
        others: Other parts that a front end must show, such as images.
        hideable: Tool calls, tool results and thinking.
    """

    author: str
    fields: dict[str, Any]
    texts: list[str]
    others: list[Any]
    hideable: list[Any]


def may_be_hidden(item: Any, links: GetLinks) -> bool:
    """Return True if a front end need not show *item* (rule 1)."""
    linked = links(item)
    if linked.starts_exchange:
        return False

    has_links = bool(linked.calls or linked.results)
    message = _read(item)
    if message is None:
        has_only_type = isinstance(field(item, "type"), str) and field(item, "role") is MISSING
        return has_only_type or has_links

    is_empty = not _has_content(item, message)
    if message.author in _USERS:  # it has tool results, and perhaps text beside them
        return is_empty
    is_call = has_links or bool(list_field(item, "tool_calls"))  # some calls have no ids
    return is_call or message.author in _TOOLS or (is_empty and message.author in _ASSISTANTS)


def text_after(shown: Any, stored: Any, rest: str = "") -> str | None:
    """Return the text of *shown* that follows the item *stored*, or None if the two differ.

    The result is empty if *shown* is the item *stored* as a front end may show it (rules 2 and 4).
    Otherwise *shown* begins with the text of *stored* (rule 3).

    Args:
        shown: Message that a front end shows.
        stored: Item of a session.
        rest: End of the text of *shown*, if items before *stored* have the text before it.
    """
    if not rest and shown == stored:  # most often
        return ""

    one, other = _read(shown), _read(stored)
    if one is None or other is None:
        return "" if not rest and same_message(shown, stored) else None
    if one.author != other.author:
        return None

    after = _without_text(rest or "".join(one.texts), one.author, other.texts)
    if rest or after:
        has_only_text = not (one.others or one.hideable or other.others)
        is_joined = one.author in _ASSISTANTS and has_only_text and any(map(str.strip, other.texts))
        return after if is_joined else None

    agree = same_message(one.fields, other.fields) and same_message(one.others, other.others)
    return after if agree and _are_among(one.hideable, other.hideable) else None


def same_message(one: Any, other: Any) -> bool:
    """Return True if *one* and *other* may be two spellings of the same item (rule 4)."""
    if one == other:  # most often, and much faster
        return True

    if isinstance(one, Mapping) and isinstance(other, Mapping):
        common = one.keys() & other.keys()
        pairs = ([_without_null_content(key, each[key]) for each in (one, other)] for key in common)
        return bool(common) and all(same_message(*pair) for pair in pairs)

    text, other_text = _text(one), _text(other)
    if text is not None and other_text is not None:
        return _same_text(text, other_text)
    if None in (one, other):  # null counts as absent, which agrees with everything
        return True

    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_message, one, other))
    return False


def _without_null_content(key: str, value: Any) -> Any:
    """Return an empty text for a content of None; otherwise return *value*."""
    return "" if value is None and key == "content" else value


def _text(content: Any) -> str | None:
    """Return the text of *content*, or None if it is neither text nor a list of text parts."""
    parts = content if isinstance(content, list) else [content]
    said = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    texts = [text for text in said if isinstance(text, str)]
    return "".join(texts) if len(texts) == len(parts) else None


def _same_text(text: str, other: str) -> bool:
    """Return True if the texts agree without the space around them.

    If a text is marked as interrupted, the longer text need only begin with the shorter one.
    """
    texts = [each.strip().removesuffix(INTERRUPTED_REPLY).strip() for each in (text, other)]
    shown = min(map(len, texts))
    was_interrupted = INTERRUPTED_REPLY in (text + other)
    return texts[0] == texts[1] or (was_interrupted and texts[0][:shown] == texts[1][:shown])


def _without_text(text: str, author: str, expected: list[str]) -> str | None:
    """Return *text* without the texts *expected* at its start, or None if it begins otherwise.

    If a text is marked as interrupted, the longer text need only begin with the shorter one, and
    the result is empty.
    """
    was_interrupted = any(INTERRUPTED_REPLY in each for each in (text, *expected))

    def visible(text: str) -> str:
        return _visible_text(text, author, was_interrupted=was_interrupted)

    for part in map(visible, expected):
        text = visible(text)
        if was_interrupted and part.startswith(text):
            return ""
        if not text.startswith(part):
            return None
        text = text[len(part) :]

    return "" if was_interrupted else visible(text)


def _visible_text(text: str, author: str, *, was_interrupted: bool) -> str:
    """Return *text* without space around it, the mark of an interrupted reply, and thinking.

    Only an interrupted reply may end inside thinking; other text may begin with the tag itself.
    """
    text = text.strip().removesuffix(INTERRUPTED_REPLY).rstrip()
    if author not in _ASSISTANTS:
        return text

    thinking = _THINKING.match(text)
    text = text[thinking.end() :] if thinking else text
    return "" if was_interrupted and _UNCLOSED_THINKING.match(text) else text


def _has_content(item: Any, message: _Message) -> bool:
    """Return True if *message*, which was read from *item*, has content that a front end shows."""
    text = "".join(message.texts)
    visible = _visible_text(text, message.author, was_interrupted=INTERRUPTED_REPLY in text)
    return bool(visible or message.others or any(map(item.get, _VISIBLE_FIELDS)))


def _are_among(shown: list[Any], stored: list[Any]) -> bool:
    """Return True if *stored* has each part of *shown*, in the same order."""
    remaining = iter(stored)
    return all(any(same_message(one, other) for other in remaining) for one in shown)


def _read(item: Any) -> _Message | None:
    """Return *item* as a message, or None if it has neither a role nor a kind."""
    author = item.get("role", item.get("kind")) if isinstance(item, Mapping) else None
    if not isinstance(author, str):
        return None

    name = "parts" if "parts" in item else "content"
    names = item.keys() - _UNCOMPARED_FIELDS - {name, "tool_calls"}
    fields = {each: item[each] for each in names}
    message = _Message(author, fields, [], [], list(list_field(item, "tool_calls")))

    for part in _parts(item.get(name)):
        text = part if isinstance(part, str) else field(part, "text")
        kind = field(part, "part_kind" if name == "parts" else "type")
        if isinstance(kind, str) and _HIDEABLE_PARTS.search(kind):
            message.hideable.append(part)
        elif isinstance(text, str):
            message.texts.append(text)
        else:
            message.others.append(part)
    return message


def _parts(content: Any) -> Iterator[Any]:
    """Yield the parts of *content*: strings for the texts of pydantic-ai, others as they are."""
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, Mapping) and part.get("part_kind") == "text":
            yield part.get("content")
        elif isinstance(part, Mapping):
            yield {key: part[key] for key in part.keys() - _UNCOMPARED_FIELDS}
        elif part is not None:
            yield part
