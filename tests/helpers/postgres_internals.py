"""Internals of the Postgres store: the tests' way to these private names."""

from __future__ import annotations

from tower_memory._stores.postgres import faults

__all__ = ["faults"]
