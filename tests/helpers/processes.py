"""Run Python programs in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

_TESTS = Path(__file__).parent.parent

COVERAGE = {"COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"}
"""Variables by which coverage measures the programs that a process starts."""


def python(source, *arguments):
    """Return the command that runs the program *source* with *arguments*."""
    return [sys.executable, "-c", source, *map(str, arguments)]


def python_path(*folders):
    """Return this process's PYTHONPATH with *folders* in front."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])


def environment(**variables):
    """Return this process's environment with *variables*, in which programs find these helpers."""
    return {**os.environ, "PYTHONPATH": python_path(_TESTS), **variables}


def unmeasured(**variables):
    """Return the same environment, in which coverage does not measure programs.

    Measuring doubles the time of a program. It is of no use if the program is killed, or if it runs
    no line of the library that no other test runs.
    """
    return {name: text for name, text in environment(**variables).items() if name not in COVERAGE}


def run_python(source, *arguments, **parameters):
    """Run the program *source* to its end, and capture its output as text."""
    parameters = {"capture_output": True, "text": True, "env": environment(), **parameters}
    return subprocess.run(python(source, *arguments), **parameters)


def start_python(source, *arguments, **parameters):
    """Start the program *source* with pipes to its input and from its output, as text."""
    parameters = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "text": True,
        "env": environment(),
        **parameters,
    }
    return subprocess.Popen(python(source, *arguments), **parameters)


@contextmanager
def ended(process, number):
    """Send *process* a signal at the end of the block, and wait until it has ended."""
    with process:
        try:
            yield process
        finally:
            process.send_signal(number)


KILL_CHILDREN = """
import json, os, random, signal

def kill_children(run, kills, seed, most):
    \"\"\"Kill *kills* children that call run(name, report), each after fewer than *most* reports.

    All whole lines that they reported are printed. The children are forks, because starting each
    would take most of the time.
    \"\"\"
    chance = random.Random(seed)
    reported = []
    for number in range(kills):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            run(str(number), lambda said: os.write(writing, (said + "\\n").encode()))
        os.close(writing)
        with os.fdopen(reading) as lines:
            reported += [lines.readline() for _ in range(chance.randrange(most))]
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            reported += lines.readlines()
    print(json.dumps([said.strip() for said in reported if said.endswith("\\n")]))
"""
"""Source of a program's function that kills processes at random moments."""
