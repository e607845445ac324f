"""Rules about the owners and the leases of pending turns, for the capability `TurnJournal`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

from anyio import create_task_group

from tower_memory._errors import SessionConflict
from tower_memory._turn import Turn
from tower_memory.testing._case import METADATA, Case, Rule, expect, expect_error, expect_near
from tower_memory.testing._rules_journal import (
    LONG,
    described,
    journal_of,
    pending_by_id,
)

_SHORT = 1e-6
"""A lease in seconds that expires between two calls."""

_OWNERS = (None, "me", "\0")


async def begin_again(case: Case) -> None:
    """begin of a pending turn replaces its items, metadata and lease, but not its time."""
    for owner in _OWNERS:
        session, journal = case.new_session(), journal_of(case)
        revision = await case.store.append(Turn(session, case.items[:1], turn_id="old"))
        turn = Turn(session, case.items[:1], turn_id="t", metadata=METADATA)
        await journal.begin(turn, lease=LONG, owner=owner)
        (first,) = await journal.pending(session)
        await journal.begin(Turn(session, case.items[:1], turn_id="a"))
        await journal.fail(session, "t", owner=owner)

        again = Turn(
            *(session, case.items[1:]), turn_id="t", replaces="old", expected_revision=revision
        )
        before = datetime.now(UTC)
        await journal.begin(again, lease=2 * LONG, owner=owner)
        found = await pending_by_id(case, session)
        second, other = found["t"], found["a"]
        expect("the items", list(second.items), list(again.items))
        expect("the metadata", dict(second.metadata), {})
        expect("the turn to replace", second.replaces, "old")
        expect("the state", second.state, "running")
        expect("the time", second.created_at, first.created_at)
        expect_near("lease_until", second.lease_until, before + 2 * timedelta(seconds=LONG))
        expect("the items of the other turn", list(other.items), [case.items[0]])

        await journal.begin(turn, owner=owner)
        expect("the end of no lease", (await pending_by_id(case, session))["t"].lease_until, None)


async def other_owner(case: Case) -> None:
    """Another owner may begin a turn if it failed, its lease expired or it has none; not before."""
    journal, pairs = journal_of(case), list(zip(_OWNERS, (*_OWNERS[1:], None), strict=True))
    for owner, other in pairs:
        for lease in (_SHORT, None, LONG, inf):
            session = case.new_session()
            turn = Turn(session, case.items[:1], turn_id="t")
            taken = replace(turn, items=case.items[1:])
            await journal.begin(turn, lease=lease, owner=owner)

            if lease in (LONG, inf):
                before = await pending_by_id(case, session)
                refused = journal.begin(taken, lease=lease, owner=other)
                await expect_error(SessionConflict, refused, "begin by another owner")
                expect("the pending turn", await pending_by_id(case, session), before)
                await journal.fail(session, "t", owner=owner)
            state = {_SHORT: "left", None: "running"}.get(lease, "failed")
            expect("the state", (await journal.pending(session))[0].state, state)

            await journal.begin(taken, lease=LONG, owner=other)
            (pending,) = await journal.pending(session)
            found = (list(pending.items), pending.state)
            expect("the turn that was taken over", found, (list(taken.items), "running"))
            refused = journal.begin(turn, owner=owner)
            await expect_error(SessionConflict, refused, "begin by the first owner")


async def one_owner(case: Case) -> None:
    """If several owners begin a turn at the same time, exactly one succeeds."""
    journal = journal_of(case)
    for lease in (None, _SHORT):
        session = case.new_session()
        turn = Turn(session, case.items[:1], turn_id="t")
        if lease is not None:
            await journal.begin(turn, lease=lease, owner="left")
        won: list[str] = []

        async def begin(owner: str, turn: Turn[Any] = turn, won: list[str] = won) -> None:
            try:
                await journal.begin(
                    replace(turn, metadata={"owner": owner}), lease=LONG, owner=owner
                )
            except SessionConflict:
                return
            won.append(owner)

        async with create_task_group() as tasks:
            for n in range(10):
                tasks.start_soon(begin, str(n))

        expect("the number of owners that succeeded", len(won), 1)
        (pending,) = await journal.pending(session)
        expect("the turn", dict(pending.metadata), {"owner": won[0]})


async def fail_pending(case: Case) -> None:
    """fail sets the state of a pending turn of the same owner only, and writes nothing else."""
    session, journal = case.new_session(), journal_of(case)
    await journal.fail(session, "t")
    expect("the descriptions of no session", await described(case, session), [])

    for turn_id in ("t", "T"):
        await journal.begin(Turn(session, case.items, turn_id=turn_id), lease=_SHORT, owner="first")
    await journal.begin(Turn(session, case.items, turn_id="t"), lease=LONG, owner="me")
    before = await pending_by_id(case, session)
    for owner in (None, "first"):
        await journal.fail(session, "t", owner=owner)
        await journal.fail(session, "another", owner=owner)
    expect("the turns", await pending_by_id(case, session), before)

    await journal.fail(session, "t", owner="me")
    failed = replace(before["t"], state="failed")
    expect("the turns", await pending_by_id(case, session), {**before, "t": failed})


LEASE_RULES: tuple[Rule, ...] = (begin_again, other_owner, one_owner, fail_pending)
