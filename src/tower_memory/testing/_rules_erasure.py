"""Rules about the capability `SessionErasure`."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any, cast

from tower_memory._capabilities.erasure import Erasure, SessionErasure
from tower_memory._errors import SessionCleared, SessionError
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
    first = case.new_session()
    await _expect_refused_after_erase(case, first, {"session_id": first})


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


async def bad_erasures(case: Case) -> None:
    """Bad arguments of erase raise TypeError or ValueError, and nothing is erased."""
    session = case.new_session()
    await case.store.append(Turn(session, case.items))
    erase, now = _erasure(case).erase, datetime.now(UTC)

    calls: list[partial[Any]] = [partial(erase, session_id=bad) for bad in BAD_IDS]
    prefixes: list[Any] = [f"{session}\ud800", None, 3]
    calls += [partial(erase, prefix=bad) for bad in prefixes]
    calls += [partial(erase), partial(erase, session_id=session, prefix=session)]
    times: list[Any] = [now.replace(tzinfo=None), now.timestamp(), "2026-01-01", now.date()]
    calls += [partial(erase, session_id=session, inactive_since=bad) for bad in times]
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
    bad_erasures,
    scrub,
)
