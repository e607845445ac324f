"""The chat for its tests: three workers on one store behind nginx, a model, and a browser.

Each test runs on an SQLite file, and those with the mark each_store on Postgres as well. For that,
one line of the program is another one.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest

from helpers.model_server import model_server
from helpers.nginx import NGINX, nginx
from helpers.process_signals import LONGEST_WAIT
from helpers.processes import ended, python_path, unmeasured

collect_ignore = ["app.py", "quick_app.py"]  # they are programs, which need a model

HERE = Path(__file__).parent
ON_SQLITE = "from tower_memory import SqliteSessionStore as Store .*"
ON_POSTGRES = "from tower_memory.postgres import PostgresSessionStore as Store"
CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="package")
def running_model():
    with model_server() as server:
        yield server


@pytest.fixture
def model(running_model):
    yield running_model
    running_model.forget_answers()


def pytest_generate_tests(metafunc):
    """Choose the stores of a test."""
    if "program" in metafunc.fixturenames:
        runs_on_each = metafunc.definition.get_closest_marker("each_store")
        stores = ["sqlite", "postgres"] if runs_on_each else ["sqlite"]
        metafunc.parametrize("program", stores, indirect=True, scope="package")


class Program(NamedTuple):
    """The folder of the program, and the file or the URL of its store."""

    folder: Path
    store: str


@pytest.fixture(scope="package")
def program(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    if request.param == "sqlite":
        yield Program(HERE, str(folder / "chat.db"))
        return

    for name in ("index.html", "quick_app.py"):
        shutil.copy(HERE / name, folder)
    source = (HERE / "app.py").read_text()
    changed = re.sub(ON_SQLITE, ON_POSTGRES, source)
    pairs = zip(source.splitlines(), changed.splitlines(), strict=True)
    assert sum(before != after for before, after in pairs) == 1
    (folder / "app.py").write_text(changed)
    with request.getfixturevalue("postgres_database")() as url:
        yield Program(folder, url)


@pytest.fixture(scope="package")
def variables(running_model, program):
    """Return the environment variables of a worker. All workers have one store."""
    return {
        "CHAT_DB": program.store,
        "OPENAI_BASE_URL": running_model.url,
        "OPENAI_API_KEY": "none",
        "PYTHONPATH": python_path(program.folder, HERE.parent),
    }


@pytest.fixture(scope="package")
def workers(variables):
    """Run three workers on one store, and return their URLs."""
    with ExitStack() as stack:
        yield [stack.enter_context(worker(variables)).url for _ in range(3)]


@pytest.fixture
def start_quick_worker(variables):
    """Return a function that runs one more worker, with short times, until the test ends."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(worker(variables, "quick_app"))


@pytest.fixture(scope="package")
def proxy(workers, tmp_path_factory):
    """Run nginx in front of the workers, and return its URL."""
    if NGINX is None:
        pytest.skip("the proxy nginx is not installed")
    with nginx(tmp_path_factory.mktemp("nginx"), workers) as url:
        yield url


class Worker(NamedTuple):
    """A process that serves the chat, and its URL."""

    url: str
    process: subprocess.Popen


@contextmanager
def worker(variables, app="app"):
    """Run a worker. Its requests wait until it has started, because its socket is open before."""
    uvicorn = [sys.executable, "-m", "uvicorn", f"{app}:app", "--log-level", "warning"]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        process = subprocess.Popen(
            [*uvicorn, "--fd", str(listening.fileno())],
            pass_fds=[listening.fileno()],
            env=unmeasured(**variables),
        )
    with ended(process, signal.SIGKILL):  # otherwise it waits for its readers
        yield Worker(url, process)


@pytest.fixture(scope="package")
def browser():
    if CHROMIUM is None:
        pytest.skip("the browser chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    playwright.expect.set_options(timeout=1000 * LONGEST_WAIT)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_chat(browser, workers, proxy, model, request):
    """Return a function that opens the chat as a user, in a browser that is closed at the end.

    The requests go through nginx, or to the worker with a number.
    """
    contexts, errors = {}, []

    def open_chat(user="ada", worker=None, path="/", url=proxy):
        if user not in contexts:
            name = f"{user} in {request.node.name}"  # each test has users of its own
            contexts[user] = browser.new_context(locale="en-GB", timezone_id="UTC")
            contexts[user].set_default_timeout(1000 * LONGEST_WAIT)
            cookie = {"name": "user", "value": quote(name, safe=""), "url": proxy}
            contexts[user].add_cookies([cookie])
            contexts[user].on("weberror", lambda error: errors.append(str(error.error)))
        page = contexts[user].new_page()
        page.goto((url if worker is None else workers[worker]) + path)
        return page

    yield open_chat
    for context in contexts.values():
        context.close()
    assert not errors


@pytest.fixture
def page(open_chat):
    return open_chat()
