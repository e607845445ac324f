"""Rules about the turns that a summary covers, for the capability `SessionSummaries`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tower_memory._capabilities.catalog import SessionCatalog
from tower_memory._capabilities.erasure import SessionErasure
from tower_memory._capabilities.summaries import Summary
from tower_memory._turn import Turn
from tower_memory.testing._case import Case, Rule, expect, similar_ids
from tower_memory.testing._rules_summaries import save, summaries_of


async def outdated_summary(case: Case) -> None:
    """save_summary writes nothing if its turns have changed since, or if the last is not held."""
    session, store = case.new_session(), case.store
    await _expect_refused(case, session, "1", 2**63 - 1)
    first = await store.append(Turn(session, case.items[:1], turn_id="1"))
    await _expect_refused(case, session, "2", first)
    second = await store.append(Turn(session, case.items, turn_id="2"))
    await _expect_refused(case, session, "2", first)
    await _expect_saved(case, session, "1", first)
    await _expect_saved(case, session, "2", second)

    # A replaced turn, and a later turn with the same id.
    third = await _replace(case, session, "2", case.items[:2], turn_id="3")
    await _expect_refused(case, session, "2", third)
    await _expect_refused(case, session, "3", second)
    fourth = await store.append(Turn(session, case.items, turn_id="2"))
    await _expect_refused(case, session, "2", third)
    await _expect_saved(case, session, "3", third)

    # A turn that has lost its newest item, and one that a later turn followed for a while.
    await store.pop(session)
    fifth = (await store.load(session)).revision
    await _expect_refused(case, session, "2", fourth)
    await _expect_saved(case, session, "2", fifth)
    await store.append(Turn(session, case.items[:1]))
    await store.pop(session)
    await _expect_saved(case, session, "2", fifth)

    for remove in _removals(case, session):
        since = (await store.load(session)).revision
        await remove()
        await _expect_refused(case, session, "1", since)
        revision = await store.append(Turn(session, case.items[:1], turn_id="1"))
        await _expect_refused(case, session, "1", since)
        await _expect_saved(case, session, "1", revision)


async def removed_with_turns(case: Case) -> None:
    """A summary is removed with each turn that it covers, and stays while these are unchanged."""
    store, session = case.store, case.new_session()
    before = await _expect_summarised(case, session)
    await store.append(Turn(session, case.items[:1], turn_id="4"))
    await _expect_left(case, session, before, "123")
    await store.pop(session)  # the turn 4
    await _expect_left(case, session, before, "123")
    await store.pop(session)  # an item of the turn 3
    await _expect_left(case, session, before, "12")
    await store.pop(session)
    await _expect_left(case, session, before, "12")

    session = case.new_session()
    before = await _expect_summarised(case, session)
    for replaces, turn_id in (("3", "4"), ("4", "5")):  # the turns 4 and 5 have no items
        revision = await _replace(case, session, replaces, [], turn_id=turn_id)
        await _expect_left(case, session, before, "12")
        before[turn_id] = await save(case, session, turn_id, revision, name=turn_id)
        await _expect_left(case, session, before, f"12{turn_id}")
    await store.pop(session)  # the turn 5, and an item of the turn 2
    await _expect_left(case, session, before, "1")

    # The ids of removed turns are used again.
    session = case.new_session()
    before = await _expect_summarised(case, session)
    await _replace(case, session, "2", case.items[:2], turn_id="4")
    for turn_id in "23":
        await store.append(Turn(session, case.items[:2], turn_id=turn_id))
    await _expect_left(case, session, before, "1")


async def removed_with_session(case: Case) -> None:
    """clear and erase remove all summaries of a session, and no summary of another session."""
    sessions = similar_ids(case)
    for remove in _removals(case, sessions[0]):
        left = {each: await _expect_summarised(case, each) for each in sessions}
        await remove()
        await _expect_left(case, sessions[0], left[sessions[0]], "")
        for turn_id in "123":
            await case.store.append(Turn(sessions[0], case.items[:2], turn_id=turn_id))
        await _expect_left(case, sessions[0], left[sessions[0]], "")

        for session in sessions[1:]:
            await _expect_left(case, session, left[session], "123")
        for session in sessions:
            await case.store.clear(session)


async def summary_of_fork(case: Case) -> None:
    """A fork begins without summaries and may have its own; those of its source stay."""
    if not isinstance(case.store, SessionCatalog):
        return
    session, new = case.new_session(), case.new_session()
    before = await _expect_summarised(case, session)
    source = (await case.store.load(session)).revision
    late = (await case.store.load(new)).revision
    revision = (await case.store.fork(session, new)).revision
    await _expect_left(case, new, before, "")
    await _expect_refused(case, new, "1", late)

    for turn_id, end in (("1", 2), ("2", 4), ("3", 6)):
        saved = await save(case, new, turn_id, revision, text=f"fork {turn_id}")
        found = saved and (saved.text, saved.turn_id, saved.end)
        expect("the summary of the fork", found, (f"fork {turn_id}", turn_id, end))
    await case.store.clear(new)
    await _expect_left(case, session, before, "123")
    await _expect_saved(case, session, "3", source)


async def _expect_saved(case: Case, session: str, turn_id: str, since: int) -> None:
    """Check that a summary is stored under a new name."""
    saved = await save(case, session, turn_id, since, name=case.new_session())
    expect(f"the turn of a summary since {since}", saved and saved.turn_id, turn_id)


async def _expect_refused(case: Case, session: str, turn_id: str, since: int) -> None:
    """Check that a summary is not stored."""
    name = case.new_session()
    saved = await save(case, session, turn_id, since, name=name)
    expect(f"a summary of the turn {turn_id!r} since {since}", saved, None)
    found = await summaries_of(case).load_summary(session, name=name)
    expect("the summary after a refusal", found, None)


async def _expect_summarised(case: Case, session: str) -> dict[str, Summary | None]:
    """Write three turns of two items, and return a summary up to each, by name: 1, 2 and 3."""
    revisions = [
        await case.store.append(Turn(session, case.items[:2], turn_id=turn_id)) for turn_id in "123"
    ]
    saved = {each: await save(case, session, each, revisions[-1], name=each) for each in "123"}
    ends = [each and each.end for each in saved.values()]
    expect("the ends of the summaries", ends, [2, 4, 6])
    return saved


async def _replace(
    case: Case, session: str, replaces: str, items: Sequence[Any], *, turn_id: str
) -> int:
    """Replace a turn, and all later turns, by the turn *turn_id*, and return the revision."""
    revision = (await case.store.load(session)).revision
    return await case.store.append(
        Turn(session, items, turn_id=turn_id, replaces=replaces, expected_revision=revision)
    )


async def _expect_left(
    case: Case, session: str, before: Mapping[str, Summary | None], names: str
) -> None:
    """Check that of the summaries *before*, those with one of the *names* are left."""
    for name, summary in before.items():
        found = await summaries_of(case).load_summary(session, name=name)
        expect(f"the summary {name}", found, summary if name in names else None)


def _removals(case: Case, session: str) -> list[partial[Any]]:
    """Return the calls that remove all turns of *session*."""
    clear = [partial(case.store.clear, session)]
    if not isinstance(case.store, SessionErasure):
        return clear
    return [*clear, partial(case.store.erase, session_id=session)]


COVERED_RULES: tuple[Rule, ...] = (
    outdated_summary,
    removed_with_turns,
    removed_with_session,
    summary_of_fork,
)
