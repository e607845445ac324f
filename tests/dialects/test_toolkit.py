"""The building blocks of a dialect: provider rules with their defaults."""

from __future__ import annotations

import pytest

from tower_memory.dialects import toolkit


class Rules(toolkit.ProviderRules):
    """Rules for items such as ("ask", text), ("call", id), ("result", id) and ("say", text)."""

    def links(self, item, /):
        kind, value = item
        return toolkit.item_links(
            [value] if kind == "call" else (),
            [value] if kind == "result" else (),
            starts_exchange=kind == "ask",
        )

    def add_results(self, run, calls, /):
        return [*run, *(("result", call.id) for call in calls)]


TALK = [("ask", "a"), ("call", "1"), ("result", "1"), ("say", "b")]


def test_the_default_rules_want_each_result_directly_after_its_call():
    """Results that are missing, late or lone are repaired."""
    rules = Rules()
    assert toolkit.is_valid(TALK, rules)
    assert not toolkit.is_valid(TALK[:2], rules)
    assert not toolkit.is_valid(TALK[2:], rules)

    late = [TALK[0], TALK[1], TALK[3], TALK[2]]
    assert not toolkit.is_valid(late, rules)
    assert toolkit.repair(late, [], rules) == TALK
    assert toolkit.repair([*TALK[:2], TALK[3]], [], rules) == TALK
    assert toolkit.repair([TALK[2], *TALK], [], rules) == TALK
    assert rules.only_results(TALK[2], [0]) == TALK[2]


def test_rules_of_a_table_are_applied_until_one_leaves_the_item_out():
    """Items that are clean skip the table."""

    class Picky(Rules):
        def is_clean(self, item, /):
            return item[0] != "say"

    seen = []

    def shout(item, place):
        seen.append((item, list(place.unanswered), place.now))
        return None if item[1] == "secret" else ("say", item[1].upper())

    def note(item, _place):
        return (*item, "noted")[:2]

    history = [*TALK, ("say", "secret")]
    kept = toolkit.apply_rules((shout, note), history, [], Picky(), now=7)
    assert kept == [*TALK[:3], ("say", "B")]
    assert seen == [(("say", "b"), [], 7), (("say", "secret"), [], 7)]


@pytest.mark.parametrize(
    ("arguments", "mended"),
    [
        (None, "{}"),
        (" ", "{}"),
        ('{"a": 1}', '{"a": 1}'),
        ({"a": 1}, '{"a":1}'),
        ("[1]", '{"INVALID_JSON":"[1]"}'),
        ('{"a', '{"INVALID_JSON":"{\\"a"}'),
    ],
)
def test_arguments_are_mended_to_a_json_object(arguments, mended):
    """Arguments that are no object are quoted; none are an empty object."""
    assert toolkit.mend_arguments(arguments) == mended
    assert toolkit.is_json_object(mended)
