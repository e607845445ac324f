"""Checks of the parameters of a memory layer."""

from __future__ import annotations

from typing import Any

from tower_memory._arguments import shown
from tower_memory._calls import check_async
from tower_memory._capabilities.journal import TurnJournal
from tower_memory._service import attribute, service_chain
from tower_memory._session_services import LoadSession, SaveSession
from tower_memory.dialects import WholeRequests
from tower_memory.windows import Summarised


def check_dialect(value: object) -> None:
    """Refuse an object that is no dialect, such as a dialect's class."""
    names = ("new_items", "with_history", "reply_items")
    if isinstance(value, type) or not all(callable(attribute(value, name)) for name in names):
        msg = f"dialect must have {', '.join(names)}, such as ChatCompletions(), got {shown(value)}"
        raise TypeError(msg)


def check_service(name: str, value: object, example: str) -> None:
    """Refuse an object that is no service, or is certainly not async."""
    if not callable(value) or isinstance(value, type):
        msg = f"{name} must be a service, such as {example}, got {shown(value)}"
        raise TypeError(msg)
    check_async(name, value)


def check_not_swapped(load: object, save: object) -> None:
    """Refuse a load around a `SaveSession`, and a save around a `LoadSession`."""
    for name, service, wrong in (("load", load, SaveSession), ("save", save, LoadSession)):
        if any(isinstance(each, wrong) for each in service_chain(service)):
            msg = f"load and save are swapped: {name} is a {wrong.__name__}; pass load first"
            raise TypeError(msg)


def check_flag(name: str, value: object) -> None:
    """Refuse an object that is neither True nor False."""
    if not isinstance(value, bool):
        msg = f"{name} must be True or False, got {shown(value)}"
        raise TypeError(msg)


def checked_journal(store: object) -> TurnJournal[Any]:
    """Return *store*, which must keep pending turns."""
    if not isinstance(store, TurnJournal):
        found = "none is visible behind save" if store is None else f"got {shown(store)}"
        msg = (
            f"journal=True needs a store that is a TurnJournal, {found}; pass such a store, or "
            "journal=False"
        )
        raise TypeError(msg)
    journal: TurnJournal[Any] = store
    return journal


def check_window_store(window: object, store: object) -> None:
    """Refuse a window that reads another store, in which the session may be another tenant's."""
    if isinstance(window, Summarised) and store is not None and window.store != store:
        msg = (
            "window must read the store of the layer, got Summarised over another one; make a "
            "window for each store, also for each ScopedStore"
        )
        raise ValueError(msg)


def check_whole_requests(dialect: object, load: object) -> None:
    """Refuse parameters that do not go together with *whole_requests*."""
    if not isinstance(dialect, WholeRequests):
        msg = f"whole_requests needs a dialect with a method newest, got {shown(dialect)}"
        raise TypeError(msg)
    if (limit := attribute(load, "limit")) is not None:
        msg = (
            "whole_requests are compared with the whole history, got a load with "
            f"limit={limit}; leave it out, and give the model less with window="
        )
        raise ValueError(msg)
