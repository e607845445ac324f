"""JSON of any depth up to a fixed limit, at any depth of the caller's stack.

Encoding and decoding recurse, and Python's recursion limit counts the frames of the caller as well.
So a deep item could be saved by one caller and not be loaded by another. Therefore the depth of an
item is limited, and work that exceeds the recursion limit runs once more in a new thread, whose
stack is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any, Final, TypeVar

from msgspec import json

T = TypeVar("T")

MAX_DEPTH: Final = 500
"""Maximum depth of JSON objects and arrays in an item: half of Python's recursion limit."""


def is_too_deep(encoded: bytes) -> bool:
    """Return True if the JSON *encoded* is nested more than `MAX_DEPTH` levels deep.

    Raises:
        RecursionError: The caller's stack is too short.
    """
    # The length, or a count of brackets, decides for almost all items.
    if len(encoded) <= 2 * MAX_DEPTH or encoded.count(b"[") + encoded.count(b"{") <= MAX_DEPTH:
        return False

    level = _containers([json.decode(encoded)])
    for _ in range(MAX_DEPTH):
        level = _containers(part for each in level for part in _parts(each))
    return bool(level)


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, (dict, list))]


def _parts(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


class TooDeepError(ValueError):
    """Raised if an empty stack is too short as well."""

    def __init__(self) -> None:
        super().__init__("it is nested too deeply")


def on_empty_stack(function: Callable[[], T]) -> T:
    """Return the result of *function*, which runs in a new thread.

    Raises:
        TooDeepError: *function* raised RecursionError.
        RecursionError: The caller's stack is too short to start a thread.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except RecursionError:
            errors.append(TooDeepError())
        except BaseException as error:  # noqa: BLE001 - raised in the calling thread
            errors.append(error)

    thread = Thread(target=run, name="tower-memory deep item")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
