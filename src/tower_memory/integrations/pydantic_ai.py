"""pydantic-ai's ``ConversationStore`` over every store of this library.

pydantic-ai defines how a program saves a conversation, forks it and pauses it for an approval. Its
package has one store, in memory, for tests. `SessionConversationStore` is the same store over a
`SqliteSessionStore`, a `PostgresSessionStore`, or any other store of this library. It needs an
extra::

    pip install 'tower-memory[pydantic-ai]'

Load a conversation, run the agent, and save the result:

>>> import anyio
>>> from pydantic_ai import Agent
>>> from pydantic_ai.conversation import Conversation
>>> from pydantic_ai.models.test import TestModel
>>> from tower_memory import SqliteSessionStore
>>> from tower_memory.integrations.pydantic_ai import SessionConversationStore
>>> agent = Agent(TestModel(custom_output_text="Take the train."))
>>> async def main() -> None:
...     async with SqliteSessionStore.in_memory() as store:  # or SqliteSessionStore("chats.db")
...         conversations = SessionConversationStore(store)
...         for question in "How do I get to Rome?", "And back?":
...             conversation = await conversations.load("trip") or Conversation(
...                 conversation_id="trip"
...             )
...             result = await agent.run(question, conversation=conversation)
...             await conversations.save(result)
...         again = await conversations.fork("trip", at=2, new_conversation_id="trip-2")
...         print(len(again.messages), len(result.conversation.messages))
...         print([(hit.session_id, hit.excerpt) for hit in await store.search("back")])
>>> anyio.run(main)
2 4
[('trip', 'And back? Take the train.')]

The UI adapters of pydantic-ai take it, too: ``conversation_store=SessionConversationStore(store)``.

1. **One save is one turn.** It has the new messages and the record: usage, deferred tool requests,
   branches and scope. A save is wholly stored or wholly absent, also if it is cancelled or the
   process is killed. `SessionStore` states these promises.
2. **No save is lost.** A save is stored only if the conversation is still at the loaded revision,
   in every process and thread that uses the store. Otherwise the save raises
   ``ConversationConflict`` and leaves nothing behind.
3. **A conversation is a session**, with the same id. So the command lists and shows it, an export
   holds it, and `SessionSearch` finds its messages, also those of other branches. Each message is
   an item that `tower_memory.dialects.PydanticAI` can read. Unlike a `MemoryLayer`, pydantic-ai
   stores instructions and system prompts with the messages.
4. **Delete erases.** ``delete`` removes the record and all messages, also of abandoned branches. No
   save in progress brings them back. Afterwards ``store.scrub()`` removes the last bytes from an
   SQLite file (`SessionErasure`). A fork has copies of its messages and stays, and its record names
   the conversation that it was forked from: delete it as well.

Conflicts
=========

If two runs continue one conversation at the same time, the second save conflicts. Load it again,
and decide: run again, or add the messages of the paid run to the newer conversation:

>>> from pydantic_ai.conversation_store import ConversationConflict
>>> from tower_memory import InMemorySessionStore
>>> async def answer_both() -> None:
...     conversations = SessionConversationStore(InMemorySessionStore())
...     await conversations.save(Conversation(conversation_id="trip"))
...     first, second = [
...         await agent.run(question, conversation=await conversations.load("trip"))
...         for question in ("Rome?", "Oslo?")
...     ]
...     await conversations.save(first)
...     try:
...         await conversations.save(second)
...     except ConversationConflict:
...         conversation = await conversations.load("trip") or Conversation(conversation_id="trip")
...         conversation.messages = [*conversation.messages, *second.new_messages()]
...         await conversations.save(conversation)  # in a loop, if it may conflict again
...     entries = await conversations.load_entries("trip") or []
...     print([entry.message.kind for entry in entries])
>>> anyio.run(answer_both)
['request', 'response', 'request', 'response']

Repeat a save whose outcome you do not know, such as a cancelled one, in the same way. If it was
stored, the repeated save conflicts, and the loaded conversation has its messages.

Tenants
=======

pydantic-ai's ``scope=`` is a field of the record: a call without it reaches every conversation, and
listing one scope reads the records of all. A `ScopedStore` is a boundary: its calls reach, list and
search the conversations of one tenant only, and two tenants may use the same conversation id. Use
it for each tenant, and also for conversations in a store that has other sessions. It costs nothing
to make, so make it for each request::

    conversations = SessionConversationStore(ScopedStore(store, user_id))

``scope=`` works inside it as everywhere.

Costs
=====

- Saving reads the newest item twice, and writes the new messages and the record. Its cost does not
  depend on the age of the conversation, unless ``save`` has to compare the histories.
- ``load(limit=)`` reads from the end of the conversation, and reads further only past the messages
  of other branches.
- Forking copies the messages that the fork keeps.
- ``list_conversations`` reads pages of sessions, and one item of each session, until it has *limit*
  conversations of the scope.
- ``branch`` and ``read_entry`` find an entry by its id. An id that this store returned is a string
  that knows its conversation, which is read from the end. An id that you stored yourself is a plain
  string: ``read_entry`` then searches all conversations, the last active first. Keep the
  conversation id beside it, and use ``load_entries``.

  Some libraries refuse every type but `str` itself, such as msgspec, and so do the stores of this
  library: give them ``str(entry.id)``.

Differences by contract
=======================

The same calls have the same results as with ``InMemoryConversationStore``. These are the
differences:

================= ============================= ====================================================
contract          ``InMemoryConversationStore`` ``SessionConversationStore``
================= ============================= ====================================================
copies            a deep copy of each message   the JSON of ``ModelMessagesTypeAdapter``
tool results,     objects of any type           JSON values: a tuple or a set comes back as a list;
metadata                                        a model, a dataclass, a time, a Decimal, bytes as
                                                their JSON
pictures          ``BinaryContent``             ``BinaryImage``, with the same bytes
values without    stored                        refused with `UnencodableItemError`, such as a lone
JSON                                            surrogate; nothing is written. Infinity and NaN in
                                                a tool result come back as None
conversation id   any string                    a non-empty string of valid Unicode
fork              points at the source's        copies them, under the same entry ids
                  entries
entry of a        found by its id, while a fork found in the fork, by the fork's ids or a plain
deleted source    holds it                      string
delete            releases the messages that    erases the session (promise 4)
                  no conversation reaches
unknown entry     ``KeyError``                  ``LookupError``
order of listing  by ``updated_at``             the last active conversations, by ``updated_at``
other sessions    none                          `SessionError`, which names the session: give
                                                conversations a store or a scope of their own
processes         one                           any number
================= ============================= ====================================================

A message whose value JSON has changed does not equal its stored form. If a program has copied or
changed the conversation, ``save`` compares the messages. Such a message then counts as rewritten,
and begins a branch.

The methods of both stores work on asyncio and trio. pydantic-ai runs its agents on asyncio.

To move a conversation here from another ``ConversationStore``, load it there, set its ``revision``
and ``new_message_index`` to None, and save it here with its scope. Its entries get new ids, and its
abandoned branches stay behind.
"""

from __future__ import annotations

try:
    from tower_memory.integrations._pydantic_ai.store import SessionConversationStore
except ImportError as error:
    msg = (
        "tower_memory.integrations.pydantic_ai needs pydantic-ai 2.68 or newer: "
        "pip install 'tower-memory[pydantic-ai]'"
    )
    raise ImportError(msg) from error

__all__ = ("SessionConversationStore",)
