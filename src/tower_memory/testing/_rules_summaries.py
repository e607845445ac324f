"""Rules about the capability `SessionSummaries`."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

from anyio import create_task_group

from tower_memory._capabilities.search import SessionSearch
from tower_memory._capabilities.summaries import SessionSummaries, Summary
from tower_memory._turn import Turn
from tower_memory.testing._case import (
    BAD_IDS,
    IDS,
    ITEMS,
    Case,
    Rule,
    expect,
    expect_bad_argument,
    expect_near,
    similar_ids,
)
from tower_memory.testing._rules_journal import described

_TEXTS = ("", "one two", "\u2028\ufeff\U0001f600 e\u0301 '\"%\\\n", "long " * 20_000)


async def saved_summary(case: Case) -> None:
    """save_summary stores a summary, with its end and time, and returns it as load_summary does."""
    session, summaries = case.new_session(), summaries_of(case)
    expect("the summary of no session", await summaries.load_summary(session), None)
    await case.store.append(Turn(session, case.items[:1], turn_id="a"))
    await case.store.append(Turn(session, case.items, turn_id="b" * 32))
    await append_without_items(case, session, "no items")
    since = await case.store.append(Turn(session, case.items[:2], turn_id="c"))

    ends = {"a": 1, "b" * 32: 4, "no items": 4, "c": 6}
    before = datetime.now(UTC)
    for text, (turn_id, end) in zip(_TEXTS, ends.items(), strict=True):
        saved = await save(case, session, turn_id, since, name=turn_id, text=text)
        found = saved and (saved.text, saved.turn_id, saved.end)
        expect("the saved summary", found, (text, turn_id, end))
        expect_near("created_at", saved and saved.created_at, before)
        loaded = await summaries.load_summary(session, name=turn_id)
        expect("the loaded summary", loaded, saved)
    expect("the summary of another name", await summaries.load_summary(session), None)


async def summaries_apart(case: Case) -> None:
    """Summaries of different sessions, or with different names, are different summaries."""
    sessions, expected = similar_ids(case), dict[tuple[str, str], Any]()
    for session in sessions:
        since = await case.store.append(Turn(session, case.items, turn_id="t"))
        for name in (session, *IDS[:7]):
            text = f"{len(expected)}"
            saved = await save(case, session, "t", since, name=name, text=text)
            expect("the text of the saved summary", saved and saved.text, text)
            expected[session, name] = saved

    for (session, name), saved in expected.items():
        found = await summaries_of(case).load_summary(session, name=name)
        expect(f"the summary {name!r} of {session!r}", found, saved)


async def larger_summary(case: Case) -> None:
    """A summary takes the place of one that covers fewer turns; any other stays."""
    session = case.new_session()
    for turn_id in ("1", "2", "3"):
        await case.store.append(Turn(session, case.items, turn_id=turn_id))
    since = await append_without_items(case, session, "4")

    present: Summary | None = None
    stored = [("2", True), ("1", False), ("2", False), ("3", True), ("2", False)]
    stored += [("4", True), ("4", False), ("3", False)]
    for number, (turn_id, is_stored) in enumerate(stored):
        saved = await save(case, session, turn_id, since, text=f"text {number}")
        if is_stored:
            found = saved and (saved.turn_id, saved.text)
            expect("the stored summary", found, (turn_id, f"text {number}"))
            present = saved

        expect(f"the result for the turn {turn_id!r}", saved, present)
        expect("the loaded summary", await summaries_of(case).load_summary(session), present)


async def only_summary_saved(case: Case) -> None:
    """A summary changes no revision, time, order or history, and is in no hit of a search."""
    session, store = case.new_session(), case.store
    other = f"{session} other"
    for each in (session, other):
        await store.append(Turn(each, case.items, turn_id="t"))
    before, infos = await store.load(session), await described(case, session)

    await summaries_of(case).save_summary(session, "seldom", turn_id="t", since=before.revision)
    await summaries_of(case).load_summary(session)
    after = await store.load(session)
    expect("the history", [*after], [*before])
    expect("the turns", [*map(repr, after.turns)], [*map(repr, before.turns)])
    expect("the revision", after.revision, before.revision)
    expect("the descriptions", await described(case, session), infos)
    if isinstance(store, SessionSearch) and case.items is ITEMS:
        expect("the hits", list(await store.search("seldom", prefix=session)), [])
    await store.append(
        Turn(session, case.items, since=before.revision, expected_revision=before.revision)
    )


async def simultaneous_summaries(case: Case) -> None:
    """If several callers save a summary at the same time, one is stored, and all get it."""
    session = case.new_session()
    since = await case.store.append(Turn(session, case.items, turn_id="t"))
    found: list[Summary | None] = []

    async def save_text(text: str) -> None:
        found.append(await save(case, session, "t", since, text=text))

    async with create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(save_text, str(number))

    stored = await summaries_of(case).load_summary(session)
    expect("a summary is stored", stored is not None, expected=True)
    expect("the summaries that the callers got", found, [stored] * 10)


async def bad_summary_arguments(case: Case) -> None:
    """Bad arguments of summaries raise TypeError or ValueError, and nothing is written."""
    session, summaries = case.new_session(), summaries_of(case)
    since = await case.store.append(Turn(session, case.items, turn_id="t"))
    good: dict[str, Any] = {"turn_id": "t", "since": since}
    calls: list[partial[Any]] = []
    for bad in BAD_IDS:
        calls += [partial(summaries.load_summary, bad)]
        calls += [partial(summaries.load_summary, session, name=bad)]
        calls += [partial(summaries.save_summary, bad, "text", **good)]
        calls += [partial(summaries.save_summary, session, "text", **good, name=bad)]
        calls += [partial(summaries.save_summary, session, "text", **{**good, "turn_id": bad})]
    texts: list[Any] = [None, 3, b"text", "\ud800"]
    calls += [partial(summaries.save_summary, session, bad, **good) for bad in texts]
    revisions: list[Any] = [None, "1", 1.0, True, 2**63, -(2**63) - 1]
    for bad in revisions:
        calls += [partial(summaries.save_summary, session, "text", turn_id="t", since=bad)]

    for call in calls:
        await expect_bad_argument(call)
    expect("the summary", await summaries.load_summary(session), None)


def summaries_of(case: Case) -> SessionSummaries:
    """Return the store of *case* as a store with summaries."""
    return cast("SessionSummaries", case.store)


async def save(
    case: Case, session: str, turn_id: str, since: int, *, name: str = "summary", text: str = "text"
) -> Summary | None:
    """Save a summary of the turns of *session* up to *turn_id*."""
    return await summaries_of(case).save_summary(
        session, text, turn_id=turn_id, since=since, name=name
    )


async def append_without_items(case: Case, session: str, turn_id: str) -> int:
    """Add a turn without items to the end of *session*, and return the revision."""
    old = Turn(session, case.items[:1])
    revision = await case.store.append(old)
    return await case.store.append(
        Turn(session, [], turn_id=turn_id, replaces=old.turn_id, expected_revision=revision)
    )


SUMMARY_RULES: tuple[Rule, ...] = (
    saved_summary,
    summaries_apart,
    larger_summary,
    only_summary_saved,
    simultaneous_summaries,
    bad_summary_arguments,
)
