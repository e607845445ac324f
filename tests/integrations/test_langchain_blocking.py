"""LangChain's blocking methods with memory: threads, streams, errors and nested calls."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from itertools import pairwise
from threading import Event, get_ident, main_thread

import anyio
import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser

from helpers.langchain import (
    HERE,
    Model,
    Streaming,
    UnwritableStore,
    said,
    with_memory,
    words,
)
from helpers.messages import INTERRUPTED_REPLY as INTERRUPTED
from tower_memory import (
    InMemorySessionStore,
    SaveError,
    ScopedStore,
    SessionCleared,
    SessionError,
    SqliteSessionStore,
)
from tower_memory.bridges import ThreadedStore
from tower_memory.integrations.langchain import SessionMessageHistory


@pytest.fixture
def store(tmp_path):
    with ThreadedStore(SqliteSessionStore(tmp_path / "sessions.db")).blocking as blocking:
        yield blocking._threaded


def stored(store):
    return said(store.blocking.load("here"))


# invoke


def test_a_call_gets_the_history_and_is_saved(store):
    model = Model()
    memory = with_memory(model, store)
    assert memory.invoke("Hi", HERE).content == "re: Hi"
    assert memory.invoke("Ho", HERE).content == "re: Ho"
    assert said(model.inputs[1]) == ["Hi", "re: Hi", "Ho"]
    assert stored(store) == ["Hi", "re: Hi", "Ho", "re: Ho"]


def test_a_scoped_store_may_be_around_the_threaded_one(store):
    scoped = ScopedStore(store, "anna")
    with_memory(Model(), scoped).invoke("Hi", HERE)
    assert said(SessionMessageHistory(scoped, "here").messages) == ["Hi", "re: Hi"]
    assert stored(store) == []


@pytest.mark.parametrize(
    ("use", "remedy"),
    [
        (lambda memory, _: memory.invoke("Hi", HERE), "ainvoke"),
        (lambda memory, _: list(memory.stream("Hi", HERE)), "astream"),
        (lambda _, history: history.messages, "aget_messages"),
        (lambda _, history: history.add_user_message("Hi"), "aadd_messages"),
        (lambda _, history: history.clear(), "aclear"),
    ],
    ids=["invoke", "stream", "messages", "add", "clear"],
)
def test_a_store_of_an_event_loop_is_refused_with_the_remedy(use, remedy):
    store = InMemorySessionStore()
    model = Model()
    with pytest.raises(TypeError, match=rf"ThreadedStore\(store\), or await {remedy}"):
        use(with_memory(model, store), SessionMessageHistory(store, "here"))
    assert not model.inputs


caller = ContextVar("caller")


def test_the_inner_runnable_runs_in_the_thread_and_the_context_of_the_caller(store):
    caller.set("me")
    seen = []

    def model(messages):
        seen.append((get_ident(), caller.get()))
        return "Yes"

    def chunks(messages):
        for text in ("a", "b"):
            seen.append((get_ident(), caller.get()))
            yield text

    with_memory(model, store).invoke("Hi", HERE)
    list(with_memory(chunks, store).stream("Hi", HERE))
    assert seen == [(get_ident(), "me")] * 3


def test_an_error_of_the_model_reaches_the_caller_and_frees_the_session(store):
    memory = with_memory(Model(error := ConnectionError(), "Yes"), store, journal=True)
    with pytest.raises(ConnectionError) as failed:
        memory.invoke("Hi", HERE)
    assert failed.value is error
    (pending,) = store.blocking.pending("here")
    assert (said(pending.items), pending.state) == (["Hi"], "failed")
    assert memory.invoke("Ho", HERE) == "Yes"
    assert stored(store) == ["Ho", "Yes"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StopIteration()], ids=repr)
def test_an_interrupt_cancels_the_turn_and_frees_the_session(error, store):
    memory = with_memory(Model(error, "Yes"), store)
    with pytest.raises(type(error)):
        memory.invoke("Hi", HERE)
    assert memory.invoke("Ho", HERE) == "Yes"
    assert stored(store) == ["Ho", "Yes"]


def test_a_failed_load_raises_before_the_call(store):
    model = Model()
    with pytest.raises(ValueError, match="input must have"):
        with_memory(model, store).invoke([], HERE)
    store.blocking.append(turn_of("secret"))
    with pytest.raises(TypeError, match="history must consist of"):
        with_memory(model, store).invoke("Hi", HERE)
    assert not model.inputs


def turn_of(*items):
    from tower_memory import Turn

    return Turn("here", items)


def test_a_failed_save_reaches_the_caller_with_the_reply():
    with ThreadedStore(UnwritableStore()).blocking as blocking:
        memory = with_memory(Model(), blocking._threaded)
        with pytest.raises(SaveError) as failed:
            memory.invoke("Hi", HERE)
        assert failed.value.response.content == "re: Hi"

        stream = with_memory(Streaming(words("a", "b")), blocking._threaded).stream("Hi", HERE)
        assert said([next(stream), next(stream)]) == ["a", "b"]
        with pytest.raises(SaveError):
            next(stream)


def test_a_session_that_is_cleared_during_the_call_is_not_revived(store):
    def model(messages):
        store.blocking.clear("here")
        return "Yes"

    memory = with_memory(model, store)
    store.blocking.append(turn_of({"role": "user", "content": "Hi"}))
    with pytest.raises(SessionCleared) as cleared:
        memory.invoke("Ho", HERE)
    assert cleared.value.response == "Yes"
    assert not store.blocking.load("here")


def test_a_call_in_the_same_session_inside_a_turn_raises(store):
    def model(messages):
        return memory.invoke("inner", HERE)

    memory = with_memory(model, store)
    with pytest.raises(SessionError, match="this turn would wait for itself"):
        memory.invoke("outer", HERE)
    assert stored(store) == []


def test_a_call_in_another_session_inside_a_turn_works(store):
    inner = with_memory(Model(), store)

    def model(messages):
        return inner.invoke(messages, {"configurable": {"session_id": "there"}})

    assert with_memory(model, store).invoke("Hi", HERE).content == "re: Hi"
    assert stored(store) == ["Hi", "re: Hi"]


def test_a_batch_on_one_session_runs_one_after_another(store):
    model = Model()
    replies = with_memory(model, store).batch([str(number) for number in range(6)], HERE)
    assert said(replies) == [f"re: {number}" for number in range(6)]
    assert sorted(len(given) for given in model.inputs) == [1, 3, 5, 7, 9, 11]


def test_a_batch_may_return_its_errors(store):
    memory = with_memory(Model("Yes"), store)
    configs = [HERE, {"configurable": {}}]
    reply, error = memory.batch(["Hi", "Ho"], configs, return_exceptions=True)
    assert reply == "Yes"
    assert isinstance(error, ValueError)


def test_threads_share_a_session(store):
    model = Model()
    memory = with_memory(model, store)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: memory.invoke(str(number), HERE), range(12)))
    history = stored(store)
    assert len(history) == 24
    assert all(reply == f"re: {text}" for text, reply in list(pairwise(history))[::2])


def test_calls_in_a_running_event_loop_work(store):
    """A cell of a notebook has a running event loop."""

    async def cell():
        return with_memory(Model(), store).invoke("Hi", HERE)

    assert asyncio.run(cell()).content == "re: Hi"


# stream


def test_the_chunks_of_a_stream_arrive_one_by_one_and_are_saved(store):
    chunks = words("a", "b", "")
    stream = with_memory(Streaming(chunks, words("c")), store).stream("Hi", HERE)
    assert next(stream) is chunks[0]
    assert stored(store) == []
    assert list(stream) == chunks[1:]
    assert stored(store) == ["Hi", "ab"]


def test_a_chain_of_langchain_streams_through_the_memory(store):
    memory = with_memory(FakeListChatModel(responses=["ab"]), store)
    chain = memory | StrOutputParser()
    assert list(chain.stream("Hi", HERE)) == ["a", "b"]
    assert chain.invoke("Ho", HERE) == "ab"
    assert stored(store) == ["Hi", "ab", "Ho", "ab"]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("ending", ["closed", "dropped", "failed", "interrupted"])
def test_an_interrupted_stream_is_kept_on_request(ending, keep, store):
    errors = {"failed": ConnectionError, "interrupted": KeyboardInterrupt}
    error = errors.get(ending)
    model = Streaming([*words("Once", " upon"), error() if error else "x"], ["Yes"])
    memory = with_memory(model, store, keep_interrupted=keep)
    stream = memory.stream("Hi", HERE)
    assert said([next(stream), next(stream)]) == ["Once", " upon"]
    if error:
        with pytest.raises(error):
            next(stream)
    elif ending == "closed":
        stream.close()
    else:
        del stream
        gc.collect()
    kept = ["Hi", f"Once upon\n\n{INTERRUPTED}"] if keep else []
    assert stored(store) == kept
    assert list(memory.stream("Ho", HERE)) == ["Yes"]
    assert stored(store) == [*kept, "Ho", "Yes"]


def test_a_closed_stream_closes_the_inner_one_in_the_thread_of_the_caller(store):
    closed = []

    class Words:
        def __iter__(self):
            return self

        def __next__(self):
            return "a"

        def close(self):
            closed.append(get_ident())

    class Endless(Model):
        def stream(self, given, config=None, **kwargs):
            return Words()

    stream = with_memory(Endless(), store).stream("Hi", HERE)
    next(stream)
    stream.close()
    assert closed == [get_ident()]


def test_a_stream_may_be_an_iterator_without_a_close_method(store):
    class Plain(Model):
        def stream(self, given, config=None, **kwargs):
            return iter(["a", "b"])

    stream = with_memory(Plain(), store, keep_interrupted=True).stream("Hi", HERE)
    next(stream)
    stream.close()
    assert stored(store) == ["Hi", f"a\n\n{INTERRUPTED}"]


def test_a_stream_that_is_never_read_does_nothing(store):
    model = Streaming(words("a"))
    with_memory(model, store).stream("Hi", HERE)
    assert not model.inputs


def test_a_stream_that_fails_before_its_first_chunk_raises_its_error(store):
    with pytest.raises(ConnectionError):
        next(with_memory(Streaming(ConnectionError()), store).stream("Hi", HERE))
    assert stored(store) == []


# SessionMessageHistory


def test_a_history_has_the_methods_of_langchain(store):
    history = SessionMessageHistory(store, "here")
    history.add_user_message("Hi")
    history.add_ai_message("Hello")
    history.add_messages([])
    history.add_messages([HumanMessage("And?"), AIMessage("Yes")])
    assert said(history.messages) == ["Hi", "Hello", "And?", "Yes"]
    assert str(history) == "Human: Hi\nAI: Hello\nHuman: And?\nAI: Yes"
    assert len(store.blocking.load("here").turns) == 3
    assert repr(history).endswith("'here')")
    history.clear()
    assert history.messages == []


async def test_a_history_has_the_async_methods_of_langchain():
    history = SessionMessageHistory(InMemorySessionStore(), "here")
    await history.aadd_messages([HumanMessage("Hi"), AIMessage("Hello")])
    await history.aadd_messages([])
    assert said(await history.aget_messages()) == ["Hi", "Hello"]
    await history.aclear()
    assert await history.aget_messages() == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((5, "here"), TypeError), ((InMemorySessionStore(), ""), ValueError)],
)
def test_a_wrong_argument_of_a_history_is_refused(arguments, error):
    with pytest.raises(error):
        SessionMessageHistory(*arguments)


def is_in(function, thread):
    """Return True if *thread* runs *function*."""
    frame = sys._current_frames()[thread.ident]
    while frame is not None and frame.f_code is not function.__code__:
        frame = frame.f_back
    return frame is not None


def test_an_interrupt_before_the_model_is_called_ends_the_call(store):
    ended = Event()

    class Interrupting(InMemorySessionStore):
        async def load(self, session_id, *, limit=None, before=None):
            while not is_in(Future.result, main_thread()):
                await anyio.lowlevel.checkpoint()
            signal.pthread_kill(main_thread().ident, signal.SIGINT)
            try:
                await anyio.sleep_forever()
            finally:
                ended.set()

    model = Model()
    with ThreadedStore(Interrupting()).blocking as blocking:
        with pytest.raises(KeyboardInterrupt):
            with_memory(model, blocking._threaded).invoke("Hi", HERE)
        assert ended.wait(10)
    assert not model.inputs
