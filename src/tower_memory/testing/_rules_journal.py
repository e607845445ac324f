"""Rules about the capability `TurnJournal`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf, nan
from typing import Any, cast

from tower_memory._capabilities.catalog import SessionCatalog
from tower_memory._capabilities.erasure import SessionErasure
from tower_memory._capabilities.journal import PendingTurn, TurnJournal
from tower_memory._capabilities.search import SessionSearch
from tower_memory._errors import SessionCleared, SessionConflict, TurnMissing, UnencodableItemError
from tower_memory._turn import Turn
from tower_memory.testing._case import (
    BAD_IDS,
    ITEMS,
    METADATA,
    Case,
    Rule,
    expect,
    expect_bad_argument,
    expect_error,
    expect_identical,
    expect_near,
    mutate,
    similar_ids,
    unencodable_values,
)

LONG = 3600.0
"""A lease in seconds that stays valid during a rule."""


async def pending_turns(case: Case) -> None:
    """pending returns the turns that have begun and are not saved, the oldest first."""
    session, journal = case.new_session(), journal_of(case)
    expect("the pending turns of no session", await journal.pending(session), [])

    old = Turn(session, case.items[:1])
    revision = await case.store.append(old)
    first = Turn(session, case.items, turn_id="c", metadata=METADATA)
    empty: Turn[Any] = Turn(session, [], turn_id="a", since=revision)
    last = Turn(
        *(session, case.items[1:]),
        turn_id="b" * 32,
        replaces=old.turn_id,
        expected_revision=revision,
    )

    before = datetime.now(UTC)
    await journal.begin(first, lease=LONG, owner="me")
    await journal.begin(empty, lease=inf)
    await journal.begin(last)
    pending = await journal.pending(session)

    begun = (first, empty, last)
    expect("the ids", [each.turn_id for each in pending], [turn.turn_id for turn in begun])
    for each, turn in zip(pending, begun, strict=True):
        expect("the items", list(each.items), list(turn.items))
        expect("the metadata", dict(each.metadata), turn.metadata or {})
        expect("the turn to replace", each.replaces, turn.replaces)
        expect("the state", each.state, "running")
        expect_near("created_at", each.created_at, before)
    expect_near("lease_until", pending[0].lease_until, before + timedelta(seconds=LONG))
    expect("the end of no lease", pending[2].lease_until, None)


async def pending_items(case: Case) -> None:
    """The items of a pending turn come back in value and in type, as copies, or are refused."""
    session, journal = case.new_session(), journal_of(case)
    await journal.begin(Turn(session, case.values, turn_id="values"))
    (pending,) = await journal.pending(session)
    expect_identical("the items", list(pending.items), list(case.values))

    for item in pending.items:
        mutate(item)
    (pending,) = await journal.pending(session)
    expect_identical("the items after a change", list(pending.items), list(case.values))

    for bad in unencodable_values():
        subject = f"a turn with the item {type(bad).__name__}"
        turn = Turn(session, [*case.items, {"role": "user", "content": bad}])
        await expect_error(UnencodableItemError, journal.begin(turn), subject)
    expect("the number of pending turns", len(await journal.pending(session)), 1)


async def pending_apart(case: Case) -> None:
    """A pending turn is in no history and no hit, and changes no revision, time or count."""
    session, journal, store = case.new_session(), journal_of(case), case.store
    new, later = f"{session}-new", f"{session}-later"
    for each in (session, later):
        await store.append(Turn(each, case.items[:1]))
    before = await store.load(session)
    infos = await described(case, session)

    turn = Turn(session, case.items, turn_id="t", since=before.revision)
    await journal.begin(turn)
    await journal.fail(session, "t")
    await journal.begin(turn)
    after = await store.load(session)
    expect("the history", (list(after), len(after.turns)), (list(before), 1))
    expect("the revision", after.revision, before.revision)
    expect("the descriptions", await described(case, session), infos)
    if isinstance(store, SessionSearch) and case.items is ITEMS:
        expect("the hits", list(await store.search("three", prefix=session)), [])

    await journal.begin(replace(turn, session_id=new, since=0))
    history = await store.load(new)
    expect("a new session", (list(history), len(history.turns), history.revision), ([], 0, 0))
    listed = await described(case, new)
    if isinstance(store, SessionCatalog):
        expect("the items and turns", [(each.items, each.turns) for each in listed], [(0, 0)])


async def append_ends_pending(case: Case) -> None:
    """append of a pending turn of any owner ends it; a refused append does not."""
    session, journal = case.new_session(), journal_of(case)
    first, last, other = (Turn(session, case.items, turn_id=each) for each in ("a" * 32, "l", "o"))
    for turn, owner in ((first, None), (last, "me"), (other, None)):
        await journal.begin(turn, lease=LONG, owner=owner)

    for count, turn in enumerate((first, last), start=1):
        await case.store.append(turn)
        expect("the session", await case.load(session), [*case.items] * count)
        left = {*await pending_by_id(case, session)}
        expect("the pending turns", left, {"l", "o"} if count == 1 else {"o"})

    refused = replace(other, expected_revision=-1)
    await expect_error(SessionConflict, case.store.append(refused), "an outdated turn")
    expect("the number of pending turns", len(await journal.pending(session)), 1)
    await case.store.append(replace(other, items=[]))
    expect("the pending turns after an append without items", await journal.pending(session), [])


async def removals_end_pending(case: Case) -> None:
    """forget ends one pending turn; clear and erase end those of one session, of any owner."""
    journal, sessions = journal_of(case), similar_ids(case)
    ends = ["forget", "clear", *(["erase"] if isinstance(case.store, SessionErasure) else [])]
    for end in ends:
        for session in sessions:
            for owner, turn_id in ((None, "t"), ("me", "T")):
                turn = Turn(session, case.items, turn_id=turn_id)
                await journal.begin(turn, lease=LONG, owner=owner)

        await _remove(case, end, sessions[0])
        left = [len(await journal.pending(session)) for session in sessions]
        others = [2] * (len(sessions) - 1)
        expect(f"the numbers after {end}", left, [1 if end == "forget" else 0, *others])
        for session in sessions:
            await case.store.clear(session)
    await journal.forget(sessions[0], "t")


async def _remove(case: Case, end: str, session: str) -> None:
    if end == "forget":
        await journal_of(case).forget(session, "t")
        expect("the turns left", {*await pending_by_id(case, session)}, {"T"})
    elif end == "clear":
        await case.store.clear(session)
    else:
        await cast("SessionErasure", case.store).erase(session_id=session)


async def begin_held(case: Case) -> None:
    """begin of a turn that the session holds writes nothing, before any other check."""
    session, journal = case.new_session(), journal_of(case)
    turn = Turn(session, case.items)
    revision = await case.store.append(turn)
    await case.store.append(Turn(session, case.items))
    outdated = replace(turn, since=revision, expected_revision=revision)
    for each in (turn, outdated, replace(turn, items=[])):
        await journal.begin(each)
        expect("the pending turns", await journal.pending(session), [])


async def begin_refused(case: Case) -> None:
    """begin refuses a turn as append does, and then writes nothing."""
    journal, session = journal_of(case), case.new_session()
    old = Turn(session, case.items[:1])
    first = await case.store.append(old)
    begun = Turn(session, case.items[:1], turn_id="t")
    await journal.begin(begun)
    kept = await pending_by_id(case, session)

    new = Turn(session, case.items[1:], turn_id="t")

    outdated = replace(new, expected_revision=first - 1)
    await expect_error(SessionConflict, journal.begin(outdated), "an outdated turn")
    missing = replace(new, replaces="never", expected_revision=first)
    await expect_error(TurnMissing, journal.begin(missing), "a turn to replace a missing turn")

    await case.store.append(
        Turn(session, case.items[:1], replaces=old.turn_id, expected_revision=first)
    )
    late = replace(new, since=first)
    await expect_error(SessionConflict, journal.begin(late), "a turn loaded before a replacement")
    expect("the pending turns", await pending_by_id(case, session), kept)

    await case.store.clear(session)
    await expect_error(SessionCleared, journal.begin(late), "a turn loaded before a clear")
    expect("the pending turns of a cleared session", await journal.pending(session), [])
    if isinstance(case.store, SessionErasure):
        revision = (await case.store.load(session)).revision
        await case.store.erase(session_id=session)
        late = replace(new, since=revision)
        await expect_error(SessionCleared, journal.begin(late), "a turn loaded before an erasure")
        expect("the pending turns of no session", await journal.pending(session), [])
        expect("the descriptions of no session", await described(case, session), [])


async def bad_journal_arguments(case: Case) -> None:
    """Bad arguments of a journal raise TypeError or ValueError, and nothing is written."""
    session, journal = case.new_session(), journal_of(case)
    turn: Any = Turn(session, case.items, turn_id="t")
    no_turns: list[Any] = [None, session, {}]
    calls: list[partial[Any]] = [partial(journal.begin, bad) for bad in no_turns]
    leases: list[Any] = [0, -1, nan, "1", True]
    calls += [partial(journal.begin, turn, lease=bad) for bad in leases]
    for bad in BAD_IDS:
        calls += [partial(call, bad, "t") for call in (journal.fail, journal.forget)]
        calls += [partial(call, session, bad) for call in (journal.fail, journal.forget)]
        calls.append(partial(journal.pending, bad))
        if bad is not None:
            calls.append(partial(journal.begin, turn, owner=bad))
            calls.append(partial(journal.fail, session, "t", owner=bad))

    for call in calls:
        await expect_bad_argument(call)
    expect("the pending turns", await journal.pending(session), [])


def journal_of(case: Case) -> TurnJournal[Any]:
    """Return the store of *case* as a journal."""
    return cast("TurnJournal[Any]", case.store)


async def described(case: Case, prefix: str) -> list[Any]:
    """Return the descriptions of sessions; nothing if the store has no catalogue."""
    if not isinstance(case.store, SessionCatalog):
        return []
    return list(await case.store.sessions(prefix=prefix))


async def pending_by_id(case: Case, session: str) -> dict[str, PendingTurn[Any]]:
    """Return the pending turns of *session* by id; equal turns are equal objects."""
    return {
        each.turn_id: replace(each, items=list(each.items), metadata=dict(each.metadata))
        for each in await journal_of(case).pending(session)
    }


JOURNAL_RULES: tuple[Rule, ...] = (
    pending_turns,
    pending_items,
    pending_apart,
    append_ends_pending,
    removals_end_pending,
    begin_held,
    begin_refused,
    bad_journal_arguments,
)
