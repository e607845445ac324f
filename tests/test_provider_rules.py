"""What each provider takes back, and what it does not: its own rules, kept when a history is given.

The rules are those of the providers' documentation, and of their clients' types of requests.
"""

from __future__ import annotations

import msgspec
import pydantic
import pytest
from openai.types.chat import ChatCompletionMessage
from pydantic_ai import Agent
from pydantic_ai import messages as pydantic_ai
from pydantic_ai.models.function import FunctionModel

from tower_memory import History, InMemorySessionStore, LoadSession, MemoryLayer, SaveSession, Turn
from tower_memory.bridges import AsyncioLayer
from tower_memory.dialects import AnthropicMessages, ChatCompletions, OpenAIResponses, PydanticAI
from tower_memory.testing import ScriptedService
from tower_memory.windows import LastItems, LastTurns

INTERRUPTED = "(interrupted: this call has no result)"


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


NEW = [user("new")]


# OpenAI, responses


def responses(history, new=NEW):
    return OpenAIResponses().with_history(new, history)[: -len(new)]


def called(kind, **fields):
    return {"type": kind, "id": f"{kind}_id", "call_id": "1", **fields}


THOUGHT = {"type": "reasoning", "id": "rs", "summary": []}
SHELL = {"stdout": "", "stderr": INTERRUPTED, "outcome": {"type": "exit", "exit_code": 1}}


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (called("function_call"), {"call_id": "1", "output": INTERRUPTED}),
        (called("custom_tool_call"), {"call_id": "1", "output": INTERRUPTED}),
        (
            called("apply_patch_call"),
            {"call_id": "1", "status": "failed", "output": INTERRUPTED},
        ),
        (called("shell_call"), {"call_id": "1", "output": [SHELL]}),
        (called("local_shell_call"), {"id": "1", "output": f'"{INTERRUPTED}"'}),
        (
            called("function_call", caller={"type": "program", "caller_id": "p"}),
            {
                "call_id": "1",
                "output": INTERRUPTED,
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


def test_an_approval_that_nobody_gave_is_refused():
    request = {"type": "mcp_approval_request", "id": "a1", "name": "f", "arguments": "{}"}
    answer = {"type": "mcp_approval_response", "approval_request_id": "a1", "approve": True}
    refusal = {**answer, "approve": False, "reason": INTERRUPTED}
    assert responses([user("a"), request]) == [user("a"), request, refusal]
    assert responses([user("a"), request, answer]) == [user("a"), request, answer]


def test_a_call_whose_result_is_a_picture_is_left_out_with_the_reasoning_that_it_came_of():
    click = called("computer_call")
    spoken = {"type": "message", "id": "m", **assistant("b")}
    assert responses([user("a"), THOUGHT, click]) == [user("a")]
    assert responses([user("a"), THOUGHT, click, spoken]) == [user("a"), spoken]
    shot = called("computer_call_output", output={})
    assert responses([user("a"), THOUGHT, click, shot]) == [user("a"), THOUGHT, click, shot]


def test_what_the_server_answers_itself_waits_for_nobody():
    items = [
        {"type": "program", "id": "p", "call_id": "p1", "fingerprint": "f"},
        {"type": "tool_search_call", "call_id": "s", "execution": "server"},
        {"type": "web_search_call", "id": "w", "status": "completed"},
        {"type": "some_future_call", "call_id": "f"},
    ]
    assert responses([user("a"), *items]) == [user("a"), *items]
    assert responses([user("a"), called("tool_search_call", execution="client")]) == [user("a")]


def test_a_call_that_may_be_answered_at_any_time_is_left_alone():
    call = called("function_call", **{"async": True})
    late = called("function_call_output", output="b")
    assert responses([user("a"), call, user("b")]) == [user("a"), call, user("b")]
    assert OpenAIResponses().with_history([late], [user("a"), call, user("b")]) == [
        *(user("a"), call, late, user("b")),
    ]


def test_what_is_no_message_is_no_instruction_whatever_its_role():
    tools = {"type": "additional_tools", "role": "developer", "tools": []}
    system = {"type": "message", "role": "system", "content": "Be brief."}
    dialect = OpenAIResponses()
    assert dialect.new_items([tools, system, user("a")]) == [tools, user("a")]
    assert dialect.with_history([system, tools, user("b")], [user("a")]) == [
        *(system, user("a"), tools, user("b")),
    ]
    assert dialect.reply_items("a", {"output": [tools]}) == [tools]


def test_a_response_may_be_empty_and_a_request_have_its_input_elsewhere():
    dialect = OpenAIResponses()
    assert dialect.reply_items("a", {"output": [], "status": "incomplete"}) == []
    for elsewhere in ("prompt", "previous_response_id", "conversation"):
        request = {"model": "m", elsewhere: {"id": "x"}}
        assert dialect.new_items(request) == []
    given = dialect.with_history({"prompt": {"id": "x"}}, [user("a")])
    assert given == {"prompt": {"id": "x"}, "input": [user("a")]}
    assert dialect.new_items([{"id": "msg_1"}]) == [{"id": "msg_1"}]  # an item_reference
    with pytest.raises(TypeError, match="request must be .* have input, got dict with model"):
        dialect.new_items({"model": "m"})


def test_a_result_that_nobody_waits_for_is_an_error_at_the_first_request_too():
    with pytest.raises(ValueError, match="for which no call"):
        OpenAIResponses().with_history([called("function_call_output", output="")], [])


async def test_wherever_a_limit_cuts_nothing_is_sent_without_the_reasoning_that_it_came_of(store):
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


# Anthropic


def anthropic(history, new=NEW):
    return AnthropicMessages().with_history(new, history)[: -len(new)]


def block(kind, **fields):
    return {"type": kind, **fields}


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


def test_thinking_of_exchanges_that_are_over_is_left_out_where_the_history_is_cut():
    call, result = block("tool_use", id="1"), block("tool_result", tool_use_id="1", content="c")
    over = [user("a"), assistant([*THINKING, TEXT]), user("b"), assistant(THINKING), user("c")]
    under_way = [user("d"), assistant([*THINKING, call])]
    bare = [user("a"), assistant([TEXT]), user("b"), user("c")]
    assert anthropic(cut(*over)) == bare
    assert anthropic(over) == anthropic(History(over)) == over
    assert anthropic(cut(*over, *under_way), [user([result])]) == [*bare, *under_way]


async def test_a_window_that_cuts_says_so(store):
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
        service = ScriptedService({"role": "assistant", "content": []})
        layer = MemoryLayer(
            LoadSession(store),
            SaveSession(store),
            session_id="s",
            dialect=AnthropicMessages(),
            window=window,
        )
        await layer(service)(NEW)
        assert service.requests == [[*given, *NEW]]
        await store.pop("s")


def test_a_call_of_the_providers_own_that_it_did_not_answer_is_left_out():
    search = block("server_tool_use", id="s", name="web_search", input={})
    found = block("web_search_tool_result", tool_use_id="s", content=[])
    call, result = block("tool_use", id="1"), block("tool_result", tool_use_id="1", content="c")
    whole = [user("a"), assistant([search, found, TEXT])]
    assert anthropic(whole) == whole
    assert anthropic([user("a"), assistant([TEXT, search])]) == [user("a"), assistant([TEXT])]
    assert anthropic([user("a"), assistant([search])]) == [user("a")]
    # Beside a call of another tool it may be answered in the next message, or yet to come.
    beside = [user("a"), assistant([search, call])]
    answered = [*beside, user([result]), assistant([found, TEXT])]
    assert anthropic(answered) == answered
    assert anthropic(beside, [user([result])]) == beside
    given = AnthropicMessages().with_history(NEW, beside)
    assert given[1] == assistant([call])


def test_text_that_is_empty_is_left_out():
    empty = block("text", text="")
    assert anthropic([user("a"), assistant([empty, TEXT]), user("b"), assistant([empty])]) == [
        *(user("a"), assistant([TEXT]), user("b")),
    ]


def test_what_is_cached_is_not_kept_wherever_it_stands():
    marked = {"cache_control": {"type": "ephemeral"}}
    inner = block("text", text="a", **marked)
    content = [
        block("document", source={"type": "content", "content": [inner]}, **marked),
        block("tool_result", tool_use_id="1", content=[inner], **marked),
        block("tool_use", id="1", input=marked),  # what a tool is given is its own
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


def test_results_in_several_messages_are_given_in_one_before_what_else_is_said():
    calls = assistant([block("tool_use", id=each) for each in "123"])
    one, two = (block("tool_result", tool_use_id=each, content="c") for each in "12")
    more = block("text", text="and")
    missing = block("tool_result", tool_use_id="3", content=INTERRUPTED, is_error=True)
    given = AnthropicMessages().with_history([user([two])], [user("a"), calls, user([one, more])])
    assert given == [user("a"), calls, user([missing, one, two, more])]


def test_of_a_message_with_results_those_without_a_call_are_left_out():
    call = block("tool_use", id="1")
    known, unknown = (block("tool_result", tool_use_id=each, content="c") for each in "12")
    past = [user("a"), assistant([call]), user([unknown, known, TEXT])]
    assert anthropic(past) == [*past[:2], user([known, TEXT])]
    assert anthropic([user("a"), user([unknown])]) == [user("a")]


def test_a_reply_whose_content_is_of_an_unknown_kind_is_refused():
    with pytest.raises(TypeError, match="response.content must be a list of blocks .* got int"):
        AnthropicMessages().reply_items(NEW, assistant(3))


# Chat completions


def chat(history, new=NEW):
    return ChatCompletions().with_history(new, history)[: -len(new)]


def test_what_a_provider_spoke_goes_back_by_its_id():
    spoken = {**assistant(None), "audio": {"id": "a", "data": "xyz", "transcript": "Hi"}}
    assert chat([user("a"), spoken]) == [user("a"), {**assistant(None), "audio": {"id": "a"}}]
    assert ChatCompletions().reply_items(NEW, spoken) == [spoken]


def test_a_reply_that_says_nothing_goes_back_as_no_text():
    thought = {**assistant(None), "reasoning_content": "Hm"}
    assert chat([user("a"), thought]) == [user("a"), {**thought, "content": ""}]
    refused = {**assistant(None), "refusal": "No."}
    assert chat([user("a"), refused]) == [user("a"), refused]


def test_what_client_libraries_add_to_a_reply_does_not_go_back():
    added = {"function_call": None, "audio": None, "annotations": None, "tool_calls": None}
    message = ChatCompletionMessage(**assistant("b"), **added)
    assert ChatCompletions().reply_items(NEW, message) == [assistant("b")]
    numbered = {**assistant(None), "tool_calls": [{"id": "1", "index": 0}, "odd"]}
    assert ChatCompletions().reply_items(NEW, numbered)[0]["tool_calls"] == [{"id": "1"}, "odd"]
    assert ChatCompletions().new_items([numbered]) == [numbered]  # which the caller says
    assert ChatCompletions().reply_items(NEW, {"message": assistant("b")}) == [assistant("b")]


def test_a_field_of_a_name_that_clients_add_is_ones_own_in_ones_own_class():
    class Said(pydantic.BaseModel):
        role: str
        content: str
        parsed: str

    message = Said(role="user", content="a", parsed="b")
    assert ChatCompletions().new_items([message]) == [{**user("a"), "parsed": "b"}]


class Function(msgspec.Struct):
    name: str


class Call(msgspec.Struct):
    id: str
    function: Function


class Said(msgspec.Struct):
    role: str
    content: str | None = None
    tool_calls: list[Call] = []


def test_whatever_a_class_would_lose_of_the_history_deep_inside_is_an_error():
    call = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
    with pytest.raises(TypeError, match=r"it has no 'tool_calls\[0\].function.arguments'"):
        chat([{**assistant(None), "tool_calls": [call]}], [Said("user", "a")])
    with pytest.raises(TypeError, match="it has no 'reasoning_content'"):
        chat([{**assistant("a"), "reasoning_content": ""}], [Said("user", "a")])


# pydantic-ai


async def test_a_real_agent_that_returns_its_whole_conversation_is_remembered_once():
    agent = Agent(
        FunctionModel(lambda messages, _: pydantic_ai.ModelResponse([pydantic_ai.TextPart("b")])),
        instructions="Be brief.",
        system_prompt="In French.",
    )

    async def run(messages):
        result = await agent.run(message_history=list(messages))
        return result.all_messages()

    store = InMemorySessionStore()
    async with AsyncioLayer() as bridge:
        layer = MemoryLayer(
            LoadSession(store), SaveSession(store), session_id="s", dialect=PydanticAI()
        )
        for text in "acd":
            await layer(bridge(run))([pydantic_ai.ModelRequest.user_text_prompt(text)])
    items = await store.load("s")
    assert [item["kind"] for item in items] == ["request", "response"] * 3
    prompts = [item["parts"][0]["content"] for item in items[::2]]
    assert prompts == ["a", "c", "d"]
    assert not any(item.get("instructions") for item in items)


def test_results_that_were_interrupted_stand_before_what_the_request_says():
    calls = [pydantic_ai.ToolCallPart("f", {}, each) for each in "12"]
    response = pydantic_ai.ModelResponse(calls)
    (item,) = PydanticAI().reply_items([pydantic_ai.ModelRequest([])], response)
    request = pydantic_ai.ModelRequest(
        [pydantic_ai.ToolReturnPart("f", "c", "1"), pydantic_ai.UserPromptPart("and")],
        instructions="Be brief.",
    )
    _, given = PydanticAI().with_history([request], [item])
    assert [part.part_kind for part in given.parts] == ["tool-return", "tool-return", "user-prompt"]
    assert given.parts[0].outcome == "interrupted"
    assert given.parts[0].timestamp == response.timestamp  # the same each time
    assert given.instructions == "Be brief."


def test_messages_of_others_are_refused():
    with pytest.raises(TypeError, match=r"request\.messages\[0\] must be a pydantic-ai message"):
        PydanticAI().new_items([{"kind": "request", "parts": []}])
