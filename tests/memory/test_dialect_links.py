"""The links that a dialect declares: windows, the check of windows and reconcile read them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from helpers.internals import links_of
from helpers.layers import memory_over
from tower_memory import HandoffItem, InMemorySessionStore, MessageItem, Role, Turn
from tower_memory.dialects import (
    AnthropicMessages,
    ChatCompletions,
    GeminiContents,
    ItemLinks,
    LinkedDialect,
    OpenAIResponses,
    PydanticAI,
    toolkit,
)
from tower_memory.testing import ScriptedService
from tower_memory.windows import LastItems, LastTurns


@dataclass(frozen=True)
class Acme:
    """A dialect of lists: ["ask", text], ["call", id], ["result", id], ["say", text]."""

    def new_items(self, request, /):
        return request

    def with_history(self, request, history, /):
        return [*history, *request]

    def reply_items(self, request, response, /):
        return [["say", response]]

    def newest(self, request, count, /):
        return request[-count:]

    def links(self, item, /):
        kind, value = item
        return toolkit.item_links(
            [value] if kind == "call" else (),
            [value] if kind == "result" else (),
            starts_exchange=kind == "ask",
        )


TALK = [["ask", "a"], ["say", "A"], ["ask", "b"], ["call", "1"], ["result", "1"], ["say", "B"]]


async def acme_over(items=TALK, **parameters):
    store = InMemorySessionStore()
    await store.append(Turn("s", items))
    return memory_over(store, dialect=Acme(), **parameters)


@pytest.mark.parametrize(("window", "start"), [(LastTurns(1), 2), (LastItems(5), 2)], ids=repr)
async def test_a_window_cuts_where_the_dialect_says_that_an_exchange_starts(window, start):
    service = ScriptedService("C")
    await (await acme_over(window=window))(service)([["ask", "c"]])
    assert service.requests == [[*TALK[start:], ["ask", "c"]]]


async def test_a_window_keeps_an_exchange_that_the_dialect_says_is_open():
    service = ScriptedService("done")
    memory = await acme_over(TALK[:4], window=LastItems(1))
    await memory(service)([["result", "1"]])
    assert service.requests == [[*TALK[2:4], ["result", "1"]]]


async def test_a_result_without_an_id_answers_a_call_with_one():
    async def window(history):
        return history[4:]

    items = [*TALK[:4], ["result", None], TALK[5]]
    with pytest.raises(ValueError, match="it separated a call without an id"):
        await (await acme_over(items, window=window))(ScriptedService())([["ask", "c"]])


async def test_a_window_must_not_separate_a_call_of_the_dialect_from_its_result():
    async def window(history):
        assert history.links(["call", "1"]) == ItemLinks(calls=("1",))
        return history[4:]

    with pytest.raises(ValueError, match="it separated the call '1'"):
        await (await acme_over(window=window))(ScriptedService())([["ask", "c"]])


async def test_a_front_end_may_hide_the_calls_and_results_of_the_dialect():
    service = ScriptedService("C")
    shown = [item for item in TALK if item[0] in ("ask", "say")]
    await (await acme_over(whole_requests=True))(service)([*shown, ["ask", "c"]])
    assert service.requests == [[*TALK, ["ask", "c"]]]


def test_a_dialect_that_declares_no_links_uses_those_of_every_known_dialect():
    class Silent:
        pass

    links = links_of(Silent())
    assert not isinstance(Silent(), LinkedDialect)
    assert links({"role": "user", "content": "a"}) == ItemLinks(starts_exchange=True)
    assert links({"type": "function_call", "call_id": "1"}) == ItemLinks(calls=("1",))
    assert links({"nobody": "knows it"}) == ItemLinks(starts_exchange=True)


@pytest.mark.parametrize(
    "dialect",
    [AnthropicMessages(), ChatCompletions(), GeminiContents(), OpenAIResponses(), PydanticAI()],
    ids=repr,
)
def test_every_dialect_of_the_package_declares_links(dialect):
    assert isinstance(dialect, LinkedDialect)
    assert links_of(dialect) == dialect.links
    assert dialect.links({"role": "user", "content": "a"}) == ItemLinks(starts_exchange=True)
    assert dialect.links({"role": "assistant", "content": "a"}) == ItemLinks()


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("item", "links"),
    [
        (MessageItem("1", Role.USER, "a", NOW), ItemLinks(starts_exchange=True)),
        (HandoffItem("1", "one", "two", None, NOW), ItemLinks()),
        ({"role": "tool", "content": "a server that gives no ids"}, ItemLinks(results=(None,))),
        (
            {"role": "assistant", "tool_calls": [{"id": "1"}, {"id": None}, {"id": "2"}]},
            ItemLinks(calls=("1", None, "2")),
        ),
        (
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1"}]},
            ItemLinks(results=("1",)),
        ),
        ({"type": "tool_search_call", "call_id": "1", "execution": "server"}, ItemLinks()),
        ({"type": ["no", "type"], "call_id": "1"}, ItemLinks()),
        ({"type": "local_shell_call_output", "id": "1"}, ItemLinks(results=("1",))),
        (
            {"role": "model", "parts": [{"functionCall": {"name": "f"}}, {"text": "a"}]},
            ItemLinks(calls=("f",)),
        ),
        (
            {"role": "user", "parts": [{"functionResponse": {"id": "1", "name": "f"}}]},
            ItemLinks(results=("1",)),
        ),
    ],
)
def test_an_item_has_the_same_links_without_a_dialect(item: Any, links):
    assert links_of(None)(item) == links


async def test_a_request_may_repeat_the_last_reply_in_any_shape():
    service = ScriptedService("C")
    await (await acme_over())(service)([["say", "B"], ["ask", "c"]])
    assert service.requests == [[*TALK, ["ask", "c"]]]
