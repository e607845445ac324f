"""Conversations of numbered exchanges, and windows that show them after a summary."""

from __future__ import annotations

import logging

from helpers.messages import assistant, user
from tower_memory import Turn
from tower_memory.testing import ScriptedService
from tower_memory.windows import LastTurns, Summarised

SECRET = "my secret, 4711"


def told(text):
    """Return the item of a summary."""
    return user(f"Summary of the conversation so far:\n\n{text}")


def talk(*numbers):
    """Return the exchanges with *numbers*."""
    return [item for each in numbers for item in (user(f"q{each}"), assistant(f"re: q{each}"))]


async def fill(store, *numbers, session_id="s"):
    """Store an exchange for each of *numbers*, as a turn."""
    for each in numbers:
        await store.append(Turn(session_id, talk(each), turn_id=f"t{each}"))


def over(store, *answers, **parameters):
    """Return a window that keeps two exchanges, whose service gives *answers*."""
    parameters = {"keep": LastTurns(2), "every": 3, **parameters}
    return Summarised(ScriptedService(*answers), store=store, **parameters)


async def show(window, store, **selection):
    """Return the items that *window* shows of a session."""
    return list(await window(await store.load("s", **selection)))


async def stored_text(store, session_id="s", **parameters):
    """Return the text of a stored summary; None if there is none."""
    summary = await store.load_summary(session_id, **parameters)
    return summary and summary.text


def warnings(caplog):
    """Return the logged warnings; fail if one contains the secret."""
    assert SECRET not in caplog.text
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
