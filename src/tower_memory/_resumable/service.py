"""The service of a resumable layer: joins the call of a request, and starts it if it is absent."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, final

from tower_memory._arguments import shown
from tower_memory._resumable.calls import Calls
from tower_memory._resumable.reply_stream import join_reply
from tower_memory._service import Req, Res, Service, stack


@final
@dataclass(frozen=True, slots=True, repr=False)
class Resumable(Generic[Req, Res]):
    """A service whose callers may leave and come back; made by `ResumableLayer`.

    Attributes:
        inner: The service of the calls.
        layer: The layer, to be shown.
        key: Function of the request that returns the key of its call.
        get_calls: Function that returns the calls of the layer, or raises if it is not entered.
    """

    inner: Service[Req, Res]
    layer: object
    key: Callable[[Any], Hashable]
    get_calls: Callable[[], Calls]

    async def __call__(self, request: Req, /) -> Res:
        key = self.key(request)
        _check_key(key)

        call = self.get_calls().find_or_start(key, self.inner, request)
        response: Res = await join_reply(call.reply)
        return response

    def __repr__(self) -> str:
        return stack(self.layer, self.inner)


def _check_key(key: object) -> None:
    """Refuse a key that cannot name a call."""
    try:
        hash(key)  # a tuple is hashable only if its values are
        is_hashable = key is not None
    except TypeError:
        is_hashable = False
    if not is_hashable:
        msg = f"the result of key(request) must be hashable and not None, got {shown(key)}"
        raise TypeError(msg)
