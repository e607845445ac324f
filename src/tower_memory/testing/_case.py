"""What a rule is tried on, and what it expects."""

from __future__ import annotations

import reprlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, nan
from secrets import token_hex
from typing import Any, TypeAlias, final

from tower_memory._sessions import SessionStore

ITEMS = (
    {"role": "user", "content": "one", "parts": [{"text": "a"}]},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
)
"""Items that any store of JSON values keeps."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 1.0, -0.0, 0.1 + 0.2, 1.7976931348623157e308, 5e-324),
    *(2**53 + 1, 2**63 - 1, -(2**63), "", " ", "null", "\u2028", "\ufeff", "\U0001f600"),
    *("\u00e9", "e\u0301", "\\\"'%?", [], {}, [[]], [{}], [None], {"": None}, {"a": None}),
    {"a.b": {"$ref": 1, "__class__": "x"}},
    {"type": "never heard of", "unknown": {"deep": [1, [2.5, ["three"]]]}},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "arguments": '{"a": 1.0}'}]},
    "long " * 20_000,
)
"""What JSON can hold, and what a store may be tempted to change."""

EXOTIC: tuple[Any, ...] = ("\0", {"\0": "\0"}, "\x1f\x7f", 2**63, -(2**63) - 1, 2**64, 10**40)
"""What JSON can hold and some databases cannot: a store may refuse it."""

IDS = (
    *("a", "A", " ", "a ", "\0", "\n", "'", '"', "%", "_", "/", "..", ":", "\\", "null", "0", "-1"),
    *("\U0001f600", "\u00e9", "e\u0301", "\ufeff", "ab" * 16, "AB" * 16),
    *("long" * 200, "long" * 200 + "er"),
)
"""What may be an id, or a part of one; some alike."""

BAD_IDS: tuple[Any, ...] = ("", "\ud800", None, 3)
"""What is no id."""

BAD_LIMITS: tuple[Any, ...] = (-1, "1", 1.0, True)
"""What is no limit."""


def unencodable() -> Iterator[Any]:
    """What JSON cannot hold, or would give back changed."""
    yield from (nan, inf, -inf, b"bytes", (1, 2), {1, 2}, {1: "a key"}, {None: 1}, object())
    yield from ("\ud800", {"\udfff": 1}, {"deep": [{"x": nan}]})
    cycle: list[Any] = []
    cycle.append(cycle)
    yield cycle


@final
@dataclass(frozen=True, slots=True)
class Case:
    """What a rule is tried on: a store, three items, and values that it must give back."""

    store: SessionStore[Any]
    items: Sequence[Any]
    values: Sequence[Any]

    def session(self) -> str:
        """The id of a session that was never used."""
        return f"check-{token_hex(8)}"

    async def loaded(self, session: str, limit: int | None = None) -> list[Any]:
        """The items of *session*."""
        return list(await self.store.load(session, limit=limit))


Rule: TypeAlias = Callable[[Case], Awaitable[None]]


def expect(what: str, found: object, expected: object) -> None:
    """Raise unless *found* equals *expected*."""
    if found != expected:
        raise _differs(what, found, expected)


def expect_same(what: str, found: object, expected: object) -> None:
    """Raise unless *found* is *expected* to the last type: 1 is neither 1.0 nor True."""
    if not _same(found, expected):
        raise _differs(what, found, expected)


def spoil(item: Any) -> None:
    """Change *item*, and what is in it, where that can be changed."""
    if isinstance(item, dict):
        for value in item.values():
            spoil(value)
        item["spoilt"] = True
    elif isinstance(item, list):
        for value in item:
            spoil(value)
        item.append("spoilt")


def _same(found: Any, expected: Any) -> bool:
    if type(found) is not type(expected):
        return False
    if isinstance(expected, dict):
        parts = expected.keys()
        return found.keys() == parts and all(_same(found[key], expected[key]) for key in parts)
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(_same, found, expected))
    if isinstance(expected, float):  # of which 0.0 equals -0.0
        return repr(found) == repr(expected)
    return bool(found == expected)


def _differs(what: str, found: object, expected: object) -> AssertionError:
    return AssertionError(f"{what}: expected {reprlib.repr(expected)}, found {reprlib.repr(found)}")
