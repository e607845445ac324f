"""Fixtures of the tests of stores."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["in memory", "sqlite file", "sqlite in memory", "postgres"])
def store_kind(request):
    return request.param
