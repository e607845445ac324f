"""Rules about the metadata and the times of turns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tower_memory._errors import UnencodableItemError
from tower_memory._turn import Turn
from tower_memory.testing._case import (
    CLOCK_DIFFERENCE,
    METADATA,
    OPTIONAL_VALUES,
    VALUES,
    Case,
    Rule,
    expect,
    expect_identical,
    unencodable_values,
)


async def metadata_returned(case: Case) -> None:
    """A turn's metadata comes back in value and in type, and is empty if the turn has none."""
    session = case.new_session()
    given = [METADATA, None, {}, {"values": list(VALUES)}, {"": None, "a.b": {"$ref": 1}}]
    turns = [Turn(session, case.items[:1], metadata=metadata) for metadata in given]
    for turn in turns:
        await case.store.append(turn)

    history = await case.store.load(session)
    expect("the number of turns", len(history.turns), len(turns))
    for metadata, listed in zip(given, history.turns, strict=True):
        expect_identical("the metadata", dict(listed.metadata), metadata or {})

    (last,) = (await case.store.load(session, limit=1)).turns
    expect_identical("the metadata with a limit", dict(last.metadata), given[-1])


async def metadata_refused(case: Case) -> None:
    """Metadata that cannot be stored unchanged is refused with its turn."""
    for bad in (*OPTIONAL_VALUES, *unencodable_values()):
        session = case.new_session()
        metadata = {"model": "any", "bad": bad}
        stored = [metadata]
        try:
            await case.store.append(Turn(session, case.items[:1], metadata=metadata))
        except UnencodableItemError:
            stored = []

        history = await case.store.load(session)
        found = [dict(each.metadata) for each in history.turns]
        expect_identical(f"the metadata of a turn given {bad!r}", found, stored)
        expect("the number of items", len(history), len(stored))


async def times(case: Case) -> None:
    """The time of a turn is the time of its append, in UTC, and never changes."""
    session = case.new_session()
    earliest = datetime.now(UTC) - CLOCK_DIFFERENCE
    await case.store.append(Turn(session, case.items[:1]))
    latest = datetime.now(UTC) + CLOCK_DIFFERENCE

    (turn,) = (await case.store.load(session)).turns
    expect("the offset of the time from UTC", turn.created_at.utcoffset(), timedelta(0))
    if not earliest <= turn.created_at <= latest:
        msg = f"the time: expected {earliest} to {latest}, found {turn.created_at}"
        raise AssertionError(msg)

    await case.store.append(Turn(session, case.items[:1]))
    same = (await case.store.load(session)).turns[0]
    expect("the time after later changes", same.created_at, turn.created_at)


METADATA_RULES: tuple[Rule, ...] = (metadata_returned, metadata_refused, times)
