"""The conversations that every side gets: the same turns, from the same seed.

1. A turn is what a user says and what is answered. Every fifth one calls a tool: a user's message,
   an assistant's with a call, the tool's with its result, an assistant's with the answer.
2. Texts are as long as texts are: log-normal, half of them below 300 bytes, none above 20 kB.
3. One text in eight is not in English, and so is wider in memory and in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import log
from random import Random
from typing import Any, TypeAlias

import msgspec

Message: TypeAlias = dict[str, Any]

MEDIAN = 300
"""Bytes that half of the texts are below."""

SIGMA = 1.2
"""How much lengths vary: one text in six is above 1 kB, one in a hundred above 5 kB."""

LONGEST = 20_000
TOOLS_EVERY = 5
FOREIGN_EVERY = 8

_OF_TOOLS = 4  # messages of a turn that calls a tool

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
    """What a user said, and the messages that answered it."""

    said: Message
    answer: list[Message]

    @property
    def items(self) -> list[Message]:
        """All of it, in order."""
        return [self.said, *self.answer]


class Transcript:
    """A conversation that goes on for as long as it is asked to; equal seeds, equal turns.

    Args:
        seed: Which conversation.
        tools_every: In which turns a tool is called: every so many.
    """

    def __init__(self, seed: int, *, tools_every: int = TOOLS_EVERY) -> None:
        self._random = Random(seed)  # noqa: S311 - it has to be the same each time
        self._tools_every = tools_every
        self._made = 0

    def turn(self, *, may_call: bool = True) -> ChatTurn:
        """The next turn, without a tool's call unless *may_call*."""
        self._made += 1
        said = {"role": "user", "content": self._text()}
        answer = {"role": "assistant", "content": self._text()}
        if self._made % self._tools_every or not may_call:
            return ChatTurn(said, [answer])
        return ChatTurn(said, [*self._call(), answer])

    def turns(self, count: int) -> list[ChatTurn]:
        """The next *count* turns."""
        return [self.turn() for _ in range(count)]

    def filling(self, items: int) -> Iterator[ChatTurn]:
        """The next turns, as many as have that many *items*, an even number, together."""
        while items > 0:
            turn = self.turn(may_call=items >= _OF_TOOLS)
            items -= len(turn.items)
            yield turn

    def _call(self) -> list[Message]:
        call = f"call_{self._random.getrandbits(96):024x}"
        arguments = json.dumps({"query": self._text()[:100], "limit": self._random.randint(1, 50)})
        function = {"name": "search_orders", "arguments": arguments}
        calls = [{"id": call, "type": "function", "function": function}]
        return [
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": call, "content": self._text()},
        ]

    def _text(self) -> str:
        length = max(1, min(LONGEST, int(self._random.lognormvariate(log(MEDIAN), SIGMA))))
        foreign = self._random.randrange(FOREIGN_EVERY) == 0
        pool = _pool(self._random.choice(_FOREIGN) if foreign else _ENGLISH)
        start = self._random.randrange(len(pool) - length)
        return pool[start : start + length].decode(errors="ignore") or "."


@cache
def _pool(words: str) -> bytes:
    """A long text of *words*, to cut texts from."""
    random = Random(words)  # noqa: S311 - likewise
    return " ".join(random.choices(words.split(" "), k=LONGEST)).encode()


def size(turns: Sequence[ChatTurn]) -> int:
    """Bytes of the items of *turns* as JSON, each without what is between them."""
    return sum(len(msgspec.json.encode(item)) for turn in turns for item in turn.items)
