"""Reconcile with random conversations: every legal omission is accepted, every edit is refused.

Some edits look like an omission, and are not made here:

- A message that is added or changed after all messages that must be shown looks like a new one.
- If a text of a message with tool calls equals the answer, then a deleted answer looks like a
  hidden message with tool calls. In these conversations, the two kinds of texts differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.internals import new_in_request
from tower_memory import SessionConflict
from tower_memory.dialects import AnthropicMessages, ChatCompletions, OpenAIResponses, PydanticAI

QUESTIONS = st.sampled_from(["a", "b", "<think>a</think>"])
ANSWERS = st.sampled_from(["A", "B", "A B", ""])
STEPS = st.sampled_from(["Let me look.", "Hm", ""])
THOUGHTS = st.sampled_from(["", "so", "or"])
CALLS = st.lists(st.sampled_from(["1", "2"]), min_size=1, max_size=2, unique=True)
EXCHANGES = st.tuples(
    QUESTIONS, st.lists(st.tuples(THOUGHTS, STEPS, CALLS), max_size=3), THOUGHTS, ANSWERS
)
CONVERSATIONS = st.lists(EXCHANGES, min_size=1, max_size=4)


@dataclass(frozen=True)
class Shown:
    """A message that a front end shows.

    Attributes:
        item: The message.
        text: Text of a message that consists of text, otherwise None.
        must: What it shows that cannot be hidden: its author and text; None if it may be hidden.
    """

    item: Any
    text: str | None = None
    must: tuple[str, str] | None = None


class Chat:
    """Chat messages, with thinking in a field of its own in steps, and in tags in answers."""

    dialect = ChatCompletions()

    def user(self, text):
        return {"role": "user", "content": text}

    def text(self, text):
        return {"role": "assistant", "content": text}

    def step(self, thought, text, calls):
        """Yield each item of a step, with the ways of showing it without being whole."""
        made = [{"id": call, "type": "function", "function": {"name": "f"}} for call in calls]
        content = {"content": text} if text else {}
        whole = {"role": "assistant", **content, "tool_calls": made}
        yield {**whole, "reasoning_content": thought} if thought else whole, [whole]
        for call in calls:
            yield {"role": "tool", "tool_call_id": call, "content": "done"}, []

    def answer(self, thought, text):
        """Return the item of an answer, with the ways of showing it without being whole."""
        tags = f"<think>{thought}</think>\n\n" if thought else ""
        return self.text(tags + text), [self.text(text)]


class Anthropic(Chat):
    """Messages of blocks; results are in a message of the user."""

    dialect = AnthropicMessages()

    def blocks(self, thought, text, calls=()):
        thinking = {"type": "thinking", "thinking": thought, "signature": "s"}
        blocks = [thinking] if thought else []
        blocks += [{"type": "text", "text": text}] if text else []
        return [*blocks, *({"type": "tool_use", "id": c, "name": "f", "input": {}} for c in calls)]

    def step(self, thought, text, calls):
        whole = self.blocks(thought, text, calls)
        yield self.text(whole), [self.text(self.blocks("", text, calls))]
        results = [{"type": "tool_result", "tool_use_id": call, "content": "4"} for call in calls]
        yield self.user(results), []

    def answer(self, thought, text):
        return self.text(self.blocks(thought, text)), [self.text(self.blocks("", text))]


class Responses(Chat):
    """Items of responses: reasoning, calls and results are items of their own."""

    dialect = OpenAIResponses()

    def step(self, thought, text, calls):
        if thought:
            yield {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": thought}, []
        if text:
            yield self.answer("", text)
        for call in calls:
            yield {"type": "function_call", "call_id": call, "name": "f", "arguments": ""}, []
        for call in calls:
            yield {"type": "function_call_output", "call_id": call, "output": "4"}, []

    def answer(self, thought, text):
        content = [{"type": "output_text", "text": text, "annotations": []}]
        return {"type": "message", "id": "m", "role": "assistant", "content": content}, []


class Pydantic(Chat):
    """The messages of pydantic-ai as JSON; times and usage are made anew."""

    dialect = PydanticAI()

    def parts(self, kind, *parts, time="2026-01-01T00:00:00Z"):
        return {"kind": kind, "parts": [p for p in parts if p], "timestamp": time}

    def user(self, text):
        return self.parts(
            "request", {"part_kind": "user-prompt", "content": text, "timestamp": "2"}
        )

    def text(self, text):
        return self.parts("response", {"part_kind": "text", "content": text}, time="now")

    def reply(self, thought, text, calls=()):
        return self.parts(
            "response",
            {"part_kind": "thinking", "content": thought} if thought else None,
            {"part_kind": "text", "content": text} if text else None,
            *({"part_kind": "tool-call", "tool_call_id": c, "tool_name": "f"} for c in calls),
        )

    def step(self, thought, text, calls):
        yield self.reply(thought, text, calls), [self.reply("", text, calls)]
        results = [{"part_kind": "tool-return", "tool_call_id": c, "content": 4} for c in calls]
        yield self.parts("request", *results), []

    def answer(self, thought, text):
        return self.reply(thought, text), [self.reply("", text)]


SPELLINGS = [Chat(), Anthropic(), Responses(), Pydantic()]


@st.composite
def stored_and_shown(draw):
    """Return a spelling, the items of a session, and the messages that a front end shows of them."""
    spelling = draw(st.sampled_from(SPELLINGS))
    stored, shown = [], []
    for question, steps, thought, answer in draw(CONVERSATIONS):
        asked = spelling.user(question)
        stored.append(asked)
        shown.append(Shown(asked, must=("user", question)))

        replies: list[Shown] = []
        for step in steps:
            must = ("step", step[1]) if isinstance(spelling, Responses) and step[1] else None
            for item, ways in spelling.step(*step):
                stored.append(item)
                is_reply = item.get("role") == "assistant" or item.get("kind") == "response"
                text = step[1] if is_reply else ""
                replies += draw(ways_to_show(spelling, item, ways, text, must if text else None))

        item, ways = spelling.answer(thought, answer)
        stored.append(item)
        must = ("answer", answer) if answer else None
        replies += draw(ways_to_show(spelling, item, ways, answer, must))
        shown += draw(st.sampled_from([replies, merged(spelling, replies, draw)]))
    return spelling, stored, shown


def ways_to_show(spelling, item, ways, text, must):
    """Draw the messages by which a front end shows *item*: one or none."""
    choices = [[Shown(way, None, must)] for way in (item, *ways)]
    choices += [[Shown(spelling.text(text), text, must)]] if text else []
    return st.sampled_from(choices if must else [[], *choices])


def merged(spelling, replies, draw):
    """Return *replies*, where consecutive texts are one message."""
    out: list[Shown] = []
    for reply in replies:
        last = out[-1] if out else reply
        if out and last.text is not None and reply.text is not None:
            text = last.text + draw(st.sampled_from(["\n\n", " ", ""])) + reply.text
            must = ("answer", (last.must or ("", ""))[1] + (reply.must or ("", ""))[1])
            out[-1] = Shown(spelling.text(text), text, must if must[1] else None)
        else:
            out.append(reply)
    return out


NEW = st.lists(QUESTIONS, min_size=1, max_size=2)


@given(stored_and_shown(), NEW)
def test_every_legal_omission_is_accepted_and_only_the_new_items_are_new(conversation, new):
    """The new items are exactly those that follow the shown conversation, even if texts repeat."""
    spelling, stored, shown = conversation
    items = [spelling.user(text) for text in new]
    posted = [*(each.item for each in shown), *items]
    assert new_in_request("s", stored, posted, spelling.dialect.links) == items


@given(stored_and_shown(), st.data())
def test_every_edit_is_refused(conversation, data):
    """An edit is refused on top of every legal omission."""
    spelling, stored, shown = conversation
    edit = data.draw(st.sampled_from([change, delete, swap, insert]))
    edited = edit(spelling, list(shown), data.draw)
    posted = [*(each.item for each in edited), spelling.user("new")]
    with pytest.raises(SessionConflict):
        new_in_request("s", stored, posted, spelling.dialect.links)


def change(spelling, shown, draw):
    """Change the text of a message of the user or the assistant."""
    last = must_be_shown(shown)[-1]
    texts = {n: each.text or (is_asked(each) and each.must[1]) for n, each in enumerate(shown)}
    place = draw(st.sampled_from([n for n, text in texts.items() if text and n <= last]))
    each, text = shown[place], texts[place]
    text = draw(st.sampled_from([text + " x", "x " + text, text[:-1] + "x", "x"]))
    shown[place] = Shown(spelling.text(text) if each.text else spelling.user(text))
    return shown


def is_asked(each):
    """Return True if *each* is a message of the user."""
    return each.must is not None and each.must[0] == "user"


def delete(_spelling, shown, draw):
    """Delete a message that must be shown."""
    del shown[draw(st.sampled_from(must_be_shown(shown)))]
    return shown


def swap(spelling, shown, draw):
    """Swap two messages that must be shown and differ; change one if all are equal."""
    places = must_be_shown(shown)
    pairs = [(i, j) for i in places for j in places if shown[i].must != shown[j].must]
    if not pairs:
        return change(spelling, shown, draw)
    one, other = draw(st.sampled_from(pairs))
    shown[one], shown[other] = shown[other], shown[one]
    return shown


def insert(spelling, shown, draw):
    """Insert a message before the last one that must be shown."""
    place = draw(st.integers(0, must_be_shown(shown)[-1]))
    shown.insert(place, Shown(draw(st.sampled_from([spelling.user("x"), spelling.text("x")]))))
    return shown


def must_be_shown(shown):
    """Return the places of the messages that a front end cannot hide."""
    return [place for place, each in enumerate(shown) if each.must]
