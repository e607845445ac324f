"""A Postgres server that runs already, on which each test gets a new database."""

from __future__ import annotations

from contextlib import contextmanager
from secrets import token_hex
from urllib.parse import quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict


@contextmanager
def new_database(conninfo):
    """Provide the URL of a new database on the server of *conninfo*, and drop it at the end."""
    name = f"tower_memory_test_{token_hex(8)}"
    parameters = {**conninfo_to_dict(conninfo), "dbname": name}
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield f"postgresql://?{urlencode(parameters, quote_via=quote)}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
