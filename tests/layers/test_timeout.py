"""The timeout layer."""

from __future__ import annotations

import math

import anyio
import pytest

from helpers.services import FlakyModel
from tower_memory import TimeoutLayer


async def test_a_call_that_takes_too_long_is_cancelled_and_raises_timeout_error():
    cancelled = []

    async def model(_request):
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            cancelled.append(type(error))
            raise

    with pytest.raises(TimeoutError):
        await TimeoutLayer(0.01)(model)("Hi")
    assert cancelled == [anyio.get_cancelled_exc_class()]


async def test_a_call_in_time_returns_its_response():
    assert await TimeoutLayer(60)(FlakyModel(0))("Hi") == "through"
    assert await TimeoutLayer(math.inf)(FlakyModel(0))("Hi") == "through"


@pytest.mark.parametrize(
    ("seconds", "error"),
    [
        (-0.1, ValueError),
        (math.nan, ValueError),
        (10**20, ValueError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_bad_timeouts_are_refused_by_name(seconds, error):
    with pytest.raises(error, match=f"seconds must be .*, got {seconds}"):
        TimeoutLayer(seconds)
