"""The chat in a browser, with three workers on one store and a model that the tests control.

Each test has users of its own. The model repeats a question that has no other answer.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from helpers.chat_page import (
    answered,
    ask,
    delete,
    expect,
    link,
    regenerate,
    rename,
    saved,
    session_id,
    shows,
    stored,
    title_comes,
    turns,
)

HERE = Path(__file__).parent


def test_the_server_is_one_file_of_at_most_170_lines_with_one_store():
    source = (HERE / "app.py").read_text()
    assert len(source.splitlines()) <= 170
    assert max(map(len, source.splitlines())) <= 100
    imported = {
        line.split()[1].partition(".")[0]
        for line in re.findall(r"^(?:from|import) .*", source, re.MULTILINE)
    }
    assert imported <= {*sys.stdlib_module_names, "msgspec", "openai", "starlette", "tower_memory"}
    assert not imported & {"sqlite3", "dbm", "shelve", "pickle"}
    code = re.sub("  # .*", "", source)
    assert code.count("SessionStore") == 1
    assert code.count(" Store(") == 1
    assert not re.search(r"\bopen\(|write_|sqlite3", source)


@pytest.mark.each_store
def test_an_answer_is_streamed_and_stays_after_a_reload(page, model):
    answer = model.answer("A story?", "Once ", "upon a time.", hold_before=1)
    ask(page, "A story?")
    expect(turns(page)).to_contain_text("Once")
    answer.release()
    saved(page, "Once upon a time.")
    page.reload()
    shows(page, "Once upon a time.")


@pytest.mark.each_store
def test_stop_keeps_the_received_part(page, model):
    model.answer("Stop?", "A beginning ", "and an end.", hold_before=1)
    ask(page, "Stop?")
    expect(turns(page)).to_contain_text("A beginning")
    page.get_by_role("button", name="Stop").click()
    saved(page, "A beginning")
    expect(turns(page)).to_contain_text("stopped")
    expect(turns(page)).not_to_contain_text("interrupted")
    expect(page.locator("#cost")).to_have_text("over $0.0000")
    page.reload()
    shows(page, "A beginning")
    answered(page, "Next?")


def test_escape_stops_an_answer(page, model):
    model.answer("Escape?", "Free ", "at last", hold_before=1)
    ask(page, "Escape?")
    expect(turns(page)).to_contain_text("Free")
    page.keyboard.press("Escape")
    saved(page, "Free")


@pytest.mark.each_store
def test_a_conversation_that_another_worker_deletes_during_its_answer_does_not_come_back(
    open_chat, model
):
    page = open_chat(worker=0)
    answer = model.answer("Secret?", "Some ", "secret", hold_before=1)
    ask(page, "Secret?")
    expect(turns(page)).to_contain_text("Some")
    other = open_chat(worker=1, path=f"/#{session_id(page)}")
    delete(other)
    expect(link(other, "")).to_have_count(0)
    answer.release()
    expect(page.get_by_role("alert")).to_contain_text("This conversation was deleted")
    assert stored(page) is None
    expect(link(page, "")).to_have_count(0)


def test_a_late_title_does_not_bring_a_deleted_conversation_back(page, model):
    answer = model.answer("Late?", "An answer", title="A late title", hold_title=True)
    answered(page, "Late?", "An answer")
    answer.wait_until_title_held()
    identity = session_id(page)
    delete(page)
    expect(link(page, "")).to_have_count(0)
    title_comes(page, answer)
    page.goto(page.url.split("#")[0])
    answered(page, "Something else")
    expect(link(page, "")).to_have_count(1)
    page.goto(page.url.split("#")[0] + f"#{identity}")
    expect(page.get_by_role("alert")).to_contain_text("no such conversation")


def test_a_title_comes_by_itself(page, model):
    model.answer("Rome?", "A city.", title="About Rome")
    answered(page, "Rome?", "A city.")
    expect(link(page, "About Rome")).to_have_attribute("aria-current", "page")
    expect(page.get_by_role("heading", level=2)).to_have_text("About Rome")


def test_a_user_s_title_stays_when_the_automatic_title_comes_late(page, model):
    answer = model.answer("Name?", "An answer", title="By the model", hold_title=True)
    answered(page, "Name?", "An answer")
    answer.wait_until_title_held()
    rename(page, "By the user")
    title_comes(page, answer)
    answered(page, "More?")
    page.reload()
    expect(page.get_by_role("heading", level=2)).to_have_text("By the user")
    expect(link(page, "By the user")).to_have_count(1)


@pytest.mark.each_store
def test_regenerate_replaces_the_last_answer(page, model):
    model.answer("Joke?", "The first joke")
    answered(page, "Hello")
    answered(page, "Joke?", "The first joke")
    model.answer("Joke?", "The second joke")
    regenerate(page)
    saved(page, "The second joke")
    shows(page, "You said: Hello", "The second joke")


def test_a_repeated_regenerate_request_changes_nothing(page, model):
    answered(page, "One")
    _, [[old, _]], _, _, revision, _ = stored(page)
    answer = model.answer("One", "Again one")
    url = f"{page.evaluate('location.origin')}/sessions/{session_id(page)}/turns/again"
    body = {"text": "One", "replaces": old["turn_id"], "revision": revision}
    assert "Again one" in page.request.put(url, data=body).text()
    after = stored(page)
    assert page.request.put(url, data=body).text().strip() == '{"error":"TurnExists"}'
    assert stored(page) == after
    saved(page, "Again one")
    answered(page, "Two")
    answered(page, "Three")
    after = stored(page)
    assert page.request.put(url, data=body).text().strip() == '{"error":"TurnExists"}'
    assert stored(page) == after
    assert answer.calls == 1
    shows(page, "Again one", "Two", "Three")


def test_regenerating_what_another_tab_has_continued_replaces_nothing(page, open_chat, model):
    answered(page, "One")
    _, [[old, _]], _, _, revision, _ = stored(page)
    other = open_chat(worker=1, path=f"/#{session_id(page)}")
    saved(other, "One")
    answered(other, "Two")
    url = f"{page.evaluate('location.origin')}/sessions/{session_id(page)}/turns/again"
    body = {"text": "One", "replaces": old["turn_id"], "revision": revision}
    assert page.request.put(url, data=body).json() == {"error": "SessionConflict"}
    shows(page, "One", "Two")


def test_the_question_stays_after_an_error_of_the_model(page, model):
    model.answer("Ill?", status=500)
    ask(page, "Ill?")
    expect(turns(page)).to_contain_text("Your question is kept")
    expect(page.get_by_role("alert")).to_contain_text("The model did not answer")
    page.reload()
    shows(page, "Ill?")
    model.answer("Ill?", "Well again")
    page.get_by_role("button", name="Try again").click()
    saved(page, "Well again")
    shows(page, "Well again")


def test_a_failed_question_can_be_dismissed(page, model):
    answered(page, "Hello")
    model.answer("Bad?", status=500)
    ask(page, "Bad?")
    page.get_by_role("button", name="Dismiss this question").click()
    shows(page, "You said: Hello")
    page.reload()
    shows(page, "You said: Hello")


def test_a_failed_regenerate_keeps_the_old_answer(page, model):
    answered(page, "Keep?")
    model.answer("Keep?", status=500)
    regenerate(page)
    expect(turns(page).last).to_contain_text("No new answer came")
    expect(turns(page).first).to_contain_text("You said: Keep?")
    model.answer("Keep?", "New")
    page.get_by_role("button", name="Try again").click()
    saved(page, "New")
    shows(page, "New")


def test_tab_two_shows_the_turn_of_tab_one(page, open_chat):
    answered(page, "First")
    other = open_chat(worker=1, path=f"/#{session_id(page)}")
    shows(other, "You said: First")
    answered(page, "Second")
    shows(other, "You said: First", "You said: Second")
    answered(other, "Third")
    shows(page, "You said: First", "You said: Second", "You said: Third")


@pytest.mark.each_store
def test_three_workers_serve_one_conversation(page, open_chat):
    answered(page, "One")
    for number, text in [(1, "Two"), (2, "Three"), (0, "Four")]:
        tab = open_chat(worker=number, path=f"/#{session_id(page)}")
        saved(tab, "You said")
        answered(tab, text)
    shows(page, "One", "Two", "Three", "Four")


@pytest.mark.each_store
def test_editing_a_question_makes_a_branch(page):
    for text in ["One", "Two", "Three"]:
        answered(page, text)
    original = session_id(page)
    turns(page).nth(1).get_by_role("button", name="Edit this question").click()
    page.get_by_label("Edited question").fill("Zwei")
    page.get_by_role("button", name="Send as a branch").click()
    saved(page, "You said: Zwei")
    shows(page, "You said: One", "You said: Zwei")
    expect(page.get_by_role("heading", level=2)).to_contain_text("branch")
    page.goto(page.url.split("#")[0] + f"#{original}")
    shows(page, "You said: One", "You said: Two", "You said: Three")
    expect(link(page, "")).to_have_count(2)


def test_older_messages_come_on_demand(page):
    identity = "long"
    for number in range(25):
        url = f"{page.url}sessions/{identity}/turns/turn-{number}"
        page.request.put(url, data={"text": f"Message {number}.", "replaces": None})
    page.goto(f"{page.url}#{identity}")
    expect(turns(page)).to_have_count(20)
    expect(turns(page).first).to_contain_text("Message 5.")
    page.get_by_role("button", name="Show older messages").click()
    expect(turns(page)).to_have_count(25)
    expect(turns(page).first).to_contain_text("Message 0.")
    expect(page.get_by_role("button", name="Show older messages")).to_be_hidden()
    answered(page, "Message 25.")
    expect(turns(page)).to_have_count(26)
    expect(page.locator("#cost")).to_have_text("$0.0195")  # 26 turns


@pytest.mark.each_store
def test_search_finds_chinese_and_opens_the_turn(page, model):
    model.answer("推荐一家餐厅", "你可以去湖边的茶馆。", title="Lunch")
    answered(page, "推荐一家餐厅", "湖边")
    page.get_by_role("button", name="New chat").click()
    answered(page, "Something else")
    page.get_by_label("Search all conversations").fill("茶馆")
    expect(link(page, "")).to_have_count(1)
    expect(link(page, "")).to_contain_text("湖边的茶馆")
    link(page, "Lunch").click()
    shows(page, "你可以去湖边的茶馆。")
    page.get_by_label("Search all conversations").fill("咖啡")
    expect(link(page, "")).to_have_count(0)
    page.get_by_label("Search all conversations").fill("!?")
    expect(page.get_by_text("Nothing found.")).to_be_visible()


def test_the_cost_is_shown(page):
    answered(page, "One")
    expect(turns(page)).to_contain_text("250 tokens · $0.0008")
    answered(page, "Two")
    expect(page.locator("#cost")).to_have_text("$0.0015")


def test_export_downloads_the_whole_conversation(page):
    answered(page, "Take me")
    expect(page.get_by_role("heading", level=2)).to_have_text("A title")  # it comes a moment later
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    session, turns, *_ = json.loads(download.value.path().read_text())
    assert download.value.suggested_filename == "A title.json"
    assert session["metadata"] == {"title": "A title"}
    assert [item["content"] for item in turns[0][1]] == ["Take me", "You said: Take me"]


@pytest.mark.each_store
def test_a_user_never_sees_a_word_of_another_user(page, open_chat, model):
    model.answer("My zebra?", "Your zebra is safe.", title="Zebra")
    answered(page, "My zebra?", "Your zebra is safe.")
    expect(link(page, "Zebra")).to_have_count(1)
    identity, before, asked_before = session_id(page), stored(page), len(model.requests)

    eve = open_chat(user="eve", worker=1)
    expect(link(eve, "")).to_have_count(0)
    expect(eve.get_by_label("Your message")).to_be_focused()  # the page has opened
    eve.get_by_label("Search all conversations").fill("zebra")
    expect(eve.get_by_text("Nothing found.")).to_be_visible()
    eve.goto(f"{eve.url}#{identity}")
    expect(eve.get_by_role("alert")).to_contain_text("no such conversation")

    url = f"{eve.evaluate('location.origin')}/sessions/{identity}"
    turn = before[1][0][0]["turn_id"]
    answers = [
        eve.request.get(url),
        eve.request.get(f"{url}?all"),
        eve.request.get(f"{url}?before={turn}"),
        eve.request.patch(url, data={"title": "Mine"}),
        eve.request.post(url, data={"id": "copy", "before": None}),
        eve.request.delete(f"{url}/turns/{turn}"),
        eve.request.delete(url),
        eve.request.put(
            f"{url}/turns/mine", data={"text": "Whose?", "replaces": turn, "revision": "1"}
        ),
        eve.request.put(f"{url}/turns/{turn}", data={"text": "Whose?", "replaces": None}),
        eve.request.get(url),
        eve.request.get(f"{eve.evaluate('location.origin')}/sessions"),
    ]
    assert not [answer.text() for answer in answers if "zebra" in answer.text().lower()]
    asked = model.requests[asked_before:]
    asked = [body for body in asked if body["messages"][-1]["content"] == "Whose?"]
    assert [len(body["messages"]) for body in asked] == [1]
    assert stored(page) == before


def test_without_a_name_there_is_nothing_to_see(browser, workers):
    context = browser.new_context()
    page = context.new_page()
    page.goto(workers[0])
    expect(page.get_by_role("dialog")).to_contain_text("Who are you?")
    assert page.request.get(f"{workers[0]}/sessions").status == 409
    page.get_by_role("dialog").get_by_role("textbox").fill("Zoë / 1")
    page.keyboard.press("Enter")
    expect(page.locator("#who")).to_have_text("Zoë / 1")
    answered(page, "Hello")
    assert page.request.get(f"{workers[0]}/sessions").ok
    context.close()


NOW = datetime(2026, 5, 12, 9, 45, tzinfo=UTC)
PICTURED = {  # titles, and the hours since the last answer
    "Two days in Lisbon": 0,
    "Names for a small bakery": 0.6,
    "Distributed systems, a reading list": 2,
    "Why is my sourdough so dense?": 20,
    "Tests for a date parser": 23,
    "Letter to the landlord": 70,
    "Vegetarian dinner for six": 90,
    "Raft, explained with an example": 240,
}
PLAN = """Two days are enough for the old town, the river and one trip by tram.

**Day one: the hills**
- Start at the Miradouro da Graça early, before the tram 28 is full.
- Walk down through **Alfama** to the cathedral, with a stop for a pastel de nata.
- In the evening, listen to fado in a small house around Largo do Chafariz.

**Day two: the river**
- Take the train from `Cais do Sodré` to `Belém`; it takes seven minutes.
- See the monastery first, and the tower from outside, because its queue is long."""
RAIN = (
    "Then swap the days and stay inside: the **Tile Museum** is in an old convent and rarely full, "
    "and the **Gulbenkian** has its garden on the other side of the glass."
)


def test_the_picture_of_the_readme_shows_the_chat(open_chat, model, tmp_path):
    """Take the picture. With the variable UPDATE_SCREENSHOT it replaces the committed one."""
    page = open_chat("Ada Lovelace")
    page.set_viewport_size({"width": 1180, "height": 740})
    for title in reversed(PICTURED):
        model.answer(title, "An answer", title=title)
        model.answer(
            "We have two days in Lisbon in May. What should we not miss?", PLAN, title=title
        )
    model.answer("And if it rains?", RAIN)

    for title in list(reversed(PICTURED))[:-1]:
        page.get_by_role("button", name="New chat").click()
        answered(page, title, "An answer")
        expect(link(page, title)).to_have_count(1)
    page.get_by_role("button", name="New chat").click()
    answered(page, "We have two days in Lisbon in May. What should we not miss?", "Two days")
    answered(page, "And if it rains?", "Then swap")
    expect(link(page, "Two days in Lisbon")).to_have_count(1)

    def with_fixed_times(route):
        sessions, after = route.fetch().json()
        for session, hours in zip(sessions, PICTURED.values(), strict=True):
            session["updated_at"] = (NOW - timedelta(hours=hours)).isoformat()
        route.fulfill(json=[sessions, after])

    page.clock.set_fixed_time(NOW)
    page.route("**/sessions", with_fixed_times)
    page.reload()
    saved(page, "Then swap")
    expect(page.get_by_text("2 May", exact=True)).to_be_visible()
    page.evaluate("document.querySelector('#who').textContent = 'Ada Lovelace'")

    taken = tmp_path / "chat.png"
    page.screenshot(path=taken, animations="disabled")
    assert taken.stat().st_size < 150_000
    if os.environ.get("UPDATE_SCREENSHOT"):
        shutil.copy(taken, HERE / "chat.png")
