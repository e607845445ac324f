"""Outcomes of single trials, and the cell that a table shows for all trials of a scenario."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from benchmarks.comparison.probe import Message

Verdict = Literal["yes", "partly", "no", "none", "figure"]


@dataclass(frozen=True)
class Result:
    """The result of one scenario.

    ``verdict`` is ``"yes"`` if the promise held in all trials; ``"partly"`` if it held in part, or
    if an error told the caller; ``"no"`` if not; ``"none"`` if the library has no such thing;
    ``"figure"`` if the cell is a number. ``observed`` has the counted outcomes.
    """

    verdict: Verdict
    cell: str
    observed: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return asdict(self)


def users(messages: Iterable[Message], text: str) -> int:
    """Count the user's messages with *text*."""
    return sum(role == "user" and found == text for role, found in messages)


def turn_state(
    messages: Iterable[Message], text: str
) -> Literal["whole", "absent", "question", "part"]:
    """Return the stored part of the turn with the question *text*.

    ``"question"`` is the question alone; ``"part"`` is any other part, such as the reply alone.
    """
    found = [(role, said) for role, said in messages if said in {text, reply_to(text)}]
    if not found:
        return "absent"
    if found == [("user", text)]:
        return "question"
    return "whole" if found == [("user", text), ("assistant", reply_to(text))] else "part"


def reply_to(text: str) -> str:
    """Return the reply of the scripted models to *text*."""
    return f"reply to {text}"


def carries(error: BaseException, text: str) -> bool:
    """Return True if the error, or one that it came from, has an attribute with *text* in it."""
    seen: BaseException | None = error
    while seen is not None:
        if any(text in repr(value) for value in vars(seen).values()):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def tally(outcomes: Iterable[str]) -> dict[str, int]:
    """Count equal outcomes, the most frequent first."""
    return dict(Counter(outcomes).most_common())


def shown(counts: dict[str, int]) -> str:
    """Return the *counts* as text."""
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
