"""The contract of `SessionStore` for several callers at once, and for those that are cancelled."""

from __future__ import annotations

from typing import Any

from anyio import create_task_group
from anyio.lowlevel import checkpoint

from tower_memory._errors import SessionConflict
from tower_memory._sessions import Turn
from tower_memory.testing._cancelling import ways_to_cancel
from tower_memory.testing._case import Case, Rule, expect

MANY = 20
"""How many turns are appended at once."""


async def all_kept(case: Case) -> None:
    """Turns appended at once are all kept, whole, and none fails for what another did."""
    session = case.session()
    await case.store.append(Turn(session, case.items[:1]))
    good = [Turn(session, case.items) for _ in range(MANY)]
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
    expect("the number of conflicts", len(conflicts), MANY)
    expect("the session", await case.loaded(session), [case.items[0], *[*case.items] * MANY])


async def at_once_once(case: Case) -> None:
    """A turn that several append at once is saved once."""
    session = case.session()
    turn = Turn(session, case.items)
    async with create_task_group() as tasks:
        for _ in range(MANY):
            tasks.start_soon(case.store.append, turn)
    expect("the session", await case.loaded(session), list(case.items))


async def one_wins(case: Case) -> None:
    """Of several turns that expect the same revision at once, one is saved."""
    session = case.session()
    revision = await case.store.append(Turn(session, case.items[:1]))
    saved: list[int] = []

    async def append() -> None:
        try:
            turn = Turn(session, case.items[1:], expected_revision=revision)
            saved.append(await case.store.append(turn))
        except SessionConflict:
            return

    async with create_task_group() as tasks:
        for _ in range(MANY):
            tasks.start_soon(append)
    expect("the number of turns said to be saved", len(saved), 1)
    expect("the session", await case.loaded(session), list(case.items))


async def popped_once(case: Case) -> None:
    """Items that several pop at once are each given once."""
    session = case.session()
    await case.store.append(Turn(session, [*case.items] * MANY))
    given: list[Any] = []

    async def pop() -> None:
        given.append(await case.store.pop(session))

    async with create_task_group() as tasks:
        for _ in range(MANY):
            tasks.start_soon(pop)
    left = await case.loaded(session)
    expect("the number of items left", len(left), MANY * len(case.items) - MANY)
    for item in case.items:
        expect("how often an item is there", left.count(item) + given.count(item), MANY)


async def seen_whole(case: Case) -> None:
    """A load while turns are appended and cleared sees whole turns only."""
    session = case.session()
    whole = list(case.items)
    left = MANY

    async def append() -> None:
        nonlocal left
        for _ in range(MANY):
            await case.store.append(Turn(session, whole))
            left -= 1
            await checkpoint()
            if left % 5 == 0:
                await case.store.clear(session)

    async with create_task_group() as tasks:
        tasks.start_soon(append)
        while left:
            loaded = await case.loaded(session)
            expect("a session while it grows", loaded, whole * (len(loaded) // len(whole)))
            await checkpoint()


async def cancelled(case: Case) -> None:
    """An append cancelled at any point saves all or nothing; made again, it is there once."""
    many = [case.items[n % 3] for n in range(120)]
    for cancel in ways_to_cancel():
        nth, more = 0, True
        while more:
            nth += 1
            session, other = case.session(), case.session()
            turn = Turn(session, many)
            async with create_task_group() as tasks:
                tasks.start_soon(case.store.append, Turn(other, case.items))
                more = await cancel(case.store.append(turn), nth)
            expect("a turn appended meanwhile", await case.loaded(other), list(case.items))
            loaded = await case.loaded(session)
            if loaded:
                expect("the session", loaded, many)
            await case.store.append(turn)
            expect("the session, saved again", await case.loaded(session), many)


RULES_AT_ONCE: tuple[Rule, ...] = (
    all_kept,
    at_once_once,
    one_wins,
    popped_once,
    seen_whole,
    cancelled,
)
