"""The command ``tower-memory``, from its options to its exit status.

1. Every error is one line on standard error, with a non-zero exit status: 2 for wrong options, 130
   after Ctrl-C, otherwise 1.
2. Only the chat and ``import`` create a missing file.
3. A reader that stops, such as ``head``, ends the command without an error line.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from io import UnsupportedOperation
from typing import Final

from tower_memory import SessionError
from tower_memory._command.chat import chat
from tower_memory._command.editing import erase, fork, set_title
from tower_memory._command.errors import CommandError
from tower_memory._command.export import export
from tower_memory._command.importing import import_file
from tower_memory._command.listing import list_sessions, search, show_session
from tower_memory._command.options import parse_options
from tower_memory._command.output import prepare_output, print_error
from tower_memory._command.upkeep import backup, check, scrub

_INTERRUPTED: Final = 130  # the exit status that shells use for Ctrl-C

_COMMANDS: Final[dict[str | None, Callable[[argparse.Namespace], int]]] = {
    None: chat,
    "sessions": list_sessions,
    "show": show_session,
    "search": search,
    "title": set_title,
    "fork": fork,
    "export": export,
    "import": import_file,
    "erase": erase,
    "scrub": scrub,
    "backup": backup,
    "check": check,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command with *arguments*, or those of the process, and return the exit status."""
    options = parse_options(arguments)
    try:
        prepare_output()
        status = _COMMANDS[options.command](options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return _INTERRUPTED
    except UnicodeDecodeError as error:
        print_error(f"standard input is not {error.encoding}: {error.reason}")
    except (CommandError, SessionError) as error:
        print_error(str(error))
    except ValueError as error:  # an argument that a method of the store refuses
        print_error(str(error))
    except TypeError as error:  # the session holds items of another dialect
        if options.command is not None:
            raise
        print_error(f"session {options.session} is not a chat: {error}")
    except OSError as error:  # from standard input or output; the store raises SessionErrors
        _discard_output()
        if not isinstance(error, BrokenPipeError):  # rule 3
            print_error(f"cannot continue: {error.strerror}")
    else:
        return status

    return 1


def _discard_output() -> None:
    """Let Python's flush of standard output at exit succeed; it would fail again."""
    with suppress(UnsupportedOperation):  # a replaced standard output may have no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
