"""The base class of stores that wrap a store.

A class has one set of methods, but what a wrapper can do depends on the store that it wraps. Python
counts a method as missing in a runtime-checkable protocol if its value in the class is None, as
with ``__hash__ = None``. So the constructor gives the object a subclass in which the methods of all
missing capabilities are None.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, Generic, Protocol, Self, cast

from tower_memory._capabilities.catalog import SessionCatalog
from tower_memory._capabilities.erasure import SessionErasure
from tower_memory._capabilities.journal import TurnJournal
from tower_memory._capabilities.search import SessionSearch
from tower_memory._capabilities.summaries import SessionSummaries
from tower_memory._items import Item
from tower_memory._service import attribute
from tower_memory._store import SessionStore, check_store

CAPABILITIES: Final[tuple[type, ...]] = (
    SessionCatalog,
    SessionErasure,
    SessionSearch,
    SessionSummaries,
    TurnJournal,
)
"""The protocols of all capabilities."""

_HOOKS: Final = ("item_type", "busy_timeout")
"""The optional attributes of a store (see `SessionStore`)."""


class FullStore(
    SessionStore[Item],
    SessionCatalog,
    SessionErasure,
    SessionSearch,
    SessionSummaries,
    TurnJournal[Item],
    Protocol[Item],
):
    """A store with every capability: the type of a wrapped store, for type checkers."""


class StoreWrapper(Generic[Item]):
    """The base class of a store that wraps a store.

    A subclass writes the methods of `SessionStore`, and of the capabilities that it passes on. Its
    objects offer a capability, so that ``isinstance`` is true, if the wrapped store has it and the
    subclass has its methods. All other methods of capabilities are None.

    A wrapper has the hooks ``item_type`` and ``busy_timeout`` if the wrapped store has them. Two
    wrappers of one class are equal if their stores are equal. Override ``__eq__`` and ``__hash__``
    if they may nevertheless have different sessions.

    The docstring of `tower_memory.store_toolkit` has an example.

    Args:
        store: The store to wrap. As an attribute, it has the type of a store with every capability,
            since the wrapper has a method only if the store has it.

    Raises:
        TypeError: *store* is no store.
    """

    store: FullStore[Item]

    def __init__(self, store: SessionStore[Item]) -> None:
        check_store(store)
        self.store = cast("FullStore[Item]", store)

        missing = tuple(each for each in CAPABILITIES if not isinstance(store, each))
        kind: Any = type(self)
        self.__class__ = cast("type[Self]", _without(kind, missing))
        for name in _HOOKS:
            if (value := attribute(store, name)) is not None:
                setattr(self, name, value)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.store == cast("StoreWrapper[Any]", other).store

    def __hash__(self) -> int:
        try:
            return hash(self.store)
        except TypeError:  # the store has equality without a hash
            return 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.store!r})"


@cache
def _without(wrapper: type, missing: tuple[type, ...]) -> type:
    """Return the class *wrapper*, or a subclass without the methods of the *missing* protocols."""
    if not missing:
        return wrapper
    methods = [name for each in missing for name in vars(each) if not name.startswith("_")]
    names = {"__module__": wrapper.__module__, "__qualname__": wrapper.__qualname__}
    return type(wrapper.__name__, (wrapper,), dict.fromkeys(methods) | names)
