"""Private names of the Postgres store that tests use: the only tests' way to them."""

from __future__ import annotations

from tower_memory._stores.clock import Patience
from tower_memory._stores.postgres import faults
from tower_memory._stores.postgres.heads import Head, RecentHeads
from tower_memory._stores.postgres.link import Link
from tower_memory._stores.postgres.reading import Read
from tower_memory._stores.postgres.schema import prepare

__all__ = ["Head", "Link", "Patience", "Read", "RecentHeads", "faults", "prepare"]
