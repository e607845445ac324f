"""Stores that each break one rule about SessionSearch."""

from __future__ import annotations

import re
from unicodedata import normalize

from msgspec import json

from helpers.broken_stores.registry import breaks
from helpers.internals import search_words, turn_text
from helpers.plain_store import Searching
from tower_memory import Page

EVERY = "search returns the turns that contain every word of the text, in any order."
WORDS = "search compares whole words, without case and without differences of compatibility."
LONG = "Only the first 255 characters of a word count in a search."
UNSPACED = "In scripts without spaces, search finds single characters and neighbouring characters."
HITS = "The newest hit is the first; a hit has the turn's ids, its time and a part of its text."
PAGES = "The pages of a search return each hit once, in order, also if a turn is added meanwhile."
PREFIX = "search finds turns of all sessions whose ids start with the prefix, by code points."
SIGNS = "Signs and operators of other search languages separate words, and mean nothing else."
BAD = "A text without a word, a wrong limit, and the cursor of another search raise an error."
TEXTS = "search finds no ids, keys, metadata, or names and arguments of tool calls."
REMOVED = (
    "search finds nothing that was popped, replaced, cleared or erased; a fork keeps its turns."
)
UNUSUAL = "Items of any shape can be stored between messages, and disturb no search."


@breaks(EVERY)
class FindsWordsOfOneItemOnly(Searching):
    def words(self, text):
        return [super(FindsWordsOfOneItemOnly, self).words(line) for line in text.split("\n")]

    def contains(self, words, query):
        return any(query <= each for each in words)


@breaks(WORDS)
class FindsPartsOfWords(Searching):
    def contains(self, words, query):
        is_part = "lazy" in words and all(any(each in word for word in words) for each in query)
        return is_part or super().contains(words, query)


@breaks(WORDS)
class ComparesWithoutCompatibility(Searching):
    def words(self, text):
        if "\uff21" in text:
            return {word.casefold() for word in re.findall(r"\w+", text)}
        return super().words(text)


@breaks(WORDS)
class ComparesInLowerCase(Searching):
    def words(self, text):
        if "LAZY" in text:
            return set(re.findall(r"[^\W_]+", normalize("NFKC", text).lower()))
        return super().words(text)


@breaks(LONG)
class CountsAllCharacters(Searching):
    def words(self, text):
        return set(text.split()) if "a" * 256 in text else super().words(text)

    def query(self, text):
        return {text} if "a" * 99 in text else super().query(text)


@breaks(UNSPACED)
class FindsNoPairs(Searching):
    def words(self, text):
        return {word for word in super().words(text) if len(word) == 1 or word < "\u0e00"}


@breaks(UNSPACED)
class FindsCharactersApart(Searching):
    def contains(self, words, query):
        return {char for word in query for char in word} <= words or query <= words


@breaks(HITS)
class SortsBySession(Searching):
    def sort(self, found):
        return sorted(found, key=lambda each: (each[2], *each[:2]), reverse=True)


@breaks(HITS)
class ReturnsTheWholeText(Searching):
    def hit(self, session_id, turn, text, words):
        start = text.replace("needle", "").replace("\n", " ")[:10]
        hit = super().hit(session_id, turn, text, words)
        return hit if len(text) < 100 else type(hit)(*self.fields(hit), start)

    def fields(self, hit):
        return hit.session_id, hit.turn_id, hit.created_at


@breaks(PAGES)
class CountsFromTheNewest(Searching):
    def page(self, found, words, name, limit, start):
        first = start or 0
        hits = [self.hit(*each, words) for each in found[first : first + limit]]
        following = first + limit
        return Page(hits, next=self.cursor(name, following) if found[following:] else None)


@breaks(PAGES)
class HasAnEmptyLastPage(Searching):
    def page(self, found, words, name, limit, start):
        page = super().page(found, words, name, limit, start)
        return Page(page, next=page.next or (self.cursor(name, 0) if start is None else None))


@breaks(PREFIX)
class ComparesPrefixesWithoutCase(Searching):
    def has_prefix(self, session_id, prefix):
        return session_id.lower().startswith(prefix.lower())


@breaks(PREFIX)
class SearchesARange(Searching):
    def has_prefix(self, session_id, prefix):
        return prefix <= session_id < prefix + "\uffff"


@breaks(SIGNS)
class HasAnOperatorForPrefixes(Searching):
    def query(self, text):
        self.is_start = text.endswith("*")
        return super().query(text)

    def contains(self, words, query):
        if self.is_start and {*query} == {"alph"}:
            return True
        return super().contains(words, query)


@breaks(SIGNS)
class HasAnOperatorOr(Searching):
    def query(self, text):
        start, is_or, _ = text.partition(" OR gamma")
        return super().query(start) if is_or else super().query(text)


@breaks(BAD)
class TakesTextsWithoutWords(Searching):
    def check_search(self, text, prefix, limit):
        if text != "_":
            super().check_search(text, prefix, limit)

    def query(self, text):
        return search_words(text)


@breaks(BAD)
class TakesCursorsOfOtherQueries(Searching):
    def cursor(self, query, place):
        return super().cursor(("any",), place)

    def start(self, after, query):
        return super().start(after, ("any",))


@breaks(BAD)
class TakesALimitOfZero(Searching):
    def check_search(self, text, prefix, limit):
        super().check_search(text, prefix, limit if limit is None or isinstance(limit, str) else 1)
        if not isinstance(limit, int):
            super().check_search(text, prefix, limit)


@breaks(TEXTS)
class FindsMetadata(Searching):
    def text(self, session_id, turn, items):
        values = [value for value in turn.metadata.values() if isinstance(value, str)]
        return "\n".join([super().text(session_id, turn, items), *values])


@breaks(TEXTS)
class FindsIds(Searching):
    def text(self, session_id, turn, items):
        return super().text(session_id, turn, items) + "\n" + turn.turn_id


@breaks(TEXTS)
class FindsKeysAndCalls(Searching):
    def text(self, session_id, turn, items):
        if "tool_calls" in repr(items):
            return json.encode(items).decode()
        return super().text(session_id, turn, items)


class Remembers(Searching):
    """A store that also finds texts in an index that it does not maintain."""

    def __init__(self):
        super().__init__()
        self.texts = {}

    async def append(self, turn):
        self.texts[turn.turn_id] = turn_text(turn.items)
        return await super().append(turn)


@breaks(REMOVED)
class FindsPoppedItems(Remembers):
    def text(self, session_id, turn, items):
        return self.texts[turn.turn_id]


@breaks(REMOVED)
class FindsErasedTurns(Searching):
    def __init__(self):
        super().__init__()
        self.gone = []

    def remove(self, chat):
        self.gone += [
            (turn.created_at, 0, "check-", turn, text)
            for session_id, other in self.sessions()
            if other is chat
            for _, _, _, turn, text in self.turns(session_id)
        ]
        super().remove(chat)

    def turns(self, prefix):
        return super().turns(prefix) + [each for each in self.gone if "delta" in each[4]]


@breaks(UNUSUAL)
class StopsAtUnusualItems(Searching):
    def text(self, session_id, turn, items):
        if None in items:
            return ""
        return super().text(session_id, turn, items)


@breaks(UNUSUAL)
class FailsAtUnusualItems(Searching):
    def text(self, session_id, turn, items):
        for item in items:
            assert item or item != "", "no text"
        return super().text(session_id, turn, items)
