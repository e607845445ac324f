"""Rules about the metadata of sessions, a part of the capability `SessionCatalog`."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import anyio

from tower_memory._capabilities.erasure import SessionErasure
from tower_memory._errors import SessionCleared, UnencodableItemError
from tower_memory._turn import Turn
from tower_memory.testing._case import (
    METADATA,
    OPTIONAL_VALUES,
    VALUES,
    Case,
    Rule,
    expect,
    expect_error,
    expect_identical,
    mutate,
    unencodable_values,
)
from tower_memory.testing._rules_catalog import catalog, expect_there, listed


async def metadata_merged(case: Case) -> None:
    """annotate merges a mapping into the metadata, in value and in type; None removes a key."""
    session = await _new_session(case)
    given = {"title": "Rome", "values": list(VALUES), "nested": {"a": None}}
    steps: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (given, given),
        ({"title": "Trip", "": 0}, {**given, "title": "Trip", "": 0}),
        ({}, {**given, "title": "Trip", "": 0}),
        ({"values": None, "": None, "absent": None}, {"title": "Trip", "nested": {"a": None}}),
        ({"nested": {"b": 1}}, {"title": "Trip", "nested": {"b": 1}}),
        ({"title": None, "nested": None}, {}),
    ]
    for added, expected in steps:
        info = await catalog(case).annotate(session, added)
        expect("the result of annotate", info, await expect_there(case, session))
        await _expect_metadata(case, session, expected)

    added = deepcopy(METADATA)
    await catalog(case).annotate(session, {"given": added})
    mutate(added)
    mutate(dict((await expect_there(case, session)).metadata))
    await _expect_metadata(case, session, {"given": METADATA})


async def keys_kept(case: Case) -> None:
    """With overwrite=False, annotate adds keys, and changes and removes none."""
    session = await _new_session(case)
    await catalog(case).annotate(session, {"title": "Rome", "empty": ""}, overwrite=False)
    added = {"title": "Trip", "empty": None, "new": 1, "absent": None}
    await catalog(case).annotate(session, added, overwrite=False)
    await _expect_metadata(case, session, {"title": "Rome", "empty": "", "new": 1})


async def absent_annotated(case: Case) -> None:
    """annotate of an absent session returns None and writes nothing, unless create is True."""
    session = case.new_session()
    result = await catalog(case).annotate(session, {"title": "Rome"})
    expect("the result without a session", result, None)
    expect("the description", await catalog(case).describe(session), None)
    expect("the sessions", await listed(case, session), [])

    before = (await case.store.load(session)).revision
    turn = Turn(session, case.items, since=before, expected_revision=before)
    await case.store.append(Turn(f"{session} other", case.items[:1]))
    info = await catalog(case).annotate(session, {"title": "Rome", "a": None}, create=True)
    expect("the result with create=True", info, await expect_there(case, session))
    await _expect_metadata(case, session, {"title": "Rome"})
    expect("the sessions", await listed(case, session), [session, f"{session} other"])

    history = await case.store.load(session)
    there = await expect_there(case, session)
    expect("items and turns", (there.items, there.turns, [*history.turns]), (0, 0, []))
    expect("the revision", there.revision, history.revision)
    await case.store.append(turn)
    expect("the session after its first turn", await case.load(session), list(case.items))
    await catalog(case).annotate(session, {"a": 1}, create=True)
    await _expect_metadata(case, session, {"title": "Rome", "a": 1})
    expect("the session after create=True", await case.load(session), list(case.items))


async def only_metadata_changed(case: Case) -> None:
    """annotate changes neither the revision, the times, the history nor the order of sessions."""
    session = await _new_session(case)
    await case.store.append(Turn(f"{session} other", case.items[:1]))
    order = await listed(case, session)
    before, history = await expect_there(case, session), await case.store.load(session)

    for added in ({"title": "Rome"}, {"title": None}):
        await catalog(case).annotate(session, added, create=True)
        expect("the order", await listed(case, session), order)
        now = await case.store.load(session)
        expect("the history", [*now], [*history])
        expect("the turns", [*map(repr, now.turns)], [*map(repr, history.turns)])
        expect("the revision", now.revision, history.revision)
    expect("the description", await expect_there(case, session), before)
    late = Turn(session, case.items, since=before.revision, expected_revision=before.revision)
    await case.store.append(late)


async def metadata_stays(case: Case) -> None:
    """The metadata of a session stays when its turns are added, popped, replaced or cleared."""
    session = await _new_session(case)
    await catalog(case).annotate(session, METADATA | {"a": 1})
    turn = Turn(session, case.items)
    revision = await case.store.append(turn)
    await _expect_metadata(case, session, METADATA | {"a": 1})
    new = Turn(session, case.items, replaces=turn.turn_id, expected_revision=revision)
    await case.store.append(new)
    await _expect_metadata(case, session, METADATA | {"a": 1})
    for change in (case.store.pop, case.store.clear):
        await change(session)
        await _expect_metadata(case, session, METADATA | {"a": 1})


async def metadata_refused(case: Case) -> None:
    """Metadata of a session that cannot be stored unchanged is refused, and nothing changes."""
    session, absent = await _new_session(case), case.new_session()
    await catalog(case).annotate(session, METADATA)
    expected = {key: value for key, value in METADATA.items() if value is not None}
    for bad in (*OPTIONAL_VALUES, *unencodable_values()):
        try:
            await catalog(case).annotate(session, {"good": 1, "bad": {"deep": bad}})
        except UnencodableItemError:
            await _expect_metadata(case, session, expected)
        else:
            await _expect_metadata(case, session, expected | {"good": 1, "bad": {"deep": bad}})
            await catalog(case).annotate(session, {"good": None, "bad": None})

    for bad in unencodable_values():
        call = catalog(case).annotate(absent, {"bad": bad}, create=True)
        await expect_error(UnencodableItemError, call, f"annotate with {bad!r}")
    expect("the session to create", await catalog(case).describe(absent), None)


async def simultaneous_merges(case: Case) -> None:
    """Metadata that several callers merge at the same time is all kept."""
    session = await _new_session(case)
    expected = {f"key {number}": number for number in range(20)}
    async with anyio.create_task_group() as tasks:
        for key, value in expected.items():
            tasks.start_soon(catalog(case).annotate, session, {key: value})
    found = (await expect_there(case, session)).metadata
    expect("the metadata", dict(sorted(found.items())), dict(sorted(expected.items())))


async def not_revived(case: Case) -> None:
    """annotate revives no removed session, and with create no turn in progress before that."""
    never = case.new_session()
    since = (await case.store.load(never)).revision
    await case.store.clear(never)
    await _expect_refused(case, Turn(never, case.items, since=since))

    if isinstance(case.store, SessionErasure):
        session = await _new_session(case)
        await catalog(case).annotate(session, {"title": "Rome"})
        since = (await case.store.load(session)).revision
        await case.store.erase(session_id=session)
        result = await catalog(case).annotate(session, {"title": "late"})
        expect("the result for an erased session", result, None)
        expect("the erased session", await catalog(case).describe(session), None)
        await _expect_refused(case, Turn(session, case.items, since=since))


async def _expect_refused(case: Case, late: Turn[Any]) -> None:
    """Check that *late*, whose session was removed, is refused once the session is annotated."""
    session = late.session_id
    removed = (await case.store.load(session)).revision
    await catalog(case).annotate(session, {"new": 1}, create=True)
    await _expect_metadata(case, session, {"new": 1})
    await expect_error(SessionCleared, case.store.append(late), "a turn in progress")
    expect("the session", await case.load(session), [])
    await case.store.append(Turn(session, case.items[:1], since=removed))
    await expect_error(SessionCleared, case.store.append(late), "a turn in progress, once more")
    expect("the session", await case.load(session), list(case.items[:1]))


async def _new_session(case: Case) -> str:
    """Return the id of a new session of one turn."""
    session = case.new_session()
    await case.store.append(Turn(session, case.items))
    return session


async def _expect_metadata(case: Case, session: str, expected: dict[str, Any]) -> None:
    found = (await expect_there(case, session)).metadata
    expect_identical("the metadata", dict(found), expected)


ANNOTATE_RULES: tuple[Rule, ...] = (
    metadata_merged,
    keys_kept,
    absent_annotated,
    only_metadata_changed,
    metadata_stays,
    metadata_refused,
    simultaneous_merges,
    not_revived,
)
