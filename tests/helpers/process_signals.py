"""Freeze and end processes, and wait until it has happened."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import psutil

LONGEST_WAIT = 60
"""Seconds after which a process that does not react has failed."""

ENDED = {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
"""Status of a process that has ended, before and after its parent knows."""


def end(pids, number):
    """End the processes *pids* with a signal, and return as soon as they have ended."""
    send(number, pids)
    wait_until(lambda: ENDED.issuperset(map(status, pids)))


def freeze(pids):
    """Stop the processes *pids*, and return as soon as they do nothing any more."""
    send(signal.SIGSTOP, pids)
    wait_until(lambda: {psutil.STATUS_STOPPED, *ENDED}.issuperset(map(status, pids)))


def send(number, pids):
    """Send a signal to those of the processes *pids* that have not ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def status(pid):
    """Return the status of the process *pid*."""
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return psutil.STATUS_DEAD


def wait_until(condition):
    """Return as soon as *condition()* is true; raise TimeoutError after `LONGEST_WAIT`."""
    deadline = time.monotonic() + LONGEST_WAIT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.001)
