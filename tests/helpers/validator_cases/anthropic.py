"""Messages of Anthropic."""

from __future__ import annotations

from helpers.messages import SYSTEM, assistant, user
from helpers.validator_cases.chat import HELLO, HI, text


def use(call_id="a", **changes):
    """Return a tool call of Claude with *changes*."""
    return {"type": "tool_use", "id": call_id, "name": "f", "input": {}, **changes}


def answer(call_id="a", **changes):
    """Return a tool result for Claude with *changes*."""
    return {"type": "tool_result", "tool_use_id": call_id, "content": "done", **changes}


SEARCH = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "x"}
ANTHROPIC = {
    "text": [HI],
    "blocks": [user([text()]), assistant([text()])],
    "neighbours of one role": [HI, HI, HELLO, HELLO],
    "a system message": [HI, {"role": "system", "content": "Be brief."}],
    "a system message before a reply": [HI, {"role": "system", "content": "x"}, HELLO, HI],
    "an empty last reply": [HI, assistant("")],
    "an empty list as the last reply": [HI, assistant([])],
    "whitespace at the end of an earlier reply": [HI, assistant("Hello "), HI],
    "a call": [HI, assistant([text(), use()]), user([answer()])],
    "two calls": [HI, assistant([use("a"), use("b")]), user([answer("b"), answer("a"), text()])],
    "a result without content": [
        HI,
        assistant([use()]),
        user([{"type": "tool_result", "tool_use_id": "a"}]),
    ],
    "a call in two exchanges": [HI, assistant([use()]), user([answer()])] * 2,
    "thinking": [HI, assistant([THINKING, text()])],
    "redacted thinking": [
        HI,
        assistant([{"type": "redacted_thinking", "data": "x"}, use()]),
        user([answer()]),
    ],
    "a search": [HI, assistant([SEARCH, FOUND, text()]), HI],
    "a paused search": [HI, assistant([SEARCH])],
    "a search that goes on": [HI, assistant([SEARCH]), assistant([FOUND, text()])],
    "a search beside a call": [HI, assistant([SEARCH, use()]), user([answer()])],
    "an unknown block": [HI, assistant([{"type": "fallback"}, text()])],
}
ANTHROPIC_REFUSED = {
    "no messages": ("empty array", []),
    "an unknown role": ("Unexpected role", [{"role": "tool", "content": "x"}]),
    "the assistant first": ('must use the "user" role', [HELLO]),
    "a system message first": ("top-level", [SYSTEM, HI]),
    "a system message after a reply": ("must follow a user", [HI, HELLO, SYSTEM]),
    "a system message before the user": ("must precede", [HI, SYSTEM, HI]),
    "no content": ("Input should be", [{"role": "user"}]),
    "empty content": ("non-empty content", [user("")]),
    "no blocks": ("non-empty content", [user([])]),
    "an empty reply before the last": ("non-empty content", [HI, assistant(""), HI]),
    "an empty text": ("must be non-empty", [user([text("")])]),
    "an invisible text": ("non-whitespace", [user([text(" \n")])]),
    "an invisible content": ("non-whitespace", [user(" ")]),
    "whitespace at the end": ("trailing whitespace", [HI, assistant("Hello ")]),
    "whitespace at the end of a block": ("trailing whitespace", [HI, assistant([text("Hello\n")])]),
    "a block without type": ("type", [user([{"text": "x"}])]),
    "a text block without text": ("text", [user([{"type": "text"}])]),
    "a call of the user": ("cannot be in", [user([use()])]),
    "a result of the assistant": ("cannot be in", [HI, assistant([use()]), assistant([answer()])]),
    "a call without result": ("without `tool_result`", [HI, assistant([use()])]),
    "a late result": ("without `tool_result`", [HI, assistant([use()]), HI, user([answer()])]),
    "half of the results": (
        "without `tool_result`",
        [HI, assistant([use("a"), use("b")]), user([answer("a")])],
    ),
    "results behind text": (
        "without `tool_result`",
        [HI, assistant([use()]), user([text(), answer()])],
    ),
    "text behind a call": (
        "without `tool_result`",
        [HI, assistant([use(), text()]), user([answer()])],
    ),
    "a result without id": (
        "without `tool_result`",
        [HI, assistant([use()]), user([{"type": "tool_result"}])],
    ),
    "a result alone": ("unexpected `tool_use_id`", [HI, HELLO, user([answer()])]),
    "a second result": (
        "unexpected `tool_use_id`",
        [HI, assistant([use()]), user([answer(), answer()])],
    ),
    "a result that is a number": (
        "tool_result.content",
        [HI, assistant([use()]), user([answer(content=1)])],
    ),
    "an id with a dot": ("match pattern", [HI, assistant([use("a.b")]), user([answer("a.b")])]),
    "an empty id": ("empty string", [HI, assistant([use("")]), user([answer("")])]),
    "an id twice": (
        "must be unique",
        [HI, assistant([use(), use()]), user([answer(), answer()])],
    ),
    "an empty name": ("empty string", [HI, assistant([use(name="")]), user([answer()])]),
    "input as text": ("valid dictionary", [HI, assistant([use(input="{}")]), user([answer()])]),
    "no signature": (
        "signature: Field required",
        [HI, assistant([{"type": "thinking", "thinking": "Hm."}, text()])],
    ),
    "thinking at the end": ("cannot be `thinking`", [HI, assistant([text(), THINKING])]),
    "a search without result": (
        "without a corresponding",
        [HI, assistant([SEARCH, text()]), HI, HELLO],
    ),
    "a search before the user": ("without a corresponding", [HI, assistant([SEARCH, text()]), HI]),
    "a result without search": ("unexpected `tool_use_id`", [HI, assistant([FOUND, text()])]),
    "half of a surrogate pair": ("not valid JSON", [user("\ud800")]),
}
