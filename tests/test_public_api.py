"""The public names: all there, all documented, and nothing else."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import inspect
import subprocess
import sys

import pytest

import tower_memory
from tower_memory import bridges, dialects, testing, windows

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
    "Session",
    "History",
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
    "TurnExists",
    "SaveError",
    "CorruptSessionError",
    "UnencodableItemError",
]


def test_the_public_names_are_exactly_these():
    assert sorted(tower_memory.__all__) == sorted(NAMES)
    assert all(hasattr(tower_memory, name) for name in NAMES)
    assert set(dialects.__all__) == {
        *("AnthropicMessages", "ChatCompletions", "OpenAIResponses", "PydanticAI"),
        *("Dialect", "Streamed", "WholeRequests"),
    }
    assert set(bridges.__all__) == {"AsyncioLayer"}
    assert set(windows.__all__) == {
        *("BoundedWindow", "LastItems", "LastTurns", "Shortest", "TokenBudget", "Window"),
        "estimated_tokens",
    }
    assert set(testing.__all__) == {
        *("ScriptedService", "StoreBroken", "StoreReport", "check_session_store"),
    }


PUBLIC = [
    *(getattr(tower_memory, name) for name in NAMES if name != "RunItem"),
    *(getattr(dialects, name) for name in dialects.__all__),
    *(getattr(windows, name) for name in windows.__all__),
    bridges.AsyncioLayer,
]


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__name__)
def test_every_public_class_and_method_says_what_it_does(public):
    assert inspect.getdoc(public)
    for method, value in vars(public).items():
        if not method.startswith("_") and inspect.isroutine(value):
            assert inspect.getdoc(value), f"{public.__name__}.{method}"


def test_the_package_says_that_it_is_typed():
    assert importlib.resources.files(tower_memory).joinpath("py.typed").is_file()
    assert "Typing :: Typed" in importlib.metadata.metadata("tower-memory").get_all("Classifier")


def test_no_client_library_and_no_extra_is_imported():
    program = (
        "import sys, tower_memory, tower_memory.dialects, tower_memory.bridges, tower_memory.windows;"
        "extras = {'openai', 'anthropic', 'pydantic_ai', 'litellm', 'agents', 'stamina'};"
        "print(*extras & set(sys.modules), *{'pydantic', 'trio', 'httpx'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"
