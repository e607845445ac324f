"""The ids of parametrized tests, which are equal in all processes that collect them."""

from __future__ import annotations

import re


def without_addresses(value):
    """Return the text of *value* without addresses, which differ in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
