"""A turn: the items that are saved together, under one id."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Generic, final

from tower_memory._arguments import check_int, check_text, shown
from tower_memory._items import Item

_IDS_AT_ONCE = 64

_random_ids: list[str] = []
"""Unused turn ids, made in batches because each call of the system's random source is slow."""

os.register_at_fork(after_in_child=_random_ids.clear)  # a child must not reuse its parent's ids


def _new_turn_id() -> str:
    """Return a new random turn id: 16 bytes in hexadecimal."""
    try:
        return _random_ids.pop()
    except IndexError:
        random = os.urandom(_IDS_AT_ONCE * 16).hex()
        ids = [random[start : start + 32] for start in range(0, len(random), 32)]
        turn_id = ids.pop()
        _random_ids.extend(ids)
        return turn_id


@final
@dataclass(frozen=True, slots=True)
class Turn(Generic[Item]):
    """Items to add to a session. A store saves all of them or none.

    >>> from tower_memory import Turn
    >>> Turn("user_123", [{"role": "user", "content": "Hi"}], turn_id="request-1").turn_id
    'request-1'

    Attributes:
        session_id: The session; a non-empty string of valid Unicode.
        items: The items, oldest first, stored as a tuple; it may be empty.
        expected_revision: The revision that the session must have, a 64-bit integer; None
            accepts any revision.
        turn_id: The idempotency key: it distinguishes this turn from all others of its session.
            A non-empty string of valid Unicode. The default is 16 random bytes in hexadecimal, made
            when the turn is made.
        since: The revision at which the turn's history was loaded, a 64-bit integer. The turn is
            refused if the session was cleared or erased, or turns of it were replaced, after this
            revision. None skips these checks.
        replaces: The id of a turn of the session. The new turn takes the place of that turn and of
            all later turns, in one commit. It needs *expected_revision*. A turn with *replaces*
            and no items removes the old turns. None adds the turn at the end.
        metadata: A mapping that JSON can hold, stored with the turn, such as the model and its
            usage. None stores an empty mapping.

    Raises:
        TypeError: An attribute has the wrong type.
        ValueError: An id is empty or contains a lone surrogate, a revision is no 64-bit integer,
            or *replaces* is given without *expected_revision* or names the turn itself.
    """

    session_id: str
    items: Sequence[Item]
    _: KW_ONLY
    expected_revision: int | None = None
    turn_id: str = field(default_factory=_new_turn_id)
    since: int | None = None
    replaces: str | None = None
    metadata: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_text("session_id", self.session_id)
        check_text("turn_id", self.turn_id)

        if self.expected_revision is not None:
            check_revision("expected_revision", self.expected_revision)
        if self.since is not None:
            check_revision("since", self.since)
        if self.replaces is not None:
            self._check_replaces(self.replaces)

        if self.metadata is not None:
            check_metadata(self.metadata)
        check_items(self.items)
        object.__setattr__(self, "items", tuple(self.items))

    def _check_replaces(self, replaces: str) -> None:
        check_text("replaces", replaces)
        if replaces == self.turn_id:
            msg = f"replaces must name another turn, got the turn's own id {replaces!r}"
            raise ValueError(msg)
        if self.expected_revision is None:
            msg = f"replaces={replaces!r} needs expected_revision, so that no newer turn is removed"
            raise ValueError(msg)


def check_turn(value: object) -> None:
    """Refuse a value that is no turn, such as the mapping of one.

    Raises:
        TypeError: *value* is no `Turn`.
    """
    if not isinstance(value, Turn):
        msg = f"turn must be a Turn, got {shown(value)}"
        raise TypeError(msg)


def check_items(value: object, name: str = "items") -> None:
    """Refuse a value that is no iterable of items, such as a single mapping or a string.

    *name* is the name of its parameter, for the error.
    """
    if isinstance(value, (list, tuple)):  # the usual types, checked much faster
        return
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping, set, frozenset)):
        msg = f"{name} must be a sequence of items, got {type(value).__name__}"
        raise TypeError(msg)


def check_metadata(value: object) -> None:
    """Refuse a value that is no mapping, such as a JSON text."""
    if not isinstance(value, Mapping):
        msg = f"metadata must be a mapping that JSON can hold, got {shown(value)}"
        raise TypeError(msg)


def check_revision(name: str, value: int) -> None:
    """Refuse a number that cannot be a session's revision; *name* is its parameter."""
    check_int(name, value, least=-(2**63))
    if value >= 2**63:
        msg = f"{name} must be below 2**63, got {value}"
        raise ValueError(msg)
