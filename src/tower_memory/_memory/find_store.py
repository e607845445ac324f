"""Finding the store behind the *save* service of a layer."""

from __future__ import annotations

from tower_memory._service import attribute, inner_of
from tower_memory._store import SessionStore


def find_store(save: object) -> SessionStore[object] | None:
    """Return the store behind the service *save*, or None if it is not visible.

    The store is a service's attribute ``store``, or the owner of a bound method. The search goes
    through services that state the service inside them: layers of this library and any object
    with an attribute ``inner``, and functions made with `functools.wraps`. It guesses nothing
    from the variables of a function.
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
