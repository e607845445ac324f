"""The ids of parametrized tests, which must be equal in all processes that collect the tests."""

from __future__ import annotations

import re


def without_addresses(value):
    """Return the text of *value* without addresses, which differ in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
