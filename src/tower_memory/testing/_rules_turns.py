"""Rules about turns: saved once, refused if outdated, replaced as a whole."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from tower_memory._errors import SessionCleared, SessionConflict, TurnMissing
from tower_memory._turn import Turn
from tower_memory.testing._case import Case, Rule, expect, expect_error, turns_of


async def turn_saved_once(case: Case) -> None:
    """A turn that is held is not saved again, and append returns the current revision."""
    session = case.new_session()
    turns = [Turn(session, case.items) for _ in range(20)]
    for turn in turns:
        await case.store.append(turn)

    current = (await case.store.load(session)).revision
    for turn in turns:
        expect("the revision returned for a held turn", await case.store.append(turn), current)
    expect("the session", await case.load(session), list(case.items) * len(turns))


async def outdated_revision(case: Case) -> None:
    """An outdated revision raises SessionConflict with both revisions, and writes nothing."""
    session = case.new_session()
    seen = await case.store.append(Turn(session, case.items[:1]))
    actual = await case.store.append(Turn(session, case.items[1:2]))

    for outdated in (0, seen, -1, 2**63 - 1):
        for items in (case.items[2:], []):
            try:
                await case.store.append(Turn(session, items, expected_revision=outdated))
            except SessionConflict as error:
                found = (error.expected, error.actual)
                expect("the revisions of the error", found, (outdated, actual))
                expect("the session of the error", error.session_id, session)
            else:
                msg = f"expected_revision={outdated} at revision {actual} raised nothing"
                raise AssertionError(msg)
    expect("the number of items", len(await case.load(session)), 2)

    late = Turn(session, case.items[2:], expected_revision=seen)
    with suppress(SessionConflict):
        await case.store.append(late)
    await case.store.append(replace(late, expected_revision=actual))
    expect("the number of items after a repetition", len(await case.load(session)), 3)


async def turn_without_items(case: Case) -> None:
    """A turn without items writes nothing, and append returns the current revision."""
    session = case.new_session()
    expect("the revision for no items", await case.store.append(Turn(session, [])), 0)
    revision = await case.store.append(Turn(session, case.items[:1]))
    expect("the revision for no items", await case.store.append(Turn(session, [])), revision)
    history = await case.store.load(session)
    expect("the numbers of items and turns", (len(history), len(history.turns)), (1, 1))

    empty: Turn[Any] = Turn(session, [])
    await case.store.append(empty)
    await case.store.append(replace(empty, items=case.items[1:]))
    expect("the session", await case.load(session), list(case.items))


async def order_of_checks(case: Case) -> None:
    """append checks for a held turn, then for a clear, a conflict and a turn to replace."""
    session = case.new_session()
    await case.store.append(Turn(session, case.items[:1]))
    await case.store.clear(session)
    held = Turn(session, case.items[:1])
    revision = await case.store.append(held)

    for again in (
        replace(held, expected_revision=-1),
        replace(held, expected_revision=-1, since=0, replaces="missing"),
    ):
        expect("the revision for a held turn", await case.store.append(again), revision)

    new = Turn(session, case.items[:1], since=0, expected_revision=-1, replaces="missing")
    await expect_error(SessionCleared, case.store.append(new), "a turn from before a clear")
    new = replace(new, turn_id="second", since=revision)
    await expect_error(SessionConflict, case.store.append(new), "a turn at a wrong revision")
    new = replace(new, turn_id="third", expected_revision=revision)
    await expect_error(TurnMissing, case.store.append(new), "a turn that replaces a missing one")
    expect("the session", await case.load(session), list(case.items[:1]))


async def since_cleared(case: Case) -> None:
    """A turn whose history was loaded before a clear raises SessionCleared, also a first turn."""
    for items in ([], case.items[:1]):
        session = case.new_session()
        await case.store.append(Turn(session, items))
        since = (await case.store.load(session)).revision
        late = Turn(session, case.items[1:2], since=since)
        await case.store.clear(session)

        error = await expect_error(SessionCleared, case.store.append(late), "a late turn")
        expect("the session of the error", error.session_id, session)
        expect("the cleared session", await case.load(session), [])

        now = (await case.store.load(session)).revision
        await case.store.append(Turn(session, case.items[:1], since=now))
        await expect_error(SessionCleared, case.store.append(late), "a late turn, once more")
        await case.store.append(replace(late, since=now))
        await case.store.append(Turn(session, case.items[2:]))
        expect("the session", await case.load(session), list(case.items))


async def since_replaced(case: Case) -> None:
    """A turn loaded before turns were replaced raises SessionConflict, also a replaced turn."""
    session = case.new_session()
    since = await case.store.append(Turn(session, case.items[:1]))
    old = Turn(session, case.items[1:2], since=since)
    revision = await case.store.append(old)
    new = Turn(session, case.items[2:], replaces=old.turn_id, expected_revision=revision)
    now = await case.store.append(new)

    late = Turn(session, case.items[:1], since=revision)
    for turn in (old, late):
        await expect_error(SessionConflict, case.store.append(turn), "a late turn")
    expect("the session", await case.load(session), [case.items[0], case.items[2]])

    await case.store.append(replace(late, since=now))
    expect("the number of items", len(await case.load(session)), 3)


async def replaced_turns(case: Case) -> None:
    """A turn takes the place of the turn it replaces and of all later turns, and of no other."""
    for place in range(3):
        session = case.new_session()
        turns = [Turn(session, [case.items[n], case.items[n]]) for n in range(3)]
        revision = 0
        for turn in turns:
            revision = await case.store.append(turn)

        replaces = turns[place].turn_id
        new = Turn(session, case.items, replaces=replaces, expected_revision=revision)
        returned = await case.store.append(new)

        history = await case.store.load(session)
        left = turns[:place]
        listed = [(turn.turn_id, 2 * n) for n, turn in enumerate([*left, new])]
        items = [item for turn in (*left, new) for item in turn.items]
        expect(f"the items after turn {place} was replaced", list(history), items)
        expect(f"the turns after turn {place} was replaced", turns_of(history), listed)
        expect("the revision returned by append", returned, history.revision)


async def replaced_turn_not_held(case: Case) -> None:
    """A replaced turn is no longer held, and neither are the later turns."""
    session = case.new_session()
    turns = [Turn(session, [item]) for item in case.items]
    revision = 0
    for turn in turns:
        revision = await case.store.append(turn)
    replaces = turns[1].turn_id
    await case.store.append(
        Turn(session, case.items[1:2], replaces=replaces, expected_revision=revision)
    )

    for turn in turns:
        await case.store.append(turn)
    items = [case.items[n] for n in (0, 1, 1, 2)]
    expect("the session after new appends", await case.load(session), items)


async def rewind(case: Case) -> None:
    """A turn without items that replaces others removes them, is listed, and is saved once."""
    session = case.new_session()
    first, old = Turn(session, case.items[:1]), Turn(session, case.items[1:2])
    await case.store.append(first)
    revision = await case.store.append(old)
    empty: Turn[Any] = Turn(session, [], replaces=old.turn_id, expected_revision=revision)
    revision = await case.store.append(empty)

    history = await case.store.load(session)
    expect("the session", list(history), [case.items[0]])
    expect("the turns", turns_of(history), [(first.turn_id, 0), (empty.turn_id, 1)])
    expect("the revision for a repetition", await case.store.append(empty), revision)

    await case.store.append(Turn(session, case.items[2:]))
    await case.store.append(empty)
    expect("the session", await case.load(session), [case.items[0], case.items[2]])

    await case.store.pop(session)
    await case.store.append(empty)
    expect("the session after the next turn was popped", await case.load(session), [case.items[0]])

    revision = (await case.store.load(session)).revision
    again: Turn[Any] = Turn(session, [], replaces=first.turn_id, expected_revision=revision)
    for _ in range(2):
        await case.store.append(again)
        expect("the session without its first turn", await case.load(session), [])


async def replaced_turn_missing(case: Case) -> None:
    """A turn that replaces a turn which is not held raises TurnMissing and writes nothing."""
    session, other = case.new_session(), case.new_session()
    await case.store.append(Turn(other, case.items, turn_id="elsewhere"))
    for expected in (0, await case.store.append(Turn(session, case.items[:2]))):
        for items in (case.items[2:], []):
            turn = Turn(session, items, replaces="elsewhere", expected_revision=expected)
            name = turn.session_id if expected else case.new_session()
            append = case.store.append(replace(turn, session_id=name))
            error = await expect_error(TurnMissing, append, "replacing a missing turn")
            expect("the error", (error.session_id, error.turn_id), (name, "elsewhere"))
    expect("the session", await case.load(session), list(case.items[:2]))


async def outdated_replacement(case: Case) -> None:
    """A replacement at an outdated revision raises SessionConflict and keeps the old turns."""
    session = case.new_session()
    old = Turn(session, case.items[:1])
    seen = await case.store.append(old)
    actual = await case.store.append(Turn(session, case.items[1:2]))

    for items in (case.items[2:], []):
        new = Turn(session, items, replaces=old.turn_id, expected_revision=seen)
        error = await expect_error(SessionConflict, case.store.append(new), "a late replacement")
        expect("the revisions of the error", (error.expected, error.actual), (seen, actual))
    expect("the session", await case.load(session), list(case.items[:2]))


TURN_RULES: tuple[Rule, ...] = (
    turn_saved_once,
    turn_without_items,
    outdated_revision,
    order_of_checks,
    since_cleared,
    since_replaced,
    replaced_turns,
    replaced_turn_not_held,
    rewind,
    replaced_turn_missing,
    outdated_replacement,
)
