"""Answers that go on without their readers, on several workers, and summaries of old turns.

The pages use nginx, which routes all requests of a session to one worker, unless a test opens the
chat of a worker.
"""

from __future__ import annotations

import signal

import pytest

from helpers.chat_page import (
    answered,
    ask,
    delete,
    expect,
    link,
    regenerate,
    saved,
    session_id,
    session_url,
    shows,
    stored,
    turns,
)
from helpers.nginx import nginx
from helpers.process_signals import LONGEST_WAIT


def stop(page):
    page.get_by_role("button", name="Stop").click()


def turn_url(page):
    """Return the URL of the turn that is being answered."""
    return f"{session_url(page)}/turns/{turns(page).last.get_attribute('id').removeprefix('turn-')}"


def same_chat(page):
    return f"/#{session_id(page)}"


@pytest.mark.each_store
def test_a_reload_during_an_answer_continues_it(page, model):
    answer = model.answer("Long?", "The first part. ", "The rest.", hold_before=1)
    ask(page, "Long?")
    expect(turns(page)).to_contain_text("The first part.")
    page.reload()
    expect(turns(page)).to_contain_text("Long?")
    expect(turns(page)).to_contain_text("The first part.")
    answer.release()
    saved(page, "The first part. The rest.")
    shows(page, "The first part. The rest.")
    assert answer.calls == 1


def test_a_reload_before_the_answer_waits_for_it(page, model):
    answer = model.answer("Slow?", "At last", hold_before=0)
    ask(page, "Slow?")
    answer.wait_until_held()
    page.reload()
    shows(page, "Slow?")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    answer.release()
    saved(page, "At last")
    assert answer.calls == 1


def test_a_page_that_was_offline_joins_the_answer_again(page, model):
    answer = model.answer("Tunnel?", "Before ", "and after", hold_before=1)
    ask(page, "Tunnel?")
    expect(turns(page)).to_contain_text("Before")
    url = turn_url(page)
    page.context.set_offline(True)
    with page.expect_request(lambda request: (request.method, request.url) == ("GET", url)):
        page.context.set_offline(False)
    expect(turns(page)).to_contain_text("Before")
    answer.release()
    saved(page, "Before and after")
    assert answer.calls == 1

    page.context.set_offline(True)
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
    shows(page, "Before and after")
    page.context.set_offline(False)
    expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.each_store
def test_other_tabs_watch_the_answer_arrive(page, open_chat, model):
    answer = model.answer("All?", "To all ", "of you", hold_before=1)
    ask(page, "All?")
    expect(turns(page)).to_contain_text("To all")
    tabs = [page, open_chat(path=same_chat(page)), open_chat(path=same_chat(page))]
    for tab in tabs:
        expect(turns(tab)).to_contain_text("To all")
    answer.release()
    for tab in tabs:
        saved(tab, "To all of you")
    assert answer.calls == 1


def test_an_open_tab_watches_the_answer_to_a_new_question(page, open_chat, model):
    answered(page, "First")
    other = open_chat(path=same_chat(page))
    saved(other, "First")
    answer = model.answer("Second?", "It ", "comes", hold_before=1)
    ask(page, "Second?")
    expect(turns(other).last).to_contain_text("It")
    answer.release()
    saved(other, "It comes")


def test_a_second_tab_watches_an_answer_that_replaces_another(page, open_chat, model):
    answered(page, "Joke?", "You said")
    answer = model.answer("Joke?", "A new ", "joke", hold_before=1)
    regenerate(page)
    other = open_chat(path=same_chat(page))
    shows(other, "A new")
    answer.release()
    saved(other, "A new joke")
    shows(other, "A new joke")


@pytest.mark.parametrize("stopping", ["asking", "watching"])
def test_stop_in_one_tab_stops_the_answer_in_both(page, open_chat, model, stopping):
    answer = model.answer("Stop?", "A beginning ", "and an end.", hold_before=1)
    ask(page, "Stop?")
    expect(turns(page)).to_contain_text("A beginning")
    other = open_chat(path=same_chat(page))
    expect(turns(other)).to_contain_text("A beginning")
    stop(page if stopping == "asking" else other)
    for tab in (page, other):
        saved(tab, "A beginning")
        expect(turns(tab)).to_contain_text("stopped")
        expect(turns(tab)).not_to_contain_text("and an end")
        expect(tab.get_by_role("alert")).to_be_hidden()
    assert answer.calls == 1


def test_stop_before_the_first_word_keeps_the_question(page, open_chat, model):
    answer = model.answer("Never mind?", "A late answer", hold_before=0)
    ask(page, "Never mind?")
    answer.wait_until_held()
    other = open_chat(path=same_chat(page))
    stop(other)
    for tab in (page, other):
        expect(turns(tab)).to_contain_text("Your question is kept")
        expect(tab.get_by_role("alert")).to_be_hidden()
    answer.release()
    other.get_by_role("button", name="Try again").click()
    saved(page, "A late answer")
    assert answer.calls == 2


def test_deleting_a_conversation_stops_its_answer(page, open_chat, model):
    model.answer("Secret?", "Some ", "secret", hold_before=1)
    ask(page, "Secret?")
    expect(turns(page)).to_contain_text("Some")
    other = open_chat(path=same_chat(page))
    expect(turns(other)).to_contain_text("Some")
    delete(other)
    expect(page.get_by_role("alert")).to_contain_text("This conversation was deleted")
    expect(turns(page)).to_have_count(0)
    assert stored(page) is None
    expect(link(page, "")).to_have_count(0)


def test_two_conversations_are_answered_at_the_same_time(page, model):
    answers = [model.answer(text, text, " yes", hold_before=1) for text in ("Tea?", "Coffee?")]
    ask(page, "Tea?")
    expect(turns(page)).to_contain_text("Tea?")
    tea = same_chat(page)
    page.get_by_role("button", name="New chat").click()
    ask(page, "Coffee?")
    expect(turns(page)).to_contain_text("Coffee?")
    page.evaluate(f"location.hash = '{tea[2:]}'")
    shows(page, "Tea?")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    for answer in answers:
        answer.release()
    saved(page, "Tea? yes")
    page.go_back()
    saved(page, "Coffee? yes")


def test_a_title_comes_although_the_reader_has_left(page, model):
    answer = model.answer("Rome?", "A city ", "in Italy.", title="About Rome", hold_before=1)
    ask(page, "Rome?")
    expect(turns(page)).to_contain_text("A city")
    page.get_by_role("button", name="New chat").click()
    answer.release()
    expect(link(page, "About Rome")).to_have_count(1)


def test_a_user_never_joins_or_stops_the_answer_of_another_user(page, open_chat, model):
    answer = model.answer("Mine?", "Your zebra ", "is safe.", hold_before=1)
    ask(page, "Mine?")
    expect(turns(page)).to_contain_text("Your zebra")
    eve, url = open_chat(user="eve"), turn_url(page)
    assert eve.request.get(url).json() == {"error": "ReplyMissing"}
    assert eve.request.post(url).json() is False
    model.answer("Whose?", "Nobody's")
    own = eve.request.put(url, data={"text": "Whose?", "replaces": None}).text()
    assert "Nobody's" in own
    assert "zebra" not in own
    answer.release()
    saved(page, "Your zebra is safe.")
    assert answer.calls == 1


def test_a_question_that_arrives_twice_is_answered_once(page, model):
    answer = model.answer("Twice?", "Only ", "once", hold_before=1)
    ask(page, "Twice?")
    expect(turns(page)).to_contain_text("Only")
    answer.release()
    saved(page, "Only once")
    body = {"text": "Twice?", "replaces": None, "revision": 0}
    assert page.request.put(turn_url(page), data=body).json() == {"error": "TurnExists"}
    assert answer.calls == 1


def test_a_reload_on_another_worker_shows_the_question_and_then_the_answer(
    open_chat, workers, model
):
    answer = model.answer("Where?", "Here ", "and there", hold_before=1)
    page = open_chat(worker=0)
    ask(page, "Where?")
    expect(turns(page)).to_contain_text("Here")
    page.goto(workers[1] + same_chat(page))
    expect(turns(page)).to_contain_text("Where?")
    expect(turns(page)).to_contain_text("The answer is being written")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    answer.release()
    saved(page, "Here and there")
    expect(page.get_by_role("alert")).to_be_hidden()
    assert answer.calls == 1


@pytest.mark.each_store
def test_after_the_death_of_its_worker_a_question_can_be_asked_again(
    open_chat, start_quick_worker, model, tmp_path
):
    answer = model.answer("Lost?", "A part ", "and the rest", hold_before=1)
    first, second = start_quick_worker(), start_quick_worker()
    with nginx(tmp_path, [first.url, second.url]) as url:
        page = open_chat(url=url)
        ask(page, "Lost?")
        expect(turns(page)).to_contain_text("A part")
        here = page.request.get(session_url(page, first.url)).json()[-1]
        dying = first if here == [True] else second
        dying.process.kill()
        answer.release()
        expect(turns(page)).not_to_contain_text("A part")
        shows(page, "Lost?")
        page.get_by_role("button", name="Try again").click()
        saved(page, "A part and the rest")
    assert answer.calls == 2


def test_a_shutdown_waits_for_readers_and_keeps_the_parts_of_the_other_answers(
    open_chat, start_quick_worker, workers, model
):
    worker = start_quick_worker()
    left = model.answer("Left?", "Only a part ", "of it", hold_before=1)
    read = model.answer("Read?", "The whole ", "answer", hold_before=1)
    page = open_chat(url=worker.url)
    ask(page, "Left?")
    expect(turns(page)).to_contain_text("Only a part")
    path = same_chat(page)
    page.get_by_role("button", name="New chat").click()
    ask(page, "Read?")
    expect(turns(page)).to_contain_text("The whole")
    worker.process.send_signal(signal.SIGTERM)
    read.release()
    expect(turns(page)).to_contain_text("The whole answer")
    assert worker.process.wait(LONGEST_WAIT) == -signal.SIGTERM
    page.goto(workers[0] + same_chat(page))
    saved(page, "The whole answer")
    page.goto(workers[0] + path)
    saved(page, "Only a part")
    expect(turns(page)).to_contain_text("stopped")
    left.release()


@pytest.mark.each_store
def test_a_long_conversation_sends_a_summary_and_shows_all_messages(page, model):
    for number in range(25):
        url = f"{page.url}sessions/summed/turns/turn-{number}"
        page.request.put(url, data={"text": f"Message {number}.", "replaces": None})
    page.goto(f"{page.url}#summed")
    saved(page, "Message 24.")
    answered(page, "And now?")
    *_, sent = [body for body in model.requests if body["messages"][-1]["content"] == "And now?"]
    summary, *messages = [message["content"] for message in sent["messages"]]
    assert summary.endswith("A summary.")
    assert "Message 24." in messages
    assert "Message 0." not in messages
    assert len(messages) < 2 * 20
    page.get_by_role("button", name="Show older messages").click()
    expect(turns(page)).to_have_count(26)
    expect(turns(page).first).to_contain_text("Message 0.")
