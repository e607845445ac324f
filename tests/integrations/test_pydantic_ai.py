"""Conversations of pydantic-ai in a store of ours: agents, ids, forks, erasure and faults."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
import subprocess
from functools import partial

import anyio
import pytest
from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation, ConversationTypeAdapter
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    InMemoryConversationStore,
)
from pydantic_ai.messages import (
    BinaryContent,
    BinaryImage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import DeferredToolRequests

from helpers.cancelling import cancel_at_every_suspension, every_cancellation
from helpers.commands import COMMAND
from helpers.passing_store import Meanwhile, PassingStore
from helpers.processes import environment
from helpers.recording_store import recording_class
from helpers.runtimes import on_asyncio
from tower_memory import (
    InMemorySessionStore,
    ScopedStore,
    SessionConflict,
    SessionError,
    SqliteSessionStore,
    Turn,
    UnencodableItemError,
)
from tower_memory.bridges import ThreadedStore
from tower_memory.dialects import PydanticAI
from tower_memory.integrations.pydantic_ai import SessionConversationStore


@pytest.fixture
def conversations(store):
    return SessionConversationStore(store)


def question(text="Hi"):
    return ModelRequest.user_text_prompt(text)


def answer(text="Hello!"):
    return ModelResponse([TextPart(text)])


async def saved(conversations, conversation_id="c", count=1, scope=None):
    """Save *count* turns in a conversation, and return its entries."""
    entries = []
    for number in range(count):
        conversation = await conversations.load(conversation_id)
        conversation = conversation or Conversation(conversation_id=conversation_id)
        conversation.messages += [question(f"question {number}"), answer(f"answer {number}")]
        entries += await conversations.save(conversation, scope=scope)
    return entries


def texts(messages):
    return [message.parts[0].content for message in messages]


class TestAgents:
    @on_asyncio
    async def test_a_run_with_tools_goes_on_from_the_stored_conversation(self, conversations):
        agent = Agent(TestModel(), instructions="Be brief.")

        @agent.tool_plain
        def weather(city: str) -> dict[str, object]:
            return {"city": city, "is_sunny": True}

        first = await agent.run("The weather?", conversation=Conversation(conversation_id="c"))
        entries = await conversations.save(first)
        loaded = await conversations.load("c")
        assert loaded == first.conversation
        assert loaded.usage.tool_calls == 1
        assert [entry.message for entry in entries] == loaded.messages

        second = await agent.run("And tomorrow?", conversation=loaded)
        await conversations.save(second)
        assert await conversations.load("c") == second.conversation
        assert (await conversations.load("c")).usage.requests == 3

    @on_asyncio
    async def test_a_paused_run_is_resumed_by_another_program(self, path):
        agent = Agent(TestModel(), output_type=[str, DeferredToolRequests])
        bought = []

        @agent.tool_plain(requires_approval=True)
        def buy(ticket: str) -> str:
            bought.append(ticket)
            return "bought"

        async with SqliteSessionStore(path) as store:
            paused = await agent.run("A ticket!", conversation=Conversation(conversation_id="c"))
            await SessionConversationStore(store).save(paused)
            assert bought == []

        async with SqliteSessionStore(path) as store:
            conversations = SessionConversationStore(store)
            loaded = await conversations.load("c")
            requests = loaded.deferred_tool_requests
            assert requests == paused.output
            results = requests.build_results(approve_all=True)
            resumed = await agent.run(conversation=loaded, deferred_tool_results=results)
            await conversations.save(resumed)
            assert len(bought) == 1
            assert (await conversations.load("c")).deferred_tool_requests is None


class TestStored:
    async def test_search_finds_the_text_of_messages_and_nothing_of_records(
        self, store, conversations
    ):
        await saved(conversations, scope="tenant")
        (hit,) = await store.search("question")
        assert (hit.session_id, hit.excerpt) == ("c", "question 0 answer 0")
        assert not await store.search("tenant")
        assert not await store.search("conversation_record")

    async def test_instructions_and_system_prompts_are_stored(self, store, conversations):
        prompt = ModelRequest([SystemPromptPart("Be kind.")], instructions="Be brief.")
        await conversations.save(Conversation(conversation_id="c", messages=[prompt]))
        assert (await conversations.load("c")).messages == [prompt]
        assert len(await store.search("kind")) == 1

    async def test_the_command_shows_the_messages(self, path):
        async with SqliteSessionStore(path) as store:
            await saved(SessionConversationStore(store))
        command = [*COMMAND, "--db", path, "show", "c"]
        shown = subprocess.run(command, capture_output=True, text=True, env=environment())
        assert shown.returncode == 0, shown.stderr
        assert "request    question 0" in shown.stdout
        assert "response   answer 0" in shown.stdout

    async def test_the_dialect_of_pydantic_ai_reads_the_entries(self, store, conversations):
        await saved(conversations)
        items = (await store.load("c"))[:-1]
        (*history, new) = PydanticAI().with_history([question("new")], items)
        assert texts(history) == ["question 0", "answer 0"]
        assert texts([new]) == ["new"]

    async def test_values_that_are_no_json_are_stored_as_pydantic_ai_writes_them(
        self, conversations
    ):
        given = {"tuple": (1, 2), "time": ModelResponse([]).timestamp, "nan": math.nan}
        picture = BinaryContent(b"\x89PNG", media_type="image/png")
        messages = [
            ModelRequest([ToolReturnPart("t", given, "call")]),
            ModelRequest([UserPromptPart(["What is this?", picture])]),
        ]
        await conversations.save(Conversation(conversation_id="c", messages=messages))
        (returned, prompt) = (await conversations.load("c")).messages
        time = given["time"].isoformat().replace("+00:00", "Z")
        assert returned.parts[0].content == {"tuple": [1, 2], "time": time, "nan": None}
        assert prompt.parts[0].content[1] == BinaryImage(b"\x89PNG", media_type="image/png")

        revision = (await conversations.read_record("c")).revision
        unmarked = Conversation(conversation_id="c", messages=messages, revision=revision)
        assert len(await conversations.save(unmarked)) == 2
        assert len((await conversations.read_record("c")).branches) == 1

    @pytest.mark.parametrize("value", [object(), "\ud800"], ids=["object", "lone surrogate"])
    async def test_a_value_that_cannot_be_stored_is_refused_before_a_write(
        self, store, conversations, value
    ):
        message = ModelRequest([ToolReturnPart("t", value, "call")])
        with pytest.raises(UnencodableItemError, match="session 'c': .*cannot be stored"):
            await conversations.save(Conversation(conversation_id="c", messages=[message]))

        requests = DeferredToolRequests(metadata={"call": {"key": value}})
        with pytest.raises(UnencodableItemError, match="session 'c': .*cannot be stored"):
            await conversations.save(
                Conversation(conversation_id="c", deferred_tool_requests=requests)
            )
        assert await store.describe("c") is None

    async def test_a_conversation_of_another_store_can_be_saved_here(self, conversations):
        other = InMemoryConversationStore()
        await saved(other, count=2)
        moved = await other.load("c")
        moved.revision = moved.new_message_index = None
        assert len(await conversations.save(moved, scope="x")) == 4
        assert await conversations.load("c", scope="x") == moved

    async def test_a_conversation_that_was_serialized_is_recognised(self, conversations):
        await saved(conversations)
        dumped = ConversationTypeAdapter.dump_json(await conversations.load("c"))
        conversation = ConversationTypeAdapter.validate_json(dumped)
        conversation.messages.append(question("next"))
        assert texts(e.message for e in await conversations.save(conversation)) == ["next"]
        (record,) = await conversations.list_conversations()
        assert record.branches == []


class TestIds:
    async def test_an_id_knows_its_conversation_in_every_copy(self, conversations):
        await saved(conversations)
        entry = (await conversations.load_entries("c"))[1]
        record = await conversations.read_record("c")
        assert record.head_id == entry.id
        assert isinstance(record.head_id, str)
        for copied in (
            copy.deepcopy(entry).id,
            copy.copy(entry.id),
            dataclasses.replace(entry, kind="message").id,
            pickle.loads(pickle.dumps(entry.id)),
        ):
            assert (copied, hash(copied)) == (str(entry.id), hash(str(entry.id)))
            assert copied.conversation_id == "c"
        assert json.loads(json.dumps([entry.id])) == [str(entry.id)]
        assert type(str(entry.id)) is str

    async def test_an_id_is_stored_elsewhere_as_a_plain_string(self, store, conversations):
        (entry, _) = await saved(conversations)
        with pytest.raises(UnencodableItemError, match="metadata.rated"):
            await store.annotate("c", {"rated": entry.id})
        info = await store.annotate("c", {"rated": str(entry.id)})
        assert await conversations.read_entry(info.metadata["rated"]) == entry

    async def test_an_id_of_a_save_is_read_from_its_conversation_only(self, conversations):
        first = await saved(conversations, "c")
        await saved(conversations, "d")
        recording = ReadingStore(conversations.store)
        reading = SessionConversationStore(recording)
        entry = await reading.read_entry(first[1].id)
        assert (entry.message, entry.parent_id) == (first[1].message, first[0].id)
        assert recording.loaded == ["c"]

        await reading.read_entry(str(first[1].id))
        assert recording.loaded == ["c", "d", "c"]

    async def test_a_plain_id_is_found_among_many_conversations(self, conversations):
        (entry, _) = await saved(conversations, "first")
        for number in range(51):
            await conversations.save(Conversation(conversation_id=f"c{number}"))
        assert await conversations.read_entry(str(entry.id)) == entry
        assert len(await conversations.list_conversations()) == 52

    @pytest.mark.parametrize("is_plain", [False, True])
    async def test_an_unknown_entry_is_a_lookup_error(self, conversations, is_plain):
        (entry, _) = await saved(conversations)
        await conversations.delete("c")
        entry_id = str(entry.id) if is_plain else entry.id
        with pytest.raises(LookupError, match=f"no conversation has the entry '{entry_id}'"):
            await conversations.read_entry(entry_id)
        assert await conversations.read_history(entry_id, limit=0) == []
        assert await conversations.read_history(entry_id, limit=-1) == []


class ReadingStore(PassingStore):
    """A store that records its loads."""

    def __init__(self, store):
        super().__init__(store)
        self.loaded = []
        self.items = 0

    async def load(self, session_id, **arguments):
        history = await super().load(session_id, **arguments)
        self.loaded.append(session_id)
        self.items += len(history)
        return history


class TestCosts:
    async def test_a_limited_load_reads_the_end_of_a_long_conversation(self, conversations):
        await saved(conversations, count=30)
        reading = ReadingStore(conversations.store)
        loaded = await SessionConversationStore(reading).load("c", limit=3)
        assert texts(loaded.messages) == ["answer 28", "question 29", "answer 29"]
        assert reading.items <= 8

    async def test_a_limited_load_reads_past_another_branch(self, conversations):
        entries = await saved(conversations, count=30)
        record = await conversations.read_record("c")
        await conversations.branch("c", at=2, expected_revision=record.revision)
        loaded = await conversations.load("c", limit=1)
        assert texts(loaded.messages) == ["answer 0"]

        record = await conversations.read_record("c")
        await conversations.branch(
            "c", from_entry=str(entries[-1].id), expected_revision=record.revision
        )
        assert len((await conversations.load("c")).messages) == 60

    async def test_a_save_reads_two_items(self, conversations):
        await saved(conversations, count=10)
        reading = ReadingStore(conversations.store)
        loaded = await conversations.load("c")
        loaded.messages.append(question())
        await SessionConversationStore(reading).save(loaded)
        assert reading.items == 2


class TestLists:
    async def test_a_list_is_limited_to_a_scope_and_a_number(self, conversations):
        for conversation_id, scope in [*zip("abcd", "xyxy", strict=True)]:
            await saved(conversations, conversation_id, scope=scope)
        listed = conversations.list_conversations
        assert [r.conversation_id for r in await listed()] == ["d", "c", "b", "a"]
        assert [r.conversation_id for r in await listed(scope="x")] == ["c", "a"]
        assert [r.conversation_id for r in await listed(scope="x", limit=1)] == ["c"]
        assert [r.conversation_id for r in await listed(limit=3)] == ["d", "c", "b"]
        assert await listed(limit=0) == []

    async def test_a_session_without_items_is_no_conversation(self, store, conversations):
        await store.annotate("c", {"title": "Early"}, create=True)
        assert await conversations.load("c") is None
        assert await conversations.list_conversations() == []
        await saved(conversations)
        assert (await store.describe("c")).metadata == {"title": "Early"}

    async def test_a_session_that_the_catalog_copies_is_a_conversation_of_its_own(
        self, store, conversations
    ):
        await saved(conversations)
        await store.fork("c", "copy")
        await saved(conversations, "copy")
        assert len((await conversations.load("copy")).messages) == 4
        assert len((await conversations.load("c")).messages) == 2

    @pytest.mark.parametrize("rounds", [1, 2])
    async def test_a_conversation_that_is_saved_during_a_walk_is_found(self, conversations, rounds):
        (entry, _) = await saved(conversations, "first")
        for number in range(60):
            await conversations.save(Conversation(conversation_id=f"c{number}"))

        async def save_the_last_ones():  # so they move to the front, which the walk has passed
            for number in range(59, -1, -1):
                await saved(conversations, f"c{number}")
            await saved(conversations, "first")

        walking = WalkedStore(conversations.store, *[save_the_last_ones] * rounds)
        assert await SessionConversationStore(walking).read_entry(str(entry.id)) == entry

        walking = WalkedStore(conversations.store, *[save_the_last_ones] * rounds)
        listed = await SessionConversationStore(walking).list_conversations()
        assert len({record.conversation_id for record in listed}) == len(listed) == 61


class WalkedStore(PassingStore):
    """A store that another program changes after the first page of each of the first walks."""

    def __init__(self, store, *acts):
        super().__init__(store)
        self.acts = list(acts)

    async def sessions(self, **arguments):
        page = await super().sessions(**arguments)
        if self.acts and arguments.get("after") is None:
            await self.acts.pop(0)()
        return page


class TestForksAndErasure:
    async def test_a_fork_outlives_its_source_and_erased_text_is_not_found(
        self, store, conversations
    ):
        await saved(conversations, count=2)
        await conversations.fork("c", at=2, new_conversation_id="f")
        await conversations.delete("c")

        assert await conversations.load("c") is None
        assert await store.describe("c") is None
        assert {hit.session_id for hit in await store.search("question")} == {"f"}
        assert not await store.search('"question 1"')
        assert len(await saved(conversations, "f")) == 2
        forked = await conversations.load("f")
        assert texts(forked.messages)[:2] == ["question 0", "answer 0"]

    async def test_a_save_in_progress_does_not_revive_a_deleted_conversation(self, conversations):
        await saved(conversations)
        loaded = await conversations.load("c")
        await conversations.delete("c")
        with pytest.raises(ConversationConflict):
            await conversations.save(loaded)
        await saved(conversations)
        with pytest.raises(ConversationConflict):
            await conversations.save(loaded)

    async def test_a_record_whose_history_is_not_stored_conflicts(self, conversations):
        await saved(conversations)
        revision = (await conversations.read_record("c")).revision
        for conversation_id, source, expected in [
            ("c", None, revision),
            ("f", "c", None),
            ("f", "gone", None),
            ("f", None, None),
        ]:
            record = ConversationRecord(
                conversation_id=conversation_id, head_id="unknown", forked_from=source
            )
            new = ConversationEntry(parent_id="unknown", message=question())
            later = dataclasses.replace(record, head_id=new.id)
            for each, entries in (record, []), (later, [new]):
                with pytest.raises(ConversationConflict) as conflict:
                    await conversations.write_record(
                        each, new_entries=entries, expected_revision=expected
                    )
                assert conflict.value.conversation_id == conversation_id
        assert len(await conversations.list_conversations()) == 1

    async def test_a_fork_may_have_new_entries_after_those_of_its_source(self, conversations):
        entries = await saved(conversations)
        new = [ConversationEntry(parent_id=entries[0].id, message=answer("another"))]
        record = ConversationRecord(
            conversation_id="f", head_id=new[0].id, forked_from="c", forked_at=entries[0].id
        )
        await conversations.write_record(record, new_entries=new, expected_revision=None)
        await conversations.delete("c")
        assert texts((await conversations.load("f")).messages) == ["question 0", "another"]


class TestConflicts:
    async def test_a_record_of_another_revision_is_neither_written_nor_deleted(self, conversations):
        await saved(conversations)
        record = await conversations.read_record("c")
        unknown = dataclasses.replace(record, conversation_id="d", head_id=None)
        for each, expected in (record, None), (record, "stale"), (unknown, "stale"):
            with pytest.raises(ConversationConflict) as conflict:
                await conversations.write_record(each, expected_revision=expected)
            assert conflict.value.conversation_id == each.conversation_id
            with pytest.raises(ConversationConflict):
                await conversations.delete_record(each.conversation_id, expected_revision="stale")
        assert await conversations.read_record("c") == record

    async def test_a_record_is_stored_again_under_the_same_revision(self, conversations):
        await saved(conversations)
        record = await conversations.read_record("c")
        changed = dataclasses.replace(record, scope="x")
        await conversations.write_record(changed, expected_revision=record.revision)
        assert await conversations.read_record("c") == changed

    async def test_a_save_conflicts_with_a_save_at_the_same_time(self, conversations):
        async def save():
            await saved(conversations)

        overtaken = SessionConversationStore(Meanwhile(conversations.store, save, save))
        with pytest.raises(ConversationConflict) as conflict:
            await saved(overtaken)
        assert isinstance(conflict.value.__cause__, SessionConflict)
        assert len((await conversations.load("c")).messages) == 2

        with pytest.raises(ConversationConflict):
            await saved(overtaken)
        assert len((await conversations.load("c")).messages) == 4

    async def test_a_delete_conflicts_with_a_save_at_the_same_time(self, conversations):
        await saved(conversations)
        revision = (await conversations.read_record("c")).revision

        async def save():
            await saved(conversations)

        overtaken = SessionConversationStore(Meanwhile(conversations.store, save))
        with pytest.raises(ConversationConflict):
            await overtaken.delete_record("c", expected_revision=revision)
        assert len((await conversations.load("c")).messages) == 4

    async def test_one_of_two_deletes_at_the_same_time_conflicts(self, conversations):
        await saved(conversations)
        revision = (await conversations.read_record("c")).revision

        async def delete():
            await conversations.delete_record("c", expected_revision=revision)

        overtaken = SessionConversationStore(Meanwhile(conversations.store, delete))
        with pytest.raises(ConversationConflict):
            await overtaken.delete_record("c", expected_revision=revision)
        assert await conversations.load("c") is None


class TestTenants:
    async def test_a_threaded_store_serves_several_event_loops(self):
        store = ThreadedStore(InMemorySessionStore())
        await saved(SessionConversationStore(store))
        other_loop = partial(anyio.run, saved, SessionConversationStore(store))
        assert len(await anyio.to_thread.run_sync(other_loop)) == 2
        assert len((await SessionConversationStore(store).load("c")).messages) == 4
        await store.aclose()

    async def test_scoped_stores_keep_tenants_and_other_sessions_apart(self, store):
        await store.append(Turn("c", [{"role": "user", "content": "no conversation"}]))
        anna, ben = (SessionConversationStore(ScopedStore(store, name)) for name in ("anna", "ben"))
        await saved(anna)
        (entry, _) = await saved(ben)
        assert len(await anna.list_conversations()) == 1
        with pytest.raises(LookupError):
            await anna.read_entry(str(entry.id))
        await ben.delete("c")
        assert await ben.load("c") is None
        assert len((await anna.load("c")).messages) == 2


class TestFaults:
    @pytest.mark.parametrize(
        "item",
        [
            {"role": "user", "content": "secret"},
            {"kind": "request", "parts": [], "conversation_entry": {"kind": "summary"}},
            "secret",
        ],
    )
    async def test_a_foreign_item_is_refused_and_the_error_names_the_remedy(
        self, store, conversations, item
    ):
        await saved(conversations)
        record = (await store.load("c"))[-1]
        await store.append(Turn("c", [item]))
        refused = r"session 'c': item 3 is no part of a pydantic-ai conversation; .*ScopedStore"
        for call in (
            conversations.load("c"),
            conversations.list_conversations(),
            saved(conversations),
            conversations.delete("c"),
        ):
            with pytest.raises(SessionError, match=refused) as error:
                await call
            assert "secret" not in str(error.value)

        await store.append(Turn("c", [record]))
        with pytest.raises(SessionError, match=refused):
            await conversations.load_entries("c")

    async def test_a_damaged_record_and_a_damaged_message_are_refused(self, store, conversations):
        await saved(conversations)
        (request, response, record) = await store.load("c")
        await store.append(Turn("record", [{**record, "format_version": 2, "scope": "secret"}]))
        with pytest.raises(SessionError, match="session 'record': the record cannot be") as error:
            await conversations.load("record")
        assert "secret" not in str(error.value)

        await store.append(Turn("message", [request, {**response, "parts": ["secret"]}, record]))
        entry_id = response["conversation_entry"]["id"]
        place = f"session 'message': the message of entry '{entry_id}' cannot be read"
        with pytest.raises(SessionError, match=place) as error:
            await conversations.load("message")
        assert "secret" not in str(error.value)

        await store.append(Turn("gap", [response, record]))
        with pytest.raises(LookupError):
            await conversations.load("gap")

    def test_a_store_that_cannot_list_or_erase_is_refused(self):
        with pytest.raises(TypeError, match="store must have load, append, pop and clear"):
            SessionConversationStore(InMemorySessionStore)
        expected = "the methods of SessionErasure, as SqliteSessionStore has, got RecordingStore"
        with pytest.raises(TypeError, match=expected):
            SessionConversationStore(recording_class("SessionCatalog")())
        with pytest.raises(TypeError, match="the methods of SessionCatalog and SessionErasure"):
            SessionConversationStore(recording_class()())

    def test_its_repr_shows_the_store(self):
        store = InMemorySessionStore()
        assert repr(SessionConversationStore(store)) == f"SessionConversationStore({store!r})"


@every_cancellation
async def test_a_cancelled_save_or_delete_is_whole_or_absent(sqlite, anyio_backend, cancelled):
    conversations = SessionConversationStore(sqlite)
    counts = [0]

    async def check_save(nth, outcome, was_cancelled):
        loaded = await conversations.load("c")
        count = len(loaded.messages) if loaded else 0
        assert count - counts[-1] in ((0, 2) if was_cancelled else (2,))
        await saved(conversations)
        counts.append(count + 2)
        assert len((await conversations.load("c")).messages) == counts[-1]

    await cancel_at_every_suspension(lambda nth: saved(conversations), cancelled, check_save)

    async def check_delete(nth, outcome, was_cancelled):
        loaded = await conversations.load("c")
        assert loaded is None or (was_cancelled and len(loaded.messages) % 2 == 0)
        await saved(conversations)
        assert len(await conversations.list_conversations()) == 1

    await cancel_at_every_suspension(lambda nth: conversations.delete("c"), cancelled, check_delete)
