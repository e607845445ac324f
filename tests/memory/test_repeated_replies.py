"""A request that repeats the last reply at its start: nothing is stored or sent twice."""

from __future__ import annotations

import pytest

from helpers.layers import memory_over
from helpers.messages import assistant, calling, result, user
from tower_memory import InMemorySessionStore, Turn
from tower_memory.dialects import AnthropicMessages, ChatCompletions, OpenAIResponses
from tower_memory.testing import ScriptedService
from tower_memory.windows import LastTurns

SEARCH = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
SAID = {"type": "text", "text": "It rains."}
PAUSED = {**assistant([SEARCH]), "stop_reason": "pause_turn"}


@pytest.mark.parametrize("repeated", [[], [assistant([SEARCH])]], ids=["nothing", "the reply"])
async def test_a_paused_reply_of_anthropic_goes_on_and_is_stored_once(store, repeated):
    """The documented ways to go on: no new message, or the assistant's content sent back."""
    service = ScriptedService(PAUSED, assistant([FOUND, SAID]), assistant([SAID]))
    memory = memory_over(store, dialect=AnthropicMessages())(service)
    await memory({"messages": [user("Rain?")]})
    await memory({"messages": repeated})
    assert service.requests[1] == {"messages": [user("Rain?"), assistant([SEARCH])]}
    assert await store.load("s") == [user("Rain?"), PAUSED, assistant([FOUND, SAID])]

    await memory({"messages": [user("Sure?")]})
    assert service.requests[2]["messages"] == [
        *(user("Rain?"), assistant([SEARCH]), assistant([FOUND, SAID]), user("Sure?")),
    ]


@pytest.mark.parametrize("window", [None, LastTurns(1)], ids=["whole", "window"])
async def test_a_call_that_is_sent_along_with_its_result_is_stored_once(store, window):
    """Only the result is new."""
    await store.append(Turn("s", [user("a"), assistant("b"), user("c"), calling("1")]))
    service = ScriptedService("done")
    memory = memory_over(store, dialect=ChatCompletions(), window=window)(service)
    await memory([calling("1"), result("1"), user("d")])

    new = [calling("1"), result("1"), user("d")]
    assert service.requests[0][-4:] == [user("c"), *new]
    assert list(await store.load("s"))[3:] == [
        calling("1"),
        result("1"),
        user("d"),
        *([assistant("done")]),
    ]


@pytest.mark.parametrize(
    "new",
    [
        [user("a")],
        [assistant("other"), user("c")],
        [result("1"), user("c")],
        [calling("2"), result("2")],
        [{**calling("1"), "content": "Hm."}, result("1")],
    ],
    ids=["a question", "another reply", "a result", "another call", "a call with text"],
)
async def test_only_the_last_reply_itself_counts_as_repeated(new):
    """A repeated question of the user, another reply and a result are new."""
    store = InMemorySessionStore()
    await store.append(Turn("s", [user("a"), calling("1")]))
    await memory_over(store)(ScriptedService("b"))(new)
    assert list(await store.load("s"))[2:] == [*new, assistant("b")]


async def test_several_repeated_items_count_as_one_reply(store):
    """The longest repeated end of the history is not new."""
    said = [user("a"), calling("1"), result("1"), assistant("b")]
    await store.append(Turn("s", said))
    service = ScriptedService("d")
    await memory_over(store)(service)([*said[1:], user("c")])
    assert service.requests == [[*said, user("c")]]
    assert await store.load("s") == [*said, user("c"), assistant("d")]


async def test_a_reply_may_be_repeated_call_by_call_with_the_results_between(store):
    """The usual loop over the output appends each call and its result."""
    calls = [
        {
            "type": "function_call",
            "id": f"fc_{each}",
            "call_id": each,
            "name": "f",
            "arguments": "{}",
        }
        for each in "ab"
    ]
    outputs = [{"type": "function_call_output", "call_id": each, "output": "r"} for each in "ab"]
    service = ScriptedService({"output": calls}, {"output": []})
    memory = memory_over(store, dialect=OpenAIResponses())(service)
    await memory({"input": [user("q")]})
    await memory({"input": [calls[0], outputs[0], calls[1], outputs[1]]})
    assert service.requests[1]["input"] == [user("q"), calls[0], outputs[0], calls[1], outputs[1]]
    assert await store.load("s") == [user("q"), *calls, *outputs]
