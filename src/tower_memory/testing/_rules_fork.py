"""Rules about forks of sessions, a part of the capability `SessionCatalog`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import anyio

from tower_memory._capabilities.catalog import SessionInfo
from tower_memory._capabilities.erasure import SessionErasure
from tower_memory._errors import SessionCleared, SessionConflict, SessionError, TurnMissing
from tower_memory._turn import Turn
from tower_memory.testing._case import (
    MAX_TRIES,
    METADATA,
    Case,
    Rule,
    expect,
    expect_error,
    expect_identical,
)
from tower_memory.testing._rules_catalog import catalog, expect_there, listed


async def whole_fork(case: Case) -> None:
    """A fork has the items, turns and metadata of its source, and the turns keep their times."""
    session, new = case.new_session(), case.new_session()
    for metadata in (METADATA, None):
        await case.store.append(Turn(session, case.values, metadata=metadata))
    last = Turn(session, case.items)
    revision = await case.store.append(last)
    empty: Turn[Any] = Turn(session, [], replaces=last.turn_id, expected_revision=revision)
    await case.store.append(empty)
    await case.store.append(Turn(session, case.items))
    await case.store.pop(session)
    await catalog(case).annotate(session, {"title": "Rome", "nested": METADATA})

    info = await catalog(case).fork(session, new)
    expect("the result of fork", info, await expect_there(case, new))
    expect("the session id", info.session_id, new)
    await _expect_equal(case, session, new)
    expect_identical("the metadata", dict(info.metadata), {"title": "Rome", "nested": METADATA})


async def fork_before(case: Case) -> None:
    """With before, a fork has only the turns before that turn."""
    session = case.new_session()
    first, old = Turn(session, case.items), Turn(session, case.items[:1])
    await case.store.append(first)
    revision = await case.store.append(old)
    empty: Turn[Any] = Turn(session, [], replaces=old.turn_id, expected_revision=revision)
    turns = [first, empty, Turn(session, case.items[1:]), Turn(session, case.items, turn_id="4")]
    for turn in turns[1:]:
        await case.store.append(turn)

    for count, turn in enumerate(turns):
        new = case.new_session()
        await catalog(case).fork(session, new, before=turn.turn_id)
        await _expect_turns(case, new, turns[:count])


async def state_of_its_own(case: Case) -> None:
    """A fork is the last active session, with a time and a revision of its own."""
    session = case.new_session()
    await case.store.append(Turn(session, case.items))
    source = await expect_there(case, session)
    await case.store.append(Turn(f"{session} other", case.items))

    new = session
    info = source
    while info.created_at <= source.updated_at:
        new = f"{new}+"
        info = await catalog(case).fork(session, new)
        if len(new) > len(session) + MAX_TRIES:
            msg = f"forks were created at {info.created_at}, their source at {source.created_at}"
            raise AssertionError(msg)

    expect("the last active sessions", (await listed(case, session))[0], new)
    expect("the last change is not earlier", info.updated_at >= info.created_at, expected=True)
    expect("the revision", info.revision, (await case.store.load(new)).revision)
    turn = Turn(new, case.items, since=info.revision, expected_revision=info.revision)
    later = await case.store.append(turn)
    expect("the revision rises", later > info.revision, expected=True)
    expect("the source", await expect_there(case, session), source)


async def copied_turns_held(case: Case) -> None:
    """A fork holds the ids of the turns that it has, and no others."""
    session, new = case.new_session(), case.new_session()
    turns = [Turn(session, case.items[n : n + 1], turn_id=f"turn {n}") for n in range(3)]
    for turn in turns:
        await case.store.append(turn)
    info = await catalog(case).fork(session, new, before="turn 2")

    for turn in turns[:2]:
        revision = await case.store.append(replace(turn, session_id=new))
        expect("the revision after an append of a copied turn", revision, info.revision)
    await case.store.append(replace(turns[2], session_id=new))
    await _expect_turns(case, new, turns)


async def independent(case: Case) -> None:
    """A change of a session changes none of its forks, and a change of a fork not its source."""
    for name in ("append", "replace", "pop", "clear", "annotate", "erase"):
        for changes_the_fork in (False, True):
            session, new = case.new_session(), case.new_session()
            turns = [Turn(session, case.items[:2]), Turn(session, case.items[2:])]
            for turn in turns:
                await case.store.append(turn)
            await catalog(case).annotate(session, {"title": "Rome"})
            await catalog(case).fork(session, new)

            changed, other = (new, session) if changes_the_fork else (session, new)
            before = await expect_there(case, other)
            await _change(case, name, changed, turns[0].turn_id)
            now = replace(await expect_there(case, other), forked_from=before.forked_from)
            expect(f"the other session after {name}", now, before)
            await _expect_turns(case, other, turns)


async def _change(case: Case, name: str, session: str, turn_id: str) -> None:
    """Change *session* in the way with this *name*."""
    store, items = case.store, case.items
    revision = (await store.load(session)).revision
    if name == "append":
        await store.append(Turn(session, items))
    elif name == "replace":
        new = Turn(session, items, replaces=turn_id, expected_revision=revision)
        await store.append(new)
    elif name == "pop":
        await store.pop(session)
        await store.pop(session)
    elif name == "clear":
        await store.clear(session)
    elif name == "annotate":
        await catalog(case).annotate(session, {"title": "Trip"})
    elif isinstance(store, SessionErasure):
        await store.erase(session_id=session)


async def origin(case: Case) -> None:
    """forked_from names the source, and is None once that is erased, also if its id is reused."""
    first, second, third = sessions = [case.new_session() for _ in range(3)]
    await case.store.append(Turn(first, case.items))
    for source, new in pairwise(sessions):
        info = await catalog(case).fork(source, new)
        expect("the source", info.forked_from, source)
    for session, named in zip(sessions, (None, first, second), strict=True):
        info = await expect_there(case, session)
        expect("the source", info.forked_from, named)
        expect("the description in a page", [*await catalog(case).sessions(prefix=session)], [info])
    await case.store.clear(first)
    await case.store.append(Turn(second, case.items))
    expect("the source, cleared", (await expect_there(case, second)).forked_from, first)

    if isinstance(case.store, SessionErasure):
        await case.store.erase(session_id=first)
        expect("the source, erased", (await expect_there(case, second)).forked_from, None)
        await case.store.append(Turn(first, case.items))
        expect("the source, written again", (await expect_there(case, second)).forked_from, None)
        await case.store.erase(session_id=second)
        await catalog(case).fork(first, second)
        expect("the source, forked again", (await expect_there(case, third)).forked_from, None)


async def fork_refused(case: Case) -> None:
    """fork checks for the source, then for the turn, then for the target, and writes nothing."""
    base = case.new_session()
    session, there, new, never = (f"{base}{number}" for number in range(4))
    await case.store.append(Turn(session, case.items))
    await case.store.append(Turn(there, case.items[:1], turn_id="elsewhere"))
    sessions = await listed(case, base)
    infos = [await expect_there(case, each) for each in (session, there)]

    fork = catalog(case).fork
    refused: list[tuple[type[SessionError], partial[Any], str]] = [
        (SessionError, partial(fork, never, new), never),
        (SessionError, partial(fork, never, there, before="elsewhere"), never),
        (SessionError, partial(fork, never, never), never),
        (TurnMissing, partial(fork, session, new, before="elsewhere"), session),
        (TurnMissing, partial(fork, session, there, before="elsewhere"), session),
        (SessionConflict, partial(fork, session, there), there),
        (SessionConflict, partial(fork, session, session), session),
        (SessionConflict, partial(fork, there, session, before="elsewhere"), session),
    ]
    for kind, call, named in refused:
        error = await expect_error(kind, call(), f"fork{call.args}")
        expect("the type of the error", type(error), kind)
        expect("the session of the error", error.session_id, named)
        if isinstance(error, TurnMissing):
            expect("the turn of the error", error.turn_id, "elsewhere")
    expect("the sessions", await listed(case, base), sessions)
    expect("both sessions", [await expect_there(case, each) for each in (session, there)], infos)


async def fork_to_removed(case: Case) -> None:
    """A fork may take the id of a removed session, of which no turn in progress comes back."""
    session, new = case.new_session(), case.new_session()
    await case.store.append(Turn(session, case.items))
    late = Turn(new, case.items[:1], since=(await case.store.load(new)).revision)
    await case.store.clear(new)
    await _expect_late_refused(case, late, await catalog(case).fork(session, new))

    if isinstance(case.store, SessionErasure):
        late = Turn(new, case.items[:1], since=(await case.store.load(new)).revision)
        await case.store.erase(session_id=new)
        await _expect_late_refused(case, late, await catalog(case).fork(session, new))


async def _expect_late_refused(case: Case, late: Turn[Any], fork: SessionInfo) -> None:
    """Check that *late*, which was in progress before its session was removed, is refused."""
    await expect_error(SessionCleared, case.store.append(late), "a turn in progress")
    expect("the fork", await case.load(fork.session_id), list(case.items))


async def simultaneous_forks(case: Case) -> None:
    """If several callers fork to the same new session at the same time, exactly one succeeds."""
    new = case.new_session()
    sessions = [case.new_session() for _ in range(10)]
    for session in sessions:
        await case.store.append(Turn(session, case.items))
    succeeded: list[str] = []

    async def fork(session: str) -> None:
        try:
            await catalog(case).fork(session, new)
        except SessionConflict:
            return
        succeeded.append(session)

    async with anyio.create_task_group() as tasks:
        for session in sessions:
            tasks.start_soon(fork, session)
    expect("the number of forks that succeeded", len(succeeded), 1)
    expect("the source", (await expect_there(case, new)).forked_from, succeeded[0])
    await _expect_equal(case, succeeded[0], new)


async def _expect_equal(case: Case, session: str, new: str) -> None:
    """Check that both sessions have the same items and turns."""
    source, fork = await case.store.load(session), await case.store.load(new)
    expect_identical("the items of the fork", [*fork], [*source])
    expect("the turns of the fork", [*map(repr, fork.turns)], [*map(repr, source.turns)])
    infos = await expect_there(case, session), await expect_there(case, new)
    counts = [(info.items, info.turns) for info in infos]
    expect("items and turns of the fork", counts[1], counts[0])


async def _expect_turns(case: Case, session: str, turns: list[Turn[Any]]) -> None:
    """Check that *session* consists of *turns*."""
    history, info = await case.store.load(session), await expect_there(case, session)
    items = [item for turn in turns for item in turn.items]
    expect("the items", [*history], items)
    expect("the turns", [turn.turn_id for turn in history.turns], [turn.turn_id for turn in turns])
    expect("items and turns", (info.items, info.turns), (len(items), len(turns)))


FORK_RULES: tuple[Rule, ...] = (
    whole_fork,
    fork_before,
    state_of_its_own,
    copied_turns_held,
    independent,
    origin,
    fork_refused,
    fork_to_removed,
    simultaneous_forks,
)
