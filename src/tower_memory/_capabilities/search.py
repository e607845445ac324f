"""`SessionSearch`: finding turns by the words of their messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, final, runtime_checkable

from tower_memory._capabilities.pages import Page


@final
@dataclass(frozen=True, slots=True)
class SearchHit:
    """A turn that contains the words of a search.

    Attributes:
        session_id: The turn's session.
        turn_id: The turn's id.
        created_at: Time at which the turn was stored, with the time zone UTC.
        excerpt: Part of the turn's text around the first word that was found, on one line. In the
            stores of this library, it has at most 160 characters.
    """

    session_id: str
    turn_id: str
    created_at: datetime
    excerpt: str


@runtime_checkable
class SessionSearch(Protocol):
    """A store that can search its sessions. Every store of this library can.

    >>> import anyio
    >>> from tower_memory import InMemorySessionStore, Turn
    >>> async def main() -> None:
    ...     store = InMemorySessionStore()
    ...     for text in ("Where is Rome?", "東京はどこですか"):
    ...         await store.append(Turn("chat-1", [{"role": "user", "content": text}]))
    ...     print([hit.excerpt for hit in await store.search("ROME where")])
    ...     print([hit.excerpt for hit in await store.search("東京")])
    >>> anyio.run(main)
    ['Where is Rome?']
    ['東京はどこですか']
    """

    async def search(
        self, text: str, *, prefix: str = "", limit: int = 20, after: str | None = None
    ) -> Page[SearchHit]:
        """Return a page of the turns that contain every word of *text*, the newest first.

        The text of a turn is the text of its messages, of every dialect, and of its tool results.
        Ids, keys, tool names, the arguments of tool calls and reasoning are not searched. A turn
        that cannot be decoded has no text.

        Words are compared without case, and without the differences that Unicode calls
        compatibility (NFKC). A word of the query must be a whole word of the turn; only the first
        255 characters of a word count. In Chinese, Japanese, Thai and other scripts without spaces,
        the words are all single characters and all pairs of neighbouring characters. Signs such as
        ``"``, ``*`` and ``-`` separate words and have no other meaning.

        Args:
            text: The words to find, in any order.
            prefix: Search only sessions whose ids start with this text, compared by code points.
            limit: Maximum number of hits of a page; at least 1.
            after: The cursor of the page, from the page before it; None for the first page.

        Raises:
            TypeError: A parameter has the wrong type.
            ValueError: *text* contains no word, *text* or *prefix* contains a lone surrogate,
                *limit* is below 1, or *after* is no cursor of the same search.
            SessionError: The store cannot be read.
        """
        ...
