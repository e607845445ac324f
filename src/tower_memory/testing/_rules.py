"""The contract of `SessionStore` for one caller, rule by rule.

A rule is a function of a case; it raises if the store breaks the rule. Its docstring states the
rule, and the report shows that sentence. A rule uses as little as possible of the behaviour that
other rules check, so that a fault breaks only the rule that names it.
"""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from functools import partial
from secrets import token_hex
from typing import Any

from tower_memory._errors import SessionConflict, UnencodableItemError
from tower_memory._turn import Turn
from tower_memory.testing._case import (
    BAD_IDS,
    BAD_LIMITS,
    IDS,
    OPTIONAL_VALUES,
    Case,
    Rule,
    expect,
    expect_identical,
    mutate,
    turns_of,
    unencodable_values,
)


async def empty_session(case: Case) -> None:
    """A session without items loads as an empty history at revision 0."""
    never, popped, cleared = (case.new_session() for _ in range(3))
    await case.store.append(Turn(popped, case.items[:1]))
    await case.store.pop(popped)
    await case.store.append(Turn(cleared, case.items[:1]))
    await case.store.clear(cleared)

    for session, how in [(never, "never written to"), (popped, "popped"), (cleared, "cleared")]:
        history = await case.store.load(session)
        expect(f"a session {how}", (list(history), history.revision), ([], 0))
        expect(f"the turns of a session {how}", tuple(history.turns), ())


async def order_of_items(case: Case) -> None:
    """Items come back oldest first, turn after turn."""
    session = case.new_session()
    given = [case.items[n % 2] for n in (0, 0, 1, 0, 1, 1, 1, 0, 0, 1)]
    for start in range(0, len(given), 2):
        await case.store.append(Turn(session, given[start : start + 2]))
    expect("the session", await case.load(session), given)


async def turns_listed(case: Case) -> None:
    """A history lists each turn's id and the position of the turn's first item."""
    session = case.new_session()
    one, two = Turn(session, case.items[:2]), Turn(session, case.items[2:], turn_id="two")
    for turn in (one, two):
        await case.store.append(turn)
    expected = [(one.turn_id, 0), (two.turn_id, 2)]
    expect("the turns", turns_of(await case.store.load(session)), expected)


async def lossless(case: Case) -> None:
    """Loaded items equal the appended items, in value and in type."""
    session = case.new_session()
    await case.store.append(Turn(session, case.values))
    loaded = await case.load(session)
    expect("the number of items", len(loaded), len(case.values))
    for given, found in zip(case.values, loaded, strict=True):
        expect_identical("an item", found, given)

    long = [case.items[n % 3] for n in range(250)]
    await case.store.append(Turn(session, long))
    expect("a long turn", (await case.load(session))[len(loaded) :], long)


async def unencodable_item_refused(case: Case) -> None:
    """An item that cannot be stored unchanged is refused with its turn; the turn id stays free."""
    for bad in (*OPTIONAL_VALUES, *unencodable_values()):
        session = case.new_session()
        turn = Turn(session, [case.items[0], bad])
        stored = list(turn.items)
        try:
            await case.store.append(turn)
        except UnencodableItemError:
            stored = []

        expect_identical(f"a session given {bad!r}", await case.load(session), stored)
        if not stored:
            await case.store.append(replace(turn, items=case.items))
            expect("the turn with other items", await case.load(session), list(case.items))


async def any_id(case: Case) -> None:
    """Any text that is not empty can be a session id, and a turn id."""
    suffix, one = token_hex(8), case.new_session()

    for name in IDS:
        session = name + suffix
        await case.store.append(Turn(session, case.items[:1], turn_id=name))
        history = await case.store.load(session)
        expect(f"session {session!r}", list(history), list(case.items[:1]))
        expect(f"turn {name!r}", history.turn(name), tuple(case.items[:1]))
        await case.store.append(Turn(one, case.items[:1], turn_id=suffix + name))

    expect("the number of turns with similar ids", len(await case.load(one)), len(IDS))


async def sessions_separate(case: Case) -> None:
    """Sessions stay separate even if their ids are similar or their turn ids are equal."""
    for session in (sessions := _similar_ids(case)):
        await case.store.append(Turn(session, case.items[:1], turn_id="the same"))
        await case.store.append(Turn(session, case.items[1:]))
    for session in sessions:
        expect(f"session {session!r}", await case.load(session), list(case.items))


async def limited_load(case: Case) -> None:
    """A limit keeps the newest items, their turns and the session's revision, and sets is_cut."""
    session = case.new_session()
    items = [case.items[n % 3] for n in range(150)]
    one, two = Turn(session, items[:100]), Turn(session, items[100:])
    await case.store.append(one)
    revision = await case.store.append(two)
    distances = [(one.turn_id, 150), (two.turn_id, 50)]  # of each turn's start from the end

    for limit in (0, 1, 2, 49, 50, 51, 149, 150, 151, 2**70):
        newest = items[max(0, len(items) - limit) :]
        turns = [(turn, len(newest) - back) for turn, back in distances if back <= len(newest)]
        history = await case.store.load(session, limit=limit)

        expect(f"the items with limit={limit}", list(history), newest)
        expect(f"the turns with limit={limit}", turns_of(history), turns)
        expect(f"the revision with limit={limit}", history.revision, revision)
        expect(f"is_cut with limit={limit}", history.is_cut, len(newest) < len(items))


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


async def held_before_conflict(case: Case) -> None:
    """append looks for a held turn before it compares revisions."""
    session = case.new_session()
    turn = Turn(session, case.items[:1], expected_revision=0)
    revision = await case.store.append(turn)

    try:
        again = await case.store.append(turn)
    except SessionConflict as error:
        msg = f"appending a held turn raised {error!r}"
        raise AssertionError(msg) from error
    expect("the revision returned for a held turn", again, revision)


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


async def pop_newest(case: Case) -> None:
    """pop removes and returns the newest item, or returns None if there is none."""
    session = case.new_session()
    await case.store.append(Turn(session, case.items[:2]))
    for expected in (case.items[1], case.items[0], None):
        expect("the popped item", await case.store.pop(session), expected)
    expect("the session", await case.load(session), [])


async def clear_session(case: Case) -> None:
    """clear removes all items of its session, and none of a session with a similar id."""
    sessions = _similar_ids(case)[:4]
    for session in sessions:
        await case.store.append(Turn(session, case.items))
    for never in ("%", "_", "*", sessions[0][:-1], sessions[0][:-1] + "_"):
        await case.store.clear(never)

    for count, session in enumerate(sessions):
        left = [len(await case.load(other)) for other in sessions]
        expected = [0] * count + [3] * (len(sessions) - count)
        expect(f"the numbers of items before clear({session!r})", left, expected)
        await case.store.clear(session)
    expect("the last session", await case.load(sessions[-1]), [])


async def removed_turn_not_held(case: Case) -> None:
    """A turn is no longer held once all its items are removed."""
    for remove in (case.store.pop, case.store.clear):
        session = case.new_session()
        turn = Turn(session, case.items[:1])
        await case.store.append(turn)
        await remove(session)
        await case.store.append(turn)
        expect("the session after a new append", await case.load(session), list(case.items[:1]))


async def revision_per_content(case: Case) -> None:
    """A revision changes only with the content, and different contents never share a revision."""
    session = case.new_session()
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

        content = [list(history), turns_of(history)]
        known = contents.setdefault(history.revision, content)
        expect(f"the content at revision {history.revision}", content, known)


async def independent_copies(case: Case) -> None:
    """Changing an appended item or a loaded item changes nothing in the store."""
    session = case.new_session()
    given: list[Any] = list(case.items[:1])
    item = deepcopy(given[0])
    await case.store.append(Turn(session, [item]))
    mutate(item)
    expect("the session after a change of the appended item", await case.load(session), given)

    (loaded,) = await case.load(session)
    mutate(loaded)
    expect("the session after a change of the loaded item", await case.load(session), given)


async def bad_arguments(case: Case) -> None:
    """Bad arguments raise TypeError or ValueError."""
    store, session = case.store, case.new_session()
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


def _similar_ids(case: Case) -> list[str]:
    """Return session ids that differ only slightly."""
    base = f"Session-{'long' * 50}-{case.new_session()}"
    return [base, base.lower(), base.upper(), f"{base}er", f"{base} ", f" {base}", f"{base}\0"]


RULES: tuple[Rule, ...] = (
    empty_session,
    order_of_items,
    turns_listed,
    lossless,
    unencodable_item_refused,
    any_id,
    sessions_separate,
    limited_load,
    turn_saved_once,
    held_before_conflict,
    outdated_revision,
    turn_without_items,
    pop_newest,
    clear_session,
    removed_turn_not_held,
    revision_per_content,
    independent_copies,
    bad_arguments,
)
