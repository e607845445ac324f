"""Integrations whose framework is not installed."""

from __future__ import annotations

import pytest

from helpers.processes import run_python


@pytest.mark.parametrize(
    ("module", "framework", "extra"),
    [
        ("pydantic_ai", "pydantic_ai", "pydantic-ai"),
        ("openai_agents", "agents", "openai-agents"),
        ("langchain", "langchain_core", "langchain"),
        ("agent_framework", "agent_framework", "agent-framework"),
    ],
)
def test_an_integration_names_its_extra_if_its_framework_is_missing(module, framework, extra):
    name = f"tower_memory.integrations.{module}"
    done = run_python(f"import sys; sys.modules[{framework!r}] = None; import {name}")
    assert f"ImportError: {name} needs " in done.stderr
    assert f"pip install 'tower-memory[{extra}]'" in done.stderr


def test_the_core_imports_no_framework():
    """The contract of imports says so, too, but not of what is imported when a module runs."""
    frameworks = "agent_framework agents langchain_core opentelemetry pydantic pydantic_ai psycopg"
    program = f"""
import sys
import tower_memory, tower_memory.bridges, tower_memory.resumable, tower_memory.store_toolkit
import tower_memory.testing, tower_memory.windows, tower_memory.integrations
print(sys.modules.keys() & set({frameworks.split()}))
"""
    assert run_python(program).stdout.strip() == "set()"
