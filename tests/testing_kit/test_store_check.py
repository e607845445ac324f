"""The check of a store's contract: our stores pass, and a broken store fails its rule only."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from helpers.broken_stores import BROKEN, PopsTheOldest
from helpers.plain_catalog import Catalogued, OnlyCatalogued
from helpers.plain_store import Erasing, Journalling, Plain, Searching
from helpers.plain_summaries import Summarising, SummarisingForks
from tower_memory import (
    InMemorySessionStore,
    MessageItem,
    Role,
    RunItem,
    SqliteSessionStore,
    ToolCallItem,
    ToolOutputItem,
)
from tower_memory.testing import StoreBroken, StoreReport, check_session_store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STORE_RULES, CATALOG_RULES, SEARCH_RULES, ERASURE_RULES = 39, 26, 12, 11
JOURNAL_RULES, SUMMARY_RULES = 12, 10
ALL_RULES = (
    STORE_RULES + CATALOG_RULES + SEARCH_RULES + ERASURE_RULES + JOURNAL_RULES + SUMMARY_RULES
)
ALL_GROUPS = [
    *("SessionStore", "SessionCatalog", "SessionSearch", "SessionErasure", "TurnJournal"),
    "SessionSummaries",
]
RUN_ITEMS = [
    MessageItem("1", Role.USER, "What is 2 + 2?", NOW),
    ToolCallItem("2", "add", {"a": 2, "b": 2}, NOW),
    ToolOutputItem("3", "2", 4, None, NOW),
]


@dataclass(frozen=True)
class Point:
    x: int


def our_stores():
    """Yield each of our stores, on both runtimes unless only the type of its items differs."""
    for kind in ("in memory", "sqlite file", "sqlite in memory"):
        for items, name in ((None, "JSON values"), (RUN_ITEMS, "run items")):
            # Items are encoded before a connection writes them, to a file or to memory.
            for runtime in ("asyncio", "trio"):
                is_first = kind == "in memory" or (kind, runtime) == ("sqlite file", "asyncio")
                marks = () if items is None or is_first else pytest.mark.long
                yield pytest.param(kind, items, runtime, id=f"{kind}-{name}-{runtime}", marks=marks)


@pytest.mark.parametrize(("kind", "items", "anyio_backend"), [*our_stores()])
async def test_our_stores_keep_the_contract(tmp_path, kind, items):
    item_type = Any if items is None else RunItem
    make_store = {
        "in memory": lambda: InMemorySessionStore(item_type=item_type),
        "sqlite file": lambda: SqliteSessionStore(tmp_path / "sessions.db", item_type=item_type),
        "sqlite in memory": lambda: SqliteSessionStore.in_memory(item_type=item_type),
    }[kind]
    report = await check_session_store(make_store, items=items)
    assert report.groups == ALL_GROUPS
    assert len(report.held) == ALL_RULES
    assert report.broken == {}


async def test_a_store_without_a_capability_is_not_checked_for_it():
    report = await check_session_store(Plain)
    assert (report.groups, len(report.held), report.broken) == (["SessionStore"], STORE_RULES, {})


@pytest.mark.parametrize(
    ("store", "groups", "rules"),
    [
        (Erasing, ["SessionErasure"], STORE_RULES + ERASURE_RULES),
        (OnlyCatalogued, ["SessionCatalog"], STORE_RULES + CATALOG_RULES),
        (
            Catalogued,
            ["SessionCatalog", "SessionErasure"],
            STORE_RULES + CATALOG_RULES + ERASURE_RULES,
        ),
        (
            Journalling,
            ["SessionErasure", "TurnJournal"],
            STORE_RULES + ERASURE_RULES + JOURNAL_RULES,
        ),
        (
            Summarising,
            ["SessionErasure", "SessionSummaries"],
            STORE_RULES + ERASURE_RULES + SUMMARY_RULES,
        ),
        (
            SummarisingForks,
            ["SessionCatalog", "SessionErasure", "SessionSummaries"],
            STORE_RULES + CATALOG_RULES + ERASURE_RULES + SUMMARY_RULES,
        ),
    ],
)
async def test_a_store_with_a_capability_is_checked_for_it(store, groups, rules):
    report = await check_session_store(store)
    assert report.groups == ["SessionStore", *groups]
    assert (len(report.held), report.broken) == (rules, {})


class WithoutErasure(Journalling):
    erase = None


async def test_a_capability_is_checked_without_the_others():
    report = await check_session_store(WithoutErasure)
    assert report.groups == ["SessionStore", "TurnJournal"]
    assert len(report.held) == STORE_RULES + JOURNAL_RULES


class SummarisingWithoutErasure(Summarising):
    erase = None


async def test_summaries_are_checked_without_erasure():
    report = await check_session_store(SummarisingWithoutErasure)
    assert report.groups == ["SessionStore", "SessionSummaries"]
    assert len(report.held) == STORE_RULES + SUMMARY_RULES


class SearchingWithoutErasure(Searching):
    erase = None


async def test_a_search_is_checked_without_erasure():
    report = await check_session_store(SearchingWithoutErasure)
    assert report.groups == ["SessionStore", "SessionSearch"]
    assert report.broken == {}


async def test_a_store_that_searches_is_checked_for_it():
    report = await check_session_store(Searching)
    assert report.groups == ["SessionStore", "SessionSearch", "SessionErasure"]
    assert report.broken == {}


@pytest.mark.parametrize("items", [[1, 2, 3], [Point(1), Point(2), Point(3)]])
async def test_a_store_of_items_without_text_is_not_checked_for_search(items):
    report = await check_session_store(
        lambda: InMemorySessionStore(item_type=type(items[0])), items=items
    )
    assert report.groups == [group for group in ALL_GROUPS if group != "SessionSearch"]
    assert report.broken == {}


def has_tasks(rule):
    """Return True if *rule* runs several tasks or cancels one, as its sentence says."""
    return any(word in rule for word in ("at the same time", "during", "cancelled"))


def broken_stores():
    """Yield each broken store, on both runtimes if its rule depends on the runtime."""
    for store, rule in BROKEN.items():
        marks = () if has_tasks(rule) else pytest.mark.long
        yield pytest.param(store, "asyncio", id=f"{store.__name__}-asyncio")
        yield pytest.param(store, "trio", id=f"{store.__name__}-trio", marks=marks)


@pytest.mark.parametrize(("store", "anyio_backend"), [*broken_stores()])
async def test_a_store_that_breaks_a_rule_fails_that_rule_and_no_other(store):
    with pytest.raises(StoreBroken) as caught:
        await check_session_store(store)
    assert list(caught.value.report.broken) == [BROKEN[store]]


def test_each_rule_is_broken_by_a_store():
    assert len(set(BROKEN.values())) == ALL_RULES


async def test_the_report_names_what_broke_and_how_and_what_held():
    with pytest.raises(StoreBroken) as caught:
        await check_session_store(PopsTheOldest)
    report = caught.value.report
    assert isinstance(report, StoreReport)
    assert len(report.held) == STORE_RULES - 1
    assert str(caught.value) == str(report)
    first, broken, how, *held = str(report).splitlines()
    assert first == "38 of 39 rules held: SessionStore."
    assert (
        broken
        == "  BROKEN  pop removes and returns the newest item, or returns None if there is none."
    )
    assert how.startswith("          the popped item: expected {'content': 'two', ")
    assert held == [f"  held    {rule}" for rule in report.held]


class Hangs(Plain):
    async def append(self, turn):
        await anyio.sleep_forever()


async def test_a_store_that_hangs_breaks_the_rules_that_wait_for_it():
    message = "TimeoutError: the rule took more than 0.01 seconds; raise patience"
    with pytest.raises(StoreBroken, match=message) as caught:
        await check_session_store(Hangs, patience=0.01)
    assert {type(error) for error in caught.value.report.broken.values()} == {TimeoutError}


class FailsAtOnce(Plain):
    busy = 0

    async def append(self, turn):
        self.busy += 1
        try:
            await checkpoint()
            if self.busy > 1:
                raise OSError("too many\ncallers")  # noqa: EM101, TRY003
            return await super().append(turn)
        finally:
            self.busy -= 1


async def test_of_several_failed_tasks_the_report_names_the_first():
    with pytest.raises(StoreBroken, match="          OSError: too many callers\n"):
        await check_session_store(FailsAtOnce)


async def test_a_store_may_be_made_by_a_context_manager():
    opened = []

    @asynccontextmanager
    async def make_store():
        opened.append("opened")
        yield Plain()
        opened.append("closed")

    await check_session_store(make_store)
    to_learn_which_capabilities_it_lacks = 5
    assert opened == ["opened", "closed"] * (STORE_RULES + to_learn_which_capabilities_it_lacks)


async def test_a_make_store_that_makes_no_store_breaks_every_rule():
    with pytest.raises(StoreBroken, match="TypeError: store must have load, append, pop and clear"):
        await check_session_store(dict)


@pytest.mark.parametrize("bad", [None, Plain(), check_session_store])
async def test_make_store_must_be_a_plain_function(bad):
    with pytest.raises(TypeError, match="make_store must be a plain function that makes a store"):
        await check_session_store(bad)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"items": [1, 2]}, ValueError, r"items must be three different items, got \[1, 2\]"),
        ({"items": [1, 2, 1]}, ValueError, "items must be three different items, got"),
        ({"items": 3}, TypeError, "items must be a sequence of items, got int"),
        ({"patience": -1}, ValueError, "patience must"),
        ({"patience": "1"}, TypeError, "patience must"),
    ],
)
async def test_bad_parameters_are_refused_by_name(parameters, error, message):
    with pytest.raises(error, match=message):
        await check_session_store(Plain, **parameters)
