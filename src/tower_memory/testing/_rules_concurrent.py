"""Rules about concurrent callers, and about cancelled callers."""

from __future__ import annotations

from typing import Any

from anyio import create_task_group
from anyio.lowlevel import checkpoint

from tower_memory._errors import SessionConflict
from tower_memory._turn import Turn
from tower_memory.testing._cancellation import ways_to_cancel
from tower_memory.testing._case import Case, Rule, expect, turns_of

COUNT = 20
"""Number of concurrent calls in a rule, or of turns appended during other calls."""


async def concurrent_appends(case: Case) -> None:
    """Turns appended at the same time are all kept whole, and none fails because of another."""
    session = case.new_session()
    await case.store.append(Turn(session, case.items[:1]))
    good = [Turn(session, case.items) for _ in range(COUNT)]
    bad = [Turn(session, case.items[:1], expected_revision=-1) for _ in good]
    conflicts: list[SessionConflict] = []

    async def append(turn: Turn[Any]) -> None:
        try:
            await case.store.append(turn)
        except SessionConflict as error:
            conflicts.append(error)

    async with create_task_group() as tasks:
        for pair in zip(good, bad, strict=True):
            for turn in pair:
                tasks.start_soon(append, turn)

    expect("the number of conflicts", len(conflicts), COUNT)
    expect("the session", await case.load(session), [case.items[0], *[*case.items] * COUNT])


async def concurrent_appends_of_one_turn(case: Case) -> None:
    """A turn that several callers append at the same time is saved once."""
    session = case.new_session()
    turn = Turn(session, case.items)
    async with create_task_group() as tasks:
        for _ in range(COUNT):
            tasks.start_soon(case.store.append, turn)
    expect("the session", await case.load(session), list(case.items))


async def concurrent_conflicts(case: Case) -> None:
    """If several turns expect the same revision at the same time, exactly one is saved."""
    session = case.new_session()
    revision = await case.store.append(Turn(session, case.items[:1]))
    saved: list[int] = []

    async def append() -> None:
        try:
            turn = Turn(session, case.items[1:], expected_revision=revision)
            saved.append(await case.store.append(turn))
        except SessionConflict:
            return

    async with create_task_group() as tasks:
        for _ in range(COUNT):
            tasks.start_soon(append)

    expect("the number of turns reported as saved", len(saved), 1)
    expect("the session", await case.load(session), list(case.items))


async def concurrent_replacements(case: Case) -> None:
    """If several turns replace the same turn at the same time, exactly one is saved."""
    session = case.new_session()
    old = Turn(session, case.items[:1])
    revision = await case.store.append(old)
    saved: list[Turn[Any]] = []

    async def replace_old() -> None:
        items = case.items[1:]
        new = Turn(session, items, replaces=old.turn_id, expected_revision=revision)
        try:
            await case.store.append(new)
        except SessionConflict:
            return
        saved.append(new)

    async with create_task_group() as tasks:
        for _ in range(COUNT):
            tasks.start_soon(replace_old)

    history = await case.store.load(session)
    expect("the number of turns reported as saved", len(saved), 1)
    expect("the session", list(history), list(case.items[1:]))
    expect("the turns", turns_of(history), [(saved[0].turn_id, 0)])


async def concurrent_pops(case: Case) -> None:
    """If several callers pop at the same time, each item is returned once."""
    session = case.new_session()
    await case.store.append(Turn(session, [*case.items] * COUNT))
    popped: list[Any] = []

    async def pop() -> None:
        popped.append(await case.store.pop(session))

    async with create_task_group() as tasks:
        for _ in range(COUNT):
            tasks.start_soon(pop)

    left = await case.load(session)
    expect("the number of items left", len(left), COUNT * len(case.items) - COUNT)
    for item in case.items:
        expect("the copies of an item", left.count(item) + popped.count(item), COUNT)


async def concurrent_loads(case: Case) -> None:
    """A load during appends and clears returns whole turns only."""
    session = case.new_session()
    turn = list(case.items)
    left = COUNT

    async def append() -> None:
        nonlocal left
        for _ in range(COUNT):
            await case.store.append(Turn(session, turn))
            left -= 1
            await checkpoint()
            if left % 5 == 0:
                await case.store.clear(session)

    async with create_task_group() as tasks:
        tasks.start_soon(append)
        while left:
            loaded = await case.load(session)
            expect("a session that grows", loaded, turn * (len(loaded) // len(turn)))
            await checkpoint()


async def cancelled_append(case: Case) -> None:
    """An append cancelled at any point saves all or nothing; repeated, it saves the turn once."""
    many = [case.items[n % 3] for n in range(120)]
    for cancel in ways_to_cancel():
        nth, reached = 0, True
        while reached:
            nth += 1
            session, other = case.new_session(), case.new_session()
            turn = Turn(session, many)

            async with create_task_group() as tasks:
                tasks.start_soon(case.store.append, Turn(other, case.items))
                reached = await cancel(case.store.append(turn), nth)

            expect("a turn appended at the same time", await case.load(other), list(case.items))
            loaded = await case.load(session)
            if loaded:
                expect("the session", loaded, many)

            await case.store.append(turn)
            expect("the session after a repetition", await case.load(session), many)


CONCURRENT_RULES: tuple[Rule, ...] = (
    concurrent_appends,
    concurrent_appends_of_one_turn,
    concurrent_conflicts,
    concurrent_replacements,
    concurrent_pops,
    concurrent_loads,
    cancelled_append,
)
