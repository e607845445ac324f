"""The chat for its tests: three workers on one file, a model, and a browser."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from helpers.model_server import model_server
from helpers.processes import python_path

collect_ignore = ["app.py"]  # it is a program, which needs a model

HERE = Path(__file__).parent
CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def running_model():
    with model_server() as server:
        yield server


@pytest.fixture
def model(running_model):
    yield running_model
    running_model.forget_answers()


@pytest.fixture(scope="module")
def workers(running_model, tmp_path_factory):
    """Run three workers on one file, and return their URLs."""
    variables = {
        "CHAT_DB": str(tmp_path_factory.mktemp("chat") / "chat.db"),
        "OPENAI_BASE_URL": running_model.url,
        "OPENAI_API_KEY": "none",
    }
    with ExitStack() as stack:
        yield [stack.enter_context(worker(variables)) for _ in range(3)]


@contextmanager
def worker(variables):
    """Run a worker. Its requests wait until it has started, because its socket is open before."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        uvicorn = [sys.executable, "-m", "uvicorn", "app:app", "--log-level", "warning"]
        process = subprocess.Popen(
            [*uvicorn, "--fd", str(listening.fileno())],
            pass_fds=[listening.fileno()],
            env={**os.environ, "PYTHONPATH": python_path(HERE), **variables},
        )
        with process:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            process.terminate()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("the browser chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    playwright.expect.set_options(timeout=20_000)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_chat(browser, workers, model, request):
    """Return a function that opens the chat as a user, in a browser that is closed at the end."""
    contexts = {}

    def open_chat(user="ada", worker=0, path="/"):
        if user not in contexts:
            name = f"{user} in {request.node.name}"  # each test has users of its own
            contexts[user] = browser.new_context(locale="en-GB", timezone_id="UTC")
            contexts[user].set_default_timeout(20_000)
            cookie = {"name": "user", "value": quote(name, safe=""), "url": workers[0]}
            contexts[user].add_cookies([cookie])
        page = contexts[user].new_page()
        page.goto(workers[worker] + path)
        return page

    yield open_chat
    for context in contexts.values():
        context.close()


@pytest.fixture
def page(open_chat):
    return open_chat()
