"""A runnable of LangChain with memory: inputs, outputs, agents and configs."""

from __future__ import annotations

import warnings
from itertools import pairwise

import anyio
import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from helpers.langchain import HERE, Model, said, stored, with_memory
from helpers.processes import run_python
from helpers.runtimes import on_asyncio
from tower_memory import (
    InMemorySessionStore,
    SaveError,
    ScopedStore,
)
from tower_memory.bridges import AsyncioLayer, ThreadedStore
from tower_memory.integrations.langchain import SessionMessageHistory


@pytest.fixture
def store():
    return InMemorySessionStore()


# Inputs and outputs


@pytest.mark.parametrize(
    "given",
    [
        "Hi",
        HumanMessage("Hi"),
        [HumanMessage("Hi")],
        (HumanMessage("Hi"),),
        [("user", "Hi")],
        [{"role": "user", "content": "Hi"}],
        ChatPromptTemplate.from_messages([("user", "Hi")]).invoke({}),
    ],
    ids=["text", "message", "list", "tuple", "pairs", "mappings", "prompt"],
)
async def test_the_model_gets_all_messages_as_one_list(given, store):
    model = Model()
    runnable = with_memory(model, store)
    await runnable.ainvoke(given, HERE)
    await runnable.ainvoke("And?", HERE)
    assert [said(each) for each in model.inputs] == [["Hi"], ["Hi", "re: Hi", "And?"]]
    assert await stored(store) == ["Hi", "re: Hi", "And?", "re: And?"]


@pytest.mark.parametrize(
    ("options", "given", "key"),
    [
        ({"input_messages_key": "question"}, {"question": "Hi", "x": 1}, "question"),
        ({}, {"question": "Hi"}, "question"),
        ({}, {"messages": "Hi", "x": 1}, "messages"),
        ({}, {"input": "Hi", "x": 1}, "input"),
    ],
)
async def test_messages_in_a_mapping_stay_under_their_key(options, given, key, store):
    model = Model(*["Yes"] * 2)
    runnable = with_memory(model, store, **options)
    await runnable.ainvoke(given, HERE)
    await runnable.ainvoke(given, HERE)
    assert said(model.inputs[1].pop(key)) == ["Hi", "Yes", "Hi"]
    assert model.inputs[1] == {name: given[name] for name in given if name != key}


async def test_the_history_has_a_key_of_its_own(store):
    model = Model(*["Yes"] * 2)
    runnable = with_memory(
        model, store, input_messages_key="question", history_messages_key="history"
    )
    await runnable.ainvoke({"question": "Hi", "history": []}, HERE)
    await runnable.ainvoke({"question": "And?"}, HERE)
    assert model.inputs[0] == {"question": "Hi", "history": []}
    assert model.inputs[1]["question"] == "And?"
    assert said(model.inputs[1]["history"]) == ["Hi", "Yes"]


@pytest.mark.parametrize(
    ("options", "given", "error", "reason"),
    [
        (
            {},
            {"a": "secret", "b": 1},
            ValueError,
            "pass input_messages_key=, because input is a dict",
        ),
        (
            {"input_messages_key": "q"},
            {"a": "secret"},
            ValueError,
            "input_messages_key='q', got dict",
        ),
        ({}, 5, TypeError, "input must be a text, a message"),
        ({}, [], ValueError, "input must have at least one message"),
        ({}, [{"a": "secret"}], TypeError, r"input\[0\] must be a message of LangChain"),
        ({}, [("user", "x", "secret")], TypeError, r"input\[0\] must be a message of LangChain"),
        ({"history_messages_key": "h"}, "secret", TypeError, "input must be a mapping"),
        (
            {"history_messages_key": "h", "input_messages_key": "q"},
            {"q": "x", "h": ["secret"]},
            ValueError,
            "input must not have a history under 'h'",
        ),
    ],
)
async def test_an_input_that_cannot_be_read_is_refused_before_the_call(
    options, given, error, reason, store
):
    model = Model()
    with pytest.raises(error, match=reason) as refused:
        await with_memory(model, store, **options).ainvoke(given, HERE)
    assert "secret" not in str(refused.value)
    assert not model.inputs


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({}, "Yes"),
        ({}, AIMessage("Yes")),
        ({}, [AIMessage("Yes")]),
        ({}, {"output": "Yes", "x": 1}),
        ({}, {"answer": [AIMessage("Yes")]}),
        ({"output_messages_key": "answer"}, {"answer": AIMessage("Yes"), "output": 1}),
    ],
)
async def test_the_output_comes_back_and_its_messages_are_saved(options, output, store):
    assert await with_memory(Model(output), store, **options).ainvoke("Hi", HERE) is output
    assert await stored(store) == ["Hi", "Yes"]


@pytest.mark.parametrize("output", [{"a": 1, "b": 2}, {"c": 1}, 5, [5]])
async def test_an_output_without_messages_is_on_the_error(output, store):
    with pytest.raises(SaveError) as failed:
        await with_memory(Model(output), store).ainvoke("Hi", HERE)
    assert failed.value.response is output
    assert await stored(store) == []


async def test_instructions_go_in_front_and_are_not_stored(store):
    model = Model()
    runnable = with_memory(model, store)
    for text in ("Hi", "And?"):
        await runnable.ainvoke([SystemMessage("Be brief."), HumanMessage(text)], HERE)
    assert said(model.inputs[1]) == ["Be brief.", "Hi", "re: Hi", "And?"]
    assert await stored(store) == ["Hi", "re: Hi", "And?", "re: And?"]


async def test_a_call_may_have_instructions_only(store):
    runnable = with_memory(Model("Hello", "Hello"), store)
    for _ in range(2):
        await runnable.ainvoke([SystemMessage("Greet the user.")], HERE)
    assert await stored(store) == ["Hello", "Hello"]


# Agents

CALL = {"name": "weather", "args": {}, "id": "call_1", "type": "tool_call"}


def agent(*reply, rename=False):
    """Return an agent that adds the messages *reply*, and gives an id to each message."""

    def run(state):
        messages = [*state["messages"], *reply]
        if rename:
            messages = [
                each.model_copy(update={"content": f"[{each.content}]"}) for each in messages
            ]
        numbered = enumerate(messages)
        return {"messages": [each.model_copy(update={"id": str(n)}) for n, each in numbered]}

    return RunnableLambda(run)


@on_asyncio
@pytest.mark.parametrize("options", [{}, {"output_messages_key": "messages"}])
async def test_only_the_new_messages_of_an_agent_are_saved(store, options):
    reply = [
        AIMessage("", tool_calls=[CALL]),
        ToolMessage("5 degrees", tool_call_id="call_1"),
        AIMessage("A coat."),
    ]
    runnable = with_memory(agent(*reply), store, **options)
    for _ in range(3):
        await runnable.ainvoke({"messages": [("user", "Weather?")]}, HERE)
    assert await stored(store) == ["Weather?", "", "5 degrees", "A coat."] * 3


@on_asyncio
async def test_an_agent_may_stream_its_states(store):
    runnable = with_memory(agent(AIMessage("Yes")), store)
    for _ in range(3):
        states = [state async for state in runnable.astream({"messages": "Hi"}, HERE)]
        assert said(states[-1]["messages"])[-2:] == ["Hi", "Yes"]
    assert await stored(store) == ["Hi", "Yes"] * 3


@on_asyncio
async def test_an_agent_that_changes_the_input_saves_its_reply_only(store):
    runnable = with_memory(agent(AIMessage("Yes"), rename=True), store)
    for _ in range(2):
        await runnable.ainvoke({"messages": "Hi"}, HERE)
    assert await stored(store) == ["Hi", "[Yes]"] * 2


@on_asyncio
@pytest.mark.parametrize(
    ("second", "reply"), [("Ho", ["Draft", "Shorter!", "Yes"]), ("Hi", ["Yes"])]
)
async def test_an_agent_that_sums_up_the_history_saves_what_follows_the_input(second, reply, store):
    """If the input repeats an older one, the place of the input is not clear."""

    def shorten(messages):
        added = [AIMessage("Draft"), HumanMessage("Shorter!"), AIMessage("Yes")]
        return {"messages": [HumanMessage("A summary"), messages[-1], *added]}

    runnable = with_memory(shorten, store)
    await runnable.ainvoke("Hi", HERE)
    await runnable.ainvoke(second, HERE)
    assert await stored(store) == ["Hi", "Draft", "Shorter!", "Yes", second, *reply]


@on_asyncio
async def test_messages_of_the_user_that_an_agent_adds_are_saved(store):
    reply = [AIMessage("Draft"), HumanMessage("A critic: shorter!"), AIMessage("Yes")]
    runnable = with_memory(agent(*reply), store)
    for _ in range(2):
        await runnable.ainvoke({"messages": "Hi"}, HERE)
    assert await stored(store) == ["Hi", "Draft", "A critic: shorter!", "Yes"] * 2


async def test_a_tool_loop_of_the_program_continues_the_turn(store):
    model = Model(AIMessage("", tool_calls=[CALL]), AIMessage("A coat."))
    runnable = with_memory(model, store)
    await runnable.ainvoke("Weather?", HERE)
    await runnable.ainvoke([ToolMessage("5 degrees", tool_call_id="call_1")], HERE)
    assert said(model.inputs[1]) == ["Weather?", "", "5 degrees"]
    assert await stored(store) == ["Weather?", "", "5 degrees", "A coat."]


async def test_a_call_without_a_result_gets_one_and_an_empty_reply_is_not_sent(store):
    model = Model(AIMessage("", tool_calls=[CALL]), AIMessage(""), AIMessage("Yes"))
    runnable = with_memory(model, store)
    for text in ("Weather?", "Hello?", "And?"):
        await runnable.ainvoke(text, HERE)
    question, call, result, *others = model.inputs[2]
    assert said([question, call]) == ["Weather?", ""]
    assert (result.tool_call_id, result.status) == ("call_1", "error")
    assert said(others) == ["Hello?", "And?"]
    assert await stored(store) == ["Weather?", "", "Hello?", "", "And?", "Yes"]


async def test_a_repeated_call_is_stored_once(store):
    """A program may send the call along with its result."""
    call = AIMessage("", tool_calls=[CALL], id="run-1")
    runnable = with_memory(Model(call, AIMessage("A coat.")), store)
    await runnable.ainvoke("Weather?", HERE)
    await runnable.ainvoke([call, ToolMessage("5", tool_call_id="call_1")], HERE)
    assert await stored(store) == ["Weather?", "", "5", "A coat."]


# Configs and composition


def test_the_class_needs_no_deprecated_part_of_langchain():
    program = (
        "import sys; sys.modules |= {'langchain_core.chat_history': None,"
        " 'langchain_core.runnables.history': None};"
        "from tower_memory.integrations import langchain; print(langchain.RunnableWithMemory);"
        "print(hasattr(langchain, 'SessionHistory'))"
    )
    done = run_python(program, check=True)
    assert done.stdout.endswith("RunnableWithMemory'>\nFalse\n")


async def test_a_config_without_a_session_id_names_the_remedy(store):
    with pytest.raises(ValueError, match=r"must have session_id; pass config=\{'configurable'"):
        await with_memory(Model(), store).ainvoke("Hi")


async def test_the_session_id_may_come_from_several_values(store):
    def name(user_id, chat="main", **others):
        return f"{user_id}/{chat}"

    runnable = with_memory(Model(), store, session_id=name)
    await runnable.ainvoke("Hi", {"configurable": {"user_id": "anna"}})
    await runnable.ainvoke("Ho", {"configurable": {"user_id": "anna", "chat": "b", "x": 1}})
    assert {each.session_id for each in await store.sessions()} == {"anna/main", "anna/b"}
    specs = {spec.id: spec.default for spec in runnable.config_specs}
    assert specs == {"user_id": "", "chat": "main"}


async def test_each_tenant_may_have_a_store_of_its_own(store):
    def tenant(user_id):
        return ScopedStore(store, user_id)

    runnable = with_memory(Model(), tenant)
    for user in ("anna", "bert"):
        await runnable.ainvoke(user, {"configurable": {"user_id": user, "session_id": "here"}})
    assert await stored(tenant("anna")) == ["anna", "re: anna"]
    assert await stored(tenant("bert")) == ["bert", "re: bert"]
    with pytest.raises(ValueError, match="must have user_id"):
        await runnable.ainvoke("Hi", HERE)


async def test_turns_of_a_tenant_wait_for_each_other(store):
    runnable = with_memory(Model(), lambda user: ScopedStore(store, user))
    config = {"configurable": {"session_id": "here", "user": "anna"}}
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(runnable.ainvoke, str(number), config)
    history = await stored(ScopedStore(store, "anna"))
    assert all(reply == f"re: {text}" for text, reply in list(pairwise(history))[::2])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "reason"),
    [
        ((Model(), 5), {}, TypeError, "store must"),
        ((5, InMemorySessionStore()), {}, TypeError, "Runnable"),
        ((Model(), InMemorySessionStore()), {"session_id": "x"}, TypeError, "session_id must be a"),
        ((Model(), InMemorySessionStore()), {"overlap": "x"}, ValueError, "overlap must be one of"),
        (
            (Model(), InMemorySessionStore()),
            {"input_messages_key": 5},
            TypeError,
            "input_messages_key",
        ),
    ],
)
def test_a_wrong_parameter_is_refused_at_once(arguments, options, error, reason):
    with pytest.raises(error, match=reason):
        with_memory(*arguments, **options)


async def test_the_config_and_further_arguments_reach_the_inner_runnable(store):
    class Handler(AsyncCallbackHandler):
        pass

    model = Model()
    handler = Handler()
    config = {**HERE, "tags": ["a"], "metadata": {"b": 1}, "callbacks": [handler], "run_name": "c"}
    await with_memory(model, store).ainvoke("Hi", config)
    (given,) = model.configs
    assert (given["tags"], given["metadata"]["b"], given["run_name"]) == (["a"], 1, "c")
    assert given["callbacks"] == [handler]
    assert given["configurable"] == {"session_id": "here"}


@on_asyncio
async def test_a_chain_around_it_and_in_it_works_with_callbacks_and_streams(store):
    class Handler(AsyncCallbackHandler):
        def __init__(self):
            self.runs = []

        async def on_chat_model_start(self, serialized, messages, **kwargs):
            self.runs.append(said(messages[0]))

    prompt = ChatPromptTemplate.from_messages(
        [("system", "Be {how}."), MessagesPlaceholder("history"), ("human", "{question}")]
    )
    inside = prompt | FakeListChatModel(responses=["one", "two"]) | StrOutputParser()
    memory = with_memory(
        inside, store, input_messages_key="question", history_messages_key="history"
    )
    chain = RunnablePassthrough.assign(how=lambda _: "brief") | memory | (lambda text: f"<{text}>")
    handler = Handler()
    config = {**HERE, "callbacks": [handler]}
    assert await chain.ainvoke({"question": "Hi"}, config) == "<one>"
    around = memory | StrOutputParser()
    chunks = [each async for each in around.astream({"question": "Ho", "how": "kind"}, config)]
    assert chunks == ["t", "w", "o"]
    assert handler.runs == [
        ["Be brief.", "Hi"],
        ["Be kind.", "Hi", "one", "Ho"],
    ]
    assert await stored(store) == ["Hi", "one", "Ho", "two"]


@on_asyncio
async def test_events_are_those_of_the_inner_runnable(store):
    memory = with_memory(FakeListChatModel(responses=["ab"]), store)
    events = [event async for event in memory.astream_events("Hi", HERE, version="v2")]
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1]) == ("on_chat_model_start", "on_chat_model_end")
    assert kinds.count("on_chat_model_stream") >= 2
    assert await stored(store) == ["Hi", "ab"]


@on_asyncio
async def test_a_batch_on_one_session_runs_one_after_another(store):
    model = Model()
    texts = [str(number) for number in range(6)]
    replies = await with_memory(model, store).abatch(texts, HERE)
    assert said(replies) == [f"re: {text}" for text in texts]
    assert sorted(len(given) for given in model.inputs) == [1, 3, 5, 7, 9, 11]
    assert len(await stored(store)) == 12


@on_asyncio
async def test_the_schemas_name_the_messages_and_the_inner_output(store):
    inner = RunnableLambda(lambda messages: "Yes")
    keyed = with_memory(inner, store, input_messages_key="question").get_input_schema()
    assert set(keyed.model_fields) == {"question"}
    plain = with_memory(inner, store)
    assert plain.get_input_schema().model_validate("Hi").root == "Hi"
    assert plain.OutputType == inner.OutputType
    assert (
        plain.get_output_schema().model_json_schema()
        == inner.get_output_schema().model_json_schema()
    )
    assert repr(plain).startswith("RunnableWithMemory(RunnableLambda")
    by_tenant = with_memory(Model(), lambda user: ScopedStore(store, user))
    assert "lambda" in repr(by_tenant)


# Other event loops, and LangChain's deprecated parts


async def test_on_trio_a_bridge_runs_the_runnables_of_langchain():
    async with ThreadedStore(InMemorySessionStore()) as store, AsyncioLayer() as bridge:
        memory = with_memory(FakeListChatModel(responses=["one"]), store)

        async def ask(text):
            return await memory.ainvoke(text, HERE)

        assert (await bridge(ask)("Hi")).content == "one"
        assert await stored(store) == ["Hi", "one"]


@on_asyncio
async def test_the_deprecated_class_works_with_our_history(store):
    from langchain_core.runnables.history import RunnableWithMessageHistory

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RunnableWithMessageHistory is deprecated")
        old = RunnableWithMessageHistory(
            FakeListChatModel(responses=["one"]),
            lambda session_id: SessionMessageHistory(store, session_id),
        )
    await old.ainvoke([HumanMessage("Hi")], HERE)
    model = Model()
    await with_memory(model, store).ainvoke("Ho", HERE)
    assert said(model.inputs[0]) == ["Hi", "one", "Ho"]
