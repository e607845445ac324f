"""Rules about the items, ids and revisions of sessions.

A rule is a function of a case; it raises if the store breaks the rule. Its docstring states the
rule, and the report shows that sentence. A rule uses as little as possible of the behaviour that
other rules check, so that a fault breaks only the rule that names it.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import partial
from secrets import token_hex
from typing import Any

from tower_memory._errors import UnencodableItemError
from tower_memory._turn import Turn
from tower_memory.testing._case import (
    BAD_IDS,
    BAD_LIMITS,
    BAD_PLACES,
    IDS,
    METADATA,
    OPTIONAL_VALUES,
    Case,
    Rule,
    expect,
    expect_bad_argument,
    expect_identical,
    mutate,
    similar_ids,
    turns_of,
    unencodable_values,
)


async def empty_session(case: Case) -> None:
    """A session without items loads as an empty history; it is at revision 0 if never written."""
    never, popped, cleared = (case.new_session() for _ in range(3))
    await case.store.append(Turn(popped, case.items[:1]))
    await case.store.pop(popped)
    await case.store.append(Turn(cleared, case.items[:1]))
    await case.store.clear(cleared)

    expect("the revision before the first write", (await case.store.load(never)).revision, 0)
    for session, how in [(never, "never written to"), (popped, "popped"), (cleared, "cleared")]:
        history = await case.store.load(session)
        expect(f"a session {how}", list(history), [])
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
    for session in (sessions := similar_ids(case)):
        await case.store.append(Turn(session, case.items[:1], turn_id="the same"))
        await case.store.append(Turn(session, case.items[1:]))
    for session in sessions:
        expect(f"session {session!r}", await case.load(session), list(case.items))


async def pop_newest(case: Case) -> None:
    """pop removes and returns the newest item, or returns None if there is none."""
    session = case.new_session()
    await case.store.append(Turn(session, case.items[:2]))
    for expected in (case.items[1], case.items[0], None):
        expect("the popped item", await case.store.pop(session), expected)
    expect("the session", await case.load(session), [])


async def clear_session(case: Case) -> None:
    """clear removes all items of its session, and none of a session with a similar id."""
    sessions = similar_ids(case)[:4]
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
    """A turn is no longer held once all its items, or all items before it, are removed."""
    for remove in (case.store.pop, case.store.clear):
        session = case.new_session()
        turn, old = Turn(session, case.items[:1]), Turn(session, case.items[1:])
        await case.store.append(turn)
        revision = await case.store.append(old)
        empty: Turn[Any] = Turn(session, [], replaces=old.turn_id, expected_revision=revision)
        await case.store.append(empty)

        await remove(session)
        await case.store.append(turn)
        await case.store.append(Turn(session, case.items[1:], turn_id=empty.turn_id))
        expect("the session after new appends", await case.load(session), list(case.items))


async def rising_revision(case: Case) -> None:
    """Each change raises the revision, also one that empties the session, and every clear."""
    session = case.new_session()
    latest = 0
    a, b, c = ([item] for item in case.items)
    for step in ("clear", a, b, "pop", c, "pop", "pop", "clear", "clear", a, "clear", b):
        subject = f"the revision after {step}"
        before = latest

        if step == "pop":
            await case.store.pop(session)
        elif step == "clear":
            await case.store.clear(session)
        else:
            latest = await case.store.append(Turn(session, step))

        revision = (await case.store.load(session)).revision
        if revision <= before:
            msg = f"{subject}: expected more than {before}, found {revision}"
            raise AssertionError(msg)
        if isinstance(step, list):
            expect("the revision returned by append", latest, revision)
        latest = revision


async def independent_copies(case: Case) -> None:
    """Changing items or metadata, appended or loaded, changes nothing in the store."""
    session = case.new_session()
    given: list[Any] = list(case.items[:1])
    item, metadata = deepcopy(given[0]), deepcopy(METADATA)
    await case.store.append(Turn(session, [item], metadata=metadata))
    mutate(item)
    mutate(metadata)
    expect("the session after a change of the appended item", await case.load(session), given)

    history = await case.store.load(session)
    mutate(history[0])
    mutate(dict(history.turns[0].metadata))
    expect("the session after a change of the loaded item", await case.load(session), given)
    (turn,) = (await case.store.load(session)).turns
    expect("the metadata after these changes", dict(turn.metadata), METADATA)


async def bad_arguments(case: Case) -> None:
    """Bad arguments raise TypeError or ValueError."""
    store, session = case.store, case.new_session()
    await store.append(Turn(session, case.items))
    calls: list[partial[Any]] = [partial(store.load, session, limit=bad) for bad in BAD_LIMITS]
    calls += [partial(store.load, session, before=bad) for bad in BAD_PLACES]
    for bad in BAD_IDS:
        calls += [partial(store.load, bad), partial(store.pop, bad), partial(store.clear, bad)]

    for call in calls:
        await expect_bad_argument(call)


RULES: tuple[Rule, ...] = (
    empty_session,
    order_of_items,
    turns_listed,
    lossless,
    unencodable_item_refused,
    any_id,
    sessions_separate,
    pop_newest,
    clear_session,
    removed_turn_not_held,
    rising_revision,
    independent_copies,
    bad_arguments,
)
