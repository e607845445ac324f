"""Sessions in Postgres. (The guide follows.)"""

from __future__ import annotations

from tower_memory._stores.postgres.store import PostgresSessionStore

__all__ = ["PostgresSessionStore"]
