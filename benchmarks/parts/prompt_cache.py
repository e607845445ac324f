"""The input that a provider can take from its prompt cache, by window, and its price.

A conversation has 120 turns: questions of about 60 tokens, answers of about 250 tokens, and a
system prompt of 400 tokens. Each window gets the same conversations through a `MemoryLayer`. The
model and the service for summaries are scripted; a summary has 300 tokens. There are three
conversations with different texts, so the spread shows the influence of the texts. Tokens are
estimates (`estimated_tokens`).

Messages at the start of a request that equal those of the request before count as repeated. They
count as cached if they have 1,024 tokens or more, the least that both providers cache. This assumes
that the next turn comes before the cache expires, and that each user's message has a breakpoint,
which OpenAI and Anthropic set by themselves or on request.

The price is that of the input of all turns, and of the input and output of the calls for summaries.
The output of the turns is the same for all windows and is left out. A token that is not read from
the cache is written to it, for 1.25 times the price of a token. If that costs more than it saves,
caching is off, and a token has its plain price.

Prices in US$ for a million tokens, for requests below 100,000 tokens:

===========================  =====  ==================  ===================  ======
model                        input  written, 5 minutes  read from the cache  output
===========================  =====  ==================  ===================  ======
OpenAI GPT-6 Sol             2.00   2.50                0.20                 10.00
OpenAI GPT-6.1 Sol           2.00   2.50                0.10                 10.00
Anthropic Claude Sonnet 5.5  2.00   2.50                0.10                 10.00
===========================  =====  ==================  ===================  ======

These are the prices of https://developers.openai.com/api/docs/pricing and
https://platform.claude.com/docs/en/about-claude/pricing, as two programs that count costs report
them: https://github.com/TheKrush/PromptFuel/releases (v1.0.21 to v1.0.23, checked on 2026-10-16)
and https://github.com/kurofune/claudit/releases/tag/v1.9.2 (Anthropic, checked on 2026-10-24).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import pairwise
from math import log
from random import Random
from typing import Any, NamedTuple, TypeAlias

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.measuring import Series, ratios, rounds_of
from benchmarks.harness.reporting import Report, Target, values_table
from benchmarks.transcripts import Message, english
from tower_memory import InMemorySessionStore, MemoryLayer
from tower_memory.windows import (
    LastTurns,
    Stepped,
    Summarised,
    TokenBudget,
    Window,
    estimated_tokens,
)

TURNS = 120
CONVERSATIONS = 3

BYTES_PER_TOKEN = 4
SYSTEM_TOKENS = 400
QUESTION_TOKENS = 60
ANSWER_TOKENS = 250
SUMMARY_TOKENS = 300
SIGMA = 0.5
"""Spread of the lengths of questions and answers, which are log-normal."""

LEAST_CACHED = 1_024

WHOLE, LAST, BUDGET = "whole history", "LastTurns(20)", "TokenBudget(4000)"
STEPPED, SUMMARISED = "Stepped(LastTurns(20))", "Summarised"

REPEATED, CACHED, UNCACHED = "repeated", "cached, thousands", "not cached, thousands"


class Prices(NamedTuple):
    """Prices in US$ for a million tokens."""

    plain: float
    written: float
    read: float
    output: float


PRICES = {
    "GPT-6 Sol": Prices(2.00, 2.50, 0.20, 10.00),
    "GPT-6.1 Sol, Claude Sonnet 5.5": Prices(2.00, 2.50, 0.10, 10.00),
}


def price_case(models: str) -> str:
    """Return the name of the case of the price with *models*."""
    return f"US$, {models}"


class Usage(NamedTuple):
    """The tokens of all requests of a conversation.

    Attributes:
        repeated: Input that repeats the start of the request before.
        cached: Repeated input that the provider takes from its cache.
        total: All input.
        summary_input: Input of the calls for summaries.
        summary_output: Output of these calls.
    """

    repeated: int
    cached: int
    total: int
    summary_input: int
    summary_output: int

    def price(self, prices: Prices) -> float:
        """Return the price in US$, with the cheaper of caching and no caching."""
        with_cache = self.cached * prices.read + (self.total - self.cached) * prices.written
        without = self.total * prices.plain
        summaries = self.summary_input * prices.plain + self.summary_output * prices.output
        return (min(with_cache, without) + summaries) / 1e6


def run(bench: Bench) -> Report:
    """Send the conversations through each window, and compare their input."""
    usages: dict[str, list[Usage]] = {}
    windows = _windows()
    for number, (name, make_window) in enumerate(windows.items(), 1):
        bench.progress.show(name, number, len(windows))
        usages[name] = [anyio.run(_usage, make_window, seed) for seed in range(CONVERSATIONS)]

    series = [each for name, found in usages.items() for each in _series(name, found)]
    repeated = rounds_of(series, STEPPED, REPEATED)
    uncached = [rounds_of(series, name, UNCACHED) for name in (STEPPED, LAST)]
    targets = [
        Target(
            f"input of {STEPPED} that repeats the request before", repeated, 0.85, at_least=True
        ),
        Target(f"input not cached: {STEPPED} ÷ {LAST}", ratios(*uncached), 0.2),
    ]
    return Report(series, [values_table(f"Input of {TURNS} turns", series)], targets)


class _Summariser:
    """A service for summaries that counts its tokens."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.input = self.output = 0

    async def __call__(self, items: Sequence[Any], /) -> str:
        self.input += _tokens(items)
        self.output += SUMMARY_TOKENS
        return english(self.random, SUMMARY_TOKENS * BYTES_PER_TOKEN)


MakeWindow: TypeAlias = Callable[[InMemorySessionStore[Any], _Summariser], Window | None]
"""Function that makes a window, from the store and a service for summaries."""


def _windows() -> Mapping[str, MakeWindow]:
    """Return the functions that make the windows, by their names."""
    return {
        WHOLE: lambda _store, _service: None,
        LAST: lambda _store, _service: LastTurns(20),
        BUDGET: lambda _store, _service: TokenBudget(4000),
        STEPPED: lambda _store, _service: Stepped(LastTurns(20)),
        SUMMARISED: lambda store, service: Summarised(service, store=store),
    }


async def _usage(make_window: MakeWindow, seed: int) -> Usage:
    """Return the tokens of a conversation through a window; equal seeds give equal texts."""
    random = Random(seed)  # noqa: S311 - equal seeds must give equal texts
    system = {"role": "system", "content": english(random, SYSTEM_TOKENS * BYTES_PER_TOKEN)}
    questions = [_text(random, QUESTION_TOKENS) for _ in range(TURNS)]
    answers = [_text(random, ANSWER_TOKENS) for _ in range(TURNS)]

    store = InMemorySessionStore[Any]()
    summariser = _Summariser(Random(seed))  # noqa: S311
    window = make_window(store, summariser)
    requests: list[list[Message]] = [[]]

    async def model(request: list[Message]) -> str:
        requests.append(request)
        return answers[len(requests) - 2]

    ask: Callable[[list[Message]], Awaitable[str]] = MemoryLayer.over(
        store, session_id="s", window=window
    )(model)
    for question in questions:
        await ask([system, {"role": "user", "content": question}])

    repeated = [_tokens(_common_start(before, after)) for before, after in pairwise(requests)]
    return Usage(
        sum(repeated),
        sum(each for each in repeated if each >= LEAST_CACHED),
        sum(map(_tokens, requests)),
        summariser.input,
        summariser.output,
    )


def _text(random: Random, tokens: int) -> str:
    """Return a text of about *tokens* tokens on average."""
    length = random.lognormvariate(log(tokens * BYTES_PER_TOKEN) - SIGMA**2 / 2, SIGMA)
    return english(random, max(1, int(length)))


def _tokens(messages: Sequence[Message]) -> int:
    return sum(map(estimated_tokens, messages))


def _common_start(before: Sequence[Message], after: Sequence[Message]) -> Sequence[Message]:
    """Return the messages at the start of *after* that equal those of *before*."""
    equal = [old == new for old, new in zip(before, after, strict=False)]
    return after[: equal.index(False) if False in equal else len(equal)]


def _series(name: str, usages: Sequence[Usage]) -> list[Series]:
    """Return the results of the window *name*, for each conversation."""
    return [
        Series(REPEATED, name, "", [each.repeated / each.total for each in usages]),
        Series(CACHED, name, "thousand tokens", [each.cached / 1e3 for each in usages]),
        Series(
            UNCACHED, name, "thousand tokens", [(each.total - each.cached) / 1e3 for each in usages]
        ),
        *(
            Series(price_case(models), name, "US$", [each.price(prices) for each in usages])
            for models, prices in PRICES.items()
        ),
    ]
