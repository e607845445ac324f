"""The chat: one reply per line of input, until the end of input.

1. The main thread waits for a line, so Ctrl-C at the prompt ends the command. All other work runs
   in an event loop on another thread.
2. Ctrl-C during an answer on a terminal keeps the part that was printed, and the chat goes on.
   Before the answer has begun, or in a pipe, it ends the command.
3. An endpoint that fails costs one line on standard error. The chat goes on; in a pipe, the exit
   status at the end is 1.
4. A line that begins with ``/`` is a command of the chat, never a message.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from typing import Any, Final, final

from anyio import CancelScope

from tower_memory import MemoryLayer, SaveError, Service
from tower_memory._command.errors import CommandError
from tower_memory._command.listing import find_infos, print_sessions
from tower_memory._command.models import NoReply, make_model
from tower_memory._command.output import print_error, print_text
from tower_memory._command.replies import ReplyPrinter, text_of_chunk
from tower_memory._command.stores import Opened, database_of, open_store

_LISTED: Final = 20
"""Number of sessions that /sessions lists."""

_HELP: Final = """\
/help      show this help
/new [ID]  begin a new session
/sessions  list the last active sessions; open one with `tower-memory --session ID`
/quit      end the chat, as Ctrl-D does
Ctrl-C stops an answer and keeps its beginning. A message that begins with / needs a
space before it."""


def chat(options: argparse.Namespace) -> int:
    """Answer the lines of standard input, and return the exit status."""
    if sys.stdin is None:
        msg = "stdin is closed; the chat needs it"
        raise CommandError(msg)

    with ExitStack() as resources:
        opened = resources.enter_context(open_store(database_of(options)))
        model = make_model(options, opened.portal, resources)
        running = Chat(opened, model, options)
        if sys.stdin.isatty():
            where = f"{opened.name}, session {options.session}"
            print(
                f"I remember in {where}. Press Ctrl-D to end; /help shows the commands.",
                file=sys.stderr,
            )
        return running.run(_read_lines())


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


@final
class Chat:
    """A chat in one session at a time.

    Args:
        opened: The store.
        model: The service that answers requests.
        options: The options of the command.
    """

    def __init__(
        self, opened: Opened, model: Service[Any, Any], options: argparse.Namespace
    ) -> None:
        self._opened = opened
        self._model = model
        self._options = options
        self._is_terminal = sys.stdin.isatty()
        self._has_failed = False
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": self._help,
            "/new": self._new,
            "/sessions": self._sessions,
        }
        self._scope: CancelScope  # of the answer that is being read
        self._open_session(options.session)

    def run(self, lines: Iterator[str]) -> int:
        """Answer *lines*, and return the exit status."""
        for line in lines:
            text = line.strip()
            if line.startswith("/"):
                if text == "/quit":
                    break
                self._run_command(text)
            elif text:
                self._reply(text)
        return 1 if self._has_failed and not self._is_terminal else 0

    def _open_session(self, session_id: str) -> None:
        memory = MemoryLayer.over(self._opened.store, session_id=session_id, keep_interrupted=True)
        self._service = memory(self._model)
        self._options.session = session_id  # an error names it

    def _fail(self, reason: str) -> None:
        self._has_failed = True
        print_error(reason)

    def _run_command(self, text: str) -> None:
        name, _, argument = text.partition(" ")
        command = self._commands.get(name)
        if command is None:
            self._fail(f"unknown command {name}, which is not sent; /help lists the commands")
        else:
            command(argument.strip())

    def _help(self, _argument: str) -> None:
        print_text(_HELP)

    def _sessions(self, _argument: str) -> None:
        print_sessions(find_infos(self._opened, "", _LISTED), self._opened.name)

    def _new(self, name: str) -> None:
        """Begin the session *name*, or one that is named by the time."""
        portal, store, _ = self._opened
        start = session_id = name or f"chat-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
        number = 1
        while portal.call(store.describe, session_id) is not None:
            if name:
                self._fail(f"session {name} exists; continue it with --session, or name another")
                return
            number += 1
            session_id = f"{start}-{number}"

        self._open_session(session_id)
        print_text(f"session {session_id}")

    def _reply(self, text: str) -> None:
        """Print the reply to *text*, and report an error that does not end the chat (rule 3)."""
        printer = ReplyPrinter(sys.stdout)
        future = self._opened.portal.start_task_soon(self._answer, text, printer)
        try:
            try:
                future.result()
            except KeyboardInterrupt:
                self._opened.portal.call(self._stop)
                future.result()
                if not (printer.has_text and self._is_terminal):
                    raise  # rule 2
            printer.end()
        except (NoReply, SaveError) as error:
            if printer.has_text:
                printer.end()
            is_unsaved = isinstance(error, SaveError)
            self._fail(f"this turn is not saved: {error.__cause__}" if is_unsaved else str(error))

    async def _stop(self) -> None:
        """Stop the answer that is being read."""
        self._scope.cancel()

    async def _answer(self, text: str, printer: ReplyPrinter) -> None:
        """Ask the model, print its reply as it arrives, and save the turn."""
        stream: Any = None
        try:
            with CancelScope() as self._scope:
                request = {"messages": [{"role": "user", "content": text}]}
                response = await self._service(request)
                if isinstance(response, str):
                    printer.write(response)
                    return
                stream = response
                async for chunk in stream:
                    printer.write(text_of_chunk(chunk))

        except SaveError as error:
            if stream is None:  # the reply was paid for
                printer.write(error.response)
            raise
        finally:
            if stream is not None:
                await stream.aclose()
