"""Pages of long lists, and the cursors that name the next page."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Annotated, Final, TypeAlias, TypeVar, final, overload

from msgspec import Meta, json

from tower_memory._arguments import check_int
from tower_memory._capabilities.erasure import check_prefix

Entry_co = TypeVar("Entry_co", covariant=True)

_Number: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_PLACE: Final = json.Decoder(tuple[str, tuple[_Number, ...]])


@final
class Page(Sequence[Entry_co]):
    """A page of a longer list, as a sequence that cannot be changed.

    >>> from tower_memory import Page
    >>> page = Page(["a", "b"])
    >>> page == ["a", "b"], page.next
    (True, None)

    Args:
        entries: The entries of the page.
        next: The cursor of the next page, for the parameter *after* of the call that returned this
            page; None if this is the last page. Also an attribute.
    """

    __slots__ = ("_entries", "next")

    def __init__(self, entries: Iterable[Entry_co] = (), *, next: str | None = None) -> None:  # noqa: A002 - its public name
        self._entries = tuple(entries)
        self.next = next

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry_co]:
        return iter(self._entries)

    @overload
    def __getitem__(self, index: int, /) -> Entry_co: ...
    @overload
    def __getitem__(self, index: slice, /) -> tuple[Entry_co, ...]: ...
    def __getitem__(self, index: int | slice, /) -> Entry_co | tuple[Entry_co, ...]:
        return self._entries[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, (str, bytes)):
            return NotImplemented
        return self._entries == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"Page({list(self._entries)!r}, next={self.next!r})"


def check_page(prefix: object, limit: object) -> None:
    """Refuse bad arguments of a method that returns pages, except for *after*.

    Raises:
        TypeError: *prefix* is no string, or *limit* is no integer.
        ValueError: *prefix* contains a lone surrogate, or *limit* is below 1.
    """
    check_prefix(prefix)
    check_int("limit", limit, least=1)


def to_cursor(query: Sequence[str], place: Sequence[int]) -> str:
    """Return a cursor, a text that a URL can hold.

    >>> from tower_memory.store_toolkit import from_cursor, to_cursor
    >>> from_cursor(to_cursor(("sessions", "user_"), (7,)), ("sessions", "user_"), length=1)
    (7,)

    Args:
        query: Texts that identify the list: the name of the method and its arguments, without
            *limit* and *after*. The cursor has only a hash of them.
        place: Signed 64-bit integers that name the last entry of the page, such as its sort key.
    """
    return urlsafe_b64encode(json.encode((_hash(query), tuple(place)))).decode().rstrip("=")


def from_cursor(cursor: object, query: Sequence[str], *, length: int) -> tuple[int, ...]:
    """Return the place that a cursor of *query* names: *length* integers (see `to_cursor`).

    Raises:
        TypeError: *cursor* is no text.
        ValueError: *cursor* is no cursor, or that of another query.
    """
    name = "after must be the cursor `next` of a page of the same query"
    if not isinstance(cursor, str):
        msg = f"{name}, got {type(cursor).__name__}"
        raise TypeError(msg)

    msg = f"{name}, got another text of {len(cursor)} characters"
    try:
        _, place = _PLACE.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError as error:
        raise ValueError(msg) from error
    if len(place) != length or to_cursor(query, place) != cursor:
        raise ValueError(msg)
    return place


def _hash(query: Sequence[str]) -> str:
    """Return a short hash of *query*, so that a cursor shows nothing of it."""
    return blake2b(json.encode(list(query)), digest_size=8).hexdigest()
