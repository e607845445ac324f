"""The links of an item of any dialect, for code that does not know the dialect of the item."""

from __future__ import annotations

from typing import Any, Final

from tower_memory._fields import MISSING, field
from tower_memory._items import RunItem
from tower_memory._tool_links import (
    GetLinks,
    ItemLinks,
    is_plain,
    item_links,
    plain_links,
)
from tower_memory.dialects._anthropic_messages import AnthropicMessages
from tower_memory.dialects._chat_completions import ChatCompletions
from tower_memory.dialects._gemini_contents import GeminiContents
from tower_memory.dialects._openai_responses import OpenAIResponses
from tower_memory.dialects._protocol import LinkedDialect
from tower_memory.dialects._pydantic_ai import PydanticAI

_DIALECTS: Final[tuple[GetLinks, ...]] = tuple(
    dialect.links
    for dialect in (
        ChatCompletions(),
        OpenAIResponses(),
        AnthropicMessages(),
        GeminiContents(),
        PydanticAI(),
    )
)


def known_links(item: Any) -> ItemLinks:
    """Return the links of *item*, which may be of any dialect of this package.

    No dialect finds links in an item of another dialect, so the function joins the links of all.
    An exchange starts with each item that no dialect knows.
    """
    if is_plain(item):
        return plain_links(item)

    all_links = [links(item) for links in _DIALECTS]
    return item_links(
        (call for links in all_links for call in links.calls),
        (result for links in all_links for result in links.results),
        starts_exchange=any(links.starts_exchange for links in all_links) or _is_unknown(item),
    )


def _is_unknown(item: Any) -> bool:
    """Return True if *item* is of no dialect of this package, and no run item."""
    return not isinstance(item, RunItem) and all(
        field(item, name) is MISSING for name in ("role", "kind", "type")
    )


def links_of(dialect: object) -> GetLinks:
    """Return the function that reads the links of the items of *dialect*."""
    return dialect.links if isinstance(dialect, LinkedDialect) else known_links
