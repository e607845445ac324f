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


async def seen_whole(case: Case) -> None:
    """A load while turns are appended sees whole turns only."""
    session = case.session()
    whole = list(case.items)
    left = MANY

    async def append() -> None:
        nonlocal left
        for _ in range(MANY):
            await case.store.append(Turn(session, whole))
            left -= 1
            await checkpoint()

    async with create_task_group() as tasks:
        tasks.start_soon(append)
        while left:
            loaded = await case.loaded(session)
            expect("a session while it grows", loaded, whole * (len(loaded) // len(whole)))
            await checkpoint()


async def cancelled(case: Case) -> None:
    """An append cancelled at any point saves all or nothing; made again, it is there once."""
    for cancel in ways_to_cancel():
        nth, more = 0, True
        while more:
            nth += 1
            session = case.session()
            turn = Turn(session, case.items)
            more = await cancel(case.store.append(turn), nth)
            loaded = await case.loaded(session)
            if loaded:
                expect("the session", loaded, list(case.items))
            await case.store.append(turn)
            expect("the session, saved again", await case.loaded(session), list(case.items))


RULES_AT_ONCE: tuple[Rule, ...] = (
    all_kept,
    at_once_once,
    one_wins,
    seen_whole,
    cancelled,
)
