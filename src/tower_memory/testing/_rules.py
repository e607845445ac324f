"""The contract of `SessionStore` for one caller, rule by rule.

Each rule is a function of a case that raises where the store breaks it; its docstring is the rule.
A rule uses as little as it can of what other rules are about, so that what is broken is named by
one of them.
"""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from functools import partial
from secrets import token_hex
from typing import Any

from tower_memory._errors import SessionConflict, UnencodableItemError
from tower_memory._sessions import Turn
from tower_memory.testing._case import (
    BAD_IDS,
    BAD_LIMITS,
    EXOTIC,
    IDS,
    Case,
    Rule,
    expect,
    expect_same,
    spoil,
    unencodable,
)


async def empty_at_zero(case: Case) -> None:
    """A session that holds nothing is empty and at revision 0."""
    never, popped, cleared = (case.session() for _ in range(3))
    await case.store.append(Turn(popped, case.items[:1]))
    await case.store.pop(popped)
    await case.store.append(Turn(cleared, case.items[:1]))
    await case.store.clear(cleared)
    for session, how in [(never, "never written to"), (popped, "popped"), (cleared, "cleared")]:
        history = await case.store.load(session)
        expect(f"a session {how}", (list(history), history.revision), ([], 0))
        expect(f"the turns of a session {how}", tuple(history.turns), ())


async def in_order(case: Case) -> None:
    """Items come back oldest first, turn after turn."""
    session = case.session()
    given = [case.items[n % 2] for n in (0, 0, 1, 0, 1, 1, 1, 0, 0, 1)]
    for start in range(0, len(given), 2):
        await case.store.append(Turn(session, given[start : start + 2]))
    expect("the session", await case.loaded(session), given)


async def turns_known(case: Case) -> None:
    """A history knows where each of its turns starts, and its id."""
    session = case.session()
    one, two = Turn(session, case.items[:2]), Turn(session, case.items[2:], turn_id="two")
    for turn in (one, two):
        await case.store.append(turn)
    starts = [(0, one.turn_id), (2, two.turn_id)]
    expect("the turns", [tuple(start) for start in (await case.store.load(session)).turns], starts)


async def lossless(case: Case) -> None:
    """What comes back is what was appended."""
    session = case.session()
    await case.store.append(Turn(session, case.values))
    loaded = await case.loaded(session)
    expect("the number of items", len(loaded), len(case.values))
    for given, found in zip(case.values, loaded, strict=True):
        expect_same("an item", found, given)
    long = [case.items[n % 3] for n in range(250)]
    await case.store.append(Turn(session, long))
    expect("a long turn", (await case.loaded(session))[len(loaded) :], long)


async def refused(case: Case) -> None:
    """What would come back changed is refused, and its turn with it, which may then be another."""
    for bad in (*EXOTIC, *unencodable()):
        session = case.session()
        turn = Turn(session, [case.items[0], bad])
        kept = list(turn.items)
        try:
            await case.store.append(turn)
        except UnencodableItemError:
            kept = []
        expect_same(f"a session given {bad!r}", await case.loaded(session), kept)
        if not kept:
            await case.store.append(replace(turn, items=case.items))
            expect("the turn without it", await case.loaded(session), list(case.items))


async def any_id(case: Case) -> None:
    """Any text but the empty one is an id, of a session and of a turn."""
    suffix, one = token_hex(8), case.session()
    for name in IDS:
        session = name + suffix
        await case.store.append(Turn(session, case.items[:1], turn_id=name))
        history = await case.store.load(session)
        expect(f"session {session!r}", list(history), list(case.items[:1]))
        expect(f"turn {name!r}", history.turn(name), tuple(case.items[:1]))
        await case.store.append(Turn(one, case.items[:1], turn_id=suffix + name))
    expect("turns of which some are alike", len(await case.loaded(one)), len(IDS))


async def apart(case: Case) -> None:
    """A session holds its own turns only, however like another's its id, or theirs, may be."""
    for session in (sessions := _alike(case)):
        await case.store.append(Turn(session, case.items[:1], turn_id="the same"))
        await case.store.append(Turn(session, case.items[1:]))
    for session in sessions:
        expect(f"session {session!r}", await case.loaded(session), list(case.items))


async def limited(case: Case) -> None:
    """A limit keeps the newest items, their turns and the true revision, and tells what it cut."""
    session = case.session()
    items = [case.items[n % 3] for n in range(150)]
    one, two = Turn(session, items[:100]), Turn(session, items[100:])
    await case.store.append(one)
    revision = await case.store.append(two)
    starts = [(one.turn_id, 150), (two.turn_id, 50)]  # so far from the end
    for limit in (0, 1, 2, 49, 50, 51, 149, 150, 151, 2**70):
        kept = items[max(0, len(items) - limit) :]
        turns = [(len(kept) - back, turn) for turn, back in starts if back <= len(kept)]
        history = await case.store.load(session, limit=limit)
        expect(f"with limit={limit}", list(history), kept)
        expect(f"the turns with limit={limit}", [tuple(start) for start in history.turns], turns)
        expect(f"the revision with limit={limit}", history.revision, revision)
        expect(f"is_cut with limit={limit}", history.is_cut, len(kept) < len(items))


async def saved_once(case: Case) -> None:
    """A turn that is held is not saved again, and the current revision is returned."""
    session = case.session()
    turns = [Turn(session, case.items) for _ in range(20)]
    for turn in turns:
        await case.store.append(turn)
    current = (await case.store.load(session)).revision
    for turn in turns:
        expect("the revision returned for a turn held", await case.store.append(turn), current)
    expect("the session", await case.loaded(session), list(case.items) * len(turns))


async def held_first(case: Case) -> None:
    """That a turn is held is found before its revision is compared."""
    session = case.session()
    turn = Turn(session, case.items[:1], expected_revision=0)
    revision = await case.store.append(turn)
    try:
        again = await case.store.append(turn)
    except SessionConflict as error:
        msg = f"a turn that is held raised {error!r}"
        raise AssertionError(msg) from error
    expect("the revision returned for a turn held", again, revision)


async def conflict(case: Case) -> None:
    """An outdated revision raises SessionConflict, which names both, and writes nothing."""
    session = case.session()
    seen = await case.store.append(Turn(session, case.items[:1]))
    actual = await case.store.append(Turn(session, case.items[1:2]))
    for outdated in (0, seen, -1, 2**63 - 1):
        for items in (case.items[2:], []):
            try:
                await case.store.append(Turn(session, items, expected_revision=outdated))
            except SessionConflict as error:
                expect("the revisions named", (error.expected, error.actual), (outdated, actual))
                expect("the session named", error.session_id, session)
            else:
                msg = f"expected_revision={outdated} at revision {actual} raised nothing"
                raise AssertionError(msg)
    expect("the session", len(await case.loaded(session)), 2)
    late = Turn(session, case.items[2:], expected_revision=seen)
    with suppress(SessionConflict):
        await case.store.append(late)
    await case.store.append(replace(late, expected_revision=actual))
    expect("the session after it was made again", len(await case.loaded(session)), 3)


async def nothing_of_nothing(case: Case) -> None:
    """A turn without items writes nothing, and the current revision is returned."""
    session = case.session()
    expect("the revision for no items", await case.store.append(Turn(session, [])), 0)
    revision = await case.store.append(Turn(session, case.items[:1]))
    expect("the revision for no items", await case.store.append(Turn(session, [])), revision)
    history = await case.store.load(session)
    expect("items and turns", (len(history), len(history.turns)), (1, 1))
    empty: Turn[Any] = Turn(session, [])
    await case.store.append(empty)
    await case.store.append(replace(empty, items=case.items[1:]))
    expect("the session", await case.loaded(session), list(case.items))


async def popped(case: Case) -> None:
    """pop takes the newest item, and gives None when there is none."""
    session = case.session()
    await case.store.append(Turn(session, case.items[:2]))
    for expected in (case.items[1], case.items[0], None):
        expect("what was popped", await case.store.pop(session), expected)
    expect("the session", await case.loaded(session), [])


async def cleared(case: Case) -> None:
    """clear takes all items of its session, and of no other, however like its id may be."""
    sessions = _alike(case)[:4]
    for session in sessions:
        await case.store.append(Turn(session, case.items))
    for never in ("%", "_", "*", sessions[0][:-1], sessions[0][:-1] + "_"):
        await case.store.clear(never)
    for count, session in enumerate(sessions):
        left = [len(await case.loaded(other)) for other in sessions]
        expect(f"before {session!r}", left, [0] * count + [3] * (len(sessions) - count))
        await case.store.clear(session)
    expect("the last session", await case.loaded(sessions[-1]), [])


async def forgotten(case: Case) -> None:
    """A turn of which nothing is left is no longer held."""
    for take in (case.store.pop, case.store.clear):
        session = case.session()
        turn = Turn(session, case.items[:1])
        await case.store.append(turn)
        await take(session)
        await case.store.append(turn)
        expect("the session, saved anew", await case.loaded(session), list(case.items[:1]))


async def told_by_revision(case: Case) -> None:
    """No two contents of a session share a revision, which changes with the content only."""
    session = case.session()
    contents: dict[int, Any] = {}
    a, b, c = ([item] for item in case.items)
    for step in (a, b, "pop", c, "pop", "pop", b, "clear", a, c, "pop", b, "clear", b):
        returned = None
        if step == "pop":
            await case.store.pop(session)
        elif step == "clear":
            await case.store.clear(session)
        else:
            returned = await case.store.append(Turn(session, step))
        history = await case.store.load(session)
        expect("the revision returned by append", returned or history.revision, history.revision)
        content = [list(history), [tuple(start) for start in history.turns]]
        known = contents.setdefault(history.revision, content)
        expect(f"the content at revision {history.revision}", content, known)


async def own_copies(case: Case) -> None:
    """What a caller does to an item that it gave or got changes nothing stored."""
    session = case.session()
    given: list[Any] = list(case.items[:1])
    item = deepcopy(given[0])
    await case.store.append(Turn(session, [item]))
    spoil(item)
    expect("after a change of what was given", await case.loaded(session), given)
    (loaded,) = await case.loaded(session)
    spoil(loaded)
    expect("after a change of what was loaded", await case.loaded(session), given)


async def bad_arguments(case: Case) -> None:
    """Bad arguments raise TypeError or ValueError."""
    store, session = case.store, case.session()
    await store.append(Turn(session, case.items))
    calls: list[partial[Any]] = [partial(store.load, session, limit=bad) for bad in BAD_LIMITS]
    for bad in BAD_IDS:
        calls += [partial(store.load, bad), partial(store.pop, bad), partial(store.clear, bad)]
    for call in calls:
        try:
            await call()
        except (TypeError, ValueError):
            continue
        msg = f"{call.func.__name__}{call.args} {call.keywords} raised nothing"
        raise AssertionError(msg)


def _alike(case: Case) -> list[str]:
    """Ids of sessions that only their exact text tells apart."""
    base = f"Session-{'long' * 50}-{case.session()}"
    return [base, base.lower(), base.upper(), f"{base}er", f"{base} ", f" {base}", f"{base}\0"]


RULES: tuple[Rule, ...] = (
    empty_at_zero,
    in_order,
    turns_known,
    lossless,
    refused,
    any_id,
    apart,
    limited,
    saved_once,
    held_first,
    conflict,
    nothing_of_nothing,
    popped,
    cleared,
    forgotten,
    told_by_revision,
    own_copies,
    bad_arguments,
)
