"""Gemini's contents: requests in every form of the client, exact storage, rules of the provider."""

from __future__ import annotations

import ast
import base64
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

import tower_memory
from helpers.layers import memory_over
from helpers.messages import INTERRUPTED_CALL
from tower_memory import SessionConflict
from tower_memory.dialects import GeminiContents
from tower_memory.dialects import toolkit as public_toolkit
from tower_memory.testing import ScriptedService

DIALECT = GeminiContents()
DATA = b"\xfb\xff\xfe\x01"  # its base64 differs in the two alphabets
BASE64 = base64.urlsafe_b64encode(DATA).decode()


def user(*parts):
    return {"role": "user", "parts": list(parts)}


def model(*parts):
    return {"role": "model", "parts": list(parts)}


def text(said):
    return {"text": said}


def call(name, call_id=None, **fields):
    ident = {} if call_id is None else {"id": call_id}
    return {"functionCall": {**ident, "name": name, **fields}}


def result(name, call_id=None, **response):
    ident = {} if call_id is None else {"id": call_id}
    return {"functionResponse": {**ident, "name": name, "response": response or {"output": 1}}}


def interrupted(name, call_id=None):
    return result(name, call_id, error=INTERRUPTED_CALL)


NEW = [user(text("new"))]
HI = user(text("Hi"))


def sent(history, new=NEW):
    """Return the contents that the model gets before *new*."""
    contents = DIALECT.with_history(new, history)
    assert contents[-len(new) :] == new
    return contents[: -len(new)]


# Public names


@pytest.mark.parametrize("name", ["contents", "parts", "rules", "stream"])
def test_the_dialect_imports_only_public_names(name):
    """Besides its own modules, it imports nothing but the toolkit, as any other dialect may."""
    module = f"tower_memory.dialects._gemini_{name}"
    tree = ast.parse(Path(importlib.import_module(module).__file__).read_text())
    imported = {
        (node.module, each.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("tower_memory")
        for each in node.names
    }
    whole = [
        each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names
    ]
    others = {pair for pair in imported if "._gemini_" not in pair[0]}
    assert others
    assert {module for module, _ in others} == {"tower_memory.dialects.toolkit"}
    assert {each for _, each in others} <= set(public_toolkit.__all__)
    assert not any(each.startswith(tower_memory.__name__) for each in whole)


# Requests


@pytest.mark.parametrize(
    ("contents", "items"),
    [
        ("Hi", [HI]),
        (["Hi"], [HI]),
        ([["Hi", {"text": "you"}]], [user(text("Hi"), text("you"))]),
        (["Hi", types.Part(text="you"), {"text": "!"}], [user(text("Hi"), text("you"), text("!"))]),
        (types.Part(text="Hi"), [HI]),
        ({"text": "Hi"}, [HI]),
        (HI, [HI]),
        ({"parts": [{"text": "Hi"}]}, [HI]),
        (types.Content(parts=[types.Part(text="Hi")]), [HI]),
        (types.UserContent("Hi"), [HI]),
        ([HI, "a", "b", HI, "c"], [HI, user(text("a"), text("b")), HI, user(text("c"))]),
        (
            ["a", call("f"), {"function_response": {"name": "f", "response": {"x_y": 1}}}],
            [user(text("a")), model(call("f")), user(result("f", x_y=1))],
        ),
        (
            types.File(uri="files/1", mime_type="image/png"),
            [user({"fileData": {"fileUri": "files/1", "mimeType": "image/png"}})],
        ),
        (
            [{"file_uri": "files/1", "mime_type": "image/png"}, "What is this?"],
            [
                user(
                    {"fileData": {"fileUri": "files/1", "mimeType": "image/png"}},
                    text("What is this?"),
                )
            ],
        ),
    ],
)
def test_each_form_of_contents_becomes_the_same_items(contents, items):
    request = {"model": "m", "contents": contents, "config": {"system_instruction": "Be brief."}}
    assert DIALECT.new_items(request) == items
    given = DIALECT.with_history(request, [HI, model(text("Hello!"))])
    assert {**given, "contents": None} == {**request, "contents": None}
    assert DIALECT.new_items(given) == [HI, model(text("Hello!")), *items]
    assert DIALECT.with_history(request, []) is request


@pytest.mark.parametrize("form", ["snake", "camel", "object"])
def test_the_client_accepts_each_form_and_sends_the_same(form):
    """The three spellings of a content are one item, and that item in each form is the same."""
    signed = {"functionCall": {"name": "f", "args": {"a_b": 1}}, "thoughtSignature": BASE64}
    stored = [user({"inlineData": {"data": BASE64, "mimeType": "image/png"}}), model(signed)]
    snake = [
        user({"inline_data": {"data": DATA, "mime_type": "image/png"}}),
        model(
            {"function_call": {"name": "f", "args": {"a_b": 1}}, "thought_signature": DATA},
        ),
    ]
    objects = [types.Content.model_validate(each) for each in snake]
    spoken = {"snake": snake, "camel": stored, "object": objects}[form]
    assert DIALECT.new_items(spoken) == stored

    new = objects[:1] if form == "object" else [user(result("f"))]
    if form == "object":
        new = [types.Content.model_validate(user(result("f")))]
    given = DIALECT.with_history(new, stored)
    assert list(map(types.Content.model_validate, given[:2])) == objects
    assert {type(each) for each in given} == {types.Content if form == "object" else dict}


@given(
    data=st.binary(),
    alphabet=st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]),
    padding=st.sampled_from(["", "="]),
)
def test_bytes_come_back_from_every_spelling_of_base64(data, alphabet, padding):
    encoded = alphabet(data).decode()
    encoded = encoded if padding else encoded.rstrip("=")
    stored = user({"inlineData": {"data": encoded, "mimeType": "a/b"}})
    (content, _) = DIALECT.with_history([types.Content.model_validate(HI)], [stored])
    assert content.parts[0].inline_data.data == data
    (item,) = DIALECT.new_items([content])
    assert types.Content.model_validate(item) == content


def test_values_of_the_user_are_neither_renamed_nor_decoded():
    args = {"thoughtSignature": "YQ==", "inlineData": {"data": "YQ=="}, "a_b": None}
    stored = [HI, model(call("f", args=args)), user(result("f", **args))]
    new = [types.Content.model_validate(HI)]
    contents = DIALECT.with_history(new, stored)
    assert contents[1].parts[0].function_call.args == args
    assert contents[2].parts[0].function_response.response == args
    assert DIALECT.new_items(contents) == [*stored, HI]


@pytest.mark.parametrize("bad", [3, "no base64!"])
def test_an_object_that_cannot_hold_the_history_is_refused(bad):
    stored = user({"inlineData": {"data": bad, "mimeType": "a/b"}})
    with pytest.raises(TypeError, match="Content cannot hold a message of the history"):
        DIALECT.with_history([types.Content.model_validate(HI)], [stored])


def test_the_history_for_a_content_of_one_role_has_the_base_class():
    """The client's UserContent cannot be one of the model's contents."""
    given = DIALECT.with_history([types.UserContent("new")], [HI, model(text("Hello!"))])
    assert [type(each) for each in given] == [types.Content, types.Content, types.UserContent]
    assert [each.role for each in given] == ["user", "model", "user"]


@dataclass
class OwnContent:
    role: str
    parts: list[dict[str, Any]]


@dataclass
class OwnRequest:
    contents: list[OwnContent]
    temperature: int


def test_the_history_for_contents_of_another_class_has_that_class():
    request = OwnRequest([OwnContent("user", [text("new")])], 1)
    contents = [OwnContent(**each) for each in [HI, model(text("Hello!")), *NEW]]
    assert DIALECT.with_history(request, [HI, model(text("Hello!"))]) == OwnRequest(contents, 1)


def test_a_value_that_is_no_content_is_refused_with_its_place():
    with pytest.raises(TypeError, match=r"request.contents\[1\] must be .*got object; make a Part"):
        DIALECT.new_items(["a", object()])


def test_fields_of_the_client_that_are_no_json_are_stored_as_json():
    """An enum becomes its value, and fields that are None are left out."""
    response = types.FunctionResponse(name="f", response={"a": None}, scheduling="SILENT", id=None)
    (item,) = DIALECT.new_items([types.Part(function_response=response)])
    stored = {"name": "f", "response": {"a": None}, "scheduling": "SILENT"}
    assert item == user({"functionResponse": stored})
    assert json.loads(json.dumps(item)) == item


# Responses


@pytest.mark.parametrize(
    "response",
    [
        types.GenerateContentResponse(),
        types.GenerateContentResponse(candidates=[]),
        types.GenerateContentResponse(candidates=[types.Candidate(finish_reason="SAFETY")]),
        {"promptFeedback": {"blockReason": "SAFETY"}},
        {"candidates": None},
        {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL", "content": {}}]},
        {"candidates": [{"content": {"role": "model", "parts": []}}]},
        "",
    ],
)
async def test_a_reply_without_parts_is_not_stored(store, response):
    """The next request stays valid."""
    service = ScriptedService(response, "ok")
    layer = memory_over(store, dialect=DIALECT)(service)
    await layer([HI])
    await layer(NEW)
    assert service.requests[1] == [HI, *NEW]
    assert await store.load("s") == [HI, *NEW, model(text("ok"))]


def test_of_several_candidates_the_first_is_stored():
    parts = [{"text": "a", "thought": True}, {**text(""), "thoughtSignature": "YQ=="}]
    candidates = [{"content": {"parts": parts}}, {"content": model(text("b"))}]
    assert DIALECT.reply_items(NEW, {"candidates": candidates}) == [model(*parts)]


def test_a_list_of_contents_may_be_the_whole_conversation():
    reply = model(text("Hello!"))
    assert DIALECT.reply_items(NEW, [*NEW, reply]) == DIALECT.reply_items(NEW, [reply]) == [reply]


@pytest.mark.parametrize("before", [[], [HI, model(text("Hello!"))], [*NEW, model(text("a"))]])
def test_functions_that_the_client_called_itself_are_stored(before):
    made = [model(call("f")), user(result("f")), model(call("g")), user(result("g"))]
    response = types.GenerateContentResponse(
        candidates=[types.Candidate(content=model(text("done")))],
        automatic_function_calling_history=[*before, *NEW, *made],
    )
    assert DIALECT.reply_items(NEW, response) == [*made, model(text("done"))]


def test_calls_of_earlier_turns_are_not_stored_again():
    """The client spells the base64 of the request in its own way."""
    question = user({"inlineData": {"data": "+//+AQ==", "mimeType": "image/png"}})
    made = [model(call("g")), user(result("g"))]
    response = types.GenerateContentResponse(
        candidates=[types.Candidate(content=model(text("done")))],
        automatic_function_calling_history=[
            *(HI, model(call("f")), user(result("f")), model(text("a"))),
            *(question, *made),
        ],
    )
    assert DIALECT.reply_items([question], response) == [*made, model(text("done"))]


def test_results_in_the_request_are_not_calls_of_the_client():
    new = [user(result("f"))]
    made = [model(call("g")), user(result("g"))]
    response = types.GenerateContentResponse(
        candidates=[types.Candidate(content=model(text("done")))],
        automatic_function_calling_history=[HI, model(call("f")), *new, *made],
    )
    assert DIALECT.reply_items(new, response) == [*made, model(text("done"))]


# Function calls


def test_calls_without_ids_are_named_by_their_functions():
    calls, results = model(call("f"), call("g")), user(result("f"), result("g"))
    assert sent([HI, calls, results, model(text("b"))]) == [HI, calls, results, model(text("b"))]
    assert DIALECT.links(calls).calls == ("f", "g")
    assert DIALECT.links(results).results == ("f", "g")


@pytest.mark.parametrize("ids", [("1", "2", "3"), (None, None, None)])
def test_missing_results_are_added_in_the_order_of_the_calls(ids):
    f, g, h = (call(name, each) for name, each in zip("fgh", ids, strict=True))
    calls = model(f, g, h)
    added = [interrupted(name, each) for name, each in zip("fgh", ids, strict=True)]
    assert sent([HI, calls]) == [HI, calls, user(*added)]
    assert sent([HI, calls, user(result("g", ids[1]))]) == [
        *(HI, calls, user(added[0], result("g", ids[1]), added[2])),
    ]


def test_a_result_with_an_unknown_name_answers_the_first_open_call():
    calls = model(call("f"), call("g"), call("h"))
    expected = user(result("x"), result("g"), interrupted("h"))
    assert sent([HI, calls, user(result("g"), result("x"))]) == [HI, calls, expected]


def test_a_result_answers_the_call_with_its_id():
    calls = model(call("f", "1"), call("f", "2"))
    contents = DIALECT.with_history([user(result("f", "2"))], [HI, calls])
    assert contents == [HI, calls, user(interrupted("f", "1"), result("f", "2"))]


def test_results_of_one_content_are_joined_and_other_parts_follow():
    """A content with results may have nothing else."""
    calls = model(call("f", "1"), call("g", "2"))
    new = [user(result("g", "2"), text("Well?"))]
    contents = DIALECT.with_history(new, [HI, calls, user(result("f", "1"))])
    assert contents == [HI, calls, user(result("f", "1"), result("g", "2")), user(text("Well?"))]


def test_open_calls_of_the_request_get_no_results():
    calls = model(call("f", "1"), call("g", "2"), call("h", "3"))
    new = [HI, calls, user(result("g", "2")), user(result("f", "1"))]
    contents = DIALECT.with_history(new, [HI, model(text("a"))])
    assert contents[-1] == user(result("f", "1"), result("g", "2"))


def test_results_without_calls_are_left_out():
    mixed = user(result("f", "1"), text("b"))
    assert sent([mixed, model(text("c"))]) == [user(text("b")), model(text("c"))]
    assert sent([user(result("f", "1")), model(text("c"))]) == []
    assert sent([HI, model(text("a")), user(result("f", "1"))]) == [HI, model(text("a"))]


def test_broken_calls_are_mended_if_answered_and_left_out_if_not():
    broken = {"functionCall": {"id": "1", "name": "f", "args": "{"}}
    unnamed = {"functionCall": {"id": "2", "args": {"a": 1}}}
    mended = [
        {"functionCall": {"id": "1", "name": "f", "args": {"INVALID_JSON": "{"}}},
        {"functionCall": {"id": "2", "args": {"a": 1}, "name": "unnamed_tool"}},
    ]
    results = user(result("f", "1"), result("x", "2"))
    good = call("g", "3")
    assert sent([HI, model(broken, unnamed), results]) == [HI, model(*mended), results]
    assert sent([HI, model(broken, text("a")), model(unnamed)]) == [HI, model(text("a"))]
    assert sent([HI, model(broken, good), user(result("g", "3"))]) == [
        *(HI, model(good), user(result("g", "3"))),
    ]


def test_a_call_that_is_no_object_is_mended():
    calls = model({"functionCall": "f"})
    mended = model({"functionCall": {"name": "unnamed_tool", "args": {}}})
    assert sent([HI, calls, user(result("f"))]) == [HI, mended, user(result("f"))]


def test_thought_signatures_of_every_step_are_sent_unchanged():
    """Gemini 3 requires the signature of the first call of each step of the current turn."""
    steps = [
        model(
            {"text": "Hm.", "thought": True}, {**call("f"), "thoughtSignature": "YQ=="}, call("g")
        ),
        user(result("f"), result("g")),
        model({**call("h"), "thoughtSignature": "Yg=="}),
    ]
    new = [user(result("h"))]
    assert sent([HI, *steps], new) == [HI, *steps]


# Other rules


def test_parts_without_data_are_left_out_unless_they_are_signed():
    """A content of the model without parts is left out; the user's gets a text."""
    signed = {"text": "", "thoughtSignature": "YQ=="}
    history = [
        user(text(" "), {}),
        model(text("a"), text(""), {"thought": True}, signed),
        user(),
        model({"thoughtSignature": "YQ=="}),
        {"role": "user"},
        model(text("")),
    ]
    empty = user(text("(empty message)"))
    assert sent(history) == [empty, model(text("a"), signed), empty, model(signed), empty]


def test_parts_of_other_kinds_are_sent_back():
    parts = [
        {"executableCode": {"language": "PYTHON", "code": "1"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK"}},
        {"futurePart": {}, "partMetadata": {}},
    ]
    history = [HI, model(*parts)]
    assert sent(history) == history


def test_the_first_content_is_the_users():
    assert sent([model(text("a")), model(call("f")), user(result("f")), HI]) == [HI]


def test_plain_messages_of_a_window_become_contents():
    plain = [{"role": "user", "content": "A summary"}, {"role": "assistant", "content": "Good."}]
    summary = [user(text("A summary")), model(text("Good."))]
    assert sent([*plain, HI, model(text("a"))]) == [*summary, HI, model(text("a"))]
    assert DIALECT.links(plain[0]).starts_exchange


# Whole requests


async def test_whole_requests_store_only_new_contents(store):
    """The spelling of the request may differ from that of the stored items."""
    service = ScriptedService({"candidates": [{"content": model(call("f"), text("a"))}]}, "ok")
    layer = memory_over(store, dialect=DIALECT, whole_requests=True)(service)
    image = types.Part.from_bytes(data=DATA, mime_type="image/png")
    question = types.Content(role="user", parts=[image])
    await layer([question])
    await layer([question, user(result("f"))])
    assert len(await store.load("s")) == 4

    with pytest.raises(SessionConflict):
        await layer([*NEW, model(text("a")), *NEW])
    assert len(service.requests) == 2
