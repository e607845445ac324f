"""Rules of OpenAI's responses for a conversation that is sent back to the provider.

The rules are those of the provider's documentation, and of the request types of its client.
"""

from __future__ import annotations

import pytest

from helpers.messages import INTERRUPTED_CALL, NEW, THOUGHT, assistant, user
from tower_memory import LoadSession, MemoryLayer, SaveSession, Turn
from tower_memory.dialects import OpenAIResponses
from tower_memory.testing import ScriptedService
from tower_memory.windows import LastItems, LastTurns


def responses(history, new=NEW):
    return OpenAIResponses().with_history(new, history)[: -len(new)]


def called(kind, **fields):
    return {"type": kind, "id": f"{kind}_id", "call_id": "1", **fields}


FUNCTION = {"name": "f", "arguments": "{}"}
SHELL = {"stdout": "", "stderr": INTERRUPTED_CALL, "outcome": {"type": "exit", "exit_code": 1}}


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (called("function_call", **FUNCTION), {"call_id": "1", "output": INTERRUPTED_CALL}),
        (
            called("custom_tool_call", name="f", input="x"),
            {"call_id": "1", "output": INTERRUPTED_CALL},
        ),
        (
            called("apply_patch_call"),
            {"call_id": "1", "status": "failed", "output": INTERRUPTED_CALL},
        ),
        (called("shell_call"), {"call_id": "1", "output": [SHELL]}),
        (called("local_shell_call"), {"id": "1", "output": f'"{INTERRUPTED_CALL}"'}),
        (
            called("function_call", **FUNCTION, caller={"type": "program", "caller_id": "p"}),
            {
                "call_id": "1",
                "output": INTERRUPTED_CALL,
                "caller": {"type": "program", "caller_id": "p"},
            },
        ),
    ],
    ids=["function", "custom", "patch", "shell", "local shell", "of a program"],
)
def test_each_kind_of_call_is_answered_as_interrupted_in_its_own_way(call, answer):
    answer = {"type": f"{call['type']}_output", **answer}
    assert responses([user("a"), THOUGHT, call]) == [user("a"), THOUGHT, call, answer]
    assert responses([user("a"), THOUGHT, call, answer]) == [user("a"), THOUGHT, call, answer]
    assert responses([user("a"), answer]) == [user("a")]
    assert OpenAIResponses().with_history([answer], [user("a"), call]) == [user("a"), call, answer]


def test_a_missing_approval_is_answered_with_a_refusal():
    request = {"type": "mcp_approval_request", "id": "a1", "name": "f", "arguments": "{}"}
    answer = {"type": "mcp_approval_response", "approval_request_id": "a1", "approve": True}
    refusal = {**answer, "approve": False, "reason": INTERRUPTED_CALL}
    assert responses([user("a"), request]) == [user("a"), request, refusal]
    assert responses([user("a"), request, answer]) == [user("a"), request, answer]


def test_a_call_whose_result_is_a_picture_is_left_out_with_its_reasoning():
    click = called("computer_call")
    spoken = {"type": "message", "id": "m", **assistant("b")}
    assert responses([user("a"), THOUGHT, click]) == [user("a")]
    without_id = {"type": "message", **assistant("b")}
    assert responses([user("a"), THOUGHT, click, spoken]) == [user("a"), without_id]
    shot = called("computer_call_output", output={})
    assert responses([user("a"), THOUGHT, click, shot]) == [user("a"), THOUGHT, click, shot]


def test_calls_that_the_server_answers_itself_need_no_result():
    items = [
        {"type": "program", "id": "p", "call_id": "p1", "fingerprint": "f"},
        {"type": "tool_search_call", "call_id": "s", "execution": "server"},
        {"type": "web_search_call", "id": "w", "status": "completed"},
        {"type": "some_future_call", "call_id": "f"},
    ]
    assert responses([user("a"), *items]) == [user("a"), *items]
    assert responses([user("a"), called("tool_search_call", execution="client")]) == [user("a")]


def test_a_call_that_may_be_answered_at_any_time_is_not_changed():
    call = called("function_call", **FUNCTION, **{"async": True})
    late = called("function_call_output", output="b")
    assert responses([user("a"), call, user("b")]) == [user("a"), call, user("b")]
    assert OpenAIResponses().with_history([late], [user("a"), call, user("b")]) == [
        *(user("a"), call, late, user("b")),
    ]


def test_an_item_that_is_no_message_is_no_instruction_even_with_a_role():
    tools = {"type": "additional_tools", "role": "developer", "tools": []}
    system = {"type": "message", "role": "system", "content": "Be brief."}
    dialect = OpenAIResponses()
    assert dialect.new_items([tools, system, user("a")]) == [tools, user("a")]
    assert dialect.with_history([system, tools, user("b")], [user("a")]) == [
        *(system, user("a"), tools, user("b")),
    ]
    assert dialect.reply_items("a", {"output": [tools]}) == [tools]


def test_a_response_may_be_empty_and_a_request_may_refer_to_its_input():
    dialect = OpenAIResponses()
    assert dialect.reply_items("a", {"output": [], "status": "incomplete"}) == []
    for elsewhere in ("prompt", "previous_response_id", "conversation"):
        request = {"model": "m", elsewhere: {"id": "x"}}
        assert dialect.new_items(request) == []
    given = dialect.with_history({"prompt": {"id": "x"}}, [user("a")])
    assert given == {"prompt": {"id": "x"}, "input": [user("a")]}
    assert dialect.new_items([{"id": "msg_1"}]) == [{"id": "msg_1"}]  # a reference to a stored item
    with pytest.raises(TypeError, match="request must be .* have input, got dict with model"):
        dialect.new_items({"model": "m"})


def test_a_result_without_a_call_is_an_error_at_the_first_request_too():
    with pytest.raises(ValueError, match="for which no call"):
        OpenAIResponses().with_history([called("function_call_output", output="")], [])


async def test_no_item_is_sent_without_its_reasoning_wherever_a_limit_cuts(store):
    said = [{"type": "message", "id": "m", **assistant("b")}]
    await store.append(Turn("s", [user("a"), THOUGHT, *said]))

    for limit, window in [(1, None), (1, LastTurns(5)), (2, LastItems(9))]:
        service = ScriptedService("ok")
        layer = MemoryLayer(
            LoadSession(store, limit=limit),
            SaveSession(store),
            session_id="s",
            dialect=OpenAIResponses(),
            window=window,
        )
        await layer(service)(NEW)

        assert service.requests == [NEW]

        await store.pop("s")
        await store.pop("s")
