"""Test data of the rules, the case that a rule checks, and comparisons that raise."""

from __future__ import annotations

import reprlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from math import inf, nan
from secrets import token_hex
from typing import Any, TypeAlias, TypeVar, cast, final

from msgspec import convert, to_builtins

from tower_memory._history import History
from tower_memory._message_text import message_text
from tower_memory._store import SessionStore

Error = TypeVar("Error", bound=Exception)

ITEMS = (
    {"role": "user", "content": "one", "parts": [{"text": "a"}]},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
)
"""Three different items that every store of JSON values accepts."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 1.0, -0.0, 0.1 + 0.2, 1.7976931348623157e308, 5e-324),
    *(2**53 + 1, 2**63 - 1, -(2**63), "", " ", "null", "\u2028", "\ufeff", "\U0001f600"),
    *("\u00e9", "e\u0301", "\\\"'%?", [], {}, [[]], [{}], [None], {"": None}, {"a": None}),
    {"a.b": {"$ref": 1, "__class__": "x"}},
    {"type": "never heard of", "unknown": {"deep": [1, [2.5, ["three"]]]}},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "arguments": '{"a": 1.0}'}]},
    "long " * 20_000,
)
"""JSON values, among them values that a careless store changes."""

OPTIONAL_VALUES: tuple[Any, ...] = (
    *("\0", {"\0": "\0"}, "\x1f\x7f"),
    *(2**63, -(2**63) - 1, 2**64, 10**40),
)
"""JSON values that some databases cannot hold. A store may refuse them, but not change them."""

IDS = (
    *("a", "A", " ", "a ", "\0", "\n", "'", '"', "%", "_", "/", "..", ":", "\\", "null", "0", "-1"),
    *("\U0001f600", "\u00e9", "e\u0301", "\ufeff", "ab" * 16, "AB" * 16),
    *("long" * 200, "long" * 200 + "er"),
)
"""Valid ids, some of which are similar."""

ID_ENDS = (
    *("", "a", "A", "aa", "b", "%", "_", "\0", "a%", "a_"),
    *("a\ud7ff", "a\ud7ffz", "a\ue000", "a\uffff", "a\U00010000", "a\U0010ffff", "a\U0010ffff" * 2),
)
"""Ends of session ids: case, wildcards, and the code points at the edges of ranges."""

PREFIXES = ("", "a", "A", "%", "_", "\0", "a\ud7ff", "a\ue000", "a\uffff", "a\U0010ffff", "c")
"""Ends of prefixes that select some of the sessions whose ids end with `ID_ENDS`."""

BAD_IDS: tuple[Any, ...] = ("", "\ud800", None, 3)
"""Values that are not valid ids."""

BAD_LIMITS: tuple[Any, ...] = (-1, "1", 1.0, True)
"""Values that are not valid limits."""

BAD_PLACES: tuple[Any, ...] = (-1, 1.0, True, "", "\ud800", b"turn")
"""Values that are neither a turn id nor an offset."""

METADATA: dict[str, Any] = {"model": "any-1", "usage": {"input": [3, 4], "cost": 0.5}, "a": None}
"""Metadata that every store accepts."""

CLOCK_DIFFERENCE = timedelta(minutes=5)
"""Difference that the clocks of two computers may have."""

MAX_TRIES = 100
"""Maximum number of changes until a clock, which may be coarse, shows another time."""


def unencodable_values() -> Iterator[Any]:
    """Yield values that JSON cannot hold, or would change."""
    yield from (nan, inf, -inf, b"bytes", (1, 2), {1, 2}, {1: "a key"}, {None: 1}, object())
    yield from ("\ud800", {"\udfff": 1}, {"deep": [{"x": nan}]})
    cycle: list[Any] = []
    cycle.append(cycle)
    yield cycle


@final
@dataclass(frozen=True, slots=True)
class Case:
    """The input of a rule.

    Attributes:
        store: Store to check.
        items: Three different items.
        values: Items that the store must return unchanged.
    """

    store: SessionStore[Any]
    items: Sequence[Any]
    values: Sequence[Any]

    def new_session(self) -> str:
        """Return the id of a session that was never used."""
        return f"check-{token_hex(8)}"

    async def load(self, session: str) -> list[Any]:
        """Return all items of *session*."""
        return list(await self.store.load(session))

    def message(self, text: str) -> Any:
        """Return an item whose text is *text*; None if items like the first one have no text.

        The message is a mapping if the items are, and else like the first item.
        """
        first = self.items[0]
        if isinstance(first, dict):
            return {"role": "user", "content": text}
        try:
            values = {**to_builtins(first), "content": text}
            item = convert(values, type(first))
        except (TypeError, ValueError):
            return None
        return item if message_text(values) == text else None


Rule: TypeAlias = Callable[[Case], Awaitable[None]]
"""A function that raises if the store of a case breaks the rule in the function's docstring."""


def expect(subject: str, found: object, expected: object) -> None:
    """Raise `AssertionError` unless *found* equals *expected*; *subject* begins the message."""
    if found != expected:
        raise _difference(subject, found, expected)


def expect_identical(subject: str, found: object, expected: object) -> None:
    """Raise `AssertionError` unless *found* equals *expected* and all their types are the same.

    For example, 1 is neither 1.0 nor True, and 0.0 is not -0.0.
    """
    if not _is_identical(found, expected):
        raise _difference(subject, found, expected)


def expect_near(subject: str, found: datetime | None, expected: datetime) -> None:
    """Raise `AssertionError` unless *found* is about *expected*, in UTC."""
    offset = None if found is None else found.utcoffset()
    expect(f"the offset of {subject} from UTC", offset, timedelta(0))
    if abs(cast("datetime", found) - expected) > CLOCK_DIFFERENCE:
        msg = f"{subject}: expected about {expected}, found {found}"
        raise AssertionError(msg)


async def expect_error(kind: type[Error], call: Awaitable[object], subject: str) -> Error:
    """Return the error of type *kind* that *call* raises; raise AssertionError if there is none."""
    try:
        await call
    except kind as error:
        return error
    msg = f"{subject} raised no {kind.__name__}"
    raise AssertionError(msg)


async def expect_bad_argument(call: partial[Any]) -> None:
    """Raise `AssertionError` unless *call* raises a TypeError or a ValueError."""
    try:
        await call()
    except (TypeError, ValueError):
        return
    msg = f"{call.func.__name__}{call.args} {call.keywords} raised nothing"
    raise AssertionError(msg)


def similar_ids(case: Case) -> list[str]:
    """Return session ids that differ only slightly."""
    base = f"Session-{'long' * 50}-{case.new_session()}"
    return [base, base.lower(), base.upper(), f"{base}er", f"{base} ", f" {base}", f"{base}\0"]


def turns_of(history: History[Any]) -> list[tuple[str, int]]:
    """Return the id of each turn and the position of its first item."""
    return [(turn.turn_id, turn.position) for turn in history.turns]


def mutate(item: Any) -> None:
    """Change *item* and all mutable values in it."""
    if isinstance(item, dict):
        for value in item.values():
            mutate(value)
        item["changed"] = True
    elif isinstance(item, list):
        for value in item:
            mutate(value)
        item.append("changed")


def _is_identical(found: Any, expected: Any) -> bool:
    if type(found) is not type(expected):
        return False
    if isinstance(expected, dict):
        keys = expected.keys()
        return found.keys() == keys and all(_is_identical(found[k], expected[k]) for k in keys)
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(_is_identical, found, expected))
    if isinstance(expected, float):  # 0.0 equals -0.0, but their texts differ
        return repr(found) == repr(expected)
    return bool(found == expected)


def _difference(subject: str, found: object, expected: object) -> AssertionError:
    shown = f"expected {reprlib.repr(expected)}, found {reprlib.repr(found)}"
    return AssertionError(f"{subject}: {shown}")
