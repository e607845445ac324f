"""The portal from trio to an asyncio loop."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from helpers.internals import open_portal
from helpers.processes import run_python


async def running_loop():
    return type(asyncio.get_running_loop()).__name__


@pytest.mark.parametrize("anyio_backend", ["trio"])  # on asyncio there is no portal
async def test_a_portal_calls_functions_in_an_asyncio_loop_until_it_is_closed():
    async with AsyncExitStack() as opened:
        call = open_portal(opened)
        assert await call(running_loop) == "_UnixSelectorEventLoop"
    with pytest.raises(RuntimeError, match="not running"):
        await call(running_loop)


FEW_FILES = """
import os, resource
from contextlib import AsyncExitStack
import trio
from helpers.internals import open_portal

async def main():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, limits[1]))
    try:
        open_portal(AsyncExitStack())
    except OSError as error:
        print(error.strerror)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)

trio.run(main)
"""


def test_a_portal_that_cannot_start_its_loop_says_so():
    done = run_python(FEW_FILES, timeout=60)
    # asyncio may print that a half-created event loop was not closed.
    assert (done.stdout, done.returncode) == ("Too many open files\n", 0), done.stderr
