"""The public names: complete, documented, and no others."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import inspect

import pytest

import tower_memory
from helpers.processes import run_python
from tower_memory import (
    __main__,
    bridges,
    dialects,
    postgres,
    resumable,
    store_toolkit,
    streams,
    testing,
    tracing,
    windows,
)
from tower_memory.dialects import toolkit
from tower_memory.integrations import agent_framework, langchain, openai_agents, pydantic_ai

NAMES = [
    "Service",
    "Layer",
    "ServiceBuilder",
    "LoadSession",
    "SaveSession",
    "MemoryLayer",
    "RetryLayer",
    "TimeoutLayer",
    "SqliteSessionStore",
    "InMemorySessionStore",
    "SqliteSession",
    "SessionStore",
    "ScopedStore",
    "SessionCatalog",
    "SessionInfo",
    "Page",
    "SessionSearch",
    "SearchHit",
    "SessionErasure",
    "Erasure",
    "TurnJournal",
    "PendingTurn",
    "SessionSummaries",
    "Summary",
    "Session",
    "SessionHandle",
    "History",
    "TurnInfo",
    "ItemCodec",
    "Turn",
    "Role",
    "Message",
    "RunItem",
    "MessageItem",
    "ToolCallItem",
    "ToolOutputItem",
    "HandoffItem",
    "SessionError",
    "SessionConflict",
    "SessionCleared",
    "TurnExists",
    "TurnMissing",
    "SaveError",
    "CorruptSessionError",
    "UnencodableItemError",
]


def test_the_public_names_are_exactly_these():
    assert sorted(tower_memory.__all__) == sorted([*NAMES, "__version__"])
    assert all(hasattr(tower_memory, name) for name in NAMES)
    assert set(dialects.__all__) == {
        *("AnthropicMessages", "ChatCompletions", "GeminiContents", "OpenAIResponses"),
        "PydanticAI",
        *("Dialect", "ItemLinks", "LinkedDialect", "Streamed", "WholeRequests"),
        *("Usage", "usage_of"),
    }
    assert set(toolkit.__all__) == {
        *("EMPTY_MESSAGE", "INTERRUPTED", "INTERRUPTED_REPLY", "MISSING", "UNNAMED_TOOL"),
        *("ToolName", "starting_with_user", "id_or_name", "partition_results"),
        *("Call", "ItemLinks", "Place", "ProviderRules", "Rule", "Streamed", "apply_rules"),
        *(
            "check_chat_messages",
            "check_list",
            "check_roles",
            "describe_shape",
            "field",
            "is_blank",
            "is_instruction",
        ),
        *("is_json", "is_json_object", "is_plain", "is_valid", "item_links", "join_text"),
        *("list_field", "mark_interrupted", "mend_arguments", "messages_field"),
        *("new_in_response", "partition", "plain_links", "repair", "replace_messages"),
        *("request_messages", "streamed_text", "to_builtins", "to_class"),
    }
    assert set(bridges.__all__) == {"AsyncioLayer", "BlockingStore", "ThreadedStore"}
    assert set(resumable.__all__) == {
        *("CallStopped", "ReplyMissing", "ReplyStream", "ResumableLayer", "TooManyCalls")
    }
    assert set(postgres.__all__) == {"PostgresSessionStore", "table_statements"}
    assert set(agent_framework.__all__) == {"SessionHistoryProvider", "SnapshotStore"}
    assert set(pydantic_ai.__all__) == {"SessionConversationStore"}
    assert set(streams.__all__) == {"Stream"}
    assert set(openai_agents.__all__) == {"SQLiteSession"}
    assert set(store_toolkit.__all__) == {
        *("ItemCodec", "check_erase", "check_load", "check_session_id"),
        *("check_annotate", "check_begin", "check_fork", "check_page"),
        *("from_cursor", "merge_metadata", "to_cursor"),
        *("check_owner", "check_pending"),
        *("check_load_summary", "check_save_summary"),
        *("excerpt", "query_words", "search_words", "turn_text"),
        *("NO_SESSION", "SessionState", "must_erase", "must_write", "turns_between"),
        *("decode_metadata", "encode_metadata"),
        *("FullStore", "StoreWrapper"),
    }
    assert set(windows.__all__) == {
        *(
            "BoundedWindow",
            "LastItems",
            "LastTurns",
            "Shortest",
            "Stepped",
            "Summarised",
            "TokenBudget",
            "Window",
        ),
        "estimated_tokens",
    }
    assert set(tracing.__all__) == {"TracedStore", "TracingLayer"}
    assert set(langchain.__all__) == {
        *("Invocation", "RunnableWithMemory", "SessionMessageHistory")
    }
    assert set(testing.__all__) == {
        *("ScriptedService", "StoreBroken", "StoreReport", "check_session_store"),
    }


PUBLIC = [
    *(getattr(tower_memory, name) for name in NAMES if name != "RunItem"),
    *(getattr(dialects, name) for name in dialects.__all__),
    *(getattr(windows, name) for name in windows.__all__),
    *(
        each
        for name in store_toolkit.__all__
        if name != "ItemCodec" and callable(each := getattr(store_toolkit, name))
    ),
    streams.Stream,
    openai_agents.SQLiteSession,
    *(getattr(resumable, name) for name in resumable.__all__),
    *(getattr(postgres, name) for name in postgres.__all__),
    *(getattr(pydantic_ai, name) for name in pydantic_ai.__all__),
    *(getattr(tracing, name) for name in tracing.__all__),
    *(
        each
        for name in toolkit.__all__
        if name not in dialects.__all__ and callable(each := getattr(toolkit, name))
    ),
    *(getattr(bridges, name) for name in bridges.__all__),
    *(getattr(agent_framework, name) for name in agent_framework.__all__),
    *(getattr(langchain, name) for name in langchain.__all__),
]


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__name__)
def test_every_public_class_and_method_says_what_it_does(public):
    assert inspect.getdoc(public)
    for method, value in vars(public).items():
        if not method.startswith("_") and inspect.isroutine(value):
            assert inspect.getdoc(value), f"{public.__name__}.{method}"


def test_the_package_tells_its_version():
    assert tower_memory.__version__ == importlib.metadata.version("tower-memory")


def test_the_command_is_installed():
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="tower-memory")
    assert command.load() is __main__.main


def test_the_package_says_that_it_is_typed():
    assert importlib.resources.files(tower_memory).joinpath("py.typed").is_file()
    assert "Typing :: Typed" in importlib.metadata.metadata("tower-memory").get_all("Classifier")


def test_no_client_library_and_no_extra_is_imported():
    program = (
        "import sys, tower_memory;"
        "import tower_memory.dialects, tower_memory.bridges, tower_memory.windows,"
        " tower_memory.streams, tower_memory.store_toolkit;"
        "extras = {'openai', 'anthropic', 'pydantic_ai', 'google.genai', 'litellm', 'agents', 'stamina', 'psycopg', 'opentelemetry'};"
        "extras = {'openai', 'anthropic', 'pydantic_ai', 'google.genai', 'litellm', 'agents', 'stamina', 'psycopg', 'langchain_core'};"
        "print(*extras & set(sys.modules), *{'pydantic', 'trio', 'httpx'} & set(sys.modules))"
    )
    done = run_python(program, check=True)
    assert done.stdout == "\n"
