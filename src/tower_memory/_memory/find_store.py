"""Finding the store behind the *save* service of a layer."""

from __future__ import annotations

from tower_memory._service import attribute, inner_of
from tower_memory._store import SessionStore


def find_store(save: object) -> SessionStore[object] | None:
    """Return the store behind the service *save*, or None if it is not visible.

    The store is *save* itself, its attribute ``store``, or the object that it is bound to as a
    method. The search goes on with the service that *save* wraps: an attribute ``inner``, as in
    this library's layers, or the ``__wrapped__`` of `functools.wraps`. Closure variables are not
    searched.
    """
    seen: set[int] = set()
    service: object | None = save
    while service is not None and id(service) not in seen:
        if isinstance(service, SessionStore):
            return service
        seen.add(id(service))
        store = attribute(service, "store")
        service = store if isinstance(store, SessionStore) else inner_of(service)
    return None
