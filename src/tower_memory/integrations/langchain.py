"""LangChain."""

from tower_memory.integrations._langchain.dialect import Invocation
from tower_memory.integrations._langchain.history import SessionMessageHistory
from tower_memory.integrations._langchain.runnable import RunnableWithMemory

__all__ = ("Invocation", "RunnableWithMemory", "SessionMessageHistory")
