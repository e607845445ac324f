"""Encoding of large turns in a thread, so that the event loop goes on.

1. An ordinary turn is encoded at once: a thread would take longer.
2. An event loop encodes one large turn at a time, in one thread. More threads would not be faster,
   because Python runs one thread at a time. These threads do not count towards anyio's limit of
   threads, which the program uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from msgspec import Struct

T = TypeVar("T")

_LARGE: Final = 200_000
"""Estimated bytes of JSON that take about a millisecond to encode and check."""

_PART: Final = 32
"""Estimated bytes of a part of an item, besides its text; it stands for the time per part."""

_limiter: RunVar[CapacityLimiter] = RunVar("tower_memory large turns")


async def encode_turn(encode: Callable[[], T], values: Iterable[Any]) -> T:
    """Return the result of *encode*, which encodes *values*; run it in a thread if they are large.

    *encode* must change nothing. If the call is cancelled, it still runs to its end.
    """
    if not is_large(values):
        return encode()

    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = CapacityLimiter(1)
        _limiter.set(limiter)
    return await to_thread.run_sync(encode, limiter=limiter)


def is_large(values: Iterable[Any]) -> bool:
    """Return True if the JSON of *values* is probably larger than about 200 kB.

    Reading stops soon after that size, so the estimate itself never takes long.
    """
    found = [*values]
    size = _PART * len(found)
    for value in found:  # grows by the parts of the values
        kind = type(value)
        if kind is str:
            size += len(value)
            continue

        parts: Any = ()
        if kind is dict:
            parts = value.values()
        elif kind is list:
            parts = value
        elif isinstance(value, Struct):
            parts = [getattr(value, name) for name in value.__struct_fields__]

        size += _PART * len(parts)
        if size > _LARGE:
            return True
        found += parts
    return size > _LARGE
