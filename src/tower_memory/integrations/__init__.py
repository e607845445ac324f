"""The stores of this library inside agent frameworks, one module for each framework.

A program that uses a framework keeps it, and gets the promises of `SessionStore` for its
conversations. Each module is a guide of one page: the setup, an example, and the differences to the
framework's own class.

===================================================  ==============================================
module                                               in place of
===================================================  ==============================================
`tower_memory.integrations.pydantic_ai`              pydantic-ai's ``InMemoryConversationStore``
`tower_memory.integrations.openai_agents`            openai-agents' ``SQLiteSession``
`tower_memory.integrations.langchain`                LangChain's ``RunnableWithMessageHistory``
`tower_memory.integrations.agent_framework`          agent-framework's ``FileHistoryProvider``
===================================================  ==============================================

All of them work over every store: in memory, SQLite, Postgres, a `ScopedStore` with the sessions of
one tenant, a `tower_memory.bridges.ThreadedStore` for several event loops and blocking code, and a
`tower_memory.tracing.TracedStore`, whose spans nest under the framework's own. Keep the sessions of
two frameworks in different scopes, since each has its own form of items.

This package imports no framework. Each module imports its own, and the extra of its name installs
it: ``pip install 'tower-memory[pydantic-ai]'``.
"""
