"""The command as a process of its own: its standard streams and its exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.commands import COMMAND, failed


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_a_closed_standard_input_or_output_is_one_line(tmp_path, closed):
    done = subprocess.run(
        f"{sys.executable} -m tower_memory {closed}",
        shell=True,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    failed(done, "is closed")


def test_a_full_disk_at_standard_output_is_one_line(tmp_path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            COMMAND, cwd=tmp_path, input="Hi", text=True, stdout=full, stderr=subprocess.PIPE
        )
    failed(done, "No space left on device")


def test_a_closed_pipe_causes_no_traceback(tmp_path):
    child = subprocess.Popen(
        COMMAND,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    child.stdin.write("Hi\n")
    child.stdin.flush()
    child.stdout.readline()
    child.stdout.close()
    child.stdin.write("Hi\n")
    child.stdin.close()

    assert child.wait(60) == 1
    assert child.stderr.read() == ""

    child.stderr.close()
