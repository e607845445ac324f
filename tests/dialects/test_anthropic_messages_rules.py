"""Rules of Anthropic's messages for a conversation that is sent back to the provider.

The rules are those of the provider's documentation, and of the request types of its client.
"""

from __future__ import annotations

import pytest

from helpers.layers import memory_over
from helpers.messages import INTERRUPTED_CALL, NEW, assistant, user
from tower_memory import History, Turn
from tower_memory.dialects import AnthropicMessages
from tower_memory.testing import ScriptedService
from tower_memory.windows import LastTurns


def anthropic(history, new=NEW):
    return AnthropicMessages().with_history(new, history)[: -len(new)]


def block(kind, **fields):
    return {"type": kind, **fields}


def tool_use(call_id):
    return block("tool_use", id=call_id, name="f", input={})


def cut(*items):
    return History(items, is_cut=True)


THINKING = [block("thinking", thinking="H", signature="x"), block("redacted_thinking", data="y")]
TEXT = block("text", text="b")


def test_system_messages_stay_in_front_or_where_they_are():
    system = {"role": "system", "content": "Be brief."}
    dialect = AnthropicMessages()
    request = [system, user("a"), system]
    assert dialect.new_items(request) == [user("a"), system]
    assert dialect.with_history(request, [user("x"), assistant("y")]) == [
        *(system, user("x"), assistant("y"), user("a"), system),
    ]


def test_thinking_of_ended_exchanges_is_left_out_if_the_history_is_cut():
    call, result = tool_use("1"), block("tool_result", tool_use_id="1", content="c")
    over = [user("a"), assistant([*THINKING, TEXT]), user("b"), assistant([TEXT]), user("c")]
    under_way = [user("d"), assistant([*THINKING, call])]
    bare = [user("a"), assistant([TEXT]), user("b"), assistant([TEXT]), user("c")]
    assert anthropic(cut(*over)) == bare
    assert anthropic(over) == anthropic(History(over)) == over
    assert anthropic(cut(*over, *under_way), [user([result])]) == [*bare, *under_way]


async def test_a_history_that_a_window_cut_is_marked_as_cut(store):
    said = [user("a"), assistant([*THINKING, TEXT])]
    await store.append(Turn("s", [*said, *said]))

    async def own(history):
        return list(history)[2:]

    async def copying(history):
        return list(history)

    for window, given in [
        (None, [*said, *said]),
        (LastTurns(2), [*said, *said]),
        (copying, [*said, *said]),
        (LastTurns(1), [user("a"), assistant([TEXT])]),
        (own, [user("a"), assistant([TEXT])]),
    ]:
        service = ScriptedService(assistant([]))
        layer = memory_over(store, dialect=AnthropicMessages(), window=window)
        await layer(service)(NEW)

        assert service.requests == [[*given, *NEW]]

        await store.pop("s")


def test_a_server_side_call_without_a_result_is_left_out():
    search = block("server_tool_use", id="s", name="web_search", input={})
    found = block("web_search_tool_result", tool_use_id="s", content=[])
    call, result = tool_use("1"), block("tool_result", tool_use_id="1", content="c")
    whole = [user("a"), assistant([search, found, TEXT])]

    assert anthropic(whole) == whole
    assert anthropic([user("a"), assistant([TEXT, search])]) == [user("a"), assistant([TEXT])]
    assert anthropic([user("a"), assistant([search])]) == [user("a")]

    # Beside a call of another tool, its result may follow in the next message or later.
    beside = [user("a"), assistant([search, call])]
    answered = [*beside, user([result]), assistant([found, TEXT])]

    assert anthropic(answered) == answered
    assert anthropic(beside, [user([result])]) == beside

    given = AnthropicMessages().with_history(NEW, beside)
    assert given[1] == assistant([call])


def test_empty_text_is_left_out():
    empty = block("text", text="")
    assert anthropic([user("a"), assistant([empty, TEXT]), user("b"), assistant([empty])]) == [
        *(user("a"), assistant([TEXT]), user("b")),
    ]


def test_cache_control_is_not_stored_at_any_depth():
    marked = {"cache_control": {"type": "ephemeral"}}
    inner = block("text", text="a", **marked)
    content = [
        block("document", source={"type": "content", "content": [inner]}, **marked),
        block("tool_result", tool_use_id="1", content=[inner], **marked),
        block("tool_use", id="1", input=marked),  # the input of a tool is not changed
    ]
    bare = block("text", text="a")

    assert AnthropicMessages().new_items([user(content)]) == [
        user(
            [
                block("document", source={"type": "content", "content": [bare]}),
                block("tool_result", tool_use_id="1", content=[bare]),
                block("tool_use", id="1", input=marked),
            ]
        )
    ]


def test_results_in_several_messages_are_joined_in_one_before_other_content():
    calls = assistant([tool_use(each) for each in "123"])
    one, two = (block("tool_result", tool_use_id=each, content="c") for each in "12")
    more = block("text", text="and")
    missing = block("tool_result", tool_use_id="3", content=INTERRUPTED_CALL, is_error=True)
    given = AnthropicMessages().with_history([user([two])], [user("a"), calls, user([one, more])])
    assert given == [user("a"), calls, user([missing, one, two, more])]


def test_results_without_a_call_are_left_out_of_their_message():
    call = tool_use("1")
    known, unknown = (block("tool_result", tool_use_id=each, content="c") for each in "12")
    past = [user("a"), assistant([call]), user([unknown, known, TEXT])]
    assert anthropic(past) == [*past[:2], user([known, TEXT])]
    assert anthropic([user("a"), user([unknown])]) == [user("a")]


def test_a_reply_whose_content_is_of_an_unknown_kind_is_refused():
    with pytest.raises(TypeError, match="response.content must be a list of blocks .* got int"):
        AnthropicMessages().reply_items(NEW, assistant(3))
