"""Memory in a dict, written by hand around a service: the least that any layer has to do.

It knows one shape of requests and two of responses. Turns of a session that overlap are refused,
items are kept as JSON that was read back and compared, histories are copies, and a save is
shielded. It mends nothing, looks for no turn that is held, keeps to no deadline, and its errors
say nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio
import msgspec
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from tower_memory import Service

_Asked = dict[str, Any]

_decode = msgspec.json.Decoder[Any]().decode


class MemoryByHand:
    """A service that remembers, around *inner*."""

    def __init__(self, inner: Service[_Asked, _Asked]) -> None:
        self._inner = inner
        self._sessions: dict[str, list[Any]] = {}
        self._taken: set[str] = set()

    def fill(self, session: str, items: Iterable[Any]) -> None:
        """Add *items* to what is kept: flat ones as they are, for others their JSON."""
        kept = self._sessions.setdefault(session, [])
        for raw, item in map(_checked, items):
            is_flat = all(type(value) is str for value in item.values())
            kept.append(item if is_flat else raw)

    async def __call__(self, asked: _Asked, /) -> _Asked:
        """What *inner* says, which is kept with what was asked."""
        session = asked["session"]
        new = [item for _, item in map(_checked, asked["messages"])]
        if session in self._taken:
            raise ValueError(session)
        self._taken.add(session)
        try:
            await checkpoint()
            kept = self._sessions[session]
            history = [item.copy() if type(item) is dict else _decode(item) for item in kept]
            said = await self._inner({**asked, "messages": [*history, *new]})
            with anyio.CancelScope(shield=True):
                await checkpoint_if_cancelled()
                self.fill(session, [*new, *(said.get("messages", [said]))])
            return said
        finally:
            self._taken.remove(session)


def _checked(item: Any) -> tuple[bytes, Any]:
    raw = msgspec.json.encode(item)
    back = _decode(raw)
    if back != item:
        raise ValueError(item)
    return raw, back
