"""A chat that remembers: ``tower-memory``, or ``python -m tower_memory``.

1. The command reads lines and prints one reply per line until the end of input. The next run
   continues the conversation.
2. Every error is one line on standard error, with a non-zero exit status.
3. On a terminal, one line on standard error shows the progress of a long migration.
4. Reading a line blocks the main thread, so Ctrl-C ends the command at once. All other work runs
   in an event loop on another thread.
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import reprlib
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NoReturn, TextIO, cast

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

INTERRUPTED = 130  # the exit status that shells use for Ctrl-C


class CommandError(Exception):
    """Raised for a problem that the user can fix; its message becomes the line that is printed."""


class Parser(argparse.ArgumentParser):
    """A parser that reports an error on one line."""

    def error(self, message: str) -> NoReturn:
        """Print *message* and exit."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


class ProgressLine(logging.Handler):
    """Shows the progress of a migration as one line, which is rewritten, and each other record."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._is_open = False  # True if the last line is not ended

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record to the stream."""
        if hasattr(record, "progress"):
            print("", record.getMessage(), sep="\r", end="", file=self._stream, flush=True)
            self._is_open = True
        else:
            self.end_line()
            print("tower_memory:", record.getMessage(), file=self._stream)

    def end_line(self) -> None:
        """End the line that shows the progress."""
        if self._is_open:
            print(file=self._stream)
            self._is_open = False


@contextmanager
def show_progress(stream: TextIO | None) -> Generator[None]:
    """Show the progress of a migration on *stream*, if it is a terminal."""
    if stream is None or not stream.isatty():
        yield
        return

    logger = logging.getLogger("tower_memory")
    line, level = ProgressLine(stream), logger.level
    logger.addHandler(line)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(line)
        line.end_line()


def main() -> int:
    """Run the chat and return the exit status."""
    options = _parse_options()

    try:
        with ExitStack() as resources:
            _chat(options, resources)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except UnicodeDecodeError as error:
        return _fail(f"standard input is not {error.encoding}: {error.reason}")
    except SaveError as error:
        _print_reply(error.response)  # the reply was paid for
        return _fail(f"this turn is not saved: {error.__cause__}")
    except (CommandError, SessionError) as error:
        return _fail(str(error))
    except TypeError as error:  # the session holds items of another dialect
        return _fail(f"session {options.session} is not a chat: {error}")
    except OSError as error:  # from standard input or output; the store raises SessionErrors
        # Python flushes standard output at exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader of the replies has stopped
            return 1
        return _fail(f"cannot continue: {error.strerror}")

    return 0


def _parse_options() -> argparse.Namespace:
    parser = Parser(prog="tower-memory", description="A chat that remembers.")
    parser.add_argument(
        "--db",
        type=_text,
        default="sessions.db",
        help="the file that stores the conversations [%(default)s]",
    )
    parser.add_argument(
        "--session", type=_text, default="default", help="the id of the conversation [%(default)s]"
    )
    parser.add_argument(
        "--model", type=_text, help="the model to ask; by default a built-in one, offline"
    )
    parser.add_argument(
        "--base-url",
        type=_text,
        help="the OpenAI-compatible endpoint of the model, if it is not OpenAI's own;"
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


def _chat(options: argparse.Namespace, resources: ExitStack) -> None:
    """Answer the lines of standard input; *resources* closes the store and the client later."""
    for name in ("stdin", "stdout"):
        if getattr(sys, name) is None:
            msg = f"{name} is closed; the chat needs it"
            raise CommandError(msg)
    cast("io.TextIOWrapper", sys.stdout).reconfigure(errors="backslashreplace")

    portal = resources.enter_context(start_blocking_portal())
    opening = portal.wrap_async_context_manager(SqliteSessionStore(options.db))
    with show_progress(sys.stderr):
        store = resources.enter_context(opening)
    memory = MemoryLayer(LoadSession(store), SaveSession(store), session_id=options.session)
    service = memory(_model(options, portal, resources))

    if sys.stdin.isatty():
        where = f"{options.db}, session {options.session}"
        print(f"I remember in {where}. Press Ctrl-D to end.", file=sys.stderr)
    for line in _read_lines():
        if text := line.strip():
            _print_reply(portal.call(service, {"messages": [{"role": "user", "content": text}]}))


def _read_lines() -> Iterator[str]:
    if not sys.stdin.isatty():
        yield from sys.stdin
        return

    with suppress(ImportError):  # some platforms have no readline
        importlib.import_module("readline")  # gives input() line editing and a history of lines
    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return


def _print_reply(response: Any) -> None:
    """Print a reply; on one line, unless standard output is a terminal."""
    text = response if isinstance(response, str) else response.choices[0].message.content
    lines = str(text or "").splitlines()
    # A reply may contain control characters, which a terminal would obey.
    printable = ["".join(c if c.isprintable() else " " for c in line) for line in lines]
    print(("\n" if sys.stdout.isatty() else " ").join(printable), flush=True)


def _fail(reason: str) -> int:
    """Print *reason* on one line of standard error, and return the exit status."""
    print("tower_memory:", " ".join(reason.split()), file=sys.stderr)
    return 1


def _model(
    options: argparse.Namespace, portal: BlockingPortal, resources: ExitStack
) -> Service[dict[str, Any], Any]:
    """Return the service that answers requests: the offline model, or a call of the endpoint."""
    if options.model is None:
        return offline_model

    try:
        import openai  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        msg = "--model needs the openai client: pip install 'tower-memory[openai]'"
        raise CommandError(msg) from error

    key = os.environ.get("OPENAI_API_KEY")
    base_url = options.base_url or os.environ.get("OPENAI_BASE_URL")
    if not key and not base_url:
        msg = "--model needs a key in OPENAI_API_KEY, or a --base-url that needs none"
        raise CommandError(msg)

    try:
        client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=key or "none",
            timeout=openai.Timeout(120, connect=5),
            max_retries=1,
        )
    except Exception as error:
        msg = f"{base_url} cannot be used: {error}"
        raise CommandError(msg) from error
    resources.enter_context(portal.wrap_async_context_manager(client))

    async def ask(request: dict[str, Any]) -> Any:
        try:
            completion = await client.chat.completions.create(model=options.model, **request)
        except Exception as error:
            msg = f"{client.base_url} gave no reply: {error} {error.__cause__ or ''}"
            raise CommandError(msg) from error
        if not (getattr(completion, "choices", None) and completion.choices[0].message):
            msg = f"{client.base_url} gave no chat completion but {reprlib.repr(completion)}"
            raise CommandError(msg)
        return completion

    return ask


async def offline_model(request: dict[str, Any]) -> str:
    """Describe the earlier messages of *request* instead of asking a model."""
    *earlier, _ = request["messages"]
    if not earlier:
        return "I was given no earlier messages."
    messages = "1 earlier message" if len(earlier) == 1 else f"{len(earlier)} earlier messages"
    return f'I was given {messages}, the first: "{to_messages(earlier)[0].content}"'


if __name__ == "__main__":
    sys.exit(main())
