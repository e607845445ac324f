"""A store with every capability that records its calls and returns, or raises, given answers."""

from __future__ import annotations

PROTOCOL_METHODS = {
    "SessionStore": ("load", "append", "pop", "clear"),
    "SessionCatalog": ("sessions", "describe", "annotate", "fork"),
    "SessionErasure": ("erase", "scrub"),
    "SessionSearch": ("search",),
    "SessionSummaries": ("load_summary", "save_summary"),
    "TurnJournal": ("begin", "fail", "pending", "forget"),
}


class Recording:
    """The base class of recording stores.

    Attributes:
        calls: Name, positional arguments and keyword arguments of each call.
        answers: The result of each method, by its name; an exception is raised.
    """

    def __init__(self, **answers):
        self.calls = []
        self.answers = answers

    async def record(self, name, args, kwargs):
        self.calls.append((name, args, kwargs))
        answer = self.answers.get(name)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def recording_class(*protocols):
    """Return a class of recording stores with the methods of SessionStore and of *protocols*."""

    def method(name):
        async def call(self, *args, **kwargs):
            return await self.record(name, args, kwargs)

        return call

    names = [name for each in ("SessionStore", *protocols) for name in PROTOCOL_METHODS[each]]
    return type("RecordingStore", (Recording,), {name: method(name) for name in names})


FullRecordingStore = recording_class(*PROTOCOL_METHODS)
"""A recording store with every capability."""
