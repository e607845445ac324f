"""Random calls of pydantic-ai's public API have equal results with our store and its own."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict, InMemoryConversationStore
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.tools import DeferredToolRequests
from pydantic_ai.usage import RunUsage

from helpers.state_machines import StoresMachine, few_or_many_runs
from tower_memory import ScopedStore
from tower_memory.integrations.pydantic_ai import SessionConversationStore

ids = st.sampled_from("ab")
scopes = st.sampled_from([None, None, None, None, "x", "y"])
new_ids = ids | st.sampled_from("defg")
limits = st.none() | st.integers(-1, 6)
places = st.sampled_from([0, 1])
numbers = st.integers(0, 9)
points = st.one_of(
    st.tuples(st.integers(0, 5), st.none()),
    st.tuples(st.none(), numbers),
    st.sampled_from([(None, None), (1, 1)]),  # a fork of the whole, otherwise a mistake
)
"""The arguments *at* and *from_entry*, the latter as the number of an entry."""


def text_of(message):
    (part,) = message.parts
    return part.content


class ConversationMachine(StoresMachine):
    """Each call goes to pydantic-ai's own store, and to one of two stores of ours.

    Entry ids differ between the stores. So an entry is described by its path: the texts of the
    messages from the first one up to it.
    """

    def __init__(self, addresses, backend, *, is_scoped):
        super().__init__(addresses, backend)
        stores = [ScopedStore(each, "tenant") if is_scoped else each for each in self.stores]
        self.ours = [SessionConversationStore(store) for store in stores]
        self.theirs = InMemoryConversationStore()
        self.number = 0
        self.clients = []  # pairs of conversations in the hands of two equal programs
        self.paths = []  # of all entries that were ever stored, each with the ids in both stores

    def message(self):
        self.number += 1
        text = f"message {self.number}"
        if self.number % 2:
            return ModelRequest.user_text_prompt(text)
        return ModelResponse([TextPart(text)])

    def both(self, place, call):
        """Return the outcome of *call*, a function of a store and its side, 0 for theirs.

        Fail if the sides do not agree.
        """
        outcomes = []
        for side, store in enumerate((self.theirs, self.ours[place])):
            outcomes.append(self.portal.call(self.outcome, store, call, side))
        assert outcomes[0][0] == outcomes[1][0]
        return outcomes[0][1], outcomes[1][1]

    async def outcome(self, store, call, side):
        """Return a description of the outcome that both sides have in common, and the outcome."""
        try:
            outcome = await call(store, side)
        except ConversationConflict as conflict:
            return ("conflict", conflict.conversation_id), None
        except LookupError:
            return "missing", None
        except UserError as error:
            return ("error", str(error).split("'")[0]), None
        return await self.described(store, outcome), outcome

    async def described(self, store, outcome):
        match outcome:
            case Conversation():
                return deepcopy(
                    (
                        [*map(text_of, outcome.messages)],
                        outcome.usage,
                        outcome.conversation_id,
                        outcome.deferred_tool_requests,
                        outcome.new_message_index,
                    )
                )
            case list():
                return [await self.described(store, each) for each in outcome]
            case None:
                return None
        if hasattr(outcome, "message"):
            parent = await self.path(store, outcome.parent_id)
            return text_of(outcome.message), parent, outcome.kind
        return (
            outcome.conversation_id,
            await self.path(store, outcome.head_id),
            outcome.usage,
            outcome.deferred_tool_requests,
            outcome.scope,
            outcome.forked_from,
            await self.path(store, outcome.forked_at),
            [await self.path(store, tip) for tip in outcome.branches],
        )

    async def path(self, store, entry_id):
        return tuple([text_of(entry.message) for entry in await store.read_history(entry_id)])

    def client(self, number):
        """Return a pair of conversations, the last one for 0; None if there is none."""
        return self.clients[-1 - number % len(self.clients)] if self.clients else None

    def hold(self, pair):
        if pair[0] is not None:
            self.clients.append(pair)

    @initialize(count=st.integers(1, 3))
    def save_conversations(self, count):
        """Save two conversations, so that there is something to do from the first rule on."""
        for conversation_id in ["a", "b"] * count:
            self.take_a_turn(0, conversation_id, None, None)

    @rule(conversation_id=ids)
    def start(self, conversation_id):
        self.clients.append(tuple(Conversation(conversation_id=conversation_id) for _ in range(2)))

    @rule(place=places, conversation_id=ids, limit=limits, scope=scopes)
    def load(self, place, conversation_id, limit, scope):
        self.hold(self.both(place, lambda s, _: s.load(conversation_id, limit=limit, scope=scope)))

    @rule(number=numbers, count=st.integers(0, 3), requests=st.booleans())
    def go_on(self, number, count, requests):
        """Add messages to a conversation, as a run does."""
        if client := self.client(number):
            added = [self.message() for _ in range(count)]
            deferred = None
            if requests:
                call = ToolCallPart("buy", {"n": self.number}, f"call-{self.number}")
                deferred = DeferredToolRequests(approvals=[call], metadata={"call": {"n": 1}})
            for conversation in client:
                conversation.messages = [*conversation.messages, *deepcopy(added)]
                conversation.usage = RunUsage(requests=self.number, details={"n": 1})
                conversation.deferred_tool_requests = deepcopy(deferred)

    @rule(number=numbers, index=numbers, forget=st.booleans())
    def rewrite(self, number, index, forget):
        """Replace a message of a conversation, or remove it, and perhaps forget the stored state."""
        if client := self.client(number):
            new = [self.message()] if index % 2 else []
            for conversation in client:
                messages = [*conversation.messages]
                messages[index : index + 1] = deepcopy(new)
                conversation.messages = messages
                if forget:
                    conversation.new_message_index = None

    @rule(place=places, number=numbers, scope=scopes)
    def save(self, place, number, scope):
        if client := self.client(number):
            self.both(place, lambda store, side: store.save(client[side], scope=scope))
            self.note(place, client[0].conversation_id)
            assert client[0].new_message_index == client[1].new_message_index

    @rule(place=places, conversation_id=ids, limit=limits, scope=scopes)
    def take_a_turn(self, place, conversation_id, limit, scope):
        """Load a conversation, or start it, add messages, and save it."""
        self.start(conversation_id)
        self.load(place, conversation_id, limit, None)
        self.go_on(0, 2, requests=False)
        self.save(place, 0, scope)

    @rule(place=places, conversation_id=ids, point=points, new=st.none() | new_ids)
    def go_back(self, place, conversation_id, point, new):
        """Branch or fork the stored conversation, and take another turn there."""
        self.load(place, conversation_id, None, None)
        if new is None:
            self.branch(place, 0, point, None)
        else:
            self.fork(place, conversation_id, new, point, (None, None))
        self.go_on(0, 2, requests=False)
        self.save(place, 0, None)

    def note(self, place, conversation_id):
        """Remember the ids of all entries of a conversation."""
        theirs, ours = self.both(place, lambda store, _: store.load_entries(conversation_id))
        path = ()
        for their_entry, our_entry in zip(theirs or [], ours or [], strict=True):
            path = (*path, text_of(their_entry.message))
            if path not in [each[0] for each in self.paths]:
                self.paths.append((path, (their_entry.id, str(our_entry.id))))

    def entry_ids(self, number):
        """Return the ids of an entry in both stores, as a program that kept them has them."""
        if number is None:
            return None, None
        return self.paths[-1 - number % len(self.paths)][1]

    @rule(place=places, number=numbers, point=points, scope=scopes)
    def branch(self, place, number, point, scope):
        if client := self.client(number):
            entries = self.entry_ids(point[1])
            self.hold(
                self.both(
                    place,
                    lambda store, side: store.branch(
                        client[side].conversation_id,
                        at=point[0],
                        from_entry=entries[side],
                        expected_revision=client[side].revision,
                        scope=scope,
                    ),
                )
            )

    @rule(
        place=places,
        conversation_id=ids,
        new=new_ids,
        point=points,
        given=st.tuples(scopes, scopes),
    )
    def fork(self, place, conversation_id, new, point, given):
        entries = self.entry_ids(point[1])
        self.hold(
            self.both(
                place,
                lambda store, side: store.fork(
                    conversation_id,
                    at=point[0],
                    from_entry=entries[side],
                    new_conversation_id=new,
                    scope=given[0],
                    source_scope=given[1],
                ),
            )
        )

    @rule(place=places, conversation_id=ids, scope=scopes, way=st.sampled_from([*"    ", *"drs"]))
    def remove(self, place, conversation_id, scope, way):
        """Delete a conversation, its record, or the record of another revision; rarely."""

        async def delete(store, _):
            if way == "d":
                return await store.delete(conversation_id, scope=scope)
            record = await store.read_record(conversation_id)
            revision = "stale" if way == "s" or record is None else record.revision
            return await store.delete_record(conversation_id, expected_revision=revision)

        if way != " ":
            self.both(place, delete)

    @rule(
        place=places,
        conversation_id=ids,
        entry=numbers,
        given=st.fixed_dictionaries({"limit": limits, "scope": scopes}),
        way=st.sampled_from("cser"),
    )
    def read(self, place, conversation_id, entry, given, way):
        entries = self.entry_ids(entry)

        async def read(store, side):
            match way:
                case "c":
                    return await store.list_conversations(**given)
                case "s":
                    return await store.load_entries(conversation_id, **given)
                case "e":
                    return await store.read_entry(entries[side])
                case _:
                    return await store.read_history(entries[side], limit=given["limit"])

        self.both(place, read)

    @invariant()
    def both_list_the_same(self):
        theirs, _ = self.both(0, lambda store, _: store.list_conversations())
        for record in theirs:
            conversation_id = record.conversation_id
            self.both(1, lambda store, _, each=conversation_id: store.load(each))


@few_or_many_runs(default=10, long=40)
@pytest.mark.parametrize(
    ("addresses", "is_scoped"),
    [
        pytest.param("in memory", False, id="in memory"),
        pytest.param("sqlite", True, id="sqlite, scoped"),
        pytest.param("postgres", True, id="postgres, scoped", marks=pytest.mark.long),
    ],
    indirect=["addresses"],
)
def test_our_store_gives_the_results_of_pydantic_ais_own_store(
    addresses, anyio_backend, is_scoped, size
):
    run_state_machine_as_test(
        lambda: ConversationMachine(addresses, anyio_backend, is_scoped=is_scoped), settings=size
    )
