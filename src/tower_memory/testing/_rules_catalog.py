"""Rules about the capability `SessionCatalog`: lists and descriptions of sessions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

from tower_memory._capabilities.catalog import SessionCatalog, SessionInfo
from tower_memory._capabilities.erasure import SessionErasure
from tower_memory._turn import Turn
from tower_memory.testing._case import (
    BAD_IDS,
    BAD_LIMITS,
    CLOCK_DIFFERENCE,
    ID_ENDS,
    MAX_TRIES,
    PREFIXES,
    Case,
    Rule,
    expect,
    expect_bad_argument,
    expect_error,
)


async def order_of_activity(case: Case) -> None:
    """sessions lists the last active session first; each change of turns makes one active."""
    store, base = case.store, case.new_session()
    a, b, c = sessions = [base + end for end in "abc"]
    turns = [Turn(session, case.items) for session in sessions]
    revisions = [await store.append(turn) for turn in turns]
    new: Turn[Any] = Turn(b, [], replaces=turns[1].turn_id, expected_revision=revisions[1])
    changes: list[tuple[str, partial[Any]]] = [
        (a, partial(store.append, Turn(a, case.items[:1]))),
        (b, partial(store.append, new)),
        (c, partial(store.pop, c)),
        (a, partial(store.clear, a)),
    ]
    order = [c, b, a]
    for session, change in changes:
        await change()
        order = [session, *(other for other in order if other != session)]
        expect("the order after a change", await listed(case, base), order)

    no_changes: list[partial[Any]] = [
        partial(store.append, turns[2]),
        partial(store.pop, b),
        partial(store.load, b),
        partial(catalog(case).describe, b),
    ]
    for call in no_changes:
        await call()
        expect("the order after a call that changes nothing", await listed(case, base), order)


async def walk(case: Case) -> None:
    """A walk over the pages returns each session once, and no page exceeds its limit."""
    base = case.new_session()
    sessions = [f"{base}{number}" for number in range(51)]
    for session in sessions:
        await case.store.append(Turn(session, case.items[:1]))

    page = await catalog(case).sessions(prefix=base)
    expect("a page of the default limit", ids_of(page), sessions[:0:-1])
    for limit in (2**70, 2**63 - 1, 51, 50, 17, 1):
        pages = await _pages(case, base, limit)
        found = [session for page in pages for session in page]
        expect(f"the sessions with limit={limit}", found, sessions[::-1])
        longest = max(map(len, pages))
        expect(f"the longest page, {longest}, is at most {limit}", longest <= limit, expected=True)
    expect("the page of a prefix without sessions", await listed(case, f"{base}none"), [])


async def walk_during_changes(case: Case) -> None:
    """A walk returns no session twice, and each that is not active during the walk."""
    for limit in (1, 2, 3):
        for erases in (False, True) if isinstance(case.store, SessionErasure) else (False,):
            base = case.new_session()
            sessions = [f"{base}{number}" for number in range(9)]
            for session in sessions:
                await case.store.append(Turn(session, case.items[:1]))

            page = await catalog(case).sessions(prefix=base, limit=limit)
            found = ids_of(page)
            if erases:
                for session in sessions[5:]:
                    await cast("SessionErasure", case.store).erase(session_id=session)
            while page.next is not None:
                if len(found) < len(sessions):  # so that a broken walk also ends
                    for session in (found[0], sessions[4], f"{base}new {len(found)}"):
                        await case.store.append(Turn(session, case.items[:1]))
                page = await catalog(case).sessions(prefix=base, limit=limit, after=page.next)
                found += ids_of(page)

            expect("the number of sessions in a walk", len(found), len(set(found)))
            expect("the sessions that were not active", found[-4:], sessions[3::-1])


async def prefixes(case: Case) -> None:
    """sessions lists those whose ids start with the prefix, by code points, and no other."""
    base = case.new_session()
    sessions = [start + end for start in (base, base.upper()) for end in ID_ENDS]
    for session in sessions:
        await case.store.append(Turn(session, case.items[:1]))
    for end in PREFIXES:
        prefix = base + end
        named = [each for each in reversed(sessions) if each.startswith(prefix)]
        expect(f"the sessions with prefix={prefix!r}", await listed(case, prefix), named)

    page = await catalog(case).sessions(limit=len(sessions))
    expect("the sessions without a prefix", ids_of(page), sessions[::-1])


async def cursors(case: Case) -> None:
    """A cursor of another prefix, or a text that is no cursor, raises ValueError."""
    base = case.new_session()
    for end in "abc":
        await case.store.append(Turn(base + end, case.items[:1]))
    page = await catalog(case).sessions(prefix=base, limit=1)
    cursor = str(page.next)

    for prefix in ("", base[:-1], f"{base}a"):
        call = catalog(case).sessions(prefix=prefix, after=cursor)
        await expect_error(ValueError, call, f"the cursor of prefix={base!r} with {prefix!r}")
    for bad in ("", " ", "x", base, "\ud800", "\u00e9", f"{cursor}!", f"\n{cursor}", "AAAA"):
        call = catalog(case).sessions(prefix=base, after=bad)
        await expect_error(ValueError, call, f"after={bad!r}")
    others: list[Any] = [0, True, 1.5, cursor.encode(), [cursor], page]
    for other in others:
        await expect_bad_argument(partial(catalog(case).sessions, prefix=base, after=other))


async def bad_arguments(case: Case) -> None:
    """Bad arguments of the catalogue raise TypeError or ValueError, and nothing is written."""
    session, new = case.new_session(), case.new_session()
    turn = Turn(session, case.items)
    await case.store.append(turn)
    before = await catalog(case).describe(session)

    sessions, describe = catalog(case).sessions, catalog(case).describe
    annotate, fork = catalog(case).annotate, catalog(case).fork
    texts: list[Any] = [f"{session}\ud800", None, 3]
    calls: list[partial[Any]] = [partial(sessions, prefix=bad) for bad in texts]
    limits: list[Any] = [*BAD_LIMITS, 0, None]
    calls += [partial(sessions, limit=bad) for bad in limits]
    for bad in BAD_IDS:
        calls += [partial(describe, bad), partial(annotate, bad, {}), partial(fork, bad, new)]
        calls += [partial(fork, session, bad)]
    mappings: list[Any] = [None, 3, "title", [("title", "Rome")], ["title"]]
    for bad in mappings:
        calls += [partial(annotate, session, bad), partial(annotate, new, bad, create=True)]
    calls += [partial(fork, session, new, before=bad) for bad in BAD_IDS if bad is not None]

    for call in calls:
        await expect_bad_argument(call)
    expect("the session", await describe(session), before)
    expect("the new session", await describe(new), None)


async def description(case: Case) -> None:
    """describe counts items and turns, and has the revision that load returns."""
    store, session = case.store, case.new_session()
    first, last = Turn(session, case.items), Turn(session, case.items[:1])
    await store.append(first)
    await _expect_described(case, session, items=3, turns=1)
    revision = await store.append(last)
    await _expect_described(case, session, items=4, turns=2)

    empty: Turn[Any] = Turn(session, [], replaces=last.turn_id, expected_revision=revision)
    await store.append(empty)
    await _expect_described(case, session, items=3, turns=2)
    await store.pop(session)
    await _expect_described(case, session, items=2, turns=1)

    revision = (await store.load(session)).revision
    replaced = Turn(session, case.items, replaces=first.turn_id, expected_revision=revision)
    await store.append(replaced)
    await _expect_described(case, session, items=3, turns=1)
    for _ in case.items:
        await store.pop(session)
    await _expect_described(case, session, items=0, turns=0)
    await store.append(first)
    await store.clear(session)
    await _expect_described(case, session, items=0, turns=0)


async def _expect_described(case: Case, session: str, *, items: int, turns: int) -> None:
    info = await expect_there(case, session)
    revision = (await case.store.load(session)).revision
    found = (info.session_id, info.items, info.turns, info.revision)
    expect("id, items, turns and revision", found, (session, items, turns, revision))
    expect("the metadata and the source", (dict(info.metadata), info.forked_from), ({}, None))
    page = await catalog(case).sessions(prefix=session)
    expect("the description in a page", [*page], [info])


async def absent_session(case: Case) -> None:
    """describe returns None for a session that was never written to, or that is erased."""
    session = case.new_session()
    expect("a session never written to", await catalog(case).describe(session), None)
    await case.store.load(session)
    await case.store.append(Turn(session, []))
    expect("a session that was only read", await catalog(case).describe(session), None)
    if isinstance(case.store, SessionErasure):
        await case.store.append(Turn(session, case.items))
        await case.store.erase(session_id=session)
        expect("an erased session", await catalog(case).describe(session), None)
        expect("the page of an erased session", await listed(case, session), [])


async def session_times(case: Case) -> None:
    """A session has the times of its creation and of the last change of its turns, in UTC."""
    store, session = case.store, case.new_session()
    earliest = datetime.now(UTC) - CLOCK_DIFFERENCE
    await store.append(Turn(session, [case.items[0]] * MAX_TRIES))
    latest = datetime.now(UTC) + CLOCK_DIFFERENCE

    info = await expect_there(case, session)
    for time in (info.created_at, info.updated_at):
        expect("the offset of the time from UTC", time.utcoffset(), timedelta(0))
        if not earliest <= time <= latest:
            msg = f"the time: expected {earliest} to {latest}, found {time}"
            raise AssertionError(msg)

    def append() -> Any:
        return store.append(Turn(session, case.items))

    for change in (partial(store.pop, session), append, partial(store.clear, session)):
        before = await expect_there(case, session)
        for _ in range(MAX_TRIES):
            await change()
            now = await expect_there(case, session)
            expect("the time of the creation", now.created_at, info.created_at)
            if now.updated_at != before.updated_at:
                break
        else:
            msg = f"updated_at stays {before.updated_at} after {MAX_TRIES} changes"
            raise AssertionError(msg)


def catalog(case: Case) -> SessionCatalog:
    """Return the store of *case*, which has the capability."""
    return cast("SessionCatalog", case.store)


def ids_of(page: Sequence[SessionInfo]) -> list[str]:
    """Return the session ids of a page."""
    return [info.session_id for info in page]


async def listed(case: Case, prefix: str) -> list[str]:
    """Return the ids of all sessions with *prefix*, in the order of the catalogue."""
    return [session for page in await _pages(case, prefix, 50) for session in page]


async def expect_there(case: Case, session: str) -> SessionInfo:
    """Return the description of *session*; raise `AssertionError` if there is none."""
    info = await catalog(case).describe(session)
    if info is None:
        msg = f"describe({session!r}) returned None for a session that exists"
        raise AssertionError(msg)
    return info


async def _pages(case: Case, prefix: str, limit: int) -> list[list[str]]:
    """Return the session ids of each page of a walk."""
    page = await catalog(case).sessions(prefix=prefix, limit=limit)
    pages = [ids_of(page)]
    while page.next is not None:
        page = await catalog(case).sessions(prefix=prefix, limit=limit, after=page.next)
        pages.append(ids_of(page))
    return pages


CATALOG_RULES: tuple[Rule, ...] = (
    order_of_activity,
    walk,
    walk_during_changes,
    prefixes,
    cursors,
    bad_arguments,
    description,
    absent_session,
    session_times,
)
