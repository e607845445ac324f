"""LangChain's runnables with memory on Postgres."""

from __future__ import annotations

from langchain_core.messages import AIMessage, ToolMessage

from helpers.langchain import HERE, Model, said, with_memory
from tower_memory import ScopedStore
from tower_memory.bridges import ThreadedStore
from tower_memory.integrations.langchain import SessionMessageHistory
from tower_memory.postgres import PostgresSessionStore

CALL = {"name": "weather", "args": {}, "id": "call_1", "type": "tool_call"}


def test_turns_of_two_tenants_are_kept_on_postgres(tables_url):
    with ThreadedStore(PostgresSessionStore(tables_url)).blocking as blocking:
        store = blocking._threaded
        model = Model(AIMessage("", tool_calls=[CALL], id="run-1"), AIMessage("A coat."), "Hello")
        memory = with_memory(model, lambda user: ScopedStore(store, user))
        anna, bert = (
            {"configurable": {**HERE["configurable"], "user": u}} for u in ("anna", "bert")
        )

        memory.invoke("Weather?", anna)
        list(memory.stream([ToolMessage("5 degrees", tool_call_id="call_1")], anna))
        memory.invoke("Hi", bert)

        history = SessionMessageHistory(ScopedStore(store, "anna"), "here").messages
        assert said(history) == ["Weather?", "", "5 degrees", "A coat."]
        assert history[1].tool_calls == [CALL]
        assert said(SessionMessageHistory(ScopedStore(store, "bert"), "here").messages) == [
            "Hi",
            "Hello",
        ]
        assert len(blocking.search("coat")) == 1
