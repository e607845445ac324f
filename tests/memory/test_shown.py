"""Messages as a front end shows them: what it may hide or leave out, and what it may not."""

from __future__ import annotations

import pytest

from helpers.internals import new_in_request
from helpers.messages import INTERRUPTED_REPLY, THOUGHT, assistant, calling, result, user
from tower_memory import SessionConflict
from tower_memory.dialects import ChatCompletions, ItemLinks

NEW = [user("new")]


def of_blocks(*blocks):
    return assistant(list(blocks))


def text(said):
    return {"type": "text", "text": said}


TOOL_USE = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "1", "content": "4"}
THINKING = {"type": "thinking", "thinking": "so", "signature": "s"}
IMAGE = {"type": "image", "source": {"url": "x"}}
CALL = calling("1")
CALL_WITHOUT_CONTENT = {"role": "assistant", "tool_calls": CALL["tool_calls"]}
CALL_WITHOUT_ID = {"role": "assistant", "content": "Hm", "tool_calls": [{"function": {}}]}
RESULT_WITHOUT_ID = {"role": "tool", "content": "4"}
OLD_CALL = {"role": "assistant", "content": None, "function_call": {"name": "f"}}
OLD_RESULT = {"role": "function", "name": "f", "content": "4"}
PROMPT = {"part_kind": "user-prompt", "content": "a"}
RETURN = {"part_kind": "tool-return", "tool_call_id": "1", "content": "4"}


def request(*parts):
    return {"kind": "request", "parts": list(parts)}


OMISSIONS = {
    "a call without content is hidden": ([CALL_WITHOUT_CONTENT, assistant("A")], [assistant("A")]),
    "a call with the text of the answer is hidden": (
        [{**CALL, "content": "A"}, result("1"), assistant("A")],
        [assistant("A")],
    ),
    "a call is shown as its text": ([{**CALL, "content": "Hm"}], [assistant("Hm")]),
    "a call is shown as an empty message": ([CALL, result("1")], [assistant("")]),
    "one of two calls is shown": ([calling("1", "2")], [calling("2")]),
    "calls and results without ids are hidden": ([CALL_WITHOUT_ID, RESULT_WITHOUT_ID], []),
    "calls and results of the old form are hidden": ([OLD_CALL, OLD_RESULT], []),
    "an empty reply is hidden": ([assistant(" \n")], []),
    "a reply that was interrupted at once is hidden": ([assistant(INTERRUPTED_REPLY)], []),
    "reasoning is hidden": ([{**assistant(""), "reasoning_content": "so"}, THOUGHT], []),
    "a message of thinking is hidden": ([of_blocks(THINKING)], []),
    "a message of results is hidden": ([of_blocks(TOOL_USE), user([RESULT])], []),
    "thinking and calls are left out": (
        [of_blocks(THINKING, text("Hm"), TOOL_USE), user([RESULT, text("b")])],
        [of_blocks(text("Hm")), user("b")],
    ),
    "several texts are shown as one": (
        [of_blocks(text("Let me look."), TOOL_USE, text("It is 4."))],
        [assistant("Let me look.\n\nIt is 4.")],
    ),
    "thinking in tags is left out": ([assistant("<think>so</think>\n\nA")], [assistant("A")]),
    "thinking in several tags is left out": (
        [assistant("<think>so</think>\n<thinking>or</thinking>A")],
        [assistant("A")],
    ),
    "reasoning is shown in tags": ([assistant("A")], [assistant("<think>so</think>\nA")]),
    "an interrupted reply of thinking is shown as empty": (
        [assistant(f"<think>so\n\n{INTERRUPTED_REPLY}")],
        [assistant("")],
    ),
    "an interrupted reply of thinking is hidden": (
        [assistant(f"<think>so\n\n{INTERRUPTED_REPLY}")],
        [],
    ),
    "one message for an answer of several messages": (
        [{**CALL, "content": "Hm."}, result("1"), assistant("<think>so</think>It is 4.")],
        [assistant("<think>or</think>Hm.\n<think>so</think>\nIt is 4.<think>ok</think>")],
    ),
    "one message for an answer whose first text looks like its start": (
        [{**CALL, "content": "A"}, result("1"), assistant("A or B")],
        [assistant("A or B")],
    ),
    "one message for an answer whose start looks like a hidden text": (
        [{**CALL, "content": "A"}, {**CALL, "content": "A B"}, assistant("C")],
        [assistant("A B C")],
    ),
    "a request of the framework is hidden": (
        [request({"part_kind": "retry-prompt", "content": "again", "tool_name": None})],
        [],
    ),
    "a prompt beside results is shown alone": ([request(RETURN, PROMPT)], [request(PROMPT)]),
    "a null field is an absent one": (
        [{**assistant("A"), "refusal": None}],
        [{**assistant("A"), "refusal": "", "id": "1"}],
    ),
    "times are made anew": (
        [request({**RETURN, "timestamp": "1"}, {**PROMPT, "timestamp": "1"})],
        [{**request({**RETURN, "timestamp": "2"}, {**PROMPT, "timestamp": "2"}), "timestamp": "2"}],
    ),
    "images of a prompt are shown": (
        [request({**PROMPT, "content": ["a", {"kind": "image-url", "url": "x"}]})],
        [request({**PROMPT, "content": ["a", {"kind": "image-url", "url": "x"}]})],
    ),
}


@pytest.mark.parametrize(("stored", "shown"), OMISSIONS.values(), ids=OMISSIONS)
def test_a_front_end_may_leave_this_out(stored, shown):
    """The items after the shown ones are new; the stored ones may also be shown unchanged."""
    assert new_in_request("s", [user("q"), *stored], [user("q"), *shown, *NEW]) == NEW
    assert new_in_request("s", [user("q"), *stored], [user("q"), *stored, *NEW]) == NEW


EDITS = {
    "a deleted answer": ([assistant("A")], []),
    "an answer deleted behind a call with its text": (
        [{**CALL, "content": "B"}, result("1"), assistant("A")],
        [assistant("B")],
    ),
    "a deleted question beside results": ([user([RESULT, text("b")])], []),
    "a deleted prompt beside results": ([request(RETURN, PROMPT)], []),
    "a deleted refusal": ([{**assistant(None), "refusal": "No."}], []),
    "a deleted image": ([of_blocks(IMAGE)], []),
    "an image left out": ([of_blocks(text("A"), IMAGE)], [assistant("A")]),
    "another image": ([of_blocks(IMAGE)], [of_blocks({**IMAGE, "source": {"url": "y"}})]),
    "another id after an empty reply": (
        [assistant(""), {**assistant("A"), "id": "1"}],
        [{**assistant("A"), "id": "2"}],
    ),
    "an added call": ([assistant("A")], [{**CALL, "content": "A"}]),
    "another call": ([CALL, assistant("A")], [calling("2"), assistant("A")]),
    "a call without its text": (
        [{**CALL, "content": "Hm"}, assistant("A")],
        [CALL, assistant("A")],
    ),
    "other thinking": (
        [of_blocks(THINKING, text("A"))],
        [of_blocks({**THINKING, "thinking": "no"}, text("A"))],
    ),
    "other results in another order": (
        [CALL, result("1"), result("2"), assistant("A")],
        [CALL, result("2"), result("1"), assistant("A")],
    ),
    "thinking of the user left out": ([user("<think>so</think>b")], [user("b")]),
    "a reply that begins with the tag itself": ([assistant("<think> is a tag")], [assistant("")]),
    "a text in the middle of an answer": (
        [{**CALL, "content": "Hm."}, assistant("A")],
        [assistant("Hm. x A")],
    ),
    "another text after a repeated one": (
        [{**CALL, "content": "A"}, {**CALL, "content": "A"}, assistant("B")],
        [assistant("A A x")],
    ),
    "a text after an answer": ([assistant("A")], [assistant("A x")]),
    "two questions in one": ([user("b"), user("c")], [user("b c")]),
    "an image beside joined texts": (
        [{**CALL, "content": "Hm."}, assistant("A")],
        [of_blocks(text("Hm. A"), IMAGE)],
    ),
    "a result in place of an answer": ([assistant("A")], [result("1", "A")]),
}


@pytest.mark.parametrize(("stored", "shown"), EDITS.values(), ids=EDITS)
def test_a_front_end_may_not_do_this(stored, shown):
    """An edit contradicts the session."""
    with pytest.raises(SessionConflict, match="other content|has the role|goes on"):
        new_in_request("s", [user("q"), *stored], [user("q"), *shown, *NEW])


def test_an_item_that_was_sent_before_is_not_new():
    """A request that is sent again has no new items, though its last items could be hidden."""
    with pytest.raises(SessionConflict, match="no new items"):
        new_in_request("s", [user("a"), CALL, result("1")], [user("a"), CALL, result("1")])


def test_the_result_of_a_pending_call_is_new():
    """The result of the last call is new, even if an earlier call has an equal result."""
    stored = [user("a"), CALL, result("1"), CALL]
    assert new_in_request("s", stored, [*stored, result("1")]) == [result("1")]


def test_a_new_message_may_begin_like_a_hidden_one():
    """A shown message that only begins with the text of a hidden call is new."""
    new = [assistant("A or B"), *NEW]
    assert new_in_request("s", [user("a"), {**CALL, "content": "A"}], [user("a"), *new]) == new


def test_an_item_that_starts_an_exchange_is_never_hidden():
    """A dialect may have questions without a role."""
    ask = {"type": "ask", "text": "a"}

    def links(item):
        return ItemLinks(starts_exchange=item["type"] == "ask")

    with pytest.raises(SessionConflict, match="other content"):
        new_in_request("s", [ask], [user("b")], links)


def test_the_search_takes_linear_time_in_an_exchange_of_many_calls():
    """A refused exchange of many shown tool calls does not make the search try all pairs."""
    reads = []

    def links(item):
        reads.append(item)
        return ChatCompletions().links(item)

    calls = [item for number in range(100) for item in (calling(str(number)), result(str(number)))]
    stored = [user("a"), *calls, assistant("A")]
    with pytest.raises(SessionConflict, match="item 201 .* has other content"):
        new_in_request("s", stored, [user("a"), *calls, assistant("B"), *NEW], links)
    assert len(reads) < 3 * len(stored)
