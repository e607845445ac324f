"""The names of the scenarios, and the question of users that each of them answers."""

from __future__ import annotations

from typing import Final

# The scenarios of the first line fork: they run before anything has started a thread.
SCENARIOS: Final = {
    "kill": "The process is killed (SIGKILL) at any moment: is each turn whole?",
    "processes": "Two processes write one session: is every returned turn kept?",
    "retry": "The model fails and the request is made again: is the user's message stored once?",
    "overlap": "Two turns of one session overlap: are all messages kept?",
    "cancel_model": "A call is cancelled during the model call: is the session unchanged?",
    "cancel_save": "A call is cancelled during the save: is the turn whole or absent, and the"
    " store usable?",
    "full_disk": "The save fails (full disk): does the caller learn it, and get the reply?",
    "twice": "The same request is made twice, with the library's own key: is it saved once?",
    "corrupt": "A stored row is damaged: what do a load and the next turn do?",
    "identical": "The user says the same twice, and gets the same reply: is it stored twice?",
    "erased_bytes": "A session is deleted: are its bytes gone from the files?",
    "trio": "Does a turn work on trio?",
    "many": "50 sessions in use at once: how many threads and files?",
    "figures": "How long is a turn, and how large is the file?",
}

NO_FILE: Final = "no file"
"""The cell of a library that has no durable store, where a scenario needs one."""
