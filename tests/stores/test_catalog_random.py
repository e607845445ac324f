"""Random calls of the catalogue, forks, erasure, pending turns and summaries, against a model.

Each description, history, list of sessions, list of pending turns and summary is what the calls
made it, and each walk keeps its promise while sessions change. Two processes may make the calls.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from helpers.state_machines import StoresMachine, few_or_many_runs
from helpers.store_calls import ModelSession, ModelTurn
from helpers.stores import every_shared_store

SESSIONS = ["a", "ab", "b", "b c"]
PREFIXES = ["", "a", "b", "b ", "c"]
CALLS = [
    *["append", "pop", "fork", "fork_before_a_turn", "annotate", "go_on_with_a_walk"] * 3,
    *["replace", "begin_a_turn", "end_a_turn", "begin_a_walk", "erase"] * 2,
    *["erase_at_a_revision"] * 3,
    *["append_a_held_turn_again", "append_nothing", "clear", "erase_a_prefix", "scrub"],
    *["close_and_open_again"],
    *["begin_in_the_journal"] * 3,
    *["fail_in_the_journal", "settle_in_the_journal", "forget_in_the_journal"],
    *["save_summaries"] * 6,
]
OWNERS = ["worker 1", "worker 2", None]
LEASES = {100.0: "running", 1e-6: "left", None: "running"}
"""Seconds of a lease, and the state of its turn at the next call."""

session_ids = st.sampled_from(SESSIONS)
values = st.none() | st.integers(0, 2) | st.just({"deep": [None]})


@dataclass
class Pending:
    """A pending turn of the model."""

    items: list[Any]
    owner: str | None
    lease: float | None
    state: str

    def may_be_begun_by(self, owner):
        """Return True if the turn may be begun again by *owner*."""
        return self.owner == owner or self.state != "running" or self.lease is None


def state_of(turns):
    """Return *turns* as they are now; a turn that changes later has another state."""
    return [(turn, len(turn.items)) for turn in turns]


@dataclass
class Listed(ModelSession):
    """A session of the model; *origin* is the number at the birth of its source, or None.

    *saved* is the last summary, with the state of the turns that it covers.
    """

    turns: list[ModelTurn] = field(default_factory=list)
    born: int = 0
    origin: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)  # by turn id, the oldest first
    saved: tuple[Any, list[Any]] | None = None

    @property
    def summary(self):
        """The text, the last turn and the end of the summary; None if its turns have changed."""
        if self.saved is None:
            return None
        summary, covered = self.saved
        return summary if state_of(self.turns)[: len(covered)] == covered else None


@dataclass
class Walk:
    """A walk over the sessions; *changed* are those that were active or removed meanwhile."""

    query: dict[str, Any]
    after: str
    found: list[str]
    changed: set[str] = field(default_factory=set)


@dataclass
class Begun:
    """A turn in progress, and the error of its append."""

    session_id: str
    since: int
    error: str | None = None


class CatalogMachine(StoresMachine):
    """Two stores or processes with the same sessions, and a model."""

    def __init__(self, addresses, backend, *, has_other_process=False):
        super().__init__(addresses, backend, has_other_process=has_other_process)
        self.sessions = {}  # the last active at the end
        self.walks = []
        self.begun = []
        self.revisions = {}  # the last known revision of each session
        self.seen = {each: {0: []} for each in SESSIONS}  # the turns at each known revision
        self.changed = set()  # the sessions whose revision has risen since
        self.count = 0

    @rule(
        name=st.sampled_from(CALLS),
        place=st.integers(0, 1),
        session_id=session_ids,
        other=session_ids,
        which=st.integers(0, 9),
        metadata=st.dictionaries(st.sampled_from("tuv"), values, max_size=3),
    )
    def step(self, name, **drawn):
        # One rule, because Hypothesis leaves out most of many rules in each run.
        getattr(self, name)(**drawn)

    # The model

    def model(self, session_id):
        """Return the model of a session; an empty one if it does not exist."""
        return self.sessions.get(session_id, Listed())

    def number(self):
        self.count += 1
        return self.count

    def became_active(self, session_id, *, is_changed=True):
        """Put a session at the end, and create it if necessary."""
        if is_changed:
            self.changed.add(session_id)
        session = self.sessions.pop(session_id, None) or Listed(born=self.number())
        self.sessions[session_id] = session
        self.note_change(session_id)
        return session

    def note_change(self, session_id):
        for walk in self.walks:
            walk.changed.add(session_id)

    def refuse_turns_in_progress(self, session_id, error):
        for turn in self.begun:
            if turn.session_id == session_id and turn.error != "SessionCleared":
                turn.error = error

    def removed(self, session_ids):
        """Remove sessions from the model, and return the numbers of what was removed."""
        gone = []
        self.changed |= {*session_ids}
        for session_id in session_ids:
            if session_id in self.sessions:
                gone.append(self.sessions.pop(session_id))
                self.note_change(session_id)
            self.refuse_turns_in_progress(session_id, "SessionCleared")
        turns = [turn for session in gone for turn in session.turns]
        return [len(gone), len(turns), sum(len(turn.items) for turn in turns)]

    def turn(self, which):
        """Return a new turn of 1 to 3 items."""
        number = self.number()
        turn_id = f"{number:032x}" if number % 2 else f"turn {number}"
        metadata = {"n": [number]} if number % 3 == 0 else {}
        return ModelTurn(turn_id, [number, {"n": number}, [number]][: which % 3 + 1], metadata)

    # Changes of turns

    def append(self, place, session_id, which, **_):
        turn = self.turn(which)
        revision = self.call(place, "append", session_id=session_id, **vars(turn))
        assert revision > self.revisions.get(session_id, 0)
        self.became_active(session_id).turns.append(turn)

    def append_nothing(self, place, session_id, **_):
        assert self.call(place, "append", session_id=session_id, items=[]) >= 0

    def append_a_held_turn_again(self, place, session_id, which, **_):
        turns = self.model(session_id).turns
        if turns:
            held = turns[which % len(turns)].turn_id
            again = self.call(place, "append", session_id=session_id, items=["again"], turn_id=held)
            assert again == self.revisions[session_id]

    def replace(self, place, session_id, which, **_):
        turns = self.model(session_id).turns
        if turns:
            index = which % len(turns)
            new = self.turn(which)
            new.items = new.items[: which % 3]
            self.call(
                place,
                "append",
                session_id=session_id,
                **vars(new),
                replaces=turns[index].turn_id,
            )
            turns[index:] = [new]
            self.became_active(session_id)
            self.refuse_turns_in_progress(session_id, "SessionConflict")

    def pop(self, place, session_id, **_):
        session = self.model(session_id)
        if session.items:
            self.became_active(session_id)
        assert self.call(place, "pop", session_id=session_id) == session.pop()

    def clear(self, place, session_id, **_):
        self.call(place, "clear", session_id=session_id)
        self.changed.add(session_id)
        self.refuse_turns_in_progress(session_id, "SessionCleared")
        if session_id in self.sessions:
            session = self.became_active(session_id)
            session.turns.clear()
            session.pending.clear()

    def begin_a_turn(self, place, session_id, **_):
        since = self.call(place, "load", session_id=session_id, limit=0)["revision"]
        self.begun.append(Begun(session_id, since))

    def end_a_turn(self, place, which, **_):
        if not self.begun:
            return
        begun, turn = self.begun.pop(which % len(self.begun)), self.turn(which)
        outcome = self.call(
            place, "append", session_id=begun.session_id, since=begun.since, **vars(turn)
        )
        if begun.error is not None:
            assert outcome == {"error": begun.error}
        else:
            assert isinstance(outcome, int)
            self.became_active(begun.session_id).turns.append(turn)

    # The catalogue

    def annotate(self, place, session_id, which, metadata, **_):
        create, overwrite = which % 3 == 0, which % 2 == 0
        options = {"create": create, "overwrite": overwrite}
        info = self.call(place, "annotate", session_id=session_id, metadata=metadata, **options)
        if session_id not in self.sessions:
            if not create:
                assert info is None
                return
            self.became_active(session_id, is_changed=False)

        session = self.sessions[session_id]
        for key, value in metadata.items():
            if overwrite or key not in session.metadata:
                session.metadata[key] = value
        session.metadata = {k: v for k, v in session.metadata.items() if v is not None}
        self.agree(info, session_id)

    def fork(self, place, session_id, other, **_):
        self.fork_to(place, session_id, other, None)

    def fork_before_a_turn(self, place, session_id, other, which, **_):
        turns = self.model(session_id).turns
        before = turns[which % len(turns)].turn_id if turns and which else "none"
        self.fork_to(place, session_id, other, before)

    def fork_to(self, place, session_id, new, before):
        arguments = {"session_id": session_id, "new_session_id": new, "before": before}
        outcome = self.call(place, "fork", **arguments)
        source = self.sessions.get(session_id)
        end = None if source is None or before is None else source.index(before)
        if source is None:
            assert outcome == {"error": "SessionError"}
        elif before is not None and end is None:
            assert outcome == {"error": "TurnMissing"}
        elif new in self.sessions:
            assert outcome == {"error": "SessionConflict"}
        else:
            forked = self.became_active(new)
            forked.turns, forked.metadata = deepcopy((source.turns[:end], source.metadata))
            forked.origin = source.born
            self.agree(outcome, new)

    def begin_a_walk(self, place, which, **_):
        query = {"prefix": PREFIXES[which % len(PREFIXES)], "limit": 1 + which % 2}
        page = self.call(place, "sessions", **query)
        found = [info["session_id"] for info in page["infos"]]
        self.follow(Walk(query, page["next"], found))

    def go_on_with_a_walk(self, place, which, **_):
        if self.walks:
            walk = self.walks.pop(which % len(self.walks))
            page = self.call(place, "sessions", **walk.query, after=walk.after)
            for info in page["infos"]:
                self.agree(info, info["session_id"])
            walk.found += [info["session_id"] for info in page["infos"]]
            walk.after = page["next"]
            self.follow(walk)

    def follow(self, walk):
        """Check a walk after a page of it, and also at its end."""
        assert len(set(walk.found)) == len(walk.found)
        if walk.after is not None:
            self.walks.append(walk)
            return
        quiet = [each for each in self.named(walk.query["prefix"]) if each not in walk.changed]
        assert [each for each in walk.found if each in quiet] == quiet

    def named(self, prefix):
        """Return the sessions with *prefix*, the last active first."""
        return [each for each in reversed(self.sessions) if each.startswith(prefix)]

    # Removal

    def erase(self, place, session_id, **_):
        erased = self.call(place, "erase", session_id=session_id)
        assert list(erased) == self.removed([session_id])

    def erase_at_a_revision(self, place, session_id, which, **_):
        """Erase a session twice at its revision, at an earlier one, or at one it never had."""
        known = [*self.seen[session_id]]
        choices = [*known[-2:], known[-1], known[-1] + 1]
        expected = choices[which % len(choices)]
        for each in (place, 1 - place):
            outcome = self.call(each, "erase", session_id=session_id, expected_revision=expected)
            if expected == self.revisions.get(session_id, 0):
                assert list(outcome) == self.removed([session_id])
            elif session_id in self.sessions:
                assert outcome == {"error": "SessionConflict"}
            else:
                assert list(outcome) == [0, 0, 0]
            self.every_description_and_history_is_that_of_the_model()

    def erase_a_prefix(self, place, which, **_):
        prefix = PREFIXES[which % len(PREFIXES)]
        erased = self.call(place, "erase", prefix=prefix)
        assert list(erased) == self.removed(self.named(prefix))

    def scrub(self, place, **_):
        self.scrub_at(place)

    def close_and_open_again(self, place, **_):
        self.close(self.stores[place])

    # The journal

    def begin_in_the_journal(self, place, session_id, which, **_):
        pending = self.model(session_id).pending
        turn = self.turn(which)
        turn_id = [*pending, turn.turn_id][which % (len(pending) + 1)]
        owner, lease = OWNERS[which % 3], [*LEASES][which // 3 % 3]
        outcome = self.call(
            place,
            "begin",
            session_id=session_id,
            turn_id=turn_id,
            items=turn.items,
            owner=owner,
            lease=lease,
        )
        if turn_id in pending and not pending[turn_id].may_be_begun_by(owner):
            assert outcome == {"error": "SessionConflict"}
            return

        assert outcome is None
        if session_id not in self.sessions:
            self.became_active(session_id, is_changed=False)
        begun = Pending(turn.items, owner, lease, LEASES[lease])
        self.sessions[session_id].pending[turn_id] = begun

    def fail_in_the_journal(self, place, session_id, which, **_):
        turn_id, pending = self.pending_turn(session_id, which)
        owner = OWNERS[which % 3]
        self.call(place, "fail", session_id=session_id, turn_id=turn_id, owner=owner)
        if pending and pending.owner == owner:
            pending.state = "failed"

    def settle_in_the_journal(self, place, session_id, which, **_):
        turn_id, pending = self.pending_turn(session_id, which)
        if pending:
            turn = ModelTurn(turn_id, [*pending.items, "an answer"])
            self.call(place, "append", session_id=session_id, **vars(turn))
            self.became_active(session_id).turns.append(turn)
            del self.sessions[session_id].pending[turn_id]

    def forget_in_the_journal(self, place, session_id, which, **_):
        turn_id, pending = self.pending_turn(session_id, which)
        self.call(place, "forget", session_id=session_id, turn_id=turn_id)
        if pending:
            del self.sessions[session_id].pending[turn_id]

    def pending_turn(self, session_id, which):
        """Return the id of a pending turn, and the turn; or another id and None."""
        pending = [*self.model(session_id).pending.items(), ("none", None)]
        return pending[which % len(pending)]

    # Summaries

    def save_summaries(self, place, session_id, other, which, **_):
        """Save two summaries of a session that has turns, then perhaps change a turn of it."""
        while len(self.model(session_id).turns) < 2:
            self.append(place, session_id, which)
            self.every_description_and_history_is_that_of_the_model()

        for number, age in ((which, 1), (which // 2, 1 + SESSIONS.index(other))):
            self.save_summary(place, session_id, number, age)
        match which % 3:
            case 1:
                self.pop(1 - place, session_id)
            case 2:
                self.replace(1 - place, session_id, which // 3)

    def save_summary(self, place, session_id, which, age):
        """Save a summary of one of the turns, since the last but (*age* - 1) known revision."""
        session, seen = self.model(session_id), [*self.seen[session_id].items()]
        since, turns_then = seen[-min(len(seen), age)]
        index = which % len(session.turns) if session.turns else 0
        covered = session.turns[: index + 1]

        turn_id = covered[-1].turn_id if covered else "none"
        text = f"summary {self.number()}"
        arguments = {"text": text, "turn_id": turn_id, "since": since}
        found = self.call(place, "save_summary", session_id=session_id, **arguments)

        if not covered or state_of(covered) != turns_then[: index + 1]:
            assert found is None
            return
        if session.summary is None or session.index(session.summary[1]) < index:
            end = sum(len(turn.items) for turn in covered)
            session.saved = [text, turn_id, end], state_of(covered)
        assert found == session.summary

    @invariant()
    def every_summary_is_that_of_the_model(self):
        for number, session_id in enumerate(SESSIONS):
            found = self.call(number % 2, "load_summary", session_id=session_id)
            assert found == self.model(session_id).summary

    @invariant()
    def every_list_of_pending_turns_is_that_of_the_model(self):
        for number, session_id in enumerate(SESSIONS):
            pending = self.model(session_id).pending.items()
            found = self.call(number % 2, "pending", session_id=session_id)
            assert found == [[turn_id, each.items, each.state] for turn_id, each in pending]

    @invariant()
    def every_description_and_history_is_that_of_the_model(self):
        for number, session_id in enumerate(SESSIONS):
            self.agree(self.call(number % 2, "describe", session_id=session_id), session_id)
            loaded = self.call(number % 2, "load", session_id=session_id)
            self.agree_on_revision(loaded.pop("revision"), session_id)
            assert loaded == self.model(session_id).load(None, None)

    @invariant()
    def every_list_is_in_the_order_of_activity(self):
        prefix = PREFIXES[self.count % len(PREFIXES)]
        for place, query in enumerate([{"limit": 9}, {"prefix": prefix, "limit": 9}]):
            page = self.call(place, "sessions", **query)
            found = [info["session_id"] for info in page["infos"]]
            assert (found, page["next"]) == (self.named(query.get("prefix", "")), None)

    def agree(self, info, session_id):
        """Check a description, and its revision."""
        if session_id not in self.sessions:
            assert info is None
            return

        session = self.sessions[session_id]
        sources = [each for each, source in self.sessions.items() if source.born == session.origin]
        assert info["session_id"] == session_id
        assert info["metadata"] == session.metadata
        assert info["forked_from"] == (sources[0] if sources else None)
        assert (info["items"], info["turns"]) == (len(session.items), len(session.turns))
        assert info["created_at"] <= info["updated_at"]
        self.agree_on_revision(info["revision"], session_id)

    def agree_on_revision(self, revision, session_id):
        """Check that the revision is higher than before if the session was changed, else equal."""
        before = self.revisions.get(session_id, 0)
        assert revision > before if session_id in self.changed else revision == before
        self.changed.discard(session_id)
        self.revisions[session_id] = revision
        self.seen[session_id][revision] = state_of(self.model(session_id).turns)


@few_or_many_runs(default=3, long=1000)
@pytest.mark.parametrize(
    "addresses",
    [
        *("in memory", "sqlite"),
        # Two processes make the same calls by default.
        pytest.param("postgres", marks=pytest.mark.long),
    ],
    indirect=True,
)
def test_the_catalogue_of_a_store_is_that_of_a_model(addresses, anyio_backend, size):
    run_state_machine_as_test(lambda: CatalogMachine(addresses, anyio_backend), settings=size)


@few_or_many_runs(default=2, long=200)
@every_shared_store
def test_the_catalogue_of_two_processes_is_that_of_a_model(addresses, anyio_backend, size):
    run_state_machine_as_test(
        lambda: CatalogMachine(addresses, anyio_backend, has_other_process=True), settings=size
    )
