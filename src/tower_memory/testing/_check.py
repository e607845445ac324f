"""Whether a store keeps the contract, rule by rule."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, final

from anyio import move_on_after

from tower_memory._arguments import check_seconds
from tower_memory._sessions import SessionStore, check_items, check_store
from tower_memory.testing._case import ITEMS, VALUES, Case, Rule
from tower_memory.testing._rules import RULES
from tower_memory.testing._rules_at_once import RULES_AT_ONCE


@final
@dataclass(frozen=True, slots=True)
class StoreReport:
    """Which rules of the contract a store kept; as text, a line for each.

    Attributes:
        held: The rules that held, each a sentence.
        broken: Those that did not, each with the error that shows it.
    """

    held: Sequence[str]
    broken: Mapping[str, Exception]

    def __str__(self) -> str:
        total = len(self.held) + len(self.broken)
        lines = [f"{len(self.held)} of {total} rules held."]
        for rule, error in self.broken.items():
            lines += [f"  BROKEN  {rule}", f"          {_told(error)}"]
        lines += [f"  held    {rule}" for rule in self.held]
        return "\n".join(lines)


@final
class StoreBroken(AssertionError):
    """Raised when a store broke a rule.

    Attributes:
        report: All that was found.
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
    """Check a store against every rule of the contract that `SessionStore` states.

    It needs no pytest: ``print(anyio.run(check_session_store, MyStore))``. In a test, awaiting it
    is enough. Run it on each event loop that the store is for.

    >>> import anyio
    >>> from tower_memory import InMemorySessionStore
    >>> report = anyio.run(check_session_store, InMemorySessionStore)
    >>> print(str(report).splitlines()[0])
    24 of 24 rules held.

    Args:
        make_store: Makes a store, or an async context manager of one; called for each rule. The
            stores may share what they keep: the sessions have ids that were never used.
        items: Three different items, for a store of other than JSON values; None for JSON values.
        patience: Seconds that a rule may take before it counts as broken.

    Raises:
        StoreBroken: A rule did not hold. All were checked.
        TypeError: A parameter is of another type.
        ValueError: *items* are not three different ones, or *patience* is negative.
    """
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
    held: list[str] = []
    broken: dict[str, Exception] = {}
    for rule in (*RULES, *RULES_AT_ONCE):
        sentence = str(rule.__doc__)
        try:
            with move_on_after(patience) as scope:
                await _try(rule, make_store, items)
        except Exception as error:  # noqa: BLE001 - it is what the report is about
            broken[sentence] = error
        else:
            if scope.cancelled_caught:
                msg = f"it took more than {patience} seconds; give it more patience, or look why"
                broken[sentence] = TimeoutError(msg)
            else:
                held.append(sentence)
    report = StoreReport(held, broken)
    if broken:
        raise StoreBroken(report) from next(iter(broken.values()))
    return report


async def _try(rule: Rule, make_store: Callable[[], Any], items: Sequence[Any] | None) -> None:
    async with AsyncExitStack() as opened:
        store = make_store()
        if isinstance(store, AbstractAsyncContextManager):
            store = await opened.enter_async_context(store)
        check_store(store)
        await rule(Case(store, ITEMS, VALUES) if items is None else Case(store, items, items))


def _told(error: Exception) -> str:
    """*error* on one line; of several that came at once, the first."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    text = " ".join(str(error).split())
    return text if isinstance(error, AssertionError) else f"{type(error).__name__}: {text}"
