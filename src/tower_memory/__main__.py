"""A chat that remembers: ``python -m tower_memory``.

1. Lines in, replies out, one each, until the end of input; the next run goes on from there.
2. What goes wrong is one line on standard error and a non-zero exit.
3. Reading blocks the main thread, so that Ctrl-C ends it at once; everything else happens in an
   event loop beside it.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import reprlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any, NoReturn, cast

from anyio.from_thread import BlockingPortal, start_blocking_portal

from tower_memory import (
    LoadSession,
    MemoryLayer,
    SaveError,
    SaveSession,
    Service,
    SessionError,
    SqliteSessionStore,
)
from tower_memory._arguments import check_text
from tower_memory._items import to_messages

CTRL_C = 130  # what shells report for it


class Failure(Exception):
    """Raised for what the user can mend; says in one line what it is."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def main() -> int:
    """Run the chat and return the exit status."""
    options = _options()
    try:
        with ExitStack() as opened:
            _chat(options, opened)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return CTRL_C
    except UnicodeDecodeError as error:
        return _fail(f"standard input is not {error.encoding}: {error.reason}")
    except SaveError as error:
        _say(error.response)  # it was paid for
        return _fail(f"this turn is not saved: {error.__cause__}")
    except (Failure, SessionError) as error:
        return _fail(str(error))
    except TypeError as error:  # the session is of a client with other messages
        return _fail(f"session {options.session} is no chat: {error}")
    except OSError as error:  # of reading or writing lines; the store's are SessionErrors
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # whoever reads the replies has seen enough
            return 1
        return _fail(f"cannot go on: {error.strerror}")
    return 0


def _options() -> argparse.Namespace:
    parser = Parser(prog="python -m tower_memory", description="A chat that remembers.")
    parser.add_argument(
        "--db", type=_text, default="sessions.db", help="the file to remember in [%(default)s]"
    )
    parser.add_argument(
        "--session", type=_text, default="default", help="the conversation [%(default)s]"
    )
    parser.add_argument(
        "--model", type=_text, help="the model to ask; without, a built-in one, offline"
    )
    parser.add_argument(
        "--base-url",
        type=_text,
        help="the OpenAI-compatible endpoint that has it, if it is not OpenAI's own;"
        " the key is read from OPENAI_API_KEY",
    )
    options = parser.parse_args()
    if options.base_url and not options.model:
        parser.error("--base-url needs --model")
    return options


def _text(value: str) -> str:
    try:
        check_text("it", value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return value


def _chat(options: argparse.Namespace, opened: ExitStack) -> None:
    for name in ("stdin", "stdout"):
        if getattr(sys, name) is None:
            msg = f"{name} is closed, there is nobody to chat with"
            raise Failure(msg)
    cast("io.TextIOWrapper", sys.stdout).reconfigure(errors="backslashreplace")
    portal = opened.enter_context(start_blocking_portal())
    store = opened.enter_context(portal.wrap_async_context_manager(SqliteSessionStore(options.db)))
    memory = MemoryLayer(LoadSession(store), SaveSession(store), session_id=options.session)
    service = memory(_model(options, portal, opened))
    if sys.stdin.isatty():
        where = f"{options.db}, session {options.session}"
        print(f"I remember in {where}. The end of input, Ctrl-D, ends this.", file=sys.stderr)
    for line in _lines():
        if said := line.strip():
            _say(portal.call(service, {"messages": [{"role": "user", "content": said}]}))


def _lines() -> Iterator[str]:
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    with suppress(ImportError):  # not everywhere
        importlib.import_module("readline")  # which makes input() edit lines and keep them
    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return


def _say(response: Any) -> None:
    text = response if isinstance(response, str) else response.choices[0].message.content
    lines = str(text or "").splitlines()
    # A model may say what a terminal would obey.
    shown = ["".join(c if c.isprintable() else " " for c in line) for line in lines]
    print(("\n" if sys.stdout.isatty() else " ").join(shown), flush=True)


def _fail(reason: str) -> int:
    print("tower_memory:", " ".join(reason.split()), file=sys.stderr)
    return 1


def _model(
    options: argparse.Namespace, portal: BlockingPortal, opened: ExitStack
) -> Service[dict[str, Any], Any]:
    if options.model is None:
        return built_in
    try:
        import openai  # noqa: PLC0415 - an extra, imported where it is used
    except ImportError as error:
        msg = "--model needs the openai client: pip install 'tower-memory[openai]'"
        raise Failure(msg) from error
    key = os.environ.get("OPENAI_API_KEY")
    base_url = options.base_url or os.environ.get("OPENAI_BASE_URL")
    if not key and not base_url:
        msg = "--model needs a key in OPENAI_API_KEY, or a --base-url that needs none"
        raise Failure(msg)
    try:
        client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=key or "none",
            timeout=openai.Timeout(120, connect=5),
            max_retries=1,
        )
    except Exception as error:
        msg = f"{base_url} cannot be asked: {error}"
        raise Failure(msg) from error
    opened.enter_context(portal.wrap_async_context_manager(client))

    async def ask(request: dict[str, Any]) -> Any:
        try:
            completion = await client.chat.completions.create(model=options.model, **request)
        except Exception as error:
            msg = f"{client.base_url} gave no reply: {error} {error.__cause__ or ''}"
            raise Failure(msg) from error
        if not (getattr(completion, "choices", None) and completion.choices[0].message):
            msg = f"{client.base_url} gave no chat completion but {reprlib.repr(completion)}"
            raise Failure(msg)
        return completion

    return ask


async def built_in(request: dict[str, Any]) -> str:
    """A model that only tells what it was given."""
    *earlier, _ = request["messages"]
    if not earlier:
        return "I was given no earlier messages."
    messages = "1 earlier message" if len(earlier) == 1 else f"{len(earlier)} earlier messages"
    return f'I was given {messages}, the first: "{to_messages(earlier)[0].content}"'


if __name__ == "__main__":
    sys.exit(main())
