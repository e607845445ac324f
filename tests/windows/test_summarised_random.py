"""Random conversations with edits, and a service whose summary is the text that it was given."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.services import Boom
from helpers.summarising import talk
from tower_memory import InMemorySessionStore, Turn
from tower_memory.windows import LastItems, LastTurns, Stepped, Summarised

# "say" has the number of exchanges of a turn, "replace" the place of the turn before the last one,
# "pop" the number of items. "fail" is the next call of the service.
usual = st.lists(
    st.tuples(st.sampled_from(["say"] * 6 + ["replace", "pop"]), st.just(1)),
    min_size=6,
    max_size=20,
)
unusual = st.lists(
    st.tuples(st.sampled_from(["say"] * 6 + ["replace", "pop", "fail"]), st.integers(1, 4)),
    min_size=4,
    max_size=12,
)
windows = st.fixed_dictionaries(
    {
        "keep": st.sampled_from([LastTurns(1), LastTurns(3), LastItems(3), Stepped(LastTurns(3))]),
        "every": st.integers(1, 4),
        "max_input_tokens": st.sampled_from([1, 60, 1000]),
    }
)


class Conversation:
    """A session whose exchanges are numbered, and a service that repeats all that it is given."""

    def __init__(self):
        self.store = InMemorySessionStore()
        self.numbers = iter(range(10**6))
        self.is_failing = False

    async def summarise(self, items):
        if self.is_failing:
            self.is_failing = False
            raise Boom
        return "|".join(item["content"] for item in items)

    async def take(self, step, count):
        history = await self.store.load("s")
        match step:
            case "say":
                await self.store.append(Turn("s", self.say(count)))
            case "replace" if history.turns:
                replaced = history.turns[-1 - count % len(history.turns)].turn_id
                revision = history.revision
                turn = Turn("s", self.say(1), replaces=replaced, expected_revision=revision)
                await self.store.append(turn)
            case "pop":
                for _ in range(count):
                    await self.store.pop("s")
            case _:
                self.is_failing = step == "fail"

    def say(self, count):
        return talk(*(next(self.numbers) for _ in range(count)))


def told(text):
    return {"role": "developer", "content": text}


@settings(max_examples=60)
@given(
    conversation=st.one_of(
        st.tuples(usual, st.none()), st.tuples(unusual, st.sampled_from([None, 6]))
    ),
    parameters=windows,
)
async def test_a_summary_tells_the_oldest_items_of_the_session_and_nothing_else(
    conversation, parameters
):
    """If all turns are exchanges and the service works, the model misses nothing."""
    talking = Conversation()
    window = Summarised(talking.summarise, store=talking.store, item=told, **parameters)
    steps, limit = conversation
    is_usual = limit is None and not any(
        step == "fail" or (step == "say" and count > 1) for step, count in steps
    )

    for step in steps:
        await talking.take(*step)
        contents = [item["content"] for item in await talking.store.load("s")]
        history = await talking.store.load("s", limit=limit)
        shown = list(await window(history))

        has_summary = bool(shown) and shown[0]["role"] == "developer"
        summarised = shown.pop(0)["content"].split("|") if has_summary else []
        rest = [item["content"] for item in shown]
        assert summarised == contents[: len(summarised)]
        assert rest == contents[len(contents) - len(rest) :]
        assert len(rest) >= len(await parameters["keep"](history))
        assert len(summarised) + len(rest) >= len(contents) or not is_usual
