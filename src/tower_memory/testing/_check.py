"""Check of a store against the contract of `SessionStore` and of its capabilities."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, cast, final

from anyio import move_on_after

from tower_memory._arguments import check_seconds
from tower_memory._capabilities.catalog import SessionCatalog
from tower_memory._capabilities.erasure import SessionErasure
from tower_memory._capabilities.journal import TurnJournal
from tower_memory._capabilities.search import SessionSearch
from tower_memory._capabilities.summaries import SessionSummaries
from tower_memory._store import SessionStore, check_store
from tower_memory._turn import check_items
from tower_memory.testing._case import ITEMS, VALUES, Case, Rule
from tower_memory.testing._rules import RULES
from tower_memory.testing._rules_annotate import ANNOTATE_RULES
from tower_memory.testing._rules_catalog import CATALOG_RULES
from tower_memory.testing._rules_concurrent import CONCURRENT_RULES
from tower_memory.testing._rules_covered import COVERED_RULES
from tower_memory.testing._rules_erasure import ERASURE_RULES
from tower_memory.testing._rules_fork import FORK_RULES
from tower_memory.testing._rules_journal import JOURNAL_RULES
from tower_memory.testing._rules_leases import LEASE_RULES
from tower_memory.testing._rules_loads import LOAD_RULES
from tower_memory.testing._rules_metadata import METADATA_RULES
from tower_memory.testing._rules_search import SEARCH_RULES
from tower_memory.testing._rules_summaries import SUMMARY_RULES
from tower_memory.testing._rules_turns import TURN_RULES

_GROUPS: tuple[tuple[type, tuple[Rule, ...]], ...] = (
    (
        SessionStore,
        (*RULES, *LOAD_RULES, *TURN_RULES, *METADATA_RULES, *CONCURRENT_RULES),
    ),
    (SessionCatalog, (*CATALOG_RULES, *ANNOTATE_RULES, *FORK_RULES)),
    (SessionSearch, SEARCH_RULES),
    (SessionErasure, ERASURE_RULES),
    (TurnJournal, (*JOURNAL_RULES, *LEASE_RULES)),
    (SessionSummaries, (*SUMMARY_RULES, *COVERED_RULES)),
)
"""The protocols, each with its rules. All but the first are optional capabilities."""


@final
@dataclass(frozen=True, slots=True)
class StoreReport:
    """The result of a check; its ``str`` lists the rules, one per line.

    Attributes:
        groups: Names of the protocols whose rules were checked: `SessionStore` and the capabilities
            of the store.
        held: Rules that the store kept, each as a sentence.
        broken: Rules that the store broke, each with the error that shows the fault.
    """

    groups: Sequence[str]
    held: Sequence[str]
    broken: Mapping[str, Exception]

    def __str__(self) -> str:
        total = len(self.held) + len(self.broken)
        lines = [f"{len(self.held)} of {total} rules held: {', '.join(self.groups)}."]
        for rule, error in self.broken.items():
            lines += [f"  BROKEN  {rule}", f"          {_one_line(error)}"]
        lines += [f"  held    {rule}" for rule in self.held]
        return "\n".join(lines)


@final
class StoreBroken(AssertionError):
    """Raised when a store broke at least one rule. All rules were checked.

    Attributes:
        report: Result of the whole check.
    """

    def __init__(self, report: StoreReport) -> None:
        super().__init__(str(report))
        self.report = report


async def check_session_store(
    make_store: Callable[[], SessionStore[Any] | AbstractAsyncContextManager[SessionStore[Any]]],
    *,
    items: Sequence[Any] | None = None,
    patience: float = 30.0,
) -> StoreReport:
    """Check a store against the promises of `SessionStore`, and of each capability that it has.

    No test framework is needed: ``print(anyio.run(check_session_store, MyStore))``. In a test,
    awaiting the check is enough. Run the check on each event loop that the store supports.

    >>> import anyio
    >>> from tower_memory import InMemorySessionStore
    >>> from tower_memory.testing import check_session_store
    >>> report = anyio.run(check_session_store, InMemorySessionStore)
    >>> print(str(report).splitlines()[0].partition(":")[0])
    110 of 110 rules held
    >>> report.groups[3:]
    ['SessionErasure', 'TurnJournal', 'SessionSummaries']

    Args:
        make_store: Function that returns a store, or an async context manager of a store. It is
            called for each rule. The stores may share their content, because each rule uses
            session ids that were never used before.
        items: Three different items, if the store holds items of another type than JSON values;
            None for JSON values. `SessionSearch` is checked if the items are mappings, or if the
            first item is a message with the field ``content``.
        patience: Maximum number of seconds per rule. A rule that takes longer counts as broken.

    Raises:
        StoreBroken: The store broke at least one rule. All rules were checked.
        TypeError: *make_store* is not a plain function, *items* is not a sequence, or *patience*
            is not a number.
        ValueError: *items* are not three different items, or *patience* is negative.
    """
    _check_arguments(make_store, items, patience)

    groups: list[str] = []
    held: list[str] = []
    broken: dict[str, Exception] = {}
    for protocol, rules in _GROUPS:
        for rule in rules:
            sentence = str(rule.__doc__)
            try:
                with move_on_after(patience) as scope:
                    if not await _check_rule(rule, protocol, make_store, items):
                        break  # the store lacks the capability, or the items have no text
            except Exception as error:  # noqa: BLE001 - the report shows the error
                broken[sentence] = error
            else:
                if scope.cancelled_caught:
                    took = f"the rule took more than {patience} seconds"
                    broken[sentence] = TimeoutError(f"{took}; raise patience, or find out why")
                else:
                    held.append(sentence)
        else:
            groups.append(protocol.__name__)

    report = StoreReport(groups, held, broken)
    if broken:
        raise StoreBroken(report) from next(iter(broken.values()))
    return report


def _check_arguments(make_store: object, items: Sequence[Any] | None, patience: object) -> None:
    if not callable(make_store) or iscoroutinefunction(make_store):
        msg = f"make_store must be a plain function that makes a store, got {make_store!r}"
        raise TypeError(msg)
    check_seconds("patience", patience)
    if items is not None:
        check_items(items)
        different = [item for n, item in enumerate(items) if item not in items[:n]]
        if not len(different) == len(items) == len(ITEMS):
            msg = f"items must be three different items, got {reprlib.repr(items)}"
            raise ValueError(msg)


async def _check_rule(
    rule: Rule, protocol: type, make_store: Callable[[], Any], items: Sequence[Any] | None
) -> bool:
    """Make a store and check *rule* on it.

    Return False if the store lacks *protocol*, or if no item can have the text of a search.
    """
    async with AsyncExitStack() as opened:
        store = make_store()
        if isinstance(store, AbstractAsyncContextManager):
            store = await opened.enter_async_context(store)
        check_store(store)
        if not isinstance(store, protocol):
            return False
        values = VALUES if items is None else items
        case = Case(cast("Any", store), ITEMS if items is None else items, values)
        if protocol is SessionSearch and case.message("text") is None:
            return False
        await rule(case)
    return True


def _one_line(error: Exception) -> str:
    """Return the text of *error*, or of the first error in an exception group, on one line."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    text = " ".join(str(error).split())
    return text if isinstance(error, AssertionError) else f"{type(error).__name__}: {text}"
