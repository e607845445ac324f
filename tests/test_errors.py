"""Errors keep their attributes when they are pickled."""

from __future__ import annotations

import pickle

import pytest

from tower_memory import (
    CorruptSessionError,
    SaveError,
    SessionCleared,
    SessionConflict,
    SessionError,
    Turn,
    TurnExists,
    TurnMissing,
    UnencodableItemError,
)


@pytest.mark.parametrize(
    "error",
    [
        SessionError("message", session_id="s"),
        SessionConflict("s", expected=1, actual=2, response="r", turn=Turn("s", [])),
        SessionCleared("s", response="r", turn=Turn("s", [])),
        TurnExists("s", turn_id="t", items=[1]),
        TurnMissing("s", turn_id="t", response="r", turn=Turn("s", [])),
        SaveError("s", "reason", response="r", turn=None),
        CorruptSessionError("s", row=3, reason="torn"),
        UnencodableItemError("s", where="items[0]", value=1, reason="r"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_can_be_sent_to_another_process(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))
    assert type(copy) is type(error)


def test_an_item_that_cannot_be_encoded_is_a_value_error_too():
    error = UnencodableItemError("s", where="items[0]", value=1, reason="r")
    assert isinstance(error, ValueError)
    assert isinstance(error, SessionError)
