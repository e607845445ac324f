"""LangChain: memory for any runnable, in place of ``RunnableWithMessageHistory``.

LangChain has deprecated ``RunnableWithMessageHistory`` (since langchain-core 1.3.3) and its chat
histories (since 1.6.4), and removes both in 2.0. `RunnableWithMemory` takes their place for chat
models and chains. It works with langchain-core 1.2.5 or newer, and uses no deprecated part of it::

    pip install "tower-memory[langchain]"

Give `RunnableWithMemory` a runnable and a store, and each call a session id in its config:

>>> from langchain_core.language_models import FakeListChatModel
>>> from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
>>> from langchain_core.runnables import RunnableConfig
>>> from tower_memory import SqliteSessionStore
>>> from tower_memory.bridges import ThreadedStore
>>> from tower_memory.integrations.langchain import RunnableWithMemory
>>>
>>> model = FakeListChatModel(responses=["Nice!", "You like teal."])  # stands for your model
>>> prompt = ChatPromptTemplate.from_messages(
...     [("system", "Be brief."), MessagesPlaceholder("history"), ("human", "{question}")]
... )
>>> store = ThreadedStore(SqliteSessionStore.in_memory())  # or SqliteSessionStore("chat.db")
>>> chat = RunnableWithMemory(
...     prompt | model, store, input_messages_key="question", history_messages_key="history"
... )
>>> config: RunnableConfig = {"configurable": {"session_id": "user_123"}}
>>> for question in ["I like teal.", "What do I like?"]:
...     print(chat.invoke({"question": question}, config).content)
Nice!
You like teal.
>>> len(store.blocking.load("user_123"))
4
>>> store.close()

In an event loop, use any store, and ``ainvoke``, ``astream`` or ``abatch``. LangChain's runnables
need asyncio; on trio, call them through `tower_memory.bridges.AsyncioLayer`, with a
`tower_memory.bridges.ThreadedStore`.

Migrating
---------

Change the class, and replace the factory of histories by the store. Before::

    chat = RunnableWithMessageHistory(
        prompt | model,
        lambda session_id: SQLChatMessageHistory(session_id, connection=url),
        input_messages_key="question",
        history_messages_key="history",
    )

After::

    store = ThreadedStore(SqliteSessionStore("chat.db"))
    chat = RunnableWithMemory(
        prompt | model,
        store,
        input_messages_key="question",
        history_messages_key="history",
    )

1. **Configs** stay the same. For other keys than ``session_id``, pass a function whose parameters
   are the keys: ``session_id=lambda user_id, chat_id: f"{user_id}/{chat_id}"``. It replaces
   ``history_factory_config``. For tenants, pass a function that returns the tenant's store:
   ``RunnableWithMemory(chain, lambda user_id: ScopedStore(store, user_id))``.
2. **Old conversations**: ``tower-memory import`` reads LangChain's SQLite files, and both classes
   here read the result: texts, images, tool calls and their results, without other fields such
   as ids, usage and artifacts. To keep all fields, or for other histories, save the messages with
   ``SessionMessageHistory(store, session_id).add_messages(old.messages)``.
3. **A library that takes a chat history** gets a `SessionMessageHistory`. It has the same sessions.
4. **A chain goes inside**: ``RunnableWithMemory(prompt | model | parser, store)``. LangChain reads
   each chunk of a chain around it in a task of its own. The next turn of the session then does not
   wait for the end of the stream. Even then, no item is lost.

Options
-------

`RunnableWithMemory` takes the options of `tower_memory.MemoryLayer`: *overlap*, *turn_id*,
*window*, *keep_interrupted*, *grace*, *metadata*, *replaces* and *journal*. Their functions get an
`Invocation` with the input and the config:

>>> from langchain_core.language_models import FakeListChatModel
>>> from tower_memory import InMemorySessionStore
>>> from tower_memory.integrations.langchain import Invocation, RunnableWithMemory
>>> from tower_memory.windows import LastTurns
>>> def request_id(call: Invocation) -> str:
...     return str(call.values["request_id"])
>>> options_chat = RunnableWithMemory(
...     FakeListChatModel(responses=["Hello!"]),
...     InMemorySessionStore(),
...     turn_id=request_id,  # a retry of the same request is not saved twice
...     window=LastTurns(20),  # the model gets the last 20 exchanges
...     keep_interrupted=True,  # a stream that breaks off is saved
... )

Inputs and outputs
------------------

An input is a text, a message, a list of messages, a prompt value, or a mapping with one of these.
An output is a text, a message, a list of messages, or a mapping with one of these. If an agent
returns the whole conversation under ``"messages"``, only its new messages are saved. System
messages of an input go in front of the history and are not stored. If a tool call of the history
has no result, the model gets a result that says so.

Messages are stored as LangChain's ``message_to_dict`` makes them, with all fields, such as ids,
usage and artifacts. A value that JSON cannot hold, such as an artifact that is an object, is
refused, and the error names its place. Stored data never chooses a class. Search
(`tower_memory.SessionSearch`) finds the text.

LangGraph
---------

A LangGraph checkpoint is the state of a graph: its channels, its next steps, its interrupts. This
module stores conversations and does not replace checkpoints. Keep the checkpointer for graphs that
pause, resume or travel back in time. For an agent whose state is its messages,
``RunnableWithMemory(agent, store)`` without a checkpointer is enough. Stream such an agent with
``stream_mode`` ``"values"``, ``"updates"`` or ``"messages"``, or with a list that has one of
these; with ``subgraphs=True``, not with ``"messages"`` alone.

Differences to ``RunnableWithMessageHistory``
---------------------------------------------

=====================  ====================================  ====================================
contract               ``RunnableWithMessageHistory``        `RunnableWithMemory`
=====================  ====================================  ====================================
two calls at once      both answer the same history, and     one after another, or side by side,
                       may cut each other's messages off     or the second is refused; every
                                                             message of both stays (*overlap*)
a failed save          is logged by the callback manager;    reaches the caller as a `SaveError`
                       the caller sees a success             with the output and the turn
a turn                 depends on the history class          saved whole or not at all
a repeated request     is saved again                        is saved once (*turn_id*)
cancelling             may lose the turn of a paid reply     a scope of anyio waits for the save;
                                                             native cancellation may drop the reply
an interrupted stream  is not saved                          is saved on request, marked, without
                                                             half a tool call
a stream's end         the save is a callback                the turn is saved when the loop ends
loads in a turn        two, without a key for the history    one
system messages        are stored again with each input      are not stored
an agent's output      is stored with all earlier messages   only new messages are stored
runs in a trace        several around the inner runnable     none: the config goes to the runnable
a blocking call        needs a history that blocks           needs a `ThreadedStore`; the runnable
                                                             runs in the thread of the caller
=====================  ====================================  ====================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from tower_memory.integrations._langchain.dialect import Invocation
    from tower_memory.integrations._langchain.runnable import RunnableWithMemory
except ImportError as error:
    msg = (
        "tower_memory.integrations.langchain needs langchain-core 1.2.5 or newer: "
        "pip install 'tower-memory[langchain]'"
    )
    raise ImportError(msg) from error

if TYPE_CHECKING:
    from tower_memory.integrations._langchain.history import SessionMessageHistory

__all__ = ("Invocation", "RunnableWithMemory", "SessionMessageHistory")


def __getattr__(name: str) -> Any:
    """Import `SessionMessageHistory` when it is used: LangChain will remove its base class."""
    if name != "SessionMessageHistory":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)

    from tower_memory.integrations._langchain.history import (  # noqa: PLC0415
        SessionMessageHistory,
    )

    return SessionMessageHistory
