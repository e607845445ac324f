"""The options of the command, and the text of its help."""

from __future__ import annotations

import argparse
from typing import Any, Final, NoReturn

from tower_memory._arguments import check_text
from tower_memory._command.errors import without_password

_DEFAULT_FILE = "sessions.db"
_DEFAULT_SESSION = "default"
_DEFAULT_SCHEMA = "public"

_SERVERS: Final = ("postgresql://", "postgres://")
"""Starts of the URLs of Postgres databases."""

_DESCRIPTION = """\
Without a command: a chat that remembers. Each line of standard input gets an answer,
and the next run continues the conversation. On a terminal, /help lists the commands
of the chat.
"""
_EPILOG = """\
`tower-memory COMMAND --help` explains a command. With --json, commands print one JSON
object a line; times are UTC.
"""
_ERASE = """\
Erase sessions with all that belongs to them, for good. Copies in backups, exports and
forks stay. The last bytes leave a file with `tower-memory scrub`.
"""
_EXPORT = """\
Write sessions as JSON lines, with their turns, times and metadata. The export shows all
sessions as they were at one moment. Without an id, --prefix or --all, it writes all
sessions.
"""
_IMPORT = """\
Add the sessions of another file: an export of tower-memory, an SQLite file of
openai-agents (SQLiteSession), or one of LangChain (SQLChatMessageHistory). Turns that
are there already are skipped, so a file may be imported again. A file that is damaged
changes nothing. Into a Postgres database, each session is written in a transaction of
its own: after an interruption, import the file again to add the rest.
"""
_CHECK = """\
Check an SQLite file: its pages, and each session and turn. The status is 1 if something is
damaged.
"""


class Parser(argparse.ArgumentParser):
    """A parser that reports an error on one line."""

    def error(self, message: str) -> NoReturn:
        """Print *message* and exit."""
        reason = without_password(" ".join(message.split()))
        self.exit(2, f"{self.prog}: {reason} (see --help)\n")


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line; exit if they are wrong.

    ``options.command`` is the name of a command, or None for the chat.
    """
    parser = Parser(
        prog="tower-memory",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--db", type=_text, default=_DEFAULT_FILE, metavar="FILE|URL", help=_DB_HELP
    )
    parser.add_argument("--schema", type=_text, metavar="NAME", help=_SCHEMA_HELP)
    _add_chat_options(parser)
    _add_commands(parser)

    options = parser.parse_args(arguments)
    if options.schema is not None and not is_server(options.db):
        parser.error("--schema is for a Postgres database, and --db is a file")
    options.schema = options.schema or _DEFAULT_SCHEMA

    if options.command is None:
        if options.base_url and not options.model:
            parser.error("--base-url needs --model")
        options.session = options.session or _DEFAULT_SESSION
    else:
        _refuse_chat_options(parser, options)
        _check_selection(parser, options)
    return options


_DB_HELP = (
    f"the file that stores the conversations [{_DEFAULT_FILE}], or the URL of a Postgres database,"
    " postgresql://user@host/dbname; take the password from PGPASSWORD or ~/.pgpass"
)
_SCHEMA_HELP = f"the schema that has the tables, for a Postgres database [{_DEFAULT_SCHEMA}]"


def is_server(db: str) -> bool:
    """Return True if the value of ``--db`` is the URL of a Postgres database, not a file."""
    return db.startswith(_SERVERS)


def _add_chat_options(parser: Parser) -> None:
    parser.add_argument(
        "--session",
        type=_text,
        metavar="ID",
        help=f"the id of the conversation [{_DEFAULT_SESSION}]",
    )
    parser.add_argument(
        "--model", type=_text, help="the model to ask; by default a built-in one, offline"
    )
    parser.add_argument(
        "--base-url",
        type=_text,
        metavar="URL",
        help="the OpenAI-compatible endpoint of the model, if it is not OpenAI's own;"
        " the key is read from OPENAI_API_KEY",
    )


def _add_commands(parser: Parser) -> None:
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def add(name: str, summary: str, description: str | None = None, *, json: bool) -> Any:
        """Add a command, and return its parser."""
        command = commands.add_parser(
            name,
            help=summary,
            description=description or f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        absent = argparse.SUPPRESS  # the option before the command counts
        command.add_argument("--db", type=_text, default=absent, metavar="FILE|URL", help=_DB_HELP)
        command.add_argument(
            "--schema", type=_text, default=absent, metavar="NAME", help=_SCHEMA_HELP
        )
        if json:
            command.add_argument("--json", action="store_true", help="print one JSON object a line")
        return command

    command = add("sessions", "list the sessions, the last active first", json=True)
    command.add_argument("--prefix", type=_any_text, default="", help="only ids with this start")
    command.add_argument("--limit", type=_count, help="at most this number of sessions [all]")

    command = add("show", "show the messages of a session, oldest first", json=True)
    command.add_argument("id", type=_text, metavar="ID", help="the session")
    command.add_argument("--last", type=_count, metavar="TURNS", help="only the newest turns [all]")

    command = add("search", "find the turns that contain all words, newest first", json=True)
    command.add_argument("text", type=_text, nargs="+", metavar="TEXT", help="the words")
    command.add_argument(
        "--prefix", type=_any_text, default="", help="only sessions with this start of the id"
    )
    command.add_argument("--limit", type=_count, default=20, help="at most this number [20]")

    command = add("title", "give a session a title", json=False)
    command.add_argument("id", type=_text, metavar="ID", help="the session")
    command.add_argument("text", type=_any_text, metavar="TEXT", help='the title; "" removes it')

    command = add("fork", "copy a session to a new one", json=True)
    command.add_argument("id", type=_text, metavar="ID", help="the session")
    command.add_argument("new", type=_text, metavar="NEW", help="the id of the new session")
    command.add_argument(
        "--before", type=_text, metavar="TURN", help="copy only the turns before this turn"
    )

    command = add("export", "write sessions as JSON lines", _EXPORT, json=False)
    command.add_argument("ids", type=_text, nargs="*", metavar="ID", help="a session")
    _add_selection(command)
    command.add_argument(
        "-o", "--output", type=_text, metavar="FILE", help="a new file [standard output]"
    )

    command = add("import", "add the sessions of another file", _IMPORT, json=True)
    command.add_argument(
        "file", type=_text, metavar="FILE", help="the other file; - is an export on standard input"
    )

    command = add("erase", "erase sessions for good", _ERASE, json=True)
    command.add_argument("ids", type=_text, nargs="*", metavar="ID", help="a session")
    _add_selection(command)
    command.add_argument(
        "--inactive-days",
        type=_days,
        metavar="DAYS",
        help="only sessions without a change for this number of days",
    )
    command.add_argument("--yes", action="store_true", help="do not ask for confirmation")

    add("scrub", "remove the last bytes of erased content from a file", json=False)

    command = add("backup", "copy the whole file while it is in use", json=False)
    command.add_argument("file", type=_text, metavar="FILE", help="a new file")

    add("check", "check a file for damage", _CHECK, json=True)


def _add_selection(command: Any) -> None:
    command.add_argument("--prefix", type=_text, help="all sessions with this start of the id")
    command.add_argument("--all", action="store_true", help="all sessions")


def _refuse_chat_options(parser: Parser, options: argparse.Namespace) -> None:
    for name in ("session", "model", "base_url"):
        if getattr(options, name) is not None:
            parser.error(f"--{name.replace('_', '-')} is an option of the chat, without a command")


def _check_selection(parser: Parser, options: argparse.Namespace) -> None:
    """Refuse more than one of ids, --prefix and --all; `erase` needs one of them."""
    if options.command not in ("export", "erase"):
        return

    given = sum((bool(options.ids), options.prefix is not None, options.all))
    if given > 1 or (given == 0 and options.command == "erase"):
        parser.error(f"{options.command} needs one of ID, --prefix and --all")


def _text(value: str) -> str:
    try:
        check_text("it", value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return value


def _any_text(value: str) -> str:
    return value and _text(value)


def _count(value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        msg = "it must be a whole number above 0"
        raise argparse.ArgumentTypeError(msg)
    return int(value)


def _days(value: str) -> float:
    try:
        days = float(value)
    except ValueError:
        days = -1.0
    if not 0 <= days <= 36500:  # noqa: PLR2004 - a century, within the dates of Python
        msg = "it must be a number of days from 0 to 36500"
        raise argparse.ArgumentTypeError(msg)
    return days
