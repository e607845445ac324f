"""Real clients over HTTP: what the provider is sent on the second turn is what it wants back.

What it wants back is what its documentation says a client sends:

- OpenAI, chat completions: the reply's message, then a ``tool`` message for each of its calls
  (https://platform.openai.com/docs/guides/function-calling?api-mode=chat).
- OpenAI, responses: all items of ``output``, reasoning included, then ``function_call_output``
  items (https://platform.openai.com/docs/guides/function-calling,
  https://platform.openai.com/docs/guides/reasoning).
- Anthropic: an assistant's message with all blocks as they came, thinking with its signature, then
  a user's message that begins with the ``tool_result`` blocks
  (https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking).
"""

from __future__ import annotations

import gc
import json
import os
from contextlib import asynccontextmanager

import agents
import anthropic
import openai
import pydantic
import pytest
from llm_server import serving
from pydantic_ai import direct
from pydantic_ai import messages as pydantic_ai
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tower_memory import InMemorySessionStore, LoadSession, MemoryLayer, SaveSession
from tower_memory.bridges import AsyncioLayer
from tower_memory.dialects import AnthropicMessages, OpenAIResponses, PydanticAI

# On trio the clients leave async generators of their own to the garbage collector, and some warn
# of what they make of unknown items.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def store():
    return InMemorySessionStore()


def remembering(store, **parameters):
    return MemoryLayer(LoadSession(store), SaveSession(store), session_id="s", **parameters)


async def drain(response):
    """Read *response* if it is a stream."""
    if not hasattr(response, "__aenter__"):
        return response
    async with response as stream:
        async for _ in stream:
            pass
    return stream


IMAGE = "data:image/png;base64,iVBORw0KGgo="

# OpenAI, chat completions

SYSTEM = {"role": "system", "content": "Be brief."}
SAID = {
    "role": "user",
    "content": [
        {"type": "text", "text": "What is this, and how is the weather?"},
        {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
    ],
}
CALLS = [
    {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"at":"x"}'},
    },
    {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
]
CALLING = {
    "role": "assistant",
    "content": "Let me see.",
    "refusal": None,
    "reasoning_content": "A vendor's own field.",
    "tool_calls": CALLS,
}
RESULTS = [
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
]


def completion(message):
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "message": message}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def chunk(delta, finish_reason=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": [choice]}


CHUNKS = [
    chunk({"role": "assistant", "content": "", "refusal": None}),
    chunk({"reasoning_content": "A vendor's "}),
    chunk({"reasoning_content": "own field."}),
    chunk({"content": "Let "}),
    chunk({"content": "me see."}),
    chunk(
        {"tool_calls": [{"index": 0, **CALLS[0], "function": {"name": "weather", "arguments": ""}}]}
    ),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"at":'}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"x"}'}}]}),
    chunk({"tool_calls": [{"index": 1, **CALLS[1]}]}),
    chunk({}, "tool_calls"),
    {**chunk({}), "choices": [], "usage": {"total_tokens": 3}},
]


def plain(client):
    return client.chat.completions.create


def streamed(client):
    async def create(**request):
        return await client.chat.completions.create(stream=True, **request)

    return create


def parsed(client):
    return client.chat.completions.parse


def helper(client):
    async def stream(**request):
        return client.chat.completions.stream(**request)

    return stream


class Answer(pydantic.BaseModel):
    answer: int


@pytest.mark.parametrize("way", [plain, streamed, parsed, helper])
async def test_openai_chat_completions(server, store, way):
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:

        async def ask(request):
            return await way(client)(**request)

        service = remembering(store)(ask)
        is_stream = way in (streamed, helper)
        server.replies.extend([CHUNKS if is_stream else completion(CALLING)] * 2)
        request = {"model": "m", "temperature": 0.5, "messages": [SYSTEM, SAID]}
        if way is parsed:
            request["response_format"] = Answer
            server.replies[0] = completion({**CALLING, "content": '{"answer": 1}'})
        first = await drain(await service(request))
        if way is parsed:
            assert first.choices[0].message.parsed == Answer(answer=1)
        await drain(await service({"model": "m", "messages": [SYSTEM, *RESULTS]}))
    content = '{"answer": 1}' if way is parsed else CALLING["content"]
    assert server.requests[0]["messages"] == [SYSTEM, SAID]
    assert server.requests[0]["temperature"] == 0.5
    assert server.requests[1]["messages"] == [
        SYSTEM,
        SAID,
        {**CALLING, "content": content},
        *RESULTS,
    ]


async def test_openai_streams_are_passed_on_while_they_come(server, store):
    server.slow = True
    server.replies.append(CHUNKS)
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:

        async def ask(request):
            return await client.chat.completions.create(stream=True, **request)

        async with await remembering(store)(ask)({"model": "m", "messages": [SAID]}) as stream:
            assert isinstance(stream, openai.AsyncStream)
            assert stream.response.status_code == 200
            async for number, each in enumerated(stream):
                assert each.model_dump(exclude_unset=True) == CHUNKS[number]
                server.go_on.set()  # what comes next is not sent before
    assert len(await store.load("s")) == 2


async def enumerated(stream):
    number = 0
    async for each in stream:
        yield number, each
        number += 1


async def test_an_openai_stream_that_breaks_saves_nothing(server, store):
    server.replies.append([*CHUNKS[:5], None])
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:

        async def ask(request):
            return await client.chat.completions.create(stream=True, **request)

        with pytest.raises(openai.APIConnectionError):
            await drain(await remembering(store)(ask)({"model": "m", "messages": [SAID]}))
        assert await store.load("s") == []
        server.replies.append([*CHUNKS[:7], None])
        keeping = remembering(store, keep_interrupted=True)(ask)
        with pytest.raises(openai.APIConnectionError):
            await drain(await keeping({"model": "m", "messages": [SAID]}))
        server.replies.append(CHUNKS)
        again = {"role": "user", "content": "Go on."}
        await drain(await keeping({"model": "m", "messages": [again]}))
    said, cut_off, last = server.requests[-1]["messages"]
    assert (said, last) == (SAID, again)
    assert cut_off == {
        "role": "assistant",
        "content": "Let me see.\n\n(interrupted: this reply is not complete)",
        "refusal": None,
        "reasoning_content": "A vendor's own field.",
    }


# OpenAI, responses

REASONING = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Hm."}],
    "encrypted_content": "gAAAAB",
    "status": "completed",
}
FUTURE = {"id": "fu_1", "type": "some_future_item", "payload": {"deep": [1, None]}}
SPOKEN = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [
        {"type": "output_text", "text": "Let me see.", "annotations": [], "logprobs": []},
    ],
}
FUNCTION_CALLS = [
    {
        "id": f"fc_{number}",
        "type": "function_call",
        "call_id": f"call_{number}",
        "name": "weather",
        "arguments": "{}",
        "status": "completed",
    }
    for number in (1, 2)
]
OUTPUT = [REASONING, FUTURE, SPOKEN, *FUNCTION_CALLS]
OUTPUTS = [
    {"type": "function_call_output", "call_id": f"call_{number}", "output": "sunny"}
    for number in (1, 2)
]
ASKED = {
    "role": "user",
    "content": [
        {"type": "input_text", "text": "What is this, and how is the weather?"},
        {"type": "input_image", "image_url": IMAGE, "detail": "low"},
    ],
}


def response(output, status="completed"):
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1.0,
        "model": "m",
        "status": status,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
    }


def events_of(output):
    events = [{"type": "response.created", "response": response([], "in_progress")}]
    for index, item in enumerate(output):
        place = {"output_index": index, "item_id": item["id"]}
        begun = {**item, "status": "in_progress"}
        if item["type"] == "message":
            begun["content"] = []
        if item["type"] == "function_call":
            begun["arguments"] = ""
        events.append({"type": "response.output_item.added", **place, "item": begun})
        if item["type"] == "message":
            part = {**item["content"][0], "text": ""}
            place["content_index"] = 0
            events.append({"type": "response.content_part.added", **place, "part": part})
            events += [
                {"type": "response.output_text.delta", **place, "delta": text, "logprobs": []}
                for text in ("Let ", "me see.")
            ]
        if item["type"] == "function_call":
            delta = {"type": "response.function_call_arguments.delta", **place, "delta": "{}"}
            events.append(delta)
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.some_future_event", "x": 1})
    events.append({"type": "response.completed", "response": response(output)})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def responses_plain(client):
    return client.responses.create


def responses_streamed(client):
    async def create(**request):
        return await client.responses.create(stream=True, **request)

    return create


def responses_parsed(client):
    return client.responses.parse


def responses_helper(client):
    async def stream(**request):
        return client.responses.stream(**request)

    return stream


@pytest.mark.parametrize(
    "way", [responses_plain, responses_streamed, responses_parsed, responses_helper]
)
async def test_openai_responses(server, store, way):
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:

        async def ask(request):
            return await way(client)(**request)

        service = remembering(store, dialect=OpenAIResponses())(ask)
        is_stream = way in (responses_streamed, responses_helper)
        server.replies.extend([events_of(OUTPUT) if is_stream else response(OUTPUT)] * 2)
        request = {
            "model": "m",
            "instructions": "Be brief.",
            "include": ["reasoning.encrypted_content"],
            "store": False,
        }
        await drain(await service({**request, "input": [ASKED]}))
        await drain(await service({**request, "input": OUTPUTS}))
    assert server.requests[0]["input"] == [ASKED]
    assert server.requests[1]["input"] == [ASKED, *OUTPUT, *OUTPUTS]
    for sent in server.requests:
        assert {key: sent[key] for key in request} == request


async def test_openai_responses_are_not_given_the_history_twice(server, store):
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:

        async def ask(request):
            return await client.responses.create(**request)

        service = remembering(store, dialect=OpenAIResponses())(ask)
        server.replies.extend([response(OUTPUT), response([SPOKEN]), response([SPOKEN])])
        await service({"model": "m", "input": "Hi"})
        await service({"model": "m", "input": OUTPUTS, "previous_response_id": "resp_1"})
        await service({"model": "m", "input": "And?", "conversation": "conv_1"})
    assert [sent["input"] for sent in server.requests] == ["Hi", OUTPUTS, "And?"]
    said = {"role": "user", "content": "Hi"}
    kept = [said, *OUTPUT, *OUTPUTS, SPOKEN, {"role": "user", "content": "And?"}, SPOKEN]
    assert await store.load("s") == kept


# Anthropic

ASKING = {
    "role": "user",
    "content": [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
        },
        {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
    ],
}
ASKING_STORED = {
    "role": "user",
    "content": [ASKING["content"][0], {"type": "text", "text": "What is this?"}],
}
BLOCKS = [
    {"type": "thinking", "thinking": "Hm. Let me think.", "signature": "EqQB"},
    {"type": "redacted_thinking", "data": "EmwK"},
    {"type": "text", "text": "Let me see.", "citations": None},
    {"type": "some_future_block", "payload": {"deep": [1, None]}},
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"at": "x", "days": [1, 2]}},
    {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}},
]
TOOL_RESULTS = {
    "role": "user",
    "content": [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": "noon", "is_error": False},
        {"type": "text", "text": "And now?"},
    ],
}


def anthropic_message(content, stop_reason="tool_use"):
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


DELTAS = {
    "thinking": [
        {"type": "thinking_delta", "thinking": "Hm. "},
        {"type": "thinking_delta", "thinking": "Let me think."},
        {"type": "signature_delta", "signature": "EqQB"},
    ],
    "text": [{"type": "text_delta", "text": text} for text in ("Let ", "me see.")],
    "toolu_1": [
        {"type": "input_json_delta", "partial_json": text}
        for text in ("", '{"at": "x", "da', 'ys": [1, 2]}')
    ],
}
EMPTY = {"thinking": "", "signature": "", "text": "", "input": {}}


def message_events():
    yield {"type": "message_start", "message": anthropic_message([], None)}
    yield {"type": "ping"}
    for index, block in enumerate(BLOCKS):
        begun = {key: EMPTY.get(key, value) for key, value in block.items()}
        yield {"type": "content_block_start", "index": index, "content_block": begun}
        for delta in DELTAS.get(block.get("id", block["type"]), ()):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = {"stop_reason": "tool_use", "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 9}}
    yield {"type": "message_stop"}


def messages_plain(client):
    return client.messages.create


def messages_streamed(client):
    async def create(**request):
        return await client.messages.create(stream=True, **request)

    return create


def messages_helper(client):
    async def stream(**request):
        return client.messages.stream(**request)

    return stream


@pytest.mark.parametrize("way", [messages_plain, messages_streamed, messages_helper])
async def test_anthropic_messages(server, store, way):
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none") as client:

        async def ask(request):
            return await way(client)(**request)

        service = remembering(store, dialect=AnthropicMessages())(ask)
        reply = anthropic_message(BLOCKS) if way is messages_plain else list(message_events())
        server.replies.extend([reply] * 2)
        system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
        request = {"model": "m", "max_tokens": 1000, "system": system}
        await drain(await service({**request, "messages": [ASKING]}))
        await drain(await service({**request, "messages": [TOOL_RESULTS]}))
    assert server.requests[0]["messages"] == [ASKING]
    assert server.requests[1]["messages"] == [
        ASKING_STORED,
        {"role": "assistant", "content": BLOCKS},
        TOOL_RESULTS,
    ]
    assert all(sent["system"] == system for sent in server.requests)


async def test_what_anthropics_helper_reads_for_its_user_is_remembered(server, store):
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none") as client:

        async def ask(request):
            return client.messages.stream(**request)

        service = remembering(store, dialect=AnthropicMessages())(ask)
        server.replies.extend([list(message_events())] * 2)
        request = {"model": "m", "max_tokens": 1000}
        async with await service({**request, "messages": [ASKING]}) as stream:
            assert [text async for text in stream.text_stream] == ["Let ", "me see."]
        async with await service({**request, "messages": [TOOL_RESULTS]}) as stream:
            final = await stream.get_final_message()
    assert len(await store.load("s")) == 4
    assert final.stop_reason == "tool_use"


# pydantic-ai


KNOWN_BLOCKS = [block for block in BLOCKS if block["type"] != "some_future_block"]


@asynccontextmanager
async def chat_model(server):
    server.replies.extend([completion({**CALLING, "content": None})] * 3)
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
        yield OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client))


@asynccontextmanager
async def responses_model(server):
    server.replies.extend([response([REASONING, SPOKEN, *FUNCTION_CALLS])] * 3)
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
        yield OpenAIResponsesModel("m", provider=OpenAIProvider(openai_client=client))


@asynccontextmanager
async def anthropic_model(server):
    server.replies.extend([anthropic_message(KNOWN_BLOCKS)] * 3)
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none") as client:
        yield AnthropicModel("m", provider=AnthropicProvider(anthropic_client=client))


@pytest.fixture(params=[chat_model, responses_model, anthropic_model])
async def model(server, request):
    async with request.param(server) as model:
        yield model


async def test_pydantic_ai(server, store, model):
    prompt = pydantic_ai.UserPromptPart(
        ["What is this?", pydantic_ai.BinaryContent(b"\x89PNG", media_type="image/png")]
    )
    question = pydantic_ai.ModelRequest(
        parts=[pydantic_ai.SystemPromptPart("Be brief."), prompt], instructions="In French."
    )

    async def ask(messages):
        return await direct.model_request(model, messages)

    service = remembering(store, dialect=PydanticAI())(ask)
    answer = await service([question])
    returns = [
        pydantic_ai.ToolReturnPart(part.tool_name, "sunny", part.tool_call_id)
        for part in answer.tool_calls
    ]
    second = pydantic_ai.ModelRequest(parts=returns, instructions="In German.")
    await service([second])
    remembered = server.requests[-1]
    # The same by hand.
    bare = pydantic_ai.ModelRequest(parts=[prompt])
    await ask([bare, answer, second])
    assert remembered == server.requests[-1]


@pytest.mark.parametrize("model", [anthropic_model], indirect=True)
async def test_pydantic_ai_streamed(server, store, model):
    events = [event for event in message_events() if event.get("index") != 3]  # the future block
    server.replies.clear()
    server.replies.extend([events] * 2)

    async def ask(messages):
        return direct.model_request_stream(model, messages)

    service = remembering(store, dialect=PydanticAI())(ask)
    question = pydantic_ai.ModelRequest.user_text_prompt("Hi")
    async with await service([question]) as stream:
        parts = [event async for event in stream if event.event_kind == "part_start"]
    assert [event.part.part_kind for event in parts] == [
        *("thinking", "thinking", "text", "tool-call", "tool-call"),
    ]
    returns = [
        pydantic_ai.ToolReturnPart("f", "sunny", part.tool_call_id)
        for part in stream.get().tool_calls
    ]
    async with await service([pydantic_ai.ModelRequest(parts=returns)]) as stream:
        async for _ in stream:
            pass
    sent = server.requests[1]["messages"][1]["content"]
    assert [block["type"] for block in sent] == [block["type"] for block in KNOWN_BLOCKS]
    assert sent[:2] == KNOWN_BLOCKS[:2]


# openai-agents, whose Runner runs on asyncio; on trio in a bridge


async def test_openai_agents(server, store):
    final = {**SPOKEN, "id": "msg_2"}

    @agents.function_tool
    def weather() -> str:
        return "sunny"

    agents.set_tracing_disabled(True)

    async def run(items):
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
            model = agents.OpenAIResponsesModel("m", client)
            agent = agents.Agent(name="a", model=model, tools=[weather])
            return (await agents.Runner.run(agent, items)).to_input_list()

    calling = [REASONING, FUNCTION_CALLS[0]]
    server.replies.extend([response(calling), response([final]), response([final])])
    async with AsyncioLayer() as bridge:
        service = remembering(store, dialect=OpenAIResponses())(bridge(run))
        first, second = ({"role": "user", "content": text} for text in ("Hi", "And?"))
        await service([first])
        kept = list(await store.load("s"))
        assert [item.get("type", item.get("role")) for item in kept] == [
            *("user", "reasoning", "function_call", "function_call_output", "message"),
        ]
        await service([second])
    assert server.requests[2]["input"] == [*kept, second]
    assert server.requests[1]["input"] == kept[:-1]
    assert len(await store.load("s")) == 7


# litellm, on asyncio; on trio in a bridge


@pytest.fixture(scope="session")
def litellm():
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # nothing from the network
    import litellm

    gc.freeze()  # see conftest
    return litellm


@pytest.mark.parametrize("stream", [False, True])
async def test_litellm(server, store, litellm, stream):
    async def ask(request):
        return await litellm.acompletion(
            api_base=server.url, api_key="none", stream=stream, **request
        )

    server.replies.extend([CHUNKS if stream else completion(CALLING)] * 2)
    async with AsyncioLayer() as bridge:
        service = remembering(store)(bridge(ask))
        await drain(await service({"model": "openai/m", "messages": [SYSTEM, SAID]}))
        await drain(await service({"model": "openai/m", "messages": [SYSTEM, *RESULTS]}))
    sent = {key: value for key, value in CALLING.items() if value is not None}
    assert server.requests[1]["messages"] == [SYSTEM, SAID, sent, *RESULTS]
    stored = (await store.load("s"))[1]
    assert {key: value for key, value in stored.items() if value is not None} == sent
    assert json.dumps(stored)


async def test_a_client_lives_in_the_loop_where_it_was_made(server, store):
    server.replies.append(CHUNKS)
    clients = []

    async def ask(request):
        clients.append(openai.AsyncOpenAI(base_url=server.url, api_key="none"))
        return await clients[0].chat.completions.create(stream=True, **request)

    async def end(_request):
        await clients[0].close()

    async with AsyncioLayer() as bridge:
        async with await remembering(store)(bridge(ask))({"model": "m", "messages": [SAID]}) as got:
            assert got.response.status_code == 200
            assert [each.model_dump(exclude_unset=True) async for each in got] == CHUNKS
        await bridge(end)(None)
    assert len(await store.load("s")) == 2
