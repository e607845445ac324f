"""The command ``tower-memory``, also as ``python -m tower_memory``.

Without a subcommand it is a chat: it prints one reply per line of input, and the next run continues
the conversation. The subcommands list, show, search, change, copy, erase, move and check the
conversations of a file, or of a Postgres database. ``tower-memory --help`` names them, and
``tower-memory export --help`` explains one of them.

1. Every error is one line on standard error. The exit status is then 1, or 2 for a wrong option. It
   is 130 after Ctrl-C. It is also 1 if ``check`` finds damage, or if ``erase`` is not confirmed.
2. Only the chat and ``import`` create a missing file, or missing tables in a database.
3. On a terminal, lists are tables that fit its width. In a pipe, rows are whole. Stored text cannot
   control the terminal.

**Postgres.** ``--db postgresql://user@host/dbname`` names a database; `tower_memory.postgres`
explains the store. It needs the extra ``postgres``. Leave the password out of the URL, because
other users of the machine see the arguments of a command: libpq finds it in ``PGPASSWORD`` or
``~/.pgpass``. No output shows a password. ``--schema`` names a schema other than ``public``. The
commands ``scrub``, ``backup`` and ``check`` are for SQLite files, and say so. This copies all
conversations from a file to a database::

    tower-memory --db chat.db export -o all.jsonl
    tower-memory --db postgresql://user@host/dbname import all.jsonl

**The chat.** An answer is printed as it arrives; in a pipe, it is one line. On a terminal, Ctrl-C
stops the answer, and the part that was printed is saved. A line that begins with ``/`` is a command
of the chat: ``/help`` lists them. After an endpoint has failed, the chat goes on; in a pipe, the
exit status is 1 in the end.

**JSON lines.** With ``--json`` a command prints one JSON object a line; more keys may be added.

- ``sessions`` and ``fork``: ``session_id``, ``created_at``, ``updated_at``, ``revision``,
  ``items``, ``turns``, ``metadata`` and ``forked_from``, as `tower_memory.SessionInfo` has them.
- ``show``: for each turn ``session_id``, ``turn_id``, ``created_at``, ``metadata`` and ``items``.
- ``search``: ``session_id``, ``turn_id``, ``created_at`` and ``excerpt``.
- ``import``: ``sessions`` (new ones), ``turns`` and ``items`` (added), and ``skipped`` (turns).
- ``erase``: ``sessions``, ``turns`` and ``items``.
- ``check``: for each damage ``kind`` (``"damage"``), ``session_id``, ``row`` and ``reason``. The
  last line has ``kind`` (``"summary"``), ``sessions``, ``turns`` and ``damages``.

**The export format.** An export is UTF-8 text, and each line is one JSON object. A line ends with a
line feed; a string may contain other separators, such as U+2028.

1. The first line is the header, ``{"format": "tower-memory", "version": 1}``.
2. A session is a line with ``"kind": "session"`` and the keys ``session_id``, ``created_at``,
   ``updated_at``, ``turns`` and ``items`` (numbers), ``metadata`` (an object) and ``forked_from``
   (a session id or null). The lines of its turns follow, oldest first.
3. A turn is a line with ``"kind": "turn"`` and the keys ``session_id``, ``turn_id``,
   ``created_at``, ``metadata`` (an object) and ``items`` (an array). The items are the stored JSON,
   unchanged.
4. The last line is ``{"kind": "end", "sessions": N}``. So an export that was cut is noticed.
5. A time is ISO 8601 in UTC with microseconds, such as ``2025-01-02T03:04:05.000006Z``.
6. Sessions come in the order of their activity, the last active one at the end. Importing an export
   into a new file restores this order.
7. An export shows the sessions as they were at one moment, so all of them are consistent. (A
   database that is distributed over several servers promises this for each session only.)
   Pending turns and summaries are not exported.
8. A reader ignores keys that it does not know. A change that a reader cannot ignore gets a new
   version.

**Imports.** ``import`` reads this format, SQLite files of openai-agents (``SQLiteSession``) and of
LangChain (``SQLChatMessageHistory``), with their default tables. Each row of such a file becomes
one turn. LangChain's messages become chat messages; an assistant's reasoning is left out. A turn
that its session holds already is skipped, so a file can be imported again after it has grown. A
session that exists keeps its metadata, and gets the keys that it lacks. A new session gets a
revision of its own, and ``forked_from`` if that session is in the file of ``--db``. The imported
file is read whole before anything is written: a damaged file changes nothing. Into an SQLite file,
one transaction writes all. Into a Postgres database, a transaction writes one session, and the last
ones set ``forked_from``. So an import that is interrupted there leaves some sessions whole and the
others out, and importing the file again adds the rest.
"""

from __future__ import annotations

import sys

from tower_memory._command.main import main

if __name__ == "__main__":
    sys.exit(main())
