"""Rules about the capability `SessionErasure`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any, cast

from anyio import create_task_group

from tower_memory._capabilities.erasure import Erasure, SessionErasure
from tower_memory._errors import SessionCleared, SessionConflict, SessionError
from tower_memory._turn import Turn
from tower_memory.testing._case import (
    BAD_IDS,
    ID_ENDS,
    PREFIXES,
    Case,
    Rule,
    expect,
    expect_bad_argument,
    expect_error,
    similar_ids,
)

_NOTHING = Erasure(0, 0, 0)

_ERASURES = 4
"""Number of erasures at the same time in a rule."""


async def erase_session(case: Case) -> None:
    """erase removes one session, none with a similar id, and returns what it removed."""
    sessions = similar_ids(case)
    for session in sessions:
        await case.store.append(Turn(session, case.items[:1]))
        await case.store.append(Turn(session, case.items[1:]))
    never = await _erasure(case).erase(session_id=case.new_session())
    expect("the numbers for a session never written to", never, _NOTHING)

    for count, session in enumerate(sessions):
        left = [len(await case.load(other)) for other in sessions]
        expected = [0] * count + [3] * (len(sessions) - count)
        expect(f"the numbers of items before {session!r} is erased", left, expected)
        numbers = await _erasure(case).erase(session_id=session)
        expect("the numbers of sessions, turns and items", numbers, Erasure(1, 2, 3))
        numbers = await _erasure(case).erase(session_id=session)
        expect("the numbers for an erased session", numbers, _NOTHING)
    expect("the last session", await case.load(sessions[-1]), [])


async def erase_prefix(case: Case) -> None:
    """erase removes all sessions whose ids start with the prefix, by code points, and no other."""
    for end in PREFIXES:
        base = case.new_session()
        prefix = base + end
        sessions = [start + each for start in (base, base.upper()) for each in ID_ENDS]
        for session in sessions:
            await case.store.append(Turn(session, case.items))

        numbers = await _erasure(case).erase(prefix=prefix)
        gone = sum(session.startswith(prefix) for session in sessions)
        expect(f"the numbers for prefix={prefix!r}", numbers, Erasure(gone, gone, 3 * gone))
        for session in sessions:
            left = 0 if session.startswith(prefix) else 3
            expect(f"the number of items of {session!r}", len(await case.load(session)), left)


async def erase_inactive(case: Case) -> None:
    """inactive_since keeps the sessions that were changed since then."""
    now = datetime.now(UTC)
    eastern = timezone(timedelta(hours=14))
    earlier, later = now - timedelta(hours=1), now + timedelta(hours=1)

    for name in ("session_id", "prefix"):
        session = case.new_session()
        named: dict[str, Any] = {name: session}
        revision = await case.store.append(Turn(session, case.items[:1]))

        for time in (earlier, earlier.astimezone(eastern)):
            numbers = await _erasure(case).erase(**named, inactive_since=time)
            expect("the numbers for a session changed since then", numbers, _NOTHING)
        await case.store.append(Turn(session, case.items[1:], since=revision))
        expect("the session", await case.load(session), list(case.items))

        numbers = await _erasure(case).erase(**named, inactive_since=later.astimezone(eastern))
        expect("the numbers for a session changed before", numbers, Erasure(1, 2, 3))
        expect("the erased session", await case.load(session), [])


async def erased_revision(case: Case) -> None:
    """An erased session is at a higher revision, which rises again, and holds no turn."""
    session = case.new_session()
    turn = Turn(session, case.items)
    for _ in range(2):
        before = await case.store.append(turn)
        await _erasure(case).erase(session_id=session)
        history = await case.store.load(session)
        erased = history.revision
        after = await case.store.append(turn)

        expect("the turns of an erased session", tuple(history.turns), ())
        if not before < erased < after:
            msg = f"the revisions before, at and after erase do not rise: {before, erased, after}"
            raise AssertionError(msg)
        expect("the session after a new append", await case.load(session), list(case.items))


async def since_erased(case: Case) -> None:
    """A turn whose history was loaded before erase raises SessionCleared, also a first turn."""
    for named in ("session_id", "prefix"):
        session = case.new_session()
        await case.store.append(Turn(session, case.items[:1]))
        await _expect_refused_after_erase(case, session, {named: session})
    for options in ({}, {"expected_revision": 0}):
        first = case.new_session()
        await _expect_refused_after_erase(case, first, {"session_id": first, **options})


async def _expect_refused_after_erase(case: Case, session: str, named: dict[str, Any]) -> None:
    since = (await case.store.load(session)).revision
    late = Turn(session, case.items, since=since)
    await _erasure(case).erase(**named)

    await expect_error(SessionCleared, case.store.append(late), "a turn in progress")
    expect("the erased session", await case.load(session), [])

    now = (await case.store.load(session)).revision
    await case.store.append(Turn(session, case.items[:1], since=now))
    await expect_error(SessionCleared, case.store.append(late), "a turn in progress, once more")
    expect("the session", await case.load(session), list(case.items[:1]))


async def erase_at_revision(case: Case) -> None:
    """erase with expected_revision removes a session that is at that revision."""
    session = case.new_session()
    for _ in range(2):
        await case.store.append(Turn(session, case.items[:1]))
        revision = await case.store.append(Turn(session, case.items[1:]))
        numbers = await _erasure(case).erase(session_id=session, expected_revision=revision)
        expect("the numbers of sessions, turns and items", numbers, Erasure(1, 2, 3))
        expect("the erased session", await case.load(session), [])


async def erase_at_other_revision(case: Case) -> None:
    """erase with another expected_revision raises SessionConflict and removes nothing."""
    session = case.new_session()
    old = await case.store.append(Turn(session, case.items[:1]))
    revision = await case.store.append(Turn(session, case.items[1:]))

    for other in (old, revision + 1, 0, -1):
        erase = _erasure(case).erase(session_id=session, expected_revision=other)
        error = await expect_error(SessionConflict, erase, f"erase at the revision {other}")
        expect("the session of the error", error.session_id, session)
        expect("the revisions of the error", (error.expected, error.actual), (other, revision))

    history = await case.store.load(session)
    expect("the session", list(history), list(case.items))
    expect("the revision", history.revision, revision)


async def erase_again_at_revision(case: Case) -> None:
    """A second erase with expected_revision finds nothing, and a turn begun since is saved."""
    session = case.new_session()
    revision = await case.store.append(Turn(session, case.items))
    again = partial(_erasure(case).erase, session_id=session, expected_revision=revision)
    await again()
    erased = (await case.store.load(session)).revision

    for _ in range(2):
        expect("the numbers for an erased session", await again(), _NOTHING)
        expect("its revision", (await case.store.load(session)).revision, erased)
    await case.store.append(Turn(session, case.items, since=erased))
    await expect_error(SessionConflict, again(), "erase of a session that was written again")
    expect("the session", await case.load(session), list(case.items))


async def concurrent_erasures(case: Case) -> None:
    """Erasures at the same time that expect one revision erase it once, and no newer turn."""
    for place in range(_ERASURES + 1):
        await _erase_and_append(case, place)


async def _erase_and_append(case: Case, place: int) -> None:
    """Erase a session several times, and append a turn as the call with the number *place*."""
    session = case.new_session()
    revision = await case.store.append(Turn(session, case.items[:1]))
    erased: list[int] = []

    async def erase() -> None:
        with suppress(SessionConflict):
            numbers = await _erasure(case).erase(session_id=session, expected_revision=revision)
            erased.append(numbers.sessions)

    async def append() -> None:
        await case.store.append(Turn(session, case.items[1:]))

    calls: list[Callable[[], Coroutine[Any, Any, None]]] = [erase] * _ERASURES
    calls.insert(place, append)
    async with create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(call)

    left = list(case.items[sum(erased) :])
    expect(f"the session, erased {sum(erased)} times", await case.load(session), left)


async def bad_erasures(case: Case) -> None:
    """Bad arguments of erase raise TypeError or ValueError, and nothing is erased."""
    session = case.new_session()
    revision = await case.store.append(Turn(session, case.items))
    erase, now = _erasure(case).erase, datetime.now(UTC)

    calls: list[partial[Any]] = [partial(erase, session_id=bad) for bad in BAD_IDS]
    prefixes: list[Any] = [f"{session}\ud800", None, 3]
    calls += [partial(erase, prefix=bad) for bad in prefixes]
    calls += [partial(erase), partial(erase, session_id=session, prefix=session)]
    times: list[Any] = [now.replace(tzinfo=None), now.timestamp(), "2026-01-01", now.date()]
    calls += [partial(erase, session_id=session, inactive_since=bad) for bad in times]
    revisions: list[Any] = ["1", 1.0, True, 2**63]
    calls += [partial(erase, session_id=session, expected_revision=bad) for bad in revisions]
    calls.append(partial(erase, prefix=session, expected_revision=revision))
    for call in calls:
        await expect_bad_argument(call)
    expect("the session", await case.load(session), list(case.items))


async def scrub(case: Case) -> None:
    """scrub may be called at any time and changes no session."""
    session, erased = case.new_session(), case.new_session()
    for _ in range(2):
        await case.store.append(Turn(session, case.items[:1], metadata={"a": 1}))
        await case.store.append(Turn(erased, case.items))
        await _erasure(case).erase(session_id=erased)
        before = await case.store.load(session)

        with suppress(SessionError):  # of a store that cannot scrub, or not now
            await _erasure(case).scrub()
        history = await case.store.load(session)
        expect("the session", list(history), list(before))
        expect("the revision", history.revision, before.revision)
        expect("the turns", [*map(repr, history.turns)], [*map(repr, before.turns)])
        expect("the erased session", await case.load(erased), [])


def _erasure(case: Case) -> SessionErasure:
    return cast("SessionErasure", case.store)


ERASURE_RULES: tuple[Rule, ...] = (
    erase_session,
    erase_prefix,
    erase_inactive,
    erased_revision,
    since_erased,
    erase_at_revision,
    erase_at_other_revision,
    erase_again_at_revision,
    concurrent_erasures,
    bad_erasures,
    scrub,
)
