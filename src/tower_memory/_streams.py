"""Streams: replies that come in chunks, as client libraries make them."""

from __future__ import annotations

from inspect import isawaitable


def is_stream(response: object) -> bool:
    """Whether *response* comes in chunks, at once or once it is entered as a context manager."""
    return has(response, "__aiter__") or has(response, "__aenter__")


def has(value: object, method: str) -> bool:
    """Whether *value* is of a type with *method*."""
    return hasattr(type(value), method)


async def close(stream: object) -> None:
    """Close *stream*, in the way it has, if any."""
    way = getattr(stream, "aclose", None) or getattr(stream, "close", None)
    closing = way() if way else None
    if isawaitable(closing):
        await closing
