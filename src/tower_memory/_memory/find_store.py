"""Finding the store behind the *save* service of a layer."""

from __future__ import annotations

from tower_memory._service import attribute, service_chain
from tower_memory._store import SessionStore


def find_store(save: object) -> SessionStore[object] | None:
    """Return the store behind the service *save*, or None if it is not visible.

    The store is *save* itself, the attribute ``store`` of *save*, or the object of which *save* is
    a method. The search goes on with the service that *save* wraps: an attribute ``inner``, as in
    this library's layers, or the ``__wrapped__`` of `functools.wraps`. The search does not read
    closure variables.
    """
    for service in service_chain(save):
        for found in (service, attribute(service, "store")):
            if isinstance(found, SessionStore):
                return found
    return None
