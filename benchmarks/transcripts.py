"""Generate the conversations that all sides get: equal seeds give equal turns.

1. A turn is a user's message and its answer. Every fifth turn contains a tool call: the user's
   message, the assistant's message with the call, the tool result, the assistant's answer.
2. The lengths of texts are log-normal: half of the texts are shorter than 300 bytes, and none is
   longer than 20 kB.
3. One text in eight is not in English. Such a text takes more bytes in memory and in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from math import log
from random import Random
from typing import Any, TypeAlias

import msgspec

Message: TypeAlias = dict[str, Any]

MEDIAN_BYTES = 300
SIGMA = 1.2
"""Spread of the lengths: one text in six is above 1 kB, one in a hundred above 5 kB."""

MAX_BYTES = 20_000
TOOLS_EVERY = 5
FOREIGN_EVERY = 8

_ITEMS_WITH_TOOL = 4

_ENGLISH = (
    "the a of to in and is it for that with on as are this be you can not we an or if from by "
    "at your will have order invoice which when please check status account delivery because "
    'after before should customer returned item number date address payment "refund" issued '
    "yesterday, tomorrow, later. Thanks. Sorry, however: (see below) 42 1,299.00 2025-03-14 \n"
)
_FOREIGN = (
    "für möglich müssen größer später Straße können natürlich Grüße \n",
    "заказ оплата доставка завтра спасибо можно когда статус номер \n",
    "ください です ます 注文 確認 配送 明日 返品 お願い 番号 \n",
    "déjà été où être reçu très après français à bientôt \N{SLIGHTLY SMILING FACE} \n",
)


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """A user's message and the messages that answer it."""

    user_message: Message
    answer: list[Message]

    @property
    def items(self) -> list[Message]:
        """All messages of the turn, in order."""
        return [self.user_message, *self.answer]


class Transcript:
    """An endless conversation; equal seeds give equal turns.

    Args:
        seed: Number of the conversation.
        tools_every: Interval of the turns that contain a tool call; 1 means every turn.
    """

    def __init__(self, seed: int, *, tools_every: int = TOOLS_EVERY) -> None:
        self._random = Random(seed)  # noqa: S311 - equal seeds must give equal texts
        self._tools_every = tools_every
        self._turns = 0

    def turn(self, *, may_call_tool: bool = True) -> ChatTurn:
        """Return the next turn, without a tool call if *may_call_tool* is false."""
        self._turns += 1
        user_message = {"role": "user", "content": self._text()}
        answer = {"role": "assistant", "content": self._text()}

        if self._turns % self._tools_every or not may_call_tool:
            return ChatTurn(user_message, [answer])
        return ChatTurn(user_message, [*self._tool_messages(), answer])

    def turns(self, count: int) -> list[ChatTurn]:
        """Return the next *count* turns."""
        return [self.turn() for _ in range(count)]

    def turns_until(self, items: int) -> Iterator[ChatTurn]:
        """Yield the next turns until they have *items* items together, an even number."""
        while items > 0:
            turn = self.turn(may_call_tool=items >= _ITEMS_WITH_TOOL)
            items -= len(turn.items)
            yield turn

    def _tool_messages(self) -> list[Message]:
        call_id = f"call_{self._random.getrandbits(96):024x}"
        arguments = json.dumps({"query": self._text()[:100], "limit": self._random.randint(1, 50)})
        function = {"name": "search_orders", "arguments": arguments}
        calls = [{"id": call_id, "type": "function", "function": function}]

        return [
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": call_id, "content": self._text()},
        ]

    def _text(self) -> str:
        length = int(self._random.lognormvariate(log(MEDIAN_BYTES), SIGMA))
        length = max(1, min(MAX_BYTES, length))
        is_foreign = self._random.randrange(FOREIGN_EVERY) == 0
        return _cut(self._random, self._random.choice(_FOREIGN) if is_foreign else _ENGLISH, length)


def english(random: Random, length: int) -> str:
    """Return an English text of *length* bytes."""
    return _cut(random, _ENGLISH, length)


def _cut(random: Random, words: str, length: int) -> str:
    """Return *length* bytes of a long text of *words*."""
    pool = _pool(words)
    # A cut may split a character; the damaged bytes at both ends are dropped.
    start = random.randrange(len(pool) - length)
    text = pool[start : start + length].decode(errors="ignore")
    return text if text.strip() else "."  # providers refuse blank texts


@cache
def _pool(words: str) -> bytes:
    """Return a long text of random *words*; the texts of messages are cut from it."""
    random = Random(words)  # noqa: S311 - equal seeds must give equal texts
    return " ".join(random.choices(words.split(" "), k=MAX_BYTES)).encode()


def items_of(turns: Iterable[ChatTurn]) -> list[Message]:
    """Return the items of all *turns*, in order."""
    return [item for turn in turns for item in turn.items]


def json_bytes(turns: Iterable[ChatTurn]) -> int:
    """Return the bytes of the items' JSON, without separators between the items."""
    return sum(len(msgspec.json.encode(item)) for item in items_of(turns))
