"""Rules about the capability `SessionSearch`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any, cast

from tower_memory._capabilities.catalog import SessionCatalog
from tower_memory._capabilities.erasure import SessionErasure
from tower_memory._capabilities.pages import Page
from tower_memory._capabilities.search import SearchHit, SessionSearch
from tower_memory._turn import Turn
from tower_memory.testing._case import (
    ID_ENDS,
    PREFIXES,
    Case,
    Rule,
    expect,
    expect_bad_argument,
)

_TEXT = (
    "The quick brown fox isn't LAZY; caf\u00e9 \uff21\uff22\uff23 stra\u00dfe x\u00b2 \u0391\u03a3"
)

_FOUND = (
    *("quick", "fox quick", "LAZY lazy", "isn t", "CAFE\u0301", "cafe\u0301 the", "abc", "STRASSE"),
    *("x2", "\u03b1\u03c3", "\u03b1\u03c2", "bro\u00adwn", "brown."),
)
_NOT_FOUND = (
    "quic",
    "uick",
    "cafe",
    "quick cat",
    "ox",
    "isnt",
    "quick OR cat",
    "qui*",
    "the quickx",
)
"""Queries that find `_TEXT`, and queries that do not."""

_UNSPACED = (
    ("\u6771\u4eac\u90fd\u306b\u884c\u304f", "\u4eac", "\u4eac\u90fd", "\u6771\u90fd"),
    ("\u30ab\u30bf\u30ab\u30ca", "\uff76\uff80", "\u30bf\u30ab", "\u30bf\u30bf"),
    (
        "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22",
        "\u0e44\u0e17\u0e22",
        "\u0e29\u0e32",
        "\u0e17\u0e32",
    ),
)
"""Texts in scripts without spaces, each with two queries that find it and one that does not."""

_BASE_WORDS = ("alpha", "beta", "gamma")


async def every_word(case: Case) -> None:
    """search returns the turns that contain every word of the text, in any order."""
    session = case.new_session()
    texts = {"1": "alpha", "2": "beta alpha", "3": "gamma beta alpha", "4": "delta"}
    for turn_id, text in texts.items():
        first, _, second = text.partition(" ")  # words of several items count together
        await _say(case, session, first, *([second] if second else []), turn_id=turn_id)

    expected = {"alpha": "321", "alpha beta": "32", "beta  ALPHA": "32", "alpha gamma beta": "3"}
    for query, ids in expected.items():
        hits = await _search(case).search(query, prefix=session)
        expect(f"the turns with the words {query!r}", "".join(_ids(hits)), ids)
    for query in ("alpha delta", "epsilon"):
        hits = await _search(case).search(query, prefix=session)
        expect(f"the turns with the words {query!r}", _ids(hits), [])


async def words(case: Case) -> None:
    """search compares whole words, without case and without differences of compatibility."""
    session = case.new_session()
    await _say(case, session, _TEXT, turn_id="t")
    for queries, expected in ((_FOUND, ["t"]), (_NOT_FOUND, [])):
        for query in queries:
            hits = await _search(case).search(query, prefix=session)
            expect(f"the hits for {query!r}", _ids(hits), expected)


async def long_words(case: Case) -> None:
    """Only the first 255 characters of a word count in a search."""
    session = case.new_session()
    await _say(case, session, "a" * 300, turn_id="t")
    for length, expected in ((254, []), (255, ["t"]), (299, ["t"]), (100_000, ["t"])):
        hits = await _search(case).search("a" * length, prefix=session)
        expect(f"the hits for a word of {length} characters", _ids(hits), expected)


async def unspaced(case: Case) -> None:
    """In scripts without spaces, search finds single characters and neighbouring characters."""
    session = case.new_session()
    for text, *found, missing in _UNSPACED:
        await _say(case, session, text, turn_id=text)
        for query in found:
            hits = await _search(case).search(query, prefix=session)
            expect(f"the hits for {query!r}", _ids(hits), [text])
        hits = await _search(case).search(missing, prefix=session)
        expect(f"the hits for {missing!r}", _ids(hits), [])


async def hits(case: Case) -> None:
    """The newest hit is the first; a hit has the turn's ids, its time and a part of its text."""
    sessions = [case.new_session() for _ in range(2)]
    said = [(sessions[number % 2], f"turn {number}") for number in range(5)]
    for session, turn_id in said:
        await _say(case, session, "needle " * 100 + turn_id, turn_id=turn_id)

    found: list[SearchHit] = []
    for session in sessions:
        found += await _search(case).search("needle", prefix=session)
        times = {turn.turn_id: turn.created_at for turn in (await case.store.load(session)).turns}
        expected = [(*pair, times[pair[1]]) for pair in reversed(said) if pair[0] == session]
        fields = [(hit.session_id, hit.turn_id, hit.created_at) for hit in found[-len(expected) :]]
        expect("the ids and times of the hits", fields, expected)

    every = await _search(case).search("needle", prefix="check-", limit=5)
    expect(
        "the newest hits of all sessions", [(h.session_id, h.turn_id) for h in every], said[::-1]
    )
    without = [hit.excerpt for hit in every if "needle" not in hit.excerpt or "\n" in hit.excerpt]
    expect("the excerpts without the word, or of several lines", without, [])


async def pages(case: Case) -> None:
    """The pages of a search return each hit once, in order, also if a turn is added meanwhile."""
    session = case.new_session()
    ids = [str(number) for number in range(7)]
    for turn_id in ids:
        await _say(case, session, "needle", turn_id=turn_id)
        await _say(case, session, "hay", turn_id=f"hay {turn_id}")

    for limit in (1, 2, 3, 6, 7, 8):
        walked = [page async for page in _walk(case, "needle", session, limit)]
        found = [turn_id for page in walked for turn_id in _ids(page)]
        expect(f"the turns of all pages with limit={limit}", found, ids[::-1])
        full = [len(page) for page in walked[:-1]]
        expect("the numbers of hits of all pages but the last", full, [limit] * len(full))
        is_empty = not walked[-1]
        expect("the number of empty pages", int(is_empty), 0)

    first = await _search(case).search("needle", prefix=session, limit=3)
    await _say(case, session, "needle", turn_id="new")
    rest = await _search(case).search("needle", prefix=session, limit=20, after=first.next)
    expect("the turns after the first page", _ids(rest), ids[:4][::-1])


async def prefixes(case: Case) -> None:
    """search finds turns of all sessions whose ids start with the prefix, by code points."""
    base = case.new_session()
    sessions = [start + end for start in (base, base.upper()) for end in ID_ENDS]
    for session in sessions:
        await _say(case, session, "needle", turn_id="t")
    for end in PREFIXES:
        prefix = base + end
        page = await _search(case).search("needle", prefix=prefix, limit=100)
        found = sorted(hit.session_id for hit in page)
        expected = sorted(session for session in sessions if session.startswith(prefix))
        expect(f"the sessions for prefix={prefix!r}", found, expected)


async def signs(case: Case) -> None:
    """Signs and operators of other search languages separate words, and mean nothing else."""
    session = case.new_session()
    await _say(case, session, "alpha beta", turn_id="t")
    both = ('"beta alpha"', "alpha*beta", "-alpha +beta", "(alpha) ^beta", "alpha:beta", "'alpha';")
    for query in both:
        page = await _search(case).search(query, prefix=session)
        expect(f"the hits for {query!r}", _ids(page), ["t"])
    for query in ("alpha OR gamma", "alpha NOT gamma", "NEAR(alpha beta)", "alph*", "text:alpha"):
        page = await _search(case).search(query, prefix=session)
        expect(f"the hits for {query!r}", _ids(page), [])


async def bad_searches(case: Case) -> None:
    """A text without a word, a wrong limit, and the cursor of another search raise an error."""
    session = case.new_session()
    for turn_id in _BASE_WORDS:
        await _say(case, session, "alpha beta", turn_id=turn_id)
    search = partial(_search(case).search, prefix=session)
    page = await search("alpha", limit=1)
    expect(
        "the last page of alpha", _ids(await search("alpha", after=page.next)), ["beta", "alpha"]
    )

    bad_texts: list[Any] = ["", " ", "\n", '"*-"', "_", "AND\ud800", None, 3, b"alpha"]
    bad_limits: list[Any] = [0, -1, "1", 1.0, True, None]
    cursors: list[Any] = ["", "x", "\u00e9", f"{page.next}A", 3, b""]
    prefixes: list[Any] = [None, 3, "\ud800"]
    calls = [partial(search, text) for text in bad_texts]
    calls += [partial(search, "alpha", limit=limit) for limit in bad_limits]
    calls += [partial(search, "alpha", after=cursor) for cursor in cursors]
    calls += [partial(search, text, after=page.next) for text in ("beta", "alpha beta")]
    calls += [partial(search, "alpha", prefix=prefix) for prefix in prefixes]
    calls += [partial(search, "alpha", prefix=session[:-1], after=page.next)]
    for call in calls:
        await expect_bad_argument(call)


async def only_texts(case: Case) -> None:
    """search finds no ids, keys, metadata, or names and arguments of tool calls."""
    session = f"{case.new_session()} sessionword"
    calls = [
        {
            "role": "assistant",
            "content": "said",
            "tool_calls": [
                {
                    "id": "callword",
                    "function": {"name": "toolword", "arguments": '{"a": "argword"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "callword", "content": "result"},
    ]
    items = calls if isinstance(case.items[0], dict) else []
    metadata = {"metakey": "metaword"}
    turn = Turn(session, [case.message("spoken"), *items], turn_id="turnword", metadata=metadata)
    await case.store.append(turn)

    for word in ("spoken", *(["said", "result"] if items else [])):
        page = await _search(case).search(word, prefix=session)
        expect(f"the hits for {word!r}", _ids(page), ["turnword"])
    hidden = ("sessionword", "turnword", "metakey", "metaword", "callword", "toolword", "argword")
    for word in (*hidden, "content", "role", "user", "assistant"):
        page = await _search(case).search(word, prefix=session)
        expect(f"the hits for {word!r}", _ids(page), [])


async def removed(case: Case) -> None:
    """search finds nothing that was popped, replaced, cleared or erased; a fork keeps its turns."""
    session = case.new_session()
    await _say(case, session, "alpha", "beta", turn_id="1")
    await _expect_words(case, session, {"alpha": 1, "beta": 1})
    await case.store.pop(session)
    await _expect_words(case, session, {"alpha": 1, "beta": 0})

    revision = await _say(case, session, "gamma", turn_id="2")
    message = case.message("delta")
    turn = Turn(session, [message], turn_id="3", replaces="2", expected_revision=revision)
    await case.store.append(turn)
    await _expect_words(case, session, {"alpha": 1, "gamma": 0, "delta": 1})

    forks = 0
    if isinstance(case.store, SessionCatalog):
        forks = 1
        await case.store.fork(session, f"{session} fork")
        await _expect_words(case, session, {"alpha": 2, "gamma": 0, "delta": 2})

    await case.store.clear(session)
    await _expect_words(case, session, {"alpha": forks, "delta": forks})
    await _say(case, session, "delta", turn_id="4")
    if isinstance(case.store, SessionErasure):
        await case.store.erase(session_id=session)
        await _expect_words(case, session, {"alpha": forks, "delta": forks})


async def unusual(case: Case) -> None:
    """Items of any shape can be stored between messages, and disturb no search."""
    session = case.new_session()
    for number, value in enumerate(case.values):
        turn = Turn(session, [case.message("needle"), value], turn_id=str(number))
        await case.store.append(turn)
    page = await _search(case).search("needle", prefix=session, limit=len(case.values))
    expect("the hits", _ids(page), [str(n) for n in reversed(range(len(case.values)))])


async def _walk(case: Case, text: str, prefix: str, limit: int) -> AsyncIterator[Page[SearchHit]]:
    """Yield all pages of a search."""
    after: str | None = None
    while True:
        page = await _search(case).search(text, prefix=prefix, limit=limit, after=after)
        yield page
        if (after := page.next) is None:
            return


async def _expect_words(case: Case, prefix: str, counts: dict[str, int]) -> None:
    for word, expected in counts.items():
        page = await _search(case).search(word, prefix=prefix)
        expect(f"the number of hits for {word!r}", len(page), expected)


async def _say(case: Case, session: str, *texts: str, turn_id: str) -> int:
    """Append a turn with the *texts*, and return the revision."""
    items = [case.message(text) for text in texts]
    return await case.store.append(Turn(session, items, turn_id=turn_id))


def _ids(hits: Iterable[SearchHit]) -> list[str]:
    return [hit.turn_id for hit in hits]


def _search(case: Case) -> SessionSearch:
    return cast("SessionSearch", case.store)


SEARCH_RULES: tuple[Rule, ...] = (
    every_word,
    words,
    long_words,
    unspaced,
    hits,
    pages,
    prefixes,
    signs,
    bad_searches,
    only_texts,
    removed,
    unusual,
)
