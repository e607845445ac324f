"""Memory in a dict, written by hand around a service: the minimum that any layer has to do.

It knows one form of requests and two forms of responses. It refuses overlapping turns of a session,
stores items as JSON that it has decoded and compared, copies histories, and shields the save. It
repairs nothing, does not look for held turns, observes no deadline, and its errors carry no
message.

It has no file and is therefore not a `Side`. The part `layers` measures it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio
import msgspec
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from tower_memory import Service

_Body = dict[str, Any]

_decode = msgspec.json.Decoder[Any]().decode


class MemoryByHand:
    """A service that adds memory to *inner*."""

    def __init__(self, inner: Service[_Body, _Body]) -> None:
        self._inner = inner
        self._sessions: dict[str, list[Any]] = {}
        self._busy: set[str] = set()

    def fill(self, session_id: str, items: Iterable[Any]) -> None:
        """Store *items*: flat items as they are, since a shallow copy suffices; others as JSON."""
        stored = self._sessions.setdefault(session_id, [])
        for encoded, item in map(_encode, items):
            is_flat = all(type(value) is str for value in item.values())
            stored.append(item if is_flat else encoded)

    async def __call__(self, request: _Body, /) -> _Body:
        """Call *inner* with the history in front; store the new messages and the response."""
        session_id = request["session"]
        new = [item for _, item in map(_encode, request["messages"])]

        if session_id in self._busy:
            raise ValueError(session_id)
        self._busy.add(session_id)

        try:
            await checkpoint()
            stored = self._sessions[session_id]
            history = [item.copy() if type(item) is dict else _decode(item) for item in stored]
            response = await self._inner({**request, "messages": [*history, *new]})

            with anyio.CancelScope(shield=True):
                await checkpoint_if_cancelled()
                self.fill(session_id, [*new, *(response.get("messages", [response]))])
            return response
        finally:
            self._busy.remove(session_id)


def _encode(item: Any) -> tuple[bytes, Any]:
    """Return the JSON of *item* and its decoded copy; raise ValueError if they differ."""
    encoded = msgspec.json.encode(item)
    decoded = _decode(encoded)
    if decoded != item:
        raise ValueError(item)
    return encoded, decoded
