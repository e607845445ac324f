"""The libraries that are compared, and the distributions that their environments need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Library:
    """A library: the module of its probe, its name in the tables, its requirements.

    ``requirements`` are installed in the newest versions that the index of packages gives. The
    environment of tower-memory gets this checkout instead.
    """

    module: str
    name: str
    requirements: tuple[str, ...]


LIBRARIES: Final = (
    Library("ours", "tower-memory", ()),
    Library("openai_agents", "openai-agents", ("openai-agents",)),
    Library("pydantic_ai", "pydantic-ai", ("pydantic-ai-slim",)),
    Library("langgraph", "LangGraph", ("langgraph", "langgraph-checkpoint-sqlite", "aiosqlite")),
    Library(
        "langchain",
        "LangChain",
        ("langchain-core", "langchain-community", "SQLAlchemy[asyncio]", "aiosqlite"),
    ),
    Library("google_adk", "google-adk", ("google-adk", "aiosqlite")),
    Library("agent_framework", "agent-framework", ("agent-framework-core",)),
)
"""The libraries, in the order of the columns."""
