"""Use the chat's page as a person does."""

from __future__ import annotations


def expect(locator):
    """Return the assertions on *locator*, which wait."""
    from playwright.sync_api import expect  # the browser's tests may be skipped

    return expect(locator)


def ask(page, text):
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")


def answered(page, text, answer=None):
    """Ask, and wait until the answer is saved."""
    ask(page, text)
    saved(page, answer or f"You said: {text}")


def turns(page):
    return page.locator("article.turn")


def saved(page, text):
    """Wait until the last turn is saved and contains *text*."""
    last = turns(page).last
    expect(last).to_contain_text(text)
    expect(last.get_by_role("button", name="Regenerate this answer")).to_be_visible()


def shows(page, *texts):
    """Wait until the conversation has exactly the turns with these texts."""
    expect(turns(page)).to_have_count(len(texts))
    expect(turns(page)).to_contain_text(list(texts))


def regenerate(page):
    turns(page).last.get_by_role("button", name="Regenerate this answer").click()


def link(page, title):
    """Return the conversations of the list with *title*."""
    return page.get_by_role("navigation").get_by_role("link").filter(has_text=title)


def session_id(page):
    return page.evaluate("location.hash.slice(1)")


def session_url(page, worker=None):
    """Return the URL of the open session, perhaps in the worker with another URL."""
    return f"{worker or page.evaluate('location.origin')}/sessions/{session_id(page)}"


def stored(page):
    """Return the parts of the open session as the server sends them."""
    response = page.request.get(session_url(page))
    return response.json() if response.ok else None


def delete(page):
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()


def rename(page, title):
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("dialog").get_by_role("textbox").fill(title)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=2)).to_have_text(title)


def title_comes(page, answer):
    """Release the title that a page waits for, and wait until the page has got it."""
    with page.expect_response(lambda response: response.request.method == "PATCH"):
        answer.release_title()
